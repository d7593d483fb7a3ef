"""An arm over its seeds: means of several trainings, with intervals over problems and trainings at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cipo_eval.analysis.figure import Figure, Measure
from cipo_eval.analysis.figures import with_seeds
from cipo_eval.analysis.revisions import entries, sequential
from cipo_eval.analysis.rows import Row, rows_of
from cipo_eval.analysis.selection import Selected
from cipo_eval.analysis.sums import Sums, aligned, chains_of_run, sums_of
from cipo_eval.metrics.passk import default_ks
from cipo_eval.metrics.ratios import Form
from cipo_eval.metrics.seeds import Table, spread_mean
from cipo_eval.records import Mode, derive_seed
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.arms import Arm
from cipo_reports.frames import structure

Interval = tuple[float, float]
Key = tuple[str, str]
"""Protocol, and name of a figure."""


class OfRuns(NamedTuple):
    """A figure of an arm at a task."""

    form: Form
    sums: Sequence[Sums]
    """Of each run."""


class OfTasks(NamedTuple):
    """A figure of an arm whose runs are the same trainings at all tasks."""

    form: Form
    tasks: Sequence[Table]

    @property
    def seeds(self) -> int:
        """Number of trainings."""
        return len(np.asarray(self.tasks[0][0]))

    @property
    def problems(self) -> list[int]:
        """Of each task."""
        return [np.shape(table[0])[1] for table in self.tasks]


Tables = Mapping[Key, OfRuns]
"""By figure."""


def arm_rows(
    arm: Arm, task: str, mode: Mode, tables: Tables, figures: Sequence[Figure]
) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of an arm at a task, means of its runs where it has several, and what there is to say about them."""
    runs = arm.having(task)
    notes: list[str] = []
    of_runs = [
        [*rows_of(run.results["tasks"][task], mode), *own_rows(run.selected(task), mode, figures)]
        for run in runs
    ]
    common = {"arm": arm.name, "task": task, "seeds": len(runs)}
    if len(runs) == 1:
        return [{**cells(row), **common, "std": None} for row in of_runs[0]], notes
    keyed = [{_key(row): row for row in rows} for rows in of_runs]
    shared = [key for key in keyed[0] if all(key in table for table in keyed)]
    if lacking := sum(len(table) - len(shared) for table in keyed):
        notes.append(f"{arm.name}, {task}: {lacking} figures that not all of its runs have are left out")
    intervals, left_out = _intervals(tables, keyed[0])
    if left_out:
        notes.append(f"{arm.name}, {task}: intervals are over the problems that all of its runs attempted")
    rows = []
    for key in shared:
        same = [table[key] for table in keyed]
        values = [row.value for row in same if row.value is not None]
        complete = len(values) == len(same)
        low, high = intervals.get(key[:2], (None, None)) if not same[0].column else (None, None)
        rows.append(
            {
                **cells(same[0]),
                **common,
                "value": float(np.mean(values)) if complete else None,
                "std": float(np.std(values, ddof=1)) if complete else None,
                "low": low,
                "high": high,
                "method": "seeds" if low is not None else "none",
                "problems": min(row.problems for row in same),
                "attempts": sum(row.attempts for row in same),
            }
        )
    return rows, notes


def own_rows(selected: Selected, mode: Mode, figures: Sequence[Figure]) -> Iterator[Row]:
    """A user's own figures of a run at a task, from its attempts: also where it was made without them."""
    for name in (DIRECT, *selected.protocols) if figures else ():
        protocol = PROTOCOLS[name]
        own = [figure for figure in figures if figure.applies(protocol)]
        turns = 1 if name == DIRECT else selected.turns(name)
        chains = chains_of_run(selected, protocol, mode, turns)
        if not own or not len(chains):
            continue
        seed = derive_seed("bootstrap", 0, selected.selection.task, name)
        values = entries(own, chains, seed=seed)
        for figure in own:
            yield Row(
                protocol=name,
                measure=figure,
                entry=values[figure.key],
                problems=len(chains.counts),
                attempts=len(chains),
            )


def cells(row: Row) -> dict[str, Any]:
    """A row as the frame of results has it, without the arm."""
    low, high = row.interval or (None, None)
    return {
        "protocol": row.protocol,
        "figure": row.measure.name,
        "column": row.column,
        "group": row.group,
        "value": row.value,
        "low": low,
        "high": high,
        "method": row.entry.get("method", ""),
        "problems": row.problems,
        "attempts": row.attempts,
        **structure(row.measure),
    }


def _key(row: Row) -> tuple[str, str, str, str]:
    return row.protocol, row.measure.name, row.column, row.group


def tables_of(arm: Arm, task: str, mode: Mode, figures: Sequence[Figure] = ()) -> Tables:
    """The sums of figures over the runs of an arm that have a task: of the figures that all of these runs have."""
    runs = [run.selected(task) for run in arm.having(task)]
    tables: dict[Key, OfRuns] = {}
    for name in (DIRECT, *runs[0].protocols):
        protocol = PROTOCOLS[name]
        if name != DIRECT and not all(name in run.protocols for run in runs):
            continue
        turns = 1 if name == DIRECT else min(run.turns(name) for run in runs)
        of_runs = [chains_of_run(run, protocol, mode, turns, votes=True) for run in runs]
        if not all(map(len, of_runs)):
            continue
        if name == DIRECT:
            ks = default_ks(min(int(chains.counts.min()) for chains in of_runs))
        else:
            possible = [{figure.k or 0 for figure in sequential(chains)} for chains in of_runs]
            ks = tuple(sorted(set.intersection(*possible)))
        own = [x for x in figures if (x.seeds or x.compared) and x.applies(protocol)]
        for figure in (*with_seeds(protocol, turns, ks), *own):
            tables[name, figure.name] = OfRuns(figure.form, [sums_of(figure, chains) for chains in of_runs])
    return tables


def _intervals(
    tables: Tables, rows: Mapping[tuple[str, str, str, str], Row]
) -> tuple[dict[Key, Interval], bool]:
    """By figure that has a row, over seeds and problems; and whether problems were left out."""
    measures = {key[:2]: row.measure for key, row in rows.items()}
    intervals, left_out = {}, False
    for key, of_runs in tables.items():
        problems, table = aligned(of_runs.sums)
        if not problems:
            continue
        left_out |= any(len(sums) > len(problems) for sums in of_runs.sums)
        ci = spread_mean([tuple(np.moveaxis(table, -1, 0))], of_runs.form).ci
        if ci is not None and key in measures:
            intervals[key] = within_bounds(ci, measures[key])
    return intervals, left_out


def within_bounds(ci: Interval, measure: Measure) -> Interval:
    """An interval that ends where the figure's values end."""
    return (max(0.0, ci[0]), min(1.0, ci[1])) if measure.bounded else ci


def same_seeds(arm: Arm, tasks: Sequence[str], tables: Sequence[Tables], key: Key) -> OfTasks | None:
    """An arm's sums at some tasks, where the same several runs have all of them and there are common problems."""
    runs = [arm.having(task) for task in tasks]
    if len(runs[0]) < 2 or any(of != runs[0] for of in runs) or any(key not in table for table in tables):
        return None
    found = [aligned(table[key].sums) for table in tables]
    sums = [tuple(np.moveaxis(table, -1, 0)) for problems, table in found if problems]
    return OfTasks(tables[0][key].form, sums) if sums else None
