"""The one pool of killable worker processes in which answers are judged.

``extract`` runs in the calling process (linear, evaluates nothing); each distinct (gold, answer, options, mode) is then
graded once, in a worker that is killed when it exceeds the time limit: symbolic mathematics on hostile input cannot be
interrupted from inside (signal-based limits work in main threads only, and not at all inside one long C call). A worker
that hangs costs one ``verifier_timeout``, one that dies one ``verifier_error``; both are replaced, and the run goes on.

Workers are forked from a clean server process that has imported the mathematics once, so they carry neither the
caller's threads nor its CUDA context, and a replacement starts in milliseconds. A caller's main script needs the usual
``if __name__ == "__main__":`` guard.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, TimeoutError
from typing import Any

from cipo_eval.records import Extraction, Grade, Mode, Problem, State, Verdict, Verifier
from cipo_eval.verifiers import get_verifier

TIME_LIMIT = 10.0
"""Seconds that one grading may take before its worker is killed."""
MEMORY_LIMIT = 4 << 30
"""Bytes of address space of a worker."""
MEMO_SIZE = 200_000
"""Distinct gradings remembered; the oldest are forgotten first."""

_Key = tuple[str, str, str, str, str]


_PASSED_ON = ("CIPO_EVAL_CACHE", "XDG_CACHE_HOME", "HOME", "CIPO_EVAL_SANDBOX_TIER")
"""Variables that workers follow as they are now; the fork server keeps those of its own start."""


def _start_worker(parent: int, memory_limit: int, variables: dict[str, str | None]) -> None:
    """Runs first in each worker: it must not outlive ``parent``, nor eat the machine's memory."""
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    import resource
    import signal

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # pebble's handler would wait for a long C call to return
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (memory_limit, memory_limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: int) -> None:
    """Ends this worker when the process that it works for is gone (its own parent is the fork server)."""
    import select

    try:
        process = os.pidfd_open(parent)
    except ProcessLookupError:
        os._exit(1)
    except (AttributeError, OSError):  # no pid file descriptors here: look from time to time
        while os.path.exists(f"/proc/{parent}"):  # noqa: PTH110  a path per second is not worth an object
            time.sleep(1)
        os._exit(1)
    waiting = select.poll()
    waiting.register(process, select.POLLIN)
    waiting.poll()
    os._exit(1)


def _grade(
    verifier: str,
    gold: str,
    answer: str,
    options: str,
    mode: str,
    *,
    time_limit: float,
) -> tuple[Grade, float]:
    """Runs in a worker. ``options`` is JSON, so that the whole call is one hashable key.

    The parent kills a worker that exceeds the limit; the alarm does it where the parent was itself killed while this
    worker sat in a C call that no thread can interrupt.
    """
    import signal

    signal.alarm(math.ceil(2 * time_limit) + 5)
    try:
        started = time.perf_counter()
        grade = get_verifier(verifier).grade(gold, answer, json.loads(options), Mode(mode))
        return grade, time.perf_counter() - started
    finally:
        signal.alarm(0)


class VerifierPool:
    """Judges completions in ``workers`` processes; usable from any thread; a context manager."""

    def __init__(
        self,
        workers: int | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
    ) -> None:
        self.workers = workers or min(os.cpu_count() or 1, 16)
        self.time_limit = time_limit
        self._memory_limit = memory_limit
        self._lock = threading.Lock()
        self._memo: dict[_Key, Future[tuple[Grade, float]]] = {}
        self._verifiers: dict[str, Verifier] = {}
        self._pool: Any = None
        self._stopping = False
        self.graded = 0
        """Gradings sent to workers; the rest came from the memo or needed none."""

    def __enter__(self) -> VerifierPool:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self, *, wait: bool = False) -> None:
        """Kills the workers; with ``wait``, after they have finished what was submitted."""
        with self._lock:
            pool, self._pool = self._pool, None
            self._stopping = not wait
            under_way = [future for future in self._memo.values() if not future.done()]
            self._memo.clear()
        if pool is not None:
            pool.close() if wait else pool.stop()
            pool.join()
        for future in under_way:  # pebble leaves the futures of a stopped pool as they were
            future.cancel()

    def submit(
        self,
        verifier: str,
        problem: Problem,
        text: str,
        finish_reason: str | None,
        modes: Sequence[Mode],
    ) -> Future[dict[Mode, Verdict]]:
        """A future of the verdict in each mode. Never raises for what the model wrote; closing the pool cancels it."""
        result: Future[dict[Mode, Verdict]] = Future()
        verdicts: dict[Mode, Verdict | None] = {}
        lock = threading.Lock()

        def settle(mode: Mode, verdict: Verdict | None) -> None:
            with lock:
                verdicts[mode] = verdict
                if len(verdicts) < len(modes):
                    return
            judged = {m: v for m in modes if (v := verdicts[m]) is not None}
            if len(judged) == len(modes):
                result.set_result(judged)
            else:
                result.cancel()

        for mode in modes:
            self._judge(verifier, problem, text, finish_reason, mode, settle)
        return result

    def verify(
        self,
        verifier: str,
        problem: Problem,
        text: str,
        finish_reason: str | None = None,
        mode: Mode = Mode.FIXED,
    ) -> Verdict:
        """The verdict on one completion, waiting for it."""
        return self.submit(verifier, problem, text, finish_reason, (mode,)).result()[mode]

    def _judge(
        self,
        name: str,
        problem: Problem,
        text: str,
        finish_reason: str | None,
        mode: Mode,
        settle: Callable[[Mode, Verdict | None], None],
    ) -> None:
        if finish_reason == "content_filter":
            settle(mode, Verdict(correct=False, state=State.FILTERED, detail="withheld by the server"))
            return
        started = time.perf_counter()
        try:
            found = self._verifier(name).extract(problem, text, finish_reason, mode)
        except Exception as error:  # a fault of ours on hostile text: counted, never a lost run
            settle(mode, _failed(State.VERIFIER_ERROR, f"extraction: {type(error).__name__}: {error}"[:500]))
            return
        seconds = time.perf_counter() - started
        if found.answer is None:
            state = found.state or State.NO_ANSWER
            settle(mode, Verdict(correct=False, state=state, detail=found.how, seconds=seconds))
            return
        options = json.dumps(dict(problem.options), sort_keys=True)
        limit = self._verifier(name).seconds(problem.gold, problem.options) or self.time_limit
        future = self._graded((name, problem.gold, found.answer, options, mode.value), limit)
        future.add_done_callback(lambda done: settle(mode, self._verdict(found, done, seconds, limit)))

    def _verdict(
        self,
        found: Extraction,
        done: Future[tuple[Grade, float]],
        seconds: float,
        limit: float,
    ) -> Verdict | None:
        """The verdict of a finished grading; None where the pool was closed before it."""
        try:
            grade, grading_seconds = done.result()
        except CancelledError:
            return None
        except TimeoutError:
            return _failed(State.VERIFIER_TIMEOUT, f"no verdict within {limit:g} s", found)
        except Exception as error:  # a fault of ours in grading, or pebble's ProcessExpired: a crashed worker
            if self._stopping:
                return None
            return _failed(State.VERIFIER_ERROR, f"{type(error).__name__}: {error}"[:500], found)
        if grade.failed:
            return _failed(State.VERIFIER_ERROR, grade.method, found)
        return Verdict(
            correct=grade.correct,
            state=State.CORRECT if grade.correct else State.INCORRECT,
            extracted=found.answer,
            canonical=grade.canonical or None,
            parts=grade.parts,
            report=grade.report,
            detail=f"{found.how}; {grade.method}",
            seconds=seconds + grading_seconds,
        )

    def _verifier(self, name: str) -> Verifier:
        if name not in self._verifiers:
            self._verifiers[name] = get_verifier(name)
        return self._verifiers[name]

    def _graded(self, key: _Key, limit: float) -> Future[tuple[Grade, float]]:
        """The grading of one distinct pair: a remembered one, or a new one under way in a worker."""
        with self._lock:
            known = self._memo.get(key)
            if known is not None:
                return known
            if self._pool is None:
                self._stopping = False
                self._pool = _process_pool(self.workers, self._memory_limit)
            future: Future[tuple[Grade, float]] = self._pool.schedule(
                _grade,
                args=key,
                kwargs={"time_limit": limit},
                timeout=limit,
            )
            self.graded += 1
            self._memo[key] = future
            if len(self._memo) > MEMO_SIZE:
                del self._memo[next(iter(self._memo))]
            return future


def _process_pool(workers: int, memory_limit: int) -> Any:
    """Pebble's pool: a time limit per task, enforced by killing the worker."""
    import multiprocessing

    from pebble import ProcessPool

    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["cipo_eval.verifiers.preload"])
    return ProcessPool(
        max_workers=workers,
        context=context,
        initializer=_start_worker,
        initargs=(os.getpid(), memory_limit, {name: os.environ.get(name) for name in _PASSED_ON}),
    )


def _failed(state: State, detail: str, found: Extraction | None = None) -> Verdict:
    return Verdict(correct=False, state=state, extracted=found.answer if found else None, detail=detail)


_shared: VerifierPool | None = None
_shared_lock = threading.Lock()


def shared_pool() -> VerifierPool:
    """The process-wide pool, for callers without a place to keep one (lm-eval's ``process_results``)."""
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = VerifierPool()
            atexit.register(_shared.close)
        return _shared
