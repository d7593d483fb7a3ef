r"""Unicode mathematics as LaTeX: one spelling for each sign before anything else looks at an answer.

Runs of superscripts and subscripts become one group (``10²³`` is 10^{23}, not 10^2·3), a root takes the number, letter
or bracket behind it, vulgar fractions become ``\frac``, dashes minus signs, and compatibility forms (full-width,
mathematical alphabets) what they stand for. Letters that only look like Latin ones stay what they are.
"""

from __future__ import annotations

import re
import unicodedata

_SUPERSCRIPTS = dict(
    zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱᵃᵇᶜᵈᵉᶠᵍʰʲᵏˡᵐᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀ", "0123456789+-=()niabcdefghjklmoprstuvwxyzT", strict=True)
)
_SUBSCRIPTS = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ₐₑₒₓₕₖₗₘₙₚₛₜᵢⱼᵣᵤᵥ", "0123456789+-=()aeoxhklmnpstijruv", strict=True))
_SUPER_RUN = re.compile(f"[{re.escape(''.join(_SUPERSCRIPTS))}]+")
_SUB_RUN = re.compile(f"[{re.escape(''.join(_SUBSCRIPTS))}]+")
_SMALL_FRACTION = re.compile("([⁰¹²³⁴⁵⁶⁷⁸⁹]+)[⁄/]([₀₁₂₃₄₅₆₇₈₉]+)")
_OVERLINED = re.compile("((?:\\d[\u0304\u0305])+)")
_DOTTED = re.compile("(\\d)\u0307")
_COMBINING = re.compile("[\u0304\u0305\u0332]")
_ROOT = re.compile(r"([√∛∜])\s*(?:(\d+(?:\.\d+)?|[A-Za-z])|(?=[({\[\\|πa-z]))")
_ROOTS = {"√": "\\sqrt", "∛": "\\sqrt[3]", "∜": "\\sqrt[4]"}

_SPELLED = {
    "\\ne ": "≠", "\\infty ": "∞", "\\cup ": "∪⋃", "\\cap ": "∩⋂", "\\in ": "∈∊", "\\notin ": "∉", "\\pm ": "±",
    "\\mp ": "∓", "\\emptyset ": "∅⌀", "\\lfloor ": "⌊", "\\rfloor ": "⌋", "\\lceil ": "⌈", "\\rceil ": "⌉",
    "\\approx ": "≈≅≃≒⩰", "\\sim ": "∼", "\\equiv ": "≡", "\\implies ": "⇒→⟹⟶", "\\propto ": "∝", "\\int ": "∫",
    "\\sum ": "∑",
    "\\prod ": "∏", "\\partial ": "∂", "\\angle ": "∠", "\\triangle ": "△", "\\ldots ": "…⋯", "\\mathbb{R}": "ℝ",
    "\\mathbb{Z}": "ℤ", "\\mathbb{N}": "ℕ", "\\mathbb{Q}": "ℚ", "\\mathbb{C}": "ℂ", "\\hbar ": "ℏħ", "\\ell ": "ℓ",
    "\\land ": "∧", "\\lor ": "∨", "\\mid ": "∣", "\\setminus ": "∖", "\\subset ": "⊂", "\\wedge ": "⋀",
    "<=": "≤⩽≦", ">=": "≥⩾≧", "-": "−–—‐‑‒―﹣", "*": "×·⋅∙•∗✕⨯", "/": "÷∕⁄", "^\\circ ": "°˚º",
    "\\text{angstrom}": "ÅÅ", "'": "′’‘ʹ´",
    "''": "″”“", "(": "⟨〈", ")": "⟩〉", "%": "٪", ":": "∶", "+": "➕", ",": "、،", ";": "；", ".": "。",
    "\\text{ degrees C}": "℃", "|": "∥", "*10^{-3}": "‰",
}  # fmt: skip
_GREEK = {
    "ϕ": "\\phi ",
    "ϑ": "\\theta ",
    "ϵ": "\\epsilon ",
    "ϖ": "\\pi ",
    "ϱ": "\\rho ",
    "ς": "\\sigma ",
    "µ": "\\mu ",
}
for _code in (*range(0x391, 0x3AA), *range(0x3B1, 0x3CA)):
    _name = unicodedata.name(chr(_code), "").rpartition(" ")[2].lower().replace("lamda", "lambda")
    _GREEK.setdefault(chr(_code), f"\\{_name.capitalize() if _code < 0x3B1 else _name} ")
_LATIN_CAPITALS = "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ"
"""Greek capitals that LaTeX has no command for, because they look like Latin ones."""
_TABLE = {
    **{ord(sign): spelling for spelling, signs in _SPELLED.items() for sign in signs},
    **{ord(sign): name for sign, name in _GREEK.items() if sign not in _LATIN_CAPITALS},
}


def _compatible(text: str) -> str:
    """Full-width and mathematical letters, digits and signs as ordinary ones; ``½`` as ``\\frac{1}{2}``; all kinds of
    spaces as a space, invisible signs as nothing."""
    out = []
    for char in text:
        code = ord(char)
        if code < 0x80 or code in _TABLE:
            out.append(char)
            continue
        category = unicodedata.category(char)
        if category == "Zs":
            out.append(" ")
        elif category == "Cf":
            continue
        elif (
            0xFF00 <= code < 0xFFF0 or 0x1D400 <= code < 0x1D800 or 0x2460 <= code < 0x2474 or code == 0x2126
        ):
            out.append(unicodedata.normalize("NFKC", char))
        elif category == "No" and "⁄" in (parts := unicodedata.normalize("NFKC", char)):
            top, _, bottom = parts.partition("⁄")
            out.append(f"\\frac{{{top}}}{{{bottom}}}" if bottom else char)
        elif category == "Nd":
            out.append(str(unicodedata.digit(char)))
        else:
            out.append(char)
    return "".join(out)


_CURRENCIES = {"€": "euros", "£": "pounds sterling", "¥": "yen", "₹": "rupees"}
_MONEY = re.compile(r"([€£¥₹])\s*([-+]?\d[\d.,]*\d|\d)|(?<=\d)\s*([€£¥₹])|[€£¥₹]")


def _money(match: re.Match[str]) -> str:
    sign = match[1] or match[3]
    return f"{match[2] or ''}\\text{{ {_CURRENCIES[sign]}}}" if sign else ""


def spelled_out(text: str) -> str:
    """``text`` with its Unicode mathematics as LaTeX; linear in its length."""
    text = _MONEY.sub(_money, text)
    text = unicodedata.normalize("NFC", text) if "\u030a" in text else text
    text = _OVERLINED.sub(lambda m: f"\\overline{{{_COMBINING.sub('', m[1])}}}", text)
    text = _DOTTED.sub(r"\\dot{\1}", text)
    text = _SMALL_FRACTION.sub(lambda m: f"\\frac{{{m[1].translate(_UP)}}}{{{m[2].translate(_DOWN)}}}", text)
    text = _SUPER_RUN.sub(lambda m: "^{" + m[0].translate(_UP) + "}", text)
    text = _SUB_RUN.sub(lambda m: "_{" + m[0].translate(_DOWN) + "}", text)
    text = _compatible(text).translate(_TABLE)
    if "√" in text or "∛" in text or "∜" in text:
        text = _ROOT.sub(lambda m: _ROOTS[m[1]] + (f"{{{m[2]}}}" if m[2] else ""), text)
        text = re.sub(r"\\sqrt(\[\d\])?\(([^()]*(?:\([^()]*\)[^()]*)*)\)", r"\\sqrt\1{\2}", text)
    return text


_UP = str.maketrans(_SUPERSCRIPTS)
_DOWN = str.maketrans(_SUBSCRIPTS)


_SPACES = re.compile(r"(?:\\(?:displaystyle|textstyle|quad|qquad)(?![A-Za-z])|\\[,;:! ]|\s)+")
_WRAPPER = re.compile(
    r"(?:\\(?:boxed|fbox|text|mathbf|mathrm|textbf)|\\(?:textcolor|color)\{[a-zA-Z]{1,20}\})?\{"
)
_LAYERS = 8
"""Dresses that one answer may have around another."""


def undressed(text: str) -> str:
    """An answer without what surrounds all of it and means nothing: dollars, boxes, colours, braces, spaces."""
    for _ in range(_LAYERS):
        before = text
        lead = _SPACES.match(text)
        text = text[lead.end() if lead else 0 :].rstrip()
        while len(text) > 1 and text[-2] == "\\" and text[-1] in ",;:!":
            text = text[:-2].rstrip()
        for opening, closing in (("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")):
            inner = text[len(opening) : -len(closing)]
            if text.startswith(opening) and text.endswith(closing) and inner and opening not in inner:
                text = inner
        if (wrapper := _WRAPPER.match(text)) and _closes_last(text, wrapper.end()):
            text = text[wrapper.end() : -1]
        if text == before:
            break
    return text


def _closes_last(text: str, start: int) -> bool:
    """Whether the brace that is open before ``start`` closes with the last character."""
    depth, at = 1, start
    for brace in re.finditer(r"\\.|[{}]", text[start:], re.DOTALL):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            at = start + brace.start()
            break
    return depth == 0 and at == len(text) - 1
