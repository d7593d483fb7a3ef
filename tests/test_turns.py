"""Runs with several turns: the first one shared, each chain once, the same whatever happened on the way."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns

from cipo_eval.data.tasks import task_dir
from cipo_eval.records import fingerprint

SHORT = ("--limit", "8", "--max-tokens", "8", "--quiet", "--temperature", "1", "--batch-tokens", "200")
PROTOCOLS = ("--protocol", "direct,self,oracle,feedback", "--turns", "3")


class EvenVerifier:
    """Right is a text of an even length: about every second one of a random model is."""

    name = "even"

    def extract(self, _problem: Any, text: str, *_: Any) -> Any:
        from cipo_eval.records import Extraction

        return Extraction(answer=text)

    def grade(self, _gold: str, answer: str, *_: Any) -> Any:
        from cipo_eval.records import Grade

        return Grade(correct=len(answer) % 2 == 0, canonical=str(len(answer)))

    def seconds(self, *_: Any) -> float | None:
        return None


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The arithmetic task, judged otherwise."""
    folder = tmp_path_factory.mktemp("even")
    for name in ("_cipo_math.yaml", "_cipo_base.yaml", "cipo_tasks.py", "arithmetic.jsonl"):
        if (task_dir() / name).exists():
            shutil.copy(task_dir() / name, folder)
    text = (task_dir() / "cipo_arithmetic.yaml").read_text()
    text = text.replace("name: arithmetic", "name: even\n    verifier: test_turns:EvenVerifier")
    (folder / "even.yaml").write_text(text)
    return folder / "even.yaml"


def rows(run: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    return turns(run, "even")


def right(row: dict[str, Any]) -> bool:
    return bool(row["verdicts"]["fixed"]["correct"])


def protocols(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())["tasks"]["even"]["protocols"]
    return found


@pytest.fixture(scope="module")
def whole(task: Path, tiny_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of all protocols."""
    from cipo_eval.cli import main

    run = tmp_path_factory.mktemp("whole") / "run"
    command = [
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        task,
        *SHORT,
        *PROTOCOLS,
        "--samples",
        "3",
        "-o",
        run,
    ]
    with pytest.raises(SystemExit) as stopped:
        main(list(map(str, command)))
    assert not stopped.value.code
    return run


def environment() -> dict[str, str]:
    import os

    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]),
    }


@pytest.mark.slow
def test_every_chain_is_there_and_none_that_should_not_be(whole: Path) -> None:
    found = rows(whole)
    first = {key: row for key, row in found.items() if key[3] == 1}
    assert len(first) == 24
    assert {key[1] for key in first} == {"direct"}
    assert 4 < sum(map(right, first.values())) < 20
    for (problem, _, sample, _), row in first.items():
        later = {
            p: [found.get((problem, p, sample, t)) for t in (2, 3)] for p in ("self", "oracle", "feedback")
        }
        assert all(later["self"])
        for protocol in ("oracle", "feedback"):
            second, third = later[protocol]
            assert (second is not None) is not right(row)
            assert (third is not None) is (second is not None and not right(second))
    for (problem, protocol, sample, turn), row in found.items():
        before = "direct" if turn == 2 else protocol
        assert row["parent"] == (None if turn == 1 else f"even|{problem}|{before}|{sample}|{turn - 1}")
    seeds = Counter(row["seed"] for row in found.values())
    assert max(seeds.values()) == 1


@pytest.mark.slow
def test_prompts_are_those_of_the_protocol(whole: Path, task: Path, tiny_checkpoint: Path) -> None:
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.engines.chat import render
    from cipo_eval.engines.checkpoint import Checkpoint
    from cipo_eval.records import Turn, Verdict
    from cipo_eval.turns import protocols, revising

    tokenizer = Checkpoint(str(tiny_checkpoint)).tokenizer
    problems = {p.id: p for p in load_problems(str(task)).problems}
    found = rows(whole)
    for (problem, protocol, sample, turn), row in found.items():
        if turn == 3:
            keys = [(problem, "direct", sample, 1), (problem, protocol, sample, 2)]
            verdicts = [{**found[key]["verdicts"]["fixed"], "seconds": 0.0} for key in keys]
            history = [
                Turn(found[key]["text"], {"fixed": Verdict.from_json(v)})
                for key, v in zip(keys, verdicts, strict=True)
            ]
            first = ({"role": "user", "content": problems[problem].prompt},)
            messages, _ = revising.Revising(turns=3).messages(protocols.PROTOCOLS[protocol], first, history)
            assert row["prompt_hash"] == fingerprint(render(tokenizer, messages)[0])


@pytest.mark.slow
def test_protocols_one_after_another_equal_all_at_once(
    cipo: Commands,
    whole: Path,
    task: Path,
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first turn is generated once; more turns and samples only add."""
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    run = tmp_path / "run"
    command = ("run", "--model", tiny_checkpoint, "--tasks", task, *SHORT, "-o", run)
    assert cipo(*command, "--samples", "2").code == 0
    assert cipo(*command, "--samples", "2", "--protocol", "oracle").code == 0
    before = rows(run)
    assert cipo(*command, "--samples", "3", *PROTOCOLS).code == 0
    assert before.items() <= rows(run).items()
    assert rows(run) == rows(whole)
    assert protocols(run) == protocols(whole)


def test_a_dry_run_says_what_turns_may_cost(
    cipo: Commands, task: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    command = (
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        task,
        *SHORT,
        *PROTOCOLS,
        "--samples",
        "3",
        "--dry-run",
    )
    (row,) = cipo(*command, "--json", "-o", tmp_path / "run").json["tasks"]
    assert (row["attempts_to_generate"], row["most_attempts_of_later_turns"]) == (24, 24 * 3 * 2)


@pytest.mark.slow
def test_other_prompts_make_another_run(
    cipo: Commands, whole: Path, task: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "oracle.txt").write_text("No.")
    command = ("run", "--model", tiny_checkpoint, "--tasks", task, *SHORT, "--samples", "3", "-o", run)
    for other in (("--prompt-dir", tmp_path / "prompts"), ("--turn-format", "inline"), ("--carry-think",)):
        found = cipo(*command, *PROTOCOLS, *other)
        assert found.code == 2
        assert "even.protocols.oracle" in found.err
    assert (
        cipo(*command, "--protocol", "self", "--turns", "3", "--prompt-dir", tmp_path / "prompts").code == 0
    )


@pytest.mark.slow
def test_rescoring_and_replaying_equal_scoring(
    cipo: Commands, whole: Path, task: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    assert cipo("rescore", run, "--quiet").code == 0
    assert rows(run) == rows(whole)
    assert protocols(run) == protocols(whole)
    again = tmp_path / "again"
    command = (
        "run",
        "--engine",
        "replay",
        "--model",
        whole,
        "--tasks",
        task,
        *SHORT[:2],
        "--samples",
        "3",
        "--quiet",
    )
    assert cipo(*command, *PROTOCOLS, "-o", again).code == 0
    assert {key: (row["text"], row["verdicts"]) for key, row in rows(again).items()} == {
        key: (row["text"], row["verdicts"]) for key, row in rows(whole).items()
    }
    assert protocols(again) == protocols(whole)


@pytest.mark.slow
def test_figures_agree_with_the_attempts(whole: Path) -> None:
    found, figures = rows(whole), protocols(whole)
    for protocol in ("self", "oracle", "feedback"):
        block = figures[protocol]["fixed"]
        assert block["chains"] == 24
        assert block["missing"] == 0
        assert sum(block["states"][0].values()) == 24
        second = [row for key, row in found.items() if key[1] == protocol and key[3] == 2]
        assert sum(block["states"][1].values()) == len(second)
