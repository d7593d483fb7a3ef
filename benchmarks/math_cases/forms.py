"""Trees of equal worth: the first layer of rewriting. Each function returns None where it does not apply.

The suite asks the oracle whether the worth is kept; a form that fails there is no case.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

from .context import Context, Form, one_of
from .oracle import value
from .tree import (
    Based,
    Call,
    Items,
    Marked,
    Mixed,
    Name,
    Named,
    Node,
    Number,
    Power,
    Product,
    Quotient,
    Repeating,
    Root,
    Scientific,
    Sum,
    Union,
    integer,
    is_expression,
    names,
    negative,
    variants,
    walk,
    whole,
)


def _fraction(node: Node) -> Fraction | None:
    """The value of a fraction of two integers in digits."""
    if isinstance(node, Quotient):
        top, bottom = integer(node.top), integer(node.bottom)
        if top is not None and bottom:
            return Fraction(top, bottom)
    return None


def unreduced_fraction(node: Node, context: Context) -> Node | None:
    factor = context.random.choice((2, 3, 5, 10))

    def change(x: Node) -> list[Node]:
        if _fraction(x) is None or not isinstance(x, Quotient):
            return []
        return [Quotient(whole((integer(x.top) or 0) * factor), whole((integer(x.bottom) or 1) * factor))]

    return one_of(variants(node, change), context)


def integer_as_fraction(node: Node, context: Context) -> Node | None:
    number = integer(node)
    bottom = context.random.choice((2, 3, 4))
    return None if number is None or context.measured else Quotient(whole(number * bottom), whole(bottom))


def fraction_as_decimal(node: Node, context: Context) -> Node | None:
    """Only where the decimal ends within four places."""

    def change(x: Node) -> list[Node]:
        ratio = _fraction(x)
        if ratio is None or (ratio * 10**4).denominator != 1 or ratio < 0 or ratio.denominator == 1:
            return []
        digits = f"{ratio.numerator * 10**4 // ratio.denominator:05d}"
        return [Number(f"{digits[:-4]}.{digits[-4:].rstrip('0')}")]

    return None if context.measured else one_of(variants(node, change), context)


def decimal_as_fraction(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        if not isinstance(x, Number) or "." not in x.digits:
            return []
        ratio = value(x)
        return [Quotient(whole(ratio.numerator), whole(ratio.denominator))] if ratio.denominator != 1 else []

    return one_of(variants(node, change), context)


def repeating_decimal(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        ratio = _fraction(x)
        repeated = None if ratio is None or ratio <= 0 else repeating(ratio)
        return [repeated] if repeated else []

    return None if context.measured else one_of(variants(node, change), context)


def repeating(ratio: Fraction) -> Repeating | None:
    """A fraction as a decimal whose period has at most six digits; None where it ends or takes longer."""
    head, rest = divmod(ratio.numerator, ratio.denominator)
    seen: dict[int, int] = {}
    digits = ""
    while rest and rest not in seen and len(digits) < 10:
        seen[rest] = len(digits)
        digit, rest = divmod(rest * 10, ratio.denominator)
        digits += str(digit)
    if not rest or rest not in seen or len(digits) - seen[rest] > 6:
        return None
    start = seen[rest]
    return Repeating(str(head), digits[:start], digits[start:])


def mixed_number(node: Node, context: Context) -> Node | None:
    def improper(x: Node) -> Mixed | None:
        ratio = _fraction(x)
        if ratio is None or ratio.denominator == 1 or ratio <= 1:
            return None
        head, top = divmod(ratio.numerator, ratio.denominator)
        return Mixed(head, top, ratio.denominator)

    return None if context.measured else _whole_value(node, improper)


def improper_fraction(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> Node | None:
        return Quotient(whole(x.whole * x.bottom + x.top), whole(x.bottom)) if isinstance(x, Mixed) else None

    return _whole_value(node, change)


def _whole_value(node: Node, change: Callable[[Node], Node | None]) -> Node | None:
    """``change`` on a single value or each of several, under signs and marks; None where it nowhere applies."""
    if isinstance(node, Marked | Named):
        inner = _whole_value(node.inner, change)
        return None if inner is None else replace(node, inner=inner)
    if isinstance(node, Sum) and len(node.terms) == 1:
        changed = change(node.terms[0][1])
        return None if changed is None else negative(changed)
    if isinstance(node, Items):
        items = [_whole_value(x, change) for x in node.items]
        if not any(items):
            return None
        return replace(node, items=tuple(a or b for a, b in zip(items, node.items, strict=True)))
    return change(node)


def surd_under_root(node: Node, context: Context) -> Node | None:
    """3 sqrt(13) as sqrt(117)."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Product) and len(x.factors) == 2 and isinstance(x.factors[1], Root):
            outer, root = integer(x.factors[0]), x.factors[1]
            inner = integer(root.inner)
            if outer and inner and root.degree == 2:
                return [Root(whole(outer * outer * inner))]
        return []

    return one_of(variants(node, change), context)


def surd_as_product(node: Node, context: Context) -> Node | None:
    """sqrt(66) as sqrt(6) sqrt(11)."""

    def change(x: Node) -> list[Node]:
        inner = integer(x.inner) if isinstance(x, Root) and x.degree == 2 else None
        divisors = [
            d for d in range(2, math.isqrt(inner or 0) + 1) if inner and inner % d == 0 and d * d != inner
        ]
        if not divisors or not inner:
            return []
        divisor = context.random.choice(divisors)
        return [Product((Root(whole(divisor)), Root(whole(inner // divisor))))]

    return one_of(variants(node, change), context)


def surd_in_denominator(node: Node, context: Context) -> Node | None:
    """sqrt(3)/3 as 1/sqrt(3), sqrt(21)/5 as 21/(5 sqrt(21))."""

    def change(x: Node) -> list[Node]:
        if not isinstance(x, Quotient) or not isinstance(x.top, Root) or x.top.degree != 2:
            return []
        inner, bottom = integer(x.top.inner), integer(x.bottom)
        if not inner or not bottom:
            return []
        if bottom % inner == 0:
            factor = bottom // inner
            return [Quotient(Number("1"), x.top if factor == 1 else Product((whole(factor), x.top)))]
        return [Quotient(whole(inner), Product((whole(bottom), x.top)))]

    return one_of(variants(node, change), context)


def logarithm_split(node: Node, context: Context) -> Node | None:
    """ln 12 as ln 3 + ln 4 or 2 ln 2 + ln 3."""

    def change(x: Node) -> list[Node]:
        number = integer(x.argument) if isinstance(x, Call) and x.function in ("ln", "log") else None
        if not number or not isinstance(x, Call):
            return []
        found: list[Node] = []
        for divisor in range(2, math.isqrt(number) + 1):
            if number % divisor == 0:
                parts = [replace(x, argument=whole(d)) for d in (divisor, number // divisor)]
                found.append(Sum(((1, parts[0]), (1, parts[1]))))
        if x.base is not None:
            found.append(Quotient(Call("ln", whole(number)), Call("ln", x.base)))
        else:
            found.append(Product((Quotient(Number("1"), Number("2")), replace(x, argument=whole(number**2)))))
            found.append(negative(replace(x, argument=Quotient(Number("1"), whole(number)))))
        return found

    return one_of(variants(node, change), context)


def times_power_of_ten(node: Node, context: Context) -> Node | None:
    """2200 as 2.2 x 10^3, 0.006 as 6 x 10^-3: all digits shown, none added."""

    def change(x: Node) -> Node | None:
        if not isinstance(x, Number):
            return None
        head, _, tail = x.digits.partition(".")
        digits = (head + tail).lstrip("0")
        exponent = len(head.lstrip("0")) - 1 if head.strip("0") else -(len(tail) - len(tail.lstrip("0"))) - 1
        if not tail:
            digits = digits.rstrip("0")
        if not digits or -2 < exponent < 2 or len(digits) > 6:
            return None
        return Scientific(digits[0] + ("." + digits[1:] if digits[1:] else ""), exponent)

    return None if context.several else _whole_value(node, change)


def shifted_power_of_ten(node: Node, context: Context) -> Node | None:
    """4.5e33 as 45 x 10^32."""

    def change(x: Node) -> Node | None:
        if not isinstance(x, Scientific):
            return None
        head, _, tail = x.mantissa.partition(".")
        return (
            Scientific(head + tail[0] + ("." + tail[1:] if tail[1:] else ""), x.exponent - 1)
            if tail
            else None
        )

    return _whole_value(node, change)


def other_order(node: Node, context: Context) -> Node | None:
    """Elements of a list or set in another order."""
    if isinstance(node, Named):
        inner = other_order(node.inner, context)
        return None if inner is None else replace(node, inner=inner)
    parts = node.items if isinstance(node, Items) else node.parts if isinstance(node, Union) else ()
    if isinstance(node, Items) and node.kind not in ("list", "set", "letters"):
        return None
    if len(parts) < 2 or (isinstance(node, Items) and any(isinstance(x, Named) for x in parts)):
        return None
    shuffled = list(parts)
    context.random.shuffle(shuffled)
    if tuple(shuffled) == parts:
        shuffled.reverse()
    if isinstance(node, Items):
        return replace(node, items=tuple(shuffled))
    return Union(tuple(shuffled))


def braces_around(node: Node, context: Context) -> Node | None:
    """A list as a set and the other way round."""
    if isinstance(node, Items) and node.kind in ("list", "set") and is_expression(node.items[0]):
        if len({repr(x) for x in node.items}) < len(node.items):
            return None
        return replace(node, kind="set" if node.kind == "list" else "list")
    return None


def terms_reordered(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        if isinstance(x, Sum) and len(x.terms) > 1:
            return [Sum(x.terms[::-1]), Sum((*x.terms[1:], x.terms[0]))]
        return []

    return one_of([x for x in variants(node, change) if x != node], context)


def factors_reordered(node: Node, context: Context) -> Node | None:
    """The number last, with a dot before it, or factors with names exchanged."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Product) and all(
            isinstance(f, Number | Name | Root | Quotient | Power) for f in x.factors
        ):
            return [Product(x.factors[::-1])]
        return []

    return one_of(variants(node, change), context)


def minus_in_numerator(node: Node, context: Context) -> Node | None:
    """-(3/8) as (-3)/8 and 3/(-8)."""

    def change(x: Node) -> list[Node]:
        if (
            isinstance(x, Sum)
            and len(x.terms) == 1
            and isinstance(x.terms[0][1], Quotient)
            and x.terms[0][0] < 0
        ):
            inner = x.terms[0][1]
            return [Quotient(negative(inner.top), inner.bottom), Quotient(inner.top, negative(inner.bottom))]
        return []

    return one_of(variants(node, change), context)


def fraction_split(node: Node, context: Context) -> Node | None:
    """(x+2)/7 as x/7 + 2/7."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Quotient) and isinstance(x.top, Sum) and len(x.top.terms) > 1:
            return [Sum(tuple((sign, Quotient(term, x.bottom)) for sign, term in x.top.terms))]
        return []

    return one_of(variants(node, change), context)


def fraction_as_coefficient(node: Node, context: Context) -> Node | None:
    """sqrt(3)/2 as (1/2) sqrt(3), 3 pi/4 as (3/4) pi."""

    def change(x: Node) -> list[Node]:
        if not isinstance(x, Quotient) or integer(x.bottom) is None or integer(x.top) is not None:
            return []
        if isinstance(x.top, Product) and integer(x.top.factors[0]) is not None:
            rest = x.top.factors[1:]
            return [Product((Quotient(x.top.factors[0], x.bottom), *rest))]
        if isinstance(x.top, Sum):
            return []
        return [Product((Quotient(Number("1"), x.bottom), x.top))]

    return one_of(variants(node, change), context)


def root_as_power(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        if isinstance(x, Root):
            return [Power(x.inner, Quotient(Number("1"), whole(x.degree)))]
        return []

    return one_of(variants(node, change), context)


def common_factor(node: Node, context: Context) -> Node | None:
    """18 + 2 pi as 2(9 + pi): for numbers only, where no question asks for a factored form."""

    def change(x: Node) -> list[Node]:
        if (
            not isinstance(x, Sum)
            or len(x.terms) != 2
            or names(x)
            or re.search("[Ff]actor", context.question)
        ):
            return []
        parts = [_coefficient(term) for _sign, term in x.terms]
        divisor = math.gcd(*(number for number, _rest in parts))
        if divisor < 2:
            return []
        terms = tuple(
            (sign, _with_coefficient(number // divisor, rest))
            for (sign, _term), (number, rest) in zip(x.terms, parts, strict=True)
        )
        return [Product((whole(divisor), Sum(terms)))]

    return one_of(variants(node, change), context)


def _coefficient(node: Node) -> tuple[int, tuple[Node, ...]]:
    number = integer(node)
    if number is not None:
        return number, ()
    if isinstance(node, Product) and (first := integer(node.factors[0])) is not None:
        return first, node.factors[1:]
    return 1, (node,)


def _with_coefficient(number: int, rest: tuple[Node, ...]) -> Node:
    parts = rest if number == 1 and rest else (whole(number), *rest)
    return parts[0] if len(parts) == 1 else Product(parts)


def named_values_dropped(node: Node, context: Context) -> Node | None:
    """``x = 5`` as 5."""
    if isinstance(node, Named):
        return node.inner
    named = (
        [x for x in node.items if isinstance(x, Named)]
        if isinstance(node, Items) and node.kind == "list"
        else []
    )
    if isinstance(node, Items) and len(named) == len(node.items) and len({x.name for x in named}) == 1:
        return replace(node, items=tuple(x.inner for x in named))
    return None


def base_left_out(node: Node, context: Context) -> Node | None:
    """The question fixes the base: 52 for 52_8."""
    return Number(node.digits) if isinstance(node, Based) and node.digits.isdigit() else None


def mark_dropped(node: Node, context: Context) -> Node | None:
    """No unit, percent, degree or currency sign where the gold has one."""
    return node.inner if isinstance(node, Marked) else None


def conjugate_fraction(node: Node, context: Context) -> Node | None:
    """a + b sqrt(c) as (a^2 - b^2 c)/(a - b sqrt(c))."""
    if not isinstance(node, Sum) or len(node.terms) != 2 or names(node):
        return None
    (s, a), (t, b) = node.terms
    number = integer(a)
    surds = [x for x in walk(b) if isinstance(x, Root)]
    if number is None or len(surds) != 1 or any(isinstance(x, Call | Power) for x in walk(b)):
        return None
    with_other_sign = Sum(((s, a), (-t, b)))
    product = value(Product((node, with_other_sign)))
    try:
        nearest = round(float(product.real))
    except (OverflowError, ValueError):
        return None
    if not nearest or abs(nearest) > 10**6:
        return None
    return Quotient(whole(nearest), with_other_sign)


FORMS: dict[str, Form] = {
    "fraction, not reduced": unreduced_fraction,
    "integer as a fraction": integer_as_fraction,
    "fraction as a decimal": fraction_as_decimal,
    "decimal as a fraction": decimal_as_fraction,
    "repeating decimal": repeating_decimal,
    "mixed number": mixed_number,
    "mixed number as a fraction": improper_fraction,
    "factor under a root": surd_under_root,
    "root of a product split": surd_as_product,
    "root in the denominator": surd_in_denominator,
    "logarithm split": logarithm_split,
    "a×10^b": times_power_of_ten,
    "a×10^b shifted": shifted_power_of_ten,
    "order of a set": other_order,
    "braces around a list": braces_around,
    "order of terms": terms_reordered,
    "order of factors": factors_reordered,
    "sign in a fraction": minus_in_numerator,
    "fraction of a sum split": fraction_split,
    "fraction as a coefficient": fraction_as_coefficient,
    "root as a power": root_as_power,
    "common factor": common_factor,
    "conjugate quotient": conjugate_fraction,
    "name dropped": named_values_dropped,
    "base left out": base_left_out,
    "mark dropped": mark_dropped,
}
