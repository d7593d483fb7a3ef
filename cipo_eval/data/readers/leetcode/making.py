"""Fresh inputs of a LeetCode problem, made within its constraints.

An input is made in the order in which its parts depend on each other: counts, lengths, single numbers, the items of
lists, and last the numbers that are bound by items. The same random numbers give the same input.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cipo_eval.data.readers.leetcode.comparisons import NODES, Chain, OpenError, Path, path_of
from cipo_eval.data.readers.leetcode.constraints import Constraints
from cipo_eval.data.readers.leetcode.limits import Limits, NothingFitsError, between, span
from cipo_eval.data.readers.leetcode.properties import leaves
from cipo_eval.data.readers.leetcode.shapes import depth, is_square, level_order, shape_of
from cipo_eval.data.readers.leetcode.variations import Args, ordered

LARGE = 20_000
"""Values in the large input, about."""
_BIG = 10**6


@dataclass(frozen=True, slots=True)
class Plan:
    """How an input is to be."""

    size: tuple[int, int]
    """Items of its lists and characters of its strings."""
    spread: str
    """Its values: "few" different ones, "edge" the least and the greatest, "small", or "wide"."""
    scalar: str
    """Its numbers: "least", "greatest", or "any"."""


class Maker:
    """Makes inputs of one problem; ``known`` are inputs that are right, in the form of ``Args``."""

    def __init__(
        self, rng: random.Random, rules: Constraints, kinds: Sequence[str], known_inputs: Sequence[Args]
    ) -> None:
        self.rng, self.rules = rng, rules
        self.kinds = dict(zip(rules.names, kinds, strict=True))
        self.samples = {name: [args[at] for args in known_inputs] for at, name in enumerate(rules.names)}
        self.shapes = {name: shape_of(values) for name, values in self.samples.items()}
        self.limits = Limits(rules)
        self.item_limits: dict[Path, tuple[int, int]] = {}
        """Of the values of the collection that is being made."""
        self.row_rules = {name: self.rules_of_rows(name) for name in rules.names}
        self.env: dict[str, Any] = {}
        self.plan = Plan((0, 1), "few", "least")
        self.large = False
        self.pool: list[int] = []
        """Values of the input's lists so far; single numbers are often among them."""
        self.widen = 0
        """Tries to find a value that is not there yet: more of them come into question."""

    def within(self, low: int | None, high: int | None, start: int, end: int) -> int:
        """A size between ``start`` and ``end``, as far as it may be."""
        low = 0 if low is None else low
        high = max(end, low) if high is None else high
        if low > high:
            raise NothingFitsError
        start, end = max(low, min(start, high)), min(high, max(end, low))
        return between(self.rng, min(start, end), max(start, end))

    def fresh(self, plan: Plan, *, large: bool = False) -> Args:
        """An input after a plan; not all that is promised of it is kept. Raises ``NothingFitsError``."""
        self.plan, self.large = plan, large
        rules, rng = self.rules, self.rng
        env: dict[str, Any] = {}
        self.env = env
        self.pool = []
        lists = [name for name in rules.names if isinstance(self.shapes[name], list | str)]
        if large:
            self.plan = plan = self.thinner(lists)
        free = {name for chain in rules.chains for name in chain.names()}
        free = {n for n in free if n not in rules.names and (n,) in self.limits.bounds and n != NODES}
        free -= {n for n in free if len(n) == 1 and n in "ij"}
        counts = sorted(free) + [name for name in rules.names if self.counts(name)]
        for name in counts:
            if name not in env:
                low, high = self.limits.span((name,), env)
                env[name] = self.within(low, high, *plan.size)
                if name in rules.even and env[name] % 2:
                    env[name] += 1 if high is None or env[name] < high else -1
        for name in lists:  # placeholders: their lengths are what others are bound by
            if self.kinds[name] not in ("ln", "tn"):
                low, high = self.limits.length((name,), env)
                env[name] = range(self.within(low, high, *plan.size))
            else:
                low, high = rules.nodes.get(name, (0, None))
                if (NODES,) in self.limits.lengths:  # "The number of nodes is n"
                    low, high = self.limits.length((NODES,), env)
                env[name] = range(self.within(low, high, *plan.size))
        later = [name for name in rules.names if name not in env]
        for name in sorted(later, key=self.needs_items):
            if not self.needs_items(name):
                env[name] = self.scalar(name)
        for name in lists:
            env[name] = self.collection(name, len(env[name]))
            self.pool += [v for v in leaves(env[name], int)[:50] if abs(v) < _BIG]
        for name in later:
            if name not in env:
                env[name] = self.scalar(name)
        for one, other in rules.members.items():
            if one in env and isinstance(env.get(other), list):
                values = [v for v in env[other] if v is not None]
                if isinstance(env[one], list):
                    env[one] = rng.sample(values, min(len(env[one]), len(values)))
                elif values:
                    env[one] = rng.choice(values)
        for one, other in rules.anagrams.items():
            letters = list(env[other])
            rng.shuffle(letters)
            env[one] = "".join(letters)
        if rules.common:
            one, other = rules.common
            env[other][rng.randrange(len(env[other]))] = rng.choice(env[one])
        return tuple(env[name] for name in rules.names)

    def counts(self, name: str) -> bool:
        """Whether a number says how many items there are, or what they may be: it must not be huge."""
        if self.shapes[name] is not int:
            return False
        return any(
            name in chain.names()
            and ("==" in chain.operators)
            and any(
                isinstance(node, ast.Attribute) for side in chain.sides for t in side for node in ast.walk(t)
            )
            for chain in self.rules.chains
        )

    def needs_items(self, name: str) -> bool:
        """Whether a number is bound by items (``max(plants[i]) <= capacity``), and made after them."""
        return any(
            any(isinstance(node, ast.Call) for side in chain.sides[:at] for t in side for node in ast.walk(t))
            for chain, at in self.limits.bounds.get((name,), [])
        )

    def thinner(self, lists: Sequence[str]) -> Plan:
        """The plan of a large input: as many items as the statement allows, but not more than fit."""
        deep = max((depth(self.shapes[name]) for name in lists), default=0)
        if not lists:
            raise NothingFitsError
        most = {1: LARGE, 2: LARGE // 4}.get(deep, 300)
        if any(self.kinds[name] == "tn" for name in lists):
            most = 2000
        if deep > 1 and any(is_square(self.samples[name]) and not self.records(name) for name in lists):
            most = 100
        return Plan((most // 2, most), "wide", "any")

    def records(self, name: str) -> bool:
        """Whether the items of a list have a fixed size, as edges do: it is no grid."""
        low, high = self.limits.length((name, "[]"), {})
        return low is not None and low == high

    def scalar(self, name: str) -> Any:
        """A value of a parameter that is no collection."""
        shape = self.shapes[name]
        low, high = self.limits.span((name,), self.env)
        if shape is bool:
            return self.rng.random() < 0.5
        if shape is float:
            top = min(high or 100, 100 if self.plan.spread != "wide" else 10**4)
            return round(self.rng.uniform(low or 0, top), 2)
        if shape is not int:
            raise NothingFitsError
        return self.number(low, high, name)

    def number(self, low: int | None, high: int | None, name: str) -> int:
        """A single number: it may be huge, unless nothing is said."""
        if name in self.rules.values:
            return self.rng.choice(self.rules.values[name])
        if low is None or high is None:
            seen = [v for v in self.samples.get(name, []) if isinstance(v, int)] or [1]
            low = min(seen) if low is None else low
            high = max(*seen, low) if high is None else high
        if low > high:
            raise NothingFitsError
        if self.plan.scalar == "least":
            return min(high, low + self.rng.randrange(2))
        if self.plan.scalar == "greatest":
            return max(low, high - self.rng.randrange(2))
        usual = [v for v in self.pool if low <= v <= high]
        draw = self.rng.random()
        if usual and draw < 0.3:
            return self.rng.choice(usual)
        if draw < 0.7:
            return between(self.rng, low, min(high, low + 12))
        if draw < 0.9:
            return between(self.rng, low, min(high, low + 10 ** between(self.rng, 1, 6)))
        return between(self.rng, low, high)

    # --- values in collections ---

    def collection(self, name: str, count: int) -> Any:
        """A list, text, linked list or tree of ``count`` items."""
        kind, shape = self.kinds[name], self.shapes[name]
        self.item_limits.clear()
        if kind == "tn":
            return self.tree(name, count)
        if kind == "ln":
            made = [self.element((name, "[]"), node=True) for _ in range(count)]
            return ordered(self.rules, name, made)
        if isinstance(shape, str):
            return self.text(name, count)
        if not isinstance(shape, list):
            raise NothingFitsError
        if self.rules.trees and shape == [[int]] and self.is_edges(name):
            return self.edges(name, count)
        return ordered(self.rules, name, self.items(name, shape[0], count))

    def items(self, name: str, shape: Any, count: int) -> list[Any]:
        """Items of a list, all different where that is promised: then there may be fewer than ``count``."""
        distinct = name in self.rules.distinct
        made: list[Any] = []
        seen: set[str] = set()
        rows = self.limits.length((name, "[]"), self.env)
        same = None
        if isinstance(shape, list) and is_square(self.samples[name]):
            same = self.within(*rows, *self.row_size(grid=True))
        if shape is int and not distinct and name not in self.rules.values and name not in self.rules.even:
            limits = self.element_limits((name, "[]"), node=False)
            return [self.spread(*limits) for _ in range(count)]
        misses = 0
        for _ in range(count):
            if misses > 3:
                break
            misses += 1
            for _ in range(8):
                item = self.item(name, (name, "[]"), shape, rows, same)
                key = repr(sorted(item)) if isinstance(item, list) and len(item) == 2 else repr(item)
                if not distinct or key not in seen:
                    seen.add(key)
                    made.append(item)
                    misses = 0
                    break
                if isinstance(item, int):
                    self.widen += 1
            self.widen = 0
        low, _ = self.limits.length((name,), self.env)
        if len(made) < count and low is not None and len(made) < low:
            raise NothingFitsError
        return made

    def row_size(self, *, grid: bool) -> tuple[int, int]:
        """The least and the greatest size of a list within a list."""
        if self.large:
            return (100, 100) if grid else (1, 8)
        start, end = self.plan.size
        return (min(start, 12), min(end, 12))

    def item(
        self, name: str, path: Path, shape: Any, rows: tuple[int | None, int | None], same: int | None
    ) -> Any:
        """One item of a list; ``rows``: limits of its length; ``same``: the length that all of them have."""
        if isinstance(shape, str):
            return self.text(name, self.within(*rows, *self.row_size(grid=False)))
        if isinstance(shape, list):
            count = same if same is not None else self.within(*rows, *self.row_size(grid=False))
            inner = (
                (None, None) if isinstance(shape[0], type) else self.limits.length((*path, "[]"), self.env)
            )
            for _ in range(10):
                row = [
                    self.item(name, (*path, at), shape[0], inner, None)
                    if not isinstance(shape[0], type)
                    else self.element((*path, at))
                    for at in range(count)
                ]
                if self.rules.acyclic and len(path) == 2:
                    row.sort()
                if not self.row_rules[name] or self.row_holds(name, row):
                    return row
            raise NothingFitsError
        if shape is int:
            return self.element(path)
        if shape is bool:
            return self.rng.random() < 0.5
        if shape is float:
            return round(self.rng.uniform(0, 10), 2)
        raise NothingFitsError

    def rules_of_rows(self, name: str) -> list[Chain]:
        """Comparisons within one item: ``edges[i][0] != edges[i][1]``."""
        return [
            chain
            for chain in self.rules.chains
            if sum(
                1
                for side in chain.sides
                for term in side
                if (p := path_of(term)) and len(p) > 2 and p[0] == name
            )
            > 1
        ]

    def row_holds(self, name: str, row: list[Any]) -> bool:
        """Whether an item keeps the comparisons between its own parts."""
        env = {**self.env, name: [row]}
        try:
            return all(chain.holds(env) for chain in self.row_rules[name])
        except OpenError:
            return True

    def element(self, path: Path, *, node: bool = False) -> int:
        """An integer in a collection."""
        name = str(path[0])
        if name in self.rules.values:
            return self.rng.choice(self.rules.values[name])
        if path not in self.item_limits:
            self.item_limits[path] = self.element_limits(path, node=node)
        low, high = self.item_limits[path]
        value = self.spread(low, high)
        if name in self.rules.even and value % 2:
            value += 1 if value < high else -1
        return value

    def element_limits(self, path: Path, *, node: bool) -> tuple[int, int]:
        """The least and the greatest value at a place; what nothing limits is limited by known inputs."""
        name = str(path[0])
        general = tuple("[]" if isinstance(part, int) else part for part in path)
        entries = self.limits.bounds.get(path, []) or self.limits.bounds.get(general, [])
        if node:
            entries = self.limits.bounds.get((NODES, "[]"), [])
        low, high = span(entries, self.env)
        if low is None or high is None:
            seen = leaves(self.samples[name], int) or [0]
            low = min(seen) if low is None else low
            high = max(*seen, low) if high is None else high
        if low > high:
            raise NothingFitsError
        return low, high

    def spread(self, low: int, high: int) -> int:
        """A value between limits, as the plan spreads them."""
        rng, how = self.rng, self.plan.spread
        if self.widen:
            return between(self.rng, low, min(high, low + 4 * self.widen * max(4, self.plan.size[1])))
        if how == "one":
            return max(low, min(high, 1))
        if how == "edge":
            return rng.choice((low, high))
        middle = 0 if low < 0 < high else low
        if how == "few":
            return between(self.rng, max(low, middle - 1), min(high, middle + 2))
        if how == "small":
            return between(self.rng, max(low, middle - 10), min(high, middle + 12))
        return between(self.rng, max(low, -_BIG), min(high, max(_BIG, low)))

    def text(self, name: str, count: int) -> str:
        """A text of ``count`` characters of its alphabet."""
        alphabet = self.rules.alphabets.get(name)
        if alphabet is None:
            alphabet = "".join(sorted(set("".join(leaves(self.samples[name], str)))))
        if not alphabet:
            raise NothingFitsError
        how = self.plan.spread
        if name in self.rules.once:
            return "".join(self.rng.sample(alphabet, min(count, len(alphabet))))
        if how == "one":
            alphabet = alphabet[0]
        elif how == "edge":
            alphabet = alphabet[0] + alphabet[-1]
        elif how == "few":
            alphabet = alphabet[:3]
        elif how == "small":
            alphabet = alphabet[:6]
        made = "".join(alphabet[int(self.rng.random() * len(alphabet))] for _ in range(count))
        return self.as_promised(name, made)

    def as_promised(self, name: str, text: str) -> str:
        """The text, changed so that it keeps what is promised of texts."""
        rules = self.rules
        for at, allowed in rules.places.get(name, {}).items():
            text = f"{text[:at].ljust(at, 'a')}{self.rng.choice(allowed)}{text[at + 1 :]}"
        if name in rules.no_zero and text.startswith("0") and len(text) > 1:
            text = self.rng.choice("123456789") + text[1:]
        if name in rules.spaced:
            text = " ".join(text.split()) or "a"
            text = text.capitalize() if rules.spaced[name] else text
        return text

    # --- graphs and trees ---

    def is_edges(self, name: str) -> bool:
        """Whether known values are lists of pairs."""
        return all(isinstance(row, list) and len(row) == 2 for value in self.samples[name] for row in value)

    def edges(self, name: str, count: int) -> list[list[int]]:
        """A tree: a path, a star or a random one, with its nodes named anyhow."""
        low, _ = span(
            self.limits.bounds.get((name, "[]", 0), []) or self.limits.bounds.get((name, "[]", "[]"), []),
            self.env,
        )
        start = low if low is not None else min(leaves(self.samples[name], int), default=0)
        nodes = list(range(start, start + count + 1))
        self.rng.shuffle(nodes)
        how = self.rng.random()
        made = []
        for at in range(1, count + 1):
            other = at - 1 if how < 0.2 and not self.large else 0 if how < 0.35 else self.rng.randrange(at)
            edge = [nodes[at], nodes[other]]
            self.rng.shuffle(edge)
            made.append(edge)
        self.rng.shuffle(made)
        return made

    def tree(self, name: str, count: int) -> list[int | None]:
        """A tree in level order, as statements write it."""
        distinct = name in self.rules.distinct or self.rules.search_tree
        values: list[int] = []
        seen: set[int] = set()
        for _ in range(count):
            for _ in range(12):
                value = self.element((name, "[]"), node=True)
                if not distinct or value not in seen:
                    seen.add(value)
                    values.append(value)
                    break
                self.widen += 1
            self.widen = 0
        lopsided = self.rng.choice((0.5, 0.5, 0.2, 0.8)) if not self.large else 0.5
        root: list[Any] | None = None
        for value in values:
            node: list[Any] = [value, None, None]
            if root is None:
                root = node
                continue
            at = root
            while True:
                side = (
                    (1 if value < at[0] else 2)
                    if self.rules.search_tree
                    else 1 + (self.rng.random() < lopsided)
                )
                if at[side] is None:
                    at[side] = node
                    break
                at = at[side]
        return level_order(root)
