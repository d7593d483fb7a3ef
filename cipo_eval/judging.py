"""Verdicts under way: what stands between an engine that generates and a store that keeps.

One ``Judging`` serves one run: it bounds how many completions wait, stores each attempt the moment its verdict is
known, and puts what follows from it into the feed.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import TYPE_CHECKING

from cipo_eval.feed import Feed
from cipo_eval.protocols import DIRECT, PROTOCOLS
from cipo_eval.records import Attempt, AttemptKey, Completion, Mode, Request, Verdict, fingerprint
from cipo_eval.verifiers.pool import VerifierPool

if TYPE_CHECKING:
    from cipo_eval.runner import Progress, Run

IN_FLIGHT = 4096
"""Completions waiting for their verdict before generation pauses."""


class Judging:
    """Verdicts under way: bounded in number, each stored the moment it is known, in whichever thread that is.

    What follows from an attempt goes into the feed before the attempt counts as done.
    """

    def __init__(self, run: Run, pool: VerifierPool, progress: Progress, feed: Feed) -> None:
        self._run, self._pool, self._progress, self._feed = run, pool, progress, feed
        self._plans = {plan.name: plan for plan in run.plans}
        self._slots = threading.BoundedSemaphore(IN_FLIGHT)
        self._idle = threading.Condition()
        self.open = 0
        """Completions without a verdict."""
        self._error: BaseException | None = None

    def reserve(self) -> None:
        """Back-pressure: returns when one more completion may be submitted; raises what went wrong in storing one."""
        self._slots.acquire()
        self._raise()

    def submit(self, request: Request, sample: int, completion: Completion) -> None:
        """Hands one completion over, within a reserved place."""
        with self._idle:
            self.open += 1
        future = self._pool.submit(
            self._plans[request.problem.task].problems.spec.verifier,
            request.problem,
            completion.text,
            completion.finish_reason,
            self._run.modes,
        )
        future.add_done_callback(lambda done: self._finish(done, request, sample, completion))

    def wait(self) -> None:
        """Returns when every submitted completion is stored; raises what went wrong in storing one."""
        with self._idle:
            while self.open:
                self._idle.wait(0.2)
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _finish(
        self, done: Future[dict[Mode, Verdict]], request: Request, sample: int, completion: Completion
    ) -> None:
        try:
            if not done.cancelled() and self._error is None:
                attempt = _attempt(request, sample, completion, done.result())
                self._run.keep(attempt, self._progress)
                plan = self._plans[attempt.task]
                more = self._run.following(plan, request.problem, attempt, {}, request.history)
                self._progress.total += len(more)
                self._feed.add(more)
        except BaseException as error:  # a full disk, say: raised in the main thread
            self._error = error
            self._feed.end()
        finally:
            self._feed.done()
            self._slots.release()
            with self._idle:
                self.open -= 1
                self._idle.notify_all()


def _attempt(
    request: Request, sample: int, completion: Completion, verdicts: Mapping[Mode, Verdict]
) -> Attempt:
    before = DIRECT if request.turn == 2 and PROTOCOLS[request.protocol].own else request.protocol
    parent = AttemptKey(request.problem.task, request.problem.id, before, sample, request.turn - 1)
    return Attempt(
        task=request.problem.task,
        problem=request.problem.id,
        protocol=request.protocol,
        sample=sample,
        turn=request.turn,
        parent=str(parent) if request.turn > 1 else None,
        prompt_hash=fingerprint(list(request.messages)),
        seed=request.seeds[request.samples.index(sample)] if request.messages else None,
        text=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        verdicts={mode.value: verdict for mode, verdict in verdicts.items()},
    )
