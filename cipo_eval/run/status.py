"""How far runs are, told from outside while they run: who works at a directory writes down every few seconds how far
it is, and anybody may read it, also on another machine.

``progress.json`` is written whole or not at all, from a few seconds after the beginning on, and is gone when the run
has come to its end: then ``results.json`` says everything. Where it stands still its writer was killed. Reading takes
no lock and writes nothing.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from cipo_eval.errors import CipoError
from cipo_eval.files import count_lines, write_json
from cipo_eval.run.progress import Progress
from cipo_eval.run.shards import Shard, stored_shard
from cipo_eval.run.ticks import every
from cipo_eval.storage.store import attempts_path, read_info

FILE = "progress.json"
"""The file in a run directory that says how far the run is."""
FIRST_SECONDS, SECONDS = 2.0, 5.0
"""Seconds until the file is written for the first time, and between two times."""
SILENT_SECONDS = 60.0
"""Seconds without a word after which a writer on another machine is taken to be gone."""
WINDOW_SECONDS = 120.0
"""Seconds over which the rate is measured, the last ones."""


class State(StrEnum):
    """What became of a run so far."""

    NOT_STARTED = "not started"
    """The directory is not there, or is empty."""
    STARTING = "starting"
    """Its model is being loaded, or it was killed at that."""
    RUNNING = "running"
    """A process works at it."""
    INTERRUPTED = "interrupted"
    """It ended itself before it was done: a signal, or an error."""
    GONE = "gone"
    """Its writer was killed, or its machine is."""
    UNFINISHED = "unfinished"
    """It has no results, and no process says that it works at it."""
    DONE = "done"
    """Its results are there."""
    DAMAGED = "damaged"
    """A file of it cannot be read."""


@dataclass(slots=True)
class Status:
    """How far one run directory is."""

    run: str
    """The run directory, as it was named."""
    state: State
    shard: Shard | None = None
    """The part of a run that it is; None: a whole run."""
    split: str | None = None
    """Fingerprint of the split: shards that have the same belong together."""
    tasks: dict[str, dict[str, int]] = field(default_factory=dict)
    """By task, the attempts that are ``done`` and ``wanted``: those of later turns as far as they are known to follow;
    of a run that is done, first attempts only."""
    failed: int = 0
    """Samples that the engine could not get, in the call that is under way."""
    rate: float | None = None
    """Attempts per second; None: not running, or not known yet."""
    seconds_left: float | None = None
    """Estimated seconds until the run is done; None: not running, or not known yet."""
    writer: dict[str, Any] = field(default_factory=dict)
    """The process that works at it: ``host``, ``pid`` and, of a job of a batch system, ``job``."""
    note: str = ""
    """What else a user should know; empty: nothing."""

    @property
    def done(self) -> int:
        """Attempts that are done, of all tasks."""
        return sum(task["done"] for task in self.tasks.values())

    @property
    def wanted(self) -> int:
        """Attempts that are wanted, of all tasks."""
        return sum(task["wanted"] for task in self.tasks.values())

    def to_json(self) -> dict[str, Any]:
        """The values that ``cipo-eval status --json`` prints."""
        values = {name: value for name, value in asdict(self).items() if name not in ("shard", "split")}
        return {
            **values,
            "state": self.state.value,
            "shard": str(self.shard) if self.shard else None,
            "done": self.done,
            "wanted": self.wanted,
        }


# --- writing -------------------------------------------------------------------------------------------------


class ProgressFile:
    """What a run writes into ``progress.json``: its counts, its rate, and who writes."""

    def __init__(self, folder: Path) -> None:
        self.progress: Progress | None = None
        self._path = folder / FILE
        self._seen: deque[tuple[float, int]] = deque()

    def write(self, state: State = State.RUNNING) -> None:
        """Writes the file. Never raises for the disk: one that is full or gone is noticed by who writes attempts."""
        progress = self.progress
        if progress is None:
            return
        now = time.monotonic()
        self._seen.append((now, progress.done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_SECONDS:
            self._seen.popleft()
        (then, before), (_, done) = self._seen[0], self._seen[-1]
        rate = (done - before) / (now - then) if done > before else None
        left = max(0, progress.total - done)
        wanted = dict(progress.wanted_of)  # the run's thread changes it
        values = {
            **_self(),
            "state": state.value,
            "tasks": {name: {"done": progress.done_of[name], "wanted": wanted[name]} for name in wanted},
            "failed": progress.failed,
            "rate": rate,
            "seconds_left": left / rate if rate else None,
        }
        with suppress(OSError):
            write_json(self._path, values)


def begin(folder: Path) -> None:
    """Says of a run that it is starting, in place of what an earlier call said that was broken off."""
    if (folder / FILE).exists():
        with suppress(OSError):
            write_json(folder / FILE, {**_self(), "state": State.STARTING.value})


@contextmanager
def kept_up(folder: Path) -> Iterator[ProgressFile]:
    """While the block runs, says every few seconds how far its run is; afterwards only where it did not end well."""
    file = ProgressFile(folder)
    try:
        with every(FIRST_SECONDS, SECONDS, file.write):
            yield file
    except BaseException:
        file.write(State.INTERRUPTED)
        raise
    with suppress(OSError):
        (folder / FILE).unlink(missing_ok=True)


def _self() -> dict[str, Any]:
    """Who writes, and when."""
    writer = {"host": socket.gethostname(), "pid": os.getpid(), "life": _life(os.getpid())}
    if job := os.environ.get("SLURM_JOB_ID"):
        array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
        writer["job"] = f"{array}_{task}" if array and task else job
    return {"at": time.time(), "writer": writer}


def _life(pid: int) -> str | None:
    """What tells a process from every other that has or had its number, on this machine and on others; None where it is
    not there."""
    try:
        started = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
        return f"{_machine()} {started}"
    except (OSError, IndexError):
        return None


def _machine() -> str:
    """This machine since it was started, as far as its processes see each other."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return f"{boot} {Path('/proc/self/ns/pid').readlink()}"


# --- reading -------------------------------------------------------------------------------------------------


def status(run: Path) -> Status:
    """How far a run directory is. Never raises for what is not there, or damaged."""
    current = Status(run=str(run), state=State.NOT_STARTED)
    if not (run / "run.json").exists():
        if named := re.search(r"\.shard-(\d+)-of-(\d+)$", run.name):
            with suppress(ValueError):
                current.shard = Shard.of(f"{named[1]}/{named[2]}")
        if (run / "run.lock").exists():
            current.state = State.STARTING
        return current
    try:
        info = read_info(run)
        current.shard, current.split = stored_shard(info), info.get("shard", {}).get("split")
        if (progress := _read_progress(run)) is not None:
            _take(current, progress)
        else:
            _look(current, run, info)
    except (CipoError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        current.state, current.note = State.DAMAGED, f"{error}"
    return current


def _read_progress(run: Path) -> dict[str, Any] | None:
    """What the writer wrote last; None where the file is not there. Raises ``ValueError`` for a damaged one."""
    try:
        progress = json.loads((run / FILE).read_bytes())
    except FileNotFoundError:
        return None
    if not isinstance(progress, dict):
        raise ValueError(f"{FILE} holds no object")
    return progress


def _take(current: Status, progress: Mapping[str, Any]) -> None:
    writer = progress["writer"]
    current.writer = {name: writer[name] for name in ("host", "pid", "job") if name in writer}
    current.state = State(progress["state"])
    for name, counts in progress.get("tasks", {}).items():
        current.tasks[name] = {"done": int(counts["done"]), "wanted": int(counts["wanted"])}
    current.failed = int(progress.get("failed", 0))
    if current.state is State.INTERRUPTED:
        return
    here = str(writer.get("life") or "").startswith(_machine())
    silent = time.time() - float(progress["at"])
    if here and _life(int(writer["pid"])) != writer["life"]:
        current.state, current.note = State.GONE, "its process is not there: the same command goes on"
    elif not here and silent > SILENT_SECONDS:
        current.state, current.note = (
            State.GONE,
            f"nothing heard for {silent:.0f} s: the same command goes on",
        )
    elif current.state is State.RUNNING:
        current.rate, current.seconds_left = progress.get("rate"), progress.get("seconds_left")


def _look(current: Status, run: Path, info: Mapping[str, Any]) -> None:
    """Sets the state and the counts by the run's files, where no ``progress.json`` is there."""
    try:
        blocks = json.loads((run / "results.json").read_bytes())["tasks"]
    except FileNotFoundError:
        blocks = {}
    mode = info["modes"][0]
    for name in info["tasks"]:
        block = blocks.get(name)
        if block is None:
            current.tasks[name] = dict.fromkeys(("done", "wanted"), count_lines(attempts_path(run, name)))
            continue
        done = block[mode]["attempts"] if mode in block else count_lines(attempts_path(run, name))
        current.tasks[name] = {"done": done, "wanted": done + block["missing_attempts"]}
    current.state = State.DONE if blocks.keys() >= info["tasks"].keys() else State.UNFINISHED
    if current.state is State.UNFINISHED:
        current.note = "how much is wanted is not known: the same command goes on"


def missing_shards(statuses: Sequence[Status]) -> list[str]:
    """Shards that none of the directories is of, where some of them are shards."""
    count = max((status.shard.count for status in statuses if status.shard), default=0)
    there = {status.shard.index for status in statuses if status.shard and status.shard.count == count}
    return [f"{Shard(index, count)}" for index in range(1, count + 1) if index not in there]
