"""Frames between the harness and a sandbox: one byte of kind, four of length, the payload.

Sent into the sandbox as text: standard library only. The harness reads with a limit and a deadline, and trusts nothing
in a frame: its sender runs hostile code in its children.

A job's program and tests follow its frame as plain bytes, which only the process that runs the program reads: whatever
the zygote has once held in its memory, later programs could find in theirs.
"""

from __future__ import annotations

import os
import select
import struct
import time

JOB, COMMAND, FINISH, KILL = b"J", b"C", b"F", b"K"
"""To the sandbox: a job; one more test for a live job; no more of them; end the job now. The last two carry nothing."""
HELLO, DATA, PRINTED, END, ASK = b"H", b"D", b"P", b"E", b"A"
"""From it: what confines it; what the sample wrote; what was on its standard output when it ended; how the job ended; a
call that a judge wants made."""
KINDS = frozenset((JOB, COMMAND, FINISH, KILL, HELLO, DATA, PRINTED, END, ASK))

HEADER = struct.Struct("<cI")
DATA_HEADER = struct.Struct("<dd")
"""Before the bytes of ``DATA``: processor seconds of the sample so far, wall seconds since its start."""
MAX_FRAME = 1 << 30
"""Bytes of a frame's payload."""
_PIECE = 1 << 20


class ProtocolError(Exception):
    """The other side is gone, silent beyond the deadline, or does not speak this protocol."""


def frame(kind: bytes, payload: bytes = b"") -> bytes:
    """A frame's bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def write(fd: int, kind: bytes, payload: bytes = b"") -> None:
    """Sends a frame. Raises ``ProtocolError`` where the other side is gone."""
    send(fd, frame(kind, payload))


def send(fd: int, data: bytes | memoryview) -> None:
    """Sends bytes as they are. Raises ``ProtocolError`` where the other side is gone."""
    left = memoryview(data)
    while left:
        left = left[put(fd, left) :]


def put(fd: int, data: memoryview) -> int:
    """write(2): the number of bytes that went. Raises ``ProtocolError``, ``BlockingIOError``."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        raise
    except OSError as error:
        raise ProtocolError(f"the other side is gone ({error})") from error


class Reader:
    """Frames from a descriptor; takes no byte beyond a frame, so that a poll of it tells whether there are more."""

    def __init__(self, fd: int, limit: int = MAX_FRAME) -> None:
        self.fd = fd
        self._limit = limit

    def read(self, deadline: float | None = None) -> tuple[bytes, bytearray]:
        """The next frame. ``deadline`` is of ``time.monotonic``. Raises ``ProtocolError``."""
        kind, length = HEADER.unpack(self.take(HEADER.size, deadline))
        if kind not in KINDS or length > self._limit:
            raise ProtocolError(f"not a frame: kind {kind!r}, length {length}")
        return kind, self.take(length, deadline)

    def take(self, size: int, deadline: float | None = None) -> bytearray:
        """The next ``size`` bytes. Raises ``ProtocolError``."""
        data = bytearray()
        while len(data) < size:  # grows with what has come, not with what was announced
            at = len(data)
            data += bytes(min(_PIECE, size - at))
            with memoryview(data) as view:
                while at < len(data):
                    at += self._receive(view[at:], deadline)
        return data

    def _receive(self, room: memoryview, deadline: float | None) -> int:
        if deadline is not None:
            wait(deadline, self.fd)
        try:
            count = os.readv(self.fd, [room])
        except OSError as error:
            raise ProtocolError(f"cannot be read ({error})") from error
        if not count:
            raise ProtocolError("the other side is gone")
        return count


def ready(fd: int, seconds: float) -> bool:
    """Whether there is something to be read, within so many seconds."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def wait(deadline: float, reading: int, writing: int | None = None) -> bool:
    """Waits until one descriptor can be read or the other written; returns whether it can be written. ``deadline``: of
    ``time.monotonic``; beyond it this raises ``ProtocolError``.

    With poll: select(2) takes no descriptor beyond 1023.
    """
    poll = select.poll()
    poll.register(reading, select.POLLIN)
    if writing is not None:
        poll.register(writing, select.POLLOUT)
    left = deadline - time.monotonic()
    events = poll.poll(left * 1000) if left > 0 else []
    if not events:
        raise ProtocolError("silent beyond the deadline")
    return any(fd == writing for fd, _ in events)
