"""Jobs of a real SLURM: an array with a task that fails, a task that is requeued, and the run that they come to."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Commands, results, turns
from slurm import Slurm, cluster

TASK = ("--tasks", "arithmetic", "--limit", "4", "--samples", "2", "--protocol", "direct,self")
ENGINE = ("--engine", "seeded_engine:Seeded", "--verifier-workers", "1", "--quiet")
HOSTILE = 'it\'s $HOME; "%A" `x`'


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A cluster of two nodes."""
    with cluster() as found:
        yield found


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine is a module of the tests, also for jobs."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))


@pytest.mark.slow
def test_an_array_that_fails_is_requeued_and_goes_on(slurm: Slurm, cipo: Commands, tmp_path: Path) -> None:
    """Of two shards the first fails once (its folder holds something else), the second is requeued in the middle. The
    merge that follows says what is missing; submitted again, all of it equals the run without shards."""
    output = tmp_path / HOSTILE / "run"
    output.parent.mkdir()
    delay = ("--engine-option", "delay=0.5")
    command = ("run", "--model", HOSTILE, *ENGINE, *delay, *TASK, "-o", output)
    submit = (*command, "--submit", "slurm", "--shards", "2", "--sbatch", "mem=100", "--time", "30")
    shards = [output.with_name(f"run.shard-{i}-of-2") for i in (1, 2)]
    shards[0].mkdir()
    (shards[0] / "notes").write_text("in the way")
    outcome = cipo(*submit)
    assert outcome.code == 0, outcome.err
    array, merging = outcome.out.split()
    slurm.wait(lambda: len(list(shards[1].glob("attempts/*.jsonl"))) == 1)
    slurm.command("scontrol", "requeue", f"{array}_2")
    slurm.start_now(f"{array}_2")
    assert slurm.end_of(merging) == "FAILED"
    states = slurm.states()
    assert [states[f"{array}_{i}"] for i in (1, 2)] == ["FAILED", "COMPLETED"]
    logs = output.with_name("run.slurm")
    assert "shard 1/2" in (logs / f"merge-{merging}.log").read_text()
    second = (logs / f"run-{array}_2.log").read_text()
    assert re.findall(r"started (\d) time", second) == ["0", "1"]
    assert len(json.loads((shards[1] / "run.json").read_text())["calls"]) == 2
    state = cipo("status", *shards, "--json").json
    assert [run["state"] for run in state["runs"]] == ["not started", "done"]

    (shards[0] / "notes").unlink()
    outcome = cipo(*submit)
    assert outcome.code == 0, outcome.err
    merging = outcome.out.split()[1]
    assert slurm.end_of(merging) == "COMPLETED", (logs / f"merge-{merging}.log").read_text()
    whole = tmp_path / "whole" / "run"
    assert (
        cipo("run", "--model", HOSTILE, *ENGINE, "--engine-option", "delay=0.5", *TASK, "-o", whole).code == 0
    )
    assert turns(output, "arithmetic") == turns(whole, "arithmetic")
    assert results(output) == results(whole)


STUDY = """
title: a tiny study
families:
  chains: {dial: {modulus: 5, steps: 2}, items: 8}
shape: {layers: 1, hidden: 16, inner: 16, heads: 1}
warm: {steps: 10, data: {corrections: 0.5}, optimizer: {batch: 8, lr: 1.0e-2}, checkpoint: {every: 10}}
train:
  steps: 1
  rollout: {problems: 2, samples: 2, max_tokens: 4}
arms:
  start:
  GRPO: {algorithm: grpo}
evaluate: {samples: 2, max_tokens: 4, protocols: [direct, self]}
"""


@pytest.mark.exhaustive
def test_a_study_is_an_array_of_arms(slurm: Slurm, cipo: Commands, tmp_path: Path) -> None:
    """The warm start, then both arms, then the report: each stage waits for the one before."""
    (tmp_path / "tiny.yaml").write_text(STUDY)
    folder = tmp_path / "a study"
    outcome = cipo("study", tmp_path / "tiny.yaml", "title=it's", "-o", folder, "--submit", "slurm")
    assert outcome.code == 0, outcome.err
    numbers = outcome.out.split()
    slurm.end_of(numbers[-1], 240)
    states = slurm.states()
    said = [log.read_text() for log in sorted((tmp_path / "a study.slurm").glob("*.log"))]
    of_all = (f"{numbers[0]}_1", *(f"{numbers[1]}_{i}" for i in (1, 2)), numbers[2])
    assert {states[number] for number in of_all} == {"COMPLETED"}, said
    assert re.search("it(&#39;|&#x27;|')s", (folder / "report" / "report.html").read_text())
    early = cipo("study", tmp_path / "tiny.yaml", "-o", tmp_path / "empty", "--report")
    assert early.code == 3
    assert "4 of 4 jobs are missing" in early.err
