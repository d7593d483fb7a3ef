"""What a row says of its problem is read once for all rows that say the same."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.data.attempt_files.clues import clues, told

COLUMNS = (
    "v",
    "problem",
    "problem_id",
    "id",
    "idx",
    "question",
    "gold",
    "answer",
    "slug",
    "buggy_code",
    "doc",
    "text",
)
VALUES = st.sampled_from([0, 1, True, 1.0, "1", "", "a", None, [], {"question": "a"}, {"id": 1}])
ROWS = st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=4)


@given(st.lists(ROWS, min_size=2, max_size=6))
def test_rows_that_are_told_to_be_alike_say_the_same(rows: list[dict[str, Any]]) -> None:
    by_told: dict[Any, Any] = {}
    for row in rows:
        if (known := told(row)) is not None:
            assert by_told.setdefault(known, clues(row)) == clues(row)


def test_what_says_nothing_of_the_problem_makes_no_difference() -> None:
    row = {"problem_id": "a", "idx": 3, "text": "one"}
    assert told(row) == told({**row, "text": "another", "score": 0.5}) is not None
    assert told(row) != told({**row, "idx": True})  # no place
    assert told({"problem": "a"}) != told({"problem": "a", "v": 1})  # a question, and an id
