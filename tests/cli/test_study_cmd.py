"""``cipo-eval study`` from warm start to report, one by one, at once, broken off and resumed, with real trainings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest
from commands import Commands

from cipo_eval.cli import main
from cipo_eval.engines.hf import HFEngine
from cipo_trainer.study import jobs

TINY = """
title: a tiny study
families:
  chains: {dial: {modulus: 5, steps: 2}, items: 12}
shape: {layers: 1, hidden: 16, inner: 16, heads: 1}
warm: {steps: 60, data: {corrections: 0.5}, optimizer: {batch: 16, lr: 1.0e-2}, checkpoint: {every: 10}}
train:
  steps: 4
  rollout: {problems: 4, samples: 2, max_tokens: 4}
  optimizer: {lr: 1.0e-4}
  eval: {every: 2, samples: 2, limit: 4, protocol: [direct, self], prompt_dir: prompts}
arms:
  GRPO: {algorithm: grpo}
  CIPO: {algorithm: cipo, rollout: {problems: 2}, correction: {prompt_dir: prompts, controller: fixed}}
baseline: GRPO
evaluate: {samples: 2, max_tokens: 4, along: [2]}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


def test_a_dry_run_shows_what_ray_would_be_given(cipo: Commands, tiny: Path, tmp_path: Path) -> None:
    """No cluster is asked, nothing is written; without a place to submit to there is none."""
    folder = tmp_path / "study"
    shown = cipo("study", tiny, "-o", folder, "--submit", "ray", "--dry-run", "--job-gpus", "1")
    assert shown.code == 0, shown.err
    first, *lines = shown.out.splitlines()
    assert first == "# 5 of 5 jobs on Ray (auto), each with 1 CPU and 1 GPU"
    assert sorted(line.split()[1] for line in lines) == ["run", "run", "train", "train", "train"]
    assert str(folder) in lines[0]
    assert "#" not in lines[0]
    assert lines[1].endswith("# after chains/seed-0/warm/train")
    one = cipo(
        "study", tiny, "-o", folder, "--submit", "ray", "--dry-run", "--job", "chains/seed-0/warm/train"
    )
    assert one.out.splitlines()[1:] == lines[:1]
    assert not folder.exists()
    refused = cipo("study", tiny, "-o", folder, "--dry-run")
    assert refused.code == 2
    assert "--dry-run belongs together with --submit" in refused.err


class Fork:
    """A job as a fork of this process, which has imported what takes a new one five seconds."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.returncode: int | None = None
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.setsid()
                said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(said, 1)
                os.dup2(said, 2)
                sys.stdout = sys.stderr = os.fdopen(said, "w", buffering=1)
                os.environ.update(environment)
                main(list(command[command.index("cipo_eval") + 1 :]))
            except SystemExit as end:
                os._exit(end.code if isinstance(end.code, int) else 1)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(99)

    def poll(self) -> int | None:
        return self._ended(os.WNOHANG)

    def wait(self) -> int:
        code = self._ended(0)
        assert code is not None
        return code

    def send_signal(self, sig: int) -> None:
        os.kill(self._pid, sig)

    def _ended(self, how: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self._pid, how)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
@pytest.mark.parametrize(
    "alone", [("warm", "grpo", "cipo"), pytest.param(("warm",), marks=pytest.mark.exhaustive)], ids="-".join
)
def test_a_study_is_trained_scored_and_compared(
    cipo: Commands,
    tiny: Path,
    tmp_path: Path,
    alone: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tiny_checkpoint: Path,
) -> None:
    """The trainings of ``alone`` one by one, the other jobs two at once. The first is a process as for users; with
    ``-m exhaustive`` all of them are."""
    folder = tmp_path / "study"
    listed = cipo("study", tiny, "-o", folder, "--list")
    assert listed.out.count("open  chains/seed-0/") == 5
    assert "after chains/seed-0/warm/train" in listed.out
    early = cipo("study", tiny, "-o", folder, "--job", "chains/seed-0/cipo/train")
    assert early.code == 2
    assert "chains/seed-0/warm/train must come before" in early.err
    # one by one, as a cluster's launcher would have it
    for arm in alone:
        one = cipo("study", tiny, "-o", folder, "--job", f"chains/seed-0/{arm}/train", "--quiet")
        assert (one.code, (folder / "report").exists()) == (0, False)
        if len(alone) > 1:
            HFEngine(str(tiny_checkpoint), device="cpu")  # imports what a job imports
            monkeypatch.setattr(jobs, "launched", Fork)
    done = cipo("study", tiny, "-o", folder, "--workers", "2")
    assert done.code == 0, done.err
    assert f"5 jobs, {len(alone)} of them done" in done.err
    assert "acc@t2" in done.out
    assert "difference to GRPO" in done.out
    assert str(folder / "report" / "report.html") in done.out
    results = pd.read_csv(folder / "report" / "results.csv")
    assert set(results["arm"]) == {"GRPO", "CIPO"}
    for name in ("training", "along"):
        assert (folder / "report" / "figures" / f"{name}.png").is_file()
    took = pd.read_csv(folder / "report" / "tables" / "training.csv")
    assert list(took["method"]) == ["GRPO", "CIPO"]
    # what was evaluated on the way has a report of its own, with the figures that were logged
    on_the_way = pd.read_csv(folder / "report-step-2" / "results.csv").query(
        "protocol == 'direct' and column.isna()"
    )
    values = on_the_way.set_index(["arm", "figure"])["value"]
    for arm in ("GRPO", "CIPO"):
        log = (folder / "chains/seed-0" / arm.lower() / "train/log.jsonl").read_text().splitlines()
        (logged,) = (row for row in map(json.loads, log) if row["kind"] == "eval" and row["step"] == 2)
        assert values[arm, "pass@1"] == pytest.approx(logged["chains/pass@1"])
    # nothing is done twice, and the report is the same
    before = (folder / "jobs.jsonl").read_bytes()
    again = cipo("study", tiny, "-o", folder, "--json")
    assert again.code == 0
    assert (folder / "jobs.jsonl").read_bytes() == before
    pages = [str(folder / report / "report.html") for report in ("report", "report-step-2")]
    assert json.loads(again.out)["pages"] == pages
    pd.testing.assert_frame_equal(pd.read_csv(folder / "report" / "results.csv"), results)
    refused = cipo("study", tiny, "warm.steps=61", "-o", folder)
    assert refused.code == 2
    assert "another configuration" in refused.err


@pytest.mark.exhaustive  # test_training interrupts a training
def test_ctrl_c_and_going_on_change_nothing(cipo: Commands, tiny: Path, tmp_path: Path) -> None:
    """A job that was broken off while it trained ends with the weights of one that was not."""
    whole, broken, name = tmp_path / "whole", tmp_path / "broken", "chains/seed-0/warm/train"
    assert cipo("study", tiny, "-o", whole, "--job", name, "--quiet").code == 0
    command = [sys.executable, "-m", "cipo_eval", "study", str(tiny), "-o", str(broken)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    log = broken / name / "log.jsonl"
    end = time.monotonic() + 120
    while not (log.is_file() and log.read_text().count("\n") > 3):
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    rows = [json.loads(line) for line in (broken / "jobs.jsonl").read_text().splitlines()]
    assert [(row["job"], row["code"]) for row in rows] == [(name, 130)]
    assert cipo("study", tiny, "-o", broken, "--job", name, "--quiet").code == 0
    weights = [f / name / "checkpoints" / "step-000060" / "model.safetensors" for f in (whole, broken)]
    assert weights[0].read_bytes() == weights[1].read_bytes()


@pytest.mark.slow
def test_a_job_that_failed_is_named_with_its_log(
    cipo: Commands, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder holds something else: the command says so, names the log and ends with 1, without a report."""
    folder = tmp_path / "study"
    (folder / "chains" / "seed-0" / "warm" / "train" / "mine").mkdir(parents=True)
    monkeypatch.setattr(jobs, "launched", Fork)
    done = cipo("study", tiny, "-o", folder)
    assert done.code == 1
    assert "failed: chains/seed-0/warm/train (exit code 2" in done.err
    assert "holds no training run" in done.err  # the last line of its log
    assert not (folder / "report").exists()
