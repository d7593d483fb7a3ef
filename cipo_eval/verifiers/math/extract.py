r"""Finds the final answer in what a model wrote.

Order: the last ``\boxed`` (several at the end, joined by "and" or commas, are one answer), "final answer is …", "the
answer is …", "Answer: …", "#### …", and only where the model stopped by itself the last formula or number. Nothing
from inside ``<think>…</think>`` counts. Everything here is linear in the length of the text: one pass for the braces,
``finditer`` with patterns that cannot backtrack over the text, and windows of bounded width.
"""

from __future__ import annotations

import re
from itertools import islice

from cipo_eval.texts import boxes, has_open_box, last_boxed, last_match, next_questions, own_turn

WINDOW = 600
"""Characters after an answer phrase in which its answer is looked for."""
TAIL = 4000
"""Most characters at the end in which formulas and numbers are looked for when nothing announces an answer."""
PARAGRAPHS = 4
"""Paragraphs at the end that may hold such an answer: closing words often follow it."""
BARE = 200
"""A text of at most so many characters without prose is an answer as a whole."""

# --- boxed --------------------------------------------------------------------------------------------------------

# What may stand between two boxes that are one answer; at least one connector must.
_BETWEEN = re.compile(
    r"(?:[\s$.:&]|\\[\[\]()]|\\\\|\\[,;! ]|\\q?quad|\\text(?:rm|bf)?\{|\\hspace\{[^{}]{0,9}\}|\}|\*|,|;|and\b|or\b|"
    r"for part \([a-z]\))*"
)
_CONNECTOR = re.compile(r",|;|\band\b|\bor\b")
_BETWEEN_MAX = 80


def last_boxes(text: str, *, multiple: bool) -> tuple[str, str] | None:
    """The answer that the last boxes give together, and the rule."""
    boxed = boxes(text)
    if not boxed:
        bare = last_boxed(text)
        return (bare, "boxed") if bare else None
    if len(boxed) == 1:
        return (boxed[0][2], "boxed") if boxed[0][2] else None
    group = [boxed[-1]]
    for box in reversed(boxed[:-1]):
        gap = text[box[1] : group[-1][0]] if group[-1][0] - box[1] <= _BETWEEN_MAX else None
        if gap is None or not _BETWEEN.fullmatch(gap) or not _CONNECTOR.search(gap):
            break
        group.append(box)
    contents = [box[2] for box in reversed(group)]
    if multiple and len(contents) == 1 and _is_one_value(contents[0]):
        contents = [box[2] for box in boxed]  # one value cannot be all of several: the others hold the rest
        if len(set(contents)) > 1:  # said again
            contents = list(dict.fromkeys(contents))
    contents = [content for content in contents if content]
    if not multiple:  # else a value may be asked for twice: roots, for example
        contents = list(dict.fromkeys(contents))
    if not contents:
        return None
    return ", ".join(contents), "boxed" if len(contents) == 1 else "boxed_list"


def _is_one_value(content: str) -> bool:
    return len(content) <= WINDOW and not _CONNECTOR.search(_outside_brackets(content))


def _outside_brackets(text: str) -> str:
    r"""``text`` without what stands in brackets, so that only its top-level commas remain; ``\pm`` counts as "or"."""
    depth, outside = 0, []
    for char in text:
        if char in "{([":
            depth += 1
        elif char in "})]":
            depth = max(depth - 1, 0)
        elif depth == 0:
            outside.append(char)
    return "".join(outside).replace("\\pm", " or ")


# --- announced in words -------------------------------------------------------------------------------------------

# "answer is", "answers:", "answer $…", "####": each begins with one of few characters, by which it is found fast.
_PHRASE = re.compile(
    r"[#aA答О](?:(?<=#)###|(?<=答)案(?:是|为|：|:)|(?<=О)твет\s{0,3}[:：]|(?<=[aA])(?<![^\W_][aA])"
    r"(?i:nswer(?:s?[*_]{0,4}\s{0,3}(?:is|are|:|：|=|\*\*:)|\s{1,3}(?=\$|\\[(\[]))))"
)
_HOPED, _HOPED_FROM = "I hope it is correct", "inal answer is"
_NUMBER = re.compile(
    r"(?<![\w.{^_])[-−]?(?:\d+/\d+|(?:\d{1,3}(?:,\d{3})+|\d+)?(?:[.,]?\d+)(?:\s?\\?%|\s?percent\b|\s?pct\b)?)"
)
_WORD = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{2,}")
_MATH = re.compile(
    r"\$\$(.{1,600}?)\$\$|\$([^$\n]{1,600})\$|\\\((.{1,600}?)\\\)|\\\[(.{1,600}?)\\\]", re.DOTALL
)
_JOINED = re.compile(r"\s*(?:,|;|and|or|,\s*and|,\s*or)\s*", re.IGNORECASE)
_SENTENCE_END = re.compile(
    r"\n|\.(?=\s|$)|。|(?<=\s)(?:because|since|which|where|although|though|whereas|however)\s"
)
_LEAD = re.compile(r"^(?:[\s:*=：]|\bis\b|\btherefore\b|\bthus\b)+")


def _announced(text: str) -> tuple[str, str] | None:
    """The answer after the last phrase that announces one."""
    starts = [(match.end(), match.group()) for match in _PHRASE.finditer(text)]
    for end, phrase in reversed(starts[-8:]):
        window = text[end : end + WINDOW]
        lead = _LEAD.match(window)
        window = window[lead.end() :] if lead else window
        answer = _leading_answer(window)
        if answer:
            return answer, "hash" if phrase == "####" else "answer_is"
    return None


def _hoped(text: str) -> tuple[str, str] | None:
    """Minerva's closing sentence, where no box follows it."""
    end = text.rfind(_HOPED)
    if end >= 0 and text.find("boxed{", end) >= 0:
        return None
    start = text.rfind(_HOPED_FROM, max(end - WINDOW, 0), end) if end >= 0 else -1
    if start < 0:
        return None
    inner = text[start + len(_HOPED_FROM) : end].strip(" :.\n")
    boxed = last_boxed(inner)
    answer = boxed if boxed is not None else _leading_answer(inner)
    return (answer, "final_answer") if answer else None


def _open_box(text: str) -> str:
    """What follows a box that a model forgot to close."""
    at = max(text.rfind("boxed{"), text.rfind("fbox{"))
    return text[at:].split("{", 1)[1].split("\n", 1)[0].split("$", 1)[0].strip()


def _leading_answer(window: str) -> str:
    """The formula that a piece of text starts with, or the first formula of its first sentence, or that sentence."""
    formula = _MATH.search(window)
    stop = _SENTENCE_END.search(window)
    end = stop.start() if stop else len(window)
    verb = window.rfind(" is ", 0, end)
    if verb >= 0 and window[verb + 4 : end].strip() and len(_WORD.findall(window[:verb])) >= 2:
        window, end = window[verb + 4 :], end - verb - 4
        formula = _MATH.search(window)
    if formula and (formula.start() <= end or not window[:end].strip()):
        parts, at = [_content(formula)], formula.end()
        while (joint := _JOINED.match(window, at)) and (following := _MATH.match(window, joint.end())):
            parts.append(_content(following))
            at = following.end()
        before, after = window[: formula.start()].strip(" *"), window[at:end].strip(" *.")
        if (
            len(parts) == 1
            and before in ("", "-", "\\")
            and re.fullmatch(r"\\?%|percent|pct|[A-Za-z°]{1,12}", after)
        ):
            return f"{before}{parts[0]} {after}"
        return ", ".join(part for part in parts if part)
    sentence = window[:end].strip(" *`_\"'.,;\t\r")
    numbers = _NUMBER.findall(sentence) if _is_prose(sentence) else []
    return numbers[-1].strip() if numbers else sentence


def _content(match: re.Match[str]) -> str:
    return next(group for group in match.groups() if group is not None).strip()


# --- last resorts -------------------------------------------------------------------------------------------------


def _last_expression(text: str, *, integer: bool) -> tuple[str, str] | None:
    """The whole text where it is nothing but an answer, else its last formula or number, whichever comes later."""
    whole = text.strip()
    if (
        whole
        and len(whole) <= BARE
        and "\n" not in whole
        and not whole.count("$") % 2
        and not _is_prose(whole)
    ):
        label, colon, rest = whole.rpartition(": ")
        if colon and (label in ("A", "Solution") or rest.lstrip().startswith(("$", "\\"))):
            whole = rest
        return whole.rstrip("."), "whole"
    if _breaks_off(whole):
        return None
    for paragraph in reversed(whole[-TAIL:].split("\n\n")[-PARAGRAPHS:]):
        if "```" in paragraph or "\\end{document}" in paragraph:
            return None  # a listing is no conclusion
        number = last_match(_NUMBER, paragraph)
        formula = None if integer else last_match(_MATH, paragraph)
        if formula and (number is None or number.start() < formula.end()):
            return _content(formula), "last_formula"
        if number:
            return number.group().strip(), "last_number"
    return None


def _breaks_off(text: str) -> bool:
    """Whether a text ends inside a formula: it was cut off, although nobody says so."""
    line = text[-TAIL:].rpartition("\n")[2]
    unclosed = any(
        text.rfind(opening) > text.rfind(closing) for opening, closing in (("\\(", "\\)"), ("\\[", "\\]"))
    )
    return unclosed or line.count("{") > line.count("}")


def _is_prose(text: str) -> bool:
    return len(_WORD.findall(_MATH.sub(" ", text))) >= 3


# --- running on ---------------------------------------------------------------------------------------------------

_PLACEHOLDER = re.compile(
    r"(?:\W|\\(?:text|mathrm|textbf)\b|\\[a-z]?dots\b|\b(?:your|the|final|insert|here|answer|solution|result)\b)*",
    re.IGNORECASE,
)
_MOST_QUESTIONS = 100
_SAID_LAST = 300
"""Characters before another question in which an answer without a box must stand."""


def own_answer(text: str) -> str:
    """The text without other questions, and their answers, that follow once this one is answered: by a box that holds
    something; in words right before the next question, unless boxes come later, which were asked for then; by being
    nothing but a value, unless words for an answer come later."""
    questions = [question.start() for question in islice(next_questions(text), _MOST_QUESTIONS)]
    if not questions:
        return text
    filled = [end for _, end, content in boxes(text) if not _PLACEHOLDER.fullmatch(content[:WINDOW])]
    if filled:
        return text[: next((at for at in questions if filled[0] <= at), None)]
    phrase = last_match(_PHRASE, text)
    for at in questions:
        only_value = _is_value(text[:at]) and (phrase is None or phrase.start() < at)
        if only_value or _says_so(text[max(at - _SAID_LAST, 0) : at]):
            return text[:at]
    return text


def _is_value(text: str) -> bool:
    """Whether a text is nothing but an answer (``A: 5``)."""
    whole = text.strip()
    short = len(text) <= BARE + _SAID_LAST and 0 < len(whole) <= BARE and "\n" not in whole
    return short and not _is_prose(whole) and any(char.isdecimal() or char in "\\$" for char in whole)


def _says_so(text: str) -> bool:
    """Whether the end of a text announces an answer with a number or a formula in it."""
    answer = _announced(text.rstrip().rpartition("\n\n")[2])
    return answer is not None and any(char.isdecimal() or char in "\\$" for char in answer[0])


# --- all together -------------------------------------------------------------------------------------------------


def final_answer(
    text: str, *, stopped: bool, multiple: bool = False, integer: bool = False
) -> tuple[str, str] | None:
    """(answer, rule) of a completion without thinking, None where it has none.

    ``stopped``: the model ended by itself; a text that was cut off has an answer only where it says so. ``multiple``:
    the problem has several answers. ``integer``: its answer is an integer, so a number is all that is looked for
    last.
    """
    turn = own_turn(text)
    stopped = stopped or not text.endswith(turn)  # it went on with another turn
    text = own_answer(turn)
    stopped = stopped or len(text) < len(turn)  # or another question
    answer = _hoped(text) or last_boxes(text, multiple=multiple)
    if answer:
        return answer
    if has_open_box(text):
        return (_open_box(text), "open_box") if stopped else None
    answer = _announced(text)
    if answer or not stopped:
        return answer
    return _last_expression(text, integer=integer)
