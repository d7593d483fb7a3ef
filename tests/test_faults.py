"""The fault matrix of docs/run.md: signal or death × place × moment. No fault is a verdict, loses or doubles one.

Every commit meets every signal, every place and every moment, but not every combination of them: those are for
``-m exhaustive``.

Each cell meets the command where it says that it is: about to load its problems, judging (a verifier that says
where it is and waits to be let go), or about to make its results.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forks import Runs
from parts import cells

MOMENTS = ("loading", "judging", "results")
PLACES = ("process", "group")
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
POOL_PLACES = ("worker", "fork server", "both")
POOL_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL, signal.SIGSTOP)
SOON = 5.0
"""Seconds that a command has after a signal."""
ANSWERS = 12
DEFINITION = """
include: _cipo_math.yaml
task: own
metadata:
  cipo:
    verifier: 'verifiers.faulty:FaultyVerifier'
    columns: {question: question, gold: answer, id: id}
    sources: [{kind: embedded, path: items.jsonl}]
"""


def until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Bench:
    """One command, ``score``, in a folder of its own, of which one answer is held."""

    def __init__(self, folder: Path, runs: Runs, held: Path) -> None:
        self.folder, self.runs, self.rows = folder, runs, folder / "rows.jsonl"
        self.judging = folder / "judging"
        self.places = {"judging": self.judging, "loading": held / "loading", "results": held / "results"}
        rows = [{"id": f"p{i}", "question": "?", "answer": f"{i}"} for i in range(ANSWERS)]
        (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / "own.yaml").write_text(DEFINITION)
        answers = [f"hold {self.judging}", *(f"{i - i % 2}" for i in range(1, ANSWERS))]
        texts = [{"problem_id": f"p{i}", "text": text} for i, text in enumerate(answers)]
        self.rows.write_text("".join(json.dumps(row) + "\n" for row in texts))
        self.let_go(self.places["loading"])
        self.let_go(self.places["results"])

    def start(self) -> int:
        command = [
            "score",
            self.rows,
            "--task",
            self.folder / "own.yaml",
            "-o",
            self.folder / "run",
            "--quiet",
        ]
        return self.runs.start([*map(str, command), "--verifier-workers", "2"])

    def let_go(self, place: Path) -> None:
        place.with_suffix(".go").touch()

    def hold(self, place: Path) -> None:
        place.unlink(missing_ok=True)
        place.with_suffix(".go").unlink(missing_ok=True)

    def start_until(self, moment: str) -> int:
        """The command's process id, at this moment of its work."""
        place = self.places[moment]
        if moment == "results":
            self.let_go(self.judging)
        self.hold(place)
        child = self.start()
        until(place.exists)
        if moment == "judging":  # all but the one that is held are stored
            until(lambda: len(self.stored()) >= ANSWERS - 1)
        return child

    def stored(self) -> list[dict[str, object]]:
        path = self.folder / "run" / "attempts" / "own.jsonl"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def states(self) -> dict[str, str]:
        """By problem; every one has one verdict, whatever became of it before."""
        judged = [row for row in self.stored() if row["verdicts"]]
        assert max(Counter(str(row["problem"]) for row in judged).values()) == 1
        return {str(row["problem"]): row["verdicts"]["fixed"]["state"] for row in judged}  # type: ignore[index]

    def finish(self) -> None:
        """The same command again, undisturbed, ends as it would have ended at once."""
        for place in self.places.values():
            self.let_go(place)
        self.start()
        assert self.runs.wait() == 0
        self.check()

    def check(self) -> None:
        wanted = {f"p{i}": "incorrect" if i % 2 or i == 0 else "correct" for i in range(ANSWERS)}
        assert self.states() == wanted
        block = json.loads((self.folder / "run" / "results.json").read_text())["tasks"]["own"]
        assert block["missing_attempts"] == 0
        assert "verifier_error" not in json.dumps(self.stored())


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Runs, Path]]:
    folder = tmp_path_factory.mktemp("warm")
    runs = Runs(folder, hold=folder)
    yield runs, folder
    runs.close()


@pytest.fixture
def bench(tmp_path: Path, warm: tuple[Runs, Path]) -> Bench:
    return Bench(tmp_path, *warm)


def usual(number: signal.Signals, place: str, moment: str) -> bool:
    """Ctrl-C and kill -9 while answers are judged: what happens most."""
    return number in (signal.SIGINT, signal.SIGKILL) and (place, moment) == ("process", "judging")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "place", "moment"), cells(SIGNALS, PLACES, MOMENTS, one_in=4, always=usual)
)
def test_signals(bench: Bench, number: signal.Signals, place: str, moment: str) -> None:
    child = bench.start_until(moment)
    started = time.monotonic()
    if place == "process":
        os.kill(child, number)
    else:
        os.killpg(child, number)
    assert bench.runs.wait() == (-number if number is signal.SIGKILL else 128 + number)
    seconds = time.monotonic() - started
    print(f"{number.name} to the {place}, {moment}: {seconds:.1f} s")
    assert seconds < SOON
    assert "verifier_error" not in json.dumps(bench.stored())
    bench.finish()


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("number", "place"), cells(POOL_SIGNALS, POOL_PLACES, one_in=3))
def test_processes_of_the_pool(bench: Bench, number: signal.Signals, place: str) -> None:
    """The run goes on and ends well by itself. A server that is stopped and not needed may stay so."""
    child = bench.start_until("judging")
    worker = int(bench.judging.read_text())
    (server,) = children(child)
    for process in {"worker": [worker], "fork server": [server], "both": [server, worker]}[place]:
        os.kill(process, number)
    if place != "fork server" and number in (signal.SIGKILL, signal.SIGSTOP):
        started = time.monotonic()
        until(lambda: bench.judging.read_text().count("\n") > 1)
        print(f"{number.name} to {place}: {time.monotonic() - started:.1f} s")
    bench.let_go(bench.judging)
    assert bench.runs.wait() == 0
    bench.check()


@pytest.mark.slow
def test_a_second_signal_ends_it_at_once(bench: Bench) -> None:
    child = bench.start_until("judging")
    started = time.monotonic()
    for _ in range(2):
        os.kill(child, signal.SIGINT)
        time.sleep(0.4)
    assert bench.runs.wait() == 130
    assert time.monotonic() - started < 2.5
    bench.finish()
