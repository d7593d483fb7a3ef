r"""Mathematics as the Qwen2.5-Math evaluation harness judges it, faults included (``--mode paper``).

Published numbers of Qwen2.5-Math and of the many reinforcement-learning papers that took over its evaluation
folder come from this grader, so comparability needs its verdicts, not better ones. Written anew from the behaviour of
QwenLM/Qwen2.5-Math ``evaluation/parser.py`` and ``evaluation/grader.py`` (MIT). Its known faults are kept: an answer
counts at gold/100 and gold·100, numbers match within a relative 1e-4, unit words vanish anywhere in the answer,
``4.5\times10^{33}`` never matches a gold ``4.5e33``.

One thing differs on purpose. The reference parses what LaTeX parsing rejects with SymPy's ``parse_expr``, which
executes the text; here only the two LaTeX parsers are asked. Answers that would take forever are refused beforehand
(``guard.too_heavy``); the reference's three-second limit calls them wrong as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isclose
from typing import Any

from cipo_eval.verifiers.math.guard import too_heavy
from cipo_eval.verifiers.math.wordnumber import word_to_number

KEEPS_UNITS = frozenset({"minerva_math", "carp_en"})
"""Data sets whose answers keep their unit words in the reference."""

FORK_DATA = frozenset({"math500"})
"""Data sets that only forks of the harness know. SkyThought's (Apache-2.0), which published MATH-500 runs come
from, adds to the normal form: lists of integers are sorted, and a square on ``cm`` or ``inches`` vanishes.
``options["harness"]`` (``qwen`` or ``skythought``) chooses explicitly."""

RELATIVE_TOLERANCE = 1e-4
"""By which numbers may differ in the reference (Python's ``math.isclose``), as a share of the larger one."""

SECONDS = 3.0
"""After which the reference gives up on an answer, and calls it wrong: here of processor time in place of wall time, so
that a busy machine gives the same verdicts."""

MAX_LENGTH = 5000
"""Longer answers (boxes that never close) are wrong; some patterns below take quadratic time."""

# Nouns and abbreviations that the reference deletes, in its order (an earlier one may uncover a later one);
# ``.`` is a wildcard there, because the words are used as patterns. The plural of each follows after all singulars.
_UNIT_WORDS_TEXT = (
    "east|degree|mph|kmph|ft|m sqaure| m east|sq m|deg|mile|q .|monkey|prime|ratio|profit of rs|rd|o|gm|p . m|"
    "lb|tile|per|dm|lt|gain|ab|way|west|a .|b .|c .|d .|e .|f .|g .|h .|t|a|h|no change|men|soldier|pie|bc|"
    "excess|st|inches|noon|percent|by|gal|kmh|c|acre|rise|a . m|th|π r 2|sq|mark|l|toy|coin|sq . m|gallon|° f|"
    "profit|minw|yr|women|feet|am|pm|hr|cu cm|square|v â € ™|are|rupee|rounds|cubic|cc|mtr|s|ohm|number|kmph|"
    "day|hour|minute|min|second|man|woman|sec|cube|mt|sq inch|mp|∏ cm ³|hectare|more|sec|unit|cu . m|cm 2|"
    "rs .|rs|kg|g|month|km|m|cm|mm|apple|liter|loss|yard|pure|year|increase|decrease|d|less|Surface|litre|"
    "pi sq m|s .|metre|meter|inch"
)
_UNIT_WORDS = _UNIT_WORDS_TEXT.split("|")

_LAST_NUMBER = re.compile(r"-?\d*\.?\d+")
_VARIABLE_PREFIXES = ("x=", "y=", "z=", "x\\in", "y\\in", "z\\in", "x\\to", "y\\to", "z\\to")


# --- extraction ---------------------------------------------------------------------------------------------------


def extract(text: str) -> tuple[str, str]:
    """The answer in ``text`` and the rule that found it; the answer is ``""`` where the reference finds none.

    Not yet normalised (``normalise`` does that in the worker): this runs in the parent and is linear in ``text``.
    """
    text = text.replace("ки", "")  # Qwen2.5 base models emit this syllable at times; the reference deletes it
    answer, how = _find(text)
    answer = re.sub(r"\n\s*", "", answer)
    answer = answer.removeprefix(":").removesuffix(".").removesuffix("/")
    return answer, how


def _find(text: str) -> tuple[str, str]:
    if "final answer is $" in text and "$. I hope" in text:
        after = text.split("final answer is $", 1)[1]
        return after.split("$. I hope", 1)[0].strip(), "final_answer"
    if "boxed" in text:
        return _after_last_boxed(text), "boxed"
    for phrase in ("he answer is", "final answer is"):
        if phrase in text:
            return text.rsplit(phrase, 1)[1].strip(), "answer_is"
    if "答案是" in text:
        return text.split("答案是")[1].strip().split("\n\n")[0].strip(), "answer_is"
    last = ""
    for match in _LAST_NUMBER.finditer(text.replace(",", "")):
        last = match.group()
    return last, "last_number"


def _after_last_boxed(text: str) -> str:
    """What follows the last ``boxed``: its braces' content (to the end of the text where they never close), or all up
    to the next dollar sign where there are no braces.
    """
    rest = text.rsplit("boxed", 1)[1]
    if not rest.startswith("{"):
        return rest.split("$", 1)[0].strip()
    depth = 0
    for match in re.finditer(r"[{}]", rest):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return rest[1 : match.start()]
    return rest[1:]


# --- normal form --------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _unit_patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    """(literal beginning, pattern) per unit word; the literal spares most of the searches."""
    words = [*_UNIT_WORDS, *(word + "s" for word in _UNIT_WORDS)]
    return tuple((word.split(".")[0], re.compile(r"(^|\W)" + word + r"($|\W)")) for word in words)


def _strip_units(text: str) -> str:
    for _ in range(2):
        for literal, pattern in _unit_patterns():
            if literal in text:
                text = pattern.sub(r"\1\2", text) or text
    return text


def _brace_fractions(text: str) -> str:
    r"""``\frac12`` → ``\frac{1}{2}`` character by character; a cut-off ``\frac`` leaves everything as it was."""
    first, *rest = text.split("\\frac")
    parts = [first]
    for piece in rest:
        if piece.startswith("{"):
            parts.append(piece)
        elif len(piece) < 2:
            return text
        elif piece[1] == "{":
            parts.append("{" + piece[0] + "}" + piece[1:])
        else:
            parts.append("{" + piece[0] + "}{" + piece[1] + "}" + piece[2:])
    return "\\frac".join(parts)


def _slash_fraction(text: str) -> str:
    r"""``a/b`` → ``\frac{a}{b}`` for plain integers, or sides that mention ``sqrt``."""
    sides = text.split("/")
    if len(sides) != 2:
        return text
    try:
        parts = [side if "sqrt" in side else str(int(side)) for side in sides]
    except ValueError:
        return text
    return "\\frac{" + parts[0] + "}{" + parts[1] + "}" if text == "/".join(parts) else text


def _drop_zero_decimals(text: str) -> str:
    # the look-behind changes no match: it spares a search from every digit of a long run
    text = re.sub(r"(?<!\d)(\d+)\.0*([^\d])", r"\1\2", text)
    return re.sub(r"(?<!\d)(\d+)\.0*$", r"\1", text)


def _strip_layout(text: str, fork: bool) -> str:
    """Line breaks, sizes, matrix and fraction variants, a trailing text unit."""
    text = text.strip().replace("\n", "").rstrip(".").replace("\\!", "")
    text = re.sub(r"\\begin\{array\}\{.*?\}", r"\\begin{pmatrix}", text)
    text = re.sub(r"\\end\{array\}", r"\\end{pmatrix}", text)
    for old, new in (
        ("bmatrix", "pmatrix"),
        ("tfrac", "frac"),
        ("dfrac", "frac"),
        ("\\neq", "\\ne"),
        ("\\leq", "\\le"),
        ("\\geq", "\\ge"),
        ("\\left", ""),
        ("\\right", ""),
        ("\\{", "{"),
        ("\\}", "}"),
    ):
        text = text.replace(old, new)
    if fork:
        text = re.sub(r"\\text\{([a-zA-Z]+)\}", _worded_number, text)
        text = re.sub(r"(cm|inches)\}\^2", r"\1}", text)
    return re.sub(r"\\text{.*?}$", "", text).strip() or text


def _worded_number(match: re.Match[str]) -> str:
    word = match[1].lower()
    number = word_to_number(word)
    return match[0] if number == word else number


def _sort_integers(text: str) -> str:
    """A list of integers in ascending order; so a thousands separator makes a number a list of two."""
    text = re.sub(r"\\(?=-?\d+(\\|\)|,|\]|$))", "", text).removesuffix("thgrade")
    if re.fullmatch(r"-?\d+(?:,-?\d+)*", text):
        return ",".join(str(number) for number in sorted(int(item) for item in text.split(",")))
    return text


def normalise(text: str, *, keep_units: bool = False, fork: bool = False) -> str:
    """The reference's normal form of an answer (its ``strip_string``), with SkyThought's additions where ``fork``."""
    text = _strip_layout(text, fork)
    if not keep_units:
        text = _strip_units(text)
    for old in ("^{\\circ}", "^\\circ", "\\$", "$", "\\(", "\\)"):
        text = text.replace(old, "")
    text = word_to_number(text)
    text = re.sub(r"\\text\{(.*?)\}", r"\1", text)
    for prefix in _VARIABLE_PREFIXES:
        text = text.replace(prefix, "")
    text = text.replace("\\emptyset", "{}").replace("(-\\infty,\\infty)", "\\mathbb{R}")
    text = text.replace("\\%", "").replace("%", "").replace(" .", " 0.").replace("{.", "{0.")
    text = text.replace("infinity", "\\infty")
    if "\\infty" not in text:
        text = text.replace("inf", "\\infty")
    text = text.replace("+\\inity", "\\infty").replace("and", "").replace("\\mathbf", "")
    text = re.sub(r"\\mbox{.*?}", "", text)
    if "j" in text and "i" not in text:
        text = text.replace("j", "i")
    text = _drop_zero_decimals(text)
    if not text:
        return text
    if text[0] == ".":
        text = "0" + text
    sides = text.split("=")
    if len(sides) == 2 and len(sides[0]) <= 2:
        text = sides[1]
    text = re.sub(r"\\sqrt(\w+)", r"\\sqrt{\1}", text).replace(" ", "")
    text = _slash_fraction(_brace_fractions(text))
    return _sort_integers(text) if fork else text


@lru_cache(maxsize=4096)
def normalise_gold(gold: str, reference: str | None, fork: bool) -> str:
    """The gold as the reference stores it; Minerva's keeps its layout except for three relation signs."""
    if reference == "olympiadbench":
        gold = gold.strip("$")
    keep = reference in KEEPS_UNITS
    gold = normalise(gold, keep_units=keep, fork=fork)
    if keep:
        return gold.replace("\\neq", "\\ne").replace("\\leq", "\\le").replace("\\geq", "\\ge")
    return normalise(gold, fork=fork)


# --- equality -----------------------------------------------------------------------------------------------------


def grade(gold: str, answer: str, options: Mapping[str, Any]) -> tuple[bool, str, str]:
    """(correct, normal form of the answer, rule) for a raw gold and an extracted answer."""
    if len(answer) > MAX_LENGTH:
        return False, answer[:MAX_LENGTH], "paper:too_long"
    reference = options.get("reference")
    keep = reference in KEEPS_UNITS
    fork = options.get("harness", "skythought" if reference in FORK_DATA else "qwen") == "skythought"
    gold_text = normalise_gold(gold, reference, fork)
    # Twice, as in the reference: once when it extracts and once more before it compares.
    answer_text = normalise(normalise(answer, keep_units=keep, fork=fork), keep_units=keep, fork=fork)
    correct, rule = equal(answer_text, gold_text)
    return correct, answer_text, f"paper:{rule}"


def _number(text: str) -> float | None:
    text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        pass
    if not text.endswith("%"):
        return None
    try:
        return float(text[:-1].removesuffix("\\")) / 100
    except ValueError:
        return None


def _close(answer: float, gold: float) -> bool:
    return isclose(gold, answer, rel_tol=RELATIVE_TOLERANCE)


def _choice(text: str) -> str:
    """The last stand-alone letter A–E of an answer."""
    text = text.strip("\n").rstrip(".").rstrip("/").strip(" ").lstrip(":")
    letters = re.findall(r"\b(A|B|C|D|E)\b", text.upper())
    return (letters[-1] if letters else text.strip().strip(".")).rstrip(".").rstrip("/")


def equal(answer: str, gold: str) -> tuple[bool, str]:
    """(verdict, rule) for two normal forms (the reference's ``math_equal``)."""
    if answer.strip().lower() == gold.strip().lower():
        return True, "string"
    if gold in ("A", "B", "C", "D", "E") and _choice(answer) == gold:
        return True, "choice"
    numbers = _number(answer), _number(gold)
    if numbers[0] is not None and numbers[1] is not None:
        return any(
            _close(numbers[0], item) for item in (numbers[1] / 100, numbers[1], numbers[1] * 100)
        ), "number"
    if not answer:
        return False, "empty"
    answer, gold = answer.strip(), gold.strip()
    if "pmatrix" in answer and "pmatrix" not in gold:
        gold = _set_to_matrix(gold)
    if _bare(answer, gold):
        return True, "brackets"
    for rule, test in (("list", _lists_equal), ("matrix", _matrices_equal), ("equation", _equations_equal)):
        if test(answer, gold):
            return True, rule
    return symbolic_equal(answer, gold), "symbolic"


def _set_to_matrix(text: str) -> str:
    """A brace-enclosed list as the (one-line) matrix that the reference makes of it."""
    sets = re.findall(r"\{.*,.*\}", text)
    return ", ".join("\\begin{pmatrix}" + m.strip("{}").replace(",", "\\") + "\\end{pmatrix}" for m in sets)


def _bare(answer: str, gold: str) -> bool:
    """Equal when brackets are disregarded; square ones only where they do not stand against round ones."""
    square = answer.startswith("[") and answer.endswith("]") and not gold.startswith("(")
    round_ = answer.startswith("(") and answer.endswith(")") and not gold.startswith("[")
    if square or round_:
        answer, gold = answer.strip("[]()"), gold.strip("[]()")
    drop = str.maketrans("", "", "{}()")
    return answer.translate(drop).lower() == gold.translate(drop).lower()


def _all_equal(answer: list[str], gold: list[str]) -> bool:
    return len(answer) == len(gold) and all(equal(a, b)[0] for a, b in zip(answer, gold, strict=True))


def _lists_equal(answer: str, gold: str) -> bool:
    """Tuples and intervals element by element; which bracket closes them does not matter."""
    if not all(re.match(r"(\(|\[).+(\)|\])", text) for text in (answer, gold)):
        return False
    return _all_equal(answer[1:-1].split(","), gold[1:-1].split(","))


_MATRIX_BEGIN, _MATRIX_END = "\\begin{pmatrix}", "\\end{pmatrix}"


def _matrices_equal(answer: str, gold: str) -> bool:
    if not all(text.startswith(_MATRIX_BEGIN) and text.endswith(_MATRIX_END) for text in (answer, gold)):
        return False
    rows = []
    for text in (answer, gold):
        lines = text[len(_MATRIX_BEGIN) : -len(_MATRIX_END)].split("\\\\")
        rows.append([line.strip() for line in lines if line.strip()])
    if len(rows[0]) != len(rows[1]):
        return False
    return all(_all_equal(a.split("&"), b.split("&")) for a, b in zip(*rows, strict=True))


def _equations_equal(answer: str, gold: str) -> bool:
    """Two equations up to sign, or a value against an assignment to a short name."""
    left, right = answer.split("="), gold.split("=")
    if len(left) == 2 and len(right) == 2:
        a, b = (f"{sides[0].strip()} - ({sides[1].strip()})" for sides in (left, right))
        return symbolic_equal(a, b) or symbolic_equal(f"-({a})", b)
    if len(left) == 2 and len(right) == 1 and len(left[0].strip()) <= 2:
        return equal(left[1], gold)[0]
    if len(right) == 2 and len(left) == 1 and len(right[0].strip()) <= 2:
        return equal(answer, right[1])[0]
    return False


# --- symbolic equality --------------------------------------------------------------------------------------------


def _parse(text: str) -> Any:
    """A SymPy object, or None: SymPy's lax LaTeX parser first, then latex2sympy, as in the reference."""
    from latex2sympy2_extended.latex2sympy2 import latex2sympy
    from sympy import Basic, MatrixBase, Set
    from sympy.parsing.latex import parse_latex

    parsers: tuple[Callable[[str], Any], ...] = (parse_latex, latex2sympy)
    for parser in parsers:
        for version in (text.replace("\\\\", "\\"), text):
            try:
                parsed = parser(version)
            except Exception:
                continue
            # Today's latex2sympy reads "(1,2),(3,4)" as a set, without order; the reference's had no sets.
            if isinstance(parsed, Basic | MatrixBase) and not isinstance(parsed, Set):
                return parsed
    return None


def _holds(test: Callable[[], Any]) -> bool:
    """Whether ``test`` gives a true value; what SymPy cannot do counts as no, as in the reference."""
    try:
        return bool(test())
    except Exception:
        return False


def symbolic_equal(answer: str, gold: str) -> bool:
    """Equality of two LaTeX expressions: structural, by simplification, as equations, to 1e-4, or cell by cell to
    1e-3.

    Both are SymPy objects before they are compared: SymPy would execute a string that it is asked to compare with.
    """
    read = answer.replace("\\\\", "\\")  # what ``_parse`` tries first
    if too_heavy(answer, gold) or too_heavy(read, gold) or too_heavy(gold, gold):
        return False
    a, b = _parse(answer), _parse(gold)
    if a is None or b is None:
        return False
    from sympy import N, simplify

    def rounded(matrix: Any) -> Any:
        return matrix.applyfunc(lambda x: round(x, 3))

    return (
        _holds(lambda: str(a) == str(b) or a == b)
        or _holds(lambda: a.equals(b) or simplify(a - b) == 0)
        or _holds(lambda: abs(a.lhs - a.rhs).equals(abs(b.lhs - b.rhs)))
        or _holds(lambda: _close(float(N(a)), float(N(b))))
        or _holds(lambda: a.shape == b.shape and rounded(a).equals(rounded(b)))
    )
