"""The one data model of reports: every figure of every arm as a row of a tidy frame.

``results``: arm, task, protocol, figure, and for a breakdown its column and group; value with interval and, over
seeds, standard deviation. ``differences``: what ``cipo-eval compare`` says of each arm against the baseline.
``budget``: accuracy against generated tokens. ``training``: the trainer's log. Tables, plots and the page are made of
these and of nothing else; values of single runs are those of ``results.json``, verdicts are never recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cipo_eval.analysis import sums
from cipo_eval.analysis.chains import chains, trajectories
from cipo_eval.analysis.comparison import compare_arms
from cipo_eval.analysis.selection import Selected
from cipo_eval.errors import UsageError
from cipo_eval.metrics.bootstrap import mean_interval
from cipo_eval.metrics.passk import default_ks
from cipo_eval.metrics.seeds import compare_seed_means, spread, spread_mean
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.arms import Arm, baseline_of, shared_mode, training_data, training_log
from cipo_reports.fonts import not_drawable
from cipo_reports.rows import FAULTS, rows_of, withheld

AVERAGE = "average"
"""Stands for a task: the unweighted mean over the tasks that all arms have."""
TOTALS = ("generated tokens", "prompt tokens", "generation seconds", "verifier seconds", *FAULTS)
"""Figures that add up over tasks: they have no average."""
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


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Arms with everything that is known about them, as frames."""

    arms: tuple[Arm, ...]
    baseline: str | None
    mode: Mode
    results: pd.DataFrame
    differences: pd.DataFrame
    budget: pd.DataFrame
    training: pd.DataFrame
    notes: tuple[str, ...] = field(default=())
    """What the reader must not overlook."""

    @property
    def names(self) -> list[str]:
        return [arm.name for arm in self.arms]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for arm in self.arms for task in arm.tasks))

    @property
    def protocols(self) -> list[str]:
        """Those with revisions, in the order of ``PROTOCOLS``."""
        there = set(self.results["protocol"])
        return [name for name in PROTOCOLS if name != DIRECT and name in there]

    def figure(self, name: str, protocol: str = DIRECT, *, column: str = "") -> pd.DataFrame:
        """The rows of a figure of a protocol, averages included; ``column``: of a breakdown."""
        r = self.results
        return r[(r["figure"] == name) & (r["protocol"] == protocol) & (r["column"] == column)]

    def headline(self, task: str) -> tuple[str, str]:
        """Protocol and figure that stand for a task: pass@1; where the model made no first attempts, what it made of
        others' (accuracy of judgements, accuracy after correcting)."""
        of_task = self.results[self.results["task"] == task]
        have = set(zip(of_task["protocol"], of_task["figure"], strict=True))
        for wanted in ((DIRECT, "pass@1"), ("critique", "judgement accuracy"), ("given", "acc@t2")):
            if wanted in have:
                return wanted
        return next(iter(sorted(have)))


def read_study(
    arms: Sequence[Arm],
    *,
    baseline: str | None = None,
    mode: Mode | None = None,
    bootstrap: int = 2000,
    force: bool = False,
    paired: bool = False,
) -> Study:
    """``paired``: the i-th run of each arm began with the same weights.

    Raises ``UsageError`` for runs that cannot be read or were asked different things (unless ``force``).
    """
    judged, base = shared_mode(arms, mode), baseline_of(arms, baseline)
    for arm in arms:
        if not arm.tasks:
            raise UsageError(f"no task of {arm.name} has results: run its command again to finish it")
    notes = [note for arm in arms for note in _failures(arm, judged)]
    notes += not_drawable([*(arm.name for arm in arms), *(task for arm in arms for task in arm.tasks)])
    rows: list[dict[str, Any]] = []
    tables: dict[tuple[str, str], Tables] = {}
    for arm in arms:
        for task in arm.tasks:
            if len(arm.having(task)) > 1:
                tables[arm.name, task] = tables_of(arm, task, judged)
            found, said = _task_rows(arm, task, judged, tables.get((arm.name, task), {}))
            rows += found
            notes += said
    results = pd.DataFrame(rows, columns=RESULTS)
    averages, over = _averages(results, arms, tables)
    results = pd.concat([results, averages], ignore_index=True)
    differences, said = _differences(arms, base, judged, tables, over, bootstrap, force, paired)
    return Study(
        arms=tuple(arms),
        baseline=base,
        mode=judged,
        results=results,
        differences=differences,
        budget=pd.DataFrame(list(_budget(arms, results, judged)), columns=BUDGET),
        training=pd.DataFrame(list(_training(arms)), columns=TRAINING),
        notes=tuple(dict.fromkeys([*notes, *said])),
    )


# --- an arm over its seeds ----------------------------------------------------------------------------------------


def _task_rows(arm: Arm, task: str, mode: Mode, tables: Tables) -> tuple[list[dict[str, Any]], list[str]]:
    runs = arm.having(task)
    notes: list[str] = []
    found = [list(rows_of(run.results["tasks"][task], mode)) for run in runs]
    common = {"arm": arm.name, "task": task, "seeds": len(runs)}
    if len(runs) == 1:
        return [{**row, **common, "std": None} for row in found[0]], notes
    keyed = [{_key(row): row for row in table} for table in found]
    shared = [key for key in keyed[0] if all(key in table for table in keyed)]
    if lacking := sum(len(table) - len(shared) for table in keyed):
        notes.append(f"{arm.name}, {task}: {lacking} figures that not all of its runs have are left out")
    intervals, left = _intervals(tables)
    if left:
        notes.append(f"{arm.name}, {task}: intervals are over the problems that all of its runs attempted")
    rows = []
    for key in shared:
        of_runs = [table[key] for table in keyed]
        values = [row["value"] for row in of_runs]
        known = [value for value in values if value is not None]
        low, high = intervals.get(key[:2], (None, None)) if not key[2] else (None, None)
        rows.append(
            {
                **of_runs[0],
                **common,
                "value": float(np.mean(known)) if len(known) == len(values) else None,
                "std": float(np.std(known, ddof=1)) if len(known) == len(values) else None,
                "low": low,
                "high": high,
                "method": "seeds" if low is not None else "none",
                "problems": min(row["problems"] for row in of_runs),
                "attempts": sum(row["attempts"] for row in of_runs),
            }
        )
    return rows, notes


def _key(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return row["protocol"], row["figure"], row["column"], row["group"]


Interval = tuple[float, float]


Tables = Mapping[tuple[str, str], Sequence[sums.Sums]]
"""By protocol and figure, the sums of each run."""


def tables_of(arm: Arm, task: str, mode: Mode) -> Tables:
    """Of the runs of an arm that have a task: figures that all of them have."""
    found: dict[tuple[str, str], list[sums.Sums]] = {}
    runs = arm.having(task)
    every = [run.selected(task) for run in runs]
    rights = [sums.by_problem(selected.first, mode) for selected in every]
    fewest = min(min((len(x) for x in of_run.values()), default=0) for of_run in rights)
    ks = default_ks(fewest) if fewest else []
    for selected in every:
        for name, table in sums.first_turn(selected, mode, ks).items():
            found.setdefault((DIRECT, name), []).append(table)
        for name in every[0].protocols:
            if all(name in of_run.protocols for of_run in every):
                turns = min(of_run.turns(name) for of_run in every)
                for figure, table in sums.revised(selected, PROTOCOLS[name], mode, turns).items():
                    found.setdefault((name, figure), []).append(table)
    if (DIRECT, "pass@1") in found:
        found[DIRECT, "avg@n"] = found[DIRECT, "pass@1"]
    return {key: of_runs for key, of_runs in found.items() if len(of_runs) == len(runs)}


def _intervals(tables: Tables) -> tuple[dict[tuple[str, str], Interval], bool]:
    """By protocol and figure, over seeds and problems; and whether problems were left out."""
    intervals, left = {}, False
    for key, of_runs in tables.items():
        problems, table = sums.aligned(of_runs)
        if not problems:
            continue
        left |= any(len(x) > len(problems) for x in of_runs)
        if (ci := spread(table[..., 0], table[..., 1]).ci) is not None:
            intervals[key] = _cut(ci, key[1])
    return intervals, left


def _cut(ci: Interval, figure: str) -> Interval:
    """A share lies between 0 and 1; a difference need not."""
    differs = any(word in figure for word in ("lift", "(t1", "gain"))
    return ci if differs else (max(0.0, ci[0]), min(1.0, ci[1]))


def _failures(arm: Arm, mode: Mode) -> Iterator[str]:
    """Failed verifiers, replies that were withheld, and attempts that do not count."""
    for run in arm.runs:
        for task, entry in run.results["tasks"].items():
            block = entry.get(mode.value, {})
            states = block.get("states", {})
            failed = states.get("verifier_timeout", 0) + states.get("verifier_error", 0)
            if failed:
                yield f"{arm.name}, {task}: {failed} attempts could not be judged and count as wrong ({run.path.name})"
            revised = (of[mode.value] for of in entry.get("protocols", {}).values() if mode.value in of)
            if held := states.get("filtered", 0) + sum(map(withheld, revised)):
                yield f"{arm.name}, {task}: a server withheld {held} replies, which count as wrong ({run.path.name})"
            if spare := entry.get("not_asked"):
                yield f"{arm.name}, {task}: {spare} attempts were not asked for, and do not count ({run.path.name})"
            if missing := entry.get("missing_attempts"):
                yield f"{arm.name}, {task}: {missing} attempts are missing ({run.path.name})"


# --- what is made of several tasks or arms ------------------------------------------------------------------------


Over = Mapping[tuple[str, str], Sequence[str]]
"""By protocol and figure, the tasks that averages are over."""


def _averages(
    results: pd.DataFrame, arms: Sequence[Arm], tables: Mapping[tuple[str, str], Tables]
) -> tuple[pd.DataFrame, Over]:
    """Unweighted means over the tasks that all arms have, of every figure that all of them have there."""
    rows = []
    over: dict[tuple[str, str], list[str]] = {}
    whole = results[(results["column"] == "") & results["value"].notna()]
    for (protocol, figure), of_figure in whole.groupby(["protocol", "figure"], sort=False):
        by_arm = {arm.name: of_figure[of_figure["arm"] == arm.name].set_index("task") for arm in arms}
        there = [set(table.index) for table in by_arm.values() if len(table)]
        tasks = sorted(set.intersection(*there)) if there else []
        if len(tasks) < 2 or figure in TOTALS:
            continue
        over[str(protocol), str(figure)] = tasks
        for arm in arms:
            if not len(by_arm[arm.name]):
                continue
            part = by_arm[arm.name].loc[tasks]
            values = part["value"].astype(float).tolist()
            std = low = high = None
            if seeds := _same_seeds(
                arm, tasks, [tables.get((arm.name, t), {}) for t in tasks], protocol, figure
            ):
                found = spread_mean([(x[..., 0], x[..., 1]) for x in seeds])
                std, (low, high) = found.std, _cut(found.ci, figure) if found.ci else (None, None)
            elif not part["low"].isna().any() and (part["seeds"] == 1).all():
                ends = [(float(a), float(b)) for a, b in zip(part["low"], part["high"], strict=True)]
                low, high = mean_interval(values, ends)
            sizes = {name: int(part[name].sum()) for name in ("problems", "attempts")}
            rows.append(
                {
                    **{"arm": arm.name, "task": AVERAGE, "protocol": protocol, "figure": figure},
                    **{"column": "", "group": "", "value": float(np.mean(values))},
                    **{"low": low, "high": high, "std": std, "method": "macro"},
                    **{"seeds": int(part["seeds"].min()), **sizes},
                }
            )
    return pd.DataFrame(rows, columns=RESULTS), over


def _same_seeds(
    arm: Arm, tasks: Sequence[str], tables: Sequence[Tables], protocol: str, figure: str
) -> list[Any]:
    """By task, an arm's sums (seeds, problems, 2), where the same several runs have all tasks; else nothing."""
    runs = [arm.having(task) for task in tasks]
    if len(runs[0]) < 2 or any(of != runs[0] for of in runs):
        return []
    found = [sums.aligned(table[protocol, figure]) for table in tables if (protocol, figure) in table]
    return [table for problems, table in found if problems] if len(found) == len(tasks) else []


def _differences(
    arms: Sequence[Arm],
    baseline: str | None,
    mode: Mode,
    tables: Mapping[tuple[str, str], Tables],
    over: Over,
    bootstrap: int,
    force: bool,
    paired: bool,
) -> tuple[pd.DataFrame, list[str]]:
    """Each arm against the baseline, as ``cipo-eval compare`` does it, and the means over tasks."""
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    base = next((arm for arm in arms if arm.name == baseline), None)
    known = {run.path: run for arm in arms for run in arm.runs}

    def read(path: Path, task: str) -> Selected:
        return known[path].selected(task)

    for arm in arms:
        if base is None or arm is base or not set(arm.tasks) & set(base.tasks):
            continue
        found = compare_arms(
            [run.path for run in base.runs],
            [run.path for run in arm.runs],
            mode=mode,
            bootstrap=bootstrap,
            force=force,
            read=read,
            paired=paired,
        )
        notes += [f"{arm.name} against {base.name}: {note}" for note in found.notes]
        of_arm = []
        for row in found.rows:
            protocol, space, figure = row.figure.partition(" ")  # `self acc@t2`; of first attempts `pass@1`
            if not space:
                protocol, figure = DIRECT, row.figure
            d = row.difference
            low, high = d.ci or (None, None)
            of_arm.append(
                {
                    "arm": arm.name,
                    "baseline": base.name,
                    "task": row.task,
                    "protocol": protocol,
                    "figure": figure,
                    "first": d.first,
                    "second": d.second,
                    "difference": d.difference,
                    "low": low,
                    "high": high,
                    "p": d.p,
                    "p_holm": row.p_holm,
                    "mde": d.mde,
                    "problems": d.problems,
                }
            )
        rows += of_arm + list(_mean_differences(of_arm, base, arm, tables, over, paired))
    return pd.DataFrame(rows, columns=DIFFERENCES), notes


def _mean_differences(
    rows: Sequence[Mapping[str, Any]],
    base: Arm,
    arm: Arm,
    tables: Mapping[tuple[str, str], Tables],
    over: Over,
    paired: bool,
) -> Iterator[dict[str, Any]]:
    """Over the tasks of each figure's average. Where both arms have seeds, they are the same trainings in all tasks."""
    for protocol, figure in dict.fromkeys((row["protocol"], row["figure"]) for row in rows):
        among = over.get((protocol, figure), [])
        found = [
            row
            for row in rows
            if (row["protocol"], row["figure"]) == (protocol, figure) and row["task"] in among
        ]
        if len(found) < 2 or len(found) < len(among) or any(row["difference"] is None for row in found):
            continue
        tasks = [row["task"] for row in found]
        row = {**found[0], "task": AVERAGE, **dict.fromkeys(("low", "high", "p", "p_holm", "mde"))}
        row |= {n: float(np.mean([of[n] for of in found])) for n in ("first", "second", "difference")}
        row["problems"] = sum(of["problems"] for of in found)
        seeds = [
            _same_seeds(a, tasks, [tables.get((a.name, t), {}) for t in tasks], protocol, figure)
            for a in (base, arm)
        ]
        if all(seeds) and all(x.shape[1] == y.shape[1] for x, y in zip(*seeds, strict=True)):
            halves = [[(x[..., 0], x[..., 1]) for x in of] for of in seeds]
            same = paired and len(seeds[0][0]) == len(seeds[1][0])
            d = compare_seed_means(*halves, paired=same)
            row |= {"p": d.p, "p_holm": d.p, "mde": d.mde}  # one figure: nothing to adjust for
            row |= dict(zip(("low", "high"), d.ci or (None, None), strict=True))
        elif all(of["low"] is not None for of in found) and all(
            len(of.having(task)) == 1 for of in (base, arm) for task in tasks
        ):
            ends = [(of["low"], of["high"]) for of in found]
            row["low"], row["high"] = mean_interval([of["difference"] for of in found], ends)
        yield row


def _budget(arms: Sequence[Arm], results: pd.DataFrame, mode: Mode) -> Iterator[dict[str, Any]]:
    """Accuracy against mean generated tokens of an attempt with its revisions, and of k attempts."""
    for arm in arms:
        for task in arm.tasks:
            of_task = results[
                (results["arm"] == arm.name)
                & (results["task"] == task)
                & (results["column"] == "")
                & results["value"].notna()
            ]
            values = {(r.protocol, r.figure): float(r.value) for r in of_task.itertuples()}
            first = values.get((DIRECT, "tokens per attempt"))
            for (protocol, figure), value in values.items():
                kind, _, k = figure.partition("@")
                if protocol == DIRECT and first and kind in ("pass", "maj") and k.isdecimal():
                    common = {"arm": arm.name, "task": task, "protocol": DIRECT}
                    yield {
                        **common,
                        "kind": f"{kind}@k",
                        "k": int(k),
                        "tokens": int(k) * first,
                        "value": value,
                    }
            yield from _spent(arm, task, mode, values)


def _spent(
    arm: Arm, task: str, mode: Mode, values: Mapping[tuple[str, str], float]
) -> Iterator[dict[str, Any]]:
    """Of each protocol that revises the model's own attempts, tokens up to each turn (mean over chains and seeds)."""
    runs = [run.selected(task) for run in arm.having(task)]
    for name in runs[0].protocols:
        if not PROTOCOLS[name].own or not all(name in run.protocols for run in runs):
            continue
        turns = min(run.turns(name) for run in runs)
        curves = []
        for run in runs:
            arrays, kept = trajectories(chains(run.of(name), PROTOCOLS[name]), PROTOCOLS[name], mode, turns)
            if kept and arrays.tokens is not None:
                curves.append(np.where(arrays.asked, arrays.tokens, 0).mean(axis=0).cumsum())
        if not curves or not np.mean(curves, axis=0)[0]:
            continue
        for turn, tokens in enumerate(np.mean(curves, axis=0), start=1):
            if (name, f"acc@t{turn}") in values:
                yield {
                    "arm": arm.name,
                    "task": task,
                    "protocol": name,
                    "kind": "revise",
                    "k": turn,
                    "tokens": float(tokens),
                    "value": values[name, f"acc@t{turn}"],
                }


def _training(arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    data = training_data(folder for arm in arms for folder in arm.trainings)
    for arm in arms:
        for seed, folder in enumerate(arm.trainings):
            for row in training_log(folder):
                common = {
                    "arm": arm.name,
                    "data": data[folder],
                    "seed": seed,
                    "step": row["step"],
                    "kind": row.get("kind", "train"),
                }
                for figure, value in row.items():
                    if figure not in ("step", "kind") and isinstance(value, int | float):
                        yield {**common, "figure": figure, "value": float(value)}
