"""What a sample writes, read from outside: cut into lines, each a record of one test.

A sample is hostile: a line may hold anything. What is no record becomes one that is no value.
"""

from __future__ import annotations

import math
from typing import Any

from cipo_eval.sandbox import codec, protocol, sample

MAX_MARKS = 8 * codec.MAX_NODES
"""Commas and brackets of one record: what is parsed takes up to thirty times the room of its text."""
LOADED, LOADED_RECORD = b'["l"]', ["l"]
"""The line of a program that has loaded, and its record."""
Record = list[Any]
"""What came of one test, or of loading the program: its kind, a letter, then what belongs to it (``sample``)."""


class Lines:
    """Cuts what a sample writes into lines, and counts it."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._rest = bytearray()

    def cut(self, payload: bytearray) -> tuple[float, list[bytes]]:
        """Processor seconds so far, and the lines that are complete now. Raises ``ProtocolError``."""
        start = protocol.DATA_HEADER.size
        self._room -= len(payload) - start
        if len(payload) < start or self._room < 0:
            raise protocol.ProtocolError("a frame of data that is too short, or one too many")
        cpu = float(protocol.DATA_HEADER.unpack_from(payload)[0])
        if not math.isfinite(cpu):
            raise protocol.ProtocolError("no time")
        end = payload.rfind(b"\n", start)
        if end < 0:
            self._rest += payload[start:]
            return cpu, []
        lines = bytes(self._rest + payload[start:end]).split(b"\n")
        self._rest = payload[end + 1 :]
        return cpu, lines


_SIZES = {"l": 1, "e": 4, "v": 2, "x": 4, "u": 2, "p": 5}


def record(line: bytes) -> Record:
    """A line that a sample wrote; what is no record becomes ``["u"]``: no value, no verdict but a wrong one."""
    if sum(map(line.count, (b",", b"[", b"{"))) > MAX_MARKS:
        return ["u", "too large"]
    try:
        entry = codec.parse(line)
    except codec.CodecError as error:
        return ["u", f"not a record: {error}"]
    kind = entry[0] if isinstance(entry, list) and entry and isinstance(entry[0], str) else ""
    if not isinstance(entry, list) or _SIZES.get(kind) != len(entry):
        return ["u", "not a record"]
    texts = {"e": entry[1:], "x": entry[1:], "u": entry[1:], "p": entry[1:3]}.get(kind, [])
    if not all(isinstance(part, str) for part in texts):
        return ["u", "not a record"]
    if kind == "p":
        if type(entry[3]) is not int or not 0 <= entry[3] < 256 or not all(map(_is_latin, texts)):
            return ["u", "not a record"]
        return ["p", entry[1], entry[2][-sample.STDERR_TAIL :], entry[3], bool(entry[4])]
    return [kind, *map(_words, texts)] if texts else entry


def _is_latin(text: str) -> bool:
    return text.isascii() or max(text) <= "\xff"


def _words(text: str) -> str:
    """What a program says about itself, in a form and length that can be printed and kept."""
    return text[: sample.TEXT_LIMIT].encode("utf-8", "backslashreplace").decode("utf-8")
