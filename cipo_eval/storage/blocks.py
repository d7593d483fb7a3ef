"""Attempts as they are stored, made in another process: their lines and their numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cipo_eval.records import Attempt
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.lines import line_of
from cipo_eval.storage.numbers import Numbers, Packed


class Block(NamedTuple):
    """Attempts at one task, in their order."""

    task: str
    lines: list[bytes]
    packed: Packed
    """Their numbers; places are those in the lines."""

    @classmethod
    def of(cls, task: str, attempts: Iterable[Attempt]) -> Block:
        """Raises ``ValueError`` for counts that no column can hold."""
        lines: list[bytes] = []
        numbers, end = Numbers(), 0
        for attempt in attempts:
            line = line_of(attempt)
            numbers.add(attempt, end, len(line))
            lines.append(line)
            end += len(line)
        return cls(task, lines, numbers.sent())

    def __bool__(self) -> bool:
        return bool(self.lines)

    def part(self, start: int, stop: int) -> Block:
        """Some of the attempts."""
        if (start, stop) == (0, len(self.lines)):
            return self
        packed = self.packed.part(start, stop)
        if stop > start:
            rows = packed.rows.copy()
            rows["offset"] -= rows["offset"][0]
            packed = packed._replace(rows=rows)
        return Block(self.task, self.lines[start:stop], packed)

    def attempts(self) -> Attempts:
        """Their numbers, to be counted; texts are not there."""
        numbers = Numbers()
        numbers.join(self.packed)
        return Attempts(numbers, np.arange(len(numbers)), lambda _: iter(()), distinct=True)
