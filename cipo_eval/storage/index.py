"""The numbers of an attempts file, kept beside it (``index/<task>.npz``), so that nobody has to read ten gigabytes to
count.

The index is never the only copy: it is made of the file wherever it is missing, of another release, or older. It says
how many bytes of the file it covers and their digest; what was appended since is read and added.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from cipo_eval.errors import UsageError
from cipo_eval.files import DamagedLineError, read_json_lines, whole_file
from cipo_eval.records import Attempt, Mode
from cipo_eval.storage.attempts import Attempts, IntArray
from cipo_eval.storage.lines import attempt_of, values_of
from cipo_eval.storage.numbers import ATTEMPT, NONE, VERDICT, WORDS, Array, Numbers

LEAST_ROWS = 20_000
"""An index of fewer is not worth a file."""
VERSION = 1
_READ_BYTES = 1 << 20
_AT_ONCE = 1 << 16
"""Places in a file that are taken out of arrays at once."""


def index_path(attempts: Path) -> Path:
    """Where the index of an attempts file is."""
    return attempts.parent.parent / "index" / f"{attempts.stem}.npz"


def read_attempts(path: Path, *, start: int = 0, before: int = 0) -> Iterator[tuple[int, Attempt]]:
    """Each attempt of a file with where its line ends, in bytes from the beginning of the file. The last line may be
    torn (it is left out); any other damage is an error. ``start``, ``before``: bytes and lines to pass over."""
    number = before
    try:
        lines = read_json_lines(path, start=start, before=before, loads=values_of)
        for number, value, end in lines:  # noqa: B007  the message below needs the line
            yield end, Attempt.from_json(value)
    except (DamagedLineError, KeyError, TypeError, AttributeError, ValueError) as error:
        at = error.number if isinstance(error, DamagedLineError) else number
        raise _damaged(path, at, error) from error


def _damaged(path: Path, line: int, error: Exception) -> UsageError:
    what = error if isinstance(error, DamagedLineError) else f"{type(error).__name__}: {error}"
    return UsageError(
        f"{path} line {line} is damaged ({what}). Delete that line "
        f"(`sed -i {line}d {path}`) and run the same command again: its attempt is generated anew"
    )


def read_numbers(path: Path) -> tuple[Numbers, int]:
    """The numbers of all lines of an attempts file, and how many bytes these are: less than the file where its last
    line is torn. Raises ``UsageError`` for a damaged file."""
    numbers, covered = _stored(path) or (Numbers(), 0)
    indexed = len(numbers)
    for end, attempt in read_attempts(path, start=covered, before=indexed):
        try:
            numbers.add(attempt, covered, end - covered)
        except ValueError as error:
            raise _damaged(path, len(numbers) + 1, error) from error
        covered = end
    if len(numbers) > indexed:
        with suppress(OSError):  # a folder that cannot be written is read as well, only more slowly
            write_index(path, numbers, covered)
    return numbers, covered


def write_index(path: Path, numbers: Numbers, covered: int) -> None:
    """Keeps the numbers of an attempts file, of so many bytes of it, where they are worth a file."""
    if len(numbers) < LEAST_ROWS:
        return
    rows, verdicts = numbers.packed()
    arrays = {f"rows {i}": chunk for i, chunk in enumerate(rows)}
    for mode, chunks in verdicts.items():
        arrays |= {f"{mode} {i}": chunk for i, chunk in enumerate(chunks)}
    with path.open("rb") as stream:
        facts = {
            "version": VERSION,
            "bytes": covered,
            "digest": _digest(stream.fileno(), covered),
            "written": os.fstat(stream.fileno()).st_mtime_ns,
            "chunks": len(rows),
            "modes": list(verdicts),
            "words": {name: numbers.words[name].words for name in WORDS},
        }
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    target = index_path(path)
    target.parent.mkdir(exist_ok=True)
    with whole_file(target, shared=True) as out:
        np.savez(out, **arrays)  # type: ignore[arg-type]


def drop_index(path: Path) -> None:
    """Removes what no longer describes an attempts file."""
    index_path(path).unlink(missing_ok=True)


def _stored(path: Path) -> tuple[Numbers, int] | None:
    """What an index says of a file and how much of it, where it can be believed."""
    try:
        with np.load(index_path(path), allow_pickle=False) as stored:
            facts = json.loads(stored["facts"].tobytes())
            if facts["version"] != VERSION or not _describes(facts, path):
                return None
            return _numbers(facts, stored), facts["bytes"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
        return None


def _numbers(facts: dict[str, Any], stored: Any) -> Numbers:
    """Raises ``ValueError`` for arrays that no writer of ours wrote."""
    numbers = Numbers(facts["words"])
    for i in range(facts["chunks"]):
        rows: Array = stored[f"rows {i}"]
        verdicts: dict[Mode, Array] = {Mode(mode): stored[f"{mode} {i}"] for mode in facts["modes"]}
        if rows.dtype != ATTEMPT or any(v.dtype != VERDICT or len(v) != len(rows) for v in verdicts.values()):
            raise ValueError("other columns")
        for name in WORDS:
            tables = (rows,) if name in (ATTEMPT.names or ()) else tuple(verdicts.values())
            if any(table[name].max(initial=NONE) >= len(facts["words"][name]) for table in tables):
                raise ValueError("numbers without a word")
        numbers.extend(rows, verdicts)
    return numbers


def _describes(facts: dict[str, Any], path: Path) -> bool:
    """Whether a file still begins with the bytes that its index is of."""
    with path.open("rb") as stream:
        now = os.fstat(stream.fileno())
        if (now.st_size, now.st_mtime_ns) == (facts["bytes"], facts["written"]):
            return True
        covered: int = facts["bytes"]
        return now.st_size >= covered and _digest(stream.fileno(), covered) == str(facts["digest"])


def _digest(fd: int, count: int) -> str:
    """Of the first so many bytes of a file."""
    digest, at = hashlib.blake2b(digest_size=16), 0
    while at < count and (part := os.pread(fd, min(_READ_BYTES, count - at), at)):
        digest.update(part)
        at += len(part)
    return digest.hexdigest()


def stored_attempts(path: Path, numbers: Numbers) -> Attempts:
    """The attempts of a file whose numbers these are, each key once. Reading one raises ``UsageError`` where the file
    is another by now."""

    def read(rows: IntArray) -> Iterator[Attempt]:
        # the numbers themselves are not kept by whoever only reads on
        return _attempts_at(path, numbers.column("offset")[rows], numbers.column("length")[rows])

    return Attempts(numbers, np.arange(len(numbers)), read).latest()


def _attempts_at(path: Path, offsets: Array, lengths: Array) -> Iterator[Attempt]:
    if not len(offsets):
        return  # there may be no file
    with path.open("rb") as stream:
        for start in range(0, len(offsets), _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            for offset, length in zip(offsets[part].tolist(), lengths[part].tolist(), strict=True):
                try:
                    yield attempt_of(os.pread(stream.fileno(), length, offset))
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UsageError(
                        f"{path} was changed while it was read: run the command again"
                    ) from error
