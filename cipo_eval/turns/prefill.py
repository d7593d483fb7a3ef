"""Where an attempt is cut whose beginning a model is to go on with, or is shown."""

from __future__ import annotations

import re

from cipo_eval.texts import strip_think
from cipo_eval.turns.protocols import Cut

WAIT = " Wait"
"""What may stand behind the beginning of an attempt (Self-Correction Bench, arXiv:2507.02778)."""


def cut(text: str, where: Cut, error_end: int | None = None, think: str | None = None) -> str:
    """The beginning of an attempt, without white space at its ends.

    ``where``: "step", up to the end of its first wrong step (``error_end`` characters; None: not known, and all of it
    stays), or a percentage of its characters, of which a word that is cut through is left out. ``think``: the tags of
    thoughts, which are left out; None: they stay.
    """
    if where == "step" and error_end is not None:
        text = text[:error_end]
    text = (text if think is None else strip_think(text, think)).strip()
    if where is None or where == "step":
        return text
    end = len(text) * where // 100
    begun = text[:end]
    if end < len(text) and not text[end].isspace() and (spaces := list(re.finditer(r"\s", begun))):
        begun = begun[: spaces[-1].start()]  # a text without spaces is cut where it is
    return begun.rstrip()
