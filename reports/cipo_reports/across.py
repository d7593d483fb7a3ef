"""What is made of several tasks or arms: averages over tasks, and differences to the baseline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cipo_eval.analysis.comparison import Comparison, compare_arms
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.selection import Selected
from cipo_eval.metrics.bootstrap import mean_interval
from cipo_eval.metrics.seeds import compare_seed_means, spread_mean
from cipo_eval.records import Mode
from cipo_reports.arms import Arm
from cipo_reports.frames import AVERAGE, DIFFERENCES, RESULTS, frame, structure, whole
from cipo_reports.seeds import Key, Tables, same_seeds, within_bounds

Over = Mapping[Key, Sequence[str]]
"""The tasks that the averages of each figure are over."""
ByTask = Mapping[tuple[str, str], Tables]
"""The sums of runs, by arm and task."""


def averages(results: pd.DataFrame, arms: Sequence[Arm], tables: ByTask) -> tuple[pd.DataFrame, Over]:
    """Unweighted means over the tasks that all arms have, of every figure that all of them have there; what adds up
    over tasks has none."""
    rows = []
    over: dict[Key, list[str]] = {}
    defined = whole(results)[whole(results)["value"].notna()]
    for (protocol, name), of_figure in defined.groupby(["protocol", "figure"], sort=False):
        measure, key = of_figure["measure"].iloc[0], (str(protocol), str(name))
        by_arm = {arm.name: of_figure[of_figure["arm"] == arm.name].set_index("task") for arm in arms}
        tasks_of_arms = [set(table.index) for table in by_arm.values() if len(table)]
        tasks = sorted(set.intersection(*tasks_of_arms)) if tasks_of_arms else []
        if len(tasks) < 2 or measure.kind == "total":
            continue
        over[key] = tasks
        for arm in arms:
            if not len(by_arm[arm.name]):
                continue
            part = by_arm[arm.name].loc[tasks]
            values = part["value"].astype(float).tolist()
            std = low = high = None
            if seeds := same_seeds(arm, tasks, [tables.get((arm.name, t), {}) for t in tasks], key):
                mean = spread_mean(seeds.tasks, seeds.form)
                std = mean.std
                low, high = within_bounds(mean.ci, measure) if mean.ci else (None, None)
            elif not part["low"].isna().any() and (part["seeds"] == 1).all():
                ends = [(float(a), float(b)) for a, b in zip(part["low"], part["high"], strict=True)]
                low, high = mean_interval(values, ends)
            sizes = {column: int(part[column].sum()) for column in ("problems", "attempts")}
            rows.append(
                {
                    **{"arm": arm.name, "task": AVERAGE, "protocol": protocol, "figure": name},
                    **{"column": "", "group": "", "value": float(np.mean(values))},
                    **{"low": low, "high": high, "std": std, "method": "macro"},
                    **{"seeds": int(part["seeds"].min()), **sizes, **structure(measure)},
                }
            )
    return frame(rows, RESULTS), over


@dataclass(frozen=True, kw_only=True)
class Against:
    """How arms are compared with the baseline."""

    mode: Mode
    tables: ByTask
    over: Over
    bootstrap: int
    force: bool
    paired: bool
    figures: Sequence[Figure] = ()


def differences(arms: Sequence[Arm], baseline: str | None, how: Against) -> tuple[pd.DataFrame, list[str]]:
    """Each arm against the baseline, as ``cipo-eval compare`` does it, and the means over tasks."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    base = next((arm for arm in arms if arm.name == baseline), None)
    runs = {run.path: run for arm in arms for run in arm.runs}

    def read(path: Path, task: str) -> Selected:
        return runs[path].selected(task)

    for arm in arms:
        if base is None or arm is base or not set(arm.tasks) & set(base.tasks):
            continue
        comparison = compare_arms(
            [run.path for run in base.runs],
            [run.path for run in arm.runs],
            mode=how.mode,
            bootstrap=how.bootstrap,
            force=how.force,
            read=read,
            paired=how.paired,
            figures=how.figures,
        )
        notes += [f"{arm.name} against {base.name}: {note}" for note in comparison.notes]
        of_arm = list(_rows(comparison, arm, base))
        rows += of_arm + list(_mean_differences(of_arm, base, arm, how))
    return frame(rows, DIFFERENCES), notes


def _rows(comparison: Comparison, arm: Arm, base: Arm) -> Iterator[dict[str, Any]]:
    for row in comparison.rows:
        difference = row.difference
        low, high = difference.ci or (None, None)
        yield {
            "arm": arm.name,
            "baseline": base.name,
            "task": row.task,
            "protocol": row.protocol,
            "figure": row.figure.name,
            "first": difference.first,
            "second": difference.second,
            "difference": difference.difference,
            "low": low,
            "high": high,
            "p": difference.p,
            "p_holm": row.p_holm,
            "mde": difference.mde,
            "problems": difference.problems,
            **structure(row.figure),
        }


def _mean_differences(
    rows: Sequence[Mapping[str, Any]], base: Arm, arm: Arm, how: Against
) -> Iterator[dict[str, Any]]:
    """Over the tasks of each figure's average. Where both arms have seeds, they are the same trainings in all tasks."""
    for key in dict.fromkeys((row["protocol"], row["figure"]) for row in rows):
        among = how.over.get(key, [])
        of_tasks = [row for row in rows if (row["protocol"], row["figure"]) == key and row["task"] in among]
        undefined = any(row["difference"] is None for row in of_tasks)
        if len(of_tasks) < 2 or len(of_tasks) < len(among) or undefined:
            continue
        tasks = [row["task"] for row in of_tasks]
        mean = {**of_tasks[0], "task": AVERAGE, **dict.fromkeys(("low", "high", "p", "p_holm", "mde"))}
        for column in ("first", "second", "difference"):
            mean[column] = float(np.mean([row[column] for row in of_tasks]))
        mean["problems"] = sum(row["problems"] for row in of_tasks)
        first, second = (
            same_seeds(a, tasks, [how.tables.get((a.name, t), {}) for t in tasks], key) for a in (base, arm)
        )
        if first and second and first.problems == second.problems:
            paired = how.paired and first.seeds == second.seeds
            test = compare_seed_means(first.tasks, second.tasks, form=first.form, paired=paired)
            mean |= {"p": test.p, "p_holm": test.p, "mde": test.mde}  # one figure: nothing to adjust for
            mean |= dict(zip(("low", "high"), test.ci or (None, None), strict=True))
        elif all(row["low"] is not None for row in of_tasks) and all(
            len(a.having(task)) == 1 for a in (base, arm) for task in tasks
        ):
            ends = [(row["low"], row["high"]) for row in of_tasks]
            mean["low"], mean["high"] = mean_interval([row["difference"] for row in of_tasks], ends)
        yield mean
