"""A pool without workers of its own, for a process that is one: it grades what is quick where it is.

Whatever takes long, fails or may hang is left to the pool that this process works for, which can kill its workers.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from concurrent.futures import Future

from cipo_eval.records import Grade
from cipo_eval.verifiers.pool import GradingKey, GradingWorkers, VerifierPool
from cipo_eval.verifiers.server import grade


class LeftOpenError(Exception):
    """An answer that has to be graded elsewhere."""


class InPlacePool(VerifierPool):
    """Judges as any other pool does, in this process. ``judge`` raises ``LeftOpenError`` for what is left to others."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self._here = _Here()

    def begin(self, slow: Collection[GradingKey], seconds: float, time_limit: float) -> None:
        """For the next answers: those known to be slow, how long to go on grading new ones, and processor seconds that
        each grading may take where its verifier does not say so."""
        self._problems.clear()  # by identity: those of earlier answers are gone
        self.time_limit = time_limit
        self._here.slow, self._here.end = slow, time.monotonic() + seconds

    def _start_workers(self) -> GradingWorkers:
        return self._here


class _Here:
    """``GradingWorkers`` in this process."""

    def __init__(self) -> None:
        self.slow: Collection[GradingKey] = ()
        self.end = 0.0

    def submit(self, arguments: GradingKey, limit: float) -> Future[tuple[Grade, float]]:
        """As ``Workers.submit``, but the future is done when this returns. Raises ``LeftOpenError``."""
        if arguments in self.slow or time.monotonic() > self.end:
            raise LeftOpenError
        started = time.process_time()
        try:
            graded = grade(*arguments)
        except Exception as error:
            raise LeftOpenError from error
        if graded[0].failed or time.process_time() - started > limit:
            raise LeftOpenError
        done: Future[tuple[Grade, float]] = Future()
        done.set_result(graded)
        return done

    def close(self, *, wait: bool = False) -> None:
        """Does nothing: there are no worker processes to end."""
