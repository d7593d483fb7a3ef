"""What a row of a file of attempts says of the problem that it is about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

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
    stored = ("problem",) if "v" in row else ()
    names = [_id(row.get(column)) for column in (*_NAMES, *stored)]
    positions = (row.get(column) for column in ("idx", "doc_id"))
    questions, statements = (_QUESTIONS, _STATEMENTS) if "v" not in row else ((), ())
    buggy = row.get("buggy_code")
    return Clues(
        names=tuple(name for name in names if name is not None),
        loose=tuple(name for column in _LOOSE if (name := _id(row.get(column))) is not None),
        questions=tuple(_all(row, doc, questions)),
        statements=tuple(_all(row, doc, statements)),
        position=next((v for v in positions if isinstance(v, int) and not isinstance(v, bool)), None),
        answers=tuple(_all(row, doc, _ANSWERS)),
        golds=tuple(_all(row, doc, _GOLDS)),
        slug=row["slug"] if isinstance(row.get("slug"), str) else None,
        program=buggy if isinstance(buggy, str) else None,
    )


def _all(row: Mapping[str, Any], doc: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[str]:
    """Texts and numbers in these columns, of the row and of its document."""
    for source in (row, doc):
        for column in columns:
            value = source.get(column)
            if isinstance(value, str) and value.strip():
                yield value
            elif isinstance(value, int | float) and not isinstance(value, bool):
                yield str(value)


def _id(value: Any) -> str | None:
    """An id as text; tables write whole numbers as decimals."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
