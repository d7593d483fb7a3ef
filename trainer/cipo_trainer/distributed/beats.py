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

    def __enter__(self) -> Beats:
        self._store.set_timeout(STORE_WAIT)
        self._thread = threading.Thread(target=self._run, name="beats", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join(timeout=STORE_WAIT.total_seconds())

    def _key(self, rank: int) -> str:
        return f"cipo_trainer/beats/{rank}"

    def _run(self) -> None:
        heard: dict[int, tuple[bytes, float]] = {}
        before = time.monotonic()
        while not self._ended.is_set():
            try:
                counts = self._exchanged()
            except Exception as error:  # torch raises several kinds
                if not self._ended.is_set():
                    self._end(f"the launcher's store is gone ({error})")
                return
            now = time.monotonic()
            if (
                now - before > 3 * EVERY
            ):  # it was this process that was not there: the others have had no chance
                heard.clear()
            before = now
            for rank, count in counts.items():
                if rank not in heard or heard[rank][0] != count:
                    heard[rank] = count, now
            silent = [rank for rank, (_, since) in heard.items() if now - since > SILENCE]
            if silent and not self._ended.is_set():
                self._end(f"process {silent[0]} of {self._size} has not been heard of for {SILENCE:.0f} s")
            self._ended.wait(EVERY)

    def _exchanged(self) -> dict[int, bytes]:
        """Beats, and hears the others; those that have not begun are left out."""
        self._count += 1
        self._store.set(self._key(self._rank), str(self._count))
        others = [rank for rank in range(self._size) if rank != self._rank]
        begun = [rank for rank in others if self._store.check([self._key(rank)])]
        return dict(zip(begun, self._store.multi_get([self._key(rank) for rank in begun]), strict=True))

    def _end(self, why: str) -> None:
        with contextlib.suppress(OSError):
            os.write(2, f"cipo_trainer: process {self._rank}: {why}: ending\n".encode())
        os._exit(1)
