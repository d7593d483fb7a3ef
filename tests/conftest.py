"""Shared fixtures: where the real benchmark data is, tiny checkpoints made on the spot, and what is made once for all
processes of a test run. Which tests run where is said here, too (docs/testing.md)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from filelock import FileLock
from hypothesis import settings
from parts import examples

# No time limit per example: the first one may import a heavy library, and machines are shared. Of hypothesis's hundred.
settings.register_profile("no_deadline", deadline=None, max_examples=examples(100))
settings.load_profile("no_deadline")

ROOT = Path(__file__).resolve().parent.parent


TOGETHER = {
    "engines/test_vllm.py": "an engine",
    "sandbox/test_attacks.py": "all attacks, under way at once",
    "test_faults.py": "commands in a process that has imported everything",
    "test_turns.py": "a run of all protocols",
    "trainer/test_several_processes.py": "trainings of one, two and four processes",
}
"""Modules with fixtures that take long to make and live in one process: each module's tests run in one process."""
TOGETHER_FOLDERS = ("reports",)
"""Likewise, all modules of a folder: a study that is read once, a browser."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For ``-n``: tests go to whichever process is free, those of a module in ``TOGETHER`` to one. (xdist's own
    ``--dist loadgroup`` groups nothing with pytest 9.2: https://github.com/pytest-dev/pytest-xdist/issues/1386)"""
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0].removeprefix("tests/")
            folder = module.partition("/")[0]
            return folder if folder in TOGETHER_FOLDERS else module if module in TOGETHER else nodeid

    return Together(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests marked ``exhaustive`` run only where ``-m`` names them. Where processes share the tests, those marked
    ``slow`` come first: none is left when the others have done."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)
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


@pytest.fixture(scope="session")
def read_once() -> Callable[[Any, Any], Any]:
    """``tasks.read`` of real data, which takes five seconds of some code tasks, once for each definition and place."""
    from cipo_eval.data import tasks

    known: dict[tuple[str, str], Any] = {}
    read, real = tasks.read, data_dir()

    def read_or_recall(spec: Any, located: Any) -> Any:
        places = [located.place, *located.companions.values()]
        if real is None or not any(Path(place.path).is_relative_to(real) for place in places):
            return read(spec, located)
        key = (repr(spec), repr(located))
        if key not in known:
            known[key] = read(spec, located)
        return known[key]

    return read_or_recall


@pytest.fixture
def code_cache(
    request: pytest.FixtureRequest,
    once: Once,
    monkeypatch: pytest.MonkeyPatch,
    read_once: Callable[[Any, Any], Any],
) -> Path:
    """What is found out about the test sets of code tasks (it takes minutes), kept for the whole test run, and the
    problems of real data, for each process."""
    if "cipo" in request.fixturenames:
        request.getfixturevalue("cipo")  # which names a fresh one
    folder = once("code-cache", lambda _: None)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(folder))
    monkeypatch.setattr("cipo_eval.data.tasks.read", read_once)
    return folder


@pytest.fixture(params=["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def some_figures(request: pytest.FixtureRequest) -> Iterator[None]:
    """A report has a few of its figures, and with ``-m exhaustive`` all."""
    from reports.few import some_of_figures

    with some_of_figures(only=request.param == "some"):
        yield


@pytest.fixture
def cipo(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Commands:
    """The command line, in a fresh working folder without data or network."""
    return Commands(capsys, monkeypatch, tmp_path)
