"""Several processes give what one gives: gradients, ρ, logs, and checkpoints that any number of them goes on from."""

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
import several_processes
import torch
from commands import Commands
from safetensors.torch import load_file
from several_processes import CASES, CONTINUED, METHODS, METHODS_OF_A_COMMIT, OF_FOUR, RUNS, free_port, run
from slurm import cluster

from cipo_eval.settings import to_yaml
from cipo_trainer.distributed import division, launch
from cipo_trainer.logs import read
from cipo_trainer.training import train

SCRIPT = str(Path(several_processes.__file__))
GRADIENTS = 2e-6
"""Largest difference of a gradient, as a share of the largest entry of its tensor: float32, summed in another order."""
WEIGHTS = 5e-6
"""Largest difference of a weight after a few updates of at most 1e-3 each."""
SAMPLED = ("base_", "correction_", "rho", "retention", "lambda", "drawn", "lift", "copies", "wrong", "right")
TIMED = ("seconds", "per_second", "memory_peak")


def rows(folder: Path, kind: str = "train") -> list[dict[str, Any]]:
    return [
        {k: v for k, v in row.items() if not any(part in k for part in TIMED)}
        for row in read(folder / "log.jsonl")
        if row.pop("kind") == kind
    ]


def assert_close(one: list[torch.Tensor], other: list[torch.Tensor], relative: float) -> None:
    assert len(one) == len(other) > 0
    for a, b in zip(one, other, strict=True):
        assert float((a - b).abs().max()) <= relative * max(1e-9, float(b.abs().max()))


def assert_same_weights(one: Path, other: Path, step: int) -> None:
    a, b = (
        load_file(folder / "checkpoints" / f"step-{step:06d}" / "model.safetensors")
        for folder in (one, other)
    )
    assert a.keys() == b.keys()
    assert max(float((a[k] - b[k]).abs().max()) for k in a) <= WEIGHTS


def assert_same_figures(row: dict[str, Any], other: dict[str, Any]) -> None:
    """Of attempts and verdicts to the last digit, of log-probabilities and gradients nearly."""
    assert row.keys() == other.keys()
    for name, value in other.items():
        if not isinstance(value, float) or (name.startswith(SAMPLED) and "entropy" not in name):
            assert row[name] == value, name
        else:
            assert row[name] == pytest.approx(value, rel=2e-3, abs=2e-5, nan_ok=True), name


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and updates of 2, 1 and 4 processes (``several_processes.everything``)."""
    methods = METHODS if "exhaustive" in (request.config.option.markexpr or "") else METHODS_OF_A_COMMIT
    folder = tmp_path_factory.mktemp("several")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, SCRIPT, str(folder), *methods], check=True, timeout=500, env=environment)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
@pytest.mark.parametrize("size", [2, 4])
def test_gradients_are_those_of_one_process(place: Path, size: int, kind: str) -> None:
    """Streams of unequal length, more processes than sequences with an advantage, and several updates a step."""
    results = torch.load(place / f"updates-{size}.pt")[kind]
    alone = torch.load(place / "updates-1.pt")["ddp"]
    assert set(results) == set(CASES if size < 4 else OF_FOUR)
    for case, together in results.items():
        by_one = alone[case]
        numbers, expected = (
            {k: v for k, v in one["measured"].items() if not isinstance(v, str)} for one in (together, by_one)
        )
        assert numbers == pytest.approx(expected, rel=1e-4, abs=1e-6, nan_ok=True)
        assert together["measured"].get("not_finite") == by_one["measured"].get("not_finite")
        if case == "four updates":  # the later gradients are of weights that have moved
            differences = zip(together["weights"], by_one["weights"], strict=True)
            assert max(float((a - b).abs().max()) for a, b in differences) <= WEIGHTS
        elif case == "not finite":
            assert together["measured"]["skipped"] == 1
            assert all(map(torch.equal, together["weights"], by_one["weights"]))
        else:
            assert_close(together["gradients"], by_one["gradients"], GRADIENTS)
    if size < 4:
        assert all(map(torch.equal, results["lambda 0"]["gradients"], results["base"]["gradients"]))


@pytest.mark.slow
@pytest.mark.parametrize("output", [f"{size}-{kind}" for size in (2, 4) for kind in RUNS[size]])
def test_steps_are_those_of_one_process(place: Path, output: str) -> None:
    """The same attempts, verdicts, anchors, ρ and evaluations to the last digit; loss and norms to rounding."""
    together, by_one = place / output, place / "1-ddp"
    for row, other in zip(rows(together), rows(by_one)[:3], strict=True):
        assert_same_figures(row, other)
    evaluated = rows(together, "eval")
    assert evaluated == rows(by_one, "eval")[: len(evaluated)]
    assert_same_weights(together, by_one, 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in METHODS_OF_A_COMMIT else pytest.mark.exhaustive)
        for name in METHODS
    ],
)
def test_methods_are_those_of_one_process(place: Path, name: str) -> None:
    for row, other in zip(rows(place / f"2-{name}"), rows(place / f"1-{name}"), strict=True):
        assert_same_figures(row, other)
        assert other["trained_tokens"] > 0
    assert_same_weights(place / f"2-{name}", place / f"1-{name}", 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    "output", [f"{run.replace(' ', f'-{size}-', 1)}" for size, runs in CONTINUED.items() for run in runs]
)
def test_any_number_goes_on_from_any_checkpoint(place: Path, output: str) -> None:
    """2 to 1 and 1 to 4 processes, in parts to whole and back: the fourth step is that of one process."""
    assert_same_weights(place / output, place / "1-ddp", 4)
    assert_same_figures(rows(place / output)[3], rows(place / "1-ddp")[3])


@pytest.mark.slow
def test_two_nodes_go_on_and_a_killed_process_ends_all(place: Path) -> None:
    """Two launchers with a rendezvous went on with what four processes left, and one process was killed in a step: both
    ended with an error, and the checkpoint of the step before is whole."""
    ended = json.loads((place / "ended.json").read_text())
    assert all(ended["nodes"])
    assert [path.name for path in sorted((place / "4-2" / "checkpoints").iterdir())][-1] == "step-000004"
    assert_same_weights(place / "4-2", place / "1-ddp", 4)
    train(run(place, "4-2", steps=5))
    assert ended["beside one that hangs"] == {"0": 1, "1": 1}


def test_work_is_divided_evenly_and_wholly() -> None:
    costs = [5, 1, 9, 0, 3, 3, 7, 0, 2]
    for size in (1, 2, 4, 20):
        chosen = division.owners(costs, size)
        assert len(chosen) == len(costs)
        assert set(chosen) <= set(range(size))
        loads = [sum(c for c, rank in zip(costs, chosen, strict=True) if rank == r) for r in range(size)]
        assert max(loads) - min(loads) <= max(costs)
    assert len({division.owners([1] * 8, 4).count(rank) for rank in range(4)}) == 1


def test_nproc_starts_the_same_command(cipo: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(launch, "launch", lambda *arguments: calls.append(arguments) or 7)
    outcome = cipo("train", "cipo", "steps=2", "--nproc", 3, "--no-resume", "-q", "--init-from", "x")
    assert (outcome.code, calls) == (
        7,
        [(3, ["cipo", "steps=2", "--init-from", "x", "--quiet", "--no-resume"])],
    )
    assert cipo("train", "cipo", "steps=x", "--nproc", 2).code == 2  # before anything is started


@pytest.mark.exhaustive
def test_ctrl_c_of_the_command_keeps_the_last_step(tmp_path: Path) -> None:
    """``cipo-eval train --nproc 2`` in earnest: SIGINT, a checkpoint, exit code 130, and the same command goes on."""
    config = run(tmp_path, "out", steps=500, checkpoint={"every": 1000}, eval={"tasks": []})
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    command = [sys.executable, "-m", "cipo_eval", "train", str(tmp_path / "c.yaml"), "--nproc", "2"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    process = subprocess.Popen(command, env=environment)
    while len(rows(config.output)) < 2:
        assert process.poll() is None
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 130
    done = len(rows(config.output))
    assert (config.output / "checkpoints" / f"step-{done:06d}").is_dir()
    again = [*command, f"steps={done + 1}", "--json"]
    outcome = subprocess.run(again, env=environment, capture_output=True, text=True, check=True)
    assert json.loads(outcome.stdout)["steps"] == done + 1
    refused = subprocess.run([*again, "seed=9"], env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert refused.stderr.count("holds a run with another configuration") == 1


@pytest.mark.exhaustive
def test_the_script_for_slurm_trains_on_two_nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = run(tmp_path, "out", steps=2)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    script = Path(__file__).parents[2] / "examples" / "slurm" / "train.sbatch"
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("PROCESSES", "1")
    monkeypatch.setenv("RENDEZVOUS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    with cluster() as slurm:
        job = slurm.command(
            "sbatch",
            "--parsable",
            "--nodes=2",
            "--time=9",
            "--mem=500",
            "--output=log",
            str(script),
            "c.yaml",
        )
        assert slurm.end_of(job, 300) == "COMPLETED", (tmp_path / "log").read_text()
    assert (config.output / "checkpoints" / "step-000002" / "model.safetensors").is_file()
