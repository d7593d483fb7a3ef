"""The columns of a study's frames, and how rows are chosen from them.

Beside the columns that are written to files stand those that rows are chosen by: ``measure`` (the object itself: its
name stands in ``figure``), its ``family``, ``turn`` and ``k``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from cipo_eval.analysis.figure import Measure

AVERAGE = "average"
"""Stands for a task: the unweighted mean over the tasks that all arms have."""
STRUCTURE = ["measure", "family", "turn", "k"]
"""Columns that stay in memory."""
RESULTS = [
    "arm",
    "task",
    "protocol",
    "figure",
    "column",
    "group",
    "value",
    "low",
    "high",
    "std",
    "method",
    "seeds",
    "problems",
    "attempts",
]
DIFFERENCES = [
    "arm",
    "baseline",
    "task",
    "protocol",
    "figure",
    "first",
    "second",
    "difference",
    "low",
    "high",
    "p",
    "p_holm",
    "mde",
    "problems",
]
BUDGET = ["arm", "task", "protocol", "kind", "k", "tokens", "value"]
TRAINING = ["arm", "data", "seed", "step", "kind", "figure", "value"]
WORTH = ["arm", "all", "half", "task", "protocol", "figure", "value", "low", "high", "gain", "full", "seeds"]
RUNS = ["arm", "task", "run", "seed", "protocol", "figure", "value"]
FRAMES = {
    "results": RESULTS,
    "differences": DIFFERENCES,
    "budget": BUDGET,
    "training": TRAINING,
    "worth": WORTH,
    "runs": RUNS,
}
"""Columns of each data frame that a report writes, by its name."""
NUMBERS = {"value", "low", "high", "std", "first", "second", "difference", "p", "p_holm", "mde", "tokens"}
NUMBERS |= {"gain", "full"}
"""Columns of figures, numbers also where all of them are missing."""


def structure(measure: Measure | None) -> dict[str, Any]:
    """The columns by which a row is chosen; empty for what has no measure."""
    if measure is None:
        return dict.fromkeys(STRUCTURE)
    return {"measure": measure, "family": measure.family, "turn": measure.turn, "k": measure.k}


def frame(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Rows with the columns that are written and those they are chosen by."""
    return pd.DataFrame(rows, columns=[*columns, *(name for name in STRUCTURE if name not in columns)])


def whole(results: pd.DataFrame) -> pd.DataFrame:
    """The rows that are about all problems of a task, without those of breakdowns."""
    return results[results["column"] == ""]


def among(rows: pd.DataFrame, *families: str) -> pd.DataFrame:
    """Rows of figures of some families."""
    return rows[rows["family"].isin(families)]


def unique(measures: Iterable[Any]) -> list[Any]:
    """Measures without those of a name that was there before, in order."""
    by_name: dict[str, Any] = {}
    for measure in measures:
        by_name.setdefault(measure.name, measure)
    return list(by_name.values())
