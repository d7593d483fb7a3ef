"""Trees of another worth than the gold's. ``suite`` keeps those that the oracle finds certainly different."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .context import Context
from .oracle import same
from .tree import (
    Based,
    Call,
    Choice,
    Clock,
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
    Power,
    Product,
    Quotient,
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
    whole,
)

Change = Callable[[Node, Context], list[Node]]


def _everywhere(change: Callable[[Node, Context], list[Node]]) -> Change:
    def everywhere(node: Node, context: Context) -> list[Node]:
        return variants(node, lambda x: change(x, context))

    return everywhere


# --- numbers ------------------------------------------------------------------------------------------------------


def _digit(x: Node, context: Context) -> list[Node]:
    digits = x.digits if isinstance(x, Number | Based) else x.mantissa if isinstance(x, Scientific) else ""
    places = [i for i, letter in enumerate(digits) if letter.isdigit()]
    if not places or (isinstance(x, Based) and not digits.isdigit()):
        return []
    place = context.random.choice(places)
    allowed = "0123456789"[: x.base] if isinstance(x, Based) else "0123456789"
    new = context.random.choice([d for d in allowed if d != digits[place]])
    changed = digits[:place] + new + digits[place + 1 :]
    if len(changed) > 1 and changed[0] == "0" and changed[1] != ".":
        return []
    return [replace(x, mantissa=changed) if isinstance(x, Scientific) else replace(x, digits=changed)]


def _neighbour(x: Node, context: Context) -> list[Node]:
    number = integer(x) if isinstance(x, Number) else None
    return [] if number is None else [whole(number + 1), whole(number - 1)]


def _digits_exchanged(x: Node, context: Context) -> list[Node]:
    if not isinstance(x, Number) or not x.digits.isdigit():
        return []
    d = x.digits
    swapped = [d[:i] + d[i + 1] + d[i] + d[i + 2 :] for i in range(len(d) - 1)]
    return [Number(s) for s in swapped if s[0] != "0"]


def _digit_lost_or_added(x: Node, context: Context) -> list[Node]:
    if not isinstance(x, Number) or not x.digits.isdigit() or x.digits == "0":
        return []
    found = [Number(x.digits + context.random.choice("0123456789"))]
    if len(x.digits) > 1:
        found.append(Number(x.digits[:-1]))
    return found


def _point_moved(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Scientific):
        return [
            replace(x, exponent=x.exponent + 1),
            replace(x, exponent=x.exponent - 1),
            replace(x, exponent=-x.exponent),
        ]
    if not isinstance(x, Number) or "." not in x.digits:
        return []
    head, _, tail = x.digits.partition(".")
    if not tail or not head.strip("0"):
        return []
    return [Number(f"{head}{tail[0]}.{tail[1:]}".rstrip(".")), Number(f"0.{head}{tail}")]


def _sign(node: Node, context: Context) -> list[Node]:
    def flip(x: Node) -> list[Node]:
        if isinstance(x, Sum):
            return [
                _without_plus(
                    Sum(tuple((-sign if i == j else sign, term) for j, (sign, term) in enumerate(x.terms)))
                )
                for i in range(len(x.terms))
            ]
        if isinstance(x, Power):
            return [replace(x, exponent=negative(x.exponent))]
        return []

    found = variants(node, flip)
    if is_expression(node):
        found.append(negative(node))
    if isinstance(node, Items):
        i = context.random.randrange(len(node.items))
        if is_expression(node.items[i]):
            found.append(_replace_item(node, i, negative(node.items[i])))
    return found


def _without_plus(node: Node) -> Node:
    if isinstance(node, Sum) and len(node.terms) == 1 and node.terms[0][0] > 0:
        return node.terms[0][1]
    return node


def _exponent(x: Node, context: Context) -> list[Node]:
    if not isinstance(x, Power):
        return []
    number = integer(x.exponent)
    if number is None:
        return [replace(x, exponent=Sum(((1, x.exponent), (1, Number("1")))))]
    return [
        x.base if number == 1 else replace(x, exponent=whole(number + 1)),
        replace(x, exponent=whole(number - 1)),
    ]


def _operator(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Quotient):
        return [Product((x.top, x.bottom))]
    if isinstance(x, Product) and len(x.factors) == 2:
        a, b = x.factors
        return [Sum(((1, a), (1, b))), Quotient(a, b)]
    if isinstance(x, Sum) and len(x.terms) == 2 and x.terms[0][0] > 0:
        return [Product((x.terms[0][1], x.terms[1][1]))]
    return []


def _upside_down(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Quotient):
        return [Quotient(x.bottom, x.top)]
    if isinstance(x, Mixed):
        return [Mixed(x.whole, x.bottom - x.top, x.bottom)]
    return []


def _root(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Root):
        return [x.inner, replace(x, degree=x.degree + 1)]
    return []


def _root_reaches_further(x: Node, context: Context) -> list[Node]:
    """3 sqrt(2) as sqrt(32): the digits stay, what the root covers changes; sqrt(a) + b as sqrt(a + b)."""
    if isinstance(x, Product) and len(x.factors) == 2 and isinstance(x.factors[1], Root):
        number, inner = integer(x.factors[0]), integer(x.factors[1].inner)
        if number is not None and inner is not None:
            return [Root(Number(f"{number}{inner}")), Root(Product((*x.factors[:1], x.factors[1].inner)))]
    if isinstance(x, Sum) and len(x.terms) == 2 and isinstance(x.terms[0][1], Root) and x.terms[0][0] > 0:
        return [Root(Sum(((1, x.terms[0][1].inner), x.terms[1])), x.terms[0][1].degree)]
    return []


def _function(x: Node, context: Context) -> list[Node]:
    other = {
        "sin": "cos",
        "cos": "sin",
        "tan": "cot",
        "cot": "tan",
        "sec": "csc",
        "ln": "exp",
        "sinh": "cosh",
    }
    if isinstance(x, Call) and x.function in other and x.base is None:
        return [
            replace(x, function=other[x.function]),
            replace(x, argument=Product((Number("2"), x.argument))),
        ]
    if isinstance(x, Call) and x.base is not None:
        return [replace(x, base=x.argument, argument=x.base)]
    if isinstance(x, Factorial):
        return [x.inner]
    return []


def _constant(x: Node, context: Context) -> list[Node]:
    """A factor pi or i, or another factor, lost or added. A letter behind a measured value may be its unit."""
    if context.measured:
        return []
    if isinstance(x, Product) and len(x.factors) > 1:
        shorter = [x.factors[:i] + x.factors[i + 1 :] for i in range(len(x.factors))]
        return [f[0] if len(f) == 1 else Product(f) for f in shorter]
    if isinstance(x, Name) and x.name in ("\\pi", "i"):
        return [Number("1"), Name({"\\pi": "e", "i": "\\pi"}[x.name])]
    return []


def _factor_added(node: Node, context: Context) -> list[Node]:
    if not is_expression(node) or integer(node) == 0 or context.measured:
        return []
    factor = context.random.choice([Number("2"), Name("\\pi"), Name("i"), Root(Number("2")), Name("x")])
    if isinstance(node, Number) and isinstance(factor, Number):
        return [whole((integer(node) or 0) * 2)] if integer(node) is not None else []
    if isinstance(node, Product | Power | Root | Name):
        return [Product((factor, node))]
    return [Product((node, factor))]


def _term(x: Node, context: Context) -> list[Node]:
    """A term lost or added."""
    if not isinstance(x, Sum) or len(x.terms) < 2:
        return []
    i = context.random.randrange(len(x.terms))
    left = x.terms[:i] + x.terms[i + 1 :]
    lost = left[0][1] if len(left) == 1 and left[0][0] > 0 else Sum(left)
    return [lost, Sum((*x.terms, (1, Number("1"))))]


def _letter(node: Node, context: Context) -> list[Node]:
    """Another variable, where the question speaks of the right one alone; two variables exchanged."""
    used = sorted(x for x in names(node) if len(x) == 1)
    if isinstance(node, Named) or not used or context.measured:
        return []
    found = []
    if len(used) > 1:
        a, b = context.random.sample(used, 2)
        found.append(_renamed(node, {a: b, b: a}))
    formulas = context.question.split("$")[1::2]
    unused = [
        x for x in ("m", "t", "y", "q") if x not in used and not any(x in formula for formula in formulas)
    ]
    if unused and used[0] in formulas:
        found.append(_renamed(node, {used[0]: unused[0]}))
    return found


def _renamed(node: Node, mapping: dict[str, str]) -> Node:
    from dataclasses import fields

    if isinstance(node, Name):
        return Name(mapping.get(node.name, node.name))
    values = {}
    for field in fields(node):
        values[field.name] = _renamed_value(getattr(node, field.name), mapping)
    return type(node)(**values)


def _renamed_value(value: object, mapping: dict[str, str]) -> object:
    if isinstance(value, Node):
        return _renamed(value, mapping)
    if isinstance(value, tuple):
        return tuple(_renamed_value(x, mapping) for x in value)
    return value


# --- containers ---------------------------------------------------------------------------------------------------


def _replace_item(node: Items, i: int, item: Node) -> Node:
    return replace(node, items=(*node.items[:i], item, *node.items[i + 1 :]))


def _dropped(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Items) and len(x.items) > 1 and x.kind not in ("ratio",):
        i = context.random.randrange(len(x.items))
        rest = x.items[:i] + x.items[i + 1 :]
        return [rest[0] if len(rest) == 1 else replace(x, items=rest)]
    if isinstance(x, Union):
        i = context.random.randrange(len(x.parts))
        rest = x.parts[:i] + x.parts[i + 1 :]
        return [rest[0] if len(rest) == 1 else Union(rest)]
    return []


def _among(new: Node, items: tuple[Node, ...]) -> bool:
    """Whether a list already says this value; saying it twice is no other answer."""
    return any(is_expression(item) and same(new, item) for item in items)


def _added(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Items) and x.kind in ("list", "set", "tuple") and is_expression(x.items[0]):
        proposals = [whole(context.random.choice((0, 1, 4, 7, 11, -3, 25))) for _ in range(4)]
        return [replace(x, items=(*x.items, new)) for new in proposals if not _among(new, x.items)]
    return []


def _exchanged(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Items) and x.kind in ("tuple", "ratio"):
        return [replace(x, items=x.items[::-1])]
    if isinstance(x, Matrix):
        found: list[Node] = [Matrix(x.rows[::-1])]
        if len(x.rows) == len(x.rows[0]):
            found.append(Matrix(tuple(zip(*x.rows, strict=True))))
        return found
    if isinstance(x, Items) and all(isinstance(y, Named) for y in x.items) and len(x.items) > 1:
        inner = [y.inner for y in x.items if isinstance(y, Named)]
        renamed = zip(x.items, inner[1:] + inner[:1], strict=True)
        return [replace(x, items=tuple(replace(y, inner=z) for y, z in renamed if isinstance(y, Named)))]
    return []


def _end(x: Node, context: Context) -> list[Node]:
    """An end of an interval open instead of closed, or the other way round, or at the other side of 0."""
    if not isinstance(x, Interval):
        return []
    found: list[Node] = []
    if "infty" not in repr(x.low):
        found += [replace(x, left="(" if x.left == "[" else "["), replace(x, low=negative(x.low))]
        found.append(replace(x, low=negative(Name("\\infty")), left="("))
    if "infty" not in repr(x.high):
        found += [
            replace(x, right=")" if x.right == "]" else "]"),
            replace(x, high=Name("\\infty"), right=")"),
        ]
    if "infty" in repr(x.high) and "infty" not in repr(x.low):
        found.append(Interval("(", negative(Name("\\infty")), x.low, "]" if x.left == "[" else ")"))
    return found


def _base(x: Node, context: Context) -> list[Node]:
    if not isinstance(x, Based) or not x.digits.isdigit():
        return []
    highest = int(max(x.digits))
    bases = [b for b in range(max(2, highest + 1), 17) if b not in (x.base, 10)]
    decimal = str(int(x.digits, x.base))
    found: list[Node] = [replace(x, base=context.random.choice(bases))]
    return found if decimal == x.digits else [*found, Number(decimal)]  # the base may be left out


def _half_of_day(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Clock):
        other = replace(x, half="a" if x.half == "p" else "p")
        return [other, replace(x, hour=x.hour % 12 + 1), replace(x, minute=((x.minute or 0) + 15) % 60)]
    return []


def _choice(x: Node, context: Context) -> list[Node]:
    if isinstance(x, Choice):
        return [Choice(context.random.choice([letter for letter in "ABCDE" if letter != x.letter]))]
    return []


_WORDS = (
    ("even", "odd", "neither"), ("ellipse", "circle", "parabola", "hyperbola", "line"),
    ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"), ("east", "west",
    "north", "south"),
    ("Evelyn", "Carla", "Angela", "Briana", "Dana", "Navin", "Devon"), ("yes", "no"), ("true", "false"),
)  # fmt: skip


def _word(x: Node, context: Context) -> list[Node]:
    if not isinstance(x, Words):
        return []
    for group in _WORDS:
        if x.text in group:
            return [Words(context.random.choice([w for w in group if w != x.text]))]
    return []


def _unit(node: Node, context: Context) -> list[Node]:
    """Another unit of the same kind: dollars for cents."""
    pairs = (("cents", "dollars"), ("inches", "feet"), ("feet", "inches"), ("meters", "centimeters"),
    ("hours", "minutes"),
             ("minutes", "hours"), ("cm", "m"), ("ft", "miles"), ("square inches", "square feet"),
             ("dollars", "cents"),
             ("km", "cm"), ("pounds", "ounces"), ("mph", "feet per hour"))  # fmt: skip
    if not isinstance(node, Marked):
        return []
    if node.mark == "money":
        return [Marked("unit", node.inner, "\\text{ cents}")]
    for unit, other in pairs:
        if context.random.random() < 2 and f"{{{unit}}}" in node.unit.replace("{ ", "{").replace(" }", "}"):
            return [Marked("unit", node.inner, f"\\text{{ {other}}}")]
    return []


CHANGES: dict[str, Change] = {
    "a digit": _everywhere(_digit),
    "a neighbour": _everywhere(_neighbour),
    "digits exchanged": _everywhere(_digits_exchanged),
    "a digit lost or added": _everywhere(_digit_lost_or_added),
    "the decimal point": _everywhere(_point_moved),
    "a sign": _sign,
    "an exponent": _everywhere(_exponent),
    "an operator": _everywhere(_operator),
    "upside down": _everywhere(_upside_down),
    "a root": _everywhere(_root),
    "what a root covers": _everywhere(_root_reaches_further),
    "a function": _everywhere(_function),
    "a factor lost": _everywhere(_constant),
    "a factor added": _factor_added,
    "a term": _everywhere(_term),
    "another letter": _letter,
    "a value dropped": _everywhere(_dropped),
    "a value added": _everywhere(_added),
    "values exchanged": _everywhere(_exchanged),
    "an interval's end": _everywhere(_end),
    "another base": _everywhere(_base),
    "am, pm": _everywhere(_half_of_day),
    "another choice": _everywhere(_choice),
    "another word": _everywhere(_word),
    "another unit": _unit,
}
