"""The rows of a file of attempts: JSON Lines or one JSON array, plain or gzipped, or a log of Inspect; each row with
its place in the file.

Such a file is foreign: whatever is wrong with it is a ``UsageError`` with file, line and what is wrong there.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson

from cipo_eval.data.attempt_files import inspect_logs
from cipo_eval.errors import UsageError

_LARGE = 2.0**63
_OTHER_MARKS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"PK": "a zip archive", b"\x1f\x8b": "gzipped"}
"""First bytes of files that hold something else than UTF-8 text."""


class Line(NamedTuple):
    """One row of a file."""

    name: str
    """Name of the file."""
    number: int
    """From 1."""
    fields: dict[str, Any]
    mark: int
    """Equal for rows that are the same letter for letter."""
    offset: int = -1
    """Where it begins in the file, in bytes; −1: it cannot be read by itself."""
    length: int = 0
    unit: str = "line"

    @property
    def where(self) -> str:
        """``file line 3``, for messages."""
        return f"{self.name} {self.unit} {self.number}"


def read_lines(path: Path, digest: Callable[[bytes], None] = lambda _: None) -> Iterator[Line]:
    """The rows of a file, one after another; ``digest`` is given every byte that is read.

    Raises ``UsageError`` with the file's name and the line for what cannot be read.
    """
    try:
        if path.suffix == inspect_logs.SUFFIX:
            rows = inspect_logs.read_rows(path, digest)
            yield from _array(path.name, rows, unit="attempt")
            return
        with path.open("rb") as packed:
            file: Any = gzip.GzipFile(fileobj=packed) if path.suffix == ".gz" else packed
            yield from _rows(path.name, file, digest, placed=file is packed)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def rows_of_part(path: Path, begin: int, data: bytes, first: int = 1) -> Iterator[Line]:
    """The rows of a part of a file of JSON Lines that begins after so many bytes, with line ``first``."""
    return _rows(path.name, io.BytesIO(data), lambda _: None, placed=True, begin=begin, first=first)


def has_lines(path: Path) -> bool:
    """Whether a file is plain JSON Lines as far as its first bytes tell: each line can be read by itself."""
    if path.suffix in (".gz", inspect_logs.SUFFIX):
        return False
    try:
        with path.open("rb") as file:
            return file.read(1) == b"{"
    except OSError:
        return False  # whoever reads it says so


def _rows(
    name: str,
    file: IO[bytes],
    digest: Callable[[bytes], None],
    *,
    placed: bool,
    begin: int = 0,
    first: int = 1,
) -> Iterator[Line]:
    end = begin
    for number, line in enumerate(file, start=first):
        digest(line)
        begin, end = end, end + len(line)
        content = line.strip()
        if number == 1 and content in (b"[", b"[{"):
            rest = file.read()
            digest(rest)
            yield from _array(name, parse(line + rest, name))
            return
        if number == 1 and (mark := next((m for m in _OTHER_MARKS if line.startswith(m)), None)):
            raise UsageError(f"{name} is not JSON Lines: it is {_OTHER_MARKS[mark]}, not UTF-8 text")
        if not content:
            continue
        where = f"{name} line {number}"
        value = parse(line, where)
        if number == 1 and isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
            yield from _array(name, value)
            continue
        if not isinstance(value, dict):
            raise UsageError(f"{where} is not JSON Lines: it holds no JSON object")
        yield Line(name, number, value, mark_of(content), begin if placed else -1, len(line))


def _array(name: str, rows: Iterable[Any], unit: str = "row") -> Iterator[Line]:
    for place, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise UsageError(f"{name} {unit} {place} is no JSON object")
        yield Line(name, place, row, mark_of(json.dumps(row).encode()), unit=unit)


def mark_of(content: bytes) -> int:
    """64 bits that stand for a row's text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little", signed=True)


def _has_large_number(value: Any) -> bool:
    """Whether a row, or its document, has a number that ``orjson`` may have made a decimal of: Python reads all digits
    of whole numbers."""
    if not isinstance(value, dict):
        return True
    for number in value.values():
        if number.__class__ is float and abs(number) >= _LARGE:
            return True
    doc = value.get("doc")
    return isinstance(doc, dict) and any(n.__class__ is float and abs(n) >= _LARGE for n in doc.values())


def parse(data: bytes, where: str) -> Any:
    """One JSON text. Raises ``UsageError`` that says where and what is wrong."""
    try:
        value = orjson.loads(data)
        if not _has_large_number(value):
            return value
    except ValueError:
        pass  # what only Python reads, or an error with its place
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UsageError(
            f"cannot read {where}: it is not UTF-8 text (byte 0x{data[error.start]:02x} at place {error.start + 1})"
        ) from error
    except json.JSONDecodeError as error:
        line = f"line {error.lineno} of it, " if error.lineno > 1 else ""
        raise UsageError(f"{where} is not JSON Lines: {error.msg} ({line}character {error.colno})") from error
    except RecursionError as error:
        raise UsageError(f"{where} is not JSON that can be read: it is nested too deeply") from error
    except ValueError as error:  # a whole number of too many digits
        raise UsageError(f"{where} cannot be read: {error}") from error
