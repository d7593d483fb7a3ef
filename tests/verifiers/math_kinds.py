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


OPEN: dict[tuple[str, str, str], str] = {}
"""(kind, gold, answer) of what is judged wrongly on purpose or not mended yet, each with its reason."""


def cases() -> Iterator[tuple[Kind, str, str, bool]]:
    """(kind, gold, answer, whether it is right) of every row."""
    for kind in KINDS:
        for gold, answer in kind.right:
            yield kind, gold, answer, True
        for gold, answer in kind.wrong:
            yield kind, gold, answer, False
