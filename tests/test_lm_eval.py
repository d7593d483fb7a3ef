"""The same tasks under lm-evaluation-harness: same prompts, same greedy outputs, same verdict on every item."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, attempts
from parts import Part, part

from cipo_eval.data.tasks import load_problems, load_spec
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.records import Request, Sampling

ROOT = Path(__file__).resolve().parent.parent
MATH = ("math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench")


def evaluate(
    model: Any, task: str, *, metadata: dict[str, Any] | None = None, **arguments: Any
) -> dict[str, dict[str, Any]]:
    """lm-eval's samples of one of our tasks, by problem id, as ``lm_eval --include_path tasks`` makes them."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False, metadata=metadata)
    name = load_spec(task).lm_eval_name
    found = lm_eval.simple_evaluate(
        model, tasks=[name], task_manager=manager, log_samples=True, bootstrap_iters=0, **arguments
    )
    return {sample["doc"]["id"]: sample for sample in found["samples"][name]}


class Recorded:
    """Makes an lm-eval model that answers each question with a recorded text."""

    def __new__(cls, answers: Mapping[str, str]) -> Any:
        from lm_eval.api.model import LM

        class RecordedLM(LM):  # type: ignore[misc]
            def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:  # noqa: ARG002
                return [answers[request.doc["id"]] for request in requests]

            def loglikelihood(self, requests: list[Any]) -> list[Any]:
                raise AssertionError(requests)

            loglikelihood_rolling = loglikelihood

        return RecordedLM()


@pytest.mark.slow
@pytest.mark.parametrize("chat", [False, True])
def test_greedy_outputs_and_verdicts_are_the_same(cipo: Commands, tmp_path: Path, chat: bool) -> None:
    """A tiny model of the real engines of both harnesses, with and without a chat template."""
    from tiny import make_checkpoint

    model = make_checkpoint(tmp_path / "model", chat=chat)
    run = tmp_path / "run"
    flags = ("--tasks", "arithmetic", "--limit", "12", "--temperature", "0", "--max-tokens", "16", "--quiet")
    assert cipo("run", "--model", model, *flags, "-o", run).code == 0
    ours = attempts(run, "arithmetic")
    theirs = evaluate(
        "hf",
        "arithmetic",
        model_args={"pretrained": str(model), "device": "cpu", "dtype": "float32"},
        limit=12,
        apply_chat_template=chat,
        gen_kwargs={"max_gen_toks": 16},
    )
    assert len(theirs) == 12
    for problem, sample in theirs.items():
        assert sample["resps"][0][0] == ours[problem, 0]["text"]
        assert bool(sample["acc"]) == ours[problem, 0]["verdicts"]["fixed"]["correct"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "name", "mode"),
    [
        ("amc23", "amc23", "paper"),
        ("minerva", "minerva_math", "fixed"),
        *(
            pytest.param(*chosen, marks=pytest.mark.exhaustive)
            for chosen in (
                ("amc23", "amc23", "fixed"),
                ("minerva", "minerva_math", "paper"),
                ("math500", "math500", "fixed"),
                ("math500", "math500", "paper"),
            )
        ),
    ],
)
def test_real_outputs_get_the_same_verdicts(
    cipo: Commands, real_data: Path, tmp_path: Path, task: str, name: str, mode: str
) -> None:
    """Outputs of a real model with right and wrong answers of every form, judged by both harnesses."""
    path = real_data / "model_outputs" / "math" / f"Qwen2.5-14B-Instruct__{name}.jsonl.gz"
    run = tmp_path / "run"
    # Enough for all forms of answers; some of Minerva's keep SymPy busy for minutes, in either harness.
    limit = {"minerva": 40, "math500": 200}.get(task)
    flags = ("--mode", mode, "--data-dir", real_data, "--quiet", "--verifier-timeout", "240")
    flags += ("--limit", str(limit)) if limit else ()
    outcome = cipo("score", path, "--task", task, *flags, "-o", run)
    assert outcome.code == 0, outcome.err
    ours = {problem: row["verdicts"][mode]["correct"] for (problem, _), row in attempts(run, task).items()}
    problems = load_problems(task, data_dir=real_data).problems
    sampling = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=1)
    requests = [
        Request(problem=p, messages=(), samples=(0,), seeds=(0,), sampling=sampling) for p in problems[:limit]
    ]
    texts = {r.problem.id: c.text for r, _sample, c in ReplayEngine(path, problems).generate(requests)}
    metadata = {"mode": mode, "data_dir": str(real_data)}
    theirs = evaluate(Recorded(texts), task, metadata=metadata, limit=limit)
    assert {problem: bool(sample["acc"]) for problem, sample in theirs.items()} == ours
    assert 0 < sum(ours.values()) < len(ours)


CODE = {
    "humaneval": "code/Qwen2.5-Coder-1.5b-base__humaneval",
    "mbpp": "code/Meta-Llama-3-8B-Instruct__mbpp",
    "livecodebench": "livecodebench/o1-mini__lcb_v5",
    "debugbench": "debugbench/gpt-4_debug_python3",
}


@pytest.fixture
def _new_workers() -> Iterator[None]:
    """Verifier processes have the environment that their fork server was started with: another test's cache."""
    from multiprocessing import forkserver

    from cipo_eval.verifiers import pool

    def stop() -> None:
        if pool._shared is not None:
            pool._shared.close()
            pool._shared = None
        forkserver._forkserver._stop()  # type: ignore[attr-defined]

    stop()
    yield
    stop()


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache", "_new_workers")
@part(8)
@pytest.mark.parametrize("task", CODE)
def test_real_programs_get_the_same_verdicts(
    cipo: Commands, real_data: Path, tmp_path: Path, task: str, part: Part
) -> None:
    """The first programs that a real model wrote, run in the same sandbox from both harnesses."""
    path, run = real_data / "model_outputs" / f"{CODE[task]}.jsonl.gz", tmp_path / "run"
    limit = 20 // part.one_in
    flags = ("--allow-unmatched", "--samples", "1", "--limit", str(limit), "--quiet")
    outcome = cipo("score", path, "--task", task, "--data-dir", real_data, "-o", run, *flags)
    assert outcome.code == 0, outcome.err
    ours = {problem: row["verdicts"]["fixed"] for (problem, _), row in attempts(run, task).items()}
    texts = {problem: row["text"] for (problem, _), row in attempts(run, task).items()}
    metadata = {"data_dir": str(real_data)}
    theirs = evaluate(Recorded(texts), task, metadata=metadata, limit=limit, confirm_run_unsafe_code=True)
    assert {name: bool(sample["acc"]) for name, sample in theirs.items()} == {
        name: verdict["correct"] for name, verdict in ours.items()
    }
    assert any(verdict["correct"] for verdict in ours.values())
    for name, verdict in ours.items():
        assert {part: bool(theirs[name][part]) for part in verdict["parts"]} == verdict["parts"]


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
def test_programs_run_only_where_the_user_says_so(real_data: Path) -> None:
    with pytest.raises(ValueError, match="confirm_run_unsafe_code"):
        evaluate(Recorded({}), "humaneval", limit=1, metadata={"data_dir": str(real_data)})


@pytest.mark.parametrize(
    "task",  # test_tasks has the prompts of every task as lm-eval renders them
    [
        "amc23",
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in (*MATH, *CODE) if name != "amc23"),
    ],
)
@pytest.mark.usefixtures("code_cache")
def test_prompts_are_the_same(real_data: Path, task: str) -> None:
    problems = {p.id: p for p in load_problems(task, data_dir=real_data).problems}
    samples = evaluate(
        Recorded(dict.fromkeys(problems, "")),
        task,
        limit=5,
        metadata={"data_dir": str(real_data)},
        confirm_run_unsafe_code=True,
    )
    assert len(samples) == 5
    for problem, sample in samples.items():
        assert sample["arguments"][0][0] == problems[problem].prompt


BARE = """
import functools, runpy, lm_eval.tasks
manager = lm_eval.tasks.TaskManager
manager.__init__ = functools.partialmethod(manager.__init__, include_defaults=False)
runpy.run_module("lm_eval", run_name="__main__")
"""
"""lm-eval without its own tasks, which it reads before it runs one of ours: that takes half a minute."""


@pytest.mark.slow
@pytest.mark.parametrize(
    "start",
    [("-c", BARE), pytest.param(("-m", "lm_eval"), marks=pytest.mark.exhaustive)],
    ids=["bare", "whole"],
)
def test_the_command_line_of_lm_eval_runs_our_tasks(
    tiny_checkpoint: Path, tmp_path: Path, start: tuple[str, ...]
) -> None:
    import subprocess
    import sys

    command = [
        sys.executable,
        *start,
        "run",
        "--include_path",
        str(ROOT / "tasks"),
        "--tasks",
        "cipo_arithmetic",
    ]
    command += [
        "--model",
        "hf",
        "--model_args",
        f"pretrained={tiny_checkpoint}",
        "--device",
        "cpu",
        "--limit",
        "2",
    ]
    command += ["--gen_kwargs", "max_gen_toks=4", "--output_path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    (written,) = tmp_path.rglob("results_*.json")
    assert "acc,none" in json.loads(written.read_text())["results"]["cipo_arithmetic"]
