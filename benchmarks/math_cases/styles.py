"""Ways to write a tree: the second layer of rewriting. A style that writes the tree as before is no case."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .context import Context, Restyle
from .tree import (
    Based,
    Call,
    Items,
    Marked,
    Matrix,
    Node,
    Power,
    Repeating,
    Root,
    Scientific,
    Union,
    Words,
    walk,
)
from .writer import PLAIN, Style


def _styles(**choices: list[str]) -> Restyle:
    """A style that sets the given fields, each to one of its values."""

    def chosen(node: Node, context: Context) -> Style | None:
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


def _spaced(node: Node, context: Context) -> Style | None:
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
        "money", ["$", "\\text{\\$}", "\\$\\,", "\\textdollar "], lambda x: isinstance(x,
        Marked) and x.mark == "money"
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
    "base written": _in_value("base", ["_", "unicode", "text", "parentheses", "words"],
    lambda x: isinstance(x, Based)),
    "time of day": _in_value("clock", ["a.m.", "text", "am", "AM", "A.M.", "mathrm"],
    lambda x: type(x).__name__ == "Clock"),
    "words written": _in_value("words", ["bare", "\\textbf", "\\mathrm", "\\textit", "\\mbox"],
    lambda x: isinstance(x, Words)),
}  # fmt: skip
