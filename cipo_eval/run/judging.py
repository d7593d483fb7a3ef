"""Verdicts under way: what stands between an engine that generates and a store that keeps.

One ``Judging`` serves one run: it bounds how many completions wait, stores each attempt the moment its verdict is
known, and puts what follows from it into the feed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cipo_eval.engines.feed import Feed
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, AttemptKey, Completion, Mode, Request, Verdict, fingerprint
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_eval.verifiers import critique
from cipo_eval.verifiers.critique import Form
from cipo_eval.verifiers.pool import VerifierPool

if TYPE_CHECKING:
    from cipo_eval.interrupts import Interrupts
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.runner import Progress, Run

IN_FLIGHT = 4096
"""Completions waiting for their verdict before generation pauses."""


@dataclass(frozen=True, slots=True, eq=False)
class _Submitted:
    """A completion that waits for its verdict, itself and no equal one."""

    request: Request
    sample: int
    completion: Completion
    label: bool | None


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
        """Completions that are neither stored nor given up."""
        self._waiting: set[_Submitted] = set()
        """Those that nobody has begun to store."""
        self._error: BaseException | None = None

    def reserve(self) -> None:
        """Back-pressure: returns when one more completion may be submitted; raises what went wrong in storing one."""
        self._slots.acquire()
        self._raise()

    def skip(self) -> None:
        """Gives a reserved place back: the sample that it was for will not come."""
        self._feed.done()
        self._slots.release()

    def submit(
        self, request: Request, sample: int, completion: Completion, label: bool | None = None
    ) -> None:
        """Hands one completion over, within a reserved place; ``label``: whether it is right according to its pool."""
        one = _Submitted(request, sample, completion, label)
        with self._idle:
            self._waiting.add(one)
            self.open += 1
            self._progress.judging = self.open
        future = self._verdicts(request, completion)
        future.add_done_callback(lambda done: self._finish(done, one))

    def _verdicts(self, request: Request, completion: Completion) -> Future[dict[Mode, Verdict]]:
        plan = self._plans[request.problem.task]
        if not PROTOCOLS[request.protocol].is_judgement(request.turn):
            verifier = plan.problems.spec.verifier
            said = completion.text, completion.finish_reason
            return self._pool.submit(verifier, request.problem, *said, self._run.modes)
        read: Future[dict[Mode, Verdict]] = Future()  # takes no time: no worker is needed
        read.set_result(
            judgement(
                completion.text,
                completion.finish_reason,
                plan.revising.critique_form,
                request.history[-1].verdicts,
                plan.think,
            )
        )
        return read

    def wait(self, seconds: float | None = None) -> None:
        """Returns when every submitted completion is stored, at the latest after so many seconds; raises what went
        wrong in storing one."""
        end = None if seconds is None else time.monotonic() + seconds
        with self._idle:
            while self.open and (end is None or time.monotonic() < end):
                self._idle.wait(0.2)
        self._raise()

    def shelve(self) -> None:
        """Stores what still waits without a verdict: the next start judges it and need not generate it again.

        What came with a pool is there anyway.
        """
        for one in list(self._waiting):
            if self._take(one) and one.request.messages:
                self._run.keep(_attempt(one.request, one.sample, one.completion, {}), self._progress)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _take(self, one: _Submitted) -> bool:
        """Whether a completion is the caller's to store: each is stored once."""
        with self._idle:
            if one not in self._waiting:
                return False
            self._waiting.remove(one)
            return True

    def _finish(self, done: Future[dict[Mode, Verdict]], one: _Submitted) -> None:
        try:
            if not done.cancelled() and self._error is None and self._take(one):
                self._store(one, done.result())
        except BaseException as error:  # a full disk, say: raised in the main thread
            self._error = error
            self._feed.end()
        finally:
            self._feed.done()
            self._slots.release()
            with self._idle:
                self.open -= 1
                self._progress.judging = self.open
                self._idle.notify_all()

    def _store(self, one: _Submitted, found: Mapping[Mode, Verdict]) -> None:
        request = one.request
        verdicts = {mode: labelled(verdict, one.label) for mode, verdict in found.items()}
        attempt = _attempt(request, one.sample, one.completion, verdicts)
        self._run.keep(attempt, self._progress)
        plan = self._plans[attempt.task]
        more = self._run.following(plan, request.problem, attempt, {}, request.history)
        self._progress.total += len(more)
        self._feed.add(more)


def judgement(
    text: str, finish_reason: str | None, form: Form, response: Mapping[str, Verdict], think: str
) -> dict[Mode, Verdict]:
    """The verdict on a judgement, in each mode in which there is one on the response that it is about."""
    return {
        Mode(mode): critique.verdict(text, finish_reason, form, Mode(mode), verdict, think)
        for mode, verdict in response.items()
    }


def judged_again(
    plan: TaskPlan,
    loaded: Mapping[AttemptKey, Attempt],
    pool: VerifierPool,
    modes: Sequence[Mode],
    interrupts: Interrupts,
    fresh: Mapping[AttemptKey, Attempt],
) -> Iterator[tuple[Attempt, Mapping[Mode, Verdict]]]:
    """New verdicts of all attempts, then of the judgements of them (``fresh``: attempts with new verdicts). Raises
    ``UsageError`` for attempts at problems that the data does not have."""
    problems = {p.id: p for p in plan.all_problems}
    unknown = sorted({a.problem for a in loaded.values() if a.problem not in problems})
    if unknown:
        raise UsageError(
            f"{plan.name}: attempts at problems that the data does not have: {', '.join(unknown[:5])}"
        )
    judgements = [a for a in loaded.values() if PROTOCOLS[a.protocol].is_judgement(a.turn)]
    verifier = plan.problems.spec.verifier
    under_way = [
        (a, pool.submit(verifier, problems[a.problem], a.text, a.finish_reason, modes))
        for a in loaded.values()
        if not PROTOCOLS[a.protocol].is_judgement(a.turn)
    ]
    for attempt, future in under_way:
        with interrupts.allowed():
            found = future.result()
        label = next((v.report.get("label") for v in attempt.verdicts.values()), None)
        yield attempt, {mode: labelled(verdict, label) for mode, verdict in found.items()}
    for said in judgements:
        response = fresh[said.key._replace(turn=said.turn - 1)]
        yield (
            said,
            judgement(
                said.text, said.finish_reason, plan.revising.critique_form, response.verdicts, plan.think
            ),
        )


def labelled(verdict: Verdict, label: bool | None) -> Verdict:
    """With what a pool says of the attempt."""
    return verdict if label is None else replace(verdict, report={**verdict.report, "label": label})


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
        # an attempt that nobody was asked for here is known by its text
        prompt_hash=completion.prompt_hash or fingerprint(list(request.messages) or completion.text),
        seed=request.seeds[request.samples.index(sample)] if request.messages else None,
        text=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        verdicts={mode.value: verdict for mode, verdict in verdicts.items()},
        left_out=completion.left_out,
    )
