"""What runs in an actor: it takes parcels, works at them in threads of its own, and answers polls with what is done.

One answer carries everything that was finished since the last one, so a cluster's traffic grows with time and not with
the number of samples; and an answer comes now and then though nothing is finished, by which a driver tells one that
works from one that hangs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BEAT_SECONDS = 1.0
"""At most between two answers."""
PASSED_ON = ("CIPO_EVAL_DATA", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "PYTHONPATH")
"""Variables that hold on nodes as they do for the driver. Keys are none of them: Ray would show them to everybody."""
GATHER_SECONDS = 0.02
"""Seconds that an answer waits for more, once something is finished."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """Where a driver works, for actors that are to find the same modules and files."""

    path: tuple[str, ...]
    folder: str
    variables: Mapping[str, str]
    """The environment variables of ``PASSED_ON`` that are set."""

    @classmethod
    def here(cls) -> Surroundings:
        """The surroundings of this process."""
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        return cls(tuple(place for place in sys.path if place), str(Path.cwd()), variables)

    def adopt(self) -> None:
        """Looks for modules there, too, and works in that folder, if it is on this machine; what is set here stays."""
        for name, value in self.variables.items():
            os.environ.setdefault(name, value)
        sys.path += [place for place in self.path if place not in sys.path]
        with contextlib.suppress(OSError):
            os.chdir(self.folder)


@dataclass(frozen=True, slots=True)
class Broken:
    """Why a station can do nothing more."""

    kind: str
    """``usage`` or ``missing``, as in ``cipo_eval.errors``, or ``fault`` for anything else."""
    why: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a station's work since its last answer. Plain data."""

    place: str
    """The machine that answers."""
    process: int
    """Its process there."""
    ready: Any
    """What the station says of itself, once it can work; None before."""
    finished: Sequence[tuple[int, int, Any]]
    """Parcel, part, and what came of it."""
    works_at: int
    """Parts that it works at at once; 0: it does not say."""
    progress: int
    """A number that grows as long as work goes on."""
    broken: Broken | None = None
    notes: Sequence[str] = ()
    """What it had to do otherwise than asked."""


class Station:
    """Derive from it: ``push`` what is asked for, ``put`` what is finished, ``begin`` in the constructor."""

    def __init__(self) -> None:
        self._place = os.uname().nodename
        self._changed = threading.Condition()
        self._finished: list[tuple[int, int, Any]] = []
        self._ready: Any = None
        self._told_ready = False
        self._broken: Broken | None = None
        self._count = 0

    def push(self, parcels: Sequence[tuple[int, Any]]) -> None:
        """Takes work: numbers and payloads."""
        raise NotImplementedError

    def pull(self) -> Answer:
        """What there is to say, at the latest after ``BEAT_SECONDS``."""
        with self._changed:
            self._changed.wait_for(self._news, BEAT_SECONDS)
            some = bool(self._finished)
        if some:
            time.sleep(GATHER_SECONDS)
        with self._changed:
            finished, self._finished = self._finished, []
            self._told_ready = self._ready is not None
            return Answer(
                place=self._place,
                process=os.getpid(),
                ready=self._ready,
                finished=finished,
                works_at=self.works_at(),
                progress=self._count + self.progress(),
                broken=self._broken,
                notes=self.notes(),
            )

    def works_at(self) -> int:
        """Parts that it works at at once; 0: not known."""
        return 0

    def progress(self) -> int:
        """A number that grows while it works at parts that are not finished; one that stays the same says nothing."""
        return 0

    def notes(self) -> Sequence[str]:
        """Lines on what it had to do otherwise than asked."""
        return ()

    def begin(self, ready: Any) -> None:
        """From now on it can work; ``ready`` says what it is."""
        with self._changed:
            self._ready = ready
            self._changed.notify_all()

    def put(self, number: int, part: int, result: Any) -> None:
        """A part is finished."""
        with self._changed:
            self._finished.append((number, part, result))
            self._count += 1
            self._changed.notify_all()

    def give_up(self, kind: str, why: str) -> None:
        """Says that the station can do nothing more, and why."""
        with self._changed:
            self._broken = Broken(kind, why)
            self._changed.notify_all()

    def _news(self) -> bool:
        untold = self._ready is not None and not self._told_ready
        return bool(self._finished or self._broken or untold)
