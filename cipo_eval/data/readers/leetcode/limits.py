"""Limits that a problem's comparisons set to a value or a length, as far as the rest of an input is known."""

from __future__ import annotations

import ast
import random
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.data.readers.leetcode.comparisons import (
    Chain,
    OpenError,
    Path,
    assignments,
    evaluate,
    path_of,
)
from cipo_eval.data.readers.leetcode.constraints import Constraints

Span = tuple[int | None, int | None]
"""The least and the greatest, both ends included; None where nothing limits it."""
Entries = dict[Path, list[tuple[Chain, int]]]
"""By what a term names: the comparisons in which it stands, and at which side."""


class NothingFitsError(Exception):
    """No value keeps all that is promised."""


def between(rng: random.Random, low: int, high: int) -> int:
    """A random number, both ends included: four times as fast as ``randint``, which is what matters here."""
    return min(high, low + int(rng.random() * (high - low + 1)))


class Limits:
    """The comparisons of a problem by what they limit."""

    def __init__(self, rules: Constraints) -> None:
        self.bounds: Entries = {}
        """Those of a value itself."""
        self.lengths: Entries = {}
        """Those of its length."""
        for chain in rules.chains:
            for at, side in enumerate(chain.sides):
                for term in side:
                    into = self.bounds
                    if isinstance(term, ast.Attribute):
                        term, into = term.value, self.lengths
                    if path := path_of(term):
                        into.setdefault(path, []).append((chain, at))

    def span(self, path: Path, env: Mapping[str, Any]) -> Span:
        """What a value is limited to by the rest of an input."""
        return span(self.bounds.get(path, []), env)

    def length(self, path: Path, env: Mapping[str, Any]) -> Span:
        """What a length is limited to by the rest of an input."""
        return span(self.lengths.get(path, []), env)


def span(entries: Sequence[tuple[Chain, int]], env: Mapping[str, Any]) -> Span:
    """The least and the greatest that comparisons allow, as far as their other sides are known."""
    low: int | None = None
    high: int | None = None
    for chain, at in entries:
        for other, side in enumerate(chain.sides):
            if other == at:
                continue
            first, last = sorted((other, at))
            signs = set(chain.operators[first:last])
            if "!=" in signs:
                continue
            strict = bool(signs & {"<", ">"})
            below = (other < at) == bool(signs & {"<", "<="})
            for term in side:
                value = _value(term, env)
                if value is None:
                    continue
                if not signs & {"<", "<=", ">", ">="}:  # equal
                    low = high = int(value)
                elif below:
                    limit = int(value) + strict
                    low = limit if low is None else max(low, limit)
                else:
                    limit = int(value) - strict
                    high = limit if high is None else min(high, limit)
    return low, high


def _value(term: ast.expr, env: Mapping[str, Any]) -> Any:
    """None where it depends on what is not there yet."""
    try:
        inner = next(iter(assignments((term,), env)), None)
        return None if inner is None else evaluate(term, inner)
    except (OpenError, IndexError, TypeError):
        return None
