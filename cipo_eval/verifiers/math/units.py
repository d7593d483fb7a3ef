"""Units behind values: what they measure and in which size, so that 5 km is 5000 m and not 5 m.

Units that are not in the table are words: they are neither compared nor held against an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

Dimension = tuple[tuple[str, int], ...]
"""Base quantities with their exponents: L length, M mass, T time, I current, K temperature, N amount, and others of
their own, such as X for dollars or B for bits, which are not converted into any of these."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A unit: its size in base units, and what it measures as powers of those."""

    size: Fraction
    dimension: Dimension


_BASE = {
    "m": (1, "L1"), "g": ("0.001", "M1"), "s": (1, "T1"), "A": (1, "I1"), "K": (1, "K1"),
    "mol": (1, "N1"), "L": ("0.001", "L3"),
    "l": ("0.001", "L3"), "Hz": (1, "T-1"), "N": (1, "M1L1T-2"), "J": (1, "M1L2T-2"), "W": (1, "M1L2T-3"),
    "Pa": (1, "M1L-1T-2"), "V": (1, "M1L2T-3I-1"), "C": (1, "I1T1"), "F": (1, "M-1L-2T4I2"), "T": (1, "M1T-2I-1"),
    "eV": ("1.602176634e-19", "M1L2T-2"), "cal": ("4.184", "M1L2T-2"), "erg": ("1e-7", "M1L2T-2"),
    "pc": ("3.0856775814913673e16", "L1"), "bar": (100000, "M1L-1T-2"), "dyn": ("1e-5", "M1L1T-2"),
    "yr": (31557600, "T1"),
}  # fmt: skip
_PREFIXES = {
    "f": "1e-15", "p": "1e-12", "n": "1e-9", "u": "1e-6", "\\mu": "1e-6", "m": "1e-3", "c": "1e-2", "d": "1e-1",
    "k": "1e3", "M": "1e6", "G": "1e9", "T": "1e12",
}  # fmt: skip
_NAMED = {
    "meter metre": "m", "gram gramme": "g", "second sec": "s", "ampere amp": "A", "kelvin": "K", "mole": "mol",
    "liter litre": "L", "hertz": "Hz", "newton": "N", "joule": "J", "watt": "W", "pascal": "Pa", "volt": "V",
    "coulomb": "C", "farad": "F", "tesla": "T", "electronvolt": "eV", "calorie": "cal", "parsec": "pc", "dyne": "dyn",
}  # fmt: skip
_LONG_PREFIXES = {
    "kilo": "1e3",
    "centi": "1e-2",
    "milli": "1e-3",
    "micro": "1e-6",
    "nano": "1e-9",
    "mega": "1e6",
}
_OTHERS = {
    "min minute": (60, "T1"), "h hr hour": (3600, "T1"), "day": (86400, "T1"), "week": (604800, "T1"),
    "year": (31557600, "T1"), "in inch inches": ("0.0254", "L1"), "ft foot feet": ("0.3048", "L1"),
    "yd yard": ("0.9144", "L1"),
    "mi mile": ("1609.344", "L1"), "lb pound": ("0.45359237", "M1"), "oz ounce": ("0.028349523125", "M1"),
    "angstrom": ("1e-10", "L1"), "AU au": ("149597870700", "L1"), "atm": (101325, "M1L-1T-2"),
    "acre": ("4046.8564224", "L2"),
    "ton tonne": (1000, "M1"), "cent": ("0.01", "X1"), "dollar USD": (1, "X1"), "mph": ("0.44704", "L1T-1"),
    "euro": (1, "E1"), "sterling": (1, "P1"), "yen": (1, "Y1"), "rupee": (1, "R1"), "celsius Celsius": (1, "H1"),
    "fahrenheit Fahrenheit": (1, "G1"), "kph kmh": ("0.2777777777777777777777777778", "L1T-1"),
    "gallon": ("0.003785411784", "L3"), "bit": (1, "B1"), "byte": (8, "B1"),
}  # fmt: skip


def _measure(size: object, dimension: str) -> Measure:
    pairs = re.findall(r"([A-Z])(-?\d)", dimension)
    return Measure(Fraction(str(size)), tuple(sorted((letter, int(power)) for letter, power in pairs)))


def _table() -> dict[str, Measure]:
    table: dict[str, Measure] = {}
    for symbol, (size, dimension) in _BASE.items():
        table[symbol] = _measure(size, dimension)
        for prefix, factor in _PREFIXES.items():
            table.setdefault(prefix + symbol, _measure(Fraction(str(size)) * Fraction(factor), dimension))
    for names, (size, dimension) in _OTHERS.items():
        for name in names.split():
            table[name] = _measure(size, dimension)
            if len(name) > 2 and name.islower():
                table.setdefault(name + "s", table[name])
    for names, symbol in _NAMED.items():
        for name in names.split():
            size, dimension = _BASE[symbol]
            for prefix, factor in {"": "1", **_LONG_PREFIXES}.items():
                measure = _measure(Fraction(str(size)) * Fraction(factor), dimension)
                table[prefix + name] = table[prefix + name + "s"] = measure
    table.update(
        {"hrs": table["h"], "mins": table["min"], "secs": table["s"], "yrs": table["yr"], "lbs": table["lb"]}
    )
    return table


TABLE = _table()
"""Units by the ways in which they are written."""
_SKIPPED = frozenset({"of", "the", "per", "a", "an"})
_TOKEN = re.compile(
    r"(square|cubic|sq|cu)?\.?\s*(\\?[A-Za-z]+)\.?(?:\s*\^?\s*\{?([-+]?\d)\}?)?|([/*])|(\s+|\()|(.)"
)


@lru_cache(maxsize=4096)
def measure(text: str) -> Measure | None:
    """What ``km/h`` or ``square meters`` measures; None where it is not understood as a whole."""
    size, powers, sign, has_unit = Fraction(1), dict[str, int](), 1, False
    for match in _TOKEN.finditer(text.strip().rstrip(")")):
        squared, name, exponent, mark, space, other = match.groups()
        if other:
            return None
        if mark or space:
            sign = -1 if mark == "/" else sign if space else 1
            continue
        if name == "per":
            sign = -1
            continue
        unit = TABLE.get(name) or TABLE.get(name.lower() if len(name) > 3 else name)
        if unit is None:
            if name in _SKIPPED:
                continue
            return None
        power = int(exponent or 1) * {"square": 2, "sq": 2, "cubic": 3, "cu": 3}.get(squared or "", 1) * sign
        size *= unit.size**power
        for letter, count in unit.dimension:
            powers[letter] = powers.get(letter, 0) + count * power
        has_unit = True
    if not has_unit:
        return None
    return Measure(size, tuple(sorted((letter, power) for letter, power in powers.items() if power)))


# --- units without marks ----------------------------------------------------------------------------------------------

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
    r"(\s*)(\\mu\s*[A-Za-z]|(?:[A-Za-z\\]|/\s*[A-Za-z\\])[^+=,<>|]*|\*\s*[A-Za-z][^+=,<>|]*)$"
)
_UNIT_TOKEN = re.compile(r"\\?[A-Za-z]+")
_NO_UNITS = frozenset(
    [
        "sin",
        "cos",
        "tan",
        "cot",
        "sec",
        "csc",
        "ln",
        "log",
        "exp",
        "arcsin",
        "arccos",
        "arctan",
        "gcd",
        "lcm",
        "max",
        "min",
        "sqrt",
        "pi",
    ]
)


def without_units(text: str, *, letters: bool) -> tuple[str, str]:
    """A number and the unit letters behind it; the text as it was where what follows is no unit. With ``letters``,
    single letters are units too (otherwise they are variables)."""
    match = _NUMBER_HEAD.match(text)
    if not match:
        return text, ""
    tail = match[3]
    tokens = _UNIT_TOKEN.findall(tail)
    if not tokens or not all(_is_unit(token, letters, bool(match[2])) for token in tokens):
        return text, ""
    if re.search(r"[()!]", tail.replace("(s)", "")):
        return text, ""
    return re.sub(r"\s*\*\s*10", "*10", match[1]).strip(), tail


def _is_unit(token: str, letters: bool, spaced: bool) -> bool:
    if token in ("\\mu", "\\Omega", "\\mathring"):
        return True
    if token[0] == "\\":
        return False
    if token in _LETTER_UNITS:
        return letters
    if token in _NO_UNITS:
        return False
    return token in _SHORT_UNITS or (len(token) >= 4 and (spaced or letters)) or (len(token) == 3 and spaced)
