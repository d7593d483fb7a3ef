r"""Words among mathematics: what may be dropped from an answer, what counts, and what makes it none.

A side condition (``12 when x = 3``) is split off, a unit is kept beside its value, number words multiply, connectives
become commas. What negates (``does not exist``), hedges (``at least 5``) or computes (``5 squared``) is never dropped:
such an answer is refused, so that nothing but the same text can be equal to it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from cipo_eval.verifiers.math.algebra import UndecidedError
from cipo_eval.verifiers.math.latex import CLOSE, OPEN, clean, split_top
from cipo_eval.verifiers.math.units import measure
from cipo_eval.verifiers.math.wordnumber import in_words


class RefusedError(Exception):
    """The words of an answer say something else than its formulas alone."""


class Statement(NamedTuple):
    """An answer with its side condition apart."""

    text: str
    condition: str


_BLOCK = re.compile(f"{OPEN}([^{CLOSE}]*){CLOSE}")
_NEGATED = re.compile(
    r"\b(?:not|no|none|never|neither|nor|cannot|excluded|excludes|can't|isn't|aren't|doesn't|don't|undefined|impossible|unless|except|"
    r"excluding|otherwise|else|false|incorrect|wrong|unknown|undetermined|diverges|without|nonexistent|fails?|failed|rather|instead|but|"
    r"rejected|rejecting|reject|invalid|extraneous|discarded?|ruled out|too (?:small|large|big|high|low|few|many))\b",
    re.IGNORECASE,
)
_HEDGED = re.compile(
    r"\b(?:at (?:least|most)|(?:less|more|greater|fewer|smaller|larger|bigger|higher|lower) than|"
    r"or (?:more|less|fewer|greater)|"
    r"up to|between|(?:lower|upper) (?:bound|limit)|either|any number|squared|cubed|factorial|halves|"
    r"thirds|fifths|tenths|hundredths|"
    r"plus|minus|divided|multiplied|to the power|choose|guess|more|less|fewer)\b",
    re.IGNORECASE,
)
_COMPUTING = re.compile(
    rf"{OPEN}[^{CLOSE}]*\b(?:twice|thrice|half|double|triple|(?:square|cube) root)(?:\s+(?:of|the|as|much|"
    rf"many))*\s*{CLOSE}\s*[\d\\(]",
    re.IGNORECASE,
)
_ASIDE = re.compile(rf"\s*\(\s*{OPEN}([^{CLOSE}]*){CLOSE}\s*\)\s*$")
_CONDITION = re.compile(
    r"[\s,]*(?:(?:is|are|which is|it is|and is)\s+)?(?:attained|achieved|reached|occurring|occurs|"
    r"obtained|valid|holds|true|only)?\s*"
    r"\b(?:where|when|whenever|if|iff|for|at|with|provided|given|such that|subject to|assuming|as long as|"
    r"while|because|since|as)\b",
    re.IGNORECASE,
)
_CONNECTIVE = re.compile(
    r"(?:^|(?<=[\s,]))(?:and|or|as well as|and also|along with|or else|,)(?=[\s,]|$)", re.IGNORECASE
)
_JOINS = re.compile(rf"{OPEN}\s*(?:and|or)\s*{CLOSE}\s*$", re.IGNORECASE)
_SCALES = {
    "hundred": "*10^{2}", "thousand": "*10^{3}", "million": "*10^{6}", "billion": "*10^{9}", "trillion": "*10^{12}",
    "dozen": "*12",
}  # fmt: skip
_SCALED = re.compile(
    rf"(\d[\d,]*\.?\d*|\.\d+)\s*{OPEN}\s*(hundred|thousand|million|billion|trillion|dozen)s?\b(?:\s+of\b)?\s*([^{CLOSE}]*){CLOSE}",
    re.IGNORECASE,
)
_RATIO = re.compile(rf"(\d)\s*{OPEN}\s*((?:is\s+)?to|out of|in)\s*{CLOSE}\s*(?=\d)")
_REMARK = re.compile(
    rf"\s*,\s*{OPEN}\s*(?:as (?:required|desired|claimed|expected|needed|wanted|stated|shown|above|before)|"
    rf"Q\.?E\.?D\.?|done|"
    rf"exactly|respectively|only|indeed|in simplest form|in total)\s*{CLOSE}\s*$",
    re.IGNORECASE,
)
_LEADING = re.compile(
    r"(?:approximately|about|around|roughly|approx\.?|nearly|exactly|precisely|simply|only|just|all|any|every|each|"
    r"(?:real|positive|negative|non-?negative|natural|whole)?\s*(?:numbers?|integers?|values?|reals?|points?)(?:\s+of)?|"
    r"thus|so|hence|therefore|then|we (?:get|have|find|obtain)|it (?:is|equals)|answer|option|choice|so,|"
    r"the|Rs\.?|USD|EUR|US)"
    r"(?:\s+(?:the|all|real|positive|natural|whole)?\s*(?:numbers?|integers?|values?|reals?|points?|answer|is|of))*",
    re.IGNORECASE,
)
_STATED = re.compile(
    r"[A-Za-z'’,\s-]{2,80}\b(?:is|are|equals|be|was|get|gives|becomes)(?:\s+(?:thus|exactly|about|"
    r"approximately|simply|the|equal to))?",
    re.IGNORECASE,
)
_SIGNED = re.compile(rf"^\s*{OPEN}\s*(?:minus|negative)\s*{CLOSE}\s*(?=[\d\\.])", re.IGNORECASE)
_INTEGERS = re.compile(
    r"\\mathbb\s*\{?\s*Z|\\in\s*Z\b|\binteger|\\mathbf\{Z|\\Z\b|whole number", re.IGNORECASE
)
_GENERAL = re.compile(r"\b(?:all|any|every|arbitrary|some|constants?|each)\b", re.IGNORECASE)
_MEMBERSHIP = re.compile(
    r"\(?\s*(?:\\forall\s*|\\quad\s*)?[A-Za-z](?:_\{?\w\}?)?(?:\s*,\s*[A-Za-z](?:_\{?\w\}?)?)*\s*\\in(?![A-Za-z]).+",
    re.DOTALL,
)
_REALS = re.compile(r"([A-Za-z])\s*\\in\s*\\mathbb\s*\{?\s*R\s*\}?")
_SIDE_RELATION = re.compile(
    r"\(?\s*([A-Za-z](?:_\{?\w\}?)?|\\[a-z]+)\s*(?:<=|>=|<|>|\\le\b|\\ge\b|\\ne\b|\\not|!=).+", re.DOTALL
)


def text_of(text: str) -> str:
    """All words of a cleaned answer."""
    return " ".join(_BLOCK.findall(text))


def only_words(text: str) -> bool:
    """Whether there is nothing but words."""
    return OPEN in text and not re.search(r"[A-Za-z0-9\\]", _BLOCK.sub("", text))


def plain(text: str) -> str:
    """A cleaned answer without the marks of its words."""
    return text.replace(OPEN, " ").replace(CLOSE, " ")


def statement(text: str) -> Statement:
    """Splits the side condition off and turns connectives, number words and ratios into signs. Raises
    ``RefusedError`` where the words change what the formulas say."""
    text, condition = _without_condition(text)
    if OPEN not in text:
        return Statement(text, condition)
    text = _SIGNED.sub("-", text)
    words = text_of(text)
    if _NEGATED.search(words):
        raise RefusedError
    if _COMPUTING.search(text) or _HEDGED.search(words):
        raise RefusedError
    text = _ASIDE.sub("", text) if _has_value(_ASIDE.sub("", text)) else text
    text = _BLOCK.sub(_connected, text)
    text = re.sub(r"(?:\s*,)+(\s*,)", r"\1", text).strip(" ,")
    text = _REMARK.sub("", text)
    text = _RATIO.sub(lambda m: f"{m[1]}{':' if m[2].endswith('to') else '/'}", text)
    text = _SCALED.sub(
        lambda m: (
            f"{m[1].replace(',', '')}{_SCALES[m[2].lower()]}"
            + (f" {OPEN}{m[3]}{CLOSE}" if m[3].strip() else "")
        ),
        text,
    )
    return Statement(text, condition)


def _connected(match: re.Match[str]) -> str:
    """Words with their connectives as commas."""
    content = match[1]
    pieces = _CONNECTIVE.split(content)
    if len(pieces) == 1:
        return match[0]
    return ",".join(f" {OPEN}{piece.strip(' ,')}{CLOSE} " if piece.strip(" ,") else " " for piece in pieces)


def _without_condition(text: str) -> tuple[str, str]:
    """The value and what follows "when", "for", "where" …, or a trailing membership such as k ∈ ℤ."""
    depth = 0
    for match in re.finditer(f"{OPEN}([^{CLOSE}]*){CLOSE}|[(\\[{{]|[)\\]}}]", text):
        if match[1] is None:
            depth += 1 if match[0] in "([{" else -1
            continue
        condition = _CONDITION.search(match[1])
        if condition and re.match(
            r"at (?:least|most)\b", match[1][condition.start() :].lstrip(" ,"), re.IGNORECASE
        ):
            raise RefusedError
        if depth > 1 or not condition or not _has_value(text[: match.start()]):
            continue
        before = match[1][: condition.start()].strip(" ,")
        if before and (_NEGATED.search(before) or _HEDGED.search(before)):
            raise RefusedError
        if depth == 1 and text[: match.start()].rstrip()[-1:] != "(":
            continue
        head = text[: match.start()].rstrip(" ,(")
        if before:
            head += f" {OPEN}{before}{CLOSE}"
        rest = f"{OPEN}{match[1][condition.start() :]}{CLOSE}{text[match.end() :]}"
        behind = match[1][condition.end() :] + text[match.end() :]
        if _JOINS.search(head) and not re.search("[A-Za-z0-9]", behind):
            raise RefusedError  # "f and if": no condition, but a second value that looks like one
        if depth == 1:
            rest = rest.rstrip(" )")
        _check_condition(rest)
        return head, rest
    return _without_membership(text)


def _has_value(text: str) -> bool:
    return bool(re.search(r"[A-Za-z0-9\\]", _BLOCK.sub("", text)))


def _check_condition(rest: str) -> None:
    """A condition must not hold a second value with a condition of its own, or a denial of the first."""
    words = text_of(rest)
    if re.search(r"\b(?:otherwise|else|unless|except|but)\b", words, re.IGNORECASE):
        raise RefusedError
    if re.search(r"\b(?:no|not|never|none)\b", words, re.IGNORECASE) and not re.search(
        r"not (?:necessarily|all|divisible)", words, re.IGNORECASE
    ):
        raise RefusedError
    if ";" in rest or len(re.findall(r"\b(?:where|when|whenever|if|for|at)\b", words)) > 1:
        raise RefusedError
    joined = _BLOCK.sub(lambda m: "," if m[1].strip().lower() in ("and", "or") else m[0], rest)
    try:
        pieces = split_top(joined, ",")
    except UndecidedError:
        raise RefusedError from None
    for piece in pieces:
        bare = _BLOCK.sub("", piece).strip(" .")
        if (
            bare
            and not re.search(r"[=<>]|\\(?:le|ge|in|ne|equiv|to|mid|approx)(?![A-Za-z])", bare)
            and not re.fullmatch(r"[A-Za-z](?:_\{?\w\}?)?|\.\.\.", bare)
            and "..." not in rest
            and not (len(pieces) == 1 and re.search("[A-Za-z]", bare))
        ):
            raise RefusedError


def _without_membership(text: str) -> tuple[str, str]:
    r"""``k\pi, k \in \mathbb{Z}`` and ``2x, x > 0``: a trailing part that says which variables are meant."""
    if (
        "\\in" not in text
        and "<" not in text
        and ">" not in text
        and "\\le" not in text
        and "\\ge" not in text
        and "\\ne" not in text
    ):
        return text, ""
    bracketed = re.fullmatch(
        r"(.*[^\s(,;])\s*\(([^(),]*(?:\\in|\\ne|\\le|\\ge|[<>])[^()]*)\)", text, re.DOTALL
    )
    if bracketed and (_MEMBERSHIP.fullmatch(bracketed[2]) or _SIDE_RELATION.fullmatch(bracketed[2])):
        return bracketed[1], bracketed[2]
    try:
        parts = split_top(text, ",;")
    except UndecidedError:
        return text, ""
    if (
        len(parts) > 1
        and (reals := _REALS.fullmatch(parts[0].strip()))
        and any(reals[1] in part for part in parts[1:])
    ):
        return ",".join(parts[1:]), parts[0]
    if len(parts) > 1 and (reals := _REALS.fullmatch(parts[-1].strip())) and reals[1] in parts[0]:
        return ",".join(parts[:-1]), parts[-1]
    for at in range(1, len(parts)):
        rest = ",".join(parts[at:])
        first = ",".join(parts[:at])
        if _MEMBERSHIP.fullmatch(rest.strip()) and not re.search(r"\\in(?![A-Za-z])|[<>]", first):
            return first, rest
        side = _SIDE_RELATION.fullmatch(rest.strip())
        if side and at == 1 and not re.search(r"[<>]|\\(?:le|ge|in|ne)(?![A-Za-z])", first):
            name = side[1]
            letters = first if name[0] == "\\" else re.sub(r"\\[A-Za-z]+", " ", first)
            if name in letters and len(parts) == 2:
                return first, rest
    return text, ""


def about_integers(condition: str) -> bool:
    """Whether a condition says that a variable is an integer."""
    return bool(_INTEGERS.search(condition))


def condition_key(condition: str) -> str:
    """What two conditions are compared by."""
    if about_integers(condition):
        return "integers"
    if _GENERAL.search(text_of(condition)) and not re.search(r"[<>=]|\\(?:le|ge|ne)(?![A-Za-z])", condition):
        return ""
    return re.sub(
        r"[\s,]|\\le(?![A-Za-z])|\\ge(?![A-Za-z])",
        "",
        _BLOCK.sub("", condition).replace("\\le ", "<=").replace("\\ge ", ">="),
    )


def led(text: str) -> tuple[str, str]:
    """An answer without the words that lead up to it, and these words; "negative 3" is -3."""
    match = re.match(rf"\s*{OPEN}([^{CLOSE}]*){CLOSE}\s*[:=]?\s*", text)
    if not match or not text[match.end() :].strip():
        return text, ""
    words, rest = match[1].strip(), text[match.end() :]
    mark = match[0].rstrip()[-1:]
    if mark in ":=" and mark:
        return rest, words
    if _STATED.fullmatch(words) or _LEADING.fullmatch(words):
        return rest, words
    return text, ""


def measured(text: str) -> tuple[str, str]:
    """A value without the words behind it, and these words."""
    match = re.search(rf"\s*{OPEN}([^{CLOSE}]*){CLOSE}([^{OPEN}{CLOSE}]*)$", text)
    if not match or not text[: match.start()].strip():
        return text, ""
    behind = match[1].strip()
    if in_words(behind) is not None or any(in_words(word) not in (None, 1) for word in behind.split()):
        raise RefusedError  # 5 six
    tail = match[2].strip()
    if tail and not re.fullmatch(
        r"(?:[\s*/]*(?:\\mu\s*)?[A-Za-z]{1,4}(?:\s*\^\s*(?:\{-?\d\}|-?\d))?)+|[.)]", tail
    ):
        return text, ""
    unit = f"{match[1].strip()} {tail.strip(')')}".replace("{", "").replace("}", "").strip()
    if tail.strip(".) ") and measure(unit) is None:
        return text, ""  # 1/2 of x
    return text[: match.start()], unit


def has_prose(text: str) -> bool:
    """Whether an answer holds words, in the text of formulas or outside of them."""
    try:
        return OPEN in clean(text)
    except UndecidedError:
        return True
