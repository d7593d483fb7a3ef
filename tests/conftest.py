"""Shared fixtures: where the real benchmark data is, tiny checkpoints made on the spot, and what is made once for all
processes of a test run. Which tests run where is said here, too (docs/testing.md)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Commands
from filelock import FileLock
from hypothesis import settings

# No time limit per example: the first one may import a heavy library, and machines are shared.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

ROOT = Path(__file__).resolve().parent.parent


COSTLY = {
    "warm": "commands in a process that has imported everything",
    "page": "a written report in a browser",
    "whole": "a run of all protocols",
    "judges": "lanes of the sandbox that have met every problem",
}
"""Fixtures that take long to make and live in one process: the tests that use one of them run in the same process
(``--dist loadgroup``)."""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that share something costly run in one process; those marked ``exhaustive`` only where ``-m`` names
    them."""
    for item in items:
        for name in COSTLY.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.xdist_group(name))
    if "exhaustive" in (config.option.markexpr or ""):
        return
    left = [item for item in items if item.get_closest_marker("exhaustive")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("exhaustive")]


def data_dir() -> Path | None:
    """The mirror of real data: ``CIPO_EVAL_DATA``, or ``shared/data`` beside the checkout if that exists."""
    if value := os.environ.get("CIPO_EVAL_DATA"):
        return Path(value)
    default = ROOT.parent / "shared" / "data"
    return default if default.is_dir() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real benchmark items and model outputs; the test is skipped where there is none."""
    found = data_dir()
    if found is None or not found.is_dir():
        pytest.skip("no real data here: set CIPO_EVAL_DATA to a folder in the layout of docs/data.md")
    return found


Once = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Once:
    """``once(name, make)``: the folder that ``make`` has filled, in the first process of the test run that asked. Tests
    must not change it."""
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    shared.mkdir(exist_ok=True)

    def folder(name: str, make: Callable[[Path], object]) -> Path:
        place, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                place.mkdir()
                make(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def tiny_checkpoint(once: Once) -> Path:
    """A tiny random base model that takes any text."""
    from tiny import make_checkpoint

    return once("tiny", lambda folder: make_checkpoint(folder / "tiny")) / "tiny"


@pytest.fixture
def cipo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """The command line, in a fresh working folder without data or network."""
    return Commands(capsys, monkeypatch, tmp_path)
