r"""Cleans the LaTeX (or plain text) of a final answer: layout, currency, wrappers of text; no mathematics.

What stood in ``\text{…}`` and its kin, and words of plain text, come out between ``OPEN`` and ``CLOSE``, so that
``words`` can tell a unit, a side condition or a hedge from letters that are variables. All patterns are bounded or free
of nested repetition, and callers bound the length, so the cost stays small.
"""

from __future__ import annotations

import html
import re
from fractions import Fraction

from cipo_eval.verifiers.math.algebra import UndecidedError
from cipo_eval.verifiers.math.notation import spelled_out

OPEN, CLOSE = "\ue001", "\ue002"
"""Brackets of words among mathematics."""
ROW = "\ue000"
"""Stands for the end of a matrix row while text is cleaned, which would take ``\\\\`` apart."""

GAP = "\ue003"
"""Stands for a wide space: before words or a bracket a space, elsewhere a comma."""

_LAYOUT = (
    "left right big Big bigl bigr Bigl Bigr bigg Bigg biggl biggr Biggl Biggr middle displaystyle textstyle limits "
    "nolimits checkmark blacksquare square Box qed qedsymbol diamond mathstrut strut enspace "
    "thinspace hfill rm bf it scriptstyle large Large noindent centering"
)
_COMMANDS = {
    **dict.fromkeys(_LAYOUT.split(), " "),
    **dict.fromkeys(("quad", "qquad"), GAP),
    **dict.fromkeys(("dfrac", "tfrac", "cfrac", "nicefrac", "sfrac"), "\\frac"),
    **dict.fromkeys(("dbinom", "tbinom"), "\\binom"),
    **dict.fromkeys(("cdot", "times", "ast"), "*"),
    **dict.fromkeys(("leq", "leqslant", "leqq"), "\\le "),
    **dict.fromkeys(("geq", "geqslant", "geqq"), "\\ge "),
    **dict.fromkeys(("lvert", "rvert", "vert", "lVert", "rVert", "Vert"), "|"),
    **dict.fromkeys(("land", "lor", "wedge", "vee"), ","),
    **dict.fromkeys(("ldots", "dots", "cdots", "dotsc", "dotsb"), "..."),
    **dict.fromkeys(("euro", "pounds"), ""),
    **dict.fromkeys(("implies", "Rightarrow", "Longrightarrow", "therefore", "iff"), "="),
    **dict.fromkeys(("simeq", "doteq", "approxeq", "thickapprox", "cong", "fallingdotseq"), "\\approx "),
    **dict.fromkeys(("hslash", "hbar"), "\\hbar "),
    **dict.fromkeys(("varnothing", "emptyset"), "\\emptyset "),
    **dict.fromkeys(("bigcup",), "\\cup "),
    "neq": "\\ne ",
    "lbrace": "\\{",
    "rbrace": "\\}",
    "lbrack": "[",
    "rbrack": "]",
    "langle": "(",
    "rangle": ")",
    "lparen": "(",
    "rparen": ")",
    "colon": ":",
    "imath": "i",
    "jmath": "j",
    "divided": "/",
    "AA": f"{OPEN}angstrom{CLOSE}",
    "degree": "°",
    "dag": "",
    **dict.fromkeys(
        [
            "bold",
            "bm",
            "boldsymbol",
            "mathbf",
            "pmb",
            "boxed",
            "fbox",
            "underline",
            "uline",
            "emph",
            "ensuremath",
            "mathnormal",
        ],
        " ",
    ),
    "textdollar": "\\$",
}
_COMMAND = re.compile(r"\\([A-Za-z]+)")
_SPACING = re.compile(
    r"\\[!,;: ]|~|\\[hm]?space\*?\{[^{}]*\}|\\(?:phantom|label|tag|color|textcolor|colorbox|"
    r"vphantom)\s*\{[^{}]*\}|[\s\x00-\x1f]+"
)
_DEGREES = re.compile(
    r"\s*\^\s*(?:\\circ(?![A-Za-z])|\{\s*\\circ\s*\}|\{?\s*°\s*\}?)"
    r"|\s*\\text\{\s*degrees?\s*\}|\s*\\?\bdegrees?\b(?!\s*[CF]\b)"
)
_TEXT = re.compile(
    r"\\(text|textrm|textbf|textit|textnormal|textsf|texttt|textsc|textup|mathrm|mathit|mathsf|mathtt|mathbfit"
    r"|mbox|hbox|operatorname\*?)\s*"
    r"\{((?:[^{}]|\^\s?\{[-+\d]{1,3}\})*)\}((?:\s*\^\s*(?:\{[-+\d]*\}|-?\d))?)"
)
_TEXT_OF_MATH = re.compile(
    r"\\(?:text|textbf|textrm|textit|mathrm|mbox)\s*(?=\{[^{}A-Za-z]*\\(?:sqrt|frac|pi|binom)(?![A-Za-z]))"
)
_ROW_END = re.compile(r"\\\\(?:\[[^\[\]]{0,9}\])?")
_ORDINAL = re.compile(
    r"(?<=\d)\s*\^\s*\{?\s*(?:\\(?:text|mathrm|textrm)\s*\{\s*)?(?:th|st|nd|rd)\b\s*\}{0,2}"
    r"|(?<=\d)\s*\\(?:text|mathrm|textrm)\s*\{\s*(?:th|st|nd|rd)\s*\}|(?<=\d)(?:th|st|nd|rd)\b"
)
_THOUSANDS_GAP = re.compile(r"(?<=\d)(?:\{,\}|\{\\,\}|,?(?:\\ |\s)*\\!,?|\\,|,\\,|\\ )\s*(?=\d{3}(?!\d))")
_IN_BASE = re.compile(
    f"(?<![.\\w])(\\d[0-9A-F]*)\\s*\\(?\\s*{OPEN}\\s*(?:in\\s+)?base\\s*{CLOSE}\\s*(\\d{{1,2}})\\s*\\)?\\s*$"
)
_WIDE = re.compile(
    f"^[\\s{GAP}]+|[\\s{GAP}]+$|[\\s{GAP}]*{GAP}[\\s{GAP}]*(?=[{OPEN}(,;.=<>]|\\\\(?:le|ge|in|text))|(?<=[,;=<>(])[\\s{GAP}]+"
)
_EXPONENT = re.compile(r"\^\s*\(\s*([-+]?\d{1,9})\s*\)")
_NO_BACKSLASH = re.compile(r"(?<![\\A-Za-z])(d?frac|sqrt|text)(?=\{)")
_UPRIGHT_E = re.compile(r"(\d)\s*\\(?:mathrm|text)\s*\{[eE]\}\s*([-+]?\d)")
_DOLLARS = re.compile(r"\\\$\s*([-+]?\d[\d,]*\.?\d*)(?=\s*(?:$|,(?!\d)|[;)}$]|\\text|\\\)))")
_OVER = re.compile(r"\\(over|choose)(?![A-Za-z])")
_SPACED_THOUSANDS = re.compile(r"\d{1,3}(?:,\s\d{3}){2,}|\d{1,3}(?: \d{3})+")
_FUNCTION_TEXT = (
    "sin cos tan cot sec csc ln log exp arcsin arccos arctan gcd lcm max min sinh cosh tanh lg mod"
)
FUNCTION_NAMES = frozenset(_FUNCTION_TEXT.split())
_PLAIN_SQRT = re.compile(r"(?<!\\)(?<![A-Za-z]{2})(sqrt|cbrt)\s*\(([^()]*(?:\([^()]*\)[^()]*)*)\)")
_INFINITY = re.compile(r"(?<![\\A-Za-z])inf(?:inity|ty)?(?![A-Za-z])|\+\s*\\infty")
_PERCENT = re.compile(
    r"\s*\\?%|\s*(?:\\(?:text|mathrm|textrm|mbox)\s*\{[\s~]*)?\b(?:percent(?:age)?|pct)\b\s*\}?",
    re.IGNORECASE,
)
_UNIT_LETTERS = frozenset("msghKJNVWACFTL")
_REPEATING = re.compile(
    r"(?<![\d.])(\d*)\.(\d*)(?:\\(?:overline|bar)\s*(?:\{(\d{1,60})\}|(\d))|\((\d{1,60})\)(?![\d^!]))"
)
_DOTTED = re.compile(r"(?<![\d.])(\d*)\.(\d*)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?")
_AND_SO_ON = re.compile(r"(?<![\d.])(\d*)\.(\d*?)(\d{1,30}?)(\3+)\s*\.\.\.")
_SHORT_WORDS = (
    "[Ii]f|or|[Ff]or|are|and|[Nn]ot|[Nn]o|[Tt]he|[Aa]ll|[Aa]ny|[Oo]ne|[Tt]wo|[Ss]ix|[Tt]en|odd|"
    "per|was|has|mod"
)
_PREPOSITIONS = "at|in|is|of|to|by|as"
_WORD = re.compile(
    r"(?<![\\A-Za-z_^\ue001{])(?:[A-Za-z]{4,}|(?<![^\s,;:(\ue002])(?:" + _SHORT_WORDS + r")(?=[\s,;:)]|$)"
    r"|(?<![^\s\ue002])(?:" + _PREPOSITIONS + r")(?=[\s:]|$))"
    r"(?:[ '-]{1,2}(?:[A-Za-z]{2,}|a)(?![A-Za-z(^_\\]))*[.!]?(?![A-Za-z_^(\\])"
)
_TIGHT_CONNECTIVE = re.compile(r"(?<=[\d)}])(or|and)(?=[\d(\\A-Z-])")
_TRAILING = re.compile(r"(?:\\[,;:! ]|[.,;:\s])+$")
_NOT_WORDS = frozenset(
    [
        "sqrt",
        "cbrt",
        "sinh",
        "cosh",
        "tanh",
        "coth",
        "sech",
        "csch",
        "arcsin",
        "arccos",
        "arctan",
        "arccot",
        "asin",
        "acos",
        "atan",
        "binom",
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "exp",
        "infinity",
        "infty",
        "arcsinh",
        "arccosh",
        "arctanh",
    ]
)


def clean(text: str) -> str:
    """The answer without layout: no dollar signs, no spacing commands, one spelling for each sign, words between
    ``OPEN`` and ``CLOSE``. Raises ``UndecidedError`` for what cannot be unwrapped."""
    text = _unmarked(text.strip())
    if not text.isascii():
        text = spelled_out(text)
    if "frac" in text or "sqrt" in text or "text{" in text:
        text = _NO_BACKSLASH.sub(r"\\\1", text)
    if not text.endswith("..."):
        text = _TRAILING.sub("", text)
    if "\\begin" in text:
        text = _ROW_END.sub(ROW, _aligned(text))
    elif "\\\\" in text:
        text = re.sub(r"\\\\(?=[A-Za-z{}$%(])", r"\\", text)
        text = re.sub(r"\\\\(?=\s|$)", ",", text)
    if "{e}" in text or "{E}" in text:
        text = _UPRIGHT_E.sub(r"\1e\2", text)
    if "\\" in text or "{,}" in text:
        text = _THOUSANDS_GAP.sub("", text)
        text = re.sub(r"(?<=\d)\{,\}(?=\d)", ".", text)
    if "$" in text or "\\" in text or "%" in text or "percent" in text or "pct" in text:
        text = _latex(text)
    text = _SPACING.sub(" ", text)
    if GAP in text:
        text = _WIDE.sub(" ", text).replace(GAP, ",")
    if "**" in text or "^" in text:
        text = _EXPONENT.sub(r"^{\1}", text.replace("**", "^"))
    if "th" in text or "rd" in text or "st" in text or "nd" in text:
        text = _ORDINAL.sub("", text)
    if "C" in text:
        text = _COMBINATIONS.sub(lambda m: f"\\binom{{{m[1] or m[3]}}}{{{m[2] or m[4]}}}", text)
    if text.startswith("np."):
        text = "\\" + text[3:]
    if "degree" in text or "°" in text:
        text = _DEGREES.sub("°", text)
        text = _TEMPERATURE.sub(lambda m: f" {OPEN}{'celsius' if m[1] == 'C' else 'fahrenheit'}{CLOSE}", text)
        text = _MINUTES.sub(_sexagesimal, text)
    if "inf" in text:
        text = _INFINITY.sub(r"\\infty ", text)
    if "sqrt" in text or "cbrt" in text:
        text = _PLAIN_SQRT.sub(lambda m: ("\\sqrt" if m[1] == "sqrt" else "\\sqrt[3]") + f"{{{m[2]}}}", text)
    if "." in text:
        text = _decimals(text)
    if "or" in text or "and" in text:
        text = _TIGHT_CONNECTIVE.sub(f"{OPEN}\\1{CLOSE}", text)
    if re.search("[A-Za-z]{2}", text):
        text = _marked(text)
    text = unbraced(text.strip().rstrip(f",;: {ROW}"))
    text = _IN_BASE.sub(r"\1_{\2}", text)
    text = text.strip().rstrip(",;:").strip()
    if text.endswith(".") and not text.endswith("..."):
        text = text.rstrip(".").rstrip()
    if _SPACED_THOUSANDS.fullmatch(text):
        text = re.sub(r"[, ]", "", text)
    return unbraced(text)


_MARKDOWN = re.compile(r"(\*\*|__|`|\*(?!\*))\s*(\S(?:.*\S)?)\s*\1", re.DOTALL)
_TAGS = re.compile(r"</?(?:b|i|em|strong|u|span|p|code|br)\s*/?>")
_RAISED = re.compile(r"<(su[bp])>([^<>]{1,40})</\1>")


def _unmarked(text: str) -> str:
    """``text`` without Markdown's emphasis and HTML's tags and entities."""
    if "&" in text and ";" in text:
        text = html.unescape(text)
    if "<" in text and ">" in text:
        text = _RAISED.sub(lambda m: f"{'^' if m[1] == 'sup' else '_'}{{{m[2]}}}", text)
        text = _TAGS.sub("", text)
    while text[:1] in "*_`" and (match := _MARKDOWN.fullmatch(text)):
        text = match[2]
    return text.strip()


def unbraced(text: str) -> str:
    """``text`` without braces around all of it."""
    text = text.strip()
    while len(text) > 2 and text[0] == "{" and text[-1] == "}" and split_top(text[1:-1], "", closed=True):
        text = text[1:-1].strip()
    return text


_ALIGNED = re.compile(
    r"\\begin\{(cases|aligned|align\*?|gathered|gather\*?|split)\}(.*?)\\end\{\1\}", re.DOTALL
)
_TEMPERATURE = re.compile(f"°\\s*{OPEN}?\\s*(C|F)(?:elsius|ahrenheit)?(?![A-Za-z(])\\s*{CLOSE}?")
_MINUTES = re.compile(r"(\d{1,6})\s*°\s*(\d{1,2}(?:\.\d{1,9})?)\s*'(?!')\s*(?:(\d{1,2}(?:\.\d{1,9})?)\s*'')?")
_COMBINATIONS = re.compile(
    r"(?<![A-Za-z\\_])C\s*\(\s*(\d{1,6})\s*,\s*(\d{1,6})\s*\)|(?:\{\s*\})?_\{?(\d{1,6})\}?\s*C\s*_\{?(\d{1,6})\}?"
)


def _aligned(text: str) -> str:
    """Lines of equations as a list of them."""

    def listed(match: re.Match[str]) -> str:
        lines = [line.replace("&", " ").strip(" ,.;") for line in _ROW_END.split(match[2])]
        lines = [line for line in lines if line]
        if not lines or not all("=" in line for line in lines):
            raise UndecidedError
        return ", ".join(lines)

    return _ALIGNED.sub(listed, text)


def _sexagesimal(match: re.Match[str]) -> str:
    """30°15' as 30.25°."""
    total = Fraction(match[1]) + Fraction(match[2]) / 60 + Fraction(match[3] or 0) / 3600
    return f"{{\\frac{{{total.numerator}}}{{{total.denominator}}}}}"


def _infix(text: str) -> str:
    r"""``{a \over b}`` as ``\frac{a}{b}``, ``{n \choose k}`` as ``\binom{n}{k}``."""
    for _ in range(8):
        match = _OVER.search(text)
        if not match:
            return text
        start, end = _enclosing(text, match.start())
        top, bottom = text[start : match.start()], text[match.end() : end]
        command = "\\frac" if match[1] == "over" else "\\binom"
        text = f"{text[:start]}{command}{{{top.strip()}}}{{{bottom.strip()}}}{text[end:]}"
    raise UndecidedError


def _enclosing(text: str, at: int) -> tuple[int, int]:
    """Where the group around a place begins and ends; the whole text where there is none."""
    depth, start = 0, at
    while start > 0:
        depth += {"}": 1, "{": -1}.get(text[start - 1], 0)
        if depth < 0:
            break
        start -= 1
    depth, end = 0, at
    while end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        if depth < 0:
            break
        end += 1
    return start, end


def _latex(text: str) -> str:
    text = _SPACING.sub(" ", text)
    text = text.replace("\\(", "").replace("\\)", "").replace("\\[", "").replace("\\]", "")
    if "$" in text or "\\textdollar" in text:
        text = text.replace("\\textdollar", "\\$")
        text = _DOLLARS.sub(f"\\1 {OPEN}dollars{CLOSE}", text).replace("\\$", "").replace("$", " ")
    text = text.replace("\\_", "_").replace("\\&", "&").replace("\\%", "%").replace("\\#", "")
    if "%" in text or "percent" in text or "pct" in text:
        text = _PERCENT.sub("%", text)
    if "circ" in text or "degree" in text:
        text = _DEGREES.sub("°", text)
    if "th" in text or "rd" in text or "st" in text or "nd" in text:
        text = _ORDINAL.sub("", text)
    if "\\" in text:
        text = _COMMAND.sub(lambda m: _COMMANDS.get(m[1], m[0]), text)
        if "\\over" in text or "\\choose" in text:
            text = _infix(text)
        if "{" in text and "\\" in text:
            text = _TEXT_OF_MATH.sub("", text)
            for _ in range(4):
                changed = _TEXT.sub(_untext, text)
                if changed == text:
                    break
                text = changed
            else:
                if _TEXT.search(text):
                    raise UndecidedError
    return text


def _untext(match: re.Match[str]) -> str:
    r"""What stands for a ``\text{…}``: in subscripts and for single letters itself, numbers and signs themselves, words
    between marks, a unit with its exponent."""
    command, inner, exponent = match[1], match[2], match[3]
    content = re.sub(r"\^\s?\{([-+\d]{1,3})\}", r"^\1", inner.replace("~", " ").replace("\\ ", " "))
    bare = content.strip()
    if not bare:
        return " "
    if bare == "cis":
        return "\\cis "
    if _REMARKS.fullmatch(bare):
        return ""
    if _CHOICES.fullmatch(bare):
        return re.sub(r"\s*(?:,?\s*\b(?:and|or)\b|[,&])\s*", ", ", content)
    content = _ORDINAL.sub("", content)
    if "sqrt(" in bare:
        return f"{content}{exponent}"
    if not re.search("[A-Za-z]{2}", bare) and re.search(r"\d", bare):
        return f"{content}{exponent}"
    if OPEN in content:
        return content + exponent  # unwrapped already
    before = match.string[: match.start()]
    if before.rstrip()[-1:] == "_" or before.rstrip()[-2:] == "_{":
        inside = re.sub(r"[^A-Za-z0-9]", "", bare)
        return inside if before.rstrip()[-1:] == "{" else f"{{{inside}}}"
    if bare in FUNCTION_NAMES and not (bare == "min" and re.search(rf"[\d}}{CLOSE}]\s*$", before)):
        return f"\\{bare} "
    if bare.startswith("%"):
        return "%"
    if command.startswith("operatorname") or "\\" in bare:
        return f"{content}{exponent}"
    if len(bare) == 1 and bare.isalpha():
        behind = before.rstrip()[-1:]
        unit = bare in _UNIT_LETTERS and (
            content.startswith(" ")
            or behind == CLOSE
            or (before.rstrip()[-1:].isdigit() and (command == "mathrm" or exponent or before[-1:] in " ~"))
            or (behind in "/*" and CLOSE in before[-40:])
        )
        if bare == "C" and not (behind == "°" or behind == CLOSE or content.startswith(" ")):
            unit = False
        return f"{OPEN}{bare}{_flat(exponent)}{CLOSE}" if unit else f" {bare}{exponent}"
    if command.startswith("math") and bare.isupper() and len(bare) <= 3:
        return f"{content}{exponent}"
    if re.fullmatch(r"\(?[A-H]\)?", bare):
        return f"{content}{exponent}"
    if exponent:
        return f" {OPEN}{bare}{_flat(exponent)}{CLOSE}"
    return " " + _WORDS_OF_TEXT.sub(lambda m: f"{OPEN}{m[0].strip()}{CLOSE}", content) + " "


_REMARKS = re.compile(r"\(?Q\.?\s?E\.?\s?D\.?\)?")
_CHOICES = re.compile(r"\(?[A-H]\)?(?:\s*(?:,?\s*\b(?:and|or)\b|[,&])\s*\(?[A-H]\)?)+")
_WORDS_OF_TEXT = re.compile(
    r"(?<![A-Za-z])(?:(?<!\()[A-Za-z](?![).:])|"
    r"(?<=\()[A-Za-z](?=[A-Za-z]))[A-Za-z'’./-]*(?:[ ,]{1,2}(?![A-H]\))[A-Za-z][A-Za-z'’./-]*|\^-?\d|\(s\))*"
)


def _flat(exponent: str) -> str:
    return re.sub(r"[\s{}+]", "", exponent)


def _marked(text: str) -> str:
    """Words of plain text between marks; adjoining marks joined, with the signs that units have between them."""

    def mark(match: re.Match[str]) -> str:
        if match[0].rstrip(".!").lower() in _NOT_WORDS:
            return match[0]
        return f"{OPEN}{match[0]}{CLOSE}"

    parts = re.split(f"({OPEN}[^{CLOSE}]*{CLOSE})", text)
    text = "".join(part if part[:1] == OPEN else _WORD.sub(mark, part) for part in parts)
    if OPEN in text:
        text = _JOINT.sub(lambda m: m[1].replace("\\", "").replace("{", "").replace("}", "") or " ", text)
        text = _TAIL.sub(lambda m: f"{_flat(m[1])}{CLOSE}", text)
    return text


_JOINT = re.compile(f"{CLOSE}((?:\\s*\\^\\s*(?:\\{{[-+]?\\d\\}}|-?\\d))?\\s*[/*]?)\\s*{OPEN}")
_TAIL = re.compile(f"{CLOSE}(\\s*\\^\\s*(?:\\{{[-+]?\\d\\}}|-?\\d))")


def _decimals(text: str) -> str:
    """Repeating decimals as the fractions that they are."""
    if "\\" in text or "(" in text:
        text = _REPEATING.sub(lambda m: _fraction(m[1], m[2], m[3] or m[4] or m[5]), text)
        text = _DOTTED.sub(lambda m: _fraction(m[1], m[2], m[3] + (m[4] or "") + (m[5] or "")), text)
    if "..." in text:
        text = _AND_SO_ON.sub(lambda m: _fraction(m[1], m[2], m[3]), text)
    return text


def _fraction(whole: str, fixed: str, period: str) -> str:
    if len(whole) + len(fixed) + len(period) > 200:
        raise UndecidedError
    bottom = int("9" * len(period) + "0" * len(fixed))
    top = int((whole or "0") + fixed + period) - int((whole or "0") + fixed)
    return f"{{\\frac{{{top}}}{{{bottom}}}}}"


# --- splitting ----------------------------------------------------------------------------------------------------


def split_top(text: str, separators: str, *, closed: bool = False) -> list[str]:
    r"""Splits at ``separators`` outside of all brackets (half-open intervals close with either kind). With ``closed``,
    gives ``[]`` where a bracket closes that was not opened. Raises ``UndecidedError`` for brackets that never
    close."""
    depth, start, parts, words = 0, 0, [], False
    for at, char in enumerate(text):
        if char in (OPEN, CLOSE):
            words = char == OPEN
        elif words:
            continue
        elif char in "([{":
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
