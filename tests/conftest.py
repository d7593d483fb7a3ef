"""Shared fixtures: where the real benchmark data is, and tiny checkpoints made on the spot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import Commands
from hypothesis import settings

# No time limit per example: the first one may import a heavy library, and machines are shared.
settings.register_profile("no_deadline", deadline=None)
settings.load_profile("no_deadline")

ROOT = Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``exhaustive`` run only where ``-m`` names them."""
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


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model that takes any text."""
    from tiny import make_checkpoint

    return make_checkpoint(tmp_path_factory.mktemp("checkpoints") / "tiny")


@pytest.fixture
def cipo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """The command line, in a fresh working folder without data or network."""
    return Commands(capsys, monkeypatch, tmp_path)
