"""Figures for trackers: their names, what is missing, and a tracker that fails. The real ones: tests/neighbours."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from cipo_eval import tracking
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.tracking import trackers

FIGURE = {"value": 0.5, "ci": [0.25, 0.75], "method": "bootstrap"}
RESULTS = {
    "tasks": {
        "math500": {
            "fixed": {
                "attempts": 6,
                "metrics": {
                    "pass@1": FIGURE,
                    "pass@2": {**FIGURE, "ci": None},
                    "none": {"value": None, "ci": None},
                },
                "state_shares": {"correct": 0.5},
                "breakdown": {"level": {"1": FIGURE}},
            },
            "protocols": {"self": {"fixed": {"metrics": {"acc@t2": FIGURE}}}},
            "missing_attempts": 0,
        }
    }
}


def test_names_of_figures() -> None:
    assert tracking.numbers_of(RESULTS) == {
        "math500/fixed/attempts": 6.0,
        "math500/fixed/state/correct": 0.5,
        "math500/fixed/pass@1": 0.5,
        "math500/fixed/pass@1_low": 0.25,
        "math500/fixed/pass@1_high": 0.75,
        "math500/fixed/pass@2": 0.5,
        "math500/self/fixed/acc@t2": 0.5,
        "math500/self/fixed/acc@t2_low": 0.25,
        "math500/self/fixed/acc@t2_high": 0.75,
    }


def test_what_is_not_known_or_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.named("wandb:mine") == ("wandb", "mine")
    assert tracking.named("mlflow") == ("mlflow", trackers.PROJECT)
    with pytest.raises(UsageError, match="did you mean wandb"):
        tracking.check(["wandbb"])
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    for name in tracking.TRACKERS:
        with pytest.raises(MissingError, match=f"pip install {name}$"):
            tracking.check([name])


def test_a_tracker_that_fails_costs_no_figures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed: list[str] = []

    class Broken:
        def __init__(self, *_: Any) -> None:
            """Opens."""

        def log(self, numbers: Any, step: int) -> None:
            raise ConnectionError(f"no server for {len(numbers)} at {step}")

        def close(self) -> None:
            closed.append("yes")

    monkeypatch.setattr(importlib.util, "find_spec", lambda _: True)
    monkeypatch.setitem(tracking.TRACKERS, "wandb", Broken)
    (failure,) = tracking.record(["wandb"], "run", tmp_path, {}, {"a": 1.0})
    assert failure == "--track wandb: ConnectionError: no server for 1 at 0"
    assert closed == ["yes"]
