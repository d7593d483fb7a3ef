"""The sandbox's public face: programs in, what they returned or printed out.

    with Sandbox(workers=2) as box:
        result = box.run("def f(x): return x + 1", calls=[Call(args=[1])], target="f")
        result.outcomes[0].value  # 2

Usable from any thread and in any process; ``results`` runs many programs side by side, asynchronously, and takes new
ones only as fast as it gives results.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any

from cipo_eval.sandbox import codec, probe
from cipo_eval.sandbox.launch import LAYERS, Tier
from cipo_eval.sandbox.lines import LOADED, Record, record
from cipo_eval.sandbox.worker import End, Job, Reason, SandboxError, Worker

_HEAVY = re.compile(r"\b(?:numpy|scipy)\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call of a program's function."""

    args: Sequence[Any] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The call as a test of a ``Job``: its arguments in the codec's form. Raises ``CodecError``."""
        return {
            "args": [codec.encode(arg) for arg in self.args],
            "kwargs": {name: codec.encode(value) for name, value in self.kwargs.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of one test."""

    value: Any = None
    """What a call returned."""
    error: str | None = None
    """``TypeError: …`` where a call or the loading of the program raised; None where it did not."""
    traceback: str = ""
    """The lines of the program that led to the error; empty without one."""
    stdout: bytes = b""
    """What a program that read standard input wrote to standard output."""
    stderr: bytes = b""
    """The end of what it wrote to standard error."""
    exit_code: int | None = None
    """Exit code of a program that read standard input; None where it was ended from outside."""
    seconds: float = 0.0
    """Processor seconds of the test."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What came of one program: outcomes up to the test on which it was ended or died."""

    outcomes: tuple[Outcome, ...]
    """One for each test that was run, in order."""
    end: End
    """How its process ended."""
    tier: Tier
    """How well it was confined."""

    @property
    def timed_out(self) -> bool:
        return self.end.reason in (Reason.CPU, Reason.WALL)


class Lane:
    """The sandbox processes of one thread: samples, samples with NumPy loaded, a judge; each started when needed."""

    def __init__(self, tier: Tier) -> None:
        self.tier = tier
        self.doubts = False
        """Of its workers: whether an end that may have come from outside is an error."""
        self._workers: dict[str, Worker] = {}

    def sample(self, program: str) -> Worker:
        """The process that runs this program: one that mentions NumPy starts where NumPy is loaded already."""
        if _HEAVY.search(program):
            return self._worker("numpy", "sample", ("numpy",))
        return self._worker("sample", "sample", ())

    def judge(self) -> Worker:
        """The process that runs test code."""
        return self._worker("judge", "judge", ())

    def _worker(self, name: str, role: str, preload: tuple[str, ...]) -> Worker:
        if name not in self._workers:
            self._workers[name] = Worker(LAYERS[self.tier], role=role, preload=preload)
        self._workers[name].doubts = self.doubts
        return self._workers[name]

    @property
    def restarts(self) -> int:
        """Sandbox processes that broke down and were replaced."""
        return sum(worker.restarts for worker in self._workers.values())

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()

    def kill(self) -> None:
        """Ends what runs, from another thread: the lane's own then meets a sandbox that has broken down."""
        for worker in list(self._workers.values()):
            worker.kill()


@dataclass(slots=True)
class Series:
    """A program's runs on one standard input after another, as if each had a process of its own.

    One process serves as long as all goes well. A test that fails in a process which has run others before is repeated
    in a fresh one, and only that counts; after a crash, or where threads are left over, a fresh process takes up the
    rest. Ends with the first test that is not ``right``, unless ``all_tests``.
    """

    job: Job
    right: Callable[[int, Outcome], bool]
    """Whether the outcome of the test with this number, from 0, is right."""
    all_tests: bool = False
    """Go on after a test that is not right."""
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: list[bool] = field(default_factory=list)
    """Of each outcome, whether it is right."""
    _first: int = 0
    _going: bool = True

    def run(self, worker: Worker) -> End:
        """Runs the tests, in as many processes as it takes; returns how the last one ended. Raises ``SandboxError``."""
        while True:
            self._first = len(self.outcomes)
            end = worker.run(self._rest(), self._on_record)
            if self._going and len(self.outcomes) == self._first:  # it did not survive the first of its tests
                result = died(end)
                self._settle(result, self.right(self._first, result))
            if not self._going or len(self.outcomes) >= len(self.job.tests):
                return end

    def _rest(self) -> Job:
        job, at = self.job, len(self.outcomes)
        limits = [*job.cpu[1 + at :], job.cpu[-1]]
        return replace(job, tests=job.tests[at:], cpu=(job.cpu[0], *limits))

    def _on_record(self, number: int, line: bytes, seconds: float) -> bool:
        result = outcome(record(line), seconds)
        if number == 0:
            if line != LOADED:
                self._settle(result, False)
                self._going = False
            return self._going
        alone = (
            len(self.outcomes) == self._first or self.job.kind == "lcb"
        )  # that runner has one process for all
        right = self.right(len(self.outcomes), result)
        return self._settle(result, right) if alone or right else False

    def _settle(self, result: Outcome, right: bool) -> bool:
        self._going = right or self.all_tests
        self.outcomes.append(result)
        self.verdicts.append(right)
        return self._going


def outcome(entry: Record, seconds: float) -> Outcome:
    """The outcome that a record (``lines``) tells, after so many processor seconds. A value that does not cross equals
    nothing, and neither does what is no record at all."""
    kind = entry[0]
    if kind == "v":
        try:
            return Outcome(value=codec.decode(entry[1]), seconds=seconds)
        except codec.CodecError as error:
            return Outcome(value=codec.Opaque(str(error)), seconds=seconds)
    if kind in "ex":
        raised = f"{entry[1]}: {entry[2]}" if entry[2] else entry[1]
        return Outcome(error=raised, traceback=entry[3], seconds=seconds)
    if kind == "p":
        stdout, stderr = (part.encode("latin-1") for part in entry[1:3])
        return Outcome(stdout=stdout, stderr=stderr, exit_code=entry[3], seconds=seconds)
    return Outcome(value=codec.Opaque(entry[1] if kind == "u" else "nothing"), seconds=seconds)


def died(end: End) -> Outcome:
    """The outcome of the test on which a process ended."""
    if end.reason is Reason.EXIT and end.status >= 0:
        return Outcome(
            stdout=end.stdout,
            exit_code=end.status,
            error=None if end.stdout else "SystemExit",
            seconds=end.cpu,
        )
    reason = {
        Reason.EXIT: f"killed by signal {-end.status}",
        Reason.CPU: "time limit exceeded",
        Reason.WALL: "time limit exceeded (it slept)",
        Reason.OUTPUT: "output limit exceeded",
        Reason.KILLED: "ended",
    }[end.reason]
    return Outcome(stdout=end.stdout, error=reason, seconds=end.cpu)


class Sandbox:
    """Runs programs in ``workers`` sandbox processes side by side. A context manager.

    Raises ``MissingError`` where programs cannot be confined here (see ``cipo-eval doctor``), unless ``allow_unsafe``.
    """

    def __init__(self, workers: int | None = None, *, allow_unsafe: bool = False) -> None:
        self.workers = workers or os.cpu_count() or 1
        self.probe = probe.choose(allow_unsafe=allow_unsafe)
        self._closed = False
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._queue: queue.Queue[tuple[Job, Future[Result]] | None] = queue.Queue(2 * self.workers)
        self._lanes = [Lane(self.probe.tier) for _ in range(self.workers)]
        self._threads = [
            threading.Thread(target=self._work, args=(lane,), name="sandbox", daemon=True)
            for lane in self._lanes
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        self.close(now=kind is not None)

    def close(self, *, now: bool = False) -> None:
        """Ends the processes: once all that was submitted is finished, or ``now``, where nobody waits for it."""
        if not self._closed and self._process == os.getpid():
            self._closed = True
            if now:
                with contextlib.suppress(queue.Empty):
                    while entry := self._queue.get_nowait():
                        entry[1].cancel()
                for lane in self._lanes:
                    lane.kill()
            for _ in self._threads:
                self._queue.put(None)
            for thread in self._threads:
                thread.join()

    @property
    def restarts(self) -> int:
        """Sandbox processes that broke down and were replaced."""
        return sum(lane.restarts for lane in self._lanes)

    def run(
        self,
        program: str,
        *,
        calls: Sequence[Call] = (),
        target: str = "",
        stdin: Sequence[str] = (),
        preamble: str = "",
        cpu_seconds: float = 6.0,
        memory: int = 1 << 30,
    ) -> Result:
        """Runs a program on calls of ``target`` (an expression: ``f``, ``Solution().f``) or on standard inputs.

        ``preamble``: source that runs before the program. ``cpu_seconds``: processor seconds of each test; ``memory``:
        bytes of address space. Raises ``SandboxError`` where the sandbox itself breaks down.
        """
        job = Job(
            program=program,
            kind="stdin" if stdin else "calls",
            tests=[{"input": text} for text in stdin] or [call.to_json() for call in calls],
            target=target,
            preamble=preamble,
            cpu=(cpu_seconds,),
            memory=memory,
        )
        return self.submit(job).result()

    def submit(self, job: Job) -> Future[Result]:
        """A future of the result; waits while twice as many jobs as workers are waiting already."""
        if self._closed:
            raise SandboxError("the sandbox is closed")
        if self._process != os.getpid():  # a fork has no threads, and the processes are its parent's
            self._start()
        future: Future[Result] = Future()
        self._queue.put((job, future))
        return future

    async def results(self, jobs: Iterable[Job]) -> AsyncIterator[tuple[Job, Result | SandboxError]]:
        """Results as they come, in any order; takes jobs only as fast as it gives results. A program on which the
        sandbox broke down comes with the error, and the others go on."""
        source, running = iter(jobs), dict[asyncio.Future[Result], Job]()
        exhausted = False
        while running or not exhausted:
            while not exhausted and len(running) < 2 * self.workers:
                job = next(source, None)
                if job is None:
                    exhausted = True
                else:
                    running[asyncio.wrap_future(await asyncio.to_thread(self.submit, job))] = job
            if running:
                done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    error = future.exception()
                    if error is not None and not isinstance(error, SandboxError):
                        raise error
                    yield running.pop(future), error or future.result()

    def _work(self, lane: Lane) -> None:
        while (entry := self._queue.get()) is not None:
            job, future = entry
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(run_job(lane, job))
                except BaseException as error:
                    future.set_exception(error)
        lane.close()


def run_job(lane: Lane, job: Job) -> Result:
    """Runs one program on all its tests. Raises ``SandboxError``."""
    worker = lane.sample(job.program)
    if job.kind == "calls":
        outcomes: list[Outcome] = []

        def on_record(number: int, line: bytes, seconds: float) -> bool:
            if number > 0 or line != LOADED:
                outcomes.append(outcome(record(line), seconds))
            return number > 0 or line == LOADED

        end = worker.run(job, on_record)
        return Result(outcomes=tuple(outcomes), end=end, tier=lane.tier)
    series = Series(job, lambda _at, _outcome: True)
    end = series.run(worker)
    return Result(outcomes=tuple(series.outcomes), end=end, tier=lane.tier)
