r"""Cleans the LaTeX (or plain text) of a final answer: layout, wording, currency and units; no mathematics.

All patterns are bounded or free of nested repetition, and callers bound the length, so the cost stays small.
"""

from __future__ import annotations

import re

from cipo_eval.verifiers.math.algebra import UndecidedError

_LITERAL = str.maketrans(
    {
        **dict.fromkeys("−–", "-"),
        **dict.fromkeys("×·⋅∙", "*"),
        **dict.fromkeys("°€£¥\u200b", ""),
        "÷": "/",
        "≤": "<=",
        "≥": ">=",
        "≠": "\\ne ",
        "∞": "\\infty ",
        "∪": "\\cup ",
        "∈": "\\in ",
        "√": "\\sqrt",
        "²": "^2",
        "³": "^3",
        "½": "\\frac{1}{2}",
        "，": ",",
        "\u00a0": " ",
        "⟨": "(",
        "⟩": ")",
        "θ": "\\theta ",
        "α": "\\alpha ",
        "β": "\\beta ",
    }
)

_LAYOUT = (
    "left right big Big bigl bigr Bigl Bigr bigg Bigg middle displaystyle textstyle limits nolimits degree quad qquad "
    "enspace thinspace hfill boldsymbol rm bf it"
)
_COMMANDS = {
    **dict.fromkeys(_LAYOUT.split(), " "),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac"), "\\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "\\binom"),
    **dict.fromkeys(("cdot", "times"), "*"),
    **dict.fromkeys(("leq", "leqslant"), "\\le "),
    **dict.fromkeys(("geq", "geqslant"), "\\ge "),
    **dict.fromkeys(("lvert", "rvert", "vert"), "|"),
    **dict.fromkeys(("land", "lor", "wedge", "vee"), ","),
    **dict.fromkeys(("ldots", "dots"), "..."),
    **dict.fromkeys(("euro", "pounds"), ""),
    "neq": "\\ne ",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "langle": "(",
    "rangle": ")",
    "colon": ":",
    "imath": "i",
    "implies": "=",
    "varnothing": "\\emptyset ",
    "AA": "\\text{angstrom}",
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SPACING = re.compile(r"\\[!,;: ]|~|\\hspace\{[^{}]*\}|\\(?:phantom|label|tag)\{[^{}]*\}|[\s\x00-\x1f]+")
_DEGREES = re.compile(
    r"\s*\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\})|\\text\{\s*degrees?\s*\}|\bdegrees?\b"
)
_TEXT = re.compile(
    r"\\(?:text|textrm|textbf|textit|textnormal|textsf|texttt|textsc|mathrm|mathbf|mathit|mathsf|mathtt"
    r"|mbox|hbox|operatorname|operatorname\*)\s*\{([^{}]*)\}((?:\s*\^\s*(?:\{[-+\d]*\}|-?\d))?)"
)
ROW = "\ue000"
"""Stands for the end of a matrix row while text is cleaned, which would take ``\\\\`` apart."""
_ROW_END = re.compile(r"\\\\(?:\[[^\[\]]{0,9}\])?")
_ORDINAL = re.compile(
    r"(?<=\d)\s*\^?\s*\{?\s*(?:\\(?:text|mathrm|textrm)\s*\{\s*)?(?:th|st|nd|rd)\b\s*\}{0,2}"
)
_STATED = re.compile(r"^[A-Za-z\s]{3,80}\b(?:is|are|equals)\s+(?=\S)")
_TIGHT_CONNECTOR = re.compile(r"(?<=[\d)}])(?:or|and)(?=[\d(\\A-Z-])")
_CONNECTOR = re.compile(r",?\s*\b(?:and|or)\b\s*,?", re.IGNORECASE)
_BLOCKING = re.compile(
    r"\b(?:if|for|where|when|otherwise|such|that|mod|is|are|integer|integers|not|no|none|with|from|except|does)\b",
    re.IGNORECASE,
)
_THOUSANDS_GAP = re.compile(r"(?<=\d)(?:\{,\}|\\,|,\\!|,\\;)\s*(?=\d{3}(?!\d))")
_SPACED_THOUSANDS = re.compile(r"\d{1,3}(?:,\s\d{3}){2,}|\d{1,3}(?: \d{3})+")
_FUNCTION_TEXT = "sin cos tan cot sec csc ln log exp arcsin arccos arctan gcd lcm max min"
_FUNCTION_NAMES = frozenset(_FUNCTION_TEXT.split())
_PLAIN_SQRT = re.compile(r"(?<![\\A-Za-z])sqrt\s*\(([^()]*)\)")
_INFINITY = re.compile(r"(?<![\\A-Za-z])inf(?:inity|ty)?(?![A-Za-z])|\+\s*\\infty")
_PERCENT = re.compile(r"\s*\\?%|\s*(?:\\text\s*\{\s*)?\b(?:percent(?:age)?|pct)\b\s*\}?", re.IGNORECASE)


def clean(text: str) -> str:
    """The answer without layout: no dollar signs, no spacing commands, one spelling for each sign, text commands
    undone (connectives become commas, units after something vanish). Raises ``UndecidedError`` for prose that
    carries conditions."""
    text = text.strip()
    if not text.isascii():
        text = text.translate(_LITERAL)
    text = text.rstrip(".,;: \t\n")
    if "\\begin" in text:
        text = _ROW_END.sub(ROW, text)
    elif "\\\\" in text:
        text = re.sub(r"\\\\(?=[A-Za-z{}$%(])", r"\\", text)
    if "\\!" in text or "{,}" in text or "\\," in text:
        text = _THOUSANDS_GAP.sub("", text)
    if "$" in text or "\\" in text or "%" in text or "percent" in text or "pct" in text:
        text = _latex(text)
    text = _SPACING.sub(" ", text)
    if " or" in text or " and" in text or "or " in text:
        text = _CONNECTOR.sub(",", text)
    if "or" in text or "and" in text:
        text = _TIGHT_CONNECTOR.sub(",", text)
    if " is " in text or " are " in text:
        text = _STATED.sub("", text)
    if text.startswith("np."):
        text = "\\" + text[3:]
    if "degree" in text:
        text = _DEGREES.sub("", text)
    if "inf" in text:
        text = _INFINITY.sub(r"\\infty ", text)
    if "sqrt(" in text or "sqrt (" in text:
        text = _PLAIN_SQRT.sub(r"\\sqrt{\1}", text)
    text = text.strip().rstrip(".,;:").strip()
    if _SPACED_THOUSANDS.fullmatch(text):
        text = re.sub(r"[, ]", "", text)
    while len(text) > 2 and text[0] == "{" and text[-1] == "}" and "{" not in text[1:-1] and "," not in text:
        text = text[1:-1].strip()
    return text


def _latex(text: str) -> str:
    text = _SPACING.sub(" ", text)
    text = text.replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "")
    text = text.replace("\\$", "").replace("$", " ") if "$" in text else text
    text = text.replace("\\_", "_").replace("\\&", "&").replace("\\%", "%").replace("\\#", "")
    if "%" in text or "percent" in text or "pct" in text:
        text = _PERCENT.sub("%", text)
    if "circ" in text or "degree" in text:
        text = _DEGREES.sub("", text)
    if "h" in text or "d" in text or "st" in text:
        text = _ORDINAL.sub("", text)
    if "\\" in text:
        text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)
        if "{" in text and "\\" in text:
            for _ in range(3):
                changed = _TEXT.sub(_untext, text)
                if changed == text:
                    break
                text = changed
    return text


def _untext(match: re.Match[str]) -> str:
    r"""What stands for a ``\text{…}``: connectives a comma, single letters and choices themselves, words at the
    start of the answer themselves, anything after something else is a unit and vanishes with its exponent."""
    content = match[1].replace("~", " ").strip()
    if content.strip(" ,").lower() in ("and", "or"):
        return ","
    if not content:
        return " "
    if content in _FUNCTION_NAMES:
        return "\\" + content + " "
    before = match.string[: match.start()]
    if content.startswith("%"):
        return "%"
    if not before.strip(" ({[$,") or before.rstrip()[-1:] in ("=", ","):
        return content + match[2]
    if _BLOCKING.search(content):
        raise UndecidedError
    if len(content) == 1 and not match[1].startswith((" ", "~")):
        return content + match[2]
    if content[0] == "(" and content[-1:] == ")" and len(content) == 3:
        return content
    if content.strip("-+.0123456789") == "":
        return content
    return " "


# --- units --------------------------------------------------------------------------------------------------------

_LETTER_UNITS_NAMES = "m s g h K J N V W A C F T M L r"
_LETTER_UNITS = frozenset(_LETTER_UNITS_NAMES.split())
_SHORT_UNITS_NAMES = (
    "cm mm km nm pm um dm kg mg ft in yd mi lb oz hr min sec ms ns Hz kHz MHz GHz Pa kPa eV keV MeV GeV kJ kW "
    "kV mV mA mol ml mL rad deg mph km/h m/s cm/s rpm sq cu yr days bits bit erg ergs pc kpc AU amu dyn atm "
    "bar nm fm cal kcal cents cent USD units"
)
_SHORT_UNITS = frozenset(_SHORT_UNITS_NAMES.split())
_NUMBER_HEAD = re.compile(
    r"(?:\\?\$)?([-+]?(?:\d[\d,]*\.?\d*|\.\d+)(?:(?:[eE]|\s*\*\s*10\s*\^\s*)\{?[-+]?\d+\}?)?"
    r"|[-+]?\d*\s?\\frac\{[-+]?\d+\}\{\d+\}|[-+]?\d+/\d+)"
    r"(\s*)(\\mu\s*[A-Za-z]|[A-Za-z/\\][^+=,<>|]*|\*\s*[A-Za-z][^+=,<>|]*)$"
)
_UNIT_TOKEN = re.compile(r"\\?[A-Za-z]+")


def strip_units(text: str, *, letters: bool) -> str:
    """``text`` without the units behind its number; as it was where what follows is no unit. With ``letters``, single
    letters are units too (otherwise they are variables)."""
    match = _NUMBER_HEAD.match(text)
    if not match:
        return text
    tail = match[3]
    tokens = _UNIT_TOKEN.findall(tail)
    if not tokens or not all(_is_unit(token, letters, bool(match[2])) for token in tokens):
        return text
    if re.search(r"[()!]", tail.replace("(s)", "")):
        return text
    return re.sub(r"\s*\*\s*10", "*10", match[1]).strip()


def _is_unit(token: str, letters: bool, spaced: bool) -> bool:
    if token in ("\\mu", "\\Omega", "\\mathring"):
        return True
    if token[0] == "\\":
        return False
    if token in _LETTER_UNITS:
        return letters
    if token in _FUNCTION_NAMES or token in ("sqrt", "pi"):
        return False
    return token in _SHORT_UNITS or (len(token) >= 4 and (spaced or letters)) or (len(token) == 3 and spaced)


# --- splitting ----------------------------------------------------------------------------------------------------


def split_top(text: str, separators: str, *, closed: bool = False) -> list[str]:
    r"""Splits at ``separators`` outside of all brackets (half-open intervals close with either kind). With ``closed``,
    gives ``[]`` where a bracket closes that was not opened. Raises ``UndecidedError`` for brackets that never
    close."""
    depth, start, parts = 0, 0, []
    for at, char in enumerate(text):
        if char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
            if depth < 0:
                if closed:
                    return []
                raise UndecidedError
        elif depth == 0 and char in separators:
            parts.append(text[start:at])
            start = at + 1
    if depth:
        if closed:
            return []
        raise UndecidedError
    parts.append(text[start:])
    return parts
