"""Ctrl-C, SIGTERM and SIGHUP: a command ends soon, at a safe point where it can, with a code that says so.

Python raises ``KeyboardInterrupt`` wherever the main thread happens to be: between counting an attempt and submitting
it, or half-way through starting a process pool. While an ``Interrupts`` is active, a signal raises only inside
``allowed()`` (generating, waiting); anywhere else it is remembered, and raised when the next such region begins.

A ``Command`` is around all that a command does: loading a model, for instance, may be interrupted anywhere. Where the
main thread does not come to its end in time (it sits in a long call of a library), the process is ended from another
thread. That is safe at any moment: whatever is stored survives ``kill -9``.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
END_SECONDS = 4.0
"""Seconds after a signal until a command that has not ended is ended."""
AGAIN_SECONDS = 0.5
"""Seconds after a second signal until a command that has not ended is ended."""
ONE_SECONDS = 0.3
"""Signals that come so soon after the first are the same one: ``timeout`` sends to the process and to its group."""

T = TypeVar("T")
Handler = Callable[[int, FrameType | None], None]


def _install(handler: Handler) -> dict[signal.Signals, Any]:
    """Has signals go to a handler; the handlers before it. A SIGHUP that is ignored (``nohup``) stays so."""
    before = {
        number: signal.getsignal(number)
        for number in SIGNALS
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    }
    for number in before:
        signal.signal(number, handler)
    return before


def _put_back(before: dict[signal.Signals, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class Interrupts:
    """A context manager for the main thread; in any other thread it does nothing, since signals do not arrive there."""

    def __init__(self) -> None:
        self._allowed = False
        self._pending = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if _in_main_thread():
            self._old = _install(self._receive)
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        _put_back(self._old)
        self._old = {}
        if self._pending and kind is None:
            self._raise()

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """A region in which ``KeyboardInterrupt`` may be raised at any point."""
        allowed, self._allowed = self._allowed, True
        try:
            if self._pending:
                self._raise()
            yield
        finally:
            self._allowed = allowed

    def during(self, items: Iterable[T]) -> Iterator[T]:
        """The items of an iterable; ``KeyboardInterrupt`` may be raised while one is made, not while it is used."""
        iterator = iter(items)
        while True:
            allowed, self._allowed = (
                self._allowed,
                True,
            )  # ``allowed``, written out: there are millions of items
            try:
                if self._pending:
                    self._raise()
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self._allowed = allowed
            yield item

    @contextmanager
    def held(self) -> Iterator[None]:
        """A region within an allowed one that is done whole: an interrupt waits for its end."""
        allowed, self._allowed = self._allowed, False
        try:
            yield
        finally:
            self._allowed = allowed
        if allowed and self._pending:
            self._raise()

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signature of handlers
        if self._allowed:
            self._raise()
        self._pending = True

    def _raise(self) -> None:
        self._pending = False
        raise KeyboardInterrupt


class Command:
    """A context manager around a whole command, in the main thread; in any other one it does nothing."""

    def __init__(self) -> None:
        self.number: int | None = None
        """The signal that came first."""
        self._old: dict[signal.Signals, Any] = {}
        self._wake: tuple[socket.socket, socket.socket] | None = None

    @property
    def exit_code(self) -> int | None:
        """What the command ends with, where a signal came: 130 for SIGINT, 143 for SIGTERM, 129 for SIGHUP."""
        return None if self.number is None else 128 + self.number

    def __enter__(self) -> Command:
        global _current
        if _in_main_thread():
            self._wake = reading, writing = socket.socketpair()
            writing.setblocking(False)
            self._old_wake = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
            self._old = _install(self._receive)
            threading.Thread(target=self._watch, args=(reading,), name="interrupts", daemon=True).start()
            self._outer, _current = _current, self
        return self

    def __exit__(self, *exc: object) -> None:
        global _current
        if self._wake is not None:
            _put_back(self._old)
            signal.set_wakeup_fd(self._old_wake)
            self._wake[1].close()  # the thread reads that, and ends
            self._wake = None
            _current = self._outer

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signature of handlers
        if self.number is None:
            self.number = number
        raise KeyboardInterrupt

    def _watch(self, reading: socket.socket) -> None:
        """Hears of signals also while the main thread does not get to its handlers."""
        first, deadline = 0.0, None
        with reading:
            while True:
                reading.settimeout(None if deadline is None else max(0.0, deadline - time.monotonic()))
                try:
                    heard = reading.recv(1)
                except (TimeoutError, BlockingIOError):
                    if not self._unhurried or self._again:
                        self._end()
                    deadline = time.monotonic() + AGAIN_SECONDS
                    continue
                if not heard:
                    return
                if heard[0] not in SIGNALS:
                    continue
                now = time.monotonic()
                if deadline is None:
                    first, deadline = now, now + END_SECONDS
                    self.number = self.number or heard[0]
                elif now - first >= ONE_SECONDS:
                    self._again, deadline = True, min(deadline, now + AGAIN_SECONDS)

    _again = False
    _unhurried = 0

    def _end(self) -> None:
        said = "interrupted in the middle of something long; what was finished is kept\n"
        with contextlib.suppress(OSError):
            shown = "\x1b[?25h\n" if os.isatty(2) else ""  # a progress bar hides the cursor
            os.write(2, (shown + said).encode())
        os._exit(self.exit_code or 1)


_current: Command | None = None


@contextmanager
def unhurried() -> Iterator[None]:
    """A region that a signal gives the time that it takes: saving a checkpoint, for instance. A second one does not."""
    command = _current
    if command is None:
        yield
        return
    command._unhurried += 1
    try:
        yield
    finally:
        command._unhurried -= 1


def run(work: Callable[[], None]) -> None:
    """Does the work of a command, which ends in ``SystemExit``; where a signal ended it, with the code of that."""
    with Command() as command:
        try:
            work()
        except BaseException as error:
            if command.exit_code is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
                raise
            sys.exit(command.exit_code)
