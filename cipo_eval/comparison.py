"""Two runs, task by task: which figures can be compared, and by how much they differ.

Works on run directories alone: verdicts are those that were stored. Runs are compared only where they were asked the
same: data, prompts, decoding, verifier, protocols. What differs between them is then the model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.chains import chains, judged, trajectories
from cipo_eval.errors import UsageError
from cipo_eval.metrics.compare import Difference, compare_means, compare_ratios, holm, mcnemar
from cipo_eval.plan import differences
from cipo_eval.protocols import DIRECT, PROTOCOLS, Protocol
from cipo_eval.records import Attempt, Mode, derive_seed
from cipo_eval.store import attempts_path, read_attempts, read_info

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
    infos = read_info(first), read_info(second)
    shared = [name for name in infos[0]["tasks"] if name in infos[1]["tasks"]]
    if not shared:
        raise UsageError(f"{first} and {second} have no task in common")
    modes = [m for m in infos[0]["modes"] if m in infos[1]["modes"]]
    judged = mode or (Mode(modes[0]) if modes else None)
    if judged is None or judged.value not in modes:
        raise UsageError(
            f"{first} and {second} were not both judged in mode {judged or 'fixed'}: rescore one"
        )
    notes, rows = _unlike(infos, shared), []
    if notes and not force:
        raise UsageError(
            f"{first} and {second} were asked different things: {'; '.join(notes[:4])}"
            f"{' …' if len(notes) > 4 else ''}. --force compares them all the same, and says so"
        )
    for task in shared:
        attempts = [_attempts(run, task) for run in (first, second)]
        found, said = _task_rows(task, attempts, [info["tasks"][task] for info in infos], judged, bootstrap)
        rows += found
        notes += said
    return Comparison(first=first, second=second, mode=judged, rows=_adjusted(rows), notes=tuple(notes))


def _unlike(infos: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[str]:
    """What the runs were asked differently, task by task; protocols count where both have them."""
    notes = []
    for task in tasks:
        first, second = (info["tasks"][task] for info in infos)
        notes += differences({k: first.get(k) for k in ASKED}, {k: second.get(k) for k in ASKED}, task)
        ours, theirs = first.get("protocols", {}), second.get("protocols", {})
        for name in sorted(ours.keys() & theirs.keys()):
            old, new = ({k: v for k, v in of[name].items() if k not in EXTENT} for of in (ours, theirs))
            notes += differences(old, new, f"{task}.{name}")
    return [note.replace(" there, ", " in the first, ").replace(" asked", " in the second") for note in notes]


def _attempts(run: Path, task: str) -> list[Attempt]:
    path = attempts_path(run, task)
    return [attempt for _, attempt in read_attempts(path)] if path.exists() else []


def _task_rows(
    task: str,
    attempts: Sequence[Sequence[Attempt]],
    infos: Sequence[Mapping[str, Any]],
    mode: Mode,
    bootstrap: int,
) -> tuple[list[Row], list[str]]:
    """Rows of a task, first attempts and then protocols, and what there is to say about them."""
    seed = derive_seed("compare", task)
    rows, notes = [], []
    tables = [_by_problem(of_run, mode) for of_run in attempts]
    if all(tables):
        problems = sorted(tables[0].keys() & tables[1].keys())
        if left := len(tables[0].keys() ^ tables[1].keys()):
            notes.append(f"{task}: {left} problem(s) that only one of the runs attempted are left out")
        if problems:
            rows.append(_first_turn(task, problems, tables, bootstrap, seed))
    ours, theirs = (info.get("protocols", {}) for info in infos)
    for name in (name for name in ours if name in theirs):
        turns = min(ours[name]["turns"], theirs[name]["turns"])
        rows += _protocol_rows(task, PROTOCOLS[name], attempts, mode, turns, bootstrap)
    return rows, notes


def _by_problem(attempts: Sequence[Attempt], mode: Mode) -> dict[str, list[bool]]:
    found: dict[str, list[bool]] = {}
    for attempt in attempts:
        if attempt.protocol == DIRECT and attempt.turn == 1:
            found.setdefault(attempt.problem, []).append(attempt.verdicts[mode.value].correct)
    return found


def _first_turn(
    task: str,
    problems: Sequence[str],
    tables: Sequence[Mapping[str, Sequence[bool]]],
    bootstrap: int,
    seed: int,
) -> Row:
    scores = [np.array([np.mean(table[problem]) for problem in problems]) for table in tables]
    change = scores[1] - scores[0]
    single = all(len(table[problem]) == 1 for table in tables for problem in problems)
    order = np.argsort(-np.abs(change), kind="stable")
    return Row(
        task=task,
        figure="pass@1",
        difference=compare_means(*scores, bootstrap=bootstrap, seed=seed),
        gained=tuple(problems[i] for i in order if change[i] > 0),
        lost=tuple(problems[i] for i in order if change[i] < 0),
        mcnemar=mcnemar(*scores) if single else None,
    )


def _protocol_rows(
    task: str,
    protocol: Protocol,
    attempts: Sequence[Sequence[Attempt]],
    mode: Mode,
    turns: int,
    bootstrap: int,
) -> list[Row]:
    """Accuracy after the last turn, correction rate and retention of the first step; of judgements, accuracy and F1."""
    figures = {f"acc@t{turns}": ("right_at_the_end", "all"), "correction_rate": ("corrected", "failed")}
    if not protocol.only_wrong:  # else right attempts are not asked again
        figures["retention"] = ("retained", "right")
    if protocol.judges:
        figures |= {
            "judgement accuracy": ("hits", "all"),
            "judgement F1": ("twice_found", "judged_and_wrong"),
        }
    names = list(dict.fromkeys(name for pair in figures.values() for name in pair))
    sums = [_sums(of_run, protocol, mode, turns, names) for of_run in attempts]
    problems = sorted(sums[0].keys() & sums[1].keys())
    if not problems:
        return []
    tables = [np.array([of_run[problem] for problem in problems]) for of_run in sums]  # (problems, sums)
    seed = derive_seed("compare", task, protocol.name)
    return [
        Row(
            task=task,
            figure=f"{protocol.name} {name}",
            difference=compare_ratios(
                *(table[:, names.index(part)] for table in tables for part in pair),
                bootstrap=bootstrap,
                seed=seed,
            ),
        )
        for name, pair in figures.items()
    ]


def _sums(
    attempts: Sequence[Attempt], protocol: Protocol, mode: Mode, turns: int, names: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """By problem, the named sums over its chains, each weighing 1/n. Shape of each: (names,)."""
    arrays, kept = trajectories(chains(attempts, protocol), protocol, mode, turns)
    if not kept:
        return {}
    state = arrays.state
    known = {
        "right_at_the_end": state[:, -1],
        "all": np.ones(len(state)),
        "corrected": ~state[:, 0] & state[:, 1],
        "failed": ~state[:, 0],
        "retained": state[:, 0] & state[:, 1],
        "right": state[:, 0],
    }
    if protocol.judges:
        wrong, says_wrong, says_right = judged(kept, mode)
        known |= {
            "hits": np.where(wrong, says_wrong, says_right),
            "twice_found": 2 * (wrong & says_wrong),
            "judged_and_wrong": says_wrong.astype(int) + wrong,
        }
    columns = np.stack([known[name] for name in names], axis=1).astype(np.float64)
    order, of, counts = np.unique(arrays.problem, return_inverse=True, return_counts=True)
    totals = np.zeros((len(order), len(names)))
    np.add.at(totals, of, columns)
    first = {int(number): chain[0].problem for number, chain in zip(of, kept, strict=True)}
    return {first[number]: total / counts[number] for number, total in enumerate(totals)}


def _adjusted(rows: Sequence[Row]) -> tuple[Row, ...]:
    """With p-values adjusted over the tasks of each figure."""
    from dataclasses import replace

    found = list(rows)
    for figure in dict.fromkeys(row.figure for row in rows):
        at = [i for i, row in enumerate(found) if row.figure == figure]
        for i, p in zip(at, holm([found[i].difference.p for i in at]), strict=True):
            found[i] = replace(found[i], p_holm=p)
    return tuple(found)
