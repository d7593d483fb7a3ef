"""Whether the other processes of a training live.

A process that is killed is noticed by its launcher, and by whoever talks to it, at once. One that hangs, a machine that
is gone, or a launcher that was killed are not: the others would wait as long as they may wait for a process that is
only slow. So each process counts up in the launcher's store. Where one has not for ``SILENCE`` seconds, or the store is
gone, the others end. What they had written stays, and whole.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from datetime import timedelta
from typing import Any

EVERY = 5.0
"""Seconds between two beats."""
SILENCE = 40.0
"""Seconds without a beat after which a process counts as dead."""
STORE_WAIT = timedelta(seconds=10)
"""After that, a store that does not answer counts as gone."""


class Beats:
    """A context manager in which this process is heard by the others, and ends (exit code 1) when one of them is not
    heard any more. ``store``: a client of the launcher's store that nothing else uses. All processes enter it at about
    the same time."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._ended = threading.Event()
        self._count = 0
        self._heard: dict[int, tuple[bytes, float]] = {}
        """Of each other process that has begun, its last count, and since when it is that."""

    def __enter__(self) -> Beats:
        self._store.set_timeout(STORE_WAIT)
        self._answered = time.monotonic()
        for work in (self._talk, self._watch):  # some calls of a store never return where its host hangs
            threading.Thread(target=work, name="beats", daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()

    def _key(self, rank: int) -> str:
        return f"cipo_trainer/beats/{rank}"

    def _talk(self) -> None:
        """Beats, and hears the others."""
        others = [rank for rank in range(self._size) if rank != self._rank]
        while not self._ended.is_set():
            self._count += 1
            try:
                self._store.set(self._key(self._rank), str(self._count))
                begun = [rank for rank in others if self._store.check([self._key(rank)])]
                counts = self._store.multi_get([self._key(rank) for rank in begun])
            except Exception as error:  # torch raises several kinds
                self._end(f"the launcher's store is gone ({error})")
                return
            self._answered = now = time.monotonic()
            for rank, count in zip(begun, counts, strict=True):
                if rank not in self._heard or self._heard[rank][0] != count:
                    self._heard[rank] = count, now
            self._ended.wait(EVERY)

    def _watch(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(EVERY):
            now = time.monotonic()
            if (
                now - before > 3 * EVERY
            ):  # it was this process that was not there: the others have had no chance
                self._answered = now
                self._heard = {rank: (count, now) for rank, (count, _) in list(self._heard.items())}
            before = now
            if now - self._answered > SILENCE:
                self._end(f"the launcher's store has not answered for {SILENCE:.0f} s")
            for rank, (_, since) in list(self._heard.items()):
                if now - since > SILENCE:
                    self._end(f"process {rank} of {self._size} has not been heard of for {SILENCE:.0f} s")

    def _end(self, why: str) -> None:
        if self._ended.is_set():
            return
        with contextlib.suppress(OSError):
            os.write(2, f"cipo_trainer: process {self._rank}: {why}: ending\n".encode())
        os._exit(1)
