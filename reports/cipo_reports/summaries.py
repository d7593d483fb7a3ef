"""A study read from what a report wrote of it, without its runs: what is enough to draw its pictures again.

``results.csv`` and, where they are there, ``runs.csv`` and ``along.csv`` (the evaluations on the way, as rows of
``training.csv``). Attempts, problems and logs are not in them, so tables and the page cannot be made of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Measure
from cipo_eval.analysis.rows import logged_score
from cipo_eval.errors import UsageError
from cipo_eval.records import Mode
from cipo_reports.arms import Arm
from cipo_reports.frames import AVERAGE, BUDGET, DIFFERENCES, RESULTS, RUNS, TRAINING, frame, structure
from cipo_reports.study import Study

MOST = 128
"""The largest k, and the last turn, of figures whose number rows are chosen by."""
ALONG = "along.csv"


@dataclass(frozen=True)
class SummaryArm(Arm):
    """A method of which only its figures are known."""

    measured: tuple[str, ...] = ()

    @property
    def tasks(self) -> list[str]:
        return list(self.measured)


def read_summary(folder: Path, *, baseline: str | None = None) -> Study:
    """The figures that a report wrote into a folder. ``baseline``: the arm that others are compared with. Raises
    ``UsageError`` where there are none."""
    known = {m.name: m for n in range(1, MOST + 1) for m in (f.PASS.at(n), f.ACCURACY.at(n))}
    results = _rows(folder / "results.csv", RESULTS, known)
    arms = tuple(
        SummaryArm(name=str(name), runs=(), measured=tuple(t for t in rows["task"].unique() if t != AVERAGE))
        for name, rows in results.groupby("arm", sort=False)
    )
    if baseline is not None and baseline not in {arm.name for arm in arms}:
        raise UsageError(f"{folder} has nothing of {baseline}")
    runs, along = folder / "runs.csv", folder / ALONG
    return Study(
        arms=arms,
        baseline=baseline,
        mode=Mode.FIXED,
        results=results,
        differences=frame([], DIFFERENCES),
        budget=frame([], BUDGET),
        training=frame(list(_logged(along)), [*TRAINING, "task"]),
        runs=_rows(runs, RUNS, known) if runs.is_file() else frame([], RUNS),
        paired=runs.is_file(),
    )


def _logged(path: Path) -> Iterator[dict[str, Any]]:
    for row in _read(path).to_dict("records") if path.is_file() else ():
        task, score = logged_score(str(row["figure"]))
        yield {**row, "task": task, **structure(score)}


def _read(path: Path) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype={"column": str, "group": str}, keep_default_na=True)
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as the figures of a report ({error})") from error


def _rows(path: Path, columns: Sequence[str], known: Mapping[str, Measure]) -> pd.DataFrame:
    table = _read(path)
    if lacking := set(columns) - set(table):
        raise UsageError(f"{path} has no column {', '.join(sorted(lacking))}")
    if "column" in table:
        table = table.fillna({"column": "", "group": ""})
    return frame(
        [{**row, **structure(known.get(str(row["figure"])))} for row in table.to_dict("records")], columns
    )
