"""Compares two normal forms: True, False where both are understood completely, None where only symbolic
mathematics can tell.

The rules for rounded decimals, percent signs and units are explained in ``docs/math-verifier.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

from cipo_eval.verifiers.math.algebra import (
    UndecidedError,
    Value,
    add,
    constant,
    equal,
    multiply,
    negate,
    to_float,
)
from cipo_eval.verifiers.math.canonical import Form, distinct_names, up_to_factor
from cipo_eval.verifiers.math.reader import read


def compare(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """Whether ``answer`` says what ``gold`` says; None where that is not understood here."""
    if gold.kind == "unknown" or answer.kind == "unknown":
        return None
    if gold.choice and gold.canon == gold.choice:
        return answer.choice == gold.choice if answer.choice or answer.kind == "value" else None
    if gold.canon == answer.canon and gold.percent == answer.percent:
        return True
    if gold.kind == "value" and answer.kind == "value":
        return _values(gold, answer, options)
    if "equation" in (gold.kind, answer.kind):
        return True if _equation(gold) == _equation(answer) else None
    if gold.kind == "base" or answer.kind == "base":
        return _bases(gold, answer)
    if gold.kind == "tuple" and answer.kind == "tuple":
        if gold.brackets != answer.brackets and not _same_point(gold, answer):
            return False
        return _in_order(gold.items, answer.items, options)
    if gold.kind == "matrix" and answer.kind == "matrix":
        if gold.canon.startswith("det") or answer.canon.startswith("det"):
            return None
        return _in_order(gold.items, answer.items, options)
    if gold.kind == "set" and answer.kind in ("set", "tuple"):
        return _sets(gold, answer, options)
    if gold.kind == "tuple" and answer.kind == "set" and gold.brackets in ("()", "[]"):
        return _in_order(gold.items, answer.items, options) if len(gold.items) > 1 else None
    if gold.kind == "words" and answer.kind == "words":
        both = set(gold.canon.split()), set(answer.canon.split())
        return None if both[0] & both[1] else False
    if {gold.kind, answer.kind} == {"words", "value"}:
        return False if _numeric(gold if gold.kind == "value" else answer) else None
    sized = {"value", "tuple", "set"}
    if gold.kind in sized and answer.kind in sized:
        single = gold if gold.kind == "set" else answer
        if single.kind == "set" and len(single.items) == 1:
            other = answer if single is gold else gold
            return (
                compare(single.items[0], other, options)
                if single is gold
                else compare(other, single.items[0], options)
            )
        return False if _numeric(gold) and _numeric(answer) else None
    return None


def _equation(item: Form) -> str | None:
    """Normal form of an equation, also of ``y = 2x`` that was read as a value with a name."""
    if item.kind == "equation":
        return item.canon
    if item.kind == "value" and item.name and item.value is not None:
        try:
            return up_to_factor(add(read(item.name), negate(item.value)))
        except UndecidedError:
            return None
    return None


def is_number(item: Form) -> bool:
    """Whether a form is one rational number."""
    return item.kind == "value" and item.value is not None and item.value.rational is not None


def _numeric(item: Form) -> bool:
    if item.kind == "value":
        return item.value is not None and all(name[0] in "#√" for name in item.value.atoms)
    return all(_numeric(part) for part in item.items)


def _same_point(gold: Form, answer: Form) -> bool:
    """Square brackets around three or more elements, or a list, are no interval."""
    return len(gold.items) > 2 and len(answer.items) > 2


def _in_order(gold: Sequence[Form], answer: Sequence[Form], options: Mapping[str, Any]) -> bool | None:
    if len(gold) != len(answer):
        return False
    results = [compare(a, b, options) for a, b in zip(gold, answer, strict=True)]
    if False in results:
        return False
    return None if None in results else True


def _sets(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """Every element of one has its own partner in the other. Named elements (``x = 1, y = 2``) must not be
    exchanged."""
    names = [item.name for item in gold.items]
    others = [item.name for item in answer.items]
    if len(gold.items) == len(answer.items) and distinct_names(gold.items):
        if sorted(names) == sorted(others):
            order = {item.name: item for item in answer.items}
            return _in_order(gold.items, [order[name] for name in names], options)
        if not any(others):
            return _in_order(gold.items, answer.items, options)
    if len(gold.items) < len(answer.items) and len({item.canon for item in gold.items}) == len(gold.items):
        distinct = tuple({item.canon: item for item in answer.items}.values())  # said twice is said once
        answer = replace(answer, items=distinct)
    if len(gold.items) != len(answer.items):
        return False if _numeric(gold) and _numeric(answer) else None
    left = list(answer.items)
    unsure = False
    for item in gold.items:
        results = [compare(item, other, options) for other in left]
        if True in results:
            left.pop(results.index(True))
        elif None in results:
            unsure = True
        else:
            return False
    return None if unsure else True


def _bases(gold: Form, answer: Form) -> bool | None:
    """``52_8`` against ``52``: the base of the answer is fixed by the question, so it may be left out."""
    if gold.kind == answer.kind:
        return False
    based, other = (gold, answer) if gold.kind == "base" else (answer, gold)
    if other.kind != "value":
        return None
    return based is gold and based.canon.split("_")[0] == other.canon


def _values(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    assert gold.value is not None
    assert answer.value is not None
    if gold.percent != answer.percent:
        return _percent(gold, answer, options)
    a, b = gold.value.rational, answer.value.rational
    if a is not None and b is not None:
        return a == b or _rounded(gold, answer, Fraction(a), Fraction(b), options)
    same = equal(gold.value, answer.value)
    if same is None and _never_equal(gold.value, answer.value):
        return False
    if same or not (options.get("tolerance") or gold.digits or answer.digits):
        return same
    approximate = [
        to_float(value) if number is None else number
        for value, number in ((gold.value, a), (answer.value, b))
    ]
    if None in approximate:
        return same
    return _rounded(gold, answer, Fraction(approximate[0] or 0), Fraction(approximate[1] or 0), options)


def _never_equal(gold: Value, answer: Value) -> bool:
    """A polynomial in variables against a number: unequal, unless its variable may be a unit (``5m`` for 5)."""
    if any(name[0] == "~" for name in gold.atoms | answer.atoms):
        return False
    if gold.rational is None:
        return answer.rational is not None
    return len(answer.num) != 1 or gold.rational not in answer.num.values()


def _percent(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """One side has a percent sign: it may be meant as that many hundredths or as a mere unit."""
    for share in (1, Fraction(1, 100)):
        sides = []
        for side in (gold, answer):
            scale = share if side.percent else 1
            assert side.value is not None
            value = multiply(side.value, constant(scale))
            sides.append(replace(side, value=value, canon=value.canon, percent=False, unit=side.unit * scale))
        if _values(sides[0], sides[1], options):
            return True
    return False if _numeric(gold) and _numeric(answer) else None


def _rounded(gold: Form, answer: Form, a: Fraction, b: Fraction, options: Mapping[str, Any]) -> bool:
    """Whether unequal numbers agree within the rounding that one of them shows (see the docs page)."""
    tolerance = options.get("tolerance")
    gap = abs(a - b)
    if tolerance is not None:
        return gap <= Fraction(str(tolerance)) * (1 + Fraction(1, 10**9))
    if options.get("units") == "skip":
        return _measured(gold, answer, a, b, gap)
    slack = 1 + Fraction(1, 10**9)
    if gold.digits is None and answer.digits is not None:
        return answer.digits >= 4 and not _terminates(gold, a) and gap * 2 <= answer.unit * slack
    if gold.digits is not None and answer.digits is None and gold.digits >= 2:
        return not _terminates(answer, b) and gap * 2 <= gold.unit * slack
    return False


def _terminates(side: Form, value: Fraction) -> bool:
    """Whether a number can be written as a decimal of at most six places, so that rounding it is a mistake."""
    return side.value is not None and side.value.rational is not None and (value * 10**6).denominator == 1


def _measured(gold: Form, answer: Form, a: Fraction, b: Fraction, gap: Fraction) -> bool:
    """Physical values: they agree to the digits that both show, at least three (or all that the gold has)."""
    if not a or (a > 0) != (b > 0):
        return False
    whole = str(abs(int(a))) if gold.digits is None and a.denominator == 1 else ""
    shown = gold.digits
    if shown is None:
        if len(whole) < 3 or answer.digits is None:
            return False
        shown = len(whole)
    given = answer.digits
    if (
        given is None
        and b.denominator == 1
        and answer.value is not None
        and answer.value.rational is not None
    ):
        given = len(str(abs(int(b))))
    common = shown if given is None else min(shown, given)
    if common < min(shown, 3):
        return False
    place = Fraction(10) ** (_magnitude(abs(a)) - common + 1)
    units = Fraction(1) if common >= 4 else Fraction(1, 2)
    return gap <= place * units * (1 + Fraction(1, 10**9)) and gap * 20 <= abs(a)


def _magnitude(value: Fraction) -> int:
    """Exponent of the first significant digit."""
    exponent = len(str(value.numerator)) - len(str(value.denominator))
    return exponent if value >= Fraction(10) ** exponent else exponent - 1
