"""A run directory: what was asked, every attempt, and the results.

``run.json`` (what was asked, model and data fingerprints, versions, seeds, every command so far),
``attempts/<task>.jsonl`` (append-only, one attempt a line), ``problems/<task>.jsonl`` (what was asked, for people who
read the attempts), ``index/<task>.npz`` (of large runs, made of the attempts: ``index``), ``results.json`` (written
last, atomically). A process killed at any moment leaves at most one torn
last line, which the next one drops and generates again; one process at a time may write.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.files import (
    Writing,
    append_lines,
    json_text,
    locked,
    read_json_lines,
    replace_together,
    unfinished,
    write_json,
    write_json_lines,
)
from cipo_eval.records import SCHEMA_VERSION, Attempt
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.blocks import Block
from cipo_eval.storage.facts import parsed
from cipo_eval.storage.index import read_numbers, stored_attempts, write_index
from cipo_eval.storage.lines import line_of
from cipo_eval.storage.numbers import Numbers

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
        self._numbers: dict[str, _Held] = {}
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
            for held in self._numbers.values():
                if held.changed:
                    with suppress(OSError):  # readers make it again
                        write_index(held.path, held.numbers, held.size)
            self._numbers.clear()
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
        self.extend([attempt])

    def extend(self, attempts: Sequence[Attempt]) -> None:
        """Adds a line each, those of a task in one system call: each line is there whole or not at all."""
        by_task: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            by_task.setdefault(attempt.task, []).append(attempt)
        with self._lock, Writing(self.path):
            for task, of_task in by_task.items():
                lines = [line_of(attempt) for attempt in of_task]
                held = self._numbers.get(task)
                fd = self._open(task)
                for attempt, line in zip(of_task, append_lines(fd, lines), strict=False):
                    if held is not None:
                        held.add(attempt, len(line))
            self._sync()

    def add(self, block: Block) -> None:
        """Adds the lines of a block, all in one system call: each is there whole or not at all."""
        with self._lock, Writing(self.path):
            held, there = self._numbers.get(block.task), 0
            try:
                for _ in append_lines(self._open(block.task), block.lines):
                    there += 1
            finally:
                if held is not None and there:
                    held.join(block.part(0, there))
            self._sync()

    def _sync(self) -> None:
        if time.monotonic() - self._synced > SYNC_SECONDS:
            for fd in self._files.values():
                os.fsync(fd)
            self._synced = time.monotonic()

    def load(self, task: str) -> Attempts:
        """The attempts of a task, as ``attempts_of_task`` has them, those included that were added since. Cuts off a
        torn last line."""
        path = attempts_path(self.path, task)
        if task not in self._numbers:
            self._numbers[task] = self._read(path) if path.exists() else _Held(path)
        held = self._numbers[task]
        return stored_attempts(held.path, held.numbers)

    def _read(self, path: Path) -> _Held:
        numbers, whole = read_numbers(path)
        torn = path.stat().st_size - whole
        if torn:
            with Writing(self.path):
                os.truncate(path, whole)
            self.warnings.append(
                f"{path.name}: dropped a torn last line of {torn} bytes (an earlier process was killed)"
            )
        return _Held(path, numbers, whole)

    def replace(
        self,
        tasks: Mapping[str, Iterable[Attempt | Block]],
        *,
        info: Mapping[str, Any],
        results: Callable[[], Mapping[str, Any]],
    ) -> None:
        """Rewrites the attempts of tasks, with ``run.json`` and ``results.json`` (rescoring): whatever goes wrong
        before all of it is written leaves the run as it was. ``results`` is asked for when all attempts were taken, and
        ``load`` has the new ones from then on."""
        self._numbers.clear()  # what comes from there is read anew

        def lines(task: str, attempts: Iterable[Attempt | Block]) -> Iterator[bytes]:
            held = self._numbers[task] = _Held(unfinished(attempts_path(self.path, task)))
            for attempt in attempts:
                if isinstance(attempt, Block):
                    held.join(attempt)
                    yield b"".join(attempt.lines)
                    continue
                line = line_of(attempt)
                held.add(attempt, len(line))
                yield line

        def json_file(value: Callable[[], Mapping[str, Any]]) -> Iterator[bytes]:
            yield json_text(value())

        contents = {attempts_path(self.path, task): lines(task, of_task) for task, of_task in tasks.items()}
        contents[self.path / "run.json"] = json_file(lambda: info)
        contents[self.path / "results.json"] = json_file(results)

        def ready() -> None:
            with self._lock:
                for task in tasks:
                    if task in self._files:
                        os.close(self._files.pop(task))
            self.drop_results()  # no mixture is left behind

        try:
            with Writing(self.path):
                replace_together(contents, ready=ready)
        except BaseException:
            self._numbers.clear()
            raise
        for task, held in self._numbers.items():
            held.path = attempts_path(self.path, task)

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


def attempts_of_task(run: Path, task: str) -> Attempts:
    """Every attempt of a run at a task, asked for or not (``analysis.selection`` has those that count); none where it
    has no file of them. A later line takes the place of an earlier one with the same key: what was judged again is
    appended. Raises ``UsageError`` for a damaged file."""
    path = attempts_path(run, task)
    if not path.exists():
        return Attempts.of(())
    return stored_attempts(path, read_numbers(path)[0])


@dataclass(slots=True)
class _Held:
    """The numbers of a file that this process writes, kept up to date."""

    path: Path
    numbers: Numbers = field(default_factory=Numbers)
    size: int = 0
    """Bytes that they are of: whole lines."""
    changed: bool = False
    """Whether there are lines that no index on disk covers."""

    def add(self, attempt: Attempt, length: int) -> None:
        """One more line of so many bytes."""
        self.numbers.add(attempt, self.size, length)
        self.size += length
        self.changed = True

    def join(self, block: Block) -> None:
        """The lines of a block."""
        self.numbers.join(block.packed, self.size)
        self.size += sum(map(len, block.lines))
        self.changed = True


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
