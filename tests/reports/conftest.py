"""A small made-up study, read and written once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cipo_reports.arms import read_arms
from cipo_reports.study import Study, read_study
from cipo_reports.synthetic import make_study


@pytest.fixture(scope="session")
def made(once: Callable[..., Path]) -> dict[str, list[Path]]:
    """Run directories and trainings by arm: three arms, two seeds, three tasks."""

    def make(folder: Path) -> None:
        arms = make_study(folder, seeds=2, problems=24, samples=4)
        (folder / "arms.json").write_text(json.dumps(arms, default=str))

    arms: dict[str, Any] = json.loads((once("study", make) / "arms.json").read_text())
    return {name: [Path(path) for path in paths] for name, paths in arms.items()}


def groups(made: dict[str, list[Path]]) -> list[str]:
    return [f"{name}={','.join(map(str, paths))}" for name, paths in made.items()]


@pytest.fixture(scope="session")
def study(made: dict[str, list[Path]]) -> Study:
    return read_study(read_arms([], groups(made)), bootstrap=200)


@pytest.fixture(scope="session")
def single(made: dict[str, list[Path]]) -> Study:
    """One seed of each arm: values are those of the runs."""
    return read_study(read_arms([], [f"{name}={paths[0]}" for name, paths in made.items()]), bootstrap=200)
