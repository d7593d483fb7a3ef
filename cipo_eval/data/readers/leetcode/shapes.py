"""Shapes of known inputs: of which type values are, how deep lists nest, whether rows have one width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def shape_of(values: Sequence[Any]) -> Any:
    """The type of values: a type, "" for text, a list with the type of its items; None where they differ."""
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        return float
    if len(kinds) != 1:
        return None
    kind = kinds.pop()
    if kind is str:
        return ""
    if kind is not list:
        return kind
    return [shape_of([item for value in values for item in value])]


def depth(shape: Any) -> int:
    """How many lists lie within each other; a text counts as one."""
    if isinstance(shape, list):
        return 1 + depth(shape[0])
    return int(isinstance(shape, str))


def is_square(values: Sequence[Any]) -> bool:
    """Whether all rows of a list are as long as each other, in every known input: a grid, or records."""
    return all(
        isinstance(value, list)
        and all(isinstance(row, list | str) for row in value)
        and len({len(row) for row in value}) == 1
        for value in values
    )


def level_order(root: list[Any] | None) -> list[int | None]:
    """A tree of ``[value, left, right]`` as statements write it, without the None at its end."""
    values: list[int | None] = []
    level = [root]
    while level:
        values += [None if node is None else node[0] for node in level]
        level = [child for node in level if node is not None for child in node[1:]]
    while values and values[-1] is None:
        values.pop()
    return values
