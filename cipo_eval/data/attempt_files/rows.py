"""The rows of attempt files by number: where each is, what it says of its problem, and which attempts it holds.

What takes space, the texts, stays in the file and is read again when somebody asks for it: of a file of ten gigabytes
only numbers are kept. A file that cannot be read in places (gzipped, or one JSON array) is kept.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cipo_eval.data.attempt_files.clues import Clues, clues_of
from cipo_eval.data.attempt_files.layouts import read_completions
from cipo_eval.data.attempt_files.lines import Line, mark_of, parse
from cipo_eval.data.attempt_files.pairing import Held
from cipo_eval.data.attempt_files.parts import NO_LABEL, Other, Part, parts_of
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion

if TYPE_CHECKING:
    from cipo_eval.verifiers.pool import VerifierPool

IntArray = NDArray[np.int64]


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
        self._labels, self._texts = array("q"), array("q")
        """By attempt its number in the file (``NO_LABEL``), and a hash of its text."""
        self._large: dict[int, int] = {}
        self._others: dict[int, Other] = {}
        self._kept: dict[int, tuple[Completion, ...]] = {}
        """By row what cannot be read again."""
        self._reader = Reader()

    def __len__(self) -> int:
        return len(self._lines)

    @property
    def attempts(self) -> int:
        """How many attempts they hold."""
        return len(self._texts)

    def read(
        self, path: Path, digest: Callable[[bytes], None], pool: VerifierPool | None = None
    ) -> tuple[range, list[Clues], Sequence[int]]:
        """Reads a file, together with the workers of a ``pool`` where it is large; ``digest`` is given every byte.
        Returns its rows, what they say of their problems, each once in the order in which it was last said, and by row
        the place in that list."""
        number_of: dict[Clues, int] = {}
        seen: dict[Hashable, int] = {}
        last: list[int] = []
        start = len(self)
        self._paths.append(path)
        self._names.append(path.name)
        self._begins.append(start)
        unit = "line"
        for before, part in parts_of(path, digest, pool):
            unit = part.unit
            for row, known in enumerate(part.told, start=len(self)):
                number = seen.get(known, -1)
                if number < 0:
                    number = seen[known] = number_of.setdefault(clues_of(known), len(last))
                    if number == len(last):
                        last.append(0)
                last[number] = row
                self._clue.append(number)
            self._add(before, part)
        self._units.append(unit)
        order = sorted(range(len(last)), key=last.__getitem__)
        place = {number: at for at, number in enumerate(order)}
        said_once = list(number_of)
        rows = range(start, len(self))
        return rows, [said_once[number] for number in order], [place[self._clue[row]] for row in rows]

    def _add(self, before: int, part: Part) -> None:
        """The rows of a part that has so many lines before it."""
        row, attempt = len(self), self.attempts
        lines, offsets, lengths, marks, counts = part.rows
        self._lines.extend([before + line for line in lines] if before else lines)
        self._offsets.extend(offsets)
        self._lengths.extend(lengths)
        self._marks.extend(marks)
        self._first.extend(islice(accumulate(counts, initial=attempt), 1, None))
        self._labels.extend(part.labels)
        self._texts.extend(part.texts)
        self._large.update({attempt + at: label for at, label in part.large.items()})
        self._others.update({attempt + at: other for at, other in part.others.items()})
        self._kept.update({row + at: kept for at, kept in part.kept.items()})

    def attempts_of(self, row: int) -> range:
        """The attempts that a row holds."""
        return range(self._first[row], self._first[row + 1])

    def turn(self, attempt: int) -> tuple[str, int] | None:
        """Protocol and turn of an attempt, where its row says them."""
        other = self._others.get(attempt)
        return other.turn if other else None

    def carry(self, attempt: int, corrected: str) -> None:
        """Notes the text that an attempt corrects, where its row does not say it."""
        other = self._others.get(attempt, Other())
        self._others[attempt] = other._replace(corrected=other.corrected or corrected)

    def held(self, attempts: Iterable[int]) -> list[Held]:
        """What these rows say of their attempts; ``number`` is 0."""
        usual = Other()
        return [Held(at, self._label(at), *self._others.get(at, usual)) for at in attempts]

    def _label(self, attempt: int) -> int | None:
        label = self._labels[attempt]
        return self._large.get(attempt) if label == NO_LABEL else label

    def labels(self, attempts: IntArray) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Their numbers in the file, which may be whole numbers of any size, and whether they have one; both of shape
        (attempts,)."""
        labels: NDArray[Any] = np.frombuffer(self._labels, np.int64)[attempts]
        labelled = labels != NO_LABEL
        if self._large:
            large = {
                place: self._large[at] for place, at in enumerate(attempts.tolist()) if at in self._large
            }
            labels = labels.astype(object)
            for place, label in large.items():
                labels[place], labelled[place] = label, True
        return labels, labelled

    def text_marks(self, attempts: IntArray) -> IntArray:
        """Equal for attempts with the same text, 0 for empty ones; shape (attempts,)."""
        return np.frombuffer(self._texts, np.int64)[attempts]

    def where(self, row: int) -> str:
        """``file line 3``, for messages."""
        file = bisect_right(self._begins, row) - 1
        return f"{self._paths[file].name} {self._units[file]} {self._lines[row]}"

    def row_of(self, attempt: int) -> int:
        """The row that an attempt is in."""
        return bisect_right(self._first, attempt) - 1

    def repeated(self) -> Iterator[int]:
        """The rows that are the same as an earlier one letter for letter."""
        marks = np.frombuffer(self._marks, np.int64) if len(self) else np.zeros(0, np.int64)
        order = np.argsort(marks, kind="stable")
        yield from np.sort(order[1:][marks[order][1:] == marks[order][:-1]]).tolist()

    def completion(self, attempt: int) -> Completion:
        """The attempt as the file has it. Raises ``UsageError`` where the file was changed."""
        place = self.place(attempt)
        return self._reader.read(place) if isinstance(place, Place) else place

    def place(self, attempt: int) -> Place | Completion:
        """Where the attempt can be read again; itself, where it cannot."""
        row = self.row_of(attempt)
        at = attempt - self._first[row]
        if row in self._kept:
            return self._kept[row][at]
        path = self._paths[bisect_right(self._begins, row) - 1]
        return Place(path, self._lines[row], self._offsets[row], self._lengths[row], self._marks[row], at)

    def close(self) -> None:
        """Closes the file that was read last."""
        self._reader.close()
