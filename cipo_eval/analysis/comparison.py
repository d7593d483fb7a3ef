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

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.chains import Chains
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.revisions import sequential
from cipo_eval.analysis.selection import Selected, selected_attempts
from cipo_eval.analysis.sums import Sums, aligned, chains_of_run, sums_of
from cipo_eval.errors import UsageError
from cipo_eval.metrics.bootstrap import RESAMPLES
from cipo_eval.metrics.differences import Difference, compare_figures, holm, mcnemar
from cipo_eval.metrics.seeds import compare_seed_means
from cipo_eval.records import Mode, derive_seed
from cipo_eval.storage.facts import differences
from cipo_eval.storage.store import read_info
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol

Read = Callable[[Path, str], Selected]
"""How the attempts of a run (folder) at a task (name) that count are read."""
Runs = Sequence[Path]
"""One run, or one for each seed of a training."""

ASKED = ("data", "prompts", "verifier", "think", "harness", "scope", "sampling")
"""Facts of a task in ``run.json`` that must be equal in both runs. Of a protocol all facts must be, except
``EXTENT``."""
EXTENT = ("turns", "samples", "limit")
KEPT = 1_000_000
"""Most attempts of a run whose table (79 bytes an attempt) is kept in memory beside that of another run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of one task in two runs."""

    task: str
    protocol: str
    figure: Figure
    difference: Difference
    gained: tuple[str, ...] = ()
    """Ids of the problems at which the second run is better, the largest difference first."""
    lost: tuple[str, ...] = ()
    """Ids of the problems at which the second run is worse, the largest difference first."""
    mcnemar: Mapping[str, Any] | None = None
    """The exact McNemar test (``metrics.differences.mcnemar``); None unless both runs have one attempt at each
    problem."""
    p_holm: float | None = None
    """p of the figure's permutation test, adjusted for the number of tasks by Holm's method."""

    @property
    def name(self) -> str:
        """The figure, with its protocol where attempts were revised: how the JSON form names a row."""
        return self.figure.name if self.protocol == DIRECT else f"{self.protocol} {self.figure.name}"

    @property
    def label(self) -> str:
        """The row's name as tables for people have it."""
        return self.figure.label if self.protocol == DIRECT else f"{self.protocol} {self.figure.label}"

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "figure": self.name,
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
    """Sentences on what makes this less than a comparison of like with like."""

    def to_json(self) -> dict[str, Any]:
        return {
            "first": str(self.first),
            "second": str(self.second),
            "mode": self.mode.value,
            "rows": [row.to_json() for row in self.rows],
            "notes": list(self.notes),
        }


def compare_runs(
    first: Path,
    second: Path,
    *,
    mode: Mode | None = None,
    bootstrap: int = RESAMPLES,
    force: bool = False,
    figures: Sequence[Figure] = (),
) -> Comparison:
    """Every figure that both runs have. Raises ``UsageError`` where they were asked different things, unless
    ``force``.
    """
    return compare_arms([first], [second], mode=mode, bootstrap=bootstrap, force=force, figures=figures)


def compare_arms(
    first: Runs,
    second: Runs,
    *,
    mode: Mode | None = None,
    bootstrap: int = RESAMPLES,
    force: bool = False,
    read: Read = selected_attempts,
    paired: bool = False,
    figures: Sequence[Figure] = (),
) -> Comparison:
    """Every figure that both arms have, each given as its runs: one for each seed (``metrics.seeds``), ``paired`` where
    the i-th of both began with the same weights. ``figures``: a user's own, beside the table's.

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
    judged = shared_mode({run: infos[run] for run in concerned}, mode)
    notes: list[str] = []
    for task in shared:
        base = arms[0][task][0]
        for run in (*arms[0][task][1:], *arms[1][task]):
            notes += unlike((infos[base], infos[run]), task)
    notes = list(dict.fromkeys(notes))
    if notes and not force:
        raise UsageError(
            f"{names[0]} and {names[1]} were asked different things: {'; '.join(notes[:4])}"
            f"{' …' if len(notes) > 4 else ''}. --force compares them all the same, and says so"
        )
    rows: list[Row] = []
    how = _Test(mode=judged, bootstrap=bootstrap, paired=paired, figures=tuple(figures))
    for task in shared:
        task_rows, remarks = _task_rows(
            task, [[_TaskOfRun(run, task, read) for run in arm[task]] for arm in arms], how
        )
        rows += task_rows
        notes += remarks
    return Comparison(
        first=Path(names[0]), second=Path(names[1]), mode=judged, rows=_adjusted(rows), notes=tuple(notes)
    )


def _tasks(runs: Runs, infos: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(task for run in runs for task in infos[run]["tasks"]))


def shared_tasks(infos: Mapping[Path, Mapping[str, Any]]) -> list[str]:
    """The tasks that all runs have, in the first one's order. Raises ``UsageError`` where there is none."""
    first, *others = infos.values()
    shared = [task for task in first["tasks"] if all(task in info["tasks"] for info in others)]
    if not shared:
        raise UsageError(f"{', '.join(map(str, infos))} have no task in common")
    return shared


def shared_mode(infos: Mapping[Path, Mapping[str, Any]], wanted: Mode | None) -> Mode:
    """The mode that was asked for, else the first that all runs were judged in. Raises ``UsageError`` for none."""
    first = next(iter(infos.values()))
    modes = [mode for mode in first["modes"] if all(mode in info["modes"] for info in infos.values())]
    judged = wanted or (Mode(modes[0]) if modes else None)
    if judged is None or judged.value not in modes:
        raise UsageError(
            f"{', '.join(map(str, infos))} were not all judged in mode {judged or 'fixed'}: rescore those"
        )
    return judged


def unlike(infos: Sequence[Mapping[str, Any]], task: str) -> list[str]:
    """What two runs were asked differently of a task; protocols count where both have them."""
    first, second = (info["tasks"][task] for info in infos)
    notes = differences({k: first.get(k) for k in ASKED}, {k: second.get(k) for k in ASKED}, task)
    ours, theirs = first.get("protocols", {}), second.get("protocols", {})
    for name in sorted(ours.keys() & theirs.keys()):
        old, new = ({k: v for k, v in of[name].items() if k not in EXTENT} for of in (ours, theirs))
        notes += differences(old, new, f"{task}.{name}")
    return [note.replace(" there, ", " in the first, ").replace(" asked", " in the second") for note in notes]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Test:
    """How rows are made."""

    mode: Mode
    bootstrap: int
    paired: bool
    figures: tuple[Figure, ...]


class _TaskOfRun:
    """What a run says of a task. Where there are millions of attempts they are at hand only while chains are made of
    them: read once for the first attempts, and once more for each protocol."""

    def __init__(self, run: Path, task: str, read: Read) -> None:
        self._run, self._task, self._read = run, task, read
        self._kept: Selected | None = None
        self.turns: Mapping[str, int] = {}
        """Of a whole chain, by protocol."""

    def chains(self, protocol: Protocol, mode: Mode, turns: int) -> Chains:
        """The complete chains of a protocol."""
        selected = self._kept or self._read(self._run, self._task)
        self._kept = selected if len(selected.every) <= KEPT else None
        self.turns = {name: selected.turns(name) for name in selected.protocols}
        return chains_of_run(selected, protocol, mode, turns, votes=True)


Arms = Sequence[Sequence[_TaskOfRun]]
"""The runs of both arms at a task."""


def _task_rows(task: str, arms: Arms, how: _Test) -> tuple[list[Row], list[str]]:
    """Rows of a task, first attempts and then protocols, and what there is to say about them."""
    rows, notes = [], []
    direct = PROTOCOLS[DIRECT]
    first = [[run.chains(direct, how.mode, 1) for run in arm] for arm in arms]
    tables = [dict(zip(c.problems, c.counts.tolist(), strict=True)) for arm in first for c in arm]
    if all(tables):
        problems = set.intersection(*(set(table) for table in tables))
        if left := len(set.union(*(set(table) for table in tables)) - problems):
            notes.append(f"{task}: {left} problem(s) that not all of the runs attempted are left out")
        if problems:
            single = len(tables) == 2 and all(table[p] == 1 for table in tables for p in problems)
            fewest = min(count for table in tables for count in table.values())
            seed = derive_seed("compare", task)
            for k in sorted({1, fewest}):  # one attempt, and what all reach together
                rows.append(_row(task, direct, f.PASS.at(k), first, how, seed))
            rows[0] = _with_problems(rows[0], first, single)
            if fewest > 1 and any(_vote(chains) for arm in first for chains in arm):
                rows.append(_row(task, direct, f.MAJORITY.at(fewest), first, how, seed))
            for figure in how.figures:
                if figure.compared and figure.applies(direct):
                    rows.append(_row(task, direct, figure, first, how, seed))
    every = [run for arm in arms for run in arm]
    for name in _protocols(every):
        turns = min(run.turns[name] for run in every)
        rows += _protocol_rows(task, PROTOCOLS[name], arms, turns, how)
    return rows, notes


def _vote(chains: Chains) -> bool:
    """Whether answers of a task are put to a vote: those of programs have no normal form that could agree."""
    return any(tally.wrong for tally in chains.own.votes or ())


def _protocols(runs: Sequence[_TaskOfRun]) -> list[str]:
    """Those that all runs were asked for."""
    return [name for name in runs[0].turns if all(name in run.turns for run in runs)]


def _sums(figure: Figure, arms: Sequence[Sequence[Chains]]) -> list[list[Sums]]:
    return [[sums_of(figure, chains) for chains in arm] for arm in arms]


def _row(
    task: str, protocol: Protocol, figure: Figure, arms: Sequence[Sequence[Chains]], how: _Test, seed: int
) -> Row:
    """``arms``: of each the chains of its runs."""
    _, table = aligned([sums for arm in _sums(figure, arms) for sums in arm])
    parts = np.moveaxis(table, -1, 0)  # (parts, runs, problems)
    first, second = parts[:, : len(arms[0])], parts[:, len(arms[0]) :]
    if first.shape[1] == second.shape[1] == 1:
        resamples = {"bootstrap": how.bootstrap, "seed": seed}
        difference = compare_figures(first[:, 0], second[:, 0], figure.form, **resamples)
    else:
        paired = how.paired and first.shape[1] == second.shape[1]
        difference = compare_seed_means([tuple(first)], [tuple(second)], form=figure.form, paired=paired)
    return Row(task=task, protocol=protocol.name, figure=figure, difference=difference)


def _with_problems(row: Row, arms: Sequence[Sequence[Chains]], single: bool) -> Row:
    """With the problems that were gained and lost; ``single``: one attempt at each in either run."""
    problems, table = aligned([sums for arm in _sums(row.figure, arms) for sums in arm])
    scores = [table[: len(arms[0]), :, 0].mean(axis=0), table[len(arms[0]) :, :, 0].mean(axis=0)]
    change = scores[1] - scores[0]
    order = np.argsort(-np.abs(change), kind="stable")
    return replace(
        row,
        gained=tuple(problems[i] for i in order if change[i] > 0),
        lost=tuple(problems[i] for i in order if change[i] < 0),
        mcnemar=mcnemar(*scores) if single else None,
    )


def _protocol_rows(task: str, protocol: Protocol, arms: Arms, turns: int, how: _Test) -> list[Row]:
    """The compared figures of a protocol, where all runs have chains and some problem is in all of them."""
    chains = [[run.chains(protocol, how.mode, turns) for run in arm] for arm in arms]
    every = [of_run for arm in chains for of_run in arm]
    if not all(map(len, every)) or not set.intersection(*(set(of_run.problems) for of_run in every)):
        return []
    seed = derive_seed("compare", task, protocol.name)
    rows = []
    enough = all(f.SEQUENTIAL_GAIN.at(1) in sequential(of_run) for of_run in every)
    for figure in f.compared(protocol, turns, how.figures):
        if figure is f.SEQUENTIAL_GAIN.at(1) and not enough:
            continue
        _, table = aligned([sums for arm in _sums(figure, chains) for sums in arm])
        # one attempt at each problem: no lift at all; nothing beside: no blind spot
        if (figure is f.LIFT or figure in BLIND_SPOTS) and not table[..., 1].any():
            continue
        rows.append(_row(task, protocol, figure, chains, how, seed))
    return rows


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """With p-values adjusted over the tasks of each figure."""
    adjusted = list(rows)
    places: dict[tuple[str, Figure], list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault((row.protocol, row.figure), []).append(place)
    for of_figure in places.values():
        values = holm([rows[place].difference.p for place in of_figure])
        for place, p in zip(of_figure, values, strict=True):
            adjusted[place] = replace(rows[place], p_holm=p)
    return tuple(adjusted)
