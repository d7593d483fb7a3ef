"""The one pool of killable worker processes in which answers are judged.

``extract`` runs in the calling process (linear, evaluates nothing); each distinct (gold, answer, options, mode) is then
graded once, in a worker (``workers``) that is killed when it exceeds the time limit: symbolic mathematics on hostile
input cannot be interrupted from inside (signal-based limits work in main threads only, and not at all inside one long C
call). The limit is processor time, so that a verdict does not depend on what else the machine does.

A worker that dies costs nothing: its answer is judged again. An answer of which two die is a ``verifier_error``, one
that exceeds the limit a ``verifier_timeout``, unless the reference that a mode follows gives up on such answers, too:
then its verdict counts (``Verifier.overdue``).
"""

from __future__ import annotations

import atexit
import json
import os
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError, TimeoutError
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeGuard

from cipo_eval.errors import MissingError, UsageError, nearest
from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State, Verdict, Verifier
from cipo_eval.verifiers import get_verifier
from cipo_eval.verifiers.workers import Workers

TIME_LIMIT = 10.0
"""Processor seconds that one grading may take before its worker is killed."""
SLEEP_FACTOR, SLEEP_SECONDS = 10.0, 60.0
"""Wall seconds that a grading may sleep: the factor times its limit of processor seconds, and so many at least."""
MEMORY_LIMIT = 4 << 30
"""Bytes of address space of a worker."""
MEMO_SIZE = 200_000
"""Distinct gradings remembered; the oldest are forgotten first."""
SLOW_SECONDS, MOST_SLOW = 0.5, 4096
"""Seconds from which on a grading is noted as slow, as is one without a grade; and how many are noted at most."""

GradingKey = tuple[str, str, str, str, Mode]
"""Verifier, gold, answer, options as JSON, and mode: all that a grading depends on."""
_Settled = Verdict | MissingError | None
"""Of one mode: a verdict, why there can be none, or None where the pool was closed before it."""


_Graded = tuple[Grade, float]
"""A grade and the processor seconds that it took."""


class _Asked(NamedTuple):
    """What a problem asks of its verifier in one mode."""

    problem: Problem
    verifier: Verifier
    options: str
    """As JSON."""
    limit: float
    """Processor seconds of a grading."""
    late: Grade | None
    """The grade of one that exceeds the limit; None: it has no verdict then."""


class _Grading(NamedTuple):
    """A grading under way, or done."""

    done: Future[_Graded] | _Graded
    extraction: Extraction
    seconds: float
    """That the extraction took."""
    limit: float
    late: Grade | None


class GradingWorkers(Protocol):
    """Who grades: ``Workers`` here, or processes elsewhere (``ray_pool``)."""

    def submit(self, arguments: GradingKey, limit: float) -> Future[tuple[Grade, float]]:
        """A future of the grade and the seconds that it took; ``limit``: processor seconds. See ``Workers.submit``."""
        ...

    def close(self, *, wait: bool = False) -> None:
        """Kills the workers; with ``wait``, once everything that was submitted has a result."""
        ...


class VerifierPool:
    """Judges completions in ``workers`` processes; usable from any thread; a context manager."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
        wall_limit: float | None = None,
    ) -> None:
        """``time_limit``: processor seconds of one grading; ``wall_limit``: seconds that it may sleep (default: far
        more); ``memory_limit``: bytes of address space of a worker."""
        self.workers = workers or min(os.cpu_count() or 1, 16)
        self.time_limit = time_limit
        self._memory_limit, self._wall_limit = memory_limit, wall_limit
        self._lock = threading.Lock()
        self._memo: dict[GradingKey, Future[_Graded] | _Graded] = {}
        self._verifiers: dict[str, Verifier] = {}
        self._problems: dict[tuple[int, str, Mode], _Asked] = {}
        self._pool: GradingWorkers | None = None
        self.graded = 0
        """Gradings sent to workers; the rest came from the memo or needed none."""
        self.slow: set[GradingKey] = set()
        """Gradings that took long, or came to no end."""
        _pools.add(self)

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self, *, wait: bool = False) -> None:
        """Kills the workers; with ``wait``, after they have finished what was submitted."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._memo.clear()
        if pool is not None:
            pool.close(wait=wait)

    def forget(self) -> None:
        """In a fork of the process whose pool it was: its workers are the parent's. What is judged from now on gets new
        ones; grades that were known stay known."""
        self._lock = threading.Lock()
        pool, self._pool = self._pool, None
        if isinstance(pool, Workers):
            pool.forget()
        self._memo = {key: done for key, done in self._memo.items() if not isinstance(done, Future)}

    def submit(
        self,
        verifier: str,
        problem: Problem,
        text: str,
        finish_reason: str | None,
        modes: Sequence[Mode],
    ) -> Future[dict[Mode, Verdict]]:
        """A future of the verdict in each mode. Never raises for what the model wrote; closing the pool cancels it.

        ``finish_reason``: a ``FinishReason``, or a word that names one; so are ``modes``: ``UsageError`` for a word
        that names none. The future's exception is a ``MissingError`` where no worker process can be started.
        """
        verdicts = self.judge(verifier, problem, text, finish_reason, modes)
        if isinstance(verdicts, Future):
            return verdicts
        result: Future[dict[Mode, Verdict]] = Future()
        result.set_result(verdicts)
        return result

    def judge(
        self,
        verifier: str,
        problem: Problem,
        text: str,
        finish_reason: str | None,
        modes: Sequence[Mode],
    ) -> dict[Mode, Verdict] | Future[dict[Mode, Verdict]]:
        """As ``submit``, with no future around verdicts that are known already: of most completions somebody has given
        the same answer before."""
        if finish_reason is None or finish_reason.__class__ is FinishReason:
            reason = finish_reason
        else:
            reason = FinishReason(finish_reason)
        begun: dict[Mode, Verdict | _Grading] = {}
        open_ones: list[Future[_Graded]] = []
        for mode in modes:
            if mode.__class__ is not Mode:
                mode = _mode(mode)
            begun[mode] = grading = self._begin(verifier, problem, text, reason, mode)
            if isinstance(grading, _Grading) and isinstance(done := grading.done, Future) and not done.done():
                open_ones.append(done)
        if not open_ones:
            outcomes = {mode: self._settled(grading) for mode, grading in begun.items()}
            if _all_known(outcomes):
                return outcomes
            result: Future[dict[Mode, Verdict]] = Future()
            _settle(result, outcomes)
            return result
        result = Future()
        lock, left = threading.Lock(), len(open_ones)

        def one_less(_: Future[_Graded]) -> None:
            nonlocal left
            with lock:
                left -= 1
                if left:
                    return
            _settle(result, {mode: self._settled(grading) for mode, grading in begun.items()})

        for done in open_ones:
            done.add_done_callback(one_less)
        return result

    def verify(
        self,
        verifier: str,
        problem: Problem,
        text: str,
        finish_reason: str | None = None,
        mode: Mode = Mode.FIXED,
    ) -> Verdict:
        """The verdict on one completion, waiting for it. Raises as ``submit``."""
        return self.submit(verifier, problem, text, finish_reason, (mode,)).result()[mode]

    def call(self, call: Callable[..., Any], arguments: tuple[Any, ...], limit: float) -> Future[Any]:
        """A future of what a function returns in a worker, as ``Workers.submit``: for what judges many answers at once
        (``InPlacePool``)."""
        with self._lock:
            if self._pool is None:
                self._pool = self._start_workers()
            if not isinstance(self._pool, Workers):
                raise TypeError("workers elsewhere grade, and do nothing else")
            return self._pool.submit(arguments, limit, call)

    def is_quick(self, verifier: str) -> bool:
        """Whether a verifier grades most answers in milliseconds, so that a worker may judge many of them in a row."""
        return bool(getattr(self._verifier(verifier), "quick", False))

    def _begin(
        self, name: str, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Verdict | _Grading:
        """The verdict where it needs no grading, else the grading under way, or done before."""
        if finish_reason == FinishReason.CONTENT_FILTER:
            return Verdict(correct=False, state=State.FILTERED, detail="withheld by the server")
        asked = self._asked(name, problem, mode)
        started = time.perf_counter()
        try:
            extraction = asked.verifier.extract(problem, text, finish_reason, mode)
        except Exception as error:  # a fault of ours on hostile text: counted, never a lost run
            return _failed(State.VERIFIER_ERROR, f"extraction: {type(error).__name__}: {error}"[:500])
        seconds = time.perf_counter() - started
        if extraction.answer is None:
            state = extraction.state or State.NO_ANSWER
            return Verdict(correct=False, state=state, detail=extraction.how, seconds=seconds)
        key = (name, problem.gold, extraction.answer, asked.options, mode)
        return _Grading(self._graded(key, asked.limit), extraction, seconds, asked.limit, asked.late)

    def _asked(self, name: str, problem: Problem, mode: Mode) -> _Asked:
        """What a problem asks of its verifier: looked up once for all of its attempts."""
        asked = self._problems.get((id(problem), name, mode))
        if asked is None or asked.problem is not problem:
            verifier = self._verifier(name)
            # verifiers of users' own may be without it
            overdue = getattr(verifier, "overdue", None)
            late = overdue(problem.gold, problem.options, mode) if overdue else None
            seconds = late[0] if late else verifier.seconds(problem.gold, problem.options) or self.time_limit
            options = json.dumps(dict(problem.options), sort_keys=True)
            asked = _Asked(problem, verifier, options, seconds, late[1] if late else None)
            if len(self._problems) >= MEMO_SIZE:
                self._problems.clear()
            self._problems[id(problem), name, mode] = asked
        return asked

    def _settled(self, begun: Verdict | _Grading) -> _Settled:
        """What became of a judgement that is done."""
        if isinstance(begun, Verdict):
            return begun
        done, extraction, seconds, limit, late = begun
        try:
            grade, grading_seconds = done.result() if isinstance(done, Future) else done
        except CancelledError:
            return None
        except MissingError as error:
            return error
        except TimeoutError:
            if late is None:
                return _failed(State.VERIFIER_TIMEOUT, f"no verdict within {limit:g} s", extraction)
            grade, grading_seconds = late, limit
        except Exception as error:  # a WorkerError: it broke down, or a fault of ours in grading
            return _failed(State.VERIFIER_ERROR, str(error)[:500], extraction)
        if grade.failed:
            return _failed(State.VERIFIER_ERROR, grade.method, extraction)
        return Verdict(
            correct=grade.correct,
            state=State.CORRECT if grade.correct else State.INCORRECT,
            extracted=extraction.answer,
            canonical=grade.canonical or None,
            parts=grade.parts,
            report=grade.report,
            detail=f"{extraction.how}; {grade.method}",
            seconds=seconds + grading_seconds,
        )

    def _verifier(self, name: str) -> Verifier:
        if name not in self._verifiers:
            self._verifiers[name] = get_verifier(name)
        return self._verifiers[name]

    def _graded(self, key: GradingKey, limit: float) -> Future[_Graded] | _Graded:
        """The grading of one distinct pair: a remembered one, or a new one under way in a worker."""
        with self._lock:
            remembered = self._memo.get(key)
            if remembered is not None:
                return remembered
            if self._pool is None:
                self._pool = self._start_workers()
            future = self._pool.submit(key, limit)
            self.graded += 1
            self._memo[key] = future
            if len(self._memo) > MEMO_SIZE:
                del self._memo[next(iter(self._memo))]
        future.add_done_callback(lambda done: self._remember(key, done))
        return future

    def _remember(self, key: GradingKey, done: Future[_Graded]) -> None:
        """Keeps the grade in place of its future, which holds on to all that waited for it."""
        if done.cancelled():
            return
        failed = done.exception() is not None
        if (failed or done.result()[1] >= SLOW_SECONDS) and len(self.slow) < MOST_SLOW:
            self.slow.add(key)
        if failed:
            return
        with self._lock:
            if self._memo.get(key) is done:
                self._memo[key] = done.result()

    def _start_workers(self) -> GradingWorkers:
        """Those that grade: called when the first one is needed."""
        asleep = partial(sleep_limit, self._wall_limit)
        return Workers(self.workers, memory_limit=self._memory_limit, wall_limit=asleep)


def _mode(name: str) -> Mode:
    """The mode of this name: verifiers tell modes apart by identity, so that a mere word would be none of them."""
    try:
        return Mode(name)
    except ValueError:
        raise UsageError(f"no mode is named {name!r}: {nearest(str(name), list(Mode))}") from None


def sleep_limit(wall_limit: float | None, limit: float) -> float:
    """Wall seconds that a grading may sleep: ``wall_limit``; None: as ``SLEEP_FACTOR`` makes them of its ``limit`` of
    processor seconds."""
    return wall_limit or max(SLEEP_FACTOR * limit, SLEEP_SECONDS)


def _all_known(outcomes: dict[Mode, _Settled]) -> TypeGuard[dict[Mode, Verdict]]:
    return all(verdict.__class__ is Verdict for verdict in outcomes.values())


def _settle(result: Future[dict[Mode, Verdict]], outcomes: dict[Mode, _Settled]) -> None:
    """Gives a future its verdicts, or the reason why there are none."""
    if _all_known(outcomes):
        with suppress(InvalidStateError):  # whoever asked does not want it any more
            result.set_result(outcomes)
        return
    broken = [verdict for verdict in outcomes.values() if isinstance(verdict, MissingError)]
    with suppress(InvalidStateError):
        if broken:
            result.set_exception(broken[0])
        else:
            result.cancel()


def _failed(state: State, detail: str, extraction: Extraction | None = None) -> Verdict:
    return Verdict(
        correct=False, state=state, extracted=extraction.answer if extraction else None, detail=detail
    )


_pools: weakref.WeakSet[VerifierPool] = weakref.WeakSet()
_shared: VerifierPool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> VerifierPool:
    """The process-wide pool, for callers without a place to keep one (lm-eval's ``process_results``, rewards).

    Its workers, where ``CIPO_EVAL_WORKERS`` does not say how many: this process's cores, shared with the other
    processes that a launcher started beside it (``LOCAL_WORLD_SIZE``), and 16 at most.
    """
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = VerifierPool(_shared_workers())
            atexit.register(_shared.close)
        return _shared


def _shared_workers() -> int:
    asked, beside = os.environ.get("CIPO_EVAL_WORKERS", ""), os.environ.get("LOCAL_WORLD_SIZE", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    cores = len(os.sched_getaffinity(0)) // (int(beside) if beside.isdecimal() and int(beside) else 1)
    return min(max(cores, 1), 16)


def _after_fork() -> None:
    global _shared_lock
    _shared_lock = threading.Lock()
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_after_fork)
