"""Logs of Inspect: ours opened by ``inspect_ai``, theirs (and ours) scored by us."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from export_runs import PROTOCOLS, make_run, stored, task_file, verdicts

from cipo_eval.export.formats import export
from cipo_eval.export.source import unicode_text
from cipo_eval.records import AttemptKey

inspect_ai = pytest.importorskip("inspect_ai")
WORDS = ("--mode", "both", "--verifier-workers", "1", "--bootstrap", "100")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("inspect"))


@pytest.fixture(scope="module")
def logs(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("logs") / "out"
    export(run, "inspect", folder)
    return folder


def log_of(logs: Path, protocol: str) -> Path:
    (path,) = logs.glob(f"*_sums-{protocol}_*.eval")
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read_eval_log_has_every_turn(run: Path, logs: Path, protocol: str) -> None:
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(log_of(logs, protocol)), resolve_attachments=True)
    assert log.status == "success"
    assert log.results is not None
    assert log.eval.config.epochs == 3
    assert log.samples is not None
    assert len(log.samples) == 18
    attempts = {a.key: a for a in stored(run)}
    for sample in log.samples:
        texts = [m.text for m in sample.messages if m.role == "assistant"]
        judged = []
        for turn, text in enumerate(texts, start=1):
            name = "direct" if turn == 1 and protocol not in ("given", "critique", "prefill") else protocol
            attempt = attempts.pop(AttemptKey("sums", str(sample.id), name, sample.epoch - 1, turn), None)
            assert attempt is not None
            assert text == unicode_text(attempt.text)
            if not (protocol == "critique" and turn == 2):
                judged.append(attempt.verdicts["fixed"].correct)
        assert sample.scores is not None
        assert (sample.scores["final"].value == "C") is judged[-1]
        if protocol != "direct":
            turns = [sample.scores[f"turn_{i}"].value == "C" for i in range(1, len(judged) + 1)]
            assert turns == judged
    left = {key for key in attempts if key.protocol == protocol}
    assert not left


def test_metrics_are_our_figures(run: Path, logs: Path) -> None:
    from inspect_ai.analysis import evals_df

    ours = json.loads((run / "results.json").read_text())["tasks"]["sums"]
    frame = evals_df(str(logs)).set_index("task_name")
    assert len(frame) == len(PROTOCOLS)
    first = frame[[name.endswith("sums") for name in frame.index]].iloc[0]
    assert first["score_final_accuracy"] == ours["fixed"]["metrics"]["pass@1"]["value"]
    revised = frame[[name.endswith("sums_self") for name in frame.index]].iloc[0]
    by_turn = ours["protocols"]["self"]["fixed"]["by_turn"]
    assert revised["score_final_accuracy"] == by_turn["acc@t2"]["value"]
    assert revised["score_turn_1_accuracy"] == pytest.approx(by_turn["acc@t1"]["value"])


@pytest.mark.parametrize("protocol", ["direct", "self", "given", "prefill"])
def test_a_viewer_shows_what_is_known_and_nothing_else(run: Path, logs: Path, protocol: str) -> None:
    """Each entry of a message's or a score's metadata is a line of ``inspect view``, also an empty one; tokens of the
    list of logs are those of the log's statistics."""
    from inspect_ai.log import read_eval_log

    log = read_eval_log(str(log_of(logs, protocol)))
    of_messages = [message.metadata or {} for sample in log.samples for message in sample.messages]
    of_scores = [score.metadata for sample in log.samples for score in sample.scores.values()]
    assert not any(value in (None, {}) for told in (*of_messages, *of_scores) for value in told.values())
    given = [m.source == "input" for s in log.samples for m in s.messages if m.role == "assistant"]
    told = [
        "written_by" in (m.metadata or {}) for s in log.samples for m in s.messages if m.role == "assistant"
    ]
    assert told == given
    assert any(given) is (protocol in ("given", "prefill"))
    begun = [a.prefix for a in stored(run) if a.protocol == protocol and a.prefix]
    assert sorted(told["prefix"] for told in of_messages if "prefix" in told) == sorted(begun)
    for sample in log.samples if protocol == "prefill" else ():
        (call,), (question, *_) = sample.events, sample.messages
        assert [message.role for message in call.input] == ["user", "assistant"]
        assert call.input[0].text == question.text
        assert call.input[1].text == sample.output.completion[: sample.messages[-1].metadata["prefix"]]
    spent = [sample.model_usage.get("m") for sample in log.samples]
    if None in spent:
        assert not log.stats.model_usage
    else:
        assert log.stats.model_usage["m"].total_tokens == sum(usage.total_tokens for usage in spent)


def test_frames_of_samples_and_messages(logs: Path) -> None:
    from inspect_ai.analysis import messages_df, samples_df

    frame = samples_df(str(logs), quiet=True)
    assert len(frame) == 18 * len(PROTOCOLS)
    assert set(frame["score_final"]) <= {"C", "I", "N"}
    assert {f"metadata_{name}" for name in ("problem_id", "level", "question")} <= set(frame)
    assert set(messages_df(str(logs), quiet=True)["role"]) >= {"user", "assistant"}


def test_a_log_of_ours_has_the_verdicts_of_the_run(
    cipo: Commands, run: Path, logs: Path, tmp_path: Path
) -> None:
    task = task_file(tmp_path)
    outcome = cipo("score", log_of(logs, "direct"), "--task", task, *WORDS, "-o", tmp_path / "direct")
    assert outcome.code == 0, outcome.err
    assert verdicts(tmp_path / "direct", "direct", 1) == verdicts(run, "direct", 1)
    for protocol, turn in (("self", 2), ("oracle", 2), ("given", 2), ("critique", 3)):
        log, back = log_of(logs, protocol), tmp_path / protocol
        flags = ("--protocol", "given", "--attempts-from", log)
        outcome = cipo("score", log, "--task", task, *WORDS, *flags, "-o", back)
        assert outcome.code == 0, outcome.err
        assert verdicts(back, "given", 2) == verdicts(run, protocol, turn)


def test_a_log_that_inspect_made_itself(cipo: Commands, tmp_path: Path) -> None:
    """One answer and its correction in Inspect's own task loop, of a model that says what it is told to."""
    from inspect_ai import Task
    from inspect_ai import eval as inspect_eval
    from inspect_ai.dataset import Sample
    from inspect_ai.model import ModelOutput, ModelUsage, get_model
    from inspect_ai.scorer import match
    from inspect_ai.solver import Generate, TaskState, generate, solver, user_message

    @solver
    def once_more() -> Any:
        async def solve(state: TaskState, generate: Generate) -> TaskState:
            return await generate(state)

        return solve

    samples = [Sample(id=i, input=f"What is {i} + 10?", target=str(i + 10)) for i in range(6)]
    said = [text for i in range(6) for text in (f"\\boxed{{{i}}}", f"Sorry: \\boxed{{{i + 10 * (i % 2)}}}")]
    outputs = [ModelOutput.from_content("mockllm/model", text) for text in said]
    for output in outputs:
        output.usage = ModelUsage(input_tokens=1, output_tokens=1)  # counting them takes a download
    model = get_model("mockllm/model", custom_outputs=outputs)
    chain = [generate(), user_message("Look again."), once_more()]
    task = Task(dataset=samples, solver=chain, scorer=match(), name="sums")
    (log,) = inspect_eval(task, model=model, log_dir=str(tmp_path / "logs"), display="none", max_samples=1)
    assert log.status == "success"
    definition = task_file(tmp_path)
    outcome = cipo("score", log.location, "--task", definition, *WORDS, "-o", tmp_path / "first")
    assert outcome.code == 0, outcome.err
    first = {a.problem: a for a in stored(tmp_path / "first")}
    assert {p: a.text for p, a in first.items()} == {f"p{i}": f"\\boxed{{{i}}}" for i in range(6)}
    flags = ("--protocol", "given", "--attempts-from", log.location)
    outcome = cipo("score", log.location, "--task", definition, *WORDS, *flags, "-o", tmp_path / "second")
    assert outcome.code == 0, outcome.err
    second = {a.problem: a for a in stored(tmp_path / "second") if a.turn == 2}
    assert {p: a.verdicts["fixed"].correct for p, a in second.items()} == {
        f"p{i}": i % 2 == 1 for i in range(6)
    }
    assert {a.finish_reason for a in second.values()} == {"stop"}


def test_real_answers_make_the_round_trip(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    path = real_data / "model_outputs" / "small_models" / "Qwen2.5-1.5B-Instruct__AMC23.jsonl.gz"
    words = ("--task", "amc23", "--data-dir", real_data, "--limit", "8", "--bootstrap", "100")
    assert cipo("score", path, *words, "-o", tmp_path / "run").code == 0
    export(tmp_path / "run", "inspect", tmp_path / "out", data_dir=real_data)
    (log,) = (tmp_path / "out").glob("*.eval")
    assert cipo("score", log, *words, "-o", tmp_path / "back").code == 0
    again = verdicts(tmp_path / "back", "direct", 1, "amc23")
    assert again == verdicts(tmp_path / "run", "direct", 1, "amc23")
    assert sum(map(len, again.values())) == 80
