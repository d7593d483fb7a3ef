"""When the answers of a task became public, beside the day on which a model's training data ends.

A date is a day, a month or a year (``2025-02-15``, ``2025-02``, ``2025``), or a span of such (``2024-08..2025-04``).
"""

from __future__ import annotations

import calendar
import datetime
import re
from enum import StrEnum
from typing import NamedTuple

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")
BETWEEN = ".."


class Span(NamedTuple):
    """The days that a date may mean, or that a span covers."""

    first: datetime.date
    last: datetime.date


class Side(StrEnum):
    """Where a task's answers lie, seen from a model's cut-off."""

    BEFORE = "before"
    """All were public before the data ends: the model may have been trained on them."""
    AFTER = "after"
    ACROSS = "across"
    """Some were, or the dates are too coarse to say."""


def span(text: str) -> Span:
    """The days of a date. Raises ``ValueError`` for what is none, or ends before it begins."""
    begin, between, end = text.partition(BETWEEN)
    days = Span(_days(begin).first, _days(end if between else begin).last)
    if days.first > days.last:
        raise ValueError(f"{text} ends before it begins")
    return days


def _days(text: str) -> Span:
    match = _DATE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text[:40]!r} is no date: it is 2025, 2025-02 or 2025-02-15")
    year, month, day = (None if part is None else int(part) for part in match.groups())
    assert year is not None
    try:
        first = datetime.date(year, month or 1, day or 1)
    except ValueError as error:
        raise ValueError(f"{text} is no date: {error}") from None
    if day is not None:
        return Span(first, first)
    last_month = month or 12
    return Span(first, datetime.date(year, last_month, calendar.monthrange(year, last_month)[1]))


def side(released: str, cutoff: str) -> Side:
    """Whether what was released on a date is older than a cut-off. Raises ``ValueError`` for what is no date."""
    public, known = span(released), span(cutoff)
    if public.first > known.last:
        return Side.AFTER
    return Side.BEFORE if public.last <= known.first else Side.ACROSS
