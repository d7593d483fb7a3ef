r"""The verifier ``choice``: multiple choice. Which of the options does an answer name, by letter or by its text?

``fixed`` mode reads the last ``\boxed``, else what follows the last "the answer is", else a letter that stands where
only an answer does. A letter counts in any dress (``(B)``, ``\text{b}``, "option B"), a text where it is that of an
option; a letter that is denied ("not B") does not, and several letters are one answer, which is wrong unless the gold
has as many. ``paper`` mode reads as the harness of Qwen2.5-Math and RealCritic does, faults included.

The gold is a letter, or several joined by commas. Options of a problem: ``choices``, the options' texts in their order,
where they are known; ``reference``, the name of the data set in that harness. Everything here is linear in the length
of a text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from cipo_eval.records import Extraction, FinishReason, Grade, Mode, Problem, State
from cipo_eval.texts import STRIP, own_turn, strip_think
from cipo_eval.verifiers.math import paper
from cipo_eval.verifiers.math.canonical import form
from cipo_eval.verifiers.math.equivalence import equivalent
from cipo_eval.verifiers.math.extract import last_boxes, own_answer

LETTERS = "ABCDEFGHIJ"
"""Letters of options, in their order: ten options at the most."""
OPTIONS_IF_UNKNOWN = 8
"""Options that a problem is taken to have where their texts are not known."""
MAX_LENGTH = 600
"""Characters of an answer that are read."""
WINDOW = 300
"""Characters after "the answer is" in which an answer is looked for."""
MAX_PHRASES = 8
"""Phrases like "the answer is" that are looked at, from the last on; the first that names an option counts."""
LATE_SECONDS = 1.5
"""Processor seconds after which comparing an answer with formulas among the options is given up; it is wrong then."""

Letters = frozenset[str]
"""The letters of the options that an answer names."""
NO_LETTERS: Letters = frozenset()

# --- which letters an answer names ----------------------------------------------------------------------------------

_DRESS = re.compile(
    r"\\(?:text(?:bf|rm|it|sf|tt)?|math(?:rm|bf|it|sf|bb)|boxed|left|right|displaystyle|bf|rm|quad)(?![A-Za-z])"
    r"|\\[,;:! ()\[\]]|[${}*`~\"“”]|_(?=\W|$)|(?<!\w)_|(?<!\w)['‘’]|['‘’](?!\w)"
)
_LABEL = (
    r"(?:[(\[<]\s{0,2}(?P<inside>[A-Ja-j])\s{0,2}[)\]>]"
    r"|(?P<upper>[A-J])(?![\w'’+=^/<>]|[-–]\w)"
    r"|(?P<lower>[a-j])(?=\s{0,2}(?:[.):,;]|$))(?!\.\w))\s{0,2}[.):]?"
)
_LEADING = re.compile(
    r"(?:(?i:the|final|correct|best|right|most likely|option|choice|answer|letter|statement|is|are|it's|it|both|either|"
    r"only|clearly|definitely|probably|therefore|thus|so|that|would be|must be|should be)\b[\s:,]{0,4}){0,6}"
    + _LABEL
)
_MORE = re.compile(
    r"\s{0,2}(?:,\s{0,2}(?:and\b|or\b)?|;|/|&|\band\b|\bor\b|\band/or\b)\s{0,2}"
    r"(?:(?i:also|either|both|option|choice)\s{1,2})?" + _LABEL
)
_NOT = re.compile(
    r"(?:(?:the|correct|best|right|option|choice|answer|is|it|it's|definitely|clearly|certainly)\s{1,2}){0,5}"
    r"(?:not|neither|never|isn't|isn’t|cannot be|can't be|can’t be|anything but|"
    r"any(?:thing)? except|all (?:but|except))\b",
    re.I,
)
_BUT = re.compile(
    r"\bbut(?: rather)?\b|\brather\b|\binstead\b(?: it is)?|[,;.]\s{0,2}it(?: is|'s|’s)\b", re.I
)
_DENIED = re.compile(
    r"\s{0,2}(?:(?:is|was|are|were|does|do|can|could|would be|must be|seems)\s{1,2})?"
    r"(?:not\b|n't\b|incorrect|wrong|false|impossible|ruled out|excluded|eliminated|isn't|isn’t|aren't|aren’t|"
    r"cannot\b|can't\b|doesn't\b|both (?:wrong|incorrect|false))",
    re.I,
)
_ARTICLE = re.compile(r"\s[a-z]")
_AFTER_LETTER = re.compile(r"\s{0,2}(?:is|was|are|because|since|as|and|or|but|not|for|which)\b", re.I)
_LETTER = re.compile(r"[A-Ja-j]")
_WRAPPED = re.compile(r"^\\text\{(.*)\}$", re.DOTALL)
_RUN = re.compile(r"[A-J]{2,6}")
_ENDS = re.compile(r"[.;,](?=\s|$)|\s(?:because|since|as|which|where)\s", re.I)


def plain(text: str) -> str:
    """A text without LaTeX and Markdown markup, in ordinary letters (NFKC) and single spaces; cut at ``MAX_LENGTH``."""
    return " ".join(_DRESS.sub(" ", unicodedata.normalize("NFKC", text[:MAX_LENGTH])).split())


def named_letters(answer: str, choices: Sequence[str] = ()) -> Letters:
    """The letters of the options that an answer names; none where it names none, or only denies some."""
    text = plain(answer)
    if letters := _verbatim(answer, choices) or _by_text(text, choices):
        return letters
    if negation := _NOT.match(text):
        but = _BUT.search(text, negation.end())
        return _leading(text[but.end() :].lstrip(" ,:"), choices) if but else NO_LETTERS
    if letters := _leading(text, choices):
        return letters
    if _RUN.fullmatch(text) and list(text) == sorted(set(text)):
        return frozenset(text) if _is_option(text[-1], choices) else NO_LETTERS
    sentence = _ENDS.split(text, maxsplit=1)[0]
    return _by_text(sentence, choices) or _by_text(re.sub(r"^(?:that|it is|it's)\s", "", sentence), choices)


def _verbatim(answer: str, choices: Sequence[str]) -> Letters:
    """The one option whose text this is to the letter: of signs alone, nothing is left without their dress."""
    text = _WRAPPED.sub(r"\1", answer[:MAX_LENGTH].strip())
    if _LETTER.fullmatch(text):
        return NO_LETTERS
    same = [letter for letter, choice in zip(LETTERS, choices, strict=False) if choice.strip() == text]
    return frozenset(same) if text and len(same) == 1 else NO_LETTERS


def _by_text(text: str, choices: Sequence[str]) -> Letters:
    """The options of which this is the text: several only where they have the same. The case of letters counts where it
    tells options apart. A letter alone is a letter, also where it is an option's text."""
    squeezed = _squeezed(text)
    if not squeezed or _LETTER.fullmatch(squeezed):
        return NO_LETTERS
    texts = [(letter, _squeezed(plain(choice))) for letter, choice in zip(LETTERS, choices, strict=False)]
    same = [letter for letter, choice in texts if choice == squeezed]
    return frozenset(same or [letter for letter, choice in texts if choice.lower() == squeezed.lower()])


def _squeezed(text: str) -> str:
    return re.sub(r"[\s_\"'“”‘’]", "", text).rstrip(".,;:!")


def _leading(text: str, choices: Sequence[str]) -> Letters:
    """The letters that a text begins with, as far as they are not denied."""
    label = _LEADING.match(text)
    if label is None:
        return NO_LETTERS
    rest = text[label.end() :]
    first = _letter(label)
    if first in _by_text(rest, choices):
        return frozenset(first)  # whatever its text says
    bare = label["upper"] in ("A", "I") and text[label.end("upper") :][:1] == " "
    if bare and _ARTICLE.match(rest if rest[:1] == " " else f" {rest}") and not _AFTER_LETTER.match(rest):
        return NO_LETTERS  # an article, or a numeral
    letters = [first]
    while more := _MORE.match(rest):
        letters.append(_letter(more))
        rest = rest[more.end() :]
    if denied := _DENIED.match(rest):
        letters = letters[:-1] if re.match(r"\s{0,2}(?:is|was)\b", denied.group()) else []
    return frozenset(letter for letter in letters if _is_option(letter, choices))


def _is_option(letter: str, choices: Sequence[str]) -> bool:
    return LETTERS.index(letter) < (len(choices) or OPTIONS_IF_UNKNOWN)


def _letter(match: re.Match[str]) -> str:
    return str(match["inside"] or match["upper"] or match["lower"]).upper()


# --- where the answer stands ----------------------------------------------------------------------------------------

_SAYS = re.compile(
    r"(?:\banswers?\b|\b(?:correct|right|best|final) (?:choice|option|letter|statement)s?\b"
    r"|\b(?:choice|option)\b(?= is\b)|答案)[\"'*_]{0,4}"
    r"(?:\s(?:to|for|of|among|choice|option)\b[^.\n:]{0,80}?)?"
    r"(?:\s{0,3}(?:\b(?:would be|must be|should be|is|are)\b|[:=：是为])[*_]{0,2})+|####",
    re.I,
)
_SAID_LETTER = r"[*_]{0,2}(?:\((?P<inside>[A-Ja-j])\)|\b(?P<upper>[A-J])\b(?![-'’]))[*_]{0,2}"
_RIGHT = re.compile(
    _SAID_LETTER + r"\s{1,2}(?:is|must be|seems)\s{1,2}(?:therefore |thus |clearly |indeed )?(?:the )?"
    r"(?:only |most )?(?:correct|right|best|true|accurate|appropriate)\b"
)
_CHOOSES = re.compile(
    r"\b(?:(?i:choose|pick|select|go with|think|believe|leaves?(?: us with)?|match(?:es)?))\s{1,2}(?:only )?"
    r"(?:(?i:option|choice|answer) )?" + _SAID_LETTER
)
_ASKS = re.compile(r"[\n?]")
_UNTRUE = re.compile(r"\b(?:not|never|neither|nor|hardly|cannot)\b|n['’]t\b", re.I)
_CLAUSE = 60
"""Characters before "B is correct" in which a denial of it is looked for, as far as the clause goes."""
_LINE = re.compile(r"[\s*_>#-]{0,6}[(\[]?([A-Ja-j])[)\].:]{0,2}[\s*_]{0,4}(?:$|(?<=[).:\]*_])\s{0,3}\S)")
_BRACKETED = re.compile(r"(?<![\w)])\(([A-J])\)(?!\w)")


def final_choice(text: str, choices: Sequence[str], *, stopped: bool) -> tuple[str, str] | None:
    """(answer, rule) of a completion without thoughts; None where it has none. ``named_letters`` reads the answer.

    ``stopped``: the model ended by itself; a text that was cut off has an answer only where it says so.
    """
    turn = own_turn(text)
    own = own_answer(turn)
    stopped = stopped or not text.endswith(turn) or len(own) < len(turn)
    if (boxed := last_boxes(own, multiple=False)) and boxed[0].strip():
        return boxed[0].strip()[:MAX_LENGTH], boxed[1]
    announced = _announced(own, choices)
    if announced and (announced[1] or _NOT.match(plain(announced[0]))):
        return announced[0], "answer_is"
    if not stopped:
        return None
    whole = own.strip()
    if letter := _said_right(own, choices):
        return letter, "is_right"
    if len(whole) <= MAX_LENGTH and not _ASKS.search(whole) and named_letters(whole, choices):
        return whole, "whole"
    for rule, find in (("line", _on_a_line), ("last_bracket", _bracketed)):
        if (letter := find(own)) and _is_option(letter, choices):
            return letter, rule
    # what names no option may still be the value of one
    return (_ENDS.split(announced[0], maxsplit=1)[0], "announced") if announced else None


def _announced(text: str, choices: Sequence[str]) -> tuple[str, bool] | None:
    """What follows the last phrase that announces an answer and names an option; else what follows the last. With
    whether it names one."""
    said = [match.end() for match in _SAYS.finditer(text)][-MAX_PHRASES:]
    last = None
    for end in reversed(said):
        window = text[end : end + WINDOW].lstrip(" \t\n*_:").split("\n", 1)[0].strip()
        if window and named_letters(window, choices):
            return window, True
        last = last or window
    return (last, False) if last else None


def _said_right(text: str, choices: Sequence[str]) -> str | None:
    """The letter that is called right, or chosen, last."""
    said = [*_RIGHT.finditer(text), *_CHOOSES.finditer(text)]
    right = [
        match
        for match in said
        if _is_option(_letter_of(match), choices)
        and not _denied_before(text, match.start())
        and not _DENIED.match(text[match.end() : match.end() + _CLAUSE])
    ]
    return _letter_of(max(right, key=lambda match: match.start())) if right else None


def _denied_before(text: str, at: int) -> bool:
    clause = re.split(r"[.,;:!?\n]", text[max(at - _CLAUSE, 0) : at])[-1]
    return _UNTRUE.search(clause) is not None


def _letter_of(match: re.Match[str]) -> str:
    return str(match["inside"] or match["upper"]).upper()


def _on_a_line(text: str) -> str | None:
    """The letter that one line begins with, of the first and the last one: where others do too, they are a list."""
    lines = [line for line in text.strip().splitlines() if line.strip()]
    labels = [match[1].upper() for line in lines if (match := _LINE.match(line))]
    if len(set(labels)) != 1:
        return None
    return next((labels[0] for line in (lines[-1], lines[0]) if _LINE.match(line)), None)


def _bracketed(text: str) -> str | None:
    """The only bracketed letter of the last paragraph."""
    letters = set(_BRACKETED.findall(text.rstrip().rpartition("\n\n")[2]))
    return letters.pop() if len(letters) == 1 else None


# --- as the reference -----------------------------------------------------------------------------------------------

_CHOICE_ANSWERS = frozenset({"mmlu_stem", "sat_math", "aqua", "gaokao2023"})
"""Data sets of which the reference takes a letter out of the whole text."""
_TRIGGERS = ("choice is", "answer is")
_PAPER_LETTER = re.compile(r"\b([A-E])\b")
_PAPER_PHRASES = ("best answer is", "correct answer is")
"""RealCritic's additions to what Qwen2.5-Math's harness looks for."""


def paper_choice(text: str, reference: str | None) -> str:
    """What the reference extracts; ``""`` where that is nothing."""
    if reference in _CHOICE_ANSWERS:
        return _from_anywhere(text.replace("ки", ""))
    answer, how = paper.extract(text)
    if how == "last_number":
        answer = next(
            (text.rsplit(phrase, 1)[1].strip() for phrase in _PAPER_PHRASES if phrase in text), answer
        )
    letters = _PAPER_LETTER.findall(answer.upper())
    return letters[-1] if letters else answer.strip().strip(".")


def _from_anywhere(text: str) -> str:
    """Its ``choice_answer_clean``: the first letter after the last trigger, else the last one of all. In capitals, so
    that every article is an A."""
    text = text.strip("\n")
    if any(text.count(trigger) > 1 for trigger in _TRIGGERS):
        text = text.split("\n\n")[0]
    parts = re.split("|".join(_TRIGGERS), text)
    text = parts[-1].strip("\n").rstrip(".").rstrip("/").strip(" ").lstrip(":")
    letters = _PAPER_LETTER.findall(text.upper())
    if not letters:
        return text.strip().strip(".").rstrip(".").rstrip("/")[: paper.MAX_LENGTH + 1]
    return str(letters[0] if len(parts) > 1 else letters[-1])


# --- the verifier ---------------------------------------------------------------------------------------------------


class ChoiceVerifier:
    """Judges answers to multiple-choice questions: a ``Verifier`` (``records``)."""

    name = "choice"
    quick = True
    """Most answers are graded in milliseconds: many of them may be judged in a row (``pool``)."""

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction:
        """The answer of a completion, or why there is none."""
        options = problem.options
        if mode is Mode.PAPER:
            answer = paper_choice(text, options.get("reference"))
            return Extraction(answer=answer, how="paper") if answer else _no_answer(None)
        own = strip_think(text, str(options.get("think", STRIP)))
        stopped = finish_reason is None or not finish_reason.cut_off
        final = final_choice(own, _choices(options), stopped=stopped)
        return _no_answer(finish_reason) if final is None else Extraction(answer=final[0], how=final[1])

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:
        """Whether the answer names the gold's options and no other. Runs in a worker; never raises."""
        if mode is Mode.PAPER:
            with suppress(Exception):
                correct, canonical, method = paper.grade(gold, answer, options)
                return Grade(correct=correct, canonical=canonical, method=method)
            return Grade(correct=False, canonical=answer[:MAX_LENGTH], method="failed", failed=True)
        choices = _choices(options)
        wanted = frozenset(letter for letter in LETTERS if letter in gold.upper())
        named = named_letters(answer, choices)
        method = "letter"
        if not named and not _NOT.match(plain(answer)):
            named, method = _by_value(plain(answer), choices), "value"
        if (
            len(named) > len(wanted) == 1
            and wanted <= named
            and _by_text(_text(wanted, choices), choices) >= named
        ):
            return Grade(correct=True, canonical=min(wanted), method="text")  # options with the same text
        canonical = "".join(sorted(named)) or _squeezed(plain(answer)).lower()
        return Grade(
            correct=bool(named) and named == wanted, canonical=canonical, method=method if named else "none"
        )

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        """None: a grading has the pool's own limit of processor time."""
        return None

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> tuple[float, Grade] | None:  # noqa: ARG002
        """The processor seconds after which an answer is given up, and its grade then: wrong."""
        limit = paper.SECONDS if mode is Mode.PAPER else LATE_SECONDS
        return limit, Grade(correct=False, canonical="", method="too_heavy")


def _no_answer(finish_reason: FinishReason | None) -> Extraction:
    cut = finish_reason is not None and finish_reason.cut_off
    return Extraction(answer=None, state=State.TRUNCATED if cut else State.NO_ANSWER)


def _choices(options: Mapping[str, Any]) -> tuple[str, ...]:
    """The options' texts, without their letters where these stand before them."""
    texts = zip(LETTERS, options.get("choices") or (), strict=False)
    return tuple(re.sub(rf"^\(?{letter}[).:]\s+", "", str(text)) for letter, text in texts)


def _text(letters: Letters, choices: Sequence[str]) -> str:
    place = LETTERS.index(min(letters))
    return plain(choices[place]) if place < len(choices) else ""


def _by_value(text: str, choices: Sequence[str]) -> Letters:
    """The one option that a formula or a number is equal to."""
    if not choices or not re.search(r"\d|\\", text):
        return NO_LETTERS
    equal = []
    with suppress(Exception):
        answer = form(text)
        for letter, choice in zip(LETTERS, choices, strict=False):
            if equivalent(form(plain(choice)), answer, {}) is True:
                equal.append(letter)
    return frozenset(equal) if len(equal) == 1 else NO_LETTERS
