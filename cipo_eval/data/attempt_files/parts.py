"""A file of attempts in parts: what its rows say of their problems, and which attempts they hold, all but the texts.

Large files are read by the verifiers' workers and by this process, whoever has time; what comes of it does not depend
on who that was.
"""

from __future__ import annotations

import os
from array import array
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, TimeoutError
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cipo_eval.data.attempt_files.clues import clues, told
from cipo_eval.data.attempt_files.layouts import read_completions, read_row
from cipo_eval.data.attempt_files.lines import Line, has_lines, mark_of, read_lines, rows_of_part
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion

if TYPE_CHECKING:
    from cipo_eval.verifiers.pool import VerifierPool

BYTES, ROWS = 1 << 20, 4096
"""A part ends with the line that makes it so large; where this process reads alone, after so many rows."""
LEAST = 8 * BYTES
"""Smaller files are read by this process alone: workers take longer to get ready."""
PART_SECONDS = 30.0
"""Processor seconds after which the worker of a part hangs."""
AHEAD, MOST = 2, 64
"""Parts under way for each worker, and parts that are read and wait for an earlier one."""
NO_LABEL = (1 << 63) - 1
"""In place of a label: there is none."""
LARGE = 1 << 62
"""From here on labels have places of their own: what is in the file may have any number of digits."""


class Other(NamedTuple):
    """What attempts of few files have."""

    turn: tuple[str, int] | None = None
    corrected: str | None = None
    right: bool | None = None
    critique: bool = False


class Part(NamedTuple):
    """The rows of a part of a file."""

    rows: tuple[array[int], ...]
    """By row: its line, from 1 on in the part, its offset in the file, length, mark, and how many attempts it holds."""
    told: Sequence[Hashable]
    """By row what is ``told`` of its problem, or its ``Clues``."""
    labels: array[int]
    """By attempt its number in the file, or ``NO_LABEL``."""
    large: Mapping[int, int]
    """By attempt the labels that no column can hold."""
    texts: array[int]
    """By attempt a hash of its text that is the same in every process; 0: it is empty."""
    others: Mapping[int, Other]
    """By attempt."""
    kept: Mapping[int, tuple[Completion, ...]]
    """By row what cannot be read again."""
    unit: str


def parts_of(
    path: Path, digest: Callable[[bytes], None], pool: VerifierPool | None = None
) -> Iterator[tuple[int, Part]]:
    """The parts of a file in their order, each with the number of lines before it; ``digest`` is given every byte. A
    large file is read by the workers of the ``pool`` as well. Raises ``UsageError`` for the first row that is wrong."""
    if pool is not None and has_lines(path) and path.stat().st_size >= LEAST:
        yield from _by_many(path, digest, pool)
        return
    lines = read_lines(path, digest)
    while some := list(islice(lines, ROWS)):
        yield 0, read_part(some)


class _Read(NamedTuple):
    """A part that is read, or about to be."""

    begin: int
    length: int
    part: Future[tuple[int, Part]] | tuple[int, Part] | None
    """With the number of its lines; None: something is wrong with it."""


def _by_many(path: Path, digest: Callable[[bytes], None], pool: VerifierPool) -> Iterator[tuple[int, Part]]:
    open_ones: deque[_Read] = deque()
    before = 0
    ranges = _ranges(path, digest)
    ahead = AHEAD * pool.workers
    while True:
        of = next(ranges, None) if len(open_ones) < MOST else None
        if of is not None:
            under_way = sum(isinstance(read.part, Future) and not read.part.done() for read in open_ones)
            if under_way < ahead:
                open_ones.append(_Read(*of, pool.call(read_range, (path, *of), PART_SECONDS)))
            else:  # rather than wait
                open_ones.append(_Read(*of, _here(path, *of)))
        elif not open_ones:
            return
        wait = of is None
        while open_ones and (wait or _is_there(open_ones[0].part)):
            lines, rows = _outcome(path, open_ones.popleft(), before)
            yield before, rows
            before += lines
            wait = False  # for one at a time


def _ranges(path: Path, digest: Callable[[bytes], None]) -> Iterator[tuple[int, int]]:
    """Where parts begin, and their lengths: whole lines."""
    begin = 0
    try:
        with path.open("rb") as file:
            while data := file.read(BYTES):
                if data[-1:] != b"\n":
                    data += file.readline()
                digest(data)
                yield begin, len(data)
                begin += len(data)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _is_there(part: Future[tuple[int, Part]] | tuple[int, Part] | None) -> bool:
    return not isinstance(part, Future) or part.done()


def _here(path: Path, begin: int, length: int) -> tuple[int, Part] | None:
    try:
        return read_range(path, begin, length)
    except UsageError:
        return None  # it is told when all rows before are read


def _outcome(path: Path, read: _Read, before: int) -> tuple[int, Part]:
    """A part and the number of its lines, waiting for it. What went wrong is looked at here, for its message."""
    from cipo_eval.verifiers.workers import WorkerError

    part = read.part
    try:
        if isinstance(part, Future):
            part = part.result()
    except (TimeoutError, WorkerError):
        part = None
    return part or read_range(path, read.begin, read.length, before)


def read_range(path: Path, begin: int, length: int, before: int | None = None) -> tuple[int, Part]:
    """The number of lines of a part of a file, and the part. ``before``: lines before it, where they are known. Raises
    ``UsageError``."""
    try:
        with path.open("rb") as file:
            data = os.pread(file.fileno(), length, begin)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    if len(data) < length:
        raise UsageError(f"{path} was changed while it was read: run the command again")
    first = 2 if before is None else before + 1  # not the first line, of which more is asked
    return data.count(b"\n"), read_part(rows_of_part(path, begin, data, first), first)


def read_part(lines: Iterable[Line], first: int = 1) -> Part:
    """The part that begins with line ``first``."""
    rows = tuple(array("q") for _ in range(5))
    numbers, offsets, lengths, marks, counts = rows
    said: list[Hashable] = []
    labels, texts = array("q"), array("q")
    large: dict[int, int] = {}
    others: dict[int, Other] = {}
    kept: dict[int, tuple[Completion, ...]] = {}
    unit = "line"
    for line in lines:
        content = read_row(line)
        count = len(content.texts)
        known = told(line.fields)
        said.append(clues(line.fields) if known is None else known)
        if line.offset < 0:
            kept[len(numbers)] = read_completions(line)
        unit = line.unit
        numbers.append(line.number + 1 - first)
        offsets.append(line.offset)
        lengths.append(line.length)
        marks.append(line.mark)
        counts.append(count)
        usual = (
            content.turn is None
            and content.corrected.count(None) == count == content.labels.count(None)
            and not content.critique
        )
        for i, text in enumerate(content.texts):
            label = NO_LABEL if content.sample is None else content.sample + i
            if not -LARGE < label < LARGE and content.sample is not None:
                large[len(labels)], label = label, NO_LABEL
            if not usual:
                others[len(labels)] = Other(
                    content.turn, content.corrected[i], content.labels[i], content.critique
                )
            labels.append(label)
            texts.append((mark_of(text.encode("utf-8", "surrogatepass")) or 1) if text else 0)
    return Part(rows, said, labels, large, texts, others, kept, unit)
