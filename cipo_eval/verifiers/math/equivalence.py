"""Whether two normal forms mean the same: True or False where both are understood completely, None where only symbolic
mathematics can tell.

The rules for rounded decimals, percent signs, units and side conditions are explained in ``docs/math-verifier.md``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import permutations
from typing import Any

from cipo_eval.verifiers.math import words
from cipo_eval.verifiers.math.algebra import (
    INF,
    PI,
    Opaque,
    UndecidedError,
    Value,
    add,
    atom,
    constant,
    divide,
    equal,
    multiply,
    negate,
    renamed,
    substituted,
    variables,
)
from cipo_eval.verifiers.math.forms import Form, distinct_names
from cipo_eval.verifiers.math.numeric import proportional, real, same
from cipo_eval.verifiers.math.reader import read
from cipo_eval.verifiers.math.relations import up_to_factor
from cipo_eval.verifiers.math.rounding import rounded
from cipo_eval.verifiers.math.units import measure


def equivalent(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """Whether ``answer`` says what ``gold`` says; None where that is not understood here. ``options``: what the problem
    tells the verifier (docs/math-verifier.md)."""
    if "refused" in (gold.kind, answer.kind):
        return gold.canon == answer.canon
    if "unknown" in (gold.kind, answer.kind):
        return None
    if gold.choice and gold.canon == gold.choice:
        return answer.choice == gold.choice and not answer.measure  # "A circle" is no (A)
    if not _conditions(gold, answer):
        return False
    if answer.name[:1] == "(" and not gold.name and answer.kind == "tuple":
        return _in_order(gold.items, _in_alphabetical_order(gold, answer), options)
    same_measure = gold.kind != "value" or not (gold.measure and answer.measure)
    if gold.canon == answer.canon and gold.percent == answer.percent and same_measure:
        return True
    try:
        return _kinds(gold, answer, options)
    except UndecidedError:  # too many terms
        return None


def _kinds(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    kinds = (gold.kind, answer.kind)
    if kinds == ("value", "value"):
        decided = _values(gold, answer, options)
        return True if not decided and _as_equations(gold, answer) else decided
    if "equation" in kinds:
        return _equations(gold, answer)
    if kinds == ("value", "base"):
        digits, _, base = answer.canon.partition("_")
        return digits == gold.canon and (
            base == "10" or base.isalpha()
        )  # 110_b: the question names its base b
    if "base" in kinds:
        return _bases(gold, answer)
    if "time" in kinds:
        return _times(gold, answer)
    if "::" in (gold.brackets, answer.brackets):
        return _ratios(gold, answer, options)
    if kinds == ("tuple", "tuple"):
        if gold.brackets != answer.brackets and not _same_point(gold, answer):
            return False
        if not gold.name and answer.name and words.about_integers(answer.condition):
            return False  # integers from 3 on are not an interval
        return _in_order(gold.items, _in_alphabetical_order(gold, answer), options)
    if kinds == ("matrix", "matrix"):
        if gold.canon.startswith("det") or answer.canon.startswith("det"):
            return None
        return _in_order(gold.items, answer.items, options)
    if gold.kind == "set" and answer.kind in ("set", "tuple"):
        if answer.bounded or (gold.brackets == "{}" and answer.brackets == "[]" and len(answer.items) == 2):
            return False  # an interval is no list
        return _sets(gold, answer, options)
    if kinds == ("tuple", "set") and gold.brackets in ("()", "[]") and answer.brackets != "{}":
        if answer.items and answer.items[0].name and len({item.name for item in answer.items}) == 1:
            return False  # x = 1, x = 4 are two values, no interval
        return _in_order(gold.items, _by_name(answer.items), options) if len(gold.items) > 1 else None
    if set(kinds) == {"matrix", "tuple"}:
        return _in_order(_elements(gold), _elements(answer), options)
    if kinds == ("words", "words"):
        return bool(gold.choice and gold.choice == answer.choice)
    if "words" in kinds:
        return False
    return _one_in_a_set(gold, answer, options)


def _elements(item: Form) -> Sequence[Form]:
    """Elements of a vector in whichever way it is written; rows of a matrix."""
    if item.kind == "matrix":
        if len(item.items) == 1:
            return item.items[0].items
        if all(len(row.items) == 1 for row in item.items):
            return [row.items[0] for row in item.items]
    return item.items


def _by_name(items: Sequence[Form]) -> Sequence[Form]:
    """The coordinates of a point that gives them by name, ``y = 2, x = 1``."""
    if all(len(item.name) == 1 for item in items) and distinct_names(items):
        return sorted(items, key=lambda item: item.name)
    return items


def _in_alphabetical_order(gold: Form, answer: Form) -> Sequence[Form]:
    """The coordinates of ``(y, x) = (1, 2)`` as those of (x, y)."""
    names = answer.name.strip("()").split(",")
    if gold.name or answer.name[:1] != "(" or len(names) != len(answer.items):
        return answer.items
    return [item for _, item in sorted(zip(names, answer.items, strict=True), key=lambda pair: pair[0])]


def _one_in_a_set(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    for single, other in ((gold, answer), (answer, gold)):
        if single.kind == "set" and len(single.items) == 1:
            pair = (single.items[0], other) if single is gold else (other, single.items[0])
            return equivalent(*pair, options)
    return False if {gold.kind, answer.kind} <= {"value", "tuple", "set", "matrix"} else None


def _conditions(gold: Form, answer: Form) -> bool:
    """Whether side conditions allow two forms to be equal: one that the gold does not have is dropped, different
    relations contradict."""
    if not gold.condition or not answer.condition:
        return True
    keys = words.condition_key(gold.condition), words.condition_key(answer.condition)
    if keys[0] == keys[1] or not all(keys) or "integers" in keys:
        return True
    return not all(re.search(r"[=<>]", key) for key in keys)


def _equations(gold: Form, answer: Form) -> bool | None:
    """Equations are equal up to a constant factor, and denominators; ``y = 2x`` was read as a value with a name."""
    left, right = _difference(gold), _difference(answer)
    if left is None or right is None:
        return False
    for one, other in _variants(left, right):
        try:
            if up_to_factor(one) == up_to_factor(other) or proportional(one, other):
                return True
        except UndecidedError:
            continue
    return False


def _as_equations(gold: Form, answer: Form) -> bool:
    """``X = 125 - 1.25P`` against ``P = 100 - 0.8X``: named values of different names."""
    if not gold.name or not answer.name or gold.name == answer.name:
        return False
    assert gold.value is not None
    assert answer.value is not None
    if not variables(gold.value) or not variables(answer.value):
        return False
    return bool(_equations(gold, answer))


def _difference(item: Form) -> Value | None:
    """Left side minus right side of an equation."""
    if item.kind == "equation":
        return item.value
    if item.kind == "value" and item.name and item.value is not None:
        try:
            return add(read(item.name), negate(item.value))
        except UndecidedError:
            return None
    return None


_CONSTANT = re.compile(r"[cC](?:_\d)?")
"""Names of free constants, which may be exchanged."""
_OTHER_CONSTANT = re.compile(r"[ABDKk](?:_\d)?")
_COUNTERS = frozenset("jklmn")
MAX_CONSTANTS = 4
"""Free constants of an answer that are tried in every order."""


def _variants(gold: Value, answer: Value) -> Iterator[tuple[Value, Value]]:
    """Two values as they are, with functions written as their names (x for x(t)) or as products, and with the answer's
    free constants called as the gold's."""
    yield gold, answer
    if any(_calls(value) for value in (gold, answer)):
        bare = [{name.rstrip("'") for name in variables(side)} for side in (gold, answer)]
        uncalled = substituted(gold, _uncalled(bare[1])), substituted(answer, _uncalled(bare[0]))
        yield uncalled
        yield gold, substituted(answer, _as_product)
        yield substituted(gold, _as_product), answer
        gold, answer = uncalled
    names = variables(gold), variables(answer)
    constants = [sorted(name for name in side if _CONSTANT.fullmatch(name)) for side in names]
    other = names[1] - names[0]
    if constants[0] and not constants[1] and other and all(_OTHER_CONSTANT.fullmatch(name) for name in other):
        constants[1] = sorted(other)  # A and B for C_1 and C_2
    if (
        names[0] - set(constants[0]) == names[1] - set(constants[1])
        and 0 < len(constants[0]) == len(constants[1]) <= MAX_CONSTANTS
    ):
        for order in permutations(constants[0]):
            yield gold, renamed(answer, dict(zip(constants[1], order, strict=True)))


def _calls(value: Value) -> bool:
    return any(
        isinstance(name, Opaque) and (name.function.startswith("call ") or any(map(_calls, name.arguments)))
        for name in value.atoms
    )


def _uncalled(bare: set[str]) -> Callable[[Opaque], Value | None]:
    """x for x(t), where the argument is a lone variable and the other side writes x."""

    def replacement(name: Opaque) -> Value | None:
        called = name.function.removeprefix("call ")
        if called == name.function or called.rstrip("'") not in bare:
            return None
        (argument,) = name.arguments
        names = variables(argument)
        return atom(called) if len(names) == 1 and argument == atom(next(iter(names))) else None

    return replacement


def _as_product(name: Opaque) -> Value | None:
    """x·t for x(t)."""
    if name.function.startswith("call ") and not name.function.endswith("'"):
        return multiply(atom(name.function[5:]), name.arguments[0])
    return None


def _same_values(gold: Form, answer: Form) -> bool | None:
    """Whether two values are the same in one of their readings; None where they cannot be evaluated."""
    verdict: bool | None = False
    for one in filter(None, (gold.value, gold.other)):
        for other in filter(None, (answer.value, _renamed_argument(gold, answer), answer.other)):
            result = equal(one, other)
            if result is not True and INF in one.atoms | other.atoms:
                result = False
            if result is None:
                whole = words.about_integers(gold.condition + answer.condition)
                result = _anyhow(one, other, whole=whole)
            if result:
                return True
            verdict = None if result is None else verdict
    return verdict


def _anyhow(gold: Value, answer: Value, *, whole: bool) -> bool | None:
    verdict: bool | None = False
    for one, other in _variants(gold, answer):
        result = True if one == other else same(one, other, whole=whole)
        if result:
            return True
        verdict = None if result is None else verdict
    counters = variables(gold) ^ variables(answer)
    if whole and len(counters) == 2 and counters <= _COUNTERS:
        mine, theirs = sorted(counters, key=lambda name: name in variables(answer))
        return same(gold, renamed(answer, {theirs: mine}), whole=True)
    return verdict


_FUNCTION = re.compile(r"(?:[A-Za-z]|\\[a-z]+)(?:_\{?\w+\}?)?\(([A-Za-z])\)")


def _renamed_argument(gold: Form, answer: Form) -> Value | None:
    """g(m) = 2m for f(n) = 2n: the name of the argument is bound."""
    sides = _FUNCTION.fullmatch(gold.name), _FUNCTION.fullmatch(answer.name)
    if not sides[0] or not sides[1] or sides[0][1] == sides[1][1] or answer.value is None:
        return None
    if sides[0][1] in variables(answer.value):
        return None
    return renamed(answer.value, {sides[1][1]: sides[0][1]})


def _times(gold: Form, answer: Form) -> bool:
    """Times of day: a.m. and p.m. are compared where both say it."""
    clocks = []
    for side in (gold, answer):
        if side.kind == "time":
            hour, _, rest = side.canon.partition(":")
            clocks.append((hour, rest[:2]))
        elif side.brackets == "::" and len(side.items) == 2:
            hour = side.items[0].canon
            if hour.isdigit() and 13 <= int(hour) <= 24:  # 22:15 is 10:15 p.m.
                if (gold if side is answer else answer).canon[-2:] != "pm":
                    return False
                hour = str(int(hour) - 12)
            clocks.append((hour, side.items[1].canon.zfill(2)))
        elif side.kind == "value":
            clocks.append((side.canon, "00"))
        else:
            return False
    return clocks[0] == clocks[1] and gold.kind != answer.kind


def _ratios(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """3:4 is 6:8 and 3/4."""
    quotients = []
    for side in (gold, answer):
        if side.brackets == "::" and len(side.items) == 2:
            top, bottom = (item.value.rational if item.value else None for item in side.items)
            if not top or not bottom:
                break
            quotients.append(Fraction(top) / bottom)
        elif side.kind == "value" and side.value is not None and side.value.rational is not None:
            quotients.append(Fraction(side.value.rational))
    if len(quotients) == 2:
        return quotients[0] == quotients[1]
    if gold.brackets == answer.brackets:
        return _in_order(gold.items, answer.items, options)
    return False


def _same_point(gold: Form, answer: Form) -> bool:
    """Square brackets around three or more elements, or a list, are no interval."""
    return len(gold.items) > 2 and len(answer.items) > 2


def _in_order(gold: Sequence[Form], answer: Sequence[Form], options: Mapping[str, Any]) -> bool | None:
    if len(gold) != len(answer):
        return False
    results = [equivalent(a, b, options) for a, b in zip(gold, answer, strict=True)]
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
        if distinct_names(answer.items):
            return False if set(names) & set(others) else _in_order(gold.items, answer.items, options)
    if len(gold.items) < len(answer.items) and len({item.canon for item in gold.items}) == len(gold.items):
        distinct = tuple({item.canon: item for item in answer.items}.values())  # said twice is said once
        answer = replace(answer, items=distinct)
    if len(gold.items) != len(answer.items):
        return False
    left = list(answer.items)
    unsure = False
    for item in gold.items:
        results = [equivalent(item, other, options) for other in left]
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
    if answer.measure == "degrees" and not gold.measure and PI in gold.value.atoms:
        gold = replace(gold, measure="radians")
    elif gold.measure == "degrees" and not answer.measure and PI in answer.value.atoms:
        answer = replace(answer, measure="radians")
    if gold.measure and answer.measure:
        scaled = _in_the_golds_unit(gold, answer)
        if scaled is None:
            return False
        answer = scaled
    assert gold.value is not None
    assert answer.value is not None
    if (gold.modulus or answer.modulus) and not _congruent(gold, answer):
        return False
    if gold.modulus and answer.modulus:
        return True
    a, b = gold.value.rational, answer.value.rational
    if a is not None and b is not None:
        return a == b or rounded(gold, answer, Fraction(a), Fraction(b), options)
    verdict = _same_values(gold, answer)
    if verdict or not (options.get("tolerance") or gold.digits or answer.digits or options.get("units")):
        return verdict
    approximate = [
        real(value) if number is None else Fraction(number)
        for value, number in ((gold.value, a), (answer.value, b))
    ]
    if approximate[0] is None or approximate[1] is None:
        return verdict
    return rounded(gold, answer, approximate[0], approximate[1], options)


_ANGLE = re.compile(r"rad(?:ian)?s?|grad(?:ian)?s?|gons?")


def _in_the_golds_unit(gold: Form, answer: Form) -> Form | None:
    """The answer in the unit of the gold; None where it measures something else."""
    degrees = [side.measure.startswith("degree") for side in (gold, answer)]
    if any(degrees):
        if all(degrees) or not _ANGLE.fullmatch(answer.measure if degrees[0] else gold.measure):
            return answer
        assert answer.value is not None
        half_turn = divide(constant(180), atom(PI))
        value = (multiply if degrees[0] else divide)(answer.value, half_turn)
        return replace(answer, value=value, canon=value.canon, digits=None, other=None)
    mine, theirs = measure(gold.measure), measure(answer.measure)
    if mine is None or theirs is None or mine == theirs:
        return answer
    if mine.dimension != theirs.dimension:
        return None
    share = theirs.size / mine.size
    assert answer.value is not None
    value = multiply(answer.value, constant(share))
    return replace(answer, value=value, canon=value.canon, unit=answer.unit * share, other=None)


def _congruent(gold: Form, answer: Form) -> bool:
    """A residue is the integer itself where the other side is an integer, and any of its class where both are classes
    of one modulus."""
    a = gold.value.rational if gold.value else None
    b = answer.value.rational if answer.value else None
    if a is None or b is None:
        return False
    if not gold.modulus or not answer.modulus:
        return a == b
    if gold.modulus != answer.modulus:
        return False
    return a == b or (gold.modulus.isdigit() and int(gold.modulus) > 0 and (a - b) % int(gold.modulus) == 0)


def _percent(gold: Form, answer: Form, options: Mapping[str, Any]) -> bool | None:
    """One side has a percent sign: it may be meant as that many hundredths or as a mere unit."""
    for share in (1, Fraction(1, 100)):
        sides = []
        for side in (gold, answer):
            scale = share if side.percent else 1
            assert side.value is not None
            value = multiply(side.value, constant(scale))
            sides.append(
                replace(
                    side, value=value, canon=value.canon, percent=False, unit=side.unit * scale, other=None
                )
            )
        if _values(sides[0], sides[1], options):
            return True
    return False
