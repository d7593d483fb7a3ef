"""Numbers written as English words, read the way the reference's ``word2number`` package (1.1, MIT) reads them.

``word_to_number`` is ``paper`` mode's: words that are no number words are ignored, so ``one of the two`` reads as 3;
faults like that are part of the published scores and kept. ``in_words`` is fixed mode's: every word must be one.
"""

from __future__ import annotations

_UNITS_NAMES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_UNITS = _UNITS_NAMES.split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"billion": 10**9, "million": 10**6, "thousand": 10**3}
_VALUES = {
    **{word: value for value, word in enumerate(_UNITS)},
    **{word: 10 * value for value, word in enumerate(_TENS, start=2)},
    "hundred": 100,
    **_SCALES,
}


def word_to_number(text: str) -> str:
    """``text`` as digits where it is a number in words (or digits with leading zeros), otherwise unchanged."""
    sentence = text.replace("-", " ").lower()
    if sentence.isdigit():
        return _digits(sentence, text)
    words = [word for word in sentence.split() if word in _VALUES or word == "point"]
    if not words or any(words.count(word) > 1 for word in (*_SCALES, "point")):
        return text
    decimals: list[str] = []
    if "point" in words:
        at = words.index("point")
        words, decimals = words[:at], words[at + 1 :]
    total = _whole(words)
    if total is None or any(_VALUES[word] > 9 for word in decimals):
        return text
    if decimals:
        return str(total + float("0." + "".join(str(_VALUES[word]) for word in decimals)))
    return str(total)


def _digits(sentence: str, text: str) -> str:
    try:
        return str(int(sentence))
    except ValueError:  # superscripts count as digits but are no numbers; so do more digits than int() reads
        return text


def _whole(words: list[str]) -> int | None:
    """Value of the words before the point; None where the scales stand in the wrong order."""
    if not words:
        return 0
    if len(words) == 1:
        return _VALUES[words[0]]
    total, start = 0, 0
    places = [(words.index(scale), value) for scale, value in _SCALES.items() if scale in words]
    if [place for place, _ in places] != sorted(place for place, _ in places):
        return None
    for place, value in places:
        group = words[start:place]
        if not group:
            return None
        total += _group(group) * value
        start = place + 1
    if start < len(words):
        total += _group(words[start:])
    return total


def _group(words: list[str]) -> int:
    """Value of up to four words below a thousand; longer ones count with their first word only, as in the package."""
    values = [_VALUES[word] for word in words]
    if len(values) == 2 and 100 not in values:
        return sum(values)
    if 2 <= len(values) <= 4:
        return values[0] * values[1] + sum(values[2:])
    return values[0]


def in_words(text: str) -> int | None:
    """The integer that ``text`` names in words, twenty-seven or two hundred and five; None where it names none."""
    text = text.strip()
    for minus in ("minus ", "negative "):
        if text.lower().startswith(minus):
            positive = in_words(text[len(minus) :])
            return None if positive is None else -positive
    numerals = [word for word in text.lower().replace("-", " ").split() if word != "and"]
    if not numerals or len(numerals) > 20 or any(word not in _VALUES for word in numerals):
        return None
    total = group = 0
    last = None
    for word in numerals:
        value = _VALUES[word]
        if value == 100:
            group = max(group, 1) * 100
        elif value > 100:
            total, group = total + max(group, 1) * value, 0
        elif last is not None and last < 100 and not (last >= 20 and value < 10):
            return None  # two three
        else:
            group += value
        last = value
    return total + group
