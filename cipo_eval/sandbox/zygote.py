"""The process inside the sandbox that forks one sample per job, watches it from outside and kills it.

It confines itself once, completely, then waits for jobs on a pipe. It never sees what a program is expected to return,
and does not interpret what a sample writes: it counts lines, to know which test is under way, and passes bytes on.
Processor time is read from the sample's own clock in the kernel, so limits hold whatever else the machine does; a wall
limit several times as long is for programs that sleep.

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations

import gc
import importlib
import json
import math
import os
import random
import resource
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.sandbox import judge, kernel, protocol, sample

WALL_FACTOR, WALL_EXTRA = 5.0, 2.0
"""Wall seconds of a test: processor seconds times, plus. A program that only sleeps is stopped by it."""
SAMPLE_FILES = 64
THREADS = 256
_CHUNK = 1 << 18


def main(config: Mapping[str, Any], control: tuple[int, int]) -> None:
    """Seals this process as ``config`` says, reports what holds, and serves its role until the pipe closes."""
    hello = seal(config)
    random.seed(0)  # every program starts with the same random state
    gc.collect()
    gc.freeze()  # samples then share these pages
    reader = protocol.Reader(control[0])
    protocol.write(control[1], protocol.HELLO, json.dumps(hello).encode())
    try:
        if config["role"] == "judge":
            judge.serve(reader, control[1])
        else:
            Keeper(reader, control[1]).serve()
    except protocol.ProtocolError:
        os._exit(0)  # the harness is gone


def seal(config: Mapping[str, Any]) -> dict[str, Any]:
    """Imports what samples need, then gives up everything else, for good. Returns the layers that hold."""
    sys.path[:] = config["sys_path"]
    for name in config["preload"]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        kernel.limit(what, 0)
    kernel.limit(resource.RLIMIT_NPROC, THREADS + _threads_of_user())
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_privileges(config["uid"], config["readable"])
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    hello: dict[str, Any] = {"landlock": 0, "seccomp": False, "pid": os.getpid(), "uid": os.getuid()}
    if config["landlock"]:
        try:
            hello["landlock"] = kernel.landlock(config["readable"], config["listable"], ["/dev/null"])
        except OSError as error:
            hello["landlock_error"] = str(error)
    if config["seccomp"]:
        try:
            kernel.Filter(kernel.keeper_filter()).install()
            hello["seccomp"] = True
        except OSError as error:
            hello["seccomp_error"] = str(error)
    return hello


def _threads_of_user() -> int:
    """Threads that this user runs already, which the kernel counts against the same limit; 0 in a user namespace."""
    count = 0
    try:
        for name in os.listdir("/proc"):
            if name.isdecimal() and os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
    except OSError:
        pass
    return count


class Keeper:
    """Runs jobs one after another, each in a process of its own."""

    def __init__(self, reader: protocol.Reader, control_out: int) -> None:
        self._reader = reader
        self._out = control_out
        self._filter = kernel.Filter(kernel.sample_filter())
        self._stdio = tuple(os.memfd_create(name) for name in ("stdin", "stdout", "stderr"))

    def serve(self) -> None:
        """Raises ``ProtocolError`` when the harness is gone."""
        while True:
            kind, payload = self._reader.read()
            if kind == protocol.JOB:  # anything else was meant for a job that has ended
                self._run(json.loads(payload))

    def _run(self, job: Mapping[str, Any]) -> None:
        results, results_in = os.pipe()
        commands, commands_in = os.pipe() if job.get("live") else (-1, -1)
        if job["kind"] == "stdin":
            for fd in self._stdio:  # nothing of an earlier program
                os.ftruncate(fd, 0)
        pid = kernel.fork()
        if pid == 0:
            self._become_sample(job, results_in, commands, (results, commands_in))
        os.close(results_in)
        if commands >= 0:
            os.close(commands)
        watch = _Watch(pid, job, self._reader, self._out, results, commands_in)
        try:
            reason = watch.until_end()
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            os.close(results)
            watch.close_commands()
        end = {
            "reason": reason,
            "status": os.waitstatus_to_exitcode(status),
            "cpu": usage.ru_utime + usage.ru_stime,
            "wall": time.monotonic() - watch.started,
            "rss": usage.ru_maxrss * 1024,
        }
        if job["kind"] == "stdin":
            end["stdout"] = sample.read_file(self._stdio[1]).decode("latin-1")
            os.ftruncate(self._stdio[1], 0)
        protocol.write(self._out, protocol.END, json.dumps(end).encode())

    def _become_sample(
        self, job: Mapping[str, Any], results: int, commands: int, others: Sequence[int]
    ) -> None:
        """The child: gives up what the zygote has and it does not need, and runs the program. Never returns."""
        try:
            for fd in (self._reader.fd, self._out, *others):
                if fd >= 0:
                    os.close(fd)
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            kernel.limit(resource.RLIMIT_AS, job["memory"])
            kernel.limit(resource.RLIMIT_FSIZE, sample.STDOUT_LIMIT)
            kernel.limit(resource.RLIMIT_NOFILE, SAMPLE_FILES)
            kernel.limit(resource.RLIMIT_CPU, math.ceil(job["cpu_total"]) + 2)
            if job["confined"]:
                self._filter.install(os.getpid())
            sample.run(job, sample.Output(results), commands if commands >= 0 else None, self._stdio)  # type: ignore[arg-type]
        finally:
            os._exit(0)


class _Watch:
    """One sample under way: its limits, what it writes, what the harness says about it."""

    def __init__(
        self,
        pid: int,
        job: Mapping[str, Any],
        reader: protocol.Reader,
        control_out: int,
        results: int,
        commands: int,
    ) -> None:
        self.started = time.monotonic()
        self._clock = kernel.cpu_clock(pid)
        self._limits: Sequence[float] = job["cpu"]
        self._total: float = job["cpu_total"]
        self._room: int = job["output"]
        self._reader, self._out, self._results, self._commands = reader, control_out, results, commands
        self._waiting = bytearray()
        self._records = 0
        self._mark_cpu, self._mark_wall = 0.0, self.started
        self._idle = False

    def until_end(self) -> str:
        """Why it ended: ``exit`` (by itself), ``cpu``, ``wall``, ``output`` or ``killed``."""
        while True:
            cpu, wall = self._cpu(), time.monotonic()
            allowed = self._limits[min(self._records, len(self._limits) - 1)]
            left = min(allowed - (cpu - self._mark_cpu), self._total - cpu)
            wall_left = WALL_FACTOR * allowed + WALL_EXTRA - (wall - self._mark_wall)
            if left <= 0:
                return "cpu"
            if wall_left <= 0:
                return "wall"
            reason = self._step(min(left, wall_left))
            if reason:
                return reason

    def _step(self, seconds: float) -> str | None:
        poll = select.poll()
        poll.register(self._results, select.POLLIN)
        poll.register(self._reader.fd, select.POLLIN)
        if self._waiting and self._commands >= 0:
            poll.register(self._commands, select.POLLOUT)
        for fd, _ in poll.poll(math.ceil(seconds * 1000)):
            if fd == self._results:
                chunk = os.read(fd, _CHUNK)
                if not chunk:
                    return "exit"
                if reason := self._pass_on(chunk):
                    return reason
            elif fd == self._reader.fd:
                if self._obey():
                    return "killed"
            else:
                self._send_commands()
        return None

    def _pass_on(self, chunk: bytes) -> str | None:
        cpu, wall = self._cpu(), time.monotonic()
        allowed = self._limits[min(self._records, len(self._limits) - 1)]
        if cpu - self._mark_cpu > allowed:
            return "cpu"  # the result is there, and came too late
        self._room -= len(chunk)
        if self._room < 0:
            return "output"
        if records := chunk.count(b"\n"):
            self._records += records
            self._mark_cpu, self._mark_wall = cpu, wall
        protocol.write(self._out, protocol.DATA, protocol.DATA_HEADER.pack(cpu, wall - self.started) + chunk)
        return None

    def _obey(self) -> bool:
        """Takes a frame of the harness; whether it wants the end."""
        while True:
            kind, payload = self._reader.read()
            if kind == protocol.KILL:
                return True
            if kind == protocol.COMMAND:
                self._mark_wall = time.monotonic()  # it was waiting for this
                self._waiting += payload + b"\n"
                self._send_commands()
            elif kind == protocol.FINISH:
                self.close_commands()
            if not self._reader.pending:
                return False

    def _send_commands(self) -> None:
        if self._commands < 0:
            return
        os.set_blocking(self._commands, False)
        try:
            written = os.write(self._commands, self._waiting)
            del self._waiting[:written]
        except BlockingIOError:
            pass
        except OSError:  # it does not listen any more
            self._waiting.clear()

    def close_commands(self) -> None:
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def _cpu(self) -> float:
        return time.clock_gettime_ns(self._clock) / 1e9
