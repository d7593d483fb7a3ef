"""A run directory: what was asked, every attempt, and the results.

``run.json`` (what was asked, model and data fingerprints, versions, seeds, every command so far),
``attempts/<task>.jsonl`` (append-only, one attempt a line), ``problems/<task>.jsonl`` (what was asked, for people who
read the attempts), ``results.json`` (written last, atomically). A process killed at any moment leaves at most one torn
last line, which the next one drops and generates again; one process at a time may write.
"""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from cipo_eval.errors import CipoError, MissingError, UsageError
from cipo_eval.records import SCHEMA_VERSION, Attempt, AttemptKey
from cipo_eval.run_json import parsed

_EARLY = {"run.lock", "attempts", ".run.json.new"}
"""What a process that is killed before ``run.json`` leaves behind."""
SYNC_SECONDS = 10.0
"""At most this much work is lost to a power cut; a killed process loses none."""


class RunStore:
    """One run directory, opened for writing. A context manager.

    Raises ``UsageError`` for a folder that holds something else, another writer, or damaged files; ``MissingError``
    where the disk is full or the folder cannot be written.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        self.path = path
        self.warnings: list[str] = []
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        self._synced = time.monotonic()
        with Writing(path):
            if is_foreign(path):
                raise UsageError(f"{path} is not empty and not a run directory: choose another --output")
            (path / "attempts").mkdir(parents=True, exist_ok=True)
            self._filelock = FileLock(path / "run.lock", timeout=0)
            try:
                self._filelock.acquire()
            except Timeout:
                raise UsageError(
                    f"another process is writing to {path}: wait for it, or choose another --output"
                ) from None

    def __enter__(self) -> RunStore:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            for fd in self._files.values():
                with suppress(OSError):
                    os.fsync(fd)
                os.close(fd)
            self._files.clear()
        if not (self.path / "run.json").exists():  # nothing came of it: leave no trace
            with suppress(OSError):
                (self.path / "attempts").rmdir()
                (self.path / "run.lock").unlink()
                self.path.rmdir()
        self._filelock.release()

    def read_info(self) -> dict[str, Any] | None:
        """``run.json``, or None in a new directory."""
        return read_info(self.path) if (self.path / "run.json").exists() else None

    def write_info(self, info: Mapping[str, Any]) -> None:
        self._write_json("run.json", info)

    def write_results(self, results: Mapping[str, Any]) -> None:
        self._write_json("results.json", results)

    def read_results(self) -> dict[str, Any] | None:
        """``results.json``, or None where there is none that can be read (it is made anew from the attempts)."""
        try:
            results = json.loads((self.path / "results.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return results if isinstance(results, dict) and results.get("schema") == SCHEMA_VERSION else None

    def write_problems(self, task: str, problems: Sequence[Mapping[str, Any]]) -> None:
        """The problems of a task as people see them, in the order of the data."""
        folder = self.path / "problems"
        with Writing(self.path):
            folder.mkdir(exist_ok=True)
            new = folder / f".{task}.jsonl.new"
            new.write_text("".join(json.dumps(row) + "\n" for row in problems), encoding="ascii")
            new.replace(folder / f"{task}.jsonl")

    def drop_results(self) -> None:
        """Results that no longer describe the attempts must not be read."""
        (self.path / "results.json").unlink(missing_ok=True)

    def append(self, attempt: Attempt) -> None:
        """Adds one line in one system call: it is there whole or not at all, whatever happens to this process."""
        data = (json.dumps(attempt.to_json()) + "\n").encode("ascii")
        with self._lock, Writing(self.path):
            fd = self._open(attempt.task)
            before = os.fstat(fd).st_size
            written = os.write(fd, data)
            if written < len(data):
                os.ftruncate(fd, before)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if time.monotonic() - self._synced > SYNC_SECONDS:
                os.fsync(fd)
                self._synced = time.monotonic()

    def load(self, task: str) -> dict[AttemptKey, Attempt]:
        """The attempts of a task, as ``attempts_of_task`` has them. Cuts off a torn last line."""
        path = attempts_path(self.path, task)
        attempts: dict[AttemptKey, Attempt] = {}
        if not path.exists():
            return attempts
        whole = 0
        for line, attempt in read_attempts(path):
            whole += len(line)
            attempts[attempt.key] = attempt
        torn = path.stat().st_size - whole
        if torn:
            with Writing(self.path):
                os.truncate(path, whole)
            self.warnings.append(
                f"{path.name}: dropped a torn last line of {torn} bytes (an earlier process was killed)"
            )
        return attempts

    def replace(
        self,
        tasks: Mapping[str, Iterable[Attempt]],
        *,
        info: Mapping[str, Any],
        results: Mapping[str, Any],
    ) -> None:
        """Rewrites the attempts of tasks, with ``run.json`` and ``results.json`` (rescoring): whatever goes wrong
        before all of it is written leaves the run as it was."""
        written: list[tuple[Path, Path]] = []
        with Writing(self.path):
            try:
                for task, attempts in tasks.items():
                    path = attempts_path(self.path, task)
                    written.append((path.with_suffix(".new"), path))
                    _write_lines(written[-1][0], (json.dumps(attempt.to_json()) for attempt in attempts))
                for name, value in (("run.json", info), ("results.json", results)):
                    written.append((self.path / f".{name}.new", self.path / name))
                    _write_lines(written[-1][0], [json.dumps(value, indent=1)])
                with self._lock:
                    for task in tasks:
                        if task in self._files:
                            os.close(self._files.pop(task))
                self.drop_results()  # from here on nothing needs space: no mixture is left behind
                for new, path in written:
                    new.replace(path)
            finally:
                for new, _ in written:
                    new.unlink(missing_ok=True)

    def _open(self, task: str) -> int:
        if task not in self._files:
            self._files[task] = os.open(
                attempts_path(self.path, task),
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                0o644,
            )
        return self._files[task]

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        temporary = self.path / f".{name}.new"
        with Writing(self.path):
            try:
                _write_lines(temporary, [json.dumps(value, indent=1)])
                temporary.replace(self.path / name)
            finally:
                temporary.unlink(missing_ok=True)


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="ascii") as file:
        file.writelines(line + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())


def is_foreign(folder: Path) -> bool:
    """Whether a folder holds something, and that is not a run or what is left of one that had just begun."""
    if not folder.is_dir() or (folder / "run.json").exists():
        return False
    return bool({path.name for path in folder.iterdir()} - _EARLY)


def attempts_path(run: Path, task: str) -> Path:
    """Where a run keeps the attempts at a task."""
    return run / "attempts" / f"{task}.jsonl"


def read_info(run: Path) -> dict[str, Any]:
    """``run.json`` of a run directory. Raises ``UsageError`` where there is none or it cannot be read."""
    path = run / "run.json"
    if not path.is_file():
        raise UsageError(f"{run} is not a run directory: it has no run.json")
    try:
        text = path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    return parsed(path, text)


def read_attempts(path: Path) -> Iterator[tuple[bytes, Attempt]]:
    """Each whole line with its attempt. The last line may be torn (it is left out); any other damage is an error."""
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror})") from error
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                attempt = Attempt.from_json(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise UsageError(
                    f"{path} line {number} is damaged ({type(error).__name__}: {error}). Delete that line "
                    f"(`sed -i {number}d {path}`) and run the same command again: its attempt is generated anew",
                ) from error
            yield line, attempt


def attempts_of_task(run: Path, task: str) -> list[Attempt]:
    """Every attempt of a run at a task, asked for or not (``analysis.selection`` has those that count); none where it
    has no file of them. A later line takes the place of an earlier one with the same key: what was judged again is
    appended. Raises ``UsageError`` for a damaged file."""
    path = attempts_path(run, task)
    if not path.exists():
        return []
    return list({attempt.key: attempt for _, attempt in read_attempts(path)}.values())


def read_problems(run: Path, task: str) -> dict[str, dict[str, Any]]:
    """By id, ``question``, ``answer`` (of mathematics) and ``metadata`` of a run's problems at a task; empty where the
    run keeps none. Raises ``UsageError`` for a damaged file."""
    path = run / "problems" / f"{task}.jsonl"
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return {row["id"]: row for row in rows}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} is damaged ({error}): delete it, `cipo-eval rescore {run}` writes it anew"
        ) from error


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
