"""Which number each attempt of a file gets, and which attempt of a pool a correction belongs to.

Samples are numbered from 0. Files number theirs otherwise, with gaps, or twice: all of them count, in the order of
their numbers. The number of a correction says which attempt of the pool it corrects (``TaskPlan.given``), so a
correction gets that of the attempt that it carries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cipo_eval.data.attempt_files import texts
from cipo_eval.turns.pools import PoolItem


@dataclass(slots=True, kw_only=True)
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


def in_order(attempts: Sequence[Held]) -> None:
    """Numbers the attempts at one problem by their labels, those without one behind them."""
    ranked = sorted(attempts, key=lambda a: (a.label is None, a.label or 0))  # a stable sort
    for number, attempt in enumerate(ranked):
        attempt.number = number


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
    attempts: Mapping[tuple[str, ...], Sequence[Held]],
    where: Callable[[Held], str],
    mark: Callable[[Held], int],
) -> list[str]:
    """What a user must hear of numbers that were changed and of equal samples. ``where`` says where an attempt stands,
    ``mark`` is equal for equal texts."""
    lines = []
    every = [a for held in attempts.values() for a in held]
    labelled = [a for a in every if a.label is not None]
    if changed := [a for a in labelled if a.label != a.number]:
        doubles = sum(
            len(held) - len({a.label for a in held}) for held in map(_labelled, attempts.values()) if held
        )
        twice = f", {doubles} of them a number that was there already" if doubles else ""
        lines.append(
            f"the file numbers its samples otherwise than from 0 on without gaps: {len(changed)} attempt(s) got "
            f"another number{twice}; none is left out for it (first: {where(changed[0])})"
        )
    several = [held for held in attempts.values() if len(held) > 1]
    if same := [held for held in several if len(set(map(mark, held))) == 1]:
        lines.append(
            f"at {len(same)} of {len(several)} problems with several attempts all of them are the same text: "
            f"{len(same[0])} equal samples say no more than one (first: {where(same[0][0])})"
        )
    return lines


def _labelled(attempts: Sequence[Held]) -> list[Held]:
    return [a for a in attempts if a.label is not None]
