"""One sealed process from outside: ``Worker`` runs one program at a time in it.

A worker is a pair of pipes to a sealed process (``zygote``) that forks one process per program. When anything about it
breaks (it dies, falls silent, speaks nonsense), it is killed and replaced, and that is counted.
"""

from __future__ import annotations

import contextlib
import json
import marshal
import os
import signal
import subprocess
import time
import weakref
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NoReturn

from cipo_eval.errors import CipoError, MissingError
from cipo_eval.sandbox import codec, protocol, sample
from cipo_eval.sandbox.launch import LOOK_SECONDS, STOPPED_SECONDS, Layers, start, stopped
from cipo_eval.sandbox.lines import Lines, Record, record

START_SECONDS = 60.0
"""Seconds until a new sandbox process must have sent its HELLO frame; half a second is usual."""
GRACE = 30.0
"""Wall seconds beyond a job's own limits until a silent sandbox counts as broken."""
STALE_JOBS = 20_000
"""Jobs after which a sandbox process is replaced, so that nothing can creep."""
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT})
"""Signals by which others end a process; a program's faults have others."""
MAX_FRAME = 1 << 28
"""Bytes of the longest frame that a sandbox may send."""


class SandboxError(CipoError):
    """The sandbox broke down while it ran a program: no verdict about the program."""


class JudgeError(SandboxError):
    """A judge broke down, or did not come to an end."""


class Reason(StrEnum):
    """Why a program's process ended."""

    EXIT = "exit"
    """By itself, or by a crash: see ``status``."""
    CPU = "cpu"
    """It used up its processor time."""
    WALL = "wall"
    """It used up its wall time, mostly asleep."""
    OUTPUT = "output"
    """It wrote more than it may."""
    KILLED = "killed"
    """The caller had seen enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A program and what to run it on, in the form that crosses the border."""

    program: str
    kind: str
    """``calls``, ``stdin``, or ``lcb`` (LiveCodeBench's own runner)."""
    tests: Sequence[Mapping[str, Any]]
    """What the process is told of each test: arguments, or standard input; never what is expected."""
    target: str = ""
    """``calls``: the expression that gives the callable, evaluated for each call."""
    preamble: str = ""
    """Source that runs before the program in its namespace."""
    cpu: Sequence[float] = (6.0,)
    """Processor seconds: for loading, then for each test; the last counts for all that follow."""
    total: float | None = None
    """Processor seconds of all tests together; None: the sum of theirs."""
    memory: int = 1 << 30
    """Bytes of address space."""
    output: int = 64 << 20
    """Bytes of results that it may write."""
    live: bool = False
    """Further tests may follow (``Worker.converse``)."""

    @property
    def cpu_total(self) -> float:
        """Processor seconds that the job may take in all."""
        if self.total is not None:
            return self.total
        listed = list(self.cpu[: len(self.tests) + 1])
        return sum(listed) + self.cpu[-1] * (len(self.tests) + 1 - len(listed)) + (1e5 if self.live else 0)

    @property
    def wall(self) -> float:
        """Seconds after which even a program that sleeps has been ended from inside."""
        return 5.0 * self.cpu_total + 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a program's process ended."""

    reason: Reason
    status: int
    """Exit code; negative: the signal that killed it."""
    cpu: float
    """Processor seconds of the process."""
    wall: float
    """Seconds since its start."""
    rss: int
    """Largest resident memory, bytes."""
    stdout: bytes = b""
    """What the test under way had printed (``stdin``)."""


OnRecord = Callable[[int, bytes, float], bool]
"""Told each record as it comes: number (0: the program is loaded), the line that ``record`` reads, processor seconds of
the test; returns whether to go on."""


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _forget() -> None:
    for worker in list(_workers):
        worker.forget()


os.register_at_fork(after_in_child=_forget)


class Worker:
    """One sandbox process of a role (``sample`` or ``judge``); not for several threads at once.

    Raises ``MissingError`` where no sandbox of these layers can be started.
    """

    def __init__(self, layers: Layers, *, role: str = "sample", preload: Sequence[str] = ()) -> None:
        self.layers = layers
        self.role = role
        self.restarts = 0
        self.doubts = False
        """Whether what may have come from outside raises a ``SandboxError``: the end of a program by a signal such as
        SIGKILL or by sleeping too long, and a stopped process. Of a program that is run again, it is the program's."""
        self.hello: dict[str, Any] = {}
        self._preload = tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = False
        self._jobs = 0
        _workers.add(self)

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the process and everything in it; safe to call twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.wait()

    def forget(self) -> None:
        """In a fork of this process: the sandbox is the parent's, and must not outlive it because of us."""
        process, self._process = self._process, None
        if process is not None:
            process.returncode = 0  # nothing to wait for here
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def kill(self) -> None:
        """Kills the process for good, from any thread; whoever waits for it, or starts it, gets a ``SandboxError``."""
        self._killed = True
        if (process := self._process) is not None:
            process.kill()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ensure(self) -> None:
        """Starts the process unless it runs."""
        if self._process is not None and (self._process.poll() is not None or self._jobs >= STALE_JOBS):
            self.close()
        if self._process is None:
            self._start()
        if self._killed:  # in the meantime
            self.close()
            raise SandboxError("the sandbox is closed")

    def _start(self) -> None:
        self._jobs = 0
        try:
            self._process = start(self.role, self.layers, self._preload)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._in = self._process.stdin.fileno()
            os.set_blocking(self._in, False)
            self._reader = protocol.Reader(self._process.stdout.fileno(), MAX_FRAME)
            kind, payload = self.read(time.monotonic() + START_SECONDS)
            self.hello = _parse(payload)
            if kind != protocol.HELLO or not isinstance(self.hello, dict):
                raise protocol.ProtocolError("no hello")
        except (OSError, ValueError, protocol.ProtocolError) as error:
            self.close()
            raise MissingError(
                f"a sandbox cannot be started here ({error}); `cipo-eval doctor` says more"
            ) from error
        lacking = [
            f"{layer} ({self.hello.get(f'{layer}_error', 'refused')})"
            for layer in ("landlock", "seccomp")
            if getattr(self.layers, layer) and not self.hello.get(layer)
        ]
        if lacking:
            self.close()
            raise MissingError(f"the sandbox lacks {', '.join(lacking)}; `cipo-eval doctor` says more")

    def run(self, job: Job, on_record: OnRecord) -> End:
        """Runs a job to its end; ``on_record`` may end it early. Raises ``SandboxError`` where the sandbox breaks."""
        data = self._encode(job)
        self.ensure()
        self._jobs += 1
        try:
            return self._run(job, data, on_record)
        except protocol.ProtocolError as error:
            self.broken()
            raise SandboxError(f"the sandbox broke down: {error}") from error
        except BaseException:  # Ctrl-C, or a fault of the caller's: the process is in the middle of a job
            self.close()
            raise

    def collect(self, job: Job) -> tuple[list[Record], End]:
        """All records of a job, the one of loading included."""
        lines: list[bytes] = []

        def on_record(_number: int, line: bytes, _seconds: float) -> bool:
            lines.append(line)
            return True

        end = self.run(job, on_record)
        return [record(line) for line in lines], end

    def _run(self, job: Job, data: bytes, on_record: OnRecord) -> End:
        deadline = time.monotonic() + job.wall + GRACE
        self.send(data, deadline)
        number, marked, going = 0, 0.0, True
        written, printed = Lines(job.output), bytearray()
        while True:
            kind, payload = self.read(deadline)
            if kind == protocol.END:
                return self.ended(payload, bytes(printed))
            if kind == protocol.PRINTED and len(printed) < sample.STDOUT_LIMIT:
                printed += payload
                continue
            if kind != protocol.DATA:
                raise protocol.ProtocolError(f"a frame of kind {kind!r} during a job")
            cpu, lines = written.cut(payload)
            if not going:
                continue
            share = (cpu - marked) / len(lines) if lines else 0.0
            for line in lines:
                going = number <= len(job.tests) and on_record(number, line, share)
                number += 1
                marked = cpu
                if not going:
                    self.send(protocol.frame(protocol.KILL), deadline)
                    break

    def read(self, deadline: float) -> tuple[bytes, bytearray]:
        """The next frame. Raises ``ProtocolError``, also where a process has been stopped, or has ended while one below
        it lives on and keeps the way to us open."""
        looks = 0
        while self.doubts and (left := deadline - time.monotonic()) > 0:
            if protocol.ready(self._reader.fd, min(LOOK_SECONDS, left)):
                break
            if self._process is not None and self._process.poll() is not None:
                raise protocol.ProtocolError("its process has ended")
            looks = looks + 1 if self.pid is not None and stopped(self.pid) else 0
            if looks * LOOK_SECONDS >= STOPPED_SECONDS:
                raise protocol.ProtocolError("one of its processes was stopped")
        return self._reader.read(deadline)

    def ended(self, payload: bytearray, printed: bytes) -> End:
        """How a job ended. Raises ``ProtocolError``."""
        end = _end(payload, printed)
        if self.doubts and end.reason is Reason.EXIT and -end.status in FROM_OUTSIDE:
            raise protocol.ProtocolError(f"the program was ended by signal {-end.status}")
        if self.doubts and end.reason is Reason.WALL:
            raise protocol.ProtocolError("the program did not use its processor")
        return end

    def send(
        self, data: bytes, deadline: float, on_frame: Callable[[bytes, bytearray], None] | None = None
    ) -> None:
        """Sends bytes. Frames that come meanwhile go to ``on_frame``: if both sides only sent, both would wait forever.

        Raises ``ProtocolError``.
        """
        left = memoryview(data)
        while left:
            if protocol.wait(deadline, self._reader.fd, self._in):
                with contextlib.suppress(BlockingIOError):
                    left = left[protocol.put(self._in, left) :]
            elif on_frame is not None:
                on_frame(*self._reader.read(deadline))
            else:
                raise protocol.ProtocolError("it speaks and does not listen")

    def _encode(self, job: Job) -> bytes:
        """The frame of a job, with what only the process that runs the program reads."""
        body = {
            "program": job.program,
            "kind": job.kind,
            "tests": list(job.tests),
            "target": job.target,
            "preamble": job.preamble,
        }
        data = marshal.dumps(body)  # the interpreter inside is this one
        head = {
            "kind": job.kind,
            "size": len(data),
            "cpu": list(job.cpu),
            "cpu_total": job.cpu_total,
            "wall": job.wall,
            "memory": job.memory,
            "output": job.output,
            "live": job.live,
            "confined": self.layers.seccomp,
        }
        return protocol.frame(protocol.JOB, codec.to_json(head).encode("ascii")) + data

    def converse(self, job: Job) -> Conversation:
        """A program that is asked one call after another. Close it before the next job. Raises ``SandboxError``."""
        data = self._encode(replace(job, live=True))
        self.ensure()
        self._jobs += 1
        return Conversation(self, self._reader, job, data)

    def request(self, body: Mapping[str, Any], answer: Callable[[Any], Any], seconds: float) -> Any:
        """One job of a judge: its questions go through ``answer``. Raises ``SandboxError``."""
        self.ensure()
        self._jobs += 1
        deadline = time.monotonic() + seconds
        try:
            data = codec.to_json(body).encode("ascii")
            self.send(protocol.frame(protocol.JOB, data), deadline)
            while True:
                kind, payload = self.read(deadline)
                if kind == protocol.END:
                    return _parse(payload)
                if kind != protocol.ASK:
                    raise protocol.ProtocolError(f"a frame of kind {kind!r} from a judge")
                reply = json.dumps(answer(_parse(payload))).encode("ascii")
                self.send(protocol.frame(protocol.COMMAND, reply), deadline)
        except protocol.ProtocolError as error:
            self.broken()
            raise JudgeError(f"the judge broke down: {error}") from error
        except BaseException:
            self.close()
            raise

    def broken(self) -> None:
        """Counts and kills what does not work as it should."""
        self.restarts += 1
        self.close()


class Conversation:
    """A live job: ``ask`` makes one call and waits for its record. A context manager."""

    def __init__(self, worker: Worker, reader: protocol.Reader, job: Job, data: bytes) -> None:
        self._worker, self._reader = worker, reader
        self._written = Lines(job.output)
        self._lines: deque[bytes] = deque()
        self._open = 1  # lines that are still to come: of loading, then of each call
        self._seconds = job.cpu[-1] * 5 + 4 + GRACE
        self.end: End | None = None
        self._send(data)
        self.loaded = self._next()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.end is None and self._worker.pid is not None:
            with contextlib.suppress(SandboxError):
                self._send(protocol.frame(protocol.KILL))
                deadline = time.monotonic() + self._seconds
                while self.end is None:
                    self._receive(deadline)

    def ask(self, call: Mapping[str, Any]) -> Record:
        """The record of a call; ``["d"]`` where the program has died. Raises ``SandboxError``."""
        data = protocol.frame(protocol.COMMAND, json.dumps(call).encode("ascii") + b"\n")
        if self.end is None:
            self._open += 1
            self._send(data)
        return self._next()

    def _next(self) -> Record:
        deadline = time.monotonic() + self._seconds
        while not self._lines and self.end is None:
            self._receive(deadline)
        return record(self._lines.popleft()) if self._lines else ["d"]

    def _send(self, data: bytes) -> None:
        try:
            self._worker.send(data, time.monotonic() + self._seconds, self._take)
        except protocol.ProtocolError as error:
            self._fail(error)

    def _receive(self, deadline: float) -> None:
        try:
            self._take(*self._worker.read(deadline))
        except protocol.ProtocolError as error:
            self._fail(error)

    def _take(self, kind: bytes, payload: bytearray) -> None:
        if kind == protocol.END:
            self.end = self._worker.ended(payload, b"")
        elif kind == protocol.DATA:
            lines = self._written.cut(payload)[1][: self._open]  # no more than it was asked for
            self._open -= len(lines)
            self._lines.extend(lines)
        else:
            raise protocol.ProtocolError(f"a frame of kind {kind!r} during a job")

    def _fail(self, error: protocol.ProtocolError) -> NoReturn:
        self._worker.broken()
        raise SandboxError(f"the sandbox broke down: {error}") from error


def _parse(payload: bytearray) -> Any:
    try:
        return json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise protocol.ProtocolError(f"not JSON ({error})"[:200]) from error


def _end(payload: bytearray, stdout: bytes) -> End:
    body = _parse(payload)
    try:
        return End(
            reason=Reason(body["reason"]),
            status=int(body["status"]),
            cpu=float(body["cpu"]),
            wall=float(body["wall"]),
            rss=int(body["rss"]),
            stdout=stdout,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise protocol.ProtocolError(f"not the end of a job ({error})"[:200]) from error
