"""Comparisons in a statement's constraints (``1 <= a, b <= n``), read with ``ast`` and evaluated here.

Nothing in them is ever run: what ``evaluate`` does not know is an open term.
"""

from __future__ import annotations

import ast
import functools
import itertools
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Args = Mapping[str, Any]
"""An input by parameter; linked lists and trees as the lists that statements write."""
CHECKED = 300
"""Items of a container that are looked at: the rest of a large one is like them."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Pow: lambda base, power: base**power if 0 <= power < 100 else 0,
}
_AGGREGATES: dict[str, Callable[[list[Any]], Any]] = {"min": min, "max": max, "sum": sum}
NODES = "Node"
"""Stands for the values of all nodes of an input's lists and trees."""


class OpenError(Exception):
    """A term with a name that has no value."""


Path = tuple[str | int, ...]
"""What a term names: a parameter, then ``[]`` for each item of it, or the place of an item."""


@dataclass(frozen=True, slots=True)
class Chain:
    """``1 <= a, b <= n``: sides with the operators between them."""

    sides: tuple[tuple[ast.expr, ...], ...]
    """From left to right; a side with several terms is each of them."""
    operators: tuple[str, ...]
    """One less than sides: ``<=``, ``<``, ``>=``, ``>``, ``==`` or ``!=``."""

    def names(self) -> frozenset[str]:
        """The names that occur in it."""
        return _names(self)

    def holds(self, env: Args) -> bool:
        """Whether the comparison is true of an input, for all values of its indexes. Raises ``OpenError`` where a name
        has no value."""
        for at, name in enumerate(self.operators):
            for left, right in itertools.product(self.sides[at], self.sides[at + 1]):
                for inner in assignments((left, right), env):
                    try:
                        if not _OPERATORS[name](evaluate(left, inner), evaluate(right, inner)):
                            return False
                    except IndexError:  # nums[i + 1] of the last
                        continue
                    except TypeError:  # a parameter of another type than the statement says
                        return False
        return True


@functools.lru_cache(maxsize=4096)
def _names(chain: Chain) -> frozenset[str]:
    return frozenset(
        node.id
        for term in itertools.chain(*chain.sides)
        for node in ast.walk(term)
        if isinstance(node, ast.Name) and node.id not in _AGGREGATES
    )


def assignments(terms: tuple[ast.expr, ...], env: Args) -> Iterator[Args]:
    """Values for all indexes in the terms, one after another."""
    loops = [(name, container) for name, container in _loops(terms) if name not in env]
    return _assign(loops, env) if loops else iter((env,))


def _assign(loops: Sequence[tuple[str, ast.expr]], env: Args) -> Iterator[Args]:
    (name, container), rest = loops[0], loops[1:]
    try:
        count = min(len(evaluate(container, env)), CHECKED)
    except (TypeError, IndexError):
        raise OpenError from None
    for value in range(count):
        inner = {**env, name: value}
        if rest:
            yield from _assign(rest, inner)
        else:
            yield inner


@functools.lru_cache(maxsize=4096)
def _loops(terms: tuple[ast.expr, ...]) -> tuple[tuple[str, ast.expr], ...]:
    """Names that are used as indexes, with what they first index; outer ones first."""
    containers: dict[str, ast.expr] = {}
    for node in itertools.chain.from_iterable(map(ast.walk, terms)):
        if isinstance(node, ast.Subscript):
            for part in ast.walk(node.slice):
                if isinstance(part, ast.Name):
                    containers.setdefault(part.id, node.value)
    return tuple(sorted(containers.items(), key=lambda entry: len(ast.unparse(entry[1]))))


def evaluate(term: ast.expr, env: Args) -> Any:
    """The value of a term, given those of names. Raises ``OpenError`` for a name without one, ``IndexError`` or
    ``TypeError`` where the values do not allow it."""
    if isinstance(term, ast.Constant):
        return term.value
    if isinstance(term, ast.Name):
        if term.id not in env:
            raise OpenError(term.id)
        return env[term.id]
    if isinstance(term, ast.Subscript):
        at = evaluate(term.slice, env)
        if type(at) is not int or at < 0:
            raise IndexError
        return evaluate(term.value, env)[at]
    if isinstance(term, ast.Attribute) and term.attr == "length":
        return len(evaluate(term.value, env))
    if isinstance(term, ast.UnaryOp) and isinstance(term.op, ast.USub):
        return -evaluate(term.operand, env)
    if isinstance(term, ast.BinOp) and type(term.op) in _ARITHMETIC:
        return _ARITHMETIC[type(term.op)](evaluate(term.left, env), evaluate(term.right, env))
    if isinstance(term, ast.Call) and isinstance(term.func, ast.Name) and term.func.id in _AGGREGATES:
        values = [evaluate(arg, inner) for arg in term.args for inner in assignments((arg,), env)]
        return _AGGREGATES[term.func.id](values) if values else 0
    raise OpenError


def path_of(term: ast.expr) -> Path | None:
    """``edges[i][0]`` as ("edges", "[]", 0); None for what is not a plain place."""
    if isinstance(term, ast.Name):
        return (term.id,)
    if isinstance(term, ast.Subscript) and (inner := path_of(term.value)):
        if isinstance(term.slice, ast.Constant) and isinstance(term.slice.value, int):
            return (*inner, term.slice.value)
        return (*inner, "[]") if isinstance(term.slice, ast.Name) else None
    return None


_POWER = re.compile(r"(?<![\w.^])(?:10([3-9]|1[0-8])|2(28|30|31|32|63))(?![\w.^])")


def with_powers(text: str) -> str:
    """A text with its flattened powers as Python writes them: ``105`` is ``(10**5)``, ``231`` is ``(2**31)``, ``2n`` is
    ``2**n``."""
    text = _POWER.sub(lambda match: f"(10**{match[1]})" if match[1] else f"(2**{match[2]})", text)
    return re.sub(r"\b2([a-z])\b", r"2**\1", text).replace("^", "**")


_SIGN = re.compile(r"(<=|>=|==|!=|<|>)")


def read_chain(line: str, components: Mapping[str, str]) -> Chain | None:
    """The comparison in a line; None where the line is none."""
    line = re.sub(r"\s+for (?:each|all|every)\b.*$", "", line)
    # said of any two places, it is enough to look at neighbours
    line = re.sub(r"^(\w+)\[i\] < \1\[j\] for .*i < j.*$", r"\1[i] < \1[i + 1]", line)
    line = re.sub(r"\s=\s", " == ", line).rstrip(" .")
    line = with_powers(line)
    line = re.sub(r"\bNode\.val\b", f"{NODES}[i]", line)
    for name, place in components.items():
        line = re.sub(rf"(?<![\w.]){re.escape(name)}(?![\w\[.])", place, line)
    parts = _SIGN.split(line)
    if len(parts) < 3:
        return None
    sides = []
    for text in parts[::2]:
        try:
            parsed = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError):
            return None
        terms = tuple(parsed.elts) if isinstance(parsed, ast.Tuple) else (parsed,)
        if not all(map(_plain, terms)):
            return None
        sides.append(terms)
    return Chain(tuple(sides), tuple(parts[1::2]))


def _plain(term: ast.expr) -> bool:
    """Whether ``evaluate`` knows all of it."""
    allowed = (ast.Constant, ast.Name, ast.Subscript, ast.Attribute, ast.BinOp, ast.UnaryOp, ast.Call)
    return all(isinstance(node, allowed) for node in ast.walk(term) if isinstance(node, ast.expr)) and all(
        isinstance(node.value, int | float) for node in ast.walk(term) if isinstance(node, ast.Constant)
    )
