"""The rows of attempt files by number: where each is, what it says of its problem, and which attempts it holds.

What takes space, the texts, stays in the file and is read again when somebody asks for it: of a file of ten gigabytes
only numbers are kept. A file that cannot be read in places (gzipped, or one JSON array) is kept.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from cipo_eval.data.attempt_files.clues import Clues, clues, told
from cipo_eval.data.attempt_files.layouts import read_completions, read_row
from cipo_eval.data.attempt_files.lines import Line, mark_of, parse, read_lines
from cipo_eval.data.attempt_files.pairing import Held
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion


class Place(NamedTuple):
    """Where an attempt is: enough to read it again, in any process."""

    path: Path
    line: int
    offset: int
    length: int
    mark: int
    at: int
    """Its place in the row."""


class Reader:
    """Reads attempts again where they are, one file at a time."""

    def __init__(self) -> None:
        self._open: tuple[Path, IO[bytes]] | None = None
        self._name = ""
        self._last: tuple[Place, tuple[Completion, ...]] | None = None

    def read(self, place: Place) -> Completion:
        """The attempt as the file has it. Raises ``UsageError`` where the file was changed."""
        last = self._last
        if last is None or last[0].offset != place.offset or last[0].path != place.path:
            self._last = last = place, self._again(place)
        return last[1][place.at]

    def _again(self, row: Place) -> tuple[Completion, ...]:
        path, line, offset, length, mark, _ = row
        try:
            # comparing paths takes longer than reading a row
            if self._open is None or (self._open[0] is not path and self._open[0] != path):
                self.close()
                self._open, self._name = (path, path.open("rb", buffering=0)), path.name
            text = os.pread(self._open[1].fileno(), length, offset)
        except OSError as error:
            raise UsageError(f"cannot read {path}: {error.strerror}") from error
        if mark_of(text.strip()) != mark:
            raise UsageError(f"{path} was changed while it was read: run the command again")
        return read_completions(Line(self._name, line, parse(text, self._name), mark))

    def close(self) -> None:
        """Closes the file that was read last."""
        if self._open is not None:
            self._open[1].close()
            self._open = None


class FileRows:
    """The rows of files, numbered from 0 over all of them, and their attempts likewise."""

    def __init__(self) -> None:
        self._paths: list[Path] = []
        self._names: list[str] = []
        self._begins: list[int] = []
        """First row of each file."""
        self._lines, self._offsets, self._lengths, self._marks = (array("q") for _ in range(4))
        self._units: list[str] = []
        self._clue = array("q")
        self._first = array("q", [0])
        """By row its first attempt, and at the end the number of all."""
        self._texts = array("q")
        """By attempt a hash of its text."""
        self._kept: dict[int, tuple[Completion, ...]] = {}
        """By row what cannot be read again."""
        self._reader = Reader()
        self.held: list[Held] = []
        """The attempts."""

    def __len__(self) -> int:
        return len(self._lines)

    def read(self, path: Path, digest: Callable[[bytes], None]) -> tuple[range, list[Clues], Sequence[int]]:
        """Reads a file; ``digest`` is given every byte. Returns its rows, what they say of their problems, each once in
        the order in which it was last said, and by row the place in that list."""
        number_of: dict[Clues, int] = {}
        seen: dict[Hashable, int] = {}
        last: list[int] = []
        start = len(self)
        self._paths.append(path)
        self._names.append(path.name)
        self._begins.append(start)
        unit = "line"
        for line in read_lines(path, digest):
            unit = line.unit
            known = told(line.fields)
            number = -1 if known is None else seen.get(known, -1)
            if number < 0:
                number = number_of.setdefault(clues(line.fields), len(last))
                if number == len(last):
                    last.append(0)
                if known is not None:
                    seen[known] = number
            last[number] = len(self)
            self._clue.append(number)
            self._add(line)
        self._units.append(unit)
        order = sorted(range(len(last)), key=last.__getitem__)
        place = {number: at for at, number in enumerate(order)}
        said_once = list(number_of)
        rows = range(start, len(self))
        return rows, [said_once[number] for number in order], [place[self._clue[row]] for row in rows]

    def _add(self, line: Line) -> None:
        content, row = read_row(line), len(self)
        self._lines.append(line.number)
        self._offsets.append(line.offset)
        self._lengths.append(line.length)
        self._marks.append(line.mark)
        if line.offset < 0:
            self._kept[row] = content.completions
        for i, completion in enumerate(content.completions):
            self.held.append(
                Held(
                    at=len(self._texts),
                    label=None if content.sample is None else content.sample + i,
                    turn=content.turn,
                    corrected=content.corrected[i],
                    right=content.labels[i],
                    critique=content.critique,
                )
            )
            self._texts.append(hash(completion.text))
        self._first.append(len(self._texts))

    def attempts(self, row: int) -> list[Held]:
        """Those that a row holds."""
        return self.held[self._first[row] : self._first[row + 1]]

    def where(self, row: int) -> str:
        """``file line 3``, for messages."""
        file = bisect_right(self._begins, row) - 1
        return f"{self._paths[file].name} {self._units[file]} {self._lines[row]}"

    def row_of(self, attempt: Held) -> int:
        """The row that an attempt is in."""
        return bisect_right(self._first, attempt.at) - 1

    def text_mark(self, attempt: Held) -> int:
        """Equal for attempts with the same text."""
        return self._texts[attempt.at]

    def repeated(self) -> Iterator[int]:
        """The rows that are the same as an earlier one letter for letter."""
        marks = np.frombuffer(self._marks, np.int64) if len(self) else np.zeros(0, np.int64)
        order = np.argsort(marks, kind="stable")
        yield from np.sort(order[1:][marks[order][1:] == marks[order][:-1]]).tolist()

    def completion(self, attempt: Held) -> Completion:
        """The attempt as the file has it. Raises ``UsageError`` where the file was changed."""
        place = self.place(attempt)
        return self._reader.read(place) if isinstance(place, Place) else place

    def place(self, attempt: Held) -> Place | Completion:
        """Where the attempt can be read again; itself, where it cannot."""
        row = self.row_of(attempt)
        at = attempt.at - self._first[row]
        if row in self._kept:
            return self._kept[row][at]
        path = self._paths[bisect_right(self._begins, row) - 1]
        return Place(path, self._lines[row], self._offsets[row], self._lengths[row], self._marks[row], at)

    def close(self) -> None:
        """Closes the file that was read last."""
        self._reader.close()
