"""What a figure is: a ratio of sums over problems, or another form of these, with a name, a kind and a label (the
table: ``figures``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.chains import Chains, FloatArray
from cipo_eval.metrics.ratios import Form, Ratio, divided
from cipo_eval.turns.protocols import DIRECT, Protocol

Values = Callable[[Chains], NDArray[Any]]
Kind = Literal["share", "score", "difference", "amount", "total"]
"""A share of attempts; another score in [0, 1], for which no binomial bound holds; a difference, which has a sign; an
amount without bounds; a total, which adds up over tasks."""


@dataclass(frozen=True, kw_only=True, eq=False)  # no slots: defaults are made of other fields
class Measure:
    """A quantity that results have a value of: its name, kind and labels."""

    name: str
    """The name in rows of reports and comparisons."""
    kind: Kind = "share"
    label: str = ""
    """What readers call it; by default the name."""
    latex: str = ""
    """The label in LaTeX, where that is more than its characters."""
    key: str = ""
    """The key in its section of ``results.json``; by default the name."""
    family: str = ""
    """The name without its number, the same for all turns or k; by default the name."""
    turn: int | None = None
    """The turn after which it is measured, or to which a step leads; None: it belongs to no turn."""
    k: int | None = None
    """The number of attempts k that it is measured for; None: it depends on no k."""

    def __post_init__(self) -> None:
        for attribute, default in (
            ("label", self.name.replace("_", " ")),
            ("key", self.name),
            ("family", self.name),
        ):
            if not getattr(self, attribute):
                object.__setattr__(self, attribute, default)

    @property
    def signed(self) -> bool:
        """Whether the value is shown with its sign."""
        return self.kind == "difference"

    @property
    def bounded(self) -> bool:
        """Whether the value lies in [0, 1], so that its intervals are cut there."""
        return self.kind in ("share", "score")


def revises(protocol: Protocol) -> bool:
    """Whether a protocol has revisions; where a ``Figure`` applies unless it says otherwise."""
    return protocol.name != DIRECT and not protocol.locates


@dataclass(frozen=True, kw_only=True, eq=False)
class Figure(Measure):
    """A ratio of sums over problems, or another ``form`` of these, reported with an interval."""

    top: Values
    """The numerator of each chain, shape (chains,), or of each ``unit``."""
    bottom: Values | None = None
    """The denominator, of the same shape as the numerator; None: every unit counts one."""
    applies: Callable[[Protocol], bool] = revises
    """Whether it says something of a protocol's chains; else comparisons and tables leave it out."""
    compared: bool = False
    """Whether ``cipo-eval compare`` tells its difference; of accuracy after each turn that after the last."""
    seeds: bool = False
    """Whether it has an interval over several trainings (``metrics.seeds``)."""
    unit: Literal["chain", "problem", "item"] = "chain"
    """What ``top`` and ``bottom`` have a value for: each chain, each problem that has chains, or each attempt of the
    pool, of which all count the same."""
    form: Form = divided
    """How the figure is made of the means of its top and its bottom."""
    other: tuple[Values, Values] | None = None
    """A second numerator and denominator, for forms that take them."""
    meaning: str = ""
    """One line on what the figure means, for the list in docs/metrics.md."""
    formula: str = ""
    """The formula, for the same list; empty: top / bottom says it."""
    source: str = ""
    """The paper that defined the figure."""

    def ratio(self, chains: Chains) -> Ratio:
        """The figure's sums at each problem that has chains (``metrics.ratios``)."""
        top = np.asarray(self.top(chains), dtype=np.float64)
        bottom = np.ones(len(top)) if self.bottom is None else np.asarray(self.bottom(chains), np.float64)
        of_problems: Mapping[str, Callable[[FloatArray], FloatArray]] = {
            "chain": chains.mean,
            "problem": lambda values: values,
            "item": lambda values: _of_items(chains, values),
        }
        by_problem = of_problems[self.unit]
        other = None
        if self.other is not None:
            second, below = (by_problem(np.asarray(of(chains), np.float64)) for of in self.other)
            other = second, below
        return Ratio(
            top=by_problem(top),
            bottom=by_problem(bottom),
            share=self.kind == "share",
            form=self.form,
            other=other,
        )


def _of_items(chains: Chains, values: FloatArray) -> FloatArray:
    """Sums by problem of values of the pool's attempts, shape (items,), in the order of their numbers."""
    assert chains.item is not None
    _, first = np.unique(chains.item, return_index=True)
    return np.bincount(chains.place[first], weights=values, minlength=len(chains.counts)).astype(np.float64)


@dataclass(frozen=True)
class Family:
    """Figures that differ in one number only, a turn or a k."""

    name: str
    """The name with a letter in place of the number, such as ``pass@k``."""
    make: Callable[[int], Figure]

    @cached_property
    def _made(self) -> dict[int, Figure]:
        return {}

    def at(self, number: int) -> Figure:
        """The figure of one turn, or of one k: the same object each time."""
        if number not in self._made:
            self._made[number] = self.make(number)
        return self._made[number]

    def among(self, section: Mapping[str, Any], most: int) -> list[Figure]:
        """The figures of numbers up to ``most`` that a section of ``results.json`` has."""
        return [self.at(n) for n in range(1, most + 1) if section and self.at(n).key in section]
