"""Attempts of somebody that are to be corrected: the same for every model that is compared.

How a pool is built from a run, written and read: ``run.pools``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.records import Problem, fingerprint


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolItem:
    """An attempt that a run corrects, whoever made it."""

    task: str
    problem: str
    text: str
    right: bool | None = None
    """What the verifier said of it where the pool was built; a run judges it anew."""
    error_end: int | None = None
    """Characters of the text up to the end of its first wrong step, where that is known."""

    @property
    def shown(self) -> tuple[str | int, ...]:
        """What of it a model may get to see depends on."""
        return (self.text,) if self.error_end is None else (self.text, self.error_end)


@dataclass(frozen=True, kw_only=True)
class Pool:
    """Attempts in a fixed order: an item's place among those at its problem is part of its identity in a run."""

    items: tuple[PoolItem, ...]
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        places: dict[tuple[str, str], list[PoolItem]] = {}
        for item in self.items:
            places.setdefault((item.task, item.problem), []).append(item)
        object.__setattr__(self, "_places", {key: tuple(items) for key, items in places.items()})

    @property
    def fingerprint(self) -> str:
        """Of the attempts at each problem, in their order, with where their first wrong steps end as far as that is
        known; what a pool was made of does not count."""
        places: dict[tuple[str, str], tuple[PoolItem, ...]] = self.__dict__["_places"]
        return fingerprint(
            [
                [*key, *(part for item in items for part in item.shown)]
                for key, items in sorted(places.items())
            ]
        )

    def samples(self, task: str, corrections: Mapping[str, int]) -> int:
        """How often attempts were corrected at the most, if so many corrections are there by problem."""
        each = [-(-count // len(items)) for p, count in corrections.items() if (items := self.of(task, p))]
        return max(each, default=1)

    def of(self, task: str, problem: str) -> tuple[PoolItem, ...]:
        """The attempts at a problem."""
        places: dict[tuple[str, str], tuple[PoolItem, ...]] = self.__dict__["_places"]
        return places.get((task, problem), ())


def own_pool(problems: Sequence[Problem]) -> Pool | None:
    """The attempts that came with the problems' data; None where none did."""
    items = tuple(
        PoolItem(task=p.task, problem=p.id, text=p.attempt, right=p.attempt_right)
        for p in problems
        if p.attempt is not None
    )
    return Pool(items=items, source={"tasks": sorted({i.task for i in items})}) if items else None
