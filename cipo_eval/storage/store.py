"""A run directory: what was asked, every attempt, and the results.

``run.json`` (what was asked, model and data fingerprints, versions, seeds, every command so far),
``attempts/<task>.jsonl`` (append-only, one attempt a line), ``problems/<task>.jsonl`` (what was asked, for people who
read the attempts), ``results.json`` (written last, atomically). A process killed at any moment leaves at most one torn
last line, which the next one drops and generates again; one process at a time may write.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.files import (
    DamagedLineError,
    Writing,
    append_whole,
    json_line,
    json_text,
    locked,
    read_json_lines,
    replace_together,
    write_json,
    write_json_lines,
)
from cipo_eval.records import SCHEMA_VERSION, Attempt, AttemptKey
from cipo_eval.storage.facts import parsed

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
        self.path = path
        self.warnings: list[str] = []
        self._files: dict[str, int] = {}
        self._lock = threading.Lock()
        self._synced = time.monotonic()
        with Writing(path):
            if is_foreign(path):
                raise UsageError(f"{path} is not empty and not a run directory: choose another --output")
            (path / "attempts").mkdir(parents=True, exist_ok=True)
            self._held = ExitStack()
            self._held.enter_context(
                locked(
                    path / "run.lock",
                    f"another process is writing to {path}: wait for it, or choose another --output",
                )
            )

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
        self._held.close()

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
            write_json_lines(folder / f"{task}.jsonl", problems)

    def drop_results(self) -> None:
        """Results that no longer describe the attempts must not be read."""
        (self.path / "results.json").unlink(missing_ok=True)

    def append(self, attempt: Attempt) -> None:
        """Adds one line in one system call: it is there whole or not at all, whatever happens to this process."""
        line = json_line(attempt.to_json())
        with self._lock, Writing(self.path):
            fd = self._open(attempt.task)
            append_whole(fd, line)
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
        for end, attempt in read_attempts(path):
            attempts[attempt.key] = attempt
            whole = end
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
        contents: dict[Path, Iterable[bytes]] = {
            attempts_path(self.path, task): (json_line(attempt.to_json()) for attempt in attempts)
            for task, attempts in tasks.items()
        }
        for name, value in (("run.json", info), ("results.json", results)):
            contents[self.path / name] = [json_text(value)]

        def ready() -> None:
            with self._lock:
                for task in tasks:
                    if task in self._files:
                        os.close(self._files.pop(task))
            self.drop_results()  # no mixture is left behind

        with Writing(self.path):
            replace_together(contents, ready=ready)

    def _open(self, task: str) -> int:
        if task not in self._files:
            self._files[task] = os.open(
                attempts_path(self.path, task),
                os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC,
                0o644,
            )
        return self._files[task]

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        with Writing(self.path):
            write_json(self.path / name, value)


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


def read_attempts(path: Path) -> Iterator[tuple[int, Attempt]]:
    """Each attempt with where its line ends, in bytes from the beginning of the file. The last line may be torn (it is
    left out); any other damage is an error."""
    number = 0
    try:
        for number, value, end in read_json_lines(path):  # noqa: B007  the message below needs the line
            yield end, Attempt.from_json(value)
    except (DamagedLineError, KeyError, TypeError, AttributeError, ValueError) as error:
        at = error.number if isinstance(error, DamagedLineError) else number
        what = error if isinstance(error, DamagedLineError) else f"{type(error).__name__}: {error}"
        raise UsageError(
            f"{path} line {at} is damaged ({what}). Delete that line "
            f"(`sed -i {at}d {path}`) and run the same command again: its attempt is generated anew",
        ) from error


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
    if not path.exists():
        return {}
    try:
        return {line.value["id"]: line.value for line in read_json_lines(path, torn="error")}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged ({error}): delete it, `cipo-eval rescore {run}` writes it anew"
        ) from error
