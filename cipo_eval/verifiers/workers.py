"""Worker processes that grade answers, each with a socket of its own, and the one thread that looks after them.

Nothing is shared between workers, so one that dies takes nothing with it but what it was doing. That answer is graded
again by another worker; one whose worker dies twice ends with ``WorkerError``. A grading may take so many seconds of
its worker's processor time, whatever else the machine does. Wall time counts against it only where it cannot be the
machine's fault: while the worker sleeps (a generous limit), or is stopped (then another worker takes over), and while
this process itself runs.

Workers are forked by a server process (``forkserver``), one for all pools.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import selectors
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from pathlib import Path
from typing import Any

from cipo_eval.errors import MissingError
from cipo_eval.sandbox.kernel import cpu_clock
from cipo_eval.verifiers.forkserver import server
from cipo_eval.verifiers.server import SIZE, grade

AHEAD = 2
"""Gradings that a worker has at most: the one under way, and one to go on with until its result is heard of."""
LOOK_SECONDS = 0.2
"""Seconds between two looks at the workers."""
MOST_SECONDS = 1.0
"""Seconds that count at most between two looks: where more passed, it was this process that did not run."""
STOPPED_SECONDS = 2.0
"""A worker that is stopped (SIGSTOP) for so long is killed, and its answer graded by another one."""
START_SECONDS = 60.0
"""Seconds until a new worker must have sent its process id; milliseconds are usual, more where the server is new."""
DEATHS = 2
"""Workers that may die of one answer; the last of them makes it a ``WorkerError``."""
STARTS_A_SECOND = 20.0
"""Workers that are started per second, in the long run: answers that kill them must not become a storm of forks."""
PATIENCE = 30.0
"""Seconds without any worker that starts, after which (and after ``_TRIES`` tries) there will be none."""
_TRIES = 10


class WorkerError(Exception):
    """A grading that came to no end: its workers died of it, or it raised an error."""


class Task:
    """One grading: what is sent for it, and what is waiting for it."""

    __slots__ = ("data", "deaths", "future", "holder", "limit", "number")

    def __init__(
        self, number: int, limit: float, arguments: tuple[Any, ...], call: Callable[..., Any]
    ) -> None:
        data = pickle.dumps((number, limit, pickle.dumps((call, arguments))))
        self.number, self.limit = number, limit
        self.data = SIZE.pack(len(data)) + data
        self.future: Future[Any] = Future()
        self.deaths = 0
        self.holder: _Member | None = None

    @property
    def open(self) -> bool:
        """Whether it has no result yet."""
        return not self.future.done()

    def settle(self, result: Any) -> None:
        """Gives its future a result, or an exception."""
        with contextlib.suppress(InvalidStateError):
            if isinstance(result, Exception):
                self.future.set_exception(result)
            else:
                self.future.set_result(result)


class _Member:
    """One worker process, and what it was given."""

    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.pid = self.process = 0
        self.tasks: deque[Task] = deque()
        self.unread, self.unsent = bytearray(), bytearray()
        self.dead = False
        self.seen = time.monotonic()
        self.started = self.cpu = self.asleep = self.stopped = 0.0

    def begin(self, cpu: float) -> None:
        """The next grading, at so many processor seconds."""
        self.started = self.cpu = cpu
        self.asleep = self.stopped = 0.0
        self.seen = time.monotonic()

    def receive(self) -> list[Any]:
        """The messages that have come; ``dead`` is set where no more will."""
        try:
            while part := self.socket.recv(1 << 16):
                self.unread += part
            self.dead = True
        except BlockingIOError:
            pass
        except OSError:
            self.dead = True
        messages = []
        while len(self.unread) >= SIZE.size:
            end = SIZE.size + SIZE.unpack_from(self.unread)[0]
            if len(self.unread) < end:
                break
            messages.append(pickle.loads(self.unread[SIZE.size : end]))
            del self.unread[:end]
        return messages

    def send(self) -> None:
        """As much as goes now."""
        try:
            while self.unsent:
                del self.unsent[: self.socket.send(self.unsent)]
        except BlockingIOError:
            pass
        except OSError:  # it is gone: its socket says so in a moment
            self.unsent.clear()

    def clock(self) -> float:
        """Its processor seconds. Raises ``OSError`` where it is gone."""
        return time.clock_gettime_ns(cpu_clock(self.pid)) / 1e9

    def kill(self) -> None:
        """Ends it at once, whatever it does; safe to call twice."""
        self.dead = True
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.process, signal.SIGKILL)
            os.close(self.process)
            self.process = 0
        self.socket.close()


class Workers:
    """Up to ``count`` workers, started as they are needed; usable from any thread."""

    def __init__(self, count: int, *, memory_limit: int, wall_limit: Callable[[float], float]) -> None:
        """``memory_limit``: bytes of address space of each; ``wall_limit``: seconds that a grading with a limit of so
        many processor seconds may sleep."""
        self._count, self._memory_limit, self._wall_limit = count, memory_limit, wall_limit
        self._pending: deque[Task] = deque()
        self._members: list[_Member] = []
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._numbers = 0
        self._hungry = False
        self._closing = self._finishing = False
        self._failures = 0
        now = time.monotonic()
        self._looked = self._next_start = self._last_start = now
        self._allowance = self._most = 2.0 * count + 10
        self._server_stopped = 0.0
        self._thread = threading.Thread(target=self._run, name="verifier-workers", daemon=True)
        self._thread.start()

    def submit(
        self, arguments: tuple[Any, ...], limit: float, call: Callable[..., Any] = grade
    ) -> Future[Any]:
        """A future of what a function returns for some arguments in a worker, which imports it by its name: grade and
        seconds. ``TimeoutError`` and ``WorkerError`` where there is none, ``MissingError`` where no worker can be
        started. Not for two threads at once."""
        if not self._thread.is_alive():
            raise RuntimeError("the workers are closed")
        self._numbers += 1
        task = Task(self._numbers, limit, arguments, call)
        self._pending.append(task)
        if self._hungry:
            os.eventfd_write(self._wake, 1)
        return task.future

    def close(self, *, wait: bool = False) -> None:
        """Kills the workers and cancels what has no result; with ``wait``, after all has one."""
        self._finishing = True
        self._closing = not wait
        if self._thread.is_alive():
            with contextlib.suppress(OSError):  # it ends by itself this moment
                os.eventfd_write(self._wake, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def forget(self) -> None:
        """In a fork: gives up what belongs to the parent's workers, without touching them."""
        for member in self._members:
            if member.process:
                os.close(member.process)
                member.process = 0
            member.socket.close()
        self._selector.close()
        with contextlib.suppress(OSError):  # the parent had closed it already
            os.close(self._wake)

    # --- the thread ------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closing:
                self._hand_out()
                if self._finishing and not self._pending and not any(m.tasks for m in self._members):
                    break
                self._hungry = len(self._members) < self._count or not all(m.tasks for m in self._members)
                for key, events in self._selector.select(self._pause()):
                    self._attend(key.data, events)
                self._hungry = False
                self._look()
        finally:
            self._end()

    def _pause(self) -> float | None:
        if self._pending:
            if any(m.pid and not m.tasks for m in self._members):
                return 0.0  # it was submitted after the others were handed out
            if len(self._members) < self._count:
                return LOOK_SECONDS / 4  # a worker may not be started yet
        return LOOK_SECONDS if any(m.tasks or not m.pid for m in self._members) else None

    def _end(self) -> None:
        left = [task for member in self._members for task in member.tasks]
        for member in self._members:
            member.kill()
        self._members.clear()
        self._selector.close()
        for task in [*left, *self._pending]:
            task.future.cancel()
        os.close(self._wake)

    def _attend(self, member: _Member | None, events: int) -> None:
        if member is None:
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            return
        if member not in self._members:
            return
        if events & selectors.EVENT_WRITE:
            member.send()
            self._register(member)
        for message in member.receive():
            if member.pid:
                self._settle(member, *message)
            else:
                self._welcome(member, message)
            if member not in self._members:
                return
        if member.dead:
            self._lost(member, "died")

    def _hand_out(self) -> None:
        everybody = len(self._members) == self._count and all(member.pid for member in self._members)
        for most in range(1, (AHEAD if everybody else 1) + 1):
            for member in self._members:
                if member.pid and len(member.tasks) < most and (task := self._next()):
                    self._give(member, task)
        self._start_workers()

    def _next(self) -> Task | None:
        while self._pending:
            task = self._pending.popleft()
            if task.open:
                return task
        return None

    def _give(self, member: _Member, task: Task) -> None:
        if not member.tasks:
            try:
                member.begin(member.clock())
            except OSError:  # its end is about to be heard of
                member.begin(member.cpu)
        task.holder = member
        member.tasks.append(task)
        member.unsent += task.data
        member.send()
        self._register(member)

    def _register(self, member: _Member) -> None:
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.unsent else 0)
        if self._selector.get_key(member.socket).events != events:
            self._selector.modify(member.socket, events, member)

    def _settle(self, member: _Member, number: int, cpu: float, answer: bytes) -> None:
        task = member.tasks.popleft()
        assert task.number == number
        late = cpu - member.started > task.limit  # between two looks
        member.begin(cpu)
        if not task.open:
            return
        result = pickle.loads(answer)
        if late:
            task.settle(TimeoutError())
        else:
            task.settle(WorkerError(result) if isinstance(result, str) else result)

    # --- starting and losing workers ---------------------------------------------------------------------------

    def _start_workers(self) -> None:
        now = time.monotonic()
        self._allowance = min(self._most, self._allowance + STARTS_A_SECOND * (now - self._last_start))
        self._last_start = now
        starting = sum(not member.pid for member in self._members)
        while (
            starting < len(self._pending)
            and len(self._members) < self._count
            and self._allowance >= 1
            and now >= self._next_start
            and not (starting and self._failures)
        ):
            ours, theirs = socket.socketpair()
            ours.setblocking(False)
            try:
                with theirs:
                    server.start_worker(theirs, self._memory_limit)
            except BlockingIOError:
                ours.close()
                self._next_start = now + 0.05
                return
            except OSError as error:
                ours.close()
                self._failed_start(f"{type(error).__name__}: {error}")
                return
            member = _Member(ours)
            self._members.append(member)
            self._selector.register(ours, selectors.EVENT_READ, member)
            self._allowance -= 1
            starting += 1

    def _welcome(self, member: _Member, pid: int) -> None:
        try:
            member.process = os.pidfd_open(pid)
        except OSError:
            member.dead = True
            return
        member.pid = pid
        self._failures = 0
        with contextlib.suppress(OSError):
            member.begin(member.clock())

    def _failed_start(self, why: str) -> None:
        now = time.monotonic()
        if not self._failures:
            self._failing_since = now
        self._failures += 1
        self._next_start = now + min(2.0, 0.05 * 2**self._failures)
        if self._failures >= _TRIES and now - self._failing_since >= PATIENCE and not self._members:
            while task := self._next():
                task.settle(MissingError(f"no verifier process can be started here ({why})"))
            self._failures = 0

    def _lost(self, member: _Member, how: str) -> None:
        """A worker is no more, or of no use: what it had goes to others; the grading under way has cost one."""
        if not member.pid:
            self._remove(member)
            self._failed_start("they end before they say hello")
            return
        task = self._remove(member)
        if task is None:
            return
        task.deaths += 1
        if task.deaths >= DEATHS:
            task.settle(WorkerError(f"its worker {how}, and so did the one before"))
        else:
            self._pending.appendleft(task)

    def _overdue(self, member: _Member) -> None:
        if (task := self._remove(member)) is not None:
            task.settle(TimeoutError())

    def _remove(self, member: _Member) -> Task | None:
        """Kills it; its waiting gradings go to others. Returns the one under way."""
        self._selector.unregister(member.socket)
        self._members.remove(member)
        member.kill()
        held = [task for task in member.tasks if task.holder is member and task.open]
        under_way = member.tasks[0] if held and held[0] is member.tasks[0] else None
        for task in reversed(held):
            task.holder = None
            if task is not under_way:
                self._pending.appendleft(task)
        return under_way

    # --- looking after them ------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS / 2:
            return
        passed, self._looked = min(now - self._looked, MOST_SECONDS), now
        for member in list(self._members):
            if not member.pid:
                member.asleep += passed
                if member.asleep > START_SECONDS:
                    self._lost(member, "did not start")
            elif member.tasks:
                with contextlib.suppress(OSError):  # gone: its socket says so in a moment
                    self._look_at(member, min(now - member.seen, MOST_SECONDS))
        self._look_at_server(passed)
        idle = sum(bool(member.pid) and not member.tasks for member in self._members)
        if idle and not self._pending:
            self._take_back(idle)

    def _look_at(self, member: _Member, passed: float) -> None:
        cpu, task = member.clock(), member.tasks[0]
        moved, member.cpu, member.seen = cpu - member.cpu, cpu, time.monotonic()
        if cpu - member.started > task.limit:
            self._overdue(member)
        elif moved < passed / 10:
            state = _state(member.pid)
            member.stopped = member.stopped + passed if state in "tT" else 0.0
            member.asleep += passed if state == "S" else 0.0
            if member.stopped > STOPPED_SECONDS:
                self._lost(member, "was stopped")
            elif member.asleep > self._wall_limit(task.limit):
                self._overdue(member)

    def _look_at_server(self, passed: float) -> None:
        """A server that has died is started before it is needed; one that is stopped gives way to another."""
        if not self._members or not (pid := server.pid):
            return
        waiting = any(not member.pid for member in self._members)
        self._server_stopped = self._server_stopped + passed if waiting and _state(pid) in "tT" else 0.0
        if self._server_stopped > STOPPED_SECONDS:
            self._server_stopped = 0.0
            server.kill()
        with contextlib.suppress(OSError):
            server.ensure()

    def _take_back(self, most: int) -> None:
        """Gradings that wait behind a slow one, for workers that have nothing to do: whoever is first counts."""
        for member in self._members:
            for task in list(member.tasks)[1:]:
                if most and task.holder is member and task.open:
                    task.holder = None
                    self._pending.append(task)
                    most -= 1


def _state(pid: int) -> str:
    """The letter by which the kernel calls a process's state (``R``, ``S``, ``T``, …); ``X`` where it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return "X"
