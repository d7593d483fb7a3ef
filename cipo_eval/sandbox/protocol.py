"""Frames between the harness and a sandbox: one byte of kind, four of length, the payload.

Sent into the sandbox as text: standard library only. The harness reads with a limit and a deadline, and trusts nothing
in a frame: its sender runs hostile code in its children.
"""

from __future__ import annotations

import os
import select
import struct
import time

JOB, COMMAND, FINISH, KILL = b"J", b"C", b"F", b"K"
"""To the sandbox: a job; one more test for a live job; no more of them; end the job now. The last two carry nothing."""
HELLO, DATA, END, ASK = b"H", b"D", b"E", b"A"
"""From it: what confines it; what the sample wrote; how the job ended; a call that a judge wants made."""
KINDS = frozenset((JOB, COMMAND, FINISH, KILL, HELLO, DATA, END, ASK))

_HEADER = struct.Struct("<cI")
DATA_HEADER = struct.Struct("<dd")
"""Before the bytes of ``DATA``: processor seconds of the sample so far, wall seconds since its start."""
MAX_FRAME = 1 << 30


class ProtocolError(Exception):
    """The other side is gone, silent beyond the deadline, or does not speak this protocol."""


def write(fd: int, kind: bytes, payload: bytes = b"") -> None:
    """Sends a frame. Raises ``ProtocolError`` where the other side is gone."""
    data = memoryview(_HEADER.pack(kind, len(payload)) + payload)
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError as error:
        raise ProtocolError(f"the other side is gone ({error})") from error


class Reader:
    """Frames from a descriptor."""

    def __init__(self, fd: int, limit: int = MAX_FRAME) -> None:
        self.fd = fd
        self._limit = limit
        self._buffer = bytearray()

    def read(self, deadline: float | None = None) -> tuple[bytes, bytes]:
        """The next frame. ``deadline`` is of ``time.monotonic``. Raises ``ProtocolError``."""
        self._fill(_HEADER.size, deadline)
        kind, length = _HEADER.unpack_from(self._buffer)
        if kind not in KINDS or length > self._limit:
            raise ProtocolError(f"not a frame: kind {kind!r}, length {length}")
        whole = _HEADER.size + length
        self._fill(whole, deadline)
        payload = bytes(memoryview(self._buffer)[_HEADER.size : whole])
        del self._buffer[:whole]
        return kind, payload

    def _fill(self, size: int, deadline: float | None) -> None:
        while len(self._buffer) < size:
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                    raise ProtocolError("silent beyond the deadline")
            try:
                data = os.read(self.fd, max(1 << 16, size - len(self._buffer)))
            except OSError as error:
                raise ProtocolError(f"cannot be read ({error})") from error
            if not data:
                raise ProtocolError("the other side is gone")
            self._buffer += data

    @property
    def pending(self) -> bool:
        """Whether bytes of a further frame have been read already (a poll of the descriptor would not tell)."""
        return len(self._buffer) > 0
