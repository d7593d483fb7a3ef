"""Values of single runs, where an arm has several: what intervals over seeds are made of.

The i-th runs of arms that are paired began with the same weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cipo_eval.analysis.rows import rows_of
from cipo_eval.metrics.bootstrap import CONFIDENCE
from cipo_eval.records import Mode
from cipo_reports.arms import Arm
from cipo_reports.frames import structure


def run_rows(arms: Sequence[Arm], mode: Mode) -> Iterator[dict[str, Any]]:
    """Of each task that an arm has several runs of, every figure of every run, breakdowns left out."""
    for arm in arms:
        for task in arm.tasks:
            runs = arm.having(task)
            for number, run in enumerate(runs, 1):
                for row in rows_of(run.results["tasks"][task], mode) if len(runs) > 1 else ():
                    if not row.column and row.value is not None:
                        yield {
                            "arm": arm.name,
                            "task": task,
                            "run": number,
                            "seed": run.info.get("seed"),
                            "protocol": row.protocol,
                            "figure": row.measure.name,
                            "value": float(row.value),
                            **structure(row.measure),
                        }


def paired_difference(
    runs: pd.DataFrame, task: str, first: tuple[str, str, str], second: tuple[str, str, str]
) -> dict[str, Any] | None:
    """``second`` less ``first``, each an arm, a protocol and a figure, over the runs of a task: the mean of the
    differences of the i-th runs with Student's interval. None where they have not as many runs, or fewer than two."""
    from scipy.stats import ttest_1samp

    of_task = runs[runs["task"] == task]
    values = []
    for arm, protocol, figure in (first, second):
        rows = of_task[
            (of_task["arm"] == arm) & (of_task["protocol"] == protocol) & (of_task["figure"] == figure)
        ]
        values.append(rows.sort_values("run")["value"].to_numpy(dtype=float))
    if len(values[0]) != len(values[1]) or len(values[0]) < 2:
        return None
    difference = values[1] - values[0]
    row = {"difference": float(np.mean(difference)), "low": None, "high": None}
    if np.ptp(difference) > 1e-9:  # the same to the last digit or two: nothing varies
        low, high = ttest_1samp(difference, 0.0).confidence_interval(CONFIDENCE)
        row |= {"low": float(low), "high": float(high)}
    return row
