"""Which number each attempt of a file gets, and which attempt of a pool a correction belongs to.

Samples are numbered from 0. Files number theirs otherwise, with gaps, or twice: all of them count, in the order of
their numbers. The number of a correction says which attempt of the pool it corrects (``TaskPlan.given``), so a
correction gets that of the attempt that it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.data.attempt_files import texts
from cipo_eval.turns.pools import PoolItem

IntArray = NDArray[np.int64]


@dataclass(slots=True)
class Held:
    """An attempt of a file at its problem; its text stays in the file (``rows``)."""

    at: int
    """Its place among the attempts of the file, from 0."""
    label: int | None
    """Its number in the file."""
    turn: tuple[str, int] | None
    """Its protocol and turn, where the row says them."""
    corrected: str | None
    right: bool | None
    critique: bool
    number: int = 0


def in_order(labels: NDArray[Any], labelled: NDArray[np.bool_]) -> IntArray:
    """The numbers of the attempts at one problem by their labels, those without one behind them; all of shape
    (attempts,)."""
    there = np.flatnonzero(labelled)
    ranked = np.append(there[np.argsort(labels[there], kind="stable")], np.flatnonzero(~labelled))
    numbers = np.empty(len(ranked), np.int64)
    numbers[ranked] = np.arange(len(ranked))
    return numbers


def by_rank(attempts: Sequence[Held], labels: Iterable[int]) -> None:
    """Numbers attempts of a run at one problem by the places of their labels among all ``labels`` there, so that turns
    that belong together stay together; of equal labels all but the first come behind."""
    rank = {label: place for place, label in enumerate(sorted(set(labels)))}
    taken: set[int] = set()
    repeated: list[Held] = []
    for attempt in attempts:
        place = rank.get(attempt.label, -1) if attempt.label is not None else -1
        if place < 0 or place in taken:
            repeated.append(attempt)
        else:
            attempt.number = place
            taken.add(place)
    for number, attempt in enumerate(repeated, start=len(rank)):
        attempt.number = number


def first_label(attempts: Iterable[Held]) -> int:
    """The number from which a file counts the attempts of a pool: 1 where none has 0."""
    labels = [a.label for a in attempts if a.label is not None]
    return 1 if labels and min(labels) == 1 else 0


def with_pool(attempts: Sequence[Held], items: Sequence[PoolItem], first: int) -> list[Held]:
    """Numbers the corrections at one problem by the pool's attempts there (at least one); ``first``: ``first_label``.

    Returns those that correct an attempt that the pool does not have.
    """
    used: set[int] = set()
    others = []
    negative = any(a.label is not None and a.label < first for a in attempts)
    for attempt in sorted(attempts, key=lambda a: a.corrected is None):
        if attempt.corrected is not None:
            places = [place for place, item in enumerate(items) if _same(attempt.corrected, item.text)]
            if not places:
                others.append(attempt)
                continue
            number = min(_free(place, len(items), used) for place in places)
        elif attempt.label is None or negative:
            number = _free(0, 1, used)
        else:
            number = _free((attempt.label - first) % len(items), len(items), used)
        attempt.number = number
        used.add(number)
    return others


def _free(start: int, step: int, used: set[int]) -> int:
    number = start
    while number in used:
        number += step
    return number


def _same(carried: str, text: str) -> bool:
    """Whether a text is the one that a row carries; of a program in its fence or tags, whether it has the program."""
    one, other = texts.plain(carried), texts.plain(text)
    if one == other:
        return True
    lines = carried.strip().split("\n")
    if len(lines) > 2 and lines[0].startswith(("```", "<code>")):
        return texts.plain("\n".join(lines[1:-1])) in other
    return False


def notes(
    attempts: Sequence[IntArray],
    number: IntArray,
    label: Callable[[IntArray], tuple[NDArray[Any], NDArray[np.bool_]]],
    mark: Callable[[IntArray], IntArray],
    where: Callable[[int], str],
) -> list[str]:
    """What a user must hear of numbers that were changed and of equal samples.

    ``attempts``: those at each problem; ``number``: of each attempt of the file. ``label`` says of some of them their
    numbers in the file (equal only where those are) and whether they have one, ``mark`` is equal for equal texts,
    ``where`` says where an attempt stands.
    """
    lines = []
    changed = doubles = 0
    several: list[IntArray] = []
    same: list[IntArray] = []
    first = -1
    for held in attempts:
        labels, labelled = label(held)
        otherwise = np.flatnonzero(labelled & (labels != number[held]))
        if len(otherwise) and first < 0:
            first = int(held[otherwise[0]])
        changed += len(otherwise)
        own = labels[labelled]
        doubles += len(own) - len(np.unique(own))
        if len(held) > 1:
            several.append(held)
            marks = mark(held)
            if (marks == marks[0]).all():
                same.append(held)
    if changed:
        twice = f", {doubles} of them a number that was there already" if doubles else ""
        lines.append(
            f"the file numbers its samples otherwise than from 0 on without gaps: {changed} attempt(s) got "
            f"another number{twice}; none is left out for it (first: {where(first)})"
        )
    if same:
        lines.append(
            f"at {len(same)} of {len(several)} problems with several attempts all of them are the same text: "
            f"{len(same[0])} equal samples say no more than one (first: {where(int(same[0][0]))})"
        )
    return lines
