"""A small made-up study, read and written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cipo_reports.arms import read_arms
from cipo_reports.study import Study, read_study
from cipo_reports.synthetic import make_study


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Run directories and trainings by arm: three arms, two seeds, three tasks."""
    return make_study(tmp_path_factory.mktemp("study"), seeds=2, problems=24, samples=4)


def groups(made: dict[str, list[Path]]) -> list[str]:
    return [f"{name}={','.join(map(str, paths))}" for name, paths in made.items()]


@pytest.fixture(scope="session")
def study(made: dict[str, list[Path]]) -> Study:
    return read_study(read_arms([], groups(made)), bootstrap=200)


@pytest.fixture(scope="session")
def single(made: dict[str, list[Path]]) -> Study:
    """One seed of each arm: values are those of the runs."""
    return read_study(read_arms([], [f"{name}={paths[0]}" for name, paths in made.items()]), bootstrap=200)
