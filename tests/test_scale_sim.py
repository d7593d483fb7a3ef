"""The simulation of hundreds of replicas (``benchmarks/scale_sim.py``), with a few: what it counts must add up."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))

import scale_sim
from simulated_ray import Machines

PROBLEMS, SAMPLES = 20, 40
FEW = {"replicas": 3, "slots": 8, "token_seconds": 0.01, "median_tokens": 100, "sigma": 0.5, "start": 3.0}
"""About 40 virtual seconds of work."""


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a simulation on machines like ``FEW``; its figures. That every sample is stored once it checks itself."""
    monkeypatch.setitem(sys.modules, "ray", None)  # put back afterwards

    def run(**machines: float) -> dict[str, Any]:
        return scale_sim.simulate(tmp_path, Machines(**(FEW | machines)), PROBLEMS, SAMPLES)  # type: ignore[arg-type]  whole ones among them

    return run


def check_sums(row: dict[str, Any]) -> None:
    """Every second of every slot is accounted for, once."""
    seconds = row["slot_seconds"]
    capacity = FEW["replicas"] * FEW["slots"] * row["virtual_seconds"]
    assert seconds["all"] == pytest.approx(capacity, abs=FEW["replicas"] * FEW["slots"] * 0.05)  # rounded
    parts = sum(value for name, value in seconds.items() if name != "all")
    assert parts == pytest.approx(seconds["all"], rel=1e-9)


def test_replicas_that_fail_cost_time_and_lose_no_sample(simulate: Any) -> None:
    row = simulate(life=15.0, unnoticed=0.5)
    assert row["failures"] >= 2
    assert row["samples_redone"] > 0
    assert row["lost"]["down after failures"] > 0
    assert row["lost"]["lost work"] > 0
    check_sums(row)


def test_a_driver_that_takes_no_time_loses_none_but_at_both_ends(simulate: Any) -> None:
    row = simulate(driver_pace=0.0)
    assert row["failures"] == row["samples_redone"] == 0
    lost = row["lost"]
    assert (
        lost["driver too slow"] == lost["verifiers"] == lost["down after failures"] == lost["lost work"] == 0
    )
    assert lost["hand-over"] < 0.01
    check_sums(row)


def test_replicas_wait_for_a_driver_that_is_too_slow(simulate: Any) -> None:
    row = simulate(call_seconds=2.0)
    assert row["lost"]["driver too slow"] > 0.2
    check_sums(row)
