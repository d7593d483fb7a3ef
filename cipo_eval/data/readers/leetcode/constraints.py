"""What is promised of a LeetCode problem's inputs (``1 <= nums.length <= 105``), as something that can be checked.

``statements`` reads it from the problem; ``making`` makes further inputs that keep it.
"""

from __future__ import annotations

import ast
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.data.readers.leetcode.comparisons import (
    NODES,
    Args,
    Chain,
    OpenError,
    assignments,
    evaluate,
)
from cipo_eval.data.readers.leetcode.properties import leaves

Check = Callable[[Args], bool]
"""Whether an input keeps a promise."""


@dataclass(slots=True)
class Constraints:
    """What is promised of an input. ``holds`` of every known one."""

    names: tuple[str, ...]
    """The parameters, in their order."""
    linked: Mapping[str, str]
    """The parameters that are linked lists ("ln") or trees ("tn")."""
    chains: list[Chain] = field(default_factory=list)
    """Comparisons that hold."""
    checks: list[Check] = field(default_factory=list)
    """Other promises, as functions of an input."""
    alphabets: dict[str, str] = field(default_factory=dict)
    """By parameter, the characters of its strings."""
    values: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """By parameter, all that its numbers can be."""
    distinct: set[str] = field(default_factory=set)
    """Parameters whose items are all different."""
    ascending: dict[str, bool] = field(default_factory=dict)
    """By parameter: sorted, descending where False."""
    even: set[str] = field(default_factory=set)
    """Parameters that are even numbers, or whose items are."""
    members: dict[str, str] = field(default_factory=dict)
    """Parameters that are among the items of another."""
    anagrams: dict[str, str] = field(default_factory=dict)
    """Parameters that have the letters of another one."""
    trees: bool = False
    """Edges are those of one tree."""
    acyclic: bool = False
    """Directed edges form no cycle."""
    search_tree: bool = False
    """Binary trees are search trees."""
    nodes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """By parameter, how many nodes a list or tree has."""
    no_zero: set[str] = field(default_factory=set)
    """Parameters whose numerals do not begin with 0."""
    once: set[str] = field(default_factory=set)
    """Parameters in whose strings no letter comes twice."""
    spaced: dict[str, bool] = field(default_factory=dict)
    """Parameters that are words with single spaces between; whether a capital comes first and nowhere else."""
    common: tuple[str, str] | None = None
    """Two lists that share an item."""
    places: dict[str, dict[int, str]] = field(default_factory=dict)
    """By parameter, the characters at places of its strings."""
    lines: list[str] = field(default_factory=list)
    """Where ``chains`` come from."""
    unknown: list[str] = field(default_factory=list)
    """Lines that were not understood."""

    def symbols(self, env: Args) -> dict[str, Any]:
        """The input with what follows from it: ``n`` where ``n == nums.length``."""
        values = dict(env)
        if self.linked:
            values[NODES] = [value for name in self.linked for value in leaves(env.get(name), int)]
        going = True
        while going:
            going = False
            for chain in self.chains:
                for at, name in enumerate(chain.operators):
                    if name == "==":
                        going = _bind(chain.sides[at], chain.sides[at + 1], values) or going
        return values

    def holds(self, args: Args) -> bool:
        """Whether an input keeps all promises that were understood."""
        env = self.symbols(args)
        try:
            return all(chain.holds(env) for chain in self.chains) and all(
                check(args) for check in self.checks
            )
        except (
            OpenError,
            IndexError,
            TypeError,
            ValueError,
            AttributeError,
        ):  # of another form than known ones
            return False


def _bind(left: Sequence[ast.expr], right: Sequence[ast.expr], env: dict[str, Any]) -> bool:
    for one, other in (*itertools.product(left, right), *itertools.product(right, left)):
        name, solve = _unknown(one)
        if name and name not in env:
            try:
                inner = next(iter(assignments((other,), env)), None)
                if inner is not None:
                    env[name] = solve(evaluate(other, inner))
                    return True
            except (OpenError, IndexError, TypeError):
                continue
    return False


def _unknown(term: ast.expr) -> tuple[str, Callable[[int], int]]:
    """The name in ``n``, ``n - 1`` or ``2 * n``, and what it is where the whole is a number."""
    if isinstance(term, ast.Name):
        return term.id, lambda whole: whole
    if isinstance(term, ast.BinOp):
        left, right = term.left, term.right
        if isinstance(left, ast.Name) and isinstance(right, ast.Constant):
            by: Any = right.value
            if isinstance(term.op, ast.Sub):
                return left.id, lambda whole: whole + by
            if isinstance(term.op, ast.Add):
                return left.id, lambda whole: whole - by
        if isinstance(right, ast.Name) and isinstance(left, ast.Constant) and isinstance(term.op, ast.Mult):
            times: Any = left.value
            return right.id, lambda whole: whole // times
    return "", lambda whole: whole
