"""From attempts to the numbers of ``results.json``: one block for one task, judged in one mode.

The block depends on the set of attempts only: everything is put in order first, so the order in which a run
finished or was resumed cannot show in the numbers.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.chains import BoolArray, Chains, Fresh, label
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.revisions import entries
from cipo_eval.metrics.bootstrap import CONFIDENCE, RESAMPLES, ClusterBootstrap
from cipo_eval.metrics.majority import majority_at_k
from cipo_eval.metrics.passk import check_ks, default_ks
from cipo_eval.metrics.variance import variance_split
from cipo_eval.records import Attempt, Mode, State, Verdict, derive_seed
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

BREAKDOWN = ("subject", "level")
"""Metadata columns that results are broken down by unless told otherwise; those that a task lacks are passed
over."""
NO_VALUE = "(none)"
"""Stands for the group of problems that lack a metadata value which others have."""

Judged = tuple[Attempt, Verdict]


def summarise(
    task: str,
    attempts: Collection[Attempt],
    problems_meta: Mapping[str, Mapping[str, Any]],
    *,
    mode: Mode | str,
    ks: Sequence[int] | None = None,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    breakdown: Sequence[str] = BREAKDOWN,
    parts: Sequence[str] = (),
    majority: bool = True,
    figures: Sequence[Figure] = (),
) -> dict[str, Any]:
    """All figures of one turn of one protocol on one task, as plain JSON values (docs/metrics.md lists the
    keys).

    ``problems_meta`` has the metadata of every problem that was asked for, by problem id; those without
    attempts are counted as ``unattempted`` and enter no figure. ``ks`` are the k of pass@k and maj@k, by
    default 1, 2, 4, … and the fewest attempts at a problem. ``bootstrap`` is the number of resamples,
    ``seed`` fixes them. ``parts`` are named results to report beside the main one (those that verdicts name are
    reported too); without ``majority`` there is no maj@k, where answers do not vote (programs). ``figures`` are a
    user's own, beside the table's.

    Raises ``ValueError`` for a k above the fewest attempts, and where the attempts are not what is asked for:
    none at all, another task's or unknown problems', the same one twice, several protocols or turns, not
    judged in ``mode``.
    """
    mode = Mode(mode)
    groups = _grouped(task, attempts, problems_meta, mode)
    chains = _chains(groups)
    n, correct = chains.own.attempts, chains.own.right
    fewest = int(n.min())
    ks = default_ks(fewest) if ks is None else sorted({1, *ks})
    check_ks(ks, fewest)
    intervals = {
        "confidence": CONFIDENCE,
        "resamples": bootstrap,
        "seed": derive_seed("bootstrap", seed, task),
    }
    resampling = ClusterBootstrap(len(groups), bootstrap, int(intervals["seed"]))
    split = variance_split(n, correct)
    return {
        "mode": mode.value,
        "problems": len(groups),
        "unattempted": len(problems_meta) - len(groups),
        "attempts": int(n.sum()),
        "samples_per_problem": {"min": fewest, "max": int(n.max())},
        "metrics": _metrics(chains, ks, resampling, majority),
        **_parts(groups, chains, ks, resampling, parts),
        **_own(figures, chains, resampling),
        **_outcomes([pair for group in groups.values() for pair in group]),
        "variance": {"attempt": split.attempt.to_json(), "mean": split.mean.to_json()},
        "intervals": intervals,
        "breakdown": _breakdown(chains, problems_meta, breakdown, resampling),
    }


def _grouped(
    task: str,
    attempts: Collection[Attempt],
    problems_meta: Mapping[str, Mapping[str, Any]],
    mode: Mode,
) -> dict[str, list[Judged]]:
    """Attempts with their verdicts by problem, problems and samples in order, after all checks."""
    if not attempts:
        raise ValueError(f"no attempts at {task}: nothing to summarise")
    if len({attempt.key for attempt in attempts}) != len(attempts):
        raise ValueError(f"some attempts at {task} are there twice")
    if len(turns := {(attempt.protocol, attempt.turn) for attempt in attempts}) > 1:
        raise ValueError(f"one turn of one protocol at a time, not {sorted(turns)}")
    groups: dict[str, list[Judged]] = defaultdict(list)
    for attempt in sorted(attempts, key=lambda a: (a.problem, a.sample)):
        if attempt.task != task or attempt.problem not in problems_meta:
            raise ValueError(
                f"an attempt at {attempt.task}/{attempt.problem} is none of the problems of {task}",
            )
        if mode.value not in attempt.verdicts:
            raise ValueError(f"{attempt.key} was not judged in {mode.value} mode")
        groups[attempt.problem].append((attempt, attempt.verdicts[mode.value]))
    return dict(groups)


def _chains(groups: Mapping[str, Sequence[Judged]]) -> Chains:
    """The attempts as chains of one turn."""
    judged = [pair for group in groups.values() for pair in group]
    right = np.array([[verdict.correct] for _, verdict in judged], dtype=bool)
    counts = np.array([len(group) for group in groups.values()], dtype=np.int64)
    return Chains(
        problem=np.repeat(np.arange(len(groups)), counts),
        right=right,
        asked=np.ones_like(right),
        tokens=np.array([[attempt.completion_tokens or 0] for attempt, _ in judged], dtype=np.int64),
        names=tuple(groups),
        fresh=Fresh(
            attempts=counts,
            right=np.array([sum(v.correct for _, v in group) for group in groups.values()], dtype=np.int64),
            votes=[[(label(verdict), verdict.correct) for _, verdict in group] for group in groups.values()],
        ),
    )


def _metrics(
    chains: Chains, ks: Sequence[int], resampling: ClusterBootstrap, with_majority: bool
) -> dict[str, Any]:
    """Every figure by name, with the intervals from one set of resamples."""
    scores = _pass_scores(chains, ks)
    notes: dict[str, dict[str, bool]] = {}
    voting = [k for k in ks if k > 1]  # one vote is no majority: maj@1 is pass@1
    if with_majority and voting and chains.own.votes is not None:
        majority = majority_at_k(
            chains.own.votes, voting, seed=resampling.seed
        )  # of all k at once: one count
        scores |= {f.MAJORITY.at(k).key: majority.scores[k] for k in voting}
        notes = {f.MAJORITY.at(k).key: {"exact": majority.exact} for k in voting}
    estimates = zip(scores, resampling.means(list(scores.values())), strict=True)
    return {name: {**estimate.to_json(), **notes.get(name, {})} for name, estimate in estimates}


def _pass_scores(chains: Chains, ks: Sequence[int]) -> dict[str, NDArray[Any]]:
    """Problem scores of pass@k and avg@n, shape (problems,) each."""
    figures = (*map(f.PASS.at, ks), f.MEAN_SCORE)
    return {figure.key: figure.top(chains) for figure in figures}


def _own(figures: Sequence[Figure], chains: Chains, resampling: ClusterBootstrap) -> dict[str, Any]:
    """A user's own figures of first attempts; nothing where there are none."""
    own = [figure for figure in figures if figure.applies(PROTOCOLS[DIRECT])]
    if not own:
        return {}
    return {"figures": entries(own, chains, bootstrap=resampling.resamples, seed=resampling.seed)}


def _parts(
    groups: Mapping[str, Sequence[Judged]],
    chains: Chains,
    ks: Sequence[int],
    resampling: ClusterBootstrap,
    names: Sequence[str],
) -> dict[str, Any]:
    """pass@k and avg@n of each named part, from the same resamples as the main figures; nothing where there is none.

    A verdict without a part says of it what it says of the whole: there was no program to judge, or the problem's
    tests have no such part.
    """
    judged = [verdict for group in groups.values() for _, verdict in group]
    tables: dict[str, Any] = {}
    for name in dict.fromkeys([*names, *(part for verdict in judged for part in verdict.parts)]):
        right: BoolArray = np.array([[verdict.parts.get(name, verdict.correct)] for verdict in judged])
        scores = _pass_scores(replace(chains, right=right), ks)
        estimates = resampling.means(list(scores.values()))
        tables[name] = {key: figure.to_json() for key, figure in zip(scores, estimates, strict=True)}
    return {"parts": tables} if tables else {}


def _outcomes(judged: Sequence[Judged]) -> dict[str, Any]:
    """States, truncation, tokens and seconds over all attempts."""
    total = len(judged)
    states = Counter(verdict.state for _, verdict in judged)
    cut = sum(attempt.finish_reason is not None and attempt.finish_reason.cut_off for attempt, _ in judged)
    weak = sum(verdict.report.get("integrity") == "weak" for _, verdict in judged)
    return {
        "states": {state.value: states[state] for state in State},
        "state_shares": {state.value: round(states[state] / total, 10) for state in State},
        "truncated": round(cut / total, 10),
        **({"weak_integrity": weak} if weak else {}),
        "tokens": {
            "prompt": _amount(attempt.prompt_tokens for attempt, _ in judged),
            "completion": _amount(attempt.completion_tokens for attempt, _ in judged),
        },
        "seconds": {
            "generation": _amount(attempt.seconds for attempt, _ in judged),
            "verification": _amount(verdict.seconds for _, verdict in judged),
        },
    }


def _amount(values: Iterable[float | None]) -> dict[str, Any]:
    """Total and mean over the attempts that say; both None where none does."""
    known = [value for value in values if value is not None]
    if not known:
        return {"total": None, "mean": None, "attempts": 0}
    total = round(sum(known), 6)  # whole numbers stay whole
    return {"total": total, "mean": round(total / len(known), 6), "attempts": len(known)}


def _breakdown(
    chains: Chains,
    problems_meta: Mapping[str, Mapping[str, Any]],
    columns: Sequence[str],
    resampling: ClusterBootstrap,
) -> dict[str, Any]:
    """pass@1 by the values of each metadata column that the task has."""
    scores = f.PASS.at(1).top(chains)
    tables: dict[str, Any] = {}
    for column in columns:
        members: dict[str, list[int]] = defaultdict(list)
        for index, problem in enumerate(chains.problems):
            members[_group_name(problems_meta[problem].get(column))].append(index)
        if set(members) == {NO_VALUE}:
            continue
        tables[column] = {}
        for name in sorted(members, key=_in_order):
            rows = members[name]
            of_group = ClusterBootstrap(len(rows), resampling.resamples, resampling.seed)
            figure = of_group.mean(scores[rows]).to_json()
            tables[column][name] = {
                "problems": len(rows),
                "attempts": int(chains.counts[rows].sum()),
                f.PASS.at(1).key: figure["value"],
                "ci": figure["ci"],
                "method": figure["method"],
            }
    return tables


def _group_name(value: Any) -> str:
    if value is None or value in ("", []):
        return NO_VALUE
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _in_order(name: str) -> tuple[bool, list[Any]]:
    """Sorts ``level 2`` before ``level 10``, and problems without a value last."""
    return name == NO_VALUE, [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]
