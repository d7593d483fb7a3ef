"""Attempts judged many at a time: what is stored does not depend on how many workers judge, nor on what they die of."""

from __future__ import annotations

import gc
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.data.attempt_files import parts
from cipo_eval.errors import UsageError
from cipo_eval.run import api
from cipo_eval.run.chunks import FEW, ROWS
from cipo_eval.run.progress import Progress
from cipo_eval.storage.numbers import Numbers

PROBLEMS = 50
SAMPLES = 60
TASK = """
task: cipo_many
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: many
    description: many short answers
    options: {kind: integer}
    columns: {question: question, gold: gold, id: id}
    sources:
      - {kind: embedded, path: many.jsonl}
"""


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("many")
    (folder / "many.yaml").write_text(TASK)
    problems = [{"id": f"p{n}", "question": f"Which number is {n}?", "gold": str(n)} for n in range(PROBLEMS)]
    (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in problems))
    return folder / "many.yaml"


def rows() -> list[dict[str, object]]:
    """More than ``FEW`` attempts, some without an answer, some with half of a surrogate pair."""
    made: list[dict[str, object]] = []
    for sample in range(SAMPLES):
        for problem in range(PROBLEMS):
            said = f"Try {sample}: $\\boxed{{{problem + (problem + sample) % 3}}}$"
            if (problem + sample) % 17 == 0:
                said = f"Try {sample}: I do not know \ud800"
            made.append({"problem_id": f"p{problem}", "sample": sample, "text": said, "completion_tokens": 9})
    assert len(made) > FEW > ROWS
    return made


def written(path: Path, made: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def lines(run: Path) -> list[bytes]:
    """The stored lines; how long a verdict took differs from time to time."""
    stored = (run / "attempts" / "many.jsonl").read_bytes().splitlines()
    return [re.sub(rb'"seconds": ?[-0-9.e]+', b'"seconds":0', line) for line in stored]


def figures(run: Path) -> object:
    found = json.loads((run / "results.json").read_text())["tasks"]["many"]
    return {
        mode: {k: v for k, v in of.items() if k != "seconds"} for mode, of in found.items() if mode == "fixed"
    }


def score(file: Path, task: Path, out: Path, workers: int) -> None:
    api.score(file, tasks=[str(task)], output=out, verifier_workers=workers)


@pytest.mark.slow
def test_any_number_of_workers_stores_the_same(tmp_path: Path, task: Path) -> None:
    file = written(tmp_path / "attempts.jsonl", rows())
    for workers in (1, 2, 3):
        score(file, task, tmp_path / str(workers), workers)
    assert len(lines(tmp_path / "1")) == SAMPLES * PROBLEMS
    for workers in ("2", "3"):
        assert lines(tmp_path / workers) == lines(tmp_path / "1")
        assert figures(tmp_path / workers) == figures(tmp_path / "1")
    # rescoring reads every line again, and writes what was there
    api.rescore(tmp_path / "3", verifier_workers=2)
    assert lines(tmp_path / "3") == lines(tmp_path / "1")
    assert figures(tmp_path / "3") == figures(tmp_path / "1")


def test_rescoring_lets_go_of_the_old_columns(tmp_path: Path, task: Path) -> None:
    """Of ten million attempts either the old or the new ones fit into two gigabytes beside the figures, not both."""
    file = written(tmp_path / "attempts.jsonl", rows())
    score(file, task, tmp_path / "run", 1)
    at_hand: list[list[int]] = []

    class Looking(api.Silence):
        def attempts(self, engine: object) -> AbstractContextManager[Progress]:  # noqa: ARG002  a watch's signature
            def look(progress: Progress) -> None:
                if progress.done and not at_hand:
                    at_hand.append([len(of) for of in gc.get_objects() if isinstance(of, Numbers)])

            return nullcontext(Progress(changed=look))

    api.rescore(tmp_path / "run", watch=Looking(), verifier_workers=1)
    (held,) = at_hand
    assert max(held) < SAMPLES * PROBLEMS


@pytest.mark.slow
def test_one_by_one_is_the_same(tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "attempts.jsonl", rows())
    score(file, task, tmp_path / "together", 2)
    monkeypatch.setattr("cipo_eval.run.chunks.FEW", 1 << 30)
    score(file, task, tmp_path / "singly", 2)
    assert lines(tmp_path / "singly") == lines(tmp_path / "together")


def test_a_worker_that_hangs_costs_only_its_answer(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every chunk holds an answer of which its worker does not come back."""
    made = rows()
    monkeypatch.setenv("PYTHONPATH", f"{Path(__file__).parent}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setattr("cipo_eval.run.chunks.CHUNK_SECONDS", 0.3)
    definition = task.read_text()
    folder = tmp_path / "task"
    folder.mkdir()
    (folder / "many.yaml").write_text(
        definition.replace(
            "    name: many\n", "    name: many\n    verifier: chunk_verifier:HangingVerifier\n"
        )
    )
    (folder / "many.jsonl").write_bytes((task.parent / "many.jsonl").read_bytes())
    made[1234]["text"] = "It hangs: $\\boxed{999999}$"
    file = written(tmp_path / "attempts.jsonl", made)
    api.score(
        file,
        tasks=[str(folder / "many.yaml")],
        output=tmp_path / "run",
        verifier_workers=2,
        verifier_timeout=1,
    )
    stored = [json.loads(line) for line in lines(tmp_path / "run")]
    assert len(stored) == SAMPLES * PROBLEMS
    late = [row for row in stored if row["verdicts"]["fixed"]["state"] == "verifier_timeout"]
    assert [row["text"] for row in late] == [made[1234]["text"]]
    keys = [(int(row["problem"][1:]), row["sample"]) for row in stored]
    assert keys == sorted(keys)


@pytest.mark.slow
def test_killed_in_the_middle_and_begun_again(tmp_path: Path, task: Path) -> None:
    file = written(tmp_path / "attempts.jsonl", rows())
    score(file, task, tmp_path / "whole", 2)
    command = [
        sys.executable,
        "-m",
        "cipo_eval",
        "score",
        str(file),
        "--task",
        str(task),
        "-o",
        str(tmp_path / "run"),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stored = tmp_path / "run" / "attempts" / "many.jsonl"
    end = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < end:
        if stored.exists() and stored.stat().st_size:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.001)
    process.wait()
    score(file, task, tmp_path / "run", 2)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def workers() -> set[int]:
    """Processes that this one, or one that it started, is the parent of, and that have not ended."""
    parents = {}
    for of in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            state, parent = of.read_text().rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(of.parent.name)] = int(parent)
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return ours - {os.getpid()}


@pytest.fixture
def same_signals() -> Iterator[None]:
    """What a test does with SIGINT is undone."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.slow
@pytest.mark.usefixtures("same_signals")
def test_an_interruption_while_workers_read_leaves_nothing(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the file is read the first time, at its first, a middle or its last part: no worker stays, no run
    directory that is no run, and the next call stores what an undisturbed one does."""
    # what is started in the background of a shell ignores the signal, and so would the test
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = written(tmp_path / "attempts.jsonl", rows())
    score(file, task, tmp_path / "whole", 2)
    for name, value in (("LEAST", 1), ("BYTES", 20_000)):
        monkeypatch.setattr(parts, name, value)
    outcome = parts._outcome
    count, before = -(-file.stat().st_size // 20_000), workers()
    assert count > 5
    for last in (0, count // 2, count - 2):
        taken = iter(range(1000))

        def interrupted(*of: Any, last: int = last, taken: Iterator[int] = taken) -> Any:
            if next(taken) == last:
                signal.raise_signal(signal.SIGINT)
            return outcome(*of)

        monkeypatch.setattr(parts, "_outcome", interrupted)
        with pytest.raises(KeyboardInterrupt):
            score(file, task, tmp_path / "run", 2)
        assert next(taken) > last
        end = time.monotonic() + 20
        while left := workers() - before:  # one that was killed takes a moment
            assert time.monotonic() < end, left
            time.sleep(0.01)
        assert not (tmp_path / "run").exists()
    monkeypatch.setattr(parts, "_outcome", outcome)
    score(file, task, tmp_path / "run", 2)
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")
    assert figures(tmp_path / "run") == figures(tmp_path / "whole")


def test_a_damaged_row_names_its_line(tmp_path: Path, task: Path) -> None:
    file = written(tmp_path / "attempts.jsonl", rows())
    damaged = file.read_bytes().splitlines(keepends=True)
    damaged[1776] = b'{"problem_id": "p1", "text": 5}\n'
    file.write_bytes(b"".join(damaged))
    with pytest.raises(UsageError, match=r"attempts\.jsonl line 1777"):
        score(file, task, tmp_path / "run", 2)
