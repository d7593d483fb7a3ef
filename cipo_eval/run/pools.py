"""Pools as files: drawn from a run, written, and read again; any file or run that can be replayed serves as well.

A pool's file is JSON Lines: a header with what it was made of and its fingerprint, then one attempt a line.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

from cipo_eval.analysis.selection import selected_attempts
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.files import write_json_lines
from cipo_eval.records import Attempt, Mode, Problem, derive_seed
from cipo_eval.storage.numbers import NONE
from cipo_eval.storage.store import read_info
from cipo_eval.turns.pools import Pool, PoolItem

VERSION = 1
"""Version of the file's form."""


def build_pool(
    run: Path, *, task: str | None = None, wrong: int, right: int, seed: int = 0, mode: Mode | None = None
) -> Pool:
    """Draws attempts of a run's first turn: so many wrong and right ones, spread over problems.

    Problems take turns in a random order, each giving one attempt a round: no problem gives two before every problem
    that can has given one. Raises ``UsageError`` where there are fewer than asked for.
    """
    info = read_info(run)
    judged = mode or Mode(info["modes"][0])
    names = [task] if task else list(info["tasks"])
    if unknown := [name for name in names if name not in info["tasks"]]:
        raise UsageError(f"{run} has no task {unknown[0]}: it has {', '.join(info['tasks'])}")
    attempts = [selected_attempts(run, name, info).first for name in names]
    if any((of_task.verdicts(judged, "state") == NONE).any() for of_task in attempts):
        raise UsageError(f"{run} was not judged in mode {judged}")
    items: list[PoolItem] = []
    for count, is_right in ((wrong, False), (right, True)):
        fitting = [
            attempt
            for of_task in attempts
            for attempt in of_task.only(of_task.verdicts(judged, "correct") == is_right)
            if attempt.text.strip()
        ]
        drawn = _spread(fitting, count, Random(derive_seed("pool", seed, str(is_right))))
        if len(drawn) < count:
            kind = "right" if is_right else "wrong"
            raise UsageError(
                f"{run} has {len(drawn)} {kind} attempts and {count} were asked for: ask for fewer (--{kind}), "
                "or run more samples"
            )
        items += [PoolItem(task=a.task, problem=a.problem, text=a.text, right=is_right) for a in drawn]
    source = {
        "run": run.name,
        "model": info["engine"],
        "mode": judged,
        "wrong": wrong,
        "right": right,
        "seed": seed,
    }
    return Pool(items=tuple(items), source=source)


def _spread(attempts: Sequence[Attempt], count: int, random: Random) -> list[Attempt]:
    by_problem: dict[tuple[str, str], list[Attempt]] = {}
    for attempt in sorted(attempts, key=lambda a: a.key):
        by_problem.setdefault((attempt.task, attempt.problem), []).append(attempt)
    queues = list(by_problem.values())
    random.shuffle(queues)
    for queue in queues:
        random.shuffle(queue)
    drawn: list[Attempt] = []
    while queues and len(drawn) < count:
        for queue in queues[: count - len(drawn)]:
            drawn.append(queue.pop())
        queues = [queue for queue in queues if queue]
    return drawn


def write_pool(pool: Pool, path: Path) -> None:
    """Writes a pool's file, whole or not at all."""
    header = {
        "pool": VERSION,
        "fingerprint": pool.fingerprint,
        "items": len(pool.items),
        "source": dict(pool.source),
    }
    lines = [
        header,
        *map(_row, pool.items),
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json_lines(path, lines)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def read_pool(path: Path, problems: Sequence[Problem], id_map: Mapping[str, str] | None = None) -> Pool:
    """A pool's file; else a run directory, or a file of attempts in any layout of docs/replay.md at ``problems`` (of
    RealCritic's critiques: what they are of). ``id_map``: by id of such a file, the problem's.

    Raises ``UsageError`` for damage, and where none of the attempts is at one of the problems.
    """
    pool = _read_file(path) if path.is_file() else None
    if pool is None:
        pool = ReplayEngine(path, problems, allow_unmatched=True, id_map=id_map).pool()
    places = {(p.task, p.id) for p in problems}
    if not any((item.task, item.problem) in places for item in pool.items):
        raise UsageError(
            f"{path} has no attempts at the problems of {', '.join(sorted({p.task for p in problems}))}"
        )
    return pool


def read_file(path: Path) -> Pool:
    """The pool of a file that ``write_pool`` wrote. Raises ``UsageError`` for any other file."""
    pool = _read_file(path)
    if pool is None:
        raise UsageError(f"{path} is not a pool's file (`cipo-eval pool build` makes one)")
    return pool


def _read_file(path: Path) -> Pool | None:
    """None where the file is not a pool's."""
    try:
        with path.open("rb") as file:
            try:
                header = json.loads(file.readline())
            except (ValueError, RecursionError):
                return None
            if not isinstance(header, dict) or "pool" not in header:
                return None
            if header["pool"] != VERSION:
                raise UsageError(
                    f"{path} is a pool of version {header['pool']}, this release reads version {VERSION}"
                )
            items = tuple(_item(json.loads(line)) for line in file)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is damaged ({type(error).__name__}: {error})") from error
    pool = Pool(items=items, source=header.get("source", {}))
    if len(items) != header.get("items") or pool.fingerprint != header.get("fingerprint"):
        raise UsageError(
            f"{path} is not as it was written: its attempts do not have the fingerprint in its first line"
        )
    return pool


def _row(item: PoolItem) -> dict[str, Any]:
    row = {"task": item.task, "problem": item.problem, "right": item.right, "text": item.text}
    return row if item.error_end is None else {**row, "error_end": item.error_end}


def _item(row: Mapping[str, Any]) -> PoolItem:
    end = row.get("error_end")
    item = PoolItem(
        task=row["task"], problem=row["problem"], text=row["text"], right=row["right"], error_end=end
    )
    if not all(isinstance(text, str) for text in (item.task, item.problem, item.text)):
        raise TypeError("task, problem and text are not texts")
    if end is not None and (type(end) is not int or not 0 <= end <= len(item.text)):
        raise ValueError(f"error_end is {json.dumps(end)[:40]}: characters of the text")
    return item
