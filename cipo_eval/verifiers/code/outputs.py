"""Whether what a program returned or printed is what was expected: one function per benchmark's way of comparing.

Works on decoded plain values, outside the sandbox. A comparison that raises (an array has no truth value) is a wrong
answer, as it is in the references. ``fixed`` and ``paper`` differ only where a docstring says so.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

from cipo_eval.records import Mode

Rule = Mapping[str, Any]
"""How results are compared: the ``name`` of a comparison, and its options (``TestSet.rule``)."""
FLOAT_TOLERANCE = 1e-5
"""LeetCode's statements: answers within 10^-5 of the actual answer are accepted."""


class Comparison:
    """Compares the results of one program, test after test."""

    def __init__(self, rule: Rule, mode: Mode) -> None:
        self._rule = rule
        self._mode = mode
        self._compare: Callable[[Any, Any, Sequence[Any]], bool] = getattr(self, f"_{rule['name']}")
        self._atol = float(rule.get("atol") or 0.0)

    def right(self, value: Any, expected: Any, args: Sequence[Any]) -> bool:
        """Whether ``value`` is the result that was ``expected``; ``args``: what the program was called with."""
        try:
            return bool(self._compare(value, expected, args))
        except Exception:
            return False

    def _equal(self, value: Any, expected: Any, _args: Sequence[Any]) -> bool:
        return bool(value == expected)

    def _functional(self, value: Any, expected: Any, _args: Sequence[Any]) -> bool:
        """LiveCodeBench. The reference takes a tuple for a list at the top only, and floats must be equal to the bit;
        ``fixed`` is as LeetCode is, whose problems these are."""
        if self._mode is Mode.PAPER:
            return bool((list(value) if isinstance(value, tuple) else value) == expected)
        return close(value, expected)

    def _leetcode(self, value: Any, expected: Any, _args: Sequence[Any]) -> bool:
        """As its judge: nothing is an empty list. ``any_order``: the statement allows a list's items in any order."""
        if value is None and expected == [] and not getattr(expected, "kind", None):
            return True
        if self._rule.get("any_order") and isinstance(value, list | tuple) and isinstance(expected, list):
            return len(value) == len(expected) and _same_items(value, expected)
        return close(value, expected)

    def _evalplus(self, value: Any, expected: Any, args: Sequence[Any]) -> bool:
        """EvalPlus 0.3.1 with HumanEval+ v0.1.10 and MBPP+ v0.2.0, its special oracles included.

        Its tolerance, once a float was expected, stays for the tests that follow (``paper``); here each test has its
        own (``fixed``).
        """
        special = _oracle(str(self._rule.get("dataset")), str(self._rule.get("entry_point")))
        if special is not None:
            decision = special(value, expected, args, self._atol)
            if isinstance(decision, bool):
                return decision
            exact = decision[0]
        else:
            exact = value == expected
        atol = self._atol
        if atol == 0 and _floats(expected):
            atol = 1e-6
            if self._mode is Mode.PAPER:
                self._atol = atol
        if exact is True or (not hasattr(exact, "shape") and exact) or atol == 0:
            return bool(exact)
        import numpy as np

        if type(value) is not type(expected):
            return False
        if isinstance(expected, list | tuple) and len(value) != len(expected):
            return False
        return bool(np.allclose(value, expected, rtol=1e-07, atol=atol))


def _floats(value: Any) -> bool:
    """A float, a sequence of nothing but floats, or an array of them."""
    if isinstance(value, float):
        return True
    if isinstance(value, list | tuple):
        return bool(value) and all(isinstance(item, float) for item in value)
    return str(getattr(value, "dtype", "")) in ("float64", "float32")


# --- EvalPlus's oracles ------------------------------------------------------------------------------------

_SETS = frozenset(
    {
        "similar_elements",
        "find_char_long",
        "common_in_nested_lists",
        "extract_singly",
        "larg_nnum",
        "intersection_array",
        "find_dissimilar",
        "Diff",
    }
)
"""MBPP functions whose answer is a set, whatever they return it in."""
NOT_NONE = frozenset({"check_str", "text_match_three", "text_starta_endb"})
"""MBPP functions whose answer is whether they return anything: the reference returns a match object."""
_Oracle = Callable[[Any, Any, Sequence[Any], float], Any]


def _oracle(dataset: str, entry_point: str) -> _Oracle | None:
    """An answer, or a tuple with whether the values count as equal (then tolerances apply)."""
    if dataset == "humaneval":
        return _root if entry_point == "find_zero" else None
    if entry_point in _SETS:
        return lambda value, expected, _args, _atol: (set(value) == set(expected),)
    if entry_point in NOT_NONE:
        return lambda value, expected, _args, _atol: (
            (value if isinstance(value, bool) else value is not None) == _is_something(expected),
        )
    return {
        "are_equivalent": lambda _value, _expected, _args, _atol: (True,),
        "sum_div": lambda value, expected, _args, _atol: (value == expected or value == 0,),
        "surface_Area": lambda value, expected, args, atol: (
            value == expected or abs(value - _pyramid(*args)) <= atol,
        ),
        "digit_distance_nums": lambda value, expected, args, _atol: (
            value == expected or value == _digit_distance(*args),
        ),
    }.get(entry_point)


def _is_something(expected: Any) -> bool:
    return expected if isinstance(expected, bool) else expected is not None


def _root(value: Any, _expected: Any, args: Sequence[Any], atol: float) -> bool:
    """HumanEval/32: any root of the polynomial will do."""
    (coefficients,) = args
    return bool(abs(sum(c * math.pow(value, power) for power, c in enumerate(coefficients))) <= atol)


def _pyramid(base: float, height: float) -> int:
    """Mbpp/581, read with the height as that of the pyramid."""
    slant = math.sqrt((base / 2) ** 2 + height**2)
    return round(base**2 + 4 * (base * slant) / 2)


def _digit_distance(first: int, second: int) -> int:
    """Mbpp/558, digit by digit instead of as numbers."""
    left, right = str(first), str(second)
    width = max(len(left), len(right))
    pairs = zip(left.zfill(width), right.zfill(width), strict=True)
    return sum(abs(int(a) - int(b)) for a, b in pairs)


# --- LeetCode ----------------------------------------------------------------------------------------------


def close(value: Any, expected: Any) -> bool:
    """Equal, sequences whatever their type, floats within ``FLOAT_TOLERANCE`` (absolute or relative)."""
    if isinstance(expected, bool) or isinstance(value, bool):
        return bool(value == expected)
    if isinstance(expected, float) or isinstance(value, float):
        return math.isclose(value, expected, rel_tol=FLOAT_TOLERANCE, abs_tol=FLOAT_TOLERANCE)
    if isinstance(expected, list | tuple) and isinstance(value, list | tuple):
        if getattr(value, "kind", None) != getattr(expected, "kind", None):
            return False  # a linked list is no list
        return len(value) == len(expected) and all(map(close, value, expected))
    if isinstance(expected, dict) and isinstance(value, dict):
        return value.keys() == expected.keys() and all(close(value[key], expected[key]) for key in expected)
    return bool(value == expected)


def _same_items(value: Sequence[Any], expected: Sequence[Any]) -> bool:
    keys = [Counter(repr(_listed(item)) for item in side) for side in (value, expected)]
    return keys[0] == keys[1]


def _listed(value: Any) -> Any:
    """Tuples as lists. Inner lists keep their order: ``[0, 1]`` is not the pair ``[1, 0]``."""
    return list(map(_listed, value)) if isinstance(value, list | tuple) else value


# --- standard output ---------------------------------------------------------------------------------------


def same_output(printed: str, expected: str, tolerance: float | None = None) -> bool:
    """LiveCodeBench's comparison: as many lines, white space at their ends aside, each equal as text or, number by
    number, as exact decimals. With ``tolerance`` (``fixed`` mode, where the statement allows an error), numbers may
    differ by that, absolutely or relatively.
    """
    if printed == expected:
        return True
    ours, theirs = ([line.strip() for line in text.strip().split("\n")] for text in (printed, expected))
    return len(ours) == len(theirs) and all(
        a == b or _same_numbers(a, b, tolerance) for a, b in zip(ours, theirs, strict=True)
    )


def _same_numbers(printed: str, expected: str, tolerance: float | None) -> bool:
    ours, theirs = printed.split(), expected.split()
    if len(ours) != len(theirs):
        return False
    for a, b in zip(ours, theirs, strict=True):
        if a == b and tolerance is not None:
            continue
        if len(a) > 10_000:
            return False
        try:
            left, right = Decimal(a), Decimal(b)
            if left == right:
                continue
            if tolerance is None or not math.isclose(left, right, rel_tol=tolerance, abs_tol=tolerance):
                return False
        except (InvalidOperation, OverflowError, ValueError):
            return False
    return True
