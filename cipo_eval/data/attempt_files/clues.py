"""What a row of a file of attempts says of the problem that it is about."""

from __future__ import annotations

import functools
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

_NAMES = ("problem_id", "unique_id", "task_id", "question_id")
_LOOSE = ("id", "problem_idx")
_STATEMENTS = ("question", "problem")
_QUESTIONS = (*_STATEMENTS, "question_content", "prompt")
_GOLDS = ("expected_answer", "gt", "gold", "gold_answer", "ground_truth", "target")
_ANSWERS = (*_GOLDS, "answer", "final_answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clues:
    """What a row says of its problem, in order of trust; it may say any of it, and contradict itself."""

    names: tuple[str, ...]
    """Ids in columns that hold the problem's id."""
    loose: tuple[str, ...]
    """Ids in columns that may hold the number of a row as well."""
    questions: tuple[str, ...]
    """The statement, with or without instructions around it."""
    statements: tuple[str, ...]
    """Those of them that hold nothing else: what speaks against another problem."""
    position: int | None
    """Place in the data set, from 0."""
    answers: tuple[str, ...]
    """What may be the right answer; of some harnesses it is the model's."""
    golds: tuple[str, ...]
    """Those of them that can only be the right one."""
    slug: str | None
    """DebugBench: the problem, of which several programs are to be repaired."""
    program: str | None
    """The program to be repaired."""

    @property
    def empty(self) -> bool:
        """Whether nothing here says what the row is about."""
        return not (self.names or self.loose or self.questions or self.slug) and self.position is None


def clues(row: Mapping[str, Any]) -> Clues:
    """Reads them from any layout."""
    doc = row["doc"] if isinstance(row.get("doc"), dict) else {}
    there, of_doc = _columns(tuple(row)), _columns(tuple(doc))
    positions = (row[column] for column in there.positions)
    buggy = row.get("buggy_code")

    def texts(name: str) -> tuple[str, ...]:
        mine, documents = getattr(there, name), getattr(of_doc, name)
        if not mine and not documents:
            return ()
        return (*_all(row, mine), *_all(doc, documents))

    return Clues(
        names=tuple(name for column in there.names if (name := _id(row[column])) is not None),
        loose=tuple(name for column in there.loose if (name := _id(row[column])) is not None),
        questions=texts("questions") if "v" not in row else (),
        statements=texts("statements") if "v" not in row else (),
        position=next((v for v in positions if isinstance(v, int) and not isinstance(v, bool)), None),
        answers=texts("answers"),
        golds=texts("golds"),
        slug=row["slug"] if isinstance(row.get("slug"), str) else None,
        program=buggy if isinstance(buggy, str) else None,
    )


def told(row: Mapping[str, Any]) -> Hashable:
    """What ``clues`` reads of a row, equal only where that is equal; None where the row has to be read to know. A file
    has many rows for each of its problems: this takes a tenth of the time."""
    columns = _columns(tuple(row)).read
    values = [row[column] for column in columns]
    return (columns, *values) if {value.__class__ for value in values} <= _PLAIN else None


def clues_of(known: Any) -> Clues:
    """What ``clues`` reads of a row of which this is ``told``; ``Clues`` are what they are."""
    return known if isinstance(known, Clues) else clues(dict(zip(known[0], known[1:], strict=True)))


_PLAIN = {str, int}


class _Columns(NamedTuple):
    """The columns of a row that say something, by what they say, in order of trust."""

    names: tuple[str, ...]
    loose: tuple[str, ...]
    positions: tuple[str, ...]
    questions: tuple[str, ...]
    statements: tuple[str, ...]
    answers: tuple[str, ...]
    golds: tuple[str, ...]
    read: tuple[str, ...]
    """All of which the content is read."""


@functools.lru_cache(maxsize=1024)
def _columns(columns: tuple[str, ...]) -> _Columns:
    """Looked up once for all rows that have these columns."""
    stored = ("problem",) if "v" in columns else ()
    kinds = ((*_NAMES, *stored), _LOOSE, ("idx", "doc_id"), _QUESTIONS, _STATEMENTS, _ANSWERS, _GOLDS)
    of = [tuple(name for name in kind if name in columns) for kind in kinds]
    others = [name for name in ("v", "doc", "slug", "buggy_code") if name in columns]
    return _Columns._make([*of, tuple(dict.fromkeys(chain(*of, others)))])


def _all(source: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[str]:
    """Texts and numbers in these columns of a row, or of its document."""
    for column in columns:
        value = source[column]
        if isinstance(value, str) and value.strip():
            yield value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield str(value)


def _id(value: Any) -> str | None:
    """An id as text; tables write whole numbers as decimals."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
