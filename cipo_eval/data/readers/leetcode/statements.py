"""Reads what a LeetCode statement promises of its inputs: lines of comparisons, lines in words, and what it implies.

Exponents are flattened in the data: ``105`` is 10^5 and ``231 - 1`` is 2^31 - 1. A line that is not understood, or that
a known input seems to break, is listed in ``unknown``: nothing is claimed about it. Lines are read with ``ast`` and
evaluated here; nothing in them is ever run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from cipo_eval.data.readers.leetcode.comparisons import Args, OpenError, read_chain
from cipo_eval.data.readers.leetcode.constraints import Constraints
from cipo_eval.data.readers.leetcode.properties import (
    all_different,
    are_pairs,
    have_width,
    is_forest,
    is_rising,
    is_search_tree,
)
from cipo_eval.data.readers.leetcode.sentences import understand


def parse(
    text: str,
    statement: str,
    names: Sequence[str],
    linked: Mapping[str, str],
    examples: Sequence[Args],
) -> Constraints:
    """What a problem promises of its inputs: ``text`` are the lines of its constraints, ``names`` its parameters.

    ``linked``: the parameters that are linked lists ("ln") and trees ("tn"); ``examples``: inputs that are right.
    """
    constraints = Constraints(names=tuple(names), linked=linked)
    text = text.replace("\xa0", " ").replace("\u200b", "").replace("\r\n", "\n")
    components = _components(statement, names)
    text = re.sub(r"(?m)^(\w+)(.*?) and (do(?:es)? not )", r"\1\2\n\1 \3", text)
    for line in map(str.strip, text.split("\n")):
        if not line or re.match(r"(?:Follow-?up|Note)\b", line) or re.search(r"At most .* calls", line):
            continue
        if not (_compares(line, components, constraints) or understand(line, constraints, linked, examples)):
            constraints.unknown.append(line)
    _drop_broken(constraints, examples)
    _imply(statement, constraints, examples)
    constraints.search_tree = bool(linked) and re.search(r"search tree|\bBST", statement) is not None
    for name in names:
        rows = [row for args in examples if isinstance(args[name], list) for row in args[name]]
        if re.search(rf"\b{name}\.length == n ?- ?1\b", text) and rows and are_pairs(rows):
            constraints.trees = True
            constraints.checks.append(lambda args, name=name: is_forest(args[name]))  # type: ignore[misc]
        if width := sum(place.startswith(f"{name}[i]") for place in components.values()):
            constraints.checks.append(lambda args, name=name, width=width: have_width(args[name], width))  # type: ignore[misc]
    if constraints.search_tree:
        constraints.checks.append(
            lambda args: all(map(is_search_tree, (args[n] for n in linked if linked[n] == "tn")))
        )
    if not all(map(constraints.holds, examples)):
        constraints.unknown.append("a known input breaks it")
    return constraints


def _imply(statement: str, constraints: Constraints, examples: Sequence[Args]) -> None:
    """Promises that stand in the statement only ("two sorted arrays"), and that all known inputs keep."""
    order = re.search(r"sorted|non-decreasing|increasing|ascending", statement)
    unlike = re.search(r"unique|distinct", statement)
    letters = "permutation" in statement
    for name in constraints.names:
        values = [args[name] for args in examples]
        if letters and all(isinstance(value, str) and len(set(value)) == len(value) for value in values):
            constraints.once.add(name)
            constraints.checks.append(lambda args, name=name: len(set(args[name])) == len(args[name]))  # type: ignore[misc]
        if not all(isinstance(value, list) for value in values):
            continue
        flat = all(isinstance(item, int) for value in values for item in value)
        if order and flat and name not in constraints.ascending and all(map(is_rising, values)):
            constraints.ascending[name] = True
            constraints.checks.append(lambda args, name=name: is_rising(args[name]))  # type: ignore[misc]
        if (
            unlike
            and name not in constraints.distinct
            and name not in constraints.linked
            and all(map(all_different, values))
        ):
            constraints.distinct.add(name)
            constraints.checks.append(lambda args, name=name: all_different(args[name]))  # type: ignore[misc]


def _components(statement: str, names: Sequence[str]) -> dict[str, str]:
    """``edges[i] = [ai, bi]``: what the parts of an item are called."""
    places = {}
    for name, parts in re.findall(r"(\w+)\[i\] = \[([\w, ]+)\]", statement):
        for at, part in enumerate(parts.split(",")):
            if name in names and part.strip() not in names:
                places[part.strip()] = f"{name}[i][{at}]"
    return places


def _compares(line: str, components: Mapping[str, str], constraints: Constraints) -> bool:
    if re.search(r"['\"]", line) or (chain := read_chain(line, components)) is None:
        return False
    constraints.chains.append(chain)
    constraints.lines.append(line)
    return True


def _drop_broken(constraints: Constraints, examples: Sequence[Args]) -> None:
    """Comparisons that known inputs do not keep, or that speak of something unknown, were misread."""
    right = []
    for chain, line in zip(constraints.chains, constraints.lines, strict=True):
        try:
            is_kept = all(chain.holds(constraints.symbols(args)) for args in examples)
        except OpenError:
            is_kept = False
        if is_kept:
            right.append(chain)
        else:
            constraints.unknown.append(line)
    constraints.chains[:] = right
