"""What an attempt is worth that was spent on a correction: (CIPO - half) / (all - half).

Three trainings from the same weights: with all attempts on fresh problems, with half of them, and with half of them on
fresh problems and the others on corrections. 1: a correction is worth a fresh attempt; 0: it is worth nothing; below 0
it costs. Over seeds, with Fieller's interval (``metrics.fieller``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Measure
from cipo_eval.analysis.rows import rows_of
from cipo_eval.errors import UsageError, nearest
from cipo_eval.metrics.fieller import ratio_of_means
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.arms import Arm, RunData
from cipo_reports.cells import NONE, Cell, Lookup, Table, amount, make_table, name, number
from cipo_reports.frames import structure


@dataclass(frozen=True, slots=True, kw_only=True)
class Worth:
    """Which arms of a study a worth is made of."""

    all: str
    """The arm with all attempts on fresh problems."""
    half: str
    """The arm with half of them."""
    of: tuple[str, ...] = ()
    """Arms whose corrections are looked at; empty: all others."""


def worth_rows(arms: Sequence[Arm], asked: Worth | None, mode: Mode) -> list[dict[str, Any]]:
    """Of every other arm that has the tasks of both: the worth of its corrections, by task, on pass@k and on the
    accuracy after the second answer. The i-th runs of the arms began with the same weights.

    Raises ``UsageError`` for arms that are not there.
    """
    if asked is None:
        return []
    by_name = {arm.name: arm for arm in arms}
    for wanted in (asked.all, asked.half):
        if wanted not in by_name:
            raise UsageError(f"worth: no arm is named {wanted}; {nearest(wanted, by_name)}")
    everything, half = by_name[asked.all], by_name[asked.half]
    rows = []
    for arm in arms:
        if arm in (everything, half) or (asked.of and arm.name not in asked.of):
            continue
        for task in (task for task in arm.tasks if task in everything.tasks and task in half.tasks):
            rows += list(_of_task(arm, everything, half, task, mode))
    return rows


def _of_task(arm: Arm, everything: Arm, half: Arm, task: str, mode: Mode) -> Iterator[dict[str, Any]]:
    of_arms = [[_values(run, task, mode) for run in one.having(task)] for one in (arm, everything, half)]
    if len({len(runs) for runs in of_arms}) != 1:
        return  # no pairs
    shared = [key for key in of_arms[0][0] if all(key in run for runs in of_arms for run in runs)]
    for key in shared:
        ours, theirs, less = ([run[key] for run in runs] for runs in of_arms)
        ratio = ratio_of_means(
            [a - c for a, c in zip(ours, less, strict=True)],
            [b - c for b, c in zip(theirs, less, strict=True)],
        )
        low, high = ratio.ci or (None, None)
        protocol, measure = key
        yield {
            "arm": arm.name,
            "all": everything.name,
            "half": half.name,
            "task": task,
            "protocol": protocol,
            "figure": measure.name,
            "value": ratio.value,
            "low": low,
            "high": high,
            "gain": sum(a - c for a, c in zip(ours, less, strict=True)) / len(ours),
            "full": sum(b - c for b, c in zip(theirs, less, strict=True)) / len(ours),
            "seeds": ratio.units,
            **structure(measure),
        }


def _values(run: RunData, task: str, mode: Mode) -> Mapping[tuple[str, Measure], float]:
    """pass@k of first attempts, and accuracies after the second answer, of a run at a task."""
    found: dict[tuple[str, Measure], float] = {}
    second = f.ACCURACY.at(2)
    for row in rows_of(run.results["tasks"][task], mode):
        wanted = row.protocol == DIRECT and row.measure.family == f.PASS.at(1).family
        if not row.column and row.value is not None and (wanted or row.measure.name == second.name):
            found[row.protocol, row.measure] = float(row.value)
    return found


def worth_table(rows: Any) -> Table:
    """Methods × figures, of a study's frame of worths."""
    look = Lookup(rows, "arm", "task", "protocol", "figure")
    keys = list(dict.fromkeys(zip(rows["protocol"], rows["figure"], strict=True)))
    columns = ["task", "method", *(_title(protocol, figure) for protocol, figure in keys), "trainings"]
    laid_out: list[list[Cell]] = []
    for task, arm in dict.fromkeys(zip(rows["task"], rows["arm"], strict=True)):
        found = [look(arm, task, *key) for key in keys]
        seeds = max((row["seeds"] for row in found if row), default=0)
        laid_out.append([name(task), name(arm), *map(_cell, found), amount(seeds)])
    notes = [
        "(method - half) / (all - half): 1 where an attempt at a correction is worth one at a fresh problem, 0 "
        "where it is worth nothing. Intervals are Fieller's, 95 %, over trainings; none where all and half of the "
        "attempts cannot be told apart, and then the ratio means nothing.",
    ]
    pairs = dict.fromkeys(zip(rows["all"], rows["half"], strict=True))
    ends = "; ".join(f"1 is {everything}, 0 is {half}" for everything, half in pairs)
    caption = f"Worth of a correction: {ends}."
    return make_table("worth", caption, columns, laid_out, left=2, notes=notes)


def _title(protocol: str, figure: str) -> str:
    return figure if protocol == DIRECT else f"{figure}, {protocol}"


def _cell(row: Mapping[str, Any] | None) -> Cell:
    if row is None or row["value"] is None or row["value"] != row["value"]:
        return Cell(text=NONE)
    text = number(row["value"], ".2f")
    low, high = row["low"], row["high"]
    if low is None or low != low:
        return Cell(text=f"{text} [–]", value=row["value"], title="no interval")
    ends = f"[{number(low, '.2f')}, {number(high, '.2f')}]"
    return Cell(text=f"{text} {ends}", value=row["value"], low=low, high=high)
