"""Properties of values that LeetCode's statements promise: sorted, distinct, a tree, an acyclic graph, and the like.

Each is a function of plain JSON values; linked lists and trees are the lists that statements write.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any


def leaves(value: Any, kind: type) -> list[Any]:
    """All values of a type inside lists."""
    if isinstance(value, list):
        return [leaf for item in value for leaf in leaves(item, kind)]
    return [value] if type(value) is kind else []


def is_rising(values: Sequence[Any]) -> bool:
    """Whether no value is smaller than the one before it."""
    return all(a <= b for a, b in itertools.pairwise(values))


def all_different(values: Sequence[Any]) -> bool:
    """Whether no value comes twice."""
    return len(set(map(repr, values))) == len(values)


def count_nodes(values: Any) -> int:
    """How many nodes a tree or linked list has; None is where there is no node."""
    return sum(value is not None for value in values or ())


def are_pairs(value: Sequence[Any]) -> bool:
    """Whether every item is a list of two."""
    return all(isinstance(row, list) and len(row) == 2 for row in value)


def is_forest(edges: Sequence[Sequence[int]]) -> bool:
    """Whether undirected edges form no cycle."""
    parent: dict[int, int] = {}

    def root(node: int) -> int:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for edge in edges:
        a, b = root(edge[0]), root(edge[1])
        if a == b:
            return False
        parent[a] = b
    return True


def is_acyclic(edges: Sequence[Sequence[int]]) -> bool:
    """Whether directed edges form no cycle."""
    left = {tuple(edge) for edge in edges}
    while left:
        targets = {edge[1] for edge in left}
        rest = {edge for edge in left if edge[0] in targets}
        if len(rest) == len(left):
            return False
        left = rest
    return True


def is_search_tree(values: Any) -> bool:
    """Whether a tree in level order is a search tree; equal values may be on either side."""
    values = list(values or ())
    if not values:
        return True
    inf = float("inf")
    level: list[tuple[float, float]] = [(-inf, inf)]
    at = 0
    while at < len(values) and level:
        below = []
        for low, high in level:
            if at >= len(values):
                break
            value = values[at]
            at += 1
            if value is not None:
                if not low <= value <= high:
                    return False
                below += [(low, value), (value, high)]
        level = below
    return True


def no_leading_zero(value: Any) -> bool:
    """Whether a numeral, or each numeral in a list, is 0 or begins with another digit."""
    if isinstance(value, list) and any(isinstance(item, str | list) for item in value):
        return all(map(no_leading_zero, value))
    return not isinstance(value, list | str) or len(value) < 2 or value[0] not in (0, "0")


def have_width(rows: Sequence[Sequence[Any]], width: int) -> bool:
    """Whether every row has ``width`` cells."""
    return all(len(row) == width for row in rows)


def single_spaces(text: str, *, capital: bool) -> bool:
    """Whether a text is words with single spaces between; ``capital``: a capital comes first and nowhere else."""
    whole = not capital or (text[:1].isupper() and not any(map(str.isupper, text[1:])))
    return whole and text == " ".join(text.split()) and bool(text)


def reaches_end(jumps: Sequence[int]) -> bool:
    """Whether jumps of at most ``jumps[i]`` places lead from the first place to the last."""
    far = 0
    for at, jump in enumerate(jumps):
        if at > far:
            return False
        far = max(far, at + jump)
    return True
