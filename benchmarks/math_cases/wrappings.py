"""Words and commands around an answer that leave its value alone: the third layer of rewriting.

Each function returns None where it does not apply or where a careful reader could doubt that the answer is still right.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .context import Context, Form, Wrapping
from .forms import (
    common_factor,
    fraction_as_coefficient,
    fraction_as_decimal,
    fraction_split,
    integer_as_fraction,
    mixed_number,
    surd_as_product,
    surd_in_denominator,
    surd_under_root,
    terms_reordered,
    unreduced_fraction,
)
from .oracle import UnknownError, value
from .tree import (
    Choice,
    Interval,
    Items,
    Marked,
    Name,
    Named,
    Node,
    Number,
    Opaque,
    Scientific,
    Sum,
    Words,
    integer,
    is_expression,
    names,
    negative,
    walk,
)
from .writer import FULL_WIDTH, write


def _single(node: Node) -> bool:
    """One value, without a name before it."""
    return is_expression(node) or (isinstance(node, Marked) and node.mark in ("degree", "money"))


def _letters(node: Node, wanted: str) -> list[str]:
    used = names(node) | {x.name[0] for x in walk(node) if isinstance(x, Name)}
    return [letter for letter in wanted if letter not in used]


def full_width(text: str, node: Node, context: Context) -> str | None:

    if "\\" in text or context.several or not (is_expression(node) or isinstance(node, Items)):
        return None
    if "^" in text or "_" in text or "/" in text or "{" in text:
        return None
    return text.translate(FULL_WIDTH)


def layout(text: str, node: Node, context: Context) -> str | None:
    choices = [
        f" {text} ", f"\\,{text}\\,", f"\\displaystyle {text}", f"${text}$", f"\\({text}\\)", f"{text}.",
        f"{{{text}}}",
        f"\\ {text}", f"\\quad {text}", f"\\!{text}", f"\\mathstrut {text}", f"{text}\\,.", f"\n{text}\n",
        f"${text}$.", f"\\textstyle {text}", f"\\text{{ }}{text}", f"{text} \\\\", f"\\hspace{{2pt}}{text}",
        f"\\;{text}\\;",
    ]  # fmt: skip
    return context.random.choice(choices)


def text_wrapper(text: str, node: Node, context: Context) -> str | None:
    if (
        not isinstance(node, Number | Words | Choice | Sum)
        or "\\" in text
        or (isinstance(node, Sum) and names(node))
    ):
        return None
    command = context.random.choice(
        [
            "\\text",
            "\\textbf",
            "\\mathrm",
            "\\mathbf",
            "\\textrm",
            "\\mbox",
            "\\bf",
            "\\mathsf",
            "\\mathit",
            "\\texttt",
            "\\textnormal",
        ]
    )
    return f"{{\\bf {text}}}" if command == "\\bf" else f"{command}{{{text}}}"


def colour(text: str, node: Node, context: Context) -> str | None:
    if isinstance(node, Opaque):
        return None
    return context.random.choice(
        [
            f"\\color{{red}}{{{text}}}",
            f"\\textcolor{{blue}}{{{text}}}",
            f"{{\\color{{blue}} {text}}}",
            f"\\boldsymbol{{{text}}}",
        ]
    )


def box_in_box(text: str, node: Node, context: Context) -> str | None:
    return context.random.choice(
        [f"\\boxed{{{text}}}", f"\\fbox{{${text}$}}", f"\\boxed{{\\boxed{{{text}}}}}"]
    )


def parentheses(text: str, node: Node, context: Context) -> str | None:
    if not is_expression(node) or "," in text or isinstance(node, Name):
        return None
    return context.random.choice([f"({text})", f"\\left({text}\\right)", f"\\left( {text} \\right)"])


_SMALL = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(text: str, node: Node, context: Context) -> str | None:
    """A number below a hundred as a word."""
    number = integer(node)
    if number is None or not 0 < number < 100 or not text.isdigit() or context.measured:
        return None
    word = _SMALL[number] if number < 20 else _TENS[number // 10]
    if number > 20 and number % 10:
        word += "-" + _SMALL[number % 10]
    return f"\\text{{{context.random.choice([word, word.capitalize()])}}}"


def plus_sign(text: str, node: Node, context: Context) -> str | None:
    return f"+{text}" if is_expression(node) and text[0].isdigit() else None


_BEFORE_NUMBERS = [
    "f(3) = ", "AB = ", "\\text{Answer: }", "x_1 = ", "= ", "S_{10} = ", "\\text{Total} = ", "\\max f = ",
    "\\frac{a}{b} = ", "\\lim_{n \\to \\infty} a_n = ", "\\overline{AB} = ", "V_{\\text{max}} = ",
    "\\therefore ", "\\implies x = ", "\\text{Thus } x = ", "\\text{The answer is } ",
]  # fmt: skip


def named_left_side(text: str, node: Node, context: Context) -> str | None:
    if not _single(node) or (isinstance(context.gold, Named) and isinstance(node, Named)) or "=" in text:
        return None
    variables = sorted(names(node))
    if isinstance(context.gold, Named) or context.several:
        return None
    if not variables:
        choices = [f"{letter} = " for letter in _letters(node, "xnNkSA")]
        choices += _BEFORE_NUMBERS
        if integer(node) is not None:
            choices += ["m+n = ", "a + b = ", "|S| = "]
        elif not context.measured:
            choices += ["P(A) = ", "\\text{Area} = ", "\\mathrm{Area} = ", "[ABC] = ", "\\angle ABC = "]
    elif len(variables) == 1 and len(variables[0]) == 1 and variables[0].islower():
        choices = [f"{letter}({variables[0]}) = " for letter in _letters(node, "fgp")] + [
            f"{letter} = " for letter in _letters(node, "yNS")
        ]
    else:
        choices = [f"{letter} = " for letter in _letters(node, "NSA")]
    return context.random.choice(choices) + text if choices else None


def equals_itself(text: str, node: Node, context: Context) -> str | None:
    """The same value in two writings with an equals sign."""
    if (
        not is_expression(node)
        or "=" in text
        or names(node)
        or context.measured
        or isinstance(context.gold, Named)
    ):
        return None
    for form in context.random.sample(_OTHER_FORMS, len(_OTHER_FORMS)):
        try:
            other = form(node, context)
        except UnknownError:
            continue
        if other is not None:
            pair = [text, write(other)]
            context.random.shuffle(pair)
            return " = ".join(pair)
    return None


def approximately(text: str, node: Node, context: Context) -> str | None:
    """The sign for "about" before a rounded value, or the rounded value behind the exact one."""
    if not is_expression(node) or names(node) or context.several or context.integer:
        return None
    if context.measured and isinstance(node, Number | Scientific):
        return (
            context.random.choice(["\\approx ", "≈ ", "\\approx", "\\text{approximately } ", "\\sim "]) + text
        )
    number = value(node)
    if isinstance(number, Fraction) or abs(number.imag) > 1e-9 or not 0.001 < abs(number.real) < 10**5:
        return None
    return _approximation(text, float(number.real), context)


def _approximation(text: str, number: float, context: Context) -> str:
    sign = context.random.choice(["\\approx", "≈", "\\approx"])
    return f"{text} {sign} {number:.{context.random.choice((5, 6))}g}"


_OTHER_FORMS: list[Form] = [
    unreduced_fraction, fraction_as_decimal, surd_under_root, surd_as_product, surd_in_denominator,
    terms_reordered,
    fraction_split, fraction_as_coefficient, common_factor, integer_as_fraction, mixed_number,
]  # fmt: skip


def side_condition(text: str, node: Node, context: Context) -> str | None:
    """When the value holds; nothing in it is an answer."""
    if not _single(node) or "=" in text or isinstance(context.gold, Named) or context.several:
        return None
    number = context.random.choice((0, 1, 2, 3, 4, 6))
    variables = sorted(x for x in names(node) if len(x) == 1)
    if variables and set(variables) & {"C", "c"} and context.measured:
        return None  # an arbitrary constant: a condition on it changes the answer
    if variables:
        letter = variables[0]
        choices = [
            f"{text} \\text{{ for all }} {letter}", f"{text}, \\quad {letter} \\neq 0",
            f"{text} \\text{{ for }} {letter} > 0",
            f"{text} \\text{{ where }} {letter} \\ge 1", f"{text} \\text{{ for every }} {letter}",
            f"{text} \\text{{ for any }} {letter}", f"{text} \\quad \\text{{for }} {letter} \\ne 1",
            f"{text}, \\text{{ where }} {letter} \\text{{ is arbitrary}}", f"{text} \\quad ({letter} > 0)",
        ]  # fmt: skip
    else:
        letter = context.random.choice(_letters(node, "xnka") or ["q"])
        choices = [
            f"{text} \\text{{ when }} {letter} = {number}", f"{text} \\text{{ for }} {letter} = {number}",
            f"{text} \\text{{ at }} {letter} = {number}", f"{text} \\text{{ when }} {letter}={number}",
            f"{text}\\text{{, attained when }} {letter} = {number}",
            f"{text} \\text{{ if }} {letter} = {number}",
            f"{text} \\quad (\\text{{when }} {letter} = {number})",
            f"{text} \\text{{ for }} {letter} > {number}", f"{text} \\text{{ provided }} {letter} = {number}",
            f"{text} \\text{{ since }} {letter} = {number}", f"{text} \\text{{ given }} {letter} = {number}",
            f"{text} \\text{{ whenever }} {letter} \\ge {number}", f"{text} \\text{{ (at }} {letter} = {number})",
            f"{text}, \\text{{ achieved at }} {letter} = {number}", f"{text} \\text{{, where }} {letter} = {number}",
            f"{text} \\text{{ as }} {letter} \\to \\infty",
            f"{text} \\text{{ with equality iff }} {letter} = {number}", f"{text} \\text{{ for all }} {letter}",
            f"{text} \\text{{ when }} {letter} = {number} \\text{{ and }} y = 1",
        ]  # fmt: skip
    return context.random.choice(choices)


def unit_from_question(text: str, node: Node, context: Context) -> str | None:
    """The thing that the question counts or measures: "How many dollars …"."""
    match = re.search(r"[Hh]ow many ([a-z]{3,14})\b", context.question)
    if match is None or not is_expression(node) or names(node) or match[1] in _NOT_UNITS or context.several:
        return None
    unit = match[1]
    choices = [
        f"{text} \\text{{ {unit}}}",
        f"{text}\\text{{ {unit}}}",
        f"{text} \\, \\text{{{unit}}}",
        f"{text}~\\mathrm{{{unit}}}",
    ]
    if text.isdigit():
        choices.append(f"\\text{{{text} {unit}}}")
    return context.random.choice(choices)


_NOT_UNITS = (
    "are", "were", "more", "different", "possible", "positive", "negative", "distinct", "ordered", "such",
    "the", "real", "of",
    "total", "solutions", "ways", "times", "would", "does", "integral", "integer", "non", "three", "four",
    "two", "five", "six", "seven", "eight", "nine", "ten", "fewer",
    "even", "odd", "prime", "unique", "full", "complete", "additional", "other", "whole", "small", "large",
    "red", "blue",
    "green", "consecutive", "common", "proper", "digit", "square", "cubic", "perfect", "percent", "hundred",
    "thousand",
    "million", "dozen", "dozens", "pairs", "degrees",
)  # fmt: skip


def unit_of_problem(text: str, node: Node, context: Context) -> str | None:
    """The unit that the data set says the answer has, or the gold's own unit in another writing."""
    unit = str(context.options.get("unit") or "").strip("$ ")
    if unit and is_expression(node) and unit.isalpha():
        return context.random.choice(
            [f"{text} \\text{{ {unit}}}", f"{text} \\mathrm{{~{unit}}}", f"{text}\\,\\text{{{unit}}}"]
        )
    gold = context.gold
    if isinstance(gold, Marked) and gold.mark == "unit" and is_expression(node):
        match = re.fullmatch(r"\\text ?\{ ?([A-Za-z ]+?) ?\}(\^.*)?", gold.unit)
        if match:
            unit = match[1] + (match[2] or "")
            return context.random.choice([f"{text}\\ \\mathrm{{{match[1]}}}{match[2] or ''}",
            f"{text} \\text{{{unit}}}" if not match[2]
                                          else f"{text}~\\text{{{match[1]}}}{match[2]}",
                                          f"{text}~\\text{{{match[1]}}}{match[2] or ''}"])  # fmt: skip
    if isinstance(gold, Marked) and gold.mark == "money" and is_expression(node):
        return context.random.choice([f"{text} \\text{{ dollars}}",
        f"\\text{{\\${text}}}" if "\\" not in text else f"\\${text}",
                                      f"{text}\\text{{ USD}}"])  # fmt: skip
    if isinstance(gold, Marked) and gold.mark == "degree" and is_expression(node):
        return f"{text} \\text{{ degrees}}"
    return None


def unit_of_measured(text: str, node: Node, context: Context) -> str | None:
    """A unit behind a physical value, where the data set's golds have none."""
    if (
        not context.measured
        or not isinstance(node, Number | Scientific)
        or not isinstance(context.gold, Number | Scientific)
    ):
        return None
    units = [
        "\\text{ m/s}", "\\mathrm{~km}", "~\\mathrm{kg}", "\\,\\text{J}", "\\text{ erg/s}",
        "\\mathrm{~cm}^{-3}", " \\text{ cm}^2",
        "\\,\\mathrm{kg\\,m^{-3}}", "\\text{ K}", "\\mathrm{~km} / \\mathrm{s}", "\\text{ eV}", " Å",
        "\\text{ g}", "\\ \\mathrm{Hz}",
        "\\text{ W m}^{-2}", "\\text{ kJ/mol}", " kg", " m/s", "\\,\\mu\\text{m}", "\\,\\Omega",
        "\\text{ solar masses}", "\\text{ V}",
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


def choice_with_words(text: str, node: Node, context: Context) -> str | None:
    if not isinstance(node, Choice):
        return None
    letter = node.letter
    thing = context.random.choice(["Plane", "Circle", "Two lines", "none of these", "27", "Impossible"])
    return context.random.choice([
        letter, f"({letter})", f"\\text{{{letter}}}", f"\\textbf{{({letter})}}",
        f"\\text{{({letter}) {thing}}}", f"{letter}. {thing}",
        f"{letter}) {thing}", f"\\text{{{letter}: {thing}}}", f"\\textbf{{({letter})}}\\ {thing}",
        f"({letter}) \\text{{ {thing}}}",
        f"\\text{{Option {letter}}}", f"\\mathrm{{({letter})}}", f"\\text{{{letter}}}.",
        f"\\textbf{{{letter}}}",
    ])  # fmt: skip


def choice_before_value(text: str, node: Node, context: Context) -> str | None:
    """The letter of the choice before its value, where the gold is the value."""
    if (
        not is_expression(node)
        or names(node)
        or context.several
        or context.measured
        or isinstance(context.gold, Named)
    ):
        return None
    letter = context.random.choice("ABCDE")
    return context.random.choice([f"\\textbf{{({letter})}}\\ {text}", f"\\text{{({letter}) }}{text}",
    f"\\textbf{{({letter}) }} {text}",
                                  f"\\mathrm{{({letter})}}\\ {text}", f"({letter})\\ {text}"])  # fmt: skip


def joined_by_and(text: str, node: Node, context: Context) -> str | None:
    """The last comma of a list as "and" or "or", or each value in a sentence's list."""
    if not isinstance(node, Items) or node.kind != "list" or any(isinstance(x, Items) for x in node.items):
        return None
    if text.count(", ") != len(node.items) - 1 or len(node.items) < 2:
        return None
    head, _, tail = text.rpartition(", ")
    word = context.random.choice(["and", "or", "and"])
    choices = [
        f"{head} \\text{{ {word} }} {tail}",
        f"{head} \\text{{ {word} }}{tail}",
        f"{head} {word} {tail}",
    ]
    if len(node.items) > 2:
        choices.append(f"{head}, \\text{{ {word} }} {tail}")
    return context.random.choice(choices)


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
    if not isinstance(gold, Interval) or (gold.left + gold.right == "()" and "\\infty" not in text):
        return None
    if not isinstance(node, Interval) or "left" in text:
        return None

    low, high = write(gold.low), write(gold.high)
    if names(gold) or gold.low == Name("\\infty") or gold.high == negative(Name("\\infty")):
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
    "number in words": in_words,
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
