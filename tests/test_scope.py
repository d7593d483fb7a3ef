"""Which problems count: windows of dates, values of columns, and one text for each scope."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.data.scope import Scope
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem


def problem(**metadata: Any) -> Problem:
    return Problem(task="t", id="0", index=0, question="?", prompt="?", gold="1", metadata=metadata)


def test_the_first_day_counts_and_the_last_does_not() -> None:
    scope = Scope(start="2024-08-01", end="2025-05-01")
    days = {
        "2024-07-31": False,
        "2024-08-01": True,
        "2025-04-30T22:00:00": True,
        "2025-05-01": False,
        "": False,
    }
    assert {day: scope.admits(problem(date=day)) for day in days} == days
    assert not scope.admits(problem())
    assert Scope().admits(problem())
    assert Scope(end="2025-01-01").admits(problem(date="1999-01-01"))


def test_columns() -> None:
    scope = Scope(only={"platform": ("a", "b"), "level": ("1",)})
    assert scope.admits(problem(platform="b", level=1))
    assert not scope.admits(problem(platform="c", level=1))
    assert not scope.admits(problem(platform="a"))


@pytest.mark.parametrize(
    "body",
    [
        {"start": "yesterday"},
        {"start": "2024-8-1"},
        {"end": "20240801"},
        {"start": "2025-01-01", "end": "2025-01-01"},
        {"from": "2024-08-01"},
    ],
)
def test_what_is_no_scope(body: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Scope.of(body)


DAYS = st.none() | st.dates().map(str)
COLUMNS = st.dictionaries(st.text(), st.lists(st.text(), unique=True).map(tuple))


@given(start=DAYS, only=COLUMNS, order=st.randoms())
def test_equal_scopes_have_equal_texts(
    start: str | None, only: dict[str, tuple[str, ...]], order: Any
) -> None:
    scope = Scope(start=start, only=only)
    shuffled = {c: tuple(order.sample(v, len(v))) for c, v in order.sample(list(only.items()), len(only))}
    text = Scope(start=start, only=shuffled).to_text()
    assert text == scope.to_text() == Scope.from_text(text).to_text()
    assert "\n" not in text
