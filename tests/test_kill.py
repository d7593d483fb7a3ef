"""A run that is killed at any moment, then the same command again: no attempt is lost, none doubled, and the results
are the same.

``fault_points`` has every moment; the exhaustive tier also kills at fifty random ones.
"""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path

import pytest
from commands import Commands, results, turns
from fault_points import fault_points
from forks import Runs

KILLS = 50


def command(checkpoint: Path, *more: str) -> list[str]:
    """Several turns of two protocols."""
    arguments = ["run", "--model", str(checkpoint), "--tasks", "arithmetic", "--protocol", "self,oracle"]
    arguments += ["--max-tokens", "12", "--batch-tokens", "120", "--verifier-workers", "1", "--quiet"]
    return [*arguments, *more, "-o"]


@pytest.mark.slow
def test_a_run_goes_on_from_every_fault_point(tiny_checkpoint: Path, tmp_path: Path, cipo: Commands) -> None:
    small = command(tiny_checkpoint, "--limit", "2", "--samples", "1", "--turns", "2")
    reference = tmp_path / "reference"
    with fault_points(reference, tmp_path / "states") as states:
        assert cipo(*small, reference).code == 0
    expected, figures = turns(reference, "arithmetic"), results(reference)
    assert len(expected) == 6
    assert len(states) >= 2 * len(expected) + 4
    for state in states:
        found = cipo(*small, state)
        assert found.code == 0, (state, found.err)
        assert turns(state, "arithmetic") == expected, state
        assert results(state) == figures, state


@pytest.mark.exhaustive
def test_killed_runs_end_like_an_uninterrupted_one(tiny_checkpoint: Path, tmp_path: Path) -> None:
    runs = Runs(tmp_path, tiny_checkpoint)
    large = command(tiny_checkpoint, "--limit", "8", "--samples", "2", "--turns", "3")
    started = time.monotonic()
    runs.start([*large, str(tmp_path / "reference")])
    first = tmp_path / "reference" / "attempts" / "arithmetic.jsonl"
    while not first.exists():
        assert time.monotonic() - started < 120, (tmp_path / "log.txt").read_text()
        time.sleep(0.01)
    beginning = time.monotonic() - started
    assert runs.wait() == 0, (tmp_path / "log.txt").read_text()
    expected, figures = turns(tmp_path / "reference", "arithmetic"), results(tmp_path / "reference")
    assert len(expected) == 80

    chance, kills, finished, midway = random.Random(0), 0, 0, 0
    while kills < KILLS or finished == 0:
        run = tmp_path / f"run-{finished}"

        def stored(path: Path = run / "attempts" / "arithmetic.jsonl") -> int:
            return path.read_bytes().count(b"\n") if path.exists() else 0

        before = stored()
        child = runs.start([*large, str(run)])
        # before the first attempt, between attempts, while results are written; one that had all attempts may end
        if kills < KILLS and before < len(expected):
            early = chance.random() < 0.2
            target = 0 if early else chance.randint(before + 1, len(expected))
            runs.kill(child, stored, target, chance.uniform(0.0, 1.2 * beginning if early else 0.02))
        code = runs.wait()
        assert code in (0, -signal.SIGKILL), (tmp_path / "log.txt").read_text()
        kills += code != 0
        if code == 0:
            assert turns(run, "arithmetic") == expected
            assert results(run) == figures
            finished += 1
        else:
            midway += 0 < stored() < len(expected)
    runs.close()
    assert kills == KILLS
    assert midway >= 10, "too few kills met a run in the middle of its work: the test's timing needs a look"
    print(f"{kills} kills, {midway} of them midway, {finished} runs finished")
