"""From attempts to the numbers of ``results.json``: one block for one task, judged in one mode.

The block depends on the set of attempts only: everything is put in order first, so the order in which a run
finished or was resumed cannot show in the numbers.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.chains import Chains, first_attempts
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.revisions import entries
from cipo_eval.metrics.bootstrap import CONFIDENCE, RESAMPLES, ClusterBootstrap
from cipo_eval.metrics.majority import majority_at_k
from cipo_eval.metrics.passk import check_ks, default_ks
from cipo_eval.metrics.variance import variance_split
from cipo_eval.records import Attempt, FinishReason, Mode, derive_seed
from cipo_eval.storage.attempts import Attempts, IntArray
from cipo_eval.storage.numbers import NONE, STATES, UNKNOWN
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

BREAKDOWN = ("subject", "level")
"""Metadata columns that results are broken down by unless told otherwise; those that a task lacks are passed
over."""
NO_VALUE = "(none)"
"""Stands for the group of problems that lack a metadata value which others have."""


def summarise(
    task: str,
    attempts: Iterable[Attempt],
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
    judged = _checked(task, Attempts.of(attempts), problems_meta, mode)
    chains = first_attempts(judged, mode, votes=True)
    n, correct = chains.own.attempts, chains.own.right
    fewest = int(n.min())
    ks = default_ks(fewest) if ks is None else sorted({1, *ks})
    check_ks(ks, fewest)
    intervals = {
        "confidence": CONFIDENCE,
        "resamples": bootstrap,
        "seed": derive_seed("bootstrap", seed, task),
    }
    resampling = ClusterBootstrap(len(n), bootstrap, int(intervals["seed"]))
    split = variance_split(n, correct)
    return {
        "mode": mode.value,
        "problems": len(n),
        "unattempted": len(problems_meta) - len(n),
        "attempts": int(n.sum()),
        "samples_per_problem": {"min": fewest, "max": int(n.max())},
        "metrics": _metrics(chains, ks, resampling, majority),
        **_parts(judged, chains, ks, resampling, parts, mode),
        **_own(figures, chains, resampling),
        **_outcomes(judged, mode),
        "variance": {"attempt": split.attempt.to_json(), "mean": split.mean.to_json()},
        "intervals": intervals,
        "breakdown": _breakdown(chains, problems_meta, breakdown, resampling),
    }


def _checked(
    task: str,
    attempts: Attempts,
    problems_meta: Mapping[str, Mapping[str, Any]],
    mode: Mode,
) -> Attempts:
    """The attempts ordered by problem and sample, after all checks."""
    if not attempts:
        raise ValueError(f"no attempts at {task}: nothing to summarise")
    if len(attempts.latest()) != len(attempts):
        raise ValueError(f"some attempts at {task} are there twice")
    protocols, turns = np.unique(attempts.column("protocol")), np.unique(attempts.column("turn"))
    if len(protocols) > 1 or len(turns) > 1:
        names = [attempts.words("protocol")[number] for number in protocols]
        raise ValueError(f"one turn of one protocol at a time, not {sorted(names)}, turns {turns.tolist()}")
    for name, known in (("task", {task}), ("problem", problems_meta.keys())):
        if foreign := next(iter(sorted(attempts.present(name) - known)), None):
            raise ValueError(f"attempts at {name} {foreign}, which is none of {task}")
    if (attempts.verdicts(mode, "state") == NONE).any():
        raise ValueError(f"some attempts at {task} were not judged in {mode.value} mode")
    return attempts.in_order()


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
    judged: Attempts,
    chains: Chains,
    ks: Sequence[int],
    resampling: ClusterBootstrap,
    names: Sequence[str],
    mode: Mode,
) -> dict[str, Any]:
    """pass@k and avg@n of each named part, from the same resamples as the main figures; nothing where there is none.

    A verdict without a part says of it what it says of the whole: there was no program to judge, or the problem's
    tests have no such part.
    """
    correct = judged.verdicts(mode, "correct")
    which, known = judged.verdicts(mode, "parts"), judged.decoded("parts")
    numbers, firsts = np.unique(which, return_index=True)
    met = [known[number] for _, number in sorted(zip(firsts, numbers, strict=True)) if number != NONE]
    tables: dict[str, Any] = {}
    for name in dict.fromkeys([*names, *(part for parts in met for part in parts)]):
        has = np.array([name in parts for parts in known] + [False])[which]  # −1, no parts, is the last one
        says = np.array([bool(parts.get(name)) for parts in known] + [False])[which]
        right = np.where(has, says, correct)[:, None]
        scores = _pass_scores(replace(chains, right=right), ks)
        estimates = resampling.means(list(scores.values()))
        tables[name] = {key: figure.to_json() for key, figure in zip(scores, estimates, strict=True)}
    return {"parts": tables} if tables else {}


def _outcomes(judged: Attempts, mode: Mode) -> dict[str, Any]:
    """States, truncation, tokens and seconds over all attempts."""
    total = len(judged)
    state, counts = judged.verdicts(mode, "state"), {}
    for number, which in enumerate(STATES):
        counts[which.value] = int((state == number).sum())
    cut_off = [FinishReason(word).cut_off for word in judged.words("finish")] + [False]
    cut = int(np.array(cut_off)[judged.column("finish")].sum())
    weakly = [of.get("integrity") == "weak" for of in judged.decoded("report")] + [False]
    weak = int(np.array(weakly)[judged.verdicts(mode, "report")].sum())
    return {
        "states": counts,
        "state_shares": {name: round(count / total, 10) for name, count in counts.items()},
        "truncated": round(cut / total, 10),
        **({"weak_integrity": weak} if weak else {}),
        "tokens": {
            "prompt": _counted(judged.column("prompt_tokens")),
            "completion": _counted(judged.column("completion_tokens")),
        },
        "seconds": {
            "generation": _amount(_known_seconds(judged.column("seconds"))),
            "verification": _amount(judged.verdicts(mode, "seconds")),
        },
    }


def _counted(tokens: IntArray) -> dict[str, Any]:
    return _amount(tokens[tokens != UNKNOWN].astype(np.int64))


def _known_seconds(seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    return seconds[~np.isnan(seconds)]


def _amount(known: NDArray[Any]) -> dict[str, Any]:
    """Total and mean over the attempts that say; both None where none does."""
    if not len(known):
        return {"total": None, "mean": None, "attempts": 0}
    total = round(
        np.cumsum(known)[-1].item(), 6
    )  # one after another, as ``sum`` does; whole numbers stay whole
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
