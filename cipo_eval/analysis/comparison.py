"""Two runs, task by task: which figures can be compared, and by how much they differ.

Works on run directories alone: verdicts are those that were stored. Runs are compared only where they were asked the
same: data, prompts, decoding, verifier, protocols. What differs between them is then the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cipo_eval.analysis import sums
from cipo_eval.analysis.selection import Selected, selected_attempts
from cipo_eval.errors import UsageError
from cipo_eval.metrics.compare import Difference, compare_ratios, holm, mcnemar
from cipo_eval.metrics.seeds import compare_seeds
from cipo_eval.records import Mode, derive_seed
from cipo_eval.storage.facts import differences
from cipo_eval.storage.store import read_info
from cipo_eval.turns.protocols import PROTOCOLS, Protocol

Read = Callable[[Path, str], Selected]
"""The attempts of a run at a task that count."""
Runs = Sequence[Path]
"""One run, or one for each seed of a training."""

ASKED = ("data", "prompts", "verifier", "think", "harness", "scope", "sampling")
"""What must be the same of a task; of protocols, all but how much was asked for."""
EXTENT = ("turns", "samples", "limit")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one task in two runs."""

    task: str
    figure: str
    difference: Difference
    gained: tuple[str, ...] = ()
    """Problems at which the second run is better, the largest difference first."""
    lost: tuple[str, ...] = ()
    mcnemar: Mapping[str, Any] | None = None
    """Where both runs have one attempt at each problem."""
    p_holm: float | None = None
    """p of the figure's permutation test, adjusted for the number of tasks."""

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "figure": self.figure,
            **self.difference.to_json(),
            "p_holm": None if self.p_holm is None else round(self.p_holm, 10),
            "mcnemar": self.mcnemar,
            "gained": list(self.gained),
            "lost": list(self.lost),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run against another."""

    first: Path
    second: Path
    mode: Mode
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    """What makes it less than a comparison of like with like."""

    def to_json(self) -> dict[str, Any]:
        return {
            "first": str(self.first),
            "second": str(self.second),
            "mode": self.mode.value,
            "rows": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
        }


def compare_runs(
    first: Path, second: Path, *, mode: Mode | None = None, bootstrap: int = 2000, force: bool = False
) -> Comparison:
    """Every figure that both runs have. Raises ``UsageError`` where they were asked different things, unless
    ``force``.
    """
    return compare_arms([first], [second], mode=mode, bootstrap=bootstrap, force=force)


def compare_arms(
    first: Runs,
    second: Runs,
    *,
    mode: Mode | None = None,
    bootstrap: int = 2000,
    force: bool = False,
    read: Read = selected_attempts,
    paired: bool = False,
) -> Comparison:
    """Every figure that both arms have, each given as its runs: one for each seed (``metrics.seeds``), ``paired`` where
    the i-th of both began with the same weights.

    A task counts the runs that have it. Raises ``UsageError`` where runs were asked different things, unless ``force``.
    """
    infos = {run: read_info(run) for run in (*first, *second)}
    arms = [
        {t: [r for r in runs if t in infos[r]["tasks"]] for t in _tasks(runs, infos)}
        for runs in (first, second)
    ]
    names = [", ".join(map(str, runs)) for runs in (first, second)]
    shared = [name for name in arms[0] if name in arms[1]]
    if not shared:
        raise UsageError(f"{names[0]} and {names[1]} have no task in common")
    concerned = [run for arm in arms for task in shared for run in arm[task]]
    modes = [m for m in infos[concerned[0]]["modes"] if all(m in infos[run]["modes"] for run in concerned)]
    judged = mode or (Mode(modes[0]) if modes else None)
    if judged is None or judged.value not in modes:
        raise UsageError(
            f"{names[0]} and {names[1]} were not both judged in mode {judged or 'fixed'}: rescore one"
        )
    notes: list[str] = []
    for task in shared:
        base = arms[0][task][0]
        for run in (*arms[0][task][1:], *arms[1][task]):
            notes += _unlike((infos[base], infos[run]), task)
    notes = list(dict.fromkeys(notes))
    if notes and not force:
        raise UsageError(
            f"{names[0]} and {names[1]} were asked different things: {'; '.join(notes[:4])}"
            f"{' …' if len(notes) > 4 else ''}. --force compares them all the same, and says so"
        )
    rows: list[Row] = []
    for task in shared:
        found, said = _task_rows(
            task,
            [[read(run, task) for run in arm[task]] for arm in arms],
            judged,
            bootstrap,
            paired,
        )
        rows += found
        notes += said
    return Comparison(
        first=Path(names[0]), second=Path(names[1]), mode=judged, rows=_adjusted(rows), notes=tuple(notes)
    )


def _tasks(runs: Runs, infos: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(task for run in runs for task in infos[run]["tasks"]))


def _unlike(infos: Sequence[Mapping[str, Any]], task: str) -> list[str]:
    """What two runs were asked differently of a task; protocols count where both have them."""
    first, second = (info["tasks"][task] for info in infos)
    notes = differences({k: first.get(k) for k in ASKED}, {k: second.get(k) for k in ASKED}, task)
    ours, theirs = first.get("protocols", {}), second.get("protocols", {})
    for name in sorted(ours.keys() & theirs.keys()):
        old, new = ({k: v for k, v in of[name].items() if k not in EXTENT} for of in (ours, theirs))
        notes += differences(old, new, f"{task}.{name}")
    return [note.replace(" there, ", " in the first, ").replace(" asked", " in the second") for note in notes]


ByRun = Sequence[Selected]


def _task_rows(
    task: str,
    attempts: Sequence[ByRun],
    mode: Mode,
    bootstrap: int,
    paired: bool,
) -> tuple[list[Row], list[str]]:
    """Rows of a task, first attempts and then protocols, and what there is to say about them."""
    rows, notes = [], []
    rights = [[sums.by_problem(of_run.first, mode) for of_run in arm] for arm in attempts]
    tables = [table for arm in rights for table in arm]
    if all(tables):
        problems = set.intersection(*(set(table) for table in tables))
        if left := len(set.union(*(set(table) for table in tables)) - problems):
            notes.append(f"{task}: {left} problem(s) that not all of the runs attempted are left out")
        if problems:
            single = all(len(table[problem]) == 1 for table in tables for problem in problems)
            fewest = min(len(rights) for table in tables for rights in table.values())
            for k in sorted({1, fewest}):  # one attempt, and what all reach together
                name = f"pass@{k}"
                figures = [[sums.first_turn(of_run, mode, [k])[name] for of_run in arm] for arm in attempts]
                row = _row(task, name, figures, bootstrap, derive_seed("compare", task), paired)
                rows.append(_with_problems(row, figures, single and len(tables) == 2) if k == 1 else row)
    every = [of_run for arm in attempts for of_run in arm]
    for name in _protocols(every):
        turns = min(of_run.turns(name) for of_run in every)
        rows += _protocol_rows(task, PROTOCOLS[name], attempts, mode, turns, bootstrap, paired)
    return rows, notes


def _protocols(runs: Sequence[Selected]) -> list[str]:
    """Those that all runs were asked for."""
    return [name for name in runs[0].protocols if all(name in run.protocols for run in runs)]


def _row(
    task: str, figure: str, arms: Sequence[Sequence[sums.Sums]], bootstrap: int, seed: int, paired: bool
) -> Row:
    """``arms``: of each the sums of its runs."""
    _, table = sums.aligned([of_run for arm in arms for of_run in arm])
    first, second = table[: len(arms[0])], table[len(arms[0]) :]
    parts = (first[..., 0], first[..., 1], second[..., 0], second[..., 1])  # (runs, problems) each
    if len(first) == len(second) == 1:
        difference = compare_ratios(*(part[0] for part in parts), bootstrap=bootstrap, seed=seed)
    else:
        difference = compare_seeds(*parts, paired=paired and len(first) == len(second))
    return Row(task=task, figure=figure, difference=difference)


def _with_problems(row: Row, arms: Sequence[Sequence[sums.Sums]], single: bool) -> Row:
    """With the problems that were gained and lost; ``single``: one attempt at each in either run."""
    problems, table = sums.aligned([of_run for arm in arms for of_run in arm])
    scores = [table[: len(arms[0]), :, 0].mean(axis=0), table[len(arms[0]) :, :, 0].mean(axis=0)]
    change = scores[1] - scores[0]
    order = np.argsort(-np.abs(change), kind="stable")
    return replace(
        row,
        gained=tuple(problems[i] for i in order if change[i] > 0),
        lost=tuple(problems[i] for i in order if change[i] < 0),
        mcnemar=mcnemar(*scores) if single else None,
    )


def _protocol_rows(
    task: str,
    protocol: Protocol,
    attempts: Sequence[ByRun],
    mode: Mode,
    turns: int,
    bootstrap: int,
    paired: bool,
) -> list[Row]:
    """Accuracy after the last turn, correction rate, retention and lift of the first step; of judgements, accuracy and
    F1."""
    names = [f"acc@t{turns}", "correction_rate", "retention", "correction_lift"]
    names += ["judgement accuracy", "judgement F1"]
    arms = [[sums.revised(of_run, protocol, mode, turns, names) for of_run in arm] for arm in attempts]
    found = [of_run for arm in arms for of_run in arm]
    seed = derive_seed("compare", task, protocol.name)
    rows = []
    for name in names:
        tables = [[of_run[name] for of_run in arm if name in of_run] for arm in arms]
        every = [table for arm in tables for table in arm]
        problems, values = sums.aligned(every)
        known = (
            name != "correction_lift" or values[..., 1].any()
        )  # one attempt at each problem: no lift at all
        if len(every) == len(found) and problems and known:
            rows.append(_row(task, f"{protocol.name} {name}", tables, bootstrap, seed, paired))
    return rows


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """With p-values adjusted over the tasks of each figure."""
    found = list(rows)
    for figure in dict.fromkeys(row.figure for row in rows):
        at = [i for i, row in enumerate(found) if row.figure == figure]
        for i, p in zip(at, holm([found[i].difference.p for i in at]), strict=True):
            found[i] = replace(found[i], p_holm=p)
    return tuple(found)
