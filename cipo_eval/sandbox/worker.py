"""One sealed process from outside: ``Worker`` runs one program at a time in it.

A worker is a pair of pipes to a sealed process (``zygote``) that forks one process per program. When anything about it
breaks (it dies, falls silent, speaks nonsense), it is killed and replaced, and that is counted.
"""

from __future__ import annotations

import contextlib
import json
import queue
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cipo_eval.errors import CipoError, MissingError
from cipo_eval.sandbox import codec, protocol
from cipo_eval.sandbox.launch import Layers, start

START_SECONDS = 60.0
"""Until a sandbox process must have said hello; half a second is usual."""
GRACE = 30.0
"""Wall seconds beyond a job's own limits until a silent sandbox counts as broken."""
STALE_JOBS = 20_000
"""Jobs after which a sandbox process is replaced, so that nothing can creep."""


class SandboxError(CipoError):
    """The sandbox broke down while it ran a program: no verdict about the program."""


class Reason(StrEnum):
    """Why a program's process ended."""

    EXIT = "exit"
    """By itself, or by a crash: see ``status``."""
    CPU = "cpu"
    WALL = "wall"
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
    target: str = ""
    preamble: str = ""
    cpu: Sequence[float] = (6.0,)
    """Processor seconds: for loading, then for each test; the last counts for all that follow."""
    total: float | None = None
    memory: int = 1 << 30
    output: int = 64 << 20
    live: bool = False
    """Further tests may follow (``Worker.converse``)."""

    @property
    def cpu_total(self) -> float:
        if self.total is not None:
            return self.total
        listed = list(self.cpu[: len(self.tests) + 1])
        return sum(listed) + self.cpu[-1] * (len(self.tests) + 1 - len(listed)) + (1e5 if self.live else 0)

    @property
    def wall(self) -> float:
        """Seconds after which even a program that sleeps has been ended from inside."""
        return 5.0 * self.cpu_total + 2.0 * (len(self.tests) + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """How a program's process ended."""

    reason: Reason
    status: int
    """Exit code; negative: the signal that killed it."""
    cpu: float
    wall: float
    rss: int
    """Largest resident memory, bytes."""
    stdout: bytes = b""
    """What the test under way had printed (``stdin``)."""


LOADED, LOADED_RECORD = b'["l"]', ["l"]
"""The line of a program that has loaded, and its record."""
Record = list[Any]
OnRecord = Callable[[int, bytes, float], bool]
"""Told each record as it comes: number (0: the program is loaded), the line that ``record`` reads, processor seconds of
the test; returns whether to go on."""


class Worker:
    """One sandbox process of a role (``sample`` or ``judge``); not for several threads at once.

    Raises ``MissingError`` where no sandbox of these layers can be started.
    """

    def __init__(self, layers: Layers, *, role: str = "sample", preload: Sequence[str] = ()) -> None:
        self.layers = layers
        self.role = role
        self.restarts = 0
        self.hello: dict[str, Any] = {}
        self._preload = tuple(preload)
        self._process: subprocess.Popen[bytes] | None = None
        self._jobs = 0

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

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def ensure(self) -> None:
        """Starts the process unless it runs."""
        if self._process is not None and (self._process.poll() is not None or self._jobs >= STALE_JOBS):
            self.close()
        if self._process is None:
            self._start()

    def _start(self) -> None:
        self._jobs = 0
        try:
            self._process = start(self.role, self.layers, self._preload)
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._in = self._process.stdin.fileno()
            self._reader = protocol.Reader(self._process.stdout.fileno(), 1 << 28)
            kind, payload = self._reader.read(time.monotonic() + START_SECONDS)
            self.hello = json.loads(payload)
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
        self.ensure()
        self._jobs += 1
        try:
            return self._run(job, on_record)
        except (protocol.ProtocolError, ValueError, KeyError, TypeError) as error:
            self._break()
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

    def _run(self, job: Job, on_record: OnRecord) -> End:
        protocol.write(self._in, protocol.JOB, self._encode(job))
        deadline = time.monotonic() + job.wall + GRACE
        number, marked, going, rest = 0, 0.0, True, b""
        while True:
            kind, payload = self._reader.read(deadline)
            if kind == protocol.END:
                return _end(payload)
            if kind != protocol.DATA:
                raise protocol.ProtocolError(f"a frame of kind {kind!r} during a job")
            if not going:
                continue
            cpu, _ = protocol.DATA_HEADER.unpack_from(payload)
            lines = (rest + payload[protocol.DATA_HEADER.size :]).split(b"\n")
            rest = lines.pop()
            share = (cpu - marked) / len(lines) if lines else 0.0
            for line in lines:
                going = number <= len(job.tests) and on_record(number, line, share)
                number += 1
                marked = cpu
                if not going:
                    protocol.write(self._in, protocol.KILL)
                    break

    def _encode(self, job: Job) -> bytes:
        body = {
            "program": job.program,
            "kind": job.kind,
            "tests": list(job.tests),
            "target": job.target,
            "preamble": job.preamble,
            "cpu": list(job.cpu),
            "cpu_total": job.cpu_total,
            "memory": job.memory,
            "output": job.output,
            "live": job.live,
            "confined": self.layers.seccomp,
        }
        return json.dumps(body, separators=(",", ":")).encode("ascii")

    def converse(self, job: Job) -> Conversation:
        """A program that is asked one call after another. Close it before the next job."""
        self.ensure()
        self._jobs += 1
        protocol.write(self._in, protocol.JOB, self._encode(replace(job, live=True)))
        return Conversation(self, self._in, self._reader, job)

    def request(self, body: Mapping[str, Any], answer: Callable[[Any], Any], seconds: float) -> Any:
        """One job of a judge: its questions go through ``answer``. Raises ``SandboxError``."""
        self.ensure()
        self._jobs += 1
        deadline = time.monotonic() + seconds
        try:
            protocol.write(self._in, protocol.JOB, json.dumps(body, separators=(",", ":")).encode("ascii"))
            while True:
                kind, payload = self._reader.read(deadline)
                if kind == protocol.END:
                    return json.loads(payload)
                if kind != protocol.ASK:
                    raise protocol.ProtocolError(f"a frame of kind {kind!r} from a judge")
                reply = json.dumps(answer(json.loads(payload))).encode("ascii")
                protocol.write(self._in, protocol.COMMAND, reply)
        except (protocol.ProtocolError, ValueError) as error:
            self._break()
            raise SandboxError(f"the judge broke down: {error}") from error
        except BaseException:
            self.close()
            raise

    def _break(self) -> None:
        self.restarts += 1
        self.close()


class Conversation:
    """A live job: ``ask`` makes one call and waits for its record. A context manager."""

    def __init__(self, worker: Worker, control: int, reader: protocol.Reader, job: Job) -> None:
        self._worker, self._in, self._reader = worker, control, reader
        self._rest = b""
        self._records: queue.SimpleQueue[Record] = queue.SimpleQueue()
        self._seconds = job.cpu[-1] * 5 + 4 + GRACE
        self.end: End | None = None
        self.loaded = self._next()

    def __enter__(self) -> Conversation:
        return self

    def __exit__(self, *exc: object) -> None:
        if self.end is None and self._worker.pid is not None:
            with contextlib.suppress(protocol.ProtocolError):
                protocol.write(self._in, protocol.KILL)
                while self._next() != ["d"]:
                    pass

    def ask(self, call: Mapping[str, Any]) -> Record:
        """The record of a call; ``["d"]`` where the program has died."""
        if self.end is None:
            try:
                protocol.write(self._in, protocol.COMMAND, json.dumps(call).encode("ascii"))
            except protocol.ProtocolError as error:
                self._worker._break()
                raise SandboxError(f"the sandbox broke down: {error}") from error
        return self._next()

    def _next(self) -> Record:
        deadline = time.monotonic() + self._seconds
        while self._records.empty():
            if self.end is not None:
                return ["d"]
            try:
                kind, payload = self._reader.read(deadline)
            except protocol.ProtocolError as error:
                self._worker._break()
                raise SandboxError(f"the sandbox broke down: {error}") from error
            if kind == protocol.END:
                self.end = _end(payload)
            elif kind == protocol.DATA:
                lines = (self._rest + payload[protocol.DATA_HEADER.size :]).split(b"\n")
                self._rest = lines.pop()
                for line in lines:
                    self._records.put(record(line))
        return self._records.get()


def record(line: bytes) -> Record:
    """A line that a sample wrote; what is no record becomes ``["u"]``: no value, no verdict but a wrong one."""
    try:
        found = codec.parse(line)
    except codec.CodecError as error:
        return ["u", f"not a record: {error}"]
    sizes = {"l": 1, "e": 4, "v": 2, "x": 4, "u": 2, "p": 5}
    if (
        not isinstance(found, list)
        or not found
        or sizes.get(found[0] if isinstance(found[0], str) else "") != len(found)
    ):
        return ["u", "not a record"]
    texts = {
        "e": found[1:],
        "x": found[1:],
        "u": found[1:],
        "p": found[1:3],
    }
    if not all(isinstance(part, str) for part in texts.get(found[0], ())):
        return ["u", "not a record"]
    if found[0] == "p" and (not isinstance(found[3], int) or any(ord(c) > 255 for c in found[1] + found[2])):
        return ["u", "not a record"]
    return found


def _end(payload: bytes) -> End:
    body = json.loads(payload)
    stdout = str(body.pop("stdout", "")).encode("latin-1", "replace")
    return End(reason=Reason(body.pop("reason")), stdout=stdout, **body)
