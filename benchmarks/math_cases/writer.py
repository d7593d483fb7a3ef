"""Writes trees as LaTeX or in other forms that models use. One ``Style`` says how; each field is one freedom."""

from __future__ import annotations

from dataclasses import dataclass

from .tree import (
    Based,
    Call,
    Choice,
    Clock,
    Degrees,
    Factorial,
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
)

VULGAR = {
    (1, 2): "½", (1, 3): "⅓", (2, 3): "⅔", (1, 4): "¼", (3, 4): "¾", (1, 5): "⅕", (2, 5): "⅖", (3, 5): "⅗",
    (4, 5): "⅘",
    (1, 6): "⅙", (5, 6): "⅚", (1, 8): "⅛", (3, 8): "⅜", (5, 8): "⅝", (7, 8): "⅞", (1, 7): "⅐", (1, 9): "⅑",
    (1, 10): "⅒",
}  # fmt: skip
SUPERSCRIPTS = str.maketrans("0123456789+-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ")
SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
FULL_WIDTH = str.maketrans("0123456789+-=(),", "０１２３４５６７８９＋－＝（），")
GREEK = {
    "\\pi": "π",
    "\\theta": "θ",
    "\\alpha": "α",
    "\\omega": "ω",
    "\\infty": "∞",
    "\\lambda": "λ",
    "\\tau": "τ",
}


@dataclass(frozen=True)
class Style:
    """How a tree is written. The defaults are the plain LaTeX of the data sets."""

    fraction: str = "\\frac"
    """``\\frac``, ``\\dfrac``, ``\\tfrac``, ``\\cfrac``; ``short`` (\\frac12), ``slash``, ``vulgar`` (½), ``solidus``
    (1⁄2), ``over`` ({1 \\over 2})."""
    root: str = "\\sqrt"
    """``\\sqrt``, ``short`` (\\sqrt2), ``unicode`` (√2), ``power`` (2^{1/2}), ``name`` (sqrt(2))."""
    times: str = ""
    power: str = "{}"
    """``{}``, ``bare`` (x^2), ``unicode`` (x²), ``stars`` (x**2), ``parentheses`` (x^(2))."""
    minus: str = "-"
    greek: str = "latex"
    comma: str = ","
    sized: str = ""
    """``left`` (\\left( … \\right)), ``bigl``."""
    space: str = ""
    thousands: str = ""
    decimal: str = ""
    """``bare`` (.5), ``zeros`` (3.50, 27.0), ``braces`` (3{.}5)."""
    scientific: str = "\\times "
    """``\\times ``, ``\\cdot ``, ``×``, ``e``, ``E``, ``*``; the exponent as ``power`` says."""
    mixed: str = "\\frac"
    degree: str = "^\\circ"
    percent: str = "\\%"
    money: str = "\\$"
    repeating: str = "overline"
    logarithm: str = "\\"
    functions: str = "latex"
    matrix: str = "pmatrix"
    braces: str = "\\"
    union: str = "\\cup"
    base: str = "_{}"
    clock: str = "a.m."
    words: str = "\\text"


PLAIN = Style()


def write(node: Node, style: Style = PLAIN) -> str:
    """The text of an answer in a style."""
    return _Writer(style).answer(node)


class _Writer:
    def __init__(self, style: Style) -> None:
        self.style = style

    # --- whole answers

    def answer(self, node: Node) -> str:
        style = self.style
        match node:
            case Marked("percent", inner):
                return self.answer(inner) + style.percent
            case Marked("degree", inner):
                return self.answer(inner) + style.degree
            case Marked("money", inner):
                if isinstance(inner, Sum):
                    return style.minus + style.money + self.answer(inner.terms[0][1])
                return style.money + self.answer(inner)
            case Marked("unit", inner, unit):
                return f"{self.answer(inner)} {unit}"
            case Named(name, inner):
                relation = "\\in" if isinstance(inner, Interval | Union) else "="
                return f"{name} {relation} {self.answer(inner)}"
            case Based(digits, base):
                return self.based(digits, base)
            case Items(kind, items):
                return self.items(kind, [self.answer(x) for x in items])
            case Interval(left, low, high, right):
                return self.bracketed(left, [self.answer(low), self.answer(high)], right)
            case Union(parts):
                return f" {style.union} ".join(self.answer(x) for x in parts)
            case Matrix(rows):
                inside = " \\\\ ".join(" & ".join(self.answer(x) for x in row) for row in rows)
                columns = "{" + "c" * len(rows[0]) + "}" if style.matrix == "array" else ""
                text = f"\\begin{{{style.matrix}}}{columns} {inside} \\end{{{style.matrix}}}"
                return f"\\left( {text} \\right)" if style.matrix in ("array", "matrix") else text
            case Words(text):
                return text if style.words == "bare" else f"{style.words}{{{text}}}"
            case Choice(letter):
                return f"\\text{{({letter})}}"
            case Clock():
                return self.clock(node)
            case Opaque(text):
                return text
        return self.expression(node, 0)

    def items(self, kind: str, items: list[str]) -> str:
        if kind == "ratio":
            return ":".join(items)
        if kind == "letters":
            return ", ".join(items)
        if kind == "tuple":
            return self.bracketed("(", items, ")")
        inside = self.comma().join(items)
        if kind != "set":
            return inside
        if self.style.sized:
            return f"\\left\\{{{inside}\\right\\}}"
        return f"\\{{{inside}\\}}" if self.style.braces == "\\" else f"\\lbrace {inside} \\rbrace"

    def comma(self) -> str:
        return self.style.comma + (" " if self.style.comma == "," else "")

    def bracketed(self, left: str, items: list[str], right: str) -> str:
        inside = self.comma().join(items)
        if self.style.sized == "left":
            return f"\\left{left}{inside}\\right{right}"
        if self.style.sized == "bigl":
            return f"\\bigl{left}{inside}\\bigr{right}"
        return f"{left}{inside}{right}"

    def based(self, digits: str, base: int) -> str:
        forms = {
            "_{}": f"{digits}_{{{base}}}",
            "_": f"{digits}_{base}" if base < 10 else f"{digits}_{{{base}}}",
            "unicode": digits + str(base).translate(SUBSCRIPTS),
            "text": f"{digits}_{{\\text{{{_BASES.get(base, base)}}}}}",
            "parentheses": f"({digits})_{{{base}}}",
            "words": f"{digits} \\text{{ (base {base})}}",
        }
        return forms[self.style.base]

    def clock(self, node: Clock) -> str:
        time = f"{node.hour}" if node.minute is None else f"{node.hour}:{node.minute:02}"
        half = node.half
        forms = {
            "a.m.": f"{time} \\text{{ {half}.m.}}",
            "text": f"\\text{{{time} {half}.m.}}",
            "am": f"{time}\\text{{ {half}m}}",
            "AM": f"{time} {half.upper()}M",
            "A.M.": f"{time}\\,\\text{{{half.upper()}.M.}}",
            "mathrm": f"{time}~\\mathrm{{{half.upper()}M}}",
        }
        return forms[self.style.clock]

    # --- expressions; ``level`` 0: anywhere, 1: a term with a sign in front, 2: a factor, 3: a base

    def expression(self, node: Node, level: int) -> str:
        match node:
            case Number(digits):
                return self.number(digits)
            case Name(name):
                return self.name(name)
            case Sum(terms):
                return self.guarded(self.sum(terms), level >= 1)
            case Product(factors):
                return self.guarded(self.product(factors), level >= 3)
            case Quotient(top, bottom):
                return self.quotient(top, bottom, level)
            case Power(base, exponent):
                return self.guarded(self.power(base, exponent), level >= 3)
            case Root(inner, degree):
                text = self.root(inner, degree)
                return self.guarded(text, level >= 3 and "^" in text and text[0] != "\\")
            case Call(function, argument, base):
                return self.guarded(self.call(function, argument, base), level >= 2)
            case Factorial(inner):
                return f"{self.expression(inner, 3)}!"
            case Degrees(inner):
                sign = "^\\circ" if "text" in self.style.degree else self.style.degree
                return self.expression(inner, 3) + sign
            case Mixed(whole, top, bottom):
                return self.guarded(self.mixed(whole, top, bottom), level >= 2)
            case Scientific(mantissa, exponent):
                return self.guarded(self.scientific(mantissa, exponent), level >= 2)
            case Repeating():
                return self.repeating(node)
        raise TypeError(type(node).__name__)

    def guarded(self, text: str, needed: bool) -> str:
        if not needed:
            return text
        return f"\\left({text}\\right)" if self.style.sized == "left" else f"({text})"

    def number(self, digits: str) -> str:
        whole, point, decimals = digits.partition(".")
        if self.style.thousands and len(whole) > 3:
            head = len(whole) % 3 or 3
            groups = [whole[:head], *(whole[i : i + 3] for i in range(head, len(whole), 3))]
            whole = self.style.thousands.join(groups)
        if self.style.decimal == "bare" and whole == "0" and decimals:
            whole = ""
        if self.style.decimal == "zeros":
            point, decimals = ".", decimals + "0"
        return f"{whole}{point}{decimals}"

    def name(self, name: str) -> str:
        if self.style.greek == "unicode" and name in GREEK:
            return GREEK[name]
        head, bar, index = name.partition("_")
        return f"{head}_{{{index}}}" if bar else name

    def sum(self, terms: tuple[tuple[int, Node], ...]) -> str:
        gap, found = self.style.space, ""
        for i, (sign, term) in enumerate(terms):
            text = self.expression(term, 1)
            if i == 0:
                found = (self.style.minus if sign < 0 else "") + text
            else:
                found += f"{gap}{self.style.minus if sign < 0 else '+'}{gap}{text}"
        return found

    def product(self, factors: tuple[Node, ...]) -> str:
        parts = [
            self.expression(factor, 2 if i < len(factors) - 1 else 1) for i, factor in enumerate(factors)
        ]
        found = parts[0]
        for part in parts[1:]:
            found += self.style.times or self.between(found, part)
            found += part
        return found

    def between(self, left: str, right: str) -> str:
        """Nothing between factors where that reads as a product, else a dot."""
        digit = right[0].isdigit() or right[0] in ".½⅓⅔¼¾"
        if digit or (
            left[-1].isdigit() and right.startswith(("\\frac", "\\tfrac", "\\dfrac", "\\cfrac", "{"))
        ):
            return " \\cdot "
        if left[-1].isalpha() and right.startswith("sqrt"):
            return "*"
        if left[-1].isalpha() and right[0].isalpha() and "\\" in left[-8:]:
            return " "
        return self.style.space if self.style.space.startswith("\\") else ""

    def quotient(self, top: Node, bottom: Node, level: int) -> str:
        kind = self.style.fraction
        numbers = (top, bottom)
        if all(isinstance(x, Number) and x.digits.isdigit() for x in numbers):
            a, b = (int(x.digits) for x in numbers if isinstance(x, Number))
            if kind == "vulgar" and (a, b) in VULGAR:
                return VULGAR[a, b]
            if kind == "solidus":
                return f"{a}⁄{b}"
        if kind == "slash":
            return self.guarded(f"{self.expression(top, 3)}/{self.expression(bottom, 3)}", level >= 2)
        upper, lower = self.expression(top, 0), self.expression(bottom, 0)
        if kind == "short":
            return "\\frac" + self.group(upper, bool(upper)) + self.group(lower, False)
        if kind == "over":
            return f"{{{upper} \\over {lower}}}"
        command = kind if kind.startswith("\\") else "\\frac"
        return f"{command}{{{upper}}}{{{lower}}}"

    def group(self, text: str, first: bool) -> str:
        if len(text) == 1 and text.isdigit():
            return text
        if len(text) == 1 and text.isalpha():
            return f" {text}" if first else text
        return f"{{{text}}}"

    def power(self, base: Node, exponent: Node) -> str:
        if isinstance(base, Call):
            return self.function_power(base, exponent)
        left = self.expression(base, 3)
        if isinstance(base, Number) and base.digits.startswith("-"):
            left = f"({left})"
        return left + self.exponent(exponent)

    def function_power(self, base: Call, exponent: Node) -> str:
        return f"({self.call(base.function, base.argument, base.base)}){self.exponent(exponent)}"

    def exponent(self, exponent: Node) -> str:
        text = self.expression(exponent, 0)
        kind = self.style.power
        if kind == "unicode" and all(letter in "0123456789+-n" for letter in text):
            return text.translate(SUPERSCRIPTS)
        if kind == "bare" and len(text) == 1:
            return f"^{text}"
        if kind == "stars":
            return f"**{text}" if text.isdigit() or len(text) == 1 else f"**({text})"
        if kind == "parentheses":
            return f"^({text})"
        return f"^{{{text}}}"

    def root(self, inner: Node, degree: int) -> str:
        text = self.expression(inner, 0)
        simple = text.isdigit() or (len(text) == 1 and text.isalpha())
        kind = self.style.root
        if kind == "unicode":
            sign = {2: "√", 3: "∛", 4: "∜"}.get(degree)
            if sign:
                return sign + (text if simple else f"({text})")
        if kind == "short" and degree == 2 and len(text) == 1:
            return "\\sqrt" + (text if text.isdigit() else f" {text}")
        if kind == "power":
            return f"{self.expression(inner, 3)}^{{1/{degree}}}"
        if kind == "name" and degree == 2:
            return f"sqrt({text})"
        return f"\\sqrt{'' if degree == 2 else f'[{degree}]'}{{{text}}}"

    def call(self, function: str, argument: Node, base: Node | None) -> str:
        name = f"\\{function}"
        if self.style.functions == "bare":
            name = function
        if self.style.functions == "mathrm":
            name = f"\\mathrm{{{function}}}"
        below = "" if base is None else f"_{{{self.expression(base, 0)}}}"
        if isinstance(argument, Number | Name | Degrees) and self.style.functions == "latex":
            return f"{name}{below} {self.expression(argument, 3)}"
        return f"{name}{below}{self.guarded(self.expression(argument, 0), True)}"

    def mixed(self, whole: int, top: int, bottom: int) -> str:
        kind = self.style.mixed
        if kind == "vulgar" and (top, bottom) in VULGAR:
            return f"{whole}{VULGAR[top, bottom]}"
        if kind == "slash":
            return f"{whole} {top}/{bottom}"
        if kind == "short" and top < 10 and bottom < 10:
            return f"{whole}\\frac{top}{bottom}"
        if kind in ("\\dfrac", "\\tfrac"):
            return f"{whole}{kind}{{{top}}}{{{bottom}}}"
        if kind == "spaced":
            return f"{whole}\\ \\frac{{{top}}}{{{bottom}}}"
        return f"{whole}\\frac{{{top}}}{{{bottom}}}"

    def scientific(self, mantissa: str, exponent: int) -> str:
        kind = self.style.scientific
        minus = self.style.minus if exponent < 0 else ""
        if kind in ("e", "E"):
            return f"{mantissa}{kind}{minus}{abs(exponent)}"
        return f"{mantissa}{kind}10{self.exponent(negative_number(exponent))}"

    def repeating(self, node: Repeating) -> str:
        kind = self.style.repeating
        head = f"{node.whole}.{node.plain}"
        if kind == "ldots":
            return head + (node.period * 6)[: max(6, 3 * len(node.period))] + "\\ldots"
        if kind == "parentheses":
            return f"{head}({node.period})"
        if kind == "dots":
            return (
                f"{head}\\dot{{{node.period}}}"
                if len(node.period) == 1
                else f"{head}\\overline{{{node.period}}}"
            )
        return f"{head}\\{kind}{{{node.period}}}"


_BASES = {2: "two", 5: "five", 8: "eight", 3: "three", 4: "four", 6: "six", 7: "seven", 9: "nine"}


def negative_number(value: int) -> Node:
    return Sum(((-1, Number(str(-value))),)) if value < 0 else Number(str(value))
