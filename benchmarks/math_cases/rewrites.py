"""Ways to write the same value: trees of equal worth, styles of writing, and words around an answer.

Three layers, so that any two can be put together: a *form* changes the tree, a *style* how it is written, a *wrapping* puts
something around the text. Each function returns None where it does not apply or where a reader could doubt it.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

from .oracle import UnknownError, value
from .tree import (
    Based,
    Call,
    Choice,
    Interval,
    Items,
    Marked,
    Matrix,
    Mixed,
    Name,
    Named,
    Node,
    Number,
    Opaque,
    Power,
    Product,
    Quotient,
    Repeating,
    Root,
    Scientific,
    Sum,
    Union,
    Words,
    integer,
    is_expression,
    names,
    negative,
    variants,
    walk,
    whole,
)
from .writer import PLAIN, Style


@dataclass(frozen=True)
class Context:
    """What a rewriting may know: the gold, its question and options, and a seeded source of chance."""

    gold: Node
    question: str
    options: Mapping[str, Any]
    random: random.Random

    @property
    def several(self) -> bool:
        return bool(self.options.get("multiple"))

    @property
    def measured(self) -> bool:
        return self.options.get("units") == "skip"

    @property
    def integer(self) -> bool:
        return self.options.get("kind") == "integer"


Form = Callable[[Node, Context], Node | None]
Restyle = Callable[[Node, Context], Style | None]
Wrapping = Callable[[str, Node, Context], str | None]


def _one_of(found: list[Node], context: Context) -> Node | None:
    return context.random.choice(found) if found else None


# --- forms --------------------------------------------------------------------------------------------------------


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

    return _one_of(variants(node, change), context)


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

    return None if context.measured else _one_of(variants(node, change), context)


def decimal_as_fraction(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        if not isinstance(x, Number) or "." not in x.digits:
            return []
        ratio = value(x)
        return [Quotient(whole(ratio.numerator), whole(ratio.denominator))] if ratio.denominator != 1 else []

    return _one_of(variants(node, change), context)


def repeating_decimal(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        ratio = _fraction(x)
        repeated = None if ratio is None or ratio <= 0 else repeating(ratio)
        return [repeated] if repeated else []

    return None if context.measured else _one_of(variants(node, change), context)


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


def improper_fraction(node: Node, context: Context) -> Node | None:  # noqa: ARG001
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

    return _one_of(variants(node, change), context)


def surd_as_product(node: Node, context: Context) -> Node | None:
    """sqrt(66) as sqrt(6) sqrt(11)."""

    def change(x: Node) -> list[Node]:
        inner = integer(x.inner) if isinstance(x, Root) and x.degree == 2 else None
        divisors = [d for d in range(2, math.isqrt(inner or 0) + 1) if inner and inner % d == 0 and d * d != inner]
        if not divisors or not inner:
            return []
        divisor = context.random.choice(divisors)
        return [Product((Root(whole(divisor)), Root(whole(inner // divisor))))]

    return _one_of(variants(node, change), context)


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

    return _one_of(variants(node, change), context)


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

    return _one_of(variants(node, change), context)


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


def shifted_power_of_ten(node: Node, context: Context) -> Node | None:  # noqa: ARG001
    """4.5e33 as 45 x 10^32."""

    def change(x: Node) -> Node | None:
        if not isinstance(x, Scientific):
            return None
        head, _, tail = x.mantissa.partition(".")
        return Scientific(head + tail[0] + ("." + tail[1:] if tail[1:] else ""), x.exponent - 1) if tail else None

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


def braces_around(node: Node, context: Context) -> Node | None:  # noqa: ARG001
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

    return _one_of([x for x in variants(node, change) if x != node], context)


def factors_reordered(node: Node, context: Context) -> Node | None:
    """The number last, with a dot before it, or factors with names exchanged."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Product) and all(isinstance(f, Number | Name | Root | Quotient | Power) for f in x.factors):
            return [Product(x.factors[::-1])]
        return []

    return _one_of(variants(node, change), context)


def minus_in_numerator(node: Node, context: Context) -> Node | None:
    """-(3/8) as (-3)/8 and 3/(-8)."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Sum) and len(x.terms) == 1 and isinstance(x.terms[0][1], Quotient) and x.terms[0][0] < 0:
            inner = x.terms[0][1]
            return [Quotient(negative(inner.top), inner.bottom), Quotient(inner.top, negative(inner.bottom))]
        return []

    return _one_of(variants(node, change), context)


def fraction_split(node: Node, context: Context) -> Node | None:
    """(x+2)/7 as x/7 + 2/7."""

    def change(x: Node) -> list[Node]:
        if isinstance(x, Quotient) and isinstance(x.top, Sum) and len(x.top.terms) > 1:
            return [Sum(tuple((sign, Quotient(term, x.bottom)) for sign, term in x.top.terms))]
        return []

    return _one_of(variants(node, change), context)


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

    return _one_of(variants(node, change), context)


def root_as_power(node: Node, context: Context) -> Node | None:
    def change(x: Node) -> list[Node]:
        if isinstance(x, Root):
            return [Power(x.inner, Quotient(Number("1"), whole(x.degree)))]
        return []

    return _one_of(variants(node, change), context)


def common_factor(node: Node, context: Context) -> Node | None:
    """18 + 2 pi as 2(9 + pi): for numbers only, where no question asks for a factored form."""

    def change(x: Node) -> list[Node]:
        if not isinstance(x, Sum) or len(x.terms) != 2 or names(x) or re.search("[Ff]actor", context.question):
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

    return _one_of(variants(node, change), context)


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


def named_values_dropped(node: Node, context: Context) -> Node | None:  # noqa: ARG001
    """``x = 5`` as 5."""
    if isinstance(node, Named):
        return node.inner
    if isinstance(node, Items) and node.kind == "list" and all(isinstance(x, Named) for x in node.items):
        if len({x.name for x in node.items if isinstance(x, Named)}) == 1:
            return replace(node, items=tuple(x.inner for x in node.items if isinstance(x, Named)))
    return None


def base_left_out(node: Node, context: Context) -> Node | None:  # noqa: ARG001
    """The question fixes the base: 52 for 52_8."""
    return Number(node.digits) if isinstance(node, Based) and node.digits.isdigit() else None


def mark_dropped(node: Node, context: Context) -> Node | None:  # noqa: ARG001
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


# --- styles -------------------------------------------------------------------------------------------------------


def _styles(**choices: list[str]) -> Restyle:
    """A style that sets the given fields, each to one of its values."""

    def chosen(node: Node, context: Context) -> Style | None:  # noqa: ARG001
        return replace(PLAIN, **{field: context.random.choice(values) for field, values in choices.items()})

    return chosen


def _with_thousands(separators: list[str]) -> Restyle:
    def chosen(node: Node, context: Context) -> Style | None:
        listed = any(isinstance(x, Items) and x.kind not in ("tuple",) for x in walk(node))
        if context.several or listed or any(isinstance(x, Based | Matrix) for x in walk(node)):
            return None
        return replace(PLAIN, thousands=context.random.choice(separators))

    return chosen


def _in_value(field: str, values: list[str], wanted: Callable[[Node], bool]) -> Restyle:
    def chosen(node: Node, context: Context) -> Style | None:
        if not any(wanted(x) for x in walk(node)):
            return None
        return replace(PLAIN, **{field: context.random.choice(values)})

    return chosen


def _spaced(node: Node, context: Context) -> Style | None:  # noqa: ARG001
    return replace(PLAIN, space=context.random.choice([" ", "  ", "\\,", "\\;", "\\ "]))


def _zeros(node: Node, context: Context) -> Style | None:
    if context.measured or any(isinstance(x, Based | Matrix | Root | Power | Call) for x in walk(node)):
        return None
    return replace(PLAIN, decimal="zeros")


STYLES: dict[str, Restyle] = {
    "\\dfrac, \\tfrac": _styles(fraction=["\\dfrac", "\\tfrac", "\\cfrac"]),
    "\\frac12": _styles(fraction=["short"]),
    "a/b": _styles(fraction=["slash"]),
    "{a \\over b}": _styles(fraction=["over"]),
    "½, 1⁄2": _styles(fraction=["vulgar", "solidus"], mixed=["vulgar"]),
    "mixed number, written": _styles(mixed=["slash", "short", "\\dfrac", "\\tfrac", "spaced"]),
    "\\sqrt2": _styles(root=["short"]),
    "√2": _styles(root=["unicode"]),
    "sqrt(2)": _styles(root=["name"]),
    "x², 10²³": _styles(power=["unicode"]),
    "x^2, x**2, x^(2)": _styles(power=["bare", "stars", "parentheses"]),
    "π, θ, ∞": _styles(greek=["unicode"]),
    "dashes for minus": _styles(minus=["−", "–", "－"]),
    "times signs": _styles(times=[" \\cdot ", " \\times ", "·", "×", "*", "⋅"]),
    "thousands commas": _with_thousands([","]),
    "thousands, other marks": _with_thousands(["{,}", ",\\!", "\\,", ",\\! "]),
    "zeros at the end": _zeros,
    "no zero before the point": _styles(decimal=["bare"]),
    "\\left \\right": _styles(sized=["left", "bigl"]),
    "spacing": _spaced,
    "full-width comma": _styles(comma=["，", " , ", ",\\ ", ",\\;"]),
    "degree signs": _in_value(
        "degree", ["°", "^{\\circ}", "^\\circ", "\\degree", " \\text{ degrees}", "^{\\,\\circ}", "º"],
        lambda x: isinstance(x, Marked) and x.mark == "degree",
    ),
    "percent signs": _in_value(
        "percent", ["%", " \\%", "\\,\\%", "\\text{ percent}", "\\text{\\%}"],
        lambda x: isinstance(x, Marked) and x.mark == "percent",
    ),
    "currency signs": _in_value(
        "money", ["$", "\\text{\\$}", "\\$\\,", "\\textdollar "], lambda x: isinstance(x, Marked) and x.mark == "money"
    ),
    "a×10^b, written": _in_value(
        "scientific", ["\\cdot ", "×", "e", "E", " \\times ", "·", "*"], lambda x: isinstance(x, Scientific)
    ),
    "repeating decimal, written": _in_value(
        "repeating", ["bar", "ldots", "overline", "dots"], lambda x: isinstance(x, Repeating)
    ),
    "names of functions": _in_value("functions", ["bare", "mathrm"], lambda x: isinstance(x, Call)),
    "matrix environments": _in_value("matrix", ["bmatrix", "array", "matrix"], lambda x: isinstance(x, Matrix)),
    "braces written": _in_value("braces", ["lbrace"], lambda x: isinstance(x, Items) and x.kind == "set"),
    "∪": _in_value("union", ["∪", "\\cup\\,"], lambda x: isinstance(x, Union)),
    "base written": _in_value("base", ["_", "unicode", "text", "parentheses", "words"], lambda x: isinstance(x, Based)),
    "time of day": _in_value("clock", ["a.m.", "text", "am", "AM", "A.M.", "mathrm"], lambda x: type(x).__name__ == "Clock"),
    "words written": _in_value("words", ["bare", "\\textbf", "\\mathrm", "\\textit", "\\mbox"], lambda x: isinstance(x, Words)),
}  # fmt: skip


# --- wrappings ----------------------------------------------------------------------------------------------------


def _single(node: Node) -> bool:
    """One value, without a name before it."""
    return is_expression(node) or (isinstance(node, Marked) and node.mark in ("degree", "money"))


def _letters(node: Node, wanted: str) -> list[str]:
    used = names(node) | {x.name[0] for x in walk(node) if isinstance(x, Name)}
    return [letter for letter in wanted if letter not in used]


def full_width(text: str, node: Node, context: Context) -> str | None:
    from .writer import FULL_WIDTH

    if "\\" in text or context.several or not (is_expression(node) or isinstance(node, Items)):
        return None
    if "^" in text or "_" in text or "/" in text or "{" in text:
        return None
    return text.translate(FULL_WIDTH)


def layout(text: str, node: Node, context: Context) -> str | None:  # noqa: ARG001
    choices = [
        f" {text} ", f"\\,{text}\\,", f"\\displaystyle {text}", f"${text}$", f"\\({text}\\)", f"{text}.", f"{{{text}}}",
        f"\\ {text}", f"\\quad {text}", f"\\!{text}", f"\\mathstrut {text}", f"{text}\\,.", f"\n{text}\n", f"${text}$.",
    ]  # fmt: skip
    return context.random.choice(choices)


def text_wrapper(text: str, node: Node, context: Context) -> str | None:
    if not isinstance(node, Number | Words | Choice | Sum) or "\\" in text or (isinstance(node, Sum) and names(node)):
        return None
    command = context.random.choice(["\\text", "\\textbf", "\\mathrm", "\\mathbf", "\\textrm", "\\mbox", "\\bf"])
    return f"{{\\bf {text}}}" if command == "\\bf" else f"{command}{{{text}}}"


def colour(text: str, node: Node, context: Context) -> str | None:  # noqa: ARG001
    if isinstance(node, Opaque):
        return None
    return context.random.choice(
        [f"\\color{{red}}{{{text}}}", f"\\textcolor{{blue}}{{{text}}}", f"{{\\color{{blue}} {text}}}", f"\\boldsymbol{{{text}}}"]
    )


def box_in_box(text: str, node: Node, context: Context) -> str | None:  # noqa: ARG001
    return context.random.choice([f"\\boxed{{{text}}}", f"\\fbox{{${text}$}}", f"\\boxed{{\\boxed{{{text}}}}}"])


def parentheses(text: str, node: Node, context: Context) -> str | None:
    if not is_expression(node) or "," in text or isinstance(node, Name):
        return None
    return context.random.choice([f"({text})", f"\\left({text}\\right)", f"\\left( {text} \\right)"])


def plus_sign(text: str, node: Node, context: Context) -> str | None:  # noqa: ARG001
    return f"+{text}" if is_expression(node) and text[0].isdigit() else None


def named_left_side(text: str, node: Node, context: Context) -> str | None:
    if not _single(node) or (isinstance(context.gold, Named) and isinstance(node, Named)) or "=" in text:
        return None
    variables = sorted(names(node))
    if isinstance(context.gold, Named) or context.several:
        return None
    if not variables:
        choices = [
            *(f"{letter} = " for letter in _letters(node, "xnNkSA")), "m+n = ", "a + b = ", "f(3) = ", "|S| = ", "P(A) = ",
            "AB = ", "\\angle ABC = ", "\\text{Area} = ", "\\text{Answer: }", "x_1 = ", "= ", "S_{10} = ", "\\text{Total} = ",
            "\\max f = ", "\\mathrm{Area} = ", "[ABC] = ",
        ]  # fmt: skip
    elif len(variables) == 1 and len(variables[0]) == 1 and variables[0].islower():
        choices = [f"{letter}({variables[0]}) = " for letter in _letters(node, "fgp")] + [
            f"{letter} = " for letter in _letters(node, "yNS")
        ]
    else:
        choices = [f"{letter} = " for letter in _letters(node, "NSA")]
    if (context.integer or context.measured) and not variables:
        choices = [x for x in choices if "angle" not in x]
    return context.random.choice(choices) + text if choices else None


def equals_itself(text: str, node: Node, context: Context) -> str | None:
    """The same value in two writings with an equals sign."""
    if not is_expression(node) or "=" in text or names(node) or context.measured or isinstance(context.gold, Named):
        return None
    for form in context.random.sample(_OTHER_FORMS, len(_OTHER_FORMS)):
        try:
            other = form(node, context)
        except UnknownError:
            continue
        if other is not None:
            from .writer import write

            pair = [text, write(other)]
            context.random.shuffle(pair)
            return " = ".join(pair)
    return None


def approximately(text: str, node: Node, context: Context) -> str | None:
    """The sign for "about" before a rounded value, or the rounded value behind the exact one."""
    if not is_expression(node) or names(node) or context.several or context.integer:
        return None
    if context.measured and isinstance(node, Number | Scientific):
        return context.random.choice(["\\approx ", "≈ ", "\\approx", "\\text{approximately } ", "\\sim "]) + text
    number = value(node)
    if isinstance(number, Fraction) or abs(number.imag) > 1e-9 or not 0.001 < abs(number.real) < 10**5:
        return None
    return _approximation(text, float(number.real), context)


def _approximation(text: str, number: float, context: Context) -> str:
    sign = context.random.choice(["\\approx", "≈", "\\approx"])
    return f"{text} {sign} {number:.{context.random.choice((5, 6))}g}"


_OTHER_FORMS: list[Form] = [
    unreduced_fraction, fraction_as_decimal, surd_under_root, surd_as_product, surd_in_denominator, terms_reordered,
    fraction_split, fraction_as_coefficient, common_factor, integer_as_fraction, mixed_number,
]  # fmt: skip


def side_condition(text: str, node: Node, context: Context) -> str | None:
    """When the value holds; nothing in it is an answer."""
    if not _single(node) or "=" in text or isinstance(context.gold, Named) or context.several:
        return None
    number = context.random.choice((0, 1, 2, 3, 4, 6))
    variables = sorted(x for x in names(node) if len(x) == 1)
    if variables:
        letter = variables[0]
        choices = [
            f"{text} \\text{{ for all }} {letter}", f"{text}, \\quad {letter} \\neq 0", f"{text} \\text{{ for }} {letter} > 0",
            f"{text} \\text{{ where }} {letter} \\ge 1", f"{text} \\text{{ for every }} {letter}",
        ]  # fmt: skip
    else:
        letter = context.random.choice(_letters(node, "xnka") or ["q"])
        choices = [
            f"{text} \\text{{ when }} {letter} = {number}", f"{text} \\text{{ for }} {letter} = {number}",
            f"{text} \\text{{ at }} {letter} = {number}", f"{text} \\text{{ when }} {letter}={number}",
            f"{text}\\text{{, attained when }} {letter} = {number}", f"{text} \\text{{ if }} {letter} = {number}",
            f"{text} \\quad (\\text{{when }} {letter} = {number})", f"{text} \\text{{ for }} {letter} > {number}",
        ]  # fmt: skip
    return context.random.choice(choices)


def unit_from_question(text: str, node: Node, context: Context) -> str | None:
    """The thing that the question counts or measures: "How many dollars …"."""
    match = re.search(r"[Hh]ow many ([a-z]{3,14})\b", context.question)
    if match is None or not is_expression(node) or names(node) or match[1] in _NOT_UNITS or context.several:
        return None
    return context.random.choice([f"{text} \\text{{ {match[1]}}}", f"{text}\\text{{ {match[1]}}}", f"{text} \\, \\text{{{match[1]}}}",
                                  f"{text}~\\mathrm{{{match[1]}}}", f"\\text{{{text} {match[1]}}}" if text.isdigit() else f"{text} \\text{{ {match[1]}}}"])  # fmt: skip


_NOT_UNITS = (
    "are", "were", "more", "different", "possible", "positive", "negative", "distinct", "ordered", "such", "the", "real", "of",
    "total", "solutions", "ways", "times", "would", "does", "integral", "integer", "non", "three", "four", "two", "five", "six",
    "even", "odd", "prime", "unique", "full", "complete", "additional", "other", "whole", "small", "large", "red", "blue",
    "green", "consecutive", "common", "proper", "digit", "square", "cubic", "perfect", "percent", "hundred", "thousand",
    "million", "dozen", "dozens", "pairs", "degrees",
)  # fmt: skip


def unit_of_problem(text: str, node: Node, context: Context) -> str | None:
    """The unit that the data set says the answer has, or the gold's own unit in another writing."""
    unit = str(context.options.get("unit") or "").strip("$ ")
    if unit and is_expression(node) and unit.isalpha():
        return context.random.choice([f"{text} \\text{{ {unit}}}", f"{text} \\mathrm{{~{unit}}}", f"{text}\\,\\text{{{unit}}}"])
    gold = context.gold
    if isinstance(gold, Marked) and gold.mark == "unit" and is_expression(node):
        match = re.fullmatch(r"\\text ?\{ ?([A-Za-z ]+?) ?\}(\^.*)?", gold.unit)
        if match:
            unit = match[1] + (match[2] or "")
            return context.random.choice([f"{text}\\ \\mathrm{{{match[1]}}}{match[2] or ''}", f"{text} \\text{{{unit}}}" if not match[2]
                                          else f"{text}~\\text{{{match[1]}}}{match[2]}", f"{text}~\\text{{{match[1]}}}{match[2] or ''}"])  # fmt: skip
    if isinstance(gold, Marked) and gold.mark == "money" and is_expression(node):
        return context.random.choice([f"{text} \\text{{ dollars}}", f"\\text{{\\${text}}}" if "\\" not in text else f"\\${text}",
                                      f"{text}\\text{{ USD}}"])  # fmt: skip
    if isinstance(gold, Marked) and gold.mark == "degree" and is_expression(node):
        return f"{text} \\text{{ degrees}}"
    return None


def unit_of_measured(text: str, node: Node, context: Context) -> str | None:
    """A unit behind a physical value, where the data set's golds have none. Only with decimals: a bare one is a count."""
    if not context.measured or not isinstance(node, Number | Scientific) or not isinstance(context.gold, Number | Scientific):
        return None
    units = [
        "\\text{ m/s}", "\\mathrm{~km}", "~\\mathrm{kg}", "\\,\\text{J}", "\\text{ erg/s}", "\\mathrm{~cm}^{-3}", " \\text{ cm}^2",
        "\\,\\mathrm{kg\\,m^{-3}}", "\\text{ K}", "\\mathrm{~km} / \\mathrm{s}", "\\text{ eV}", " Å", "\\text{ g}", "\\ \\mathrm{Hz}",
        "\\text{ W m}^{-2}", "\\text{ kJ/mol}", " kg", " m/s", "\\,\\mu\\text{m}", "\\,\\Omega", "\\text{ solar masses}", "\\text{ V}",
    ]  # fmt: skip
    return text + context.random.choice(units)


def residue(text: str, node: Node, context: Context) -> str | None:
    number = integer(node)
    if number is None or number < 0 or context.measured or context.several or not isinstance(node, Number):
        return None
    if not re.search(r"remainder|mod|residue|last digit|units digit", context.question):
        return None
    modulus = number + context.random.choice((1, 2, 3, 6, 11))
    if modulus < 2:
        modulus = 5
    return context.random.choice([
        f"{text} \\pmod{{{modulus}}}", f"{text} \\bmod {modulus}", f"x \\equiv {text} \\pmod{{{modulus}}}",
        f"{text} \\mod {modulus}", f"{text}\\ (\\text{{mod }} {modulus})", f"{text} (mod {modulus})",
    ])  # fmt: skip


def choice_with_words(text: str, node: Node, context: Context) -> str | None:  # noqa: ARG001
    if not isinstance(node, Choice):
        return None
    letter = node.letter
    thing = context.random.choice(["Plane", "Circle", "Two lines", "none of these", "27", "Impossible"])
    return context.random.choice([
        letter, f"({letter})", f"\\text{{{letter}}}", f"\\textbf{{({letter})}}", f"\\text{{({letter}) {thing}}}", f"{letter}. {thing}",
        f"{letter}) {thing}", f"\\text{{{letter}: {thing}}}", f"\\textbf{{({letter})}}\\ {thing}", f"({letter}) \\text{{ {thing}}}",
        f"\\text{{Option {letter}}}", f"\\mathrm{{({letter})}}", f"\\text{{{letter}}}.", f"\\textbf{{{letter}}}",
    ])  # fmt: skip


def choice_before_value(text: str, node: Node, context: Context) -> str | None:
    """The letter of the choice before its value, where the gold is the value."""
    if not is_expression(node) or names(node) or context.several or context.measured or isinstance(context.gold, Named):
        return None
    letter = context.random.choice("ABCDE")
    return context.random.choice([f"\\textbf{{({letter})}}\\ {text}", f"\\text{{({letter}) }}{text}", f"\\textbf{{({letter}) }} {text}",
                                  f"\\mathrm{{({letter})}}\\ {text}", f"({letter})\\ {text}"])  # fmt: skip


def joined_by_and(text: str, node: Node, context: Context) -> str | None:
    """The last comma of a list as "and" or "or", or each value in a sentence's list."""
    if not isinstance(node, Items) or node.kind != "list" or any(isinstance(x, Items) for x in node.items):
        return None
    if text.count(", ") != len(node.items) - 1 or len(node.items) < 2:
        return None
    head, _, tail = text.rpartition(", ")
    word = context.random.choice(["and", "or", "and"])
    return context.random.choice([f"{head} \\text{{ {word} }} {tail}", f"{head} \\text{{ {word} }}{tail}", f"{head} {word} {tail}",
                                  f"{head}, \\text{{ {word} }} {tail}" if len(node.items) > 2 else f"{head}\\text{{ {word} }}{tail}"])  # fmt: skip


def names_before_values(text: str, node: Node, context: Context) -> str | None:
    """``x = 1 or x = 2`` for a list of values."""
    if not isinstance(node, Items) or node.kind != "list" or not all(is_expression(x) for x in node.items):
        return None
    if text.count(", ") != len(node.items) - 1:
        return None
    letters = _letters(node, "xnka")
    if not letters:
        return None
    letter = letters[0]
    return context.random.choice([f"{letter} = {text}", f"{letter} \\in \\{{{text}\\}}",
                                  ", ".join(f"{letter} = {x}" for x in text.split(", ")),
                                  " \\text{ or } ".join(f"{letter} = {x}" for x in text.split(", "))])  # fmt: skip


def inequality(text: str, node: Node, context: Context) -> str | None:
    """An interval as an inequality; only of what cannot be a point."""
    gold = node.inner if isinstance(node, Named) else node
    if not isinstance(gold, Interval) or gold.left + gold.right == "()" and "\\infty" not in text:
        return None
    if not isinstance(node, Interval) or "left" in text:
        return None
    from .writer import write

    low, high = write(gold.low), write(gold.high)
    if names(gold):
        return None
    at_low = "\\le" if gold.left == "[" else "<"
    at_high = "\\le" if gold.right == "]" else "<"
    if "infty" in low and "infty" in high:
        return None
    if "infty" in high:
        return _over(low, gold.left, context)
    if "infty" in low:
        return f"x {context.random.choice([at_high, '≤' if gold.right == ']' else '<'])} {high}"
    return f"{low} {at_low} x {at_high} {high}"


def _over(low: str, left: str, context: Context) -> str:
    signs = ["\\ge", "≥", "\\geq", "\\geqslant"] if left == "[" else [">", "\\gt"]
    return f"x {context.random.choice(signs)} {low}"


WRAPPINGS: dict[str, Wrapping] = {
    "full-width digits": full_width,
    "layout": layout,
    "\\text around it": text_wrapper,
    "colour or bold": colour,
    "box in a box": box_in_box,
    "parentheses around": parentheses,
    "plus sign": plus_sign,
    "named left side": named_left_side,
    "equals itself": equals_itself,
    "≈ rounded value": approximately,
    "side condition": side_condition,
    "unit from the question": unit_from_question,
    "unit of the problem": unit_of_problem,
    "unit of a measured value": unit_of_measured,
    "residue": residue,
    "choice with words": choice_with_words,
    "choice's letter before the value": choice_before_value,
    "joined by and": joined_by_and,
    "names before values": names_before_values,
    "interval as inequality": inequality,
}
