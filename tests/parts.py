"""Sweeps over real data: every commit tries a part of the items, the exhaustive tier all of them.

An item is in the part if the hash of its name says so, so that the same ones are tried everywhere, or if a test names
it because it is known to be hard.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeVar

import pytest

Item = TypeVar("Item")
ALL_EXAMPLES = "ALL_EXAMPLES"
"""Environment variable; with any value tests that draw their cases try all that ``examples`` says."""


def examples(count: int) -> int:
    """How many cases hypothesis draws: half of so many, each run others, and all in the exhaustive tier."""
    return count if os.environ.get(ALL_EXAMPLES) else count // 2


@dataclass(frozen=True)
class Part:
    """One item in ``one_in``."""

    one_in: int

    def __str__(self) -> str:
        return "all" if self.whole else f"1 in {self.one_in}"

    @property
    def whole(self) -> bool:
        """Whether all items are tried, so that counts and totals can be checked."""
        return self.one_in == 1

    def holds(self, name: str) -> bool:
        """Whether an item of this name is tried."""
        return zlib.crc32(name.encode()) % self.one_in == 0

    def of(
        self, items: Iterable[Item], name: Callable[[Item], object], always: Collection[object] = ()
    ) -> list[Item]:
        """The items to try, in their order; those whose name is in ``always`` are among them."""
        return [item for item in items if name(item) in always or self.holds(str(name(item)))]


def part(one_in: int) -> pytest.MarkDecorator:
    """Runs a test, which takes a ``part``, on one item in ``one_in``, and with ``-m exhaustive`` on all."""
    return pytest.mark.parametrize(
        "part",
        [
            pytest.param(Part(one_in), id=str(Part(one_in))),
            pytest.param(Part(1), id=str(Part(1)), marks=pytest.mark.exhaustive),
        ],
    )


def mostly_slow(names: Iterable[str], one_in: int, always_slow: Collection[str] = ()) -> list[Any]:
    """Parameters of which the fast tier has one in ``one_in``, and none of ``always_slow``."""
    quick = Part(one_in)
    return [
        pytest.param(name, marks=() if quick.holds(name) and name not in always_slow else pytest.mark.slow)
        for name in names
    ]


def cells(*axes: Sequence[Any], one_in: int, always: Callable[..., bool] = lambda *_: False) -> list[Any]:
    """The cells of a matrix. Every commit has those of which ``always`` says so, and those whose positions add up to a
    multiple of ``one_in``: every value of every axis is among them."""
    found = []
    for positions in product(*(range(len(axis)) for axis in axes)):
        values = [axis[at] for axis, at in zip(axes, positions, strict=True)]
        marks = () if sum(positions) % one_in == 0 or always(*values) else (pytest.mark.exhaustive,)
        found.append(pytest.param(*values, marks=marks, id="-".join(map(str, values))))
    return found
