"""Multiple-choice sets of RealCritic (Tang et al. 2025, arXiv:2501.14492): a question with its options, a letter, an
attempt.

The options' texts, by which the verifier knows an answer that names no letter, stand in a column of three forms or in
the question alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row
from cipo_eval.verifiers.choice import LETTERS

_ANNOUNCED = "Answer Choices:"


def read(row: Row, _companions: Mapping[str, Row]) -> ReadProblem:
    """A row of RealCritic. ``choices`` is a dictionary of texts and labels (ARC), a list of ``(A) …`` (MMLU), or not
    there (GPQA). Raises ``ValueError`` for a gold that is no option."""
    gold, attempt, label = row["gt"].strip(), row["reasoning"], row["previous_score"]
    choices = _texts(row.get("choices")) or choices_in(row["question"])
    if gold not in LETTERS or len(gold) != 1 or (choices and LETTERS.index(gold) >= len(choices)):
        raise ValueError(f"{gold!r} is none of {len(choices)} options")
    return ReadProblem(
        id=str(row["idx"]),
        question=row["question"],
        answer=gold,
        attempt=attempt[0] if isinstance(attempt, list) else attempt,
        attempt_right=bool(label[0]),
        options={"choices": choices},
        metadata={"type": row["type"]} if row.get("type") else {},
    )


def choices_in(question: str) -> list[str]:
    """The texts of the options that end a question, as ``(A) …`` or ``A) …``; none where there are fewer than two."""
    _, announced, tail = question.rpartition(_ANNOUNCED)
    if not announced:
        return []
    places, at = [], 0
    for letter in LETTERS:
        label = re.compile(rf"(?:\({letter}\)|(?<![\w(]){letter}\))\s*").search(tail, at)
        if label is None:
            break
        places.append(label.span())
        at = label.end()
    ends = [start for start, _ in places[1:]] + [len(tail)]
    texts = [tail[begin:end].strip() for (_, begin), end in zip(places, ends, strict=True)]
    return texts if len(texts) > 1 else []


def _texts(column: Any) -> list[str]:
    if isinstance(column, dict):
        return list(column["text"])  # labels are 1 to 4 in some rows; the question has letters in all
    return [re.sub(r"^\(?[A-J]\)\s*", "", text) for text in column or ()]
