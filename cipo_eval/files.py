"""Files as every room writes and reads them: whole or not at all, line by line, one writer at a time.

A reader never sees a part of a file or a folder that was written with ``whole_file``, ``write_lines`` or
``whole_folder``; what a killed process leaves behind begins with a dot and ends in ``.new``, and the next writer of the
same name takes its place. ``Writing`` turns what the operating system says about a failed write into an error that
says what to do.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple

from cipo_eval.errors import CipoError, MissingError, UsageError

if TYPE_CHECKING:
    from filelock import FileLock

UNFINISHED = ".new"
"""How the name of a file or folder ends that is being written."""


def cache_dir() -> Path:
    """Where what was pulled or prepared is kept: ``CIPO_EVAL_CACHE``, else ``cipo-eval`` in the user's cache folder."""
    if value := os.environ.get("CIPO_EVAL_CACHE"):
        return Path(value).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "cipo-eval"


def unfinished(path: Path) -> Path:
    """Where a file or folder stands until it is whole."""
    return path.with_name(f".{path.name}{UNFINISHED}")


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[BinaryIO]:
    """A stream for the bytes of a file, which appears on disk (synced) when the block ends, and not if it fails.

    ``shared``: other processes may write the same file at the same time (a cache): each writes to a name of its own,
    and the last one stays.
    """
    if shared:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=UNFINISHED, dir=path.parent)
        temporary, stream = Path(name), os.fdopen(handle, "wb")
    else:
        temporary = unfinished(path)
        stream = temporary.open("wb")
    try:
        with stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, body: bytes, *, shared: bool = False) -> None:
    """Writes a file whole or not at all."""
    with whole_file(path, shared=shared) as stream:
        stream.write(body)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Writes a text (UTF-8) whole or not at all."""
    write_bytes(path, text.encode(), shared=shared)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON, whole or not at all."""
    write_bytes(path, json_text(value))


def json_text(value: Any) -> bytes:
    """A value as indented JSON for people, ASCII, with an end of line."""
    return (json.dumps(value, indent=1) + "\n").encode("ascii")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    """Writes a row a line as JSON, whole or not at all."""
    with whole_file(path) as stream:
        stream.writelines(json_line(row) for row in rows)


def json_line(row: Any) -> bytes:
    """A row as one line of JSON Lines, ASCII, with its end."""
    return (json.dumps(row) + "\n").encode("ascii")


def replace_together(
    contents: Mapping[Path, Iterable[bytes]], *, ready: Callable[[], None] = lambda: None
) -> None:
    """Writes several files, and moves them to their places only when all of them are on disk: whatever goes wrong
    before that leaves what was there. ``ready`` is called in between: from there on nothing needs space."""
    try:
        for path, lines in contents.items():
            with unfinished(path).open("wb") as stream:
                stream.writelines(lines)
                stream.flush()
                os.fsync(stream.fileno())
        ready()
        for path in contents:
            unfinished(path).replace(path)
    finally:
        for path in contents:
            unfinished(path).unlink(missing_ok=True)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which takes the place of ``path`` (synced) when the block ends, and is gone if it fails."""
    temporary = unfinished(path)
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in (p for p in temporary.rglob("*") if p.is_file()):
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        if path.exists():
            shutil.rmtree(path)
        temporary.replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def append_whole(fd: int, line: bytes) -> None:
    """Adds a line to an open file in one system call: it is there whole or not at all, whatever happens to this
    process. Raises ``OSError`` where the disk has no room for all of it."""
    before = os.fstat(fd).st_size
    if os.write(fd, line) < len(line):
        os.ftruncate(fd, before)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def append_lines(fd: int, lines: Sequence[bytes]) -> Iterator[bytes]:
    """Adds lines to an open file, all in one system call where there is room, and yields those that are there. Raises
    ``OSError`` after the last one that the disk has room for."""
    try:
        append_whole(fd, b"".join(lines))
    except OSError:
        if len(lines) == 1:
            raise
        for line in lines:
            append_whole(fd, line)
            yield line
    else:
        yield from lines


def append_json_line(path: Path, row: Any) -> None:
    """Opens a file, adds one line, and closes it; for what is written now and then."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        append_whole(fd, json_line(row))
    finally:
        os.close(fd)


class DamagedLineError(ValueError):
    """A line that is not JSON. ``number``: from 1."""

    def __init__(self, number: int, error: Exception) -> None:
        super().__init__(f"{type(error).__name__}: {error}")
        self.number = number


class Line(NamedTuple):
    """One line of a JSON Lines file."""

    number: int
    """From 1."""
    value: Any
    end: int
    """Bytes of the file up to and with this line."""


def read_json_lines(
    path: Path,
    *,
    torn: Literal["drop", "error"] = "drop",
    start: int = 0,
    before: int = 0,
    loads: Callable[[bytes], Any] = json.loads,
) -> Iterator[Line]:
    """The lines of a JSON Lines file. A last line without an end was torn by a kill: left out, or an error.

    ``start``: where the first of them begins, in bytes; ``before``: how many lines come before it; ``loads`` reads
    one.

    Raises ``UsageError`` where the file cannot be read, ``DamagedLineError`` for what is not JSON.
    """
    try:
        stream = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    end = start
    with stream:
        stream.seek(start)
        for number, line in enumerate(stream, start=before + 1):
            if torn == "drop" and not line.endswith(b"\n"):
                return
            end += len(line)
            try:
                value = loads(line)
            except (ValueError, RecursionError) as error:
                raise DamagedLineError(number, error) from error
            yield Line(number, value, end)


def count_lines(path: Path) -> int:
    """Whole lines of a file; 0 where it cannot be read."""
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


@contextmanager
def locked(path: Path, refusal: str) -> Iterator[FileLock]:
    """Holds a lock file. Raises ``UsageError`` with this text where another process holds it."""
    from filelock import FileLock, Timeout

    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise UsageError(refusal) from None
    try:
        yield lock
    finally:
        lock.release()


class Writing:
    """Turns what the operating system says about a failed write into an error that says what to do."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, OSError) or isinstance(error, CipoError):
            return
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise MissingError(
                f"the disk of {self.path} is full; every attempt before this one is kept. "
                "Free some space and run the same command again: it goes on from there",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise MissingError(
                f"cannot write to {self.path} ({error.strerror}): choose another --output"
            ) from error
        if error.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UsageError(f"{self.path} is not a folder: choose another --output") from error
        if error.errno in (errno.ENOENT, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL):
            raise UsageError(
                f"{self.path} cannot be a folder ({error.strerror}): choose another --output"
            ) from error
