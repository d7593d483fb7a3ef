"""A file of attempts that many read in parts: what comes of it does not depend on who read which part, nor on where
parts end."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.data.attempt_files import parts
from cipo_eval.data.attempt_files.rows import FileRows
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem
from cipo_eval.verifiers.pool import VerifierPool

PROBLEMS = [
    Problem(task="t", id=f"p{n}", index=n, question=f"Which number is {n}?", prompt="?", gold=str(n))
    for n in range(7)
]


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2) as workers:
        yield workers


def rows() -> list[str]:
    """Rows of many kinds: numbered or not, with several attempts, other words for a problem, blank lines, half of a
    surrogate pair, numbers that no column holds, and the same row twice."""
    made: list[str] = []
    for n in range(400):
        row: dict[str, Any] = {
            "problem_id": f"p{n % 7}",
            "text": f"so it is \\boxed{{{n % 5}}}",
            "sample": n // 7,
        }
        if n % 11 == 0:
            row.pop("sample")
        if n % 13 == 0:
            row["model_outputs"] = [row.pop("text"), "", "another \ud800"]
        if n % 17 == 0:
            row["sample"] = 10**30 - n if n % 2 else -(10**25)
        if n % 19 == 0:
            row = {"question": f"Which  number is {n % 7}?", "text": "", "finish_reason": "length"}
        if n % 23 == 0:
            row["doc"] = {"question": f"Which number is {n % 7}?"}
        if n % 29 == 0:
            row["attempt"] = f"an earlier one, {n}"
        made.append(json.dumps(row))
        if n % 31 == 0:
            made += ["", made[-1]]
    return made


def written(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end)
    return path


def read(path: Path, workers: VerifierPool | None) -> tuple[Any, ...]:
    """All that is known of a file."""
    digested: list[bytes] = []
    file = FileRows()
    of, told, clue = file.read(path, digested.append, workers)
    held = file.held(range(file.attempts))
    said = [file.completion(at) for at in range(file.attempts)]
    where = [(file.where(row), list(file.attempts_of(row))) for row in of]
    marks = [file.place(at) for at in range(file.attempts)]
    return told, list(clue), held, said, where, marks, list(file.repeated()), b"".join(digested)


def engine_of(path: Path, workers: VerifierPool | None) -> tuple[Any, ...]:
    engine = ReplayEngine(path, PROBLEMS, pool=workers)
    return list(engine.numbered()), engine.rows, engine.notes(), engine.describe(), engine.counts


def small_parts(monkeypatch: pytest.MonkeyPatch, size: int, ahead: int = 2) -> None:
    monkeypatch.setattr(parts, "LEAST", 1)
    monkeypatch.setattr(parts, "BYTES", size)
    monkeypatch.setattr(parts, "AHEAD", ahead)


@pytest.mark.parametrize("end", ["\n", "", "\n\n"])
@pytest.mark.parametrize(("size", "ahead"), [(1, 1), (777, 2), (5000, 50), (1 << 20, 1)])
def test_parts_of_any_size_say_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: VerifierPool, size: int, ahead: int, end: str
) -> None:
    path = written(tmp_path / "attempts.jsonl", rows(), end)
    alone, engine = read(path, None), engine_of(path, None)
    assert len(alone[2]) > 400
    small_parts(monkeypatch, size, ahead)
    asked: list[object] = []
    call = pool.call
    monkeypatch.setattr(pool, "call", lambda *given: asked.append(given) or call(*given))
    assert read(path, pool) == alone
    assert engine_of(path, pool) == engine
    assert asked


@pytest.mark.parametrize(
    "bad", ['{"text": ', "[1]", '{"problem_id": "p1"}', '{"problem_id": "p1", "text": 3}', "\xff"]
)
def test_the_first_row_that_is_wrong_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: VerifierPool, bad: str
) -> None:
    lines = rows()
    lines[123] = lines[321] = bad
    path = tmp_path / "attempts.jsonl"
    path.write_bytes("\n".join(lines).encode("latin-1"))
    with pytest.raises(UsageError) as alone:
        read(path, None)
    assert "line 124" in str(alone.value)
    small_parts(monkeypatch, 777)
    with pytest.raises(UsageError) as together:
        read(path, pool)
    assert str(together.value) == str(alone.value)


@pytest.mark.slow
def test_a_worker_that_dies_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "attempts.jsonl", rows())
    alone = read(path, None)
    small_parts(monkeypatch, 200, 50)
    with VerifierPool(2) as workers:
        stop = threading.Event()
        killed: list[int] = []

        def kill() -> None:
            while not stop.is_set():
                for member in list(getattr(workers._pool, "_members", ())):
                    if member.pid and member.tasks:
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(member.pid, signal.SIGKILL)
                        killed.append(member.pid)
                time.sleep(0.02)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            assert read(path, workers) == alone
        finally:
            stop.set()
            killer.join()
    assert killed


def test_other_files_are_read_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pool: VerifierPool
) -> None:
    """Of an array, or a file with a mark at its beginning, no part can be read by itself."""
    small_parts(monkeypatch, 777)
    lines = [line for line in rows() if line]
    array, marked = tmp_path / "array.jsonl", tmp_path / "marked.jsonl"
    array.write_text(f"[{','.join(lines)}]")
    marked.write_text("\n".join(lines), encoding="utf-8-sig")
    for path in (array, marked):
        assert read(path, pool) == read(path, None)
