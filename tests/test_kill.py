"""kill -9 at fifty random moments of a run with several turns, then the same command again: no attempt is lost, none
doubled, and the results are the same.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import results, turns

KILLS = 50
FORKER = """
import json, os, sys
import torch, jinja2, yaml, pebble, cipo_eval.runner, cipo_eval.cli
from cipo_eval.engines.hf import HFEngine
torch.set_num_threads(1)  # threads do not survive a fork
HFEngine(sys.argv[1], device="cpu")  # imports what a run imports; every run below is a fork of this process
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        os.setsid()
        sys.stdin.close()
        sys.stdout = sys.stderr
        cipo_eval.cli.main(json.loads(line))
    print(child, flush=True)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


class Runs:
    """Starts runs as forks of one warm process, so that fifty of them take minutes, not half an hour."""

    def __init__(self, folder: Path, checkpoint: Path) -> None:
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CIPO_EVAL_CACHE": str(folder / "cache")}
        self._log = (folder / "log.txt").open("w")
        self._forker = subprocess.Popen(
            [sys.executable, "-c", FORKER, str(checkpoint)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=environment,
        )

    def start(self, arguments: list[str]) -> int:
        import json

        assert self._forker.stdin is not None
        self._forker.stdin.write(json.dumps(arguments) + "\n")
        self._forker.stdin.flush()
        return self._number()

    def wait(self) -> int:
        """The exit code of the run that was started last; negative: the signal that ended it."""
        return self._number()

    def _number(self) -> int:
        assert self._forker.stdout is not None
        return int(self._forker.stdout.readline())

    def close(self) -> None:
        assert self._forker.stdin is not None
        self._forker.stdin.close()
        self._forker.wait(timeout=60)
        self._log.close()


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
        "20",
        "--samples",
        "4",
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
    assert len(expected) == 400

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
