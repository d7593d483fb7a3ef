"""The process inside the sandbox that forks one sample per job, watches it from outside and kills it.

It confines itself once, completely, then waits for jobs on a pipe. It never sees what a program is expected to return,
and does not interpret what a sample writes: it counts lines, to know which test is under way, and passes bytes on.
Samples write to a file in memory, not to a pipe: the zygote looks into it now and then and at the end, and is not woken
for each result; what a program has returned is there even if it dies the next moment.
Processor time is read from the sample's own clock in the kernel, so limits hold whatever else the machine does; a wall
limit several times as long is for programs that sleep.

A sample inherits this process's memory. So no program, test or result is ever kept in it: the sample reads its job
itself, and what passes through here passes through one buffer that is wiped.

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import marshal
import math
import os
import random
import resource
import select
import signal
import site
import struct
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.sandbox import judge, kernel, protocol, sample, standard_files

WALL_FACTOR, WALL_EXTRA = 5.0, 2.0
"""Wall seconds of a test: its processor seconds times the factor, and these more. They stop a program that sleeps."""
SAMPLE_FILES = 64
"""Open files of a sample."""
THREADS = 256
"""Threads of a sample."""
SHARED_THREADS = 4096
"""More threads, where the limit counts other processes of the user, too: they come and go."""
THREAD_STACK = 8 << 20
"""Bytes of stack of each thread but the main one."""
JUDGE_MEMORY = 2 << 30
"""Bytes of address space of a judge."""
_CHUNK = 1 << 16
_TAKEN = struct.Struct("<d")
"""Before a sample's results: the processor seconds after which it had its job."""
_FIRST_LOOK, _LAST_LOOK = 0.004, 0.05
"""Seconds between two looks at what a sample has written: shorter at first."""


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
            kernel.limit(resource.RLIMIT_AS, JUDGE_MEMORY)
            kernel.limit(resource.RLIMIT_NPROC, hello["threads"])
            if hello["seccomp"]:  # test code needs no processes
                kernel.Filter(kernel.sample_filter()).install(os.getpid())
            judge.serve(reader, control[1])
        else:
            Keeper(reader, control[1], hello["threads"]).serve()
    except protocol.ProtocolError:
        os._exit(0)  # the harness is gone


def seal(config: Mapping[str, Any]) -> dict[str, Any]:
    """Imports what samples need, then gives up everything else, for good. Returns the layers that hold."""
    sys.path[:] = config["sys_path"]
    sys.set_int_max_str_digits(0)  # a guard for servers; here processor time is limited
    standard_files.install()  # before others take `open` for themselves
    for name in config["preload"]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    site.setquit()  # `exit` and `quit` are builtins of every interpreter that programs know
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)
    for what in (resource.RLIMIT_CORE, resource.RLIMIT_MEMLOCK, resource.RLIMIT_MSGQUEUE):
        kernel.limit(what, 0)
    kernel.limit(resource.RLIMIT_NOFILE, SAMPLE_FILES)
    kernel.thread_stack(THREAD_STACK)
    kernel.prctl(kernel.PR_SET_NO_NEW_PRIVS, 1)
    kernel.drop_privileges(config["uid"], config["readable"])
    kernel.prctl(kernel.PR_SET_DUMPABLE, 0)
    others = _threads_of_user()
    hello: dict[str, Any] = {
        "landlock": 0,
        "seccomp": False,
        "pid": os.getpid(),
        "uid": os.getuid(),
        "threads": THREADS + (others + SHARED_THREADS if others else 0),
    }
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
    """Threads of this user's other processes, which the kernel counts against the same limit; 0 in a user namespace."""
    count = 0
    try:
        names = [name for name in os.listdir("/proc") if name.isdecimal() and int(name) != os.getpid()]
    except OSError:
        return 0
    for name in names:
        try:
            if os.stat(f"/proc/{name}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{name}/task"))
        except OSError:  # it has ended
            continue
    return count


class Relay:
    """Passes bytes on to the harness through one buffer."""

    def __init__(self, out: int) -> None:
        self._out = out
        self._front = protocol.HEADER.size + protocol.DATA_HEADER.size
        self._buffer = bytearray(self._front + _CHUNK)
        self._view = memoryview(self._buffer)
        self.size = 0

    def take(self, fd: int, at: int) -> int:
        """Reads from a place of a file; the number of bytes, 0 at the end."""
        self.size = os.preadv(fd, [self._view[self._front :]], at)
        return self.size

    def lines(self) -> int:
        return self._buffer.count(b"\n", self._front, self._front + self.size)

    def pass_on(self, kind: bytes, head: bytes = b"") -> None:
        """Sends what was read as a frame. Raises ``ProtocolError``."""
        start = self._front - protocol.HEADER.size - len(head)
        self._view[start : self._front] = protocol.HEADER.pack(kind, len(head) + self.size) + head
        protocol.send(self._out, self._view[start : self._front + self.size])

    def wipe(self) -> None:
        self._view[self._front : self._front + self.size] = bytes(self.size)


class Keeper:
    """Runs jobs one after another, each in a process of its own."""

    def __init__(self, reader: protocol.Reader, control_out: int, threads: int) -> None:
        self._reader = reader
        self._out = control_out
        self._threads = (
            threads  # not a limit of this process: those of a neighbour may count, and it has to fork
        )
        self._relay = Relay(control_out)
        self._filter = kernel.Filter(kernel.sample_filter())
        self._pid = os.getpid()

    def serve(self) -> None:
        """Raises ``ProtocolError`` when the harness is gone."""
        while True:
            kind, payload = self._reader.read()
            if kind == protocol.JOB:  # anything else was meant for a job that has ended
                self._run(json.loads(payload))

    def _run(self, head: Mapping[str, Any]) -> None:
        alive, alive_in = os.pipe()  # its other end is the sample's: it closes when the sample ends
        results = os.memfd_create("results")
        commands, commands_in = os.pipe() if head["live"] else (-1, -1)
        # Files of its own for each program: nothing of an earlier one, not even a flag.
        names = ("stdin", "stdout", "stderr") if head["kind"] == "stdin" else ()
        stdio = [os.memfd_create(name) for name in names]
        # Made before the fork: each page that is written between it and the sample's end is copied first.
        watch = _Watch(head, self._reader, self._relay, (alive, results, commands_in))
        pid = kernel.fork()
        if pid == 0:
            self._become_sample(head, (results, alive_in, commands), stdio, (alive, commands_in))
        os.close(alive_in)
        if commands >= 0:
            os.close(commands)
        try:
            reason = watch.until_end(pid)
        finally:
            os.kill(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            os.close(alive)
            watch.close_commands()
        reason = watch.look() or reason
        os.close(results)
        if not watch.taken:
            raise protocol.ProtocolError("the job was lost")
        end = {
            "reason": reason,
            "status": os.waitstatus_to_exitcode(status),
            "cpu": max(0.0, usage.ru_utime + usage.ru_stime - watch.loading),
            "wall": time.monotonic() - watch.started,
            "rss": usage.ru_maxrss * 1024,
        }
        if stdio:
            self._pass_on_printed(stdio[1])
        for fd in stdio:
            os.close(fd)
        protocol.write(self._out, protocol.END, json.dumps(end).encode())

    def _pass_on_printed(self, fd: int) -> None:
        at = 0
        while at < sample.STDOUT_LIMIT and (size := self._relay.take(fd, at)):
            self._relay.pass_on(protocol.PRINTED)
            self._relay.wipe()
            at += size

    def _become_sample(
        self,
        head: Mapping[str, Any],
        own: tuple[int, int, int],
        stdio: Sequence[int],
        others: Sequence[int],
    ) -> None:
        """The child: reads its job, gives up what only the zygote needs, runs the program. Never returns.

        ``own``: the file of its results, the pipe that shows it alive, and the one of its commands.
        """
        results, alive, commands = own
        try:
            kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != self._pid:  # it died before
                return
            job = _take_job(self._reader.fd, head["size"])
            os.write(results, _TAKEN.pack(time.process_time()))
            for fd in (self._reader.fd, self._out, *others):
                if fd >= 0:
                    os.close(fd)
            null = os.open("/dev/null", os.O_RDWR)  # not the one that other programs had
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            os.close(null)
            kernel.limit(resource.RLIMIT_AS, head["memory"])
            kernel.limit(resource.RLIMIT_NPROC, self._threads)
            kernel.limit(resource.RLIMIT_FSIZE, max(sample.STDOUT_LIMIT, head["output"]))
            kernel.limit(resource.RLIMIT_CPU, math.ceil(head["cpu_total"]) + 2)
            if head["confined"]:
                self._filter.install(os.getpid())
            output = sample.Output(results, alive if head["live"] else None)
            sample.run(job, output, commands if commands >= 0 else None, stdio)
        finally:
            os._exit(0)


def _take_job(fd: int, size: int) -> dict[str, Any]:
    """The job that follows its frame. With as few steps as possible: each touches pages that are then copied."""
    data = os.read(fd, size)
    if len(data) < size:
        parts = [data]
        while data and (size := size - len(data)):
            parts.append(data := os.read(fd, min(size, 1 << 20)))
        data = b"".join(parts)
    job: dict[str, Any] = marshal.loads(data)
    return job


class _Watch:
    """One sample under way: its limits, what it writes, what the harness says about it."""

    def __init__(
        self,
        head: Mapping[str, Any],
        reader: protocol.Reader,
        relay: Relay,
        own: tuple[int, int, int],
    ) -> None:
        self.started = self._mark_wall = time.monotonic()
        self.taken = False
        """Whether the sample has its job. Until then the harness's pipe is the sample's to read."""
        self.loading = self._last = 0.0
        self._limits: Sequence[float] = head["cpu"]
        self._total: float = head["cpu_total"]
        self._wall: float = head["wall"]
        self._room: int = head["output"]
        self._reader, self._relay = reader, relay
        self._alive, self._results, self._commands = own
        self._poll = select.poll()
        self._poll.register(self._alive, select.POLLIN)
        self._at = 0  # of the results
        self._pause = _FIRST_LOOK
        self._waiting: deque[bytearray] = deque()
        self._sent = 0  # of the first of them
        self._records = 0
        self._mark_cpu = 0.0

    def until_end(self, pid: int) -> str:
        """Why it ended: ``exit`` (by itself), ``cpu``, ``wall``, ``output`` or ``killed``."""
        self._clock = kernel.cpu_clock(pid)
        left = _FIRST_LOOK
        while True:
            reason = self._step(min(left, self._pause)) or self.look()
            if reason:
                return reason
            self._pause = min(1.5 * self._pause, _LAST_LOOK)
            if not self.taken:
                continue
            cpu, wall = self._cpu(), time.monotonic()
            allowed = self._limits[min(self._records, len(self._limits) - 1)]
            left = min(allowed - (cpu - self._mark_cpu), self._total - cpu)
            wall_left = WALL_FACTOR * allowed + WALL_EXTRA - (wall - self._mark_wall)
            wall_left = min(wall_left, self._wall - (wall - self.started))
            if left <= 0:
                return "cpu"
            if wall_left <= 0:
                return "wall"
            left = min(left, wall_left)

    def _step(self, seconds: float) -> str | None:
        commands = self._commands if self._waiting else -1
        if commands >= 0:
            self._poll.register(commands, select.POLLOUT)
        events = self._poll.poll(math.ceil(seconds * 1000))
        if commands >= 0:
            self._poll.unregister(commands)
        for fd, _ in events:
            if fd == self._alive:
                if not os.read(
                    fd, _CHUNK
                ):  # what a live sample writes there only says that there is a result
                    return "exit"
            elif fd == self._reader.fd:
                if self._obey():
                    return "killed"
            else:
                self._send_commands()
        return None

    def look(self) -> str | None:
        """Passes on what the sample has written since the last look; whether it is too much."""
        if not self.taken and not self._has_taken():
            return None
        cpu, wall = self._cpu(), time.monotonic()
        while size := self._relay.take(self._results, self._at):
            try:
                self._at += size
                if self._at > self._room:
                    return "output"
                if records := self._relay.lines():
                    self._records += records
                    self._mark_cpu, self._mark_wall = cpu, wall
                self._relay.pass_on(protocol.DATA, protocol.DATA_HEADER.pack(cpu, wall - self.started))
            finally:
                self._relay.wipe()
        return None

    def _has_taken(self) -> bool:
        head = os.pread(self._results, _TAKEN.size, 0)
        if len(head) < _TAKEN.size:
            return False
        (self.loading,) = _TAKEN.unpack(head)
        self._at = _TAKEN.size
        self._room += self._at
        self.taken = True
        self.started = self._mark_wall = time.monotonic()
        self._poll.register(self._reader.fd, select.POLLIN)
        return True

    def _obey(self) -> bool:
        """Takes a frame of the harness; whether it wants the end."""
        kind, payload = self._reader.read()
        if kind == protocol.COMMAND:
            self._mark_wall = time.monotonic()  # it was waiting for this
            self._waiting.append(payload)
            self._send_commands()
        elif kind == protocol.FINISH:
            self.close_commands()
        return kind == protocol.KILL

    def _send_commands(self) -> None:
        if self._commands < 0:
            return
        os.set_blocking(self._commands, False)
        try:
            while self._waiting:
                self._sent += os.write(self._commands, memoryview(self._waiting[0])[self._sent :])
                if self._sent == len(self._waiting[0]):
                    self._drop_command()
        except BlockingIOError:
            pass
        except OSError:  # it does not listen any more
            while self._waiting:
                self._drop_command()

    def _drop_command(self) -> None:
        command = self._waiting.popleft()
        command[:] = bytes(len(command))
        self._sent = 0

    def close_commands(self) -> None:
        while self._waiting:
            self._drop_command()
        if self._commands >= 0:
            os.close(self._commands)
            self._commands = -1

    def _cpu(self) -> float:
        """Of the sample, since it has its job. Once it is gone, as it was last."""
        with contextlib.suppress(OSError):
            self._last = time.clock_gettime_ns(self._clock) / 1e9 - self.loading
        return self._last
