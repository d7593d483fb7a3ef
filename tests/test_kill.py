"""kill -9 at fifty random moments of a run with several turns, then the same command again: no attempt is lost, none
doubled, and the results are the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

import pytest
from commands import results, turns
from forks import Runs

KILLS = 50


@pytest.mark.slow
def test_killed_runs_end_like_an_uninterrupted_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    runs = Runs(tmp_path, tiny_checkpoint)
    command = [
        "run",
        "--model",
        str(tiny_checkpoint),
        "--tasks",
        "arithmetic",
        "--limit",
        "8",
        "--samples",
        "2",
        "--protocol",
        "self,oracle",
        "--turns",
        "3",
        "--max-tokens",
        "12",
    ]
    command += ["--batch-tokens", "120", "--verifier-workers", "1", "--quiet", "-o"]
    started = time.monotonic()
    runs.start([*command, str(tmp_path / "reference")])
    first = tmp_path / "reference" / "attempts" / "arithmetic.jsonl"
    while not first.exists():
        assert time.monotonic() - started < 120, (tmp_path / "log.txt").read_text()
        time.sleep(0.01)
    beginning = time.monotonic() - started
    assert runs.wait() == 0, (tmp_path / "log.txt").read_text()
    work = time.monotonic() - started - beginning
    expected, figures = turns(tmp_path / "reference", "arithmetic"), results(tmp_path / "reference")
    assert len(expected) == 80

    chance, kills, finished, midway = random.Random(0), 0, 0, 0
    pace = 1.0  # of this machine now against the reference run: follows what the kills meet
    while kills < KILLS or finished == 0:
        run = tmp_path / f"run-{finished}"
        child = runs.start([*command, str(run)])
        if kills < KILLS:  # before the first attempt, between attempts, while results are written
            time.sleep(pace * chance.uniform(0.8 * beginning, beginning + 0.6 * work))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        code = runs.wait()
        assert code in (0, -signal.SIGKILL), (tmp_path / "log.txt").read_text()
        kills += code != 0
        if code == 0:
            assert turns(run, "arithmetic") == expected
            assert results(run) == figures
            finished += 1
            pace *= 0.85
        elif (run / "attempts" / "arithmetic.jsonl").exists():
            stored = (run / "attempts" / "arithmetic.jsonl").read_bytes().count(b"\n")
            midway += 0 < stored < len(expected)
        else:
            pace *= 1.1
    runs.close()
    assert kills == KILLS
    assert midway >= 10, "too few kills met a run in the middle of its work: the test's timing needs a look"
    print(f"{kills} kills, {midway} of them midway, {finished} runs finished")
