"""Answers that say the gold and more, or deny it: wrong by what they say, whatever they are worth."""

from __future__ import annotations

from collections.abc import Callable

from .context import Context
from .oracle import gap, plain, value
from .reader import read
from .tree import (
    Choice,
    Clock,
    Items,
    Marked,
    Node,
    Number,
    Opaque,
    Product,
    Quotient,
    Root,
    Words,
    integer,
    is_expression,
    names,
)
from .writer import write

Hedge = Callable[[str, Node, str, Context], str | None]
"""Text and tree of the gold, text of another value; None where it does not apply."""


def _one_value(node: Node) -> bool:
    return is_expression(node) or (isinstance(node, Marked) and node.mark in ("degree", "money"))


def two_values(text: str, node: Node, other: str, context: Context) -> str | None:
    if not _one_value(node) or context.several or integer(plain(node)) == 0:  # 0/9 is 0
        return None
    return context.random.choice([
        f"{text} \\text{{ or }} {other}",
        f"{text} \\text{{ or {other}}}" if "\\" not in other else f"{text} \\text{{ or }} {other}",
        f"{other} \\text{{ or }} {text}", f"{text}, {other}", f"{other}, {text}",
        f"{text} \\text{{ and }} {other}",
        f"{text} or {other}", f"\\{{{text}, {other}\\}}", f"({other}, {text})",
        f"x = {text} \\text{{ or }} x = {other}",
        f"{text} \\text{{ (or }} {other})", f"{text};\\ {other}", f"{text} \\quad {other}",
        f"{text} \\lor {other}",
        f"{text} \\text{{ vs. }} {other}", f"{text} \\Rightarrow {other}", f"{text} \\text{{ or else }} {other}",
        f"{text} / {other} \\text{{ (two answers)}}", f"{text}\\text{{, unless it is }} {other}",
        f"{text} \\text{{ for even }} n, {other} \\text{{ for odd }} n", f"x_1 = {text}, x_2 = {other}",
        f"{other} \\text{{ or possibly }} {text}", f"\\text{{either }} {text} \\text{{ or }} {other}",
    ])  # fmt: skip


def two_values_equated(text: str, node: Node, other: str, context: Context) -> str | None:
    if not _one_value(node) or names(node) or context.measured:
        return None
    pair = [text, other]
    context.random.shuffle(pair)
    second = read(other)
    far = (
        is_expression(second) and gap(plain(node), second) > 0.2
    )  # else one may stand for the other, rounded
    signs = ["=", "=", "\\equiv", "\\approx", "≈"] if far else ["="]
    return f" {context.random.choice(signs)} ".join(pair)


def denial(text: str, node: Node, other: str, context: Context) -> str | None:
    choices = [
        f"{text} \\text{{ does not exist}}", f"\\text{{not }} {text}", f"\\neq {text}",
        f"{text} \\text{{ is not the answer}}",
        f"\\text{{anything but }} {text}", f"{text} \\text{{ is wrong}}", f"x \\ne {text}",
        f"\\text{{It is not }} {text}",
        f"{text} \\text{{ is impossible}}", f"{text} \\text{{ is incorrect}}", "\\text{no solution}",
        "\\text{undefined}",
        f"\\lnot {text}", f"\\text{{cannot be }} {text}", f"\\cancel{{{text}}}", f"\\text{{never }} {text}",
        f"{text} \\text{{ is not possible}}", f"{text} \\text{{ fails}}", f"{text} \\text{{ is too large}}",
        f"{text} \\text{{ is rejected}}", f"\\text{{no }} {text}", f"\\xcancel{{{text}}}",
    ]  # fmt: skip
    if isinstance(node, Words):
        inner = node.text
        choices = [f"\\text{{not {inner}}}", f"\\text{{neither {inner} nor the other}}",
        f"\\text{{{inner} is wrong}}",
                   f"\\text{{non-{inner}}}", f"\\text{{anything but {inner}}}", "\\text{unknown}"]  # fmt: skip
    if isinstance(node, Clock | Opaque):
        return None
    return context.random.choice(choices)


def value_in_condition(text: str, node: Node, other: str, context: Context) -> str | None:
    if not _one_value(node) or context.several:
        return None
    letter = next((x for x in "xnka" if x not in names(node)), "q")
    return context.random.choice([
        f"{other} \\text{{ when }} {letter} = {text}", f"{other} \\text{{ for }} {letter} = {text}",
        f"{other}\\text{{, attained when }} {letter}={text}", f"{other} \\text{{ at }} {letter} = {text}",
        f"{other} \\text{{ if }} {letter} = {text}", f"{other} \\quad ({letter} = {text})",
        f"{other} \\text{{ not }} {text}",
        f"{other} \\text{{ provided }} {letter} = {text}", f"{other} \\text{{ since }} {letter} = {text}",
        f"{other} \\text{{, because }} {letter} = {text}", f"{other} \\text{{ rather than }} {text}",
        f"{other} \\text{{ given }} {letter} = {text}", f"{other} \\text{{ whenever }} {letter} = {text}",
        f"{other} \\text{{ instead of }} {text}", f"{other} \\text{{ where }} {letter}={text}",
    ])  # fmt: skip


def interval_around(text: str, node: Node, other: str, context: Context) -> str | None:
    if not _one_value(node) or context.several or "^\\circ" in text or names(node):
        return None
    return context.random.choice([
        f"[{text}, {other}]", f"{text} < x < {other}", f"\\text{{between }} {text} \\text{{ and }} {other}",
        f"{text} \\pm 1",
        f"> {text}", f"x < {text}", f"({text} - 1, {text} + 1)", f"{text} \\text{{ to }} {other}",
        f"\\text{{more than }} {text}", f"\\text{{less than }} {text}", f"x > {text}", f"[{text}, \\infty)",
        f"{text} \\le x \\le {other}", f"{text} \\text{{ or more}}", f"{text} \\text{{ through }} {other}",
        f"\\text{{at most }} {text}", f"{text} \\ldots {other}", f"\\text{{about }} {text} \\text{{ to }} {other}",
    ])  # fmt: skip


def more_behind(text: str, node: Node, other: str, context: Context) -> str | None:
    """A variable, a power or another operation behind the value."""
    if not _one_value(node) or isinstance(node, Marked) or context.measured:
        return None
    if (
        not isinstance(node, Number | Quotient | Product | Root)
        or names(node)
        or value(node) in (0, 1, -1, 2)
    ):
        return None
    inner = text if isinstance(node, Number) else f"\\left({text}\\right)"
    return context.random.choice([
        f"{text}x", f"{inner}^2", f"{inner}!" if isinstance(node, Number) else f"{inner}^3", f"{text} + x",
        f"{text}\\pi", f"{text}i",
        f"-{inner}", f"\\frac{{1}}{{{text}}}", f"\\sqrt{{{text}}}", f"{text} + 1", f"{text} y + 1",
        f"f({text})", f"\\ln {inner}",
        f"{text} \\cdot k", f"{text} + C", f"{inner}^{{n}}", f"\\int {text} \\, dx", f"\\sin {inner}",
    ])  # fmt: skip


def no_value(text: str, node: Node, other: str, context: Context) -> str | None:
    if "infty" in text:
        return None
    return context.random.choice([
        "\\infty", "\\text{NaN}", "\\emptyset", "\\{\\}", "?", "\\ldots", "\\text{unknown}",
        "\\text{answer}", "()", "\\text{See above}",
        "\\text{all real numbers}", "\\mathbb{R}", "\\pm\\infty", "\\text{Yes}" if not isinstance(node,
        Words) else "\\text{None}", "...",
        "\\_", "\\square",
    ])  # fmt: skip


def two_choices(text: str, node: Node, other: str, context: Context) -> str | None:
    if not isinstance(node, Choice):
        return None
    letter, wrong = node.letter, next(x for x in "ABCDE" if x != node.letter)
    return context.random.choice([
        f"\\text{{({letter}) or ({wrong})}}", f"{letter}, {wrong}", f"{letter} \\text{{ and }} {wrong}",
        f"\\text{{not {letter}}}",
        f"\\text{{({wrong}) not ({letter})}}", f"\\text{{{wrong}: {letter}}}", f"{letter}{wrong}",
        f"\\text{{Both {letter} and {wrong}}}",
    ])  # fmt: skip


def part_of_pair(text: str, node: Node, other: str, context: Context) -> str | None:
    """One part of a tuple, or its parts joined by an operation."""
    if not isinstance(node, Items) or node.kind != "tuple":
        return None
    parts = [write(x) for x in node.items]
    return context.random.choice([parts[0], parts[-1], " + ".join(parts), f"({text}, {text})",
    " = ".join(parts) if len(set(parts)) > 1 else parts[0]])  # fmt: skip


HEDGES: dict[str, Hedge] = {
    "two values": two_values,
    "two values equated": two_values_equated,
    "a denial": denial,
    "the value in a condition": value_in_condition,
    "a range": interval_around,
    "more behind the value": more_behind,
    "no value": no_value,
    "two choices": two_choices,
    "part of a tuple": part_of_pair,
}
