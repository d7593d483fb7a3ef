"""``export``: what needs no other package, and what becomes of the folder. Others' readers: ``neighbours``."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from export_runs import PROTOCOLS, make_run, stored, task_file, verdicts

from cipo_eval.analysis.selection import selected_attempts
from cipo_eval.errors import UsageError
from cipo_eval.export.eval_records import model_id
from cipo_eval.export.formats import MARK, export
from cipo_eval.export.source import Source, unicode_text

pytestmark = pytest.mark.xdist_group("export")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("export"))


def test_an_export_takes_the_place_of_an_export_and_of_nothing_else(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "out"
    export(run, "lm-eval", target)
    before = sorted(p.name for p in target.rglob("*"))
    (target / "stale").touch()
    export(run, "lm-eval", target)
    assert sorted(p.name for p in target.rglob("*")) == before
    (target / MARK).unlink()
    with pytest.raises(UsageError, match="no earlier export"):
        export(run, "lm-eval", target)
    with pytest.raises(UsageError, match="no earlier export"):
        export(run, "eee", run)
    assert (run / "run.json").exists()


def test_a_format_that_fails_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cipo_eval.export.lm_eval.write_json", full)
    with pytest.raises(Exception, match="is full"):
        export(run, "lm-eval", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_unknown_formats_and_unfinished_runs_are_refused(cipo: Commands, run: Path, tmp_path: Path) -> None:
    outcome = cipo("export", run, "--to", "inspekt", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "did you mean inspect?" in outcome.err
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "run.json").write_bytes((run / "run.json").read_bytes())
    outcome = cipo("export", tmp_path / "half", "--to", "eee", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert "no results.json" in outcome.err


def test_conversations_have_the_prompts_that_the_model_saw(run: Path) -> None:
    """The run keeps fingerprints of its prompts: what is made again here has the same."""
    from cipo_eval.records import fingerprint

    (task,) = Source(run).tasks
    assert [p.name for p in task.protocols] == list(PROTOCOLS)
    turns: Counter[str] = Counter()
    for protocol in task.protocols:
        for conversation in task.conversations(protocol):
            messages: list[dict[str, str]] = []
            for asked, attempt in zip(conversation.asked, conversation.chain, strict=True):
                messages += asked
                generated = protocol.own or attempt.turn > 1
                if generated and not protocol.continues and "<think>" not in str(messages):
                    plain = [{**m, "content": m["content"].strip()} for m in messages]
                    made = {fingerprint([dict(m) for m in of]) for of in (messages, plain)}
                    turns[protocol.name] += attempt.prompt_hash in made
                    assert attempt.turn > 1 or attempt.prompt_hash in made
                messages.append({"role": "assistant", "content": attempt.text.strip()})
    assert all(turns[protocol.name] for protocol in task.protocols if not protocol.continues)


def test_without_the_data_statements_stand_for_prompts(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_eval.export import source as module

    def missing(*_: Any) -> None:
        raise UsageError("not here")

    monkeypatch.setattr(module, "stored_plan", missing)
    source = Source(run)
    protocol = source.tasks[0].protocols[1]
    conversation = next(iter(source.tasks[0].conversations(protocol)))
    assert [m["content"] for asked in conversation.asked for m in asked] == [
        "What is 0 + 10?",
        f"[{protocol.summary}]",
    ]
    assert len(source.warnings) == 1
    assert "not here" in source.warnings[0]


def test_lm_eval_samples_are_scored_as_the_run_was(cipo: Commands, run: Path, tmp_path: Path) -> None:
    export(run, "lm-eval", tmp_path / "out")
    task = task_file(tmp_path)
    for protocol, turn in (("direct", 1), ("self", 2), ("given", 2), ("critique", 3)):
        name = "sums" if protocol == "direct" else f"sums_{protocol}"
        (samples,) = (tmp_path / "out").glob(f"m/samples_{name}_2*.jsonl")
        flags = () if protocol == "direct" else ("--protocol", "given", "--attempts-from", samples)
        back = tmp_path / f"back-{protocol}"
        words = ("--task", task, "--mode", "both", "--verifier-workers", "1", "--bootstrap", "100")
        outcome = cipo("score", samples, *words, *flags, "-o", back)
        assert outcome.code == 0, outcome.err
        again = verdicts(back, *(("direct", 1) if protocol == "direct" else ("given", 2)))
        assert again == verdicts(run, protocol, turn)


def test_lm_eval_results_hold_our_figures(run: Path, tmp_path: Path) -> None:
    export(run, "lm-eval", tmp_path / "out")
    (path,) = (tmp_path / "out").glob("m/results_*.json")
    found = json.loads(path.read_text())
    ours = json.loads((run / "results.json").read_text())["tasks"]["sums"]
    value = ours["fixed"]["metrics"]["pass@1"]["value"]
    assert found["results"]["sums"]["pass@1,none"] == value
    rows = [json.loads(line) for line in next(path.parent.glob("samples_sums_2*.jsonl")).open()]
    assert sum(row["pass@1"] for row in rows) / len(rows) == pytest.approx(value)
    assert [row["doc_id"] for row in rows] == list(range(6))
    assert found["n-samples"]["sums"] == {"original": 6, "effective": 6}


def test_records_link_samples_and_results(run: Path, tmp_path: Path) -> None:
    """By id; and what a result says is the mean of the lines that refer to it, where all problems have as many."""
    export(run, "eee", tmp_path / "out")
    (path,) = (p for p in (tmp_path / "out" / "data").rglob("*.json"))
    record = json.loads(path.read_text())
    detail = record["detailed_evaluation_results"]
    lines = (tmp_path / "out" / detail["file_path"]).read_text().splitlines()
    assert len(lines) == detail["total_rows"] == len(PROTOCOLS) * 6 * 3
    scores: dict[str, list[float]] = {}
    for row in map(json.loads, lines):
        assert row["evaluation_id"] == record["evaluation_id"]
        assert row["model_id"] == record["model_info"]["id"] == "local/m"
        scores.setdefault(row["evaluation_result_id"], []).append(row["evaluation"]["score"])
    results = {r["evaluation_result_id"]: r["score_details"]["score"] for r in record["evaluation_results"]}
    assert len(results) == len(record["evaluation_results"])
    assert len(scores) == len(PROTOCOLS)
    for name, values in scores.items():
        assert results[name] == pytest.approx(sum(values) / len(values))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/data/models/x y", "local/x_y"),
        ("../..", "local/_"),
        ("../a", "local/a"),
        ("gpt-5", "local/gpt-5"),
        ("a/b/c", "local/c"),
        ("", "local/_"),
    ],
)
def test_models_are_named_by_their_publisher(model: str, expected: str) -> None:
    assert model_id(model) == expected


def test_hub_results_are_read_by_the_hubs_library(
    cipo: Commands, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml
    from huggingface_hub import parse_eval_result_entries

    assert cipo("export", run, "--to", "hf", "-o", tmp_path / "out").code == 2
    source = Source(run)
    source.info["tasks"]["sums"]["source"] = {"repo": "someone/sums", "revision": "0" * 40}
    monkeypatch.setattr("cipo_eval.export.formats.Source", lambda *_: source)
    export(run, "hf", tmp_path / "out")
    text = (tmp_path / "out" / ".eval_results" / "sums.yaml").read_text()
    entries = parse_eval_result_entries(yaml.safe_load(text))
    ours = json.loads((run / "results.json").read_text())["tasks"]["sums"]
    assert entries[0].value == round(100 * ours["fixed"]["metrics"]["pass@1"]["value"], 2)
    assert {(e.dataset_id, e.dataset_revision) for e in entries} == {("someone/sums", "0" * 40)}
    assert [e.notes.split(", ")[1] for e in entries[1:]] == [
        f"after 2 turns of protocol {name}" for name in PROTOCOLS[1:]
    ]


def test_parquet_is_the_run(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr("cipo_eval.export.parquet.GROUP", 7)
    export(run, "parquet", tmp_path / "out")
    table = pq.read_table(tmp_path / "out" / "data" / "sums.parquet")
    assert pq.ParquetFile(tmp_path / "out" / "data" / "sums.parquet").num_row_groups > 5
    attempts = list(selected_attempts(run, "sums").attempts.in_order())
    assert table.num_rows == len(attempts) == len(stored(run))
    for row, attempt in zip(table.to_pylist(), attempts, strict=True):
        assert row["text"] == unicode_text(attempt.text)
        for name in ("problem", "protocol", "sample", "turn", "seed", "finish_reason", "prompt_tokens"):
            assert row[name] == getattr(attempt, name)
        for mode, verdict in attempt.verdicts.items():
            assert row[f"{mode}_correct"] is verdict.correct
            assert row[f"{mode}_state"] == verdict.state.value
            assert json.loads(row[f"{mode}_report"]) == dict(verdict.report)


# --- logs of Inspect, read without it -----------------------------------------------------------------------------


def eval_log(path: Path, samples: list[dict[str, Any]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("header.json", "{}")
        for number, sample in enumerate(samples):
            archive.writestr(f"samples/{number}_epoch_1.json", json.dumps(sample))
    return path


def said(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def test_a_log_with_tools_examples_reasoning_and_attachments(cipo: Commands, tmp_path: Path) -> None:
    task = task_file(tmp_path)
    example = [said("user", "What is 1 + 1?"), said("assistant", "\\boxed{2}")]
    question = said("user", "What is 0 + 10?")
    calling = said("assistant", "let me see", tool_calls=[{"id": "1", "function": "f", "arguments": {}}])
    thought = [{"type": "reasoning", "reasoning": "\\boxed{3}"}, {"type": "text", "text": "\\boxed{10}"}]
    first = {
        "id": "p0",
        "epoch": 1,
        "input": [*example, question],
        "target": "10",
        "messages": [*example, question, calling, said("tool", "10"), said("assistant", thought)],
        "output": {"choices": [{"stop_reason": "stop"}]},
    }
    second = {
        "id": "p1",
        "epoch": 1,
        "input": "What is 1 + 10?",
        "target": ["11"],
        "messages": [said("user", "What is 1 + 10?"), said("assistant", "attachment://abc")],
        "attachments": {"abc": "\\boxed{12}"},
        "output": {"choices": [{"stop_reason": "max_tokens"}]},
    }
    log = eval_log(tmp_path / "log.eval", [first, second])
    outcome = cipo("score", log, "--task", task, "--bootstrap", "100", "-o", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    found = {(a.problem, a.text, a.finish_reason) for a in stored(tmp_path / "run")}
    assert found == {("p0", "\\boxed{10}", "stop"), ("p1", "\\boxed{12}", "length")}


@pytest.mark.parametrize(
    ("sample", "why"),
    [
        ([], "it has no messages"),
        ({"messages": 3}, "it has no messages"),
        ({"id": "p0", "messages": [], "input": {}, "target": 4}, "holds no attempts"),
        ({"id": {"a": 1}, "input": "What?", "messages": [3, said("assistant", 5)]}, "match no problem"),
    ],
)
def test_damaged_logs_are_named(cipo: Commands, tmp_path: Path, sample: Any, why: str) -> None:
    log = eval_log(tmp_path / "log.eval", [sample])
    outcome = cipo("score", log, "--task", task_file(tmp_path))
    assert outcome.code == 2, outcome.err
    assert why in " ".join(outcome.err.split())


def test_what_is_no_log_is_named(cipo: Commands, tmp_path: Path) -> None:
    (tmp_path / "log.eval").write_bytes(b"PK\x03\x04 no archive")
    outcome = cipo("score", tmp_path / "log.eval", "--task", task_file(tmp_path))
    assert outcome.code == 2
    assert "no log of Inspect" in outcome.err
    with zipfile.ZipFile(tmp_path / "log.eval", "w") as archive:
        archive.writestr("other", "x")
    assert "holds no samples" in cipo("score", tmp_path / "log.eval", "--task", task_file(tmp_path)).err
