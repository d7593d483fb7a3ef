r"""Kinds of answers that graders get wrong, found by reading reports about other graders and by probing two of them.

Each kind has answers that are right and answers that are wrong; sources are repository#number where a report gave the
idea, and "own" where none did. No row is taken from a data set.
"""

from __future__ import annotations

from collections.abc import Iterator

from verifiers.math_kind import Kind
from verifiers.math_kinds_found import FOUND
from verifiers.math_kinds_reported import REPORTED

KINDS = REPORTED + FOUND

REFUSED = "is not understood, so it is refused"
ACCEPTED = "is taken for the other writing"

OPEN: dict[tuple[str, str, str], str] = {
    ("quotients with units in them", "60", "\\frac{120 \\text{ miles}}{2 \\text{ hours}}"): REFUSED,
    ("quotients with units in them", "\\frac{5}{2}", "\\frac{5 \\text{ cm}}{2}"): REFUSED,
    ("an interval and its ends", "[1,4]", "\\{1, 4\\}"): ACCEPTED,
    ("an interval and its ends", "[1,4]", "x = 1, x = 4"): ACCEPTED,
    ("an interval and its ends", "\\{1,4\\}", "[1,4]"): ACCEPTED,
    ("fractions in words", "\\frac{1}{2}", "\\text{one half}"): REFUSED,
    ("fractions in words", "\\frac{3}{4}", "\\text{three quarters}"): REFUSED,
    ("fractions in words", "\\frac{2}{3}", "\\text{two-thirds}"): REFUSED,
    ("fractions in words", "\\frac{3}{4}", "\\text{three-fourths}"): REFUSED,
    ("things that are called like numbers", "18", "18 \\text{ quarters}"): REFUSED,
    ("things that are called like numbers", "25", "25 \\text{ ten-dollar bills}"): REFUSED,
    ("things that are called like numbers", "12", "12 \\text{ halves}"): REFUSED,
    ("names of a pair", "(1,2)", "(y,x) = (1,2)"): ACCEPTED,
    ("positive and negative numbers by name", "(0,\\infty)", "\\mathbb{R}^+"): REFUSED,
    ("positive and negative numbers by name", "(0,\\infty)", "\\mathbb{R}_{>0}"): REFUSED,
    ("positive and negative numbers by name", "[0,\\infty)", "\\mathbb{R}_{\\ge 0}"): REFUSED,
    ("angles in the other unit", "90^\\circ", "\\frac{\\pi}{2}"): REFUSED,
    ("angles in the other unit", "\\frac{\\pi}{2}", "90^\\circ"): REFUSED,
    ("angles in the other unit", "\\pi", "3.1416^\\circ"): ACCEPTED,
    ("parts of a thousand", "0.005", "5\u2030"): REFUSED,
    ("parts of a thousand", "0.5\\%", "5\u2030"): REFUSED,
    ("parts of a thousand", "0.012", "12\u2030"): REFUSED,
    ("signs in words", "-5", "\\text{minus } 5"): REFUSED,
    ("signs in words", "-5", "\\text{negative five}"): REFUSED,
    ("sentences around a word", "\\text{Monday}", "\\text{on Monday}"): REFUSED,
    ("constants of integration by other names", "C_1 e^t + C_2 e^{-t}", "A e^{t} + B e^{-t}"): REFUSED,
    ("the number e before a sign", "7p+4e", "4e+7p"): REFUSED,
    ("segments", "\\overline{CD}", "\\overline{DC}"): REFUSED,
    ("segments", "\\overline{CD}", "CD"): REFUSED,
    ("segments", "\\overline{CD}", "\\text{segment } CD"): REFUSED,
    ("golds in code", "np.arcsin(10/13)", "0.8776"): REFUSED,
    ("slips in LaTeX", "\\frac{1}{2}", "frac{1}{2}"): REFUSED,
}  # fmt: skip
"""(kind, gold, answer) of what is judged wrongly on purpose or not mended yet, each with its reason."""


def cases() -> Iterator[tuple[Kind, str, str, bool]]:
    """(kind, gold, answer, whether it is right) of every row."""
    for kind in KINDS:
        for gold, answer in kind.right:
            yield kind, gold, answer, True
        for gold, answer in kind.wrong:
            yield kind, gold, answer, False
