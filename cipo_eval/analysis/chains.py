"""From stored attempts to chains of turns: what the figures of self-correction are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cipo_eval.analysis.summary import label
from cipo_eval.metrics.correction import (
    BoolArray,
    Fresh,
    Trajectories,
    critique_figures,
    pool_pass_at_k,
    summarise_turns,
)
from cipo_eval.metrics.passk import default_ks
from cipo_eval.records import Attempt, AttemptKey, Mode, State, derive_seed
from cipo_eval.turns.protocols import DIRECT, Protocol
from cipo_eval.verifiers.critique import RIGHT, WRONG, counts_as_right

Chain = tuple[Attempt, ...]
"""An attempt and its revisions, turn by turn."""


def chains(attempts: Iterable[Attempt], protocol: Protocol) -> list[Chain]:
    """All chains of a protocol that have their first turn, ordered by problem and sample.

    A chain ends where the next turn is not there; a turn without its predecessor is left out.
    """
    by_key = {attempt.key: attempt for attempt in attempts}
    start = DIRECT if protocol.own else protocol.name
    found = []
    for key, first in sorted(by_key.items()):
        if key.turn != 1 or key.protocol != start:
            continue
        chain = [first]
        while following := by_key.get(
            AttemptKey(key.task, key.problem, protocol.name, key.sample, len(chain) + 1)
        ):
            chain.append(following)
        found.append(tuple(chain))
    return found


def attempts_of(chain: Chain, protocol: Protocol) -> Chain:
    """A chain without the judgements in it."""
    return chain[::2] if protocol.judges else chain


def trajectories(
    found: Sequence[Chain], protocol: Protocol, mode: Mode, turns: int
) -> tuple[Trajectories, list[Chain]]:
    """Chains of attempts as arrays, and the chains themselves: those of which no turn that should be there is missing.

    A judgement counts with the tokens of the attempt that follows. Where only wrong attempts are revised, what follows
    a right one (a verdict may have changed) does not count.
    """
    rows: list[Chain] = []
    for chain in found:
        kept = list(chain[: protocol.last_turn(turns)])
        if protocol.only_wrong:
            end = next((i for i, a in enumerate(kept) if a.verdicts[mode.value].correct), None)
            kept = kept if end is None else kept[: end + 1]
            complete = end is not None or len(kept) == turns
        else:
            complete = len(kept) == protocol.last_turn(turns)
        if complete:
            rows.append(tuple(kept))
    names = {problem: i for i, problem in enumerate(sorted({chain[0].problem for chain in rows}))}
    right, asked = np.zeros((len(rows), turns), bool), np.zeros((len(rows), turns), bool)
    same, tokens = np.zeros((len(rows), turns - 1), bool), np.zeros((len(rows), turns), np.int64)
    for i, chain in enumerate(rows):
        attempts = attempts_of(chain, protocol)
        verdicts = [attempt.verdicts[mode.value] for attempt in attempts]
        for t, verdict in enumerate(verdicts):
            right[i, t], asked[i, t] = verdict.correct, True
            if t:
                answer = label(verdict)
                same[i, t - 1] = answer is not None and answer == label(verdicts[t - 1])
        for number, turn in enumerate(chain):
            at = (number + 1) // 2 if protocol.judges else number
            tokens[i, at] += turn.completion_tokens or 0
    return (
        Trajectories(
            problem=np.array([names[chain[0].problem] for chain in rows], dtype=np.int64),
            right=right,
            asked=asked,
            same=same,
            tokens=tokens,
        ),
        rows,
    )


def revisions(
    task: str,
    attempts: Sequence[Attempt],
    protocol: Protocol,
    *,
    mode: Mode,
    turns: int,
    bootstrap: int,
    first: Sequence[Attempt] = (),
    votes: bool = False,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    breakdown: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of one protocol on one task, with what is missing and what became of each turn.

    ``attempts``: those of the protocol, and the first turns that its chains begin with; ``first``: the model's own
    first attempts, which revising is compared with (``votes``: their answers can be put to a vote); ``breakdown``:
    columns of the problems' ``metadata`` by whose values the main figures are also given.
    """
    found = chains(attempts, protocol)
    arrays, kept = trajectories(found, protocol, mode, turns)
    block: dict[str, Any] = {
        "mode": mode.value,
        "turns": turns,
        "chains": len(kept),
        "missing": len(found) - len(kept),
    }
    if kept:
        seed = derive_seed("bootstrap", seed, task, protocol.name)
        known = _fresh(kept, first, protocol, mode, votes=votes)
        block |= summarise_turns(arrays, bootstrap=bootstrap, seed=seed, fresh=known)
        if not protocol.own:
            block["pool"] = _pool(kept, arrays, bootstrap, seed)
        if protocol.judges:
            block["critique"] = _critique(kept, arrays, mode, bootstrap, seed)
        if groups := _groups(kept, arrays, metadata or {}, breakdown, bootstrap, seed):
            block["breakdown"] = groups
    last = protocol.last_turn(turns)
    block["shortened"] = [
        sum(bool(chain[turn - 1].left_out) for chain in found if len(chain) >= turn)
        for turn in range(1, last + 1)
    ]
    block["states"] = [states(found, mode, turn) for turn in range(1, last + 1)]
    return block


def _fresh(
    kept: Sequence[Chain], first: Sequence[Attempt], protocol: Protocol, mode: Mode, *, votes: bool
) -> Fresh:
    """The model's own first attempts at the problems of some chains, in the order of their names."""
    by_problem: dict[str, list[Attempt]] = {name: [] for name in sorted({chain[0].problem for chain in kept})}
    for attempt in first:
        if attempt.problem in by_problem:
            by_problem[attempt.problem].append(attempt)
    said = [
        [(label(v), v.correct) for a in attempts if (v := a.verdicts[mode.value])]
        for attempts in by_problem.values()
    ]
    tokens = [a.completion_tokens or 0 for attempts in by_problem.values() for a in attempts]
    return Fresh(
        attempts=np.array([len(answers) for answers in said], dtype=np.int64),
        right=np.array([sum(right for _, right in answers) for answers in said], dtype=np.int64),
        among=protocol.own,
        votes=said if votes else None,
        tokens=float(np.mean(tokens)) if tokens else 0.0,
    )


def _pool(kept: Sequence[Chain], arrays: Trajectories, bootstrap: int, seed: int) -> dict[str, Any]:
    """Of the pool's wrong attempts: how many there are, and the chance that one of k first corrections is right.

    An attempt of a pool is known by its problem and its text.
    """
    wrong: list[int] = np.flatnonzero(~arrays.right[:, 0]).tolist()
    if not wrong:
        return {"wrong": 0}
    keys = [(kept[i][0].problem, kept[i][0].prompt_hash) for i in wrong]
    places = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    item = np.array([places[key] for key in keys])
    figures = pool_pass_at_k(
        item,
        arrays.problem[wrong],
        arrays.right[wrong, 1],
        default_ks(int(np.bincount(item).min())),
        bootstrap=bootstrap,
        seed=seed,
    )
    return {"wrong": len(places), **figures}


def judged(kept: Sequence[Chain], mode: Mode) -> tuple[BoolArray, BoolArray, BoolArray]:
    """Of the first judgement of each chain: whether the attempt is wrong, whether it says so, whether it says the
    opposite; shape (chains,).

    One that cannot be read says nothing; ``paper`` mode takes it for the opposite of the truth, as CriticBench does.
    """
    said = [chain[1].verdicts[mode.value].extracted for chain in kept]
    wrong = np.array([not counts_as_right(chain[0].verdicts[mode.value], mode) for chain in kept])
    says_wrong = np.array([word == WRONG for word in said])
    says_right = np.array([word == RIGHT for word in said])
    if mode is Mode.PAPER:
        unread = ~says_wrong & ~says_right
        says_wrong, says_right = says_wrong | (unread & ~wrong), says_right | (unread & wrong)
    return wrong, says_wrong, says_right


def _critique(
    kept: Sequence[Chain], arrays: Trajectories, mode: Mode, bootstrap: int, seed: int
) -> dict[str, Any]:
    """Figures of the first judgement of each chain, and of the corrections that followed."""
    unread = sum(chain[1].verdicts[mode.value].extracted is None for chain in kept)
    figures = critique_figures(
        *judged(kept, mode), arrays.problem, arrays.right[:, 1], bootstrap=bootstrap, seed=seed
    )
    return {"judgements": len(kept), "unread": unread, **figures}


def _groups(
    kept: Sequence[Chain],
    arrays: Trajectories,
    metadata: Mapping[str, Mapping[str, Any]],
    columns: Sequence[str],
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """By column and value: chains, accuracy after each turn, correction rate and retention of the first step."""
    groups: dict[str, Any] = {}
    for column in columns:
        values = [metadata.get(chain[0].problem, {}).get(column) for chain in kept]
        for value in sorted({str(v) for v in values if v is not None}):
            rows = np.array([v is not None and str(v) == value for v in values])
            found = summarise_turns(arrays.only(rows), bootstrap=bootstrap, seed=seed)
            step = found["steps"][0]["metrics"] if found["steps"] else {}
            groups.setdefault(column, {})[value] = {
                "chains": int(rows.sum()),
                **found["by_turn"],
                **{name: step[name] for name in ("correction_rate", "retention") if name in step},
            }
    return groups


def states(found: Sequence[Chain], mode: Mode, turn: int) -> Mapping[str, int]:
    """How many attempts (or judgements) of a turn ended in each state."""
    counts = dict.fromkeys((state.value for state in State), 0)
    for chain in found:
        if len(chain) >= turn:
            counts[chain[turn - 1].verdicts[mode.value].state.value] += 1
    return counts
