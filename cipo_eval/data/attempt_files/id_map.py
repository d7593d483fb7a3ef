"""A user's map from the ids of a file to the ids of a task's problems: JSON, JSON Lines or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cipo_eval.data.attempt_files.lines import parse
from cipo_eval.errors import UsageError, nearest
from cipo_eval.records import Problem


def read_id_map(path: Path, problems: Sequence[Problem]) -> dict[str, str]:
    """The problem's id for each id that the file uses.

    JSON: one object with an entry for each id. JSON Lines: an object with two values a line. CSV: two columns. In the
    last two the file's id comes first; a first line that names no problem is a header. Raises ``UsageError`` for
    anything else, for ids of problems that the task does not have, and for an id with two meanings.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    ids = {problem.id for problem in problems}
    problem_ids: dict[str, str] = {}
    for where, name, to in _pairs(path, data, ids):
        if to not in ids:
            raise UsageError(f"{where}: the task has no problem {to}: {nearest(to, ids)[:200]}")
        if problem_ids.setdefault(name, to) != to:
            raise UsageError(f"{where}: {name} is {problem_ids[name]} and {to}")
    if not problem_ids:
        raise UsageError(f"{path} maps no ids")
    return problem_ids


def _pairs(path: Path, data: bytes, ids: set[str]) -> Iterable[tuple[str, str, str]]:
    """Place, the file's id and the problem's."""
    if path.suffix == ".csv":
        return _table(path.name, data, ids)
    stripped = data.strip()
    if path.suffix == ".json" or (stripped.startswith(b"{") and b"\n{" not in stripped):
        value = parse(data, path.name)
        if isinstance(value, dict):
            return [(path.name, name, _text(to, path.name)) for name, to in value.items()]
        rows: list[tuple[str, Any]] = [(f"{path.name} row {n}", row) for n, row in enumerate(value, start=1)]
        return [_pair(where, row) for where, row in rows]
    lines = enumerate(data.split(b"\n"), start=1)
    places = ((f"{path.name} line {number}", line) for number, line in lines if line.strip())
    return [_pair(where, parse(line, where)) for where, line in places]


def _table(name: str, data: bytes, ids: set[str]) -> list[tuple[str, str, str]]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(f"{name} is not UTF-8 text (at byte {error.start + 1})") from error
    rows = []
    for number, row in enumerate(csv.reader(io.StringIO(text)), start=1):
        if not row or (number == 1 and row[-1].strip() not in ids):
            continue
        rows.append(_pair(f"{name} line {number}", row))
    return rows


def _pair(where: str, row: Any) -> tuple[str, str, str]:
    values = list(row.values()) if isinstance(row, dict) else row
    if not isinstance(values, list) or len(values) != 2:
        raise UsageError(f"{where} is not a pair of ids")
    return where, _text(values[0], where), _text(values[1], where)


def _text(value: Any, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UsageError(f"{where}: an id is a text or a whole number, not {str(value)[:40]!r}")
    return str(value).strip()
