"""``status``: what is said of a run from outside, in every state that it may be in."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from made_runs import make_run

from cipo_eval.records import Attempt
from cipo_eval.run import status as module
from cipo_eval.run.progress import Progress
from cipo_eval.run.status import FILE, State, begin, kept_up, missing_shards, status


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run directory that nobody has said anything of."""
    return make_run(tmp_path / "run", {"p": ["wr"]}, samples=1, problems=1)


def counted(done: int, total: int) -> Progress:
    progress = Progress(done=done, total=total)
    progress.done_of["arithmetic"], progress.wanted_of["arithmetic"] = done, total
    return progress


def test_while_it_runs_and_after_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(module, "SECONDS", 0.01)
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "17")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    with kept_up(run) as note:
        note.progress = counted(10, 40)
        note.write()
        note.progress.done = note.progress.done_of["arithmetic"] = 20
        end = time.monotonic() + 30
        while (found := status(run)).done < 20:
            assert time.monotonic() < end
            time.sleep(0.01)
    assert (found.state, found.wanted) == (State.RUNNING, 40)
    assert found.rate is not None
    assert found.seconds_left == pytest.approx(20 / found.rate)
    assert found.writer == {"host": found.writer["host"], "pid": os.getpid(), "job": "17_2"}
    assert not (run / FILE).exists()
    assert status(run).state is State.UNFINISHED


def test_what_ended_otherwise(run: Path) -> None:
    def interrupted() -> None:
        with kept_up(run) as note:
            note.progress = counted(3, 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    found = status(run)
    assert (found.state, found.done, found.wanted) == (State.INTERRUPTED, 3, 4)
    begin(run)
    assert status(run).state is State.STARTING


def told(run: Path, **changed: Any) -> State:
    note = module.ProgressFile(run)
    note.progress = counted(3, 4)
    note.write()
    values = json.loads((run / FILE).read_text())
    values["writer"] |= {key: changed.pop(key) for key in ("pid", "life") if key in changed}
    (run / FILE).write_text(json.dumps(values | changed))
    return status(run).state


def test_a_writer_that_is_gone(run: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert told(run) is State.RUNNING
    assert told(run, pid=ended.pid) is State.GONE
    life = json.loads((run / FILE).read_text())["writer"]["life"]
    assert told(run, life=life + "1") is State.GONE  # its number has gone to another process
    assert told(run, life="elsewhere") is State.RUNNING
    assert told(run, life="elsewhere", at=time.time() - 2 * module.SILENT_SECONDS) is State.GONE


def test_what_is_not_there_or_damaged(run: Path, tmp_path: Path) -> None:
    assert status(tmp_path / "nothing").state is State.NOT_STARTED
    later = status(tmp_path / "x.shard-03-of-12")
    assert (later.state, str(later.shard)) == (State.NOT_STARTED, "3/12")
    assert missing_shards([later]) == [f"{i}/12" for i in range(1, 13) if i != 3]
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "run.lock").touch()
    assert status(tmp_path / "begun").state is State.STARTING
    for text in ("", "[]", "{}", '{"writer": 3}', '{"writer": {}, "state": "happy"}'):
        (run / FILE).write_text(text)
        assert status(run).state is State.DAMAGED, text
    (run / "run.json").write_text("no")
    assert status(run).state is State.DAMAGED


def test_counts_are_of_their_tasks() -> None:
    progress = Progress()
    attempts = [
        Attempt(
            task=task, problem="p", sample=0, prompt_hash="", seed=None, text="", finish_reason=None,
            prompt_tokens=None, completion_tokens=None, seconds=None, verdicts={},
        )
        for task in ("a", "b", "b")
    ]  # fmt: skip
    from cipo_eval.storage.attempts import Attempts

    progress.count_stored(Attempts.of(attempts[1:]), "fixed")
    progress.count_stored(Attempts.of(attempts[:1]), "fixed")
    assert progress.done_of == {"a": 1, "b": 2}


@pytest.mark.slow
def test_a_run_seen_from_outside(cipo: Commands, tmp_path: Path) -> None:
    """Not there, running, killed, done."""
    runs = [tmp_path / f"run.shard-{i}-of-2" for i in (1, 2)]
    command = [sys.executable, "-m", "cipo_eval", "run", "--engine", "seeded_engine:Seeded", "--model", "m"]
    command += [
        "--tasks",
        "arithmetic",
        "--limit",
        "10",
        "--samples",
        "4",
        "--shard",
        "1/2",
        "-o",
        str(runs[0]),
    ]
    command += [
        "--engine-option",
        "delay=0.25",
        "--verifier-workers",
        "1",
        "--quiet",
        "--protocol",
        "direct,self",
    ]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # where the engine is
    seen = []

    def look() -> dict[str, Any]:
        before = {path: path.stat().st_mtime_ns for path in runs[0].rglob("*") if path.name == "run.lock"}
        outcome = cipo("status", *runs, "--json")
        assert outcome.code == 0
        after = {path: path.stat().st_mtime_ns for path in runs[0].rglob("*") if path.name == "run.lock"}
        assert before.items() <= after.items()
        row: dict[str, Any] = outcome.json["runs"][0]
        seen.append(row["state"])
        return row

    assert look()["state"] == "not started"
    process = subprocess.Popen(command, env=environment)
    end = time.monotonic() + 120
    while (row := look())["state"] != "running" or row["done"] < 2:
        assert time.monotonic() < end, seen
        assert process.poll() is None
        time.sleep(0.1)
    assert row["tasks"]["arithmetic"]["wanted"] >= 20
    assert row["writer"]["pid"] == process.pid
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert look()["state"] == "gone"
    subprocess.run([*command, "--engine-option", "delay=0.25"], env=environment, check=True)
    row = look()
    assert (row["state"], row["done"], row["wanted"], row["shard"]) == ("done", 20, 20, "1/2")
    outcome = cipo("status", *runs)
    assert "together: 20/20 attempts (100%); 1 done, 1 not started" in outcome.out
