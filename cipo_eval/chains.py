"""From stored attempts to chains of turns: what the figures of self-correction are made of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.correction import Trajectories, pool_pass_at_k, summarise_turns
from cipo_eval.metrics.passk import default_ks
from cipo_eval.metrics.summary import label
from cipo_eval.protocols import DIRECT, Protocol
from cipo_eval.records import Attempt, AttemptKey, Mode, State, derive_seed

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


def trajectories(
    found: Sequence[Chain], protocol: Protocol, mode: Mode, turns: int
) -> tuple[Trajectories, list[Chain]]:
    """Chains as arrays, and the chains themselves: those of which no turn that should be there is missing.

    Where only wrong attempts are revised, what follows a right one (a verdict may have changed) does not count.
    """
    rows: list[Chain] = []
    for chain in found:
        kept = list(chain[:turns])
        if protocol.only_wrong:
            end = next((i for i, a in enumerate(kept) if a.verdicts[mode.value].correct), None)
            kept = kept if end is None else kept[: end + 1]
            complete = end is not None or len(kept) == turns
        else:
            complete = len(kept) == turns
        if complete:
            rows.append(tuple(kept))
    names = {problem: i for i, problem in enumerate(sorted({chain[0].problem for chain in rows}))}
    right, asked = np.zeros((len(rows), turns), bool), np.zeros((len(rows), turns), bool)
    same, tokens = np.zeros((len(rows), turns - 1), bool), np.zeros((len(rows), turns), np.int64)
    for i, chain in enumerate(rows):
        verdicts = [attempt.verdicts[mode.value] for attempt in chain]
        for t, (attempt, verdict) in enumerate(zip(chain, verdicts, strict=True)):
            right[i, t], asked[i, t] = verdict.correct, True
            tokens[i, t] = attempt.completion_tokens or 0
            if t:
                answer = label(verdict)
                same[i, t - 1] = answer is not None and answer == label(verdicts[t - 1])
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
    attempts: Iterable[Attempt],
    protocol: Protocol,
    *,
    mode: Mode,
    turns: int,
    bootstrap: int,
    given: Mapping[str, int] | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """The figures of one protocol on one task, with what is missing and what became of each turn.

    ``given``: how many attempts a pool has at each problem, where the first turn comes from one.
    """
    found = chains(attempts, protocol)
    arrays, kept = trajectories(found, protocol, mode, turns)
    block: dict[str, Any] = {
        "mode": mode.value,
        "turns": turns,
        "chains": len(kept),
        "missing": len(found) - len(kept),
    }
    if block["chains"]:
        seed = derive_seed("bootstrap", seed, task, protocol.name)
        block |= summarise_turns(arrays, bootstrap=bootstrap, seed=seed)
        if given:
            block["pool"] = _pool(kept, arrays.problem, given, mode, bootstrap, seed)
    block["states"] = [states(found, mode, turn) for turn in range(1, turns + 1)]
    return block


def _pool(
    kept: Sequence[Chain],
    problem: NDArray[np.int64],
    given: Mapping[str, int],
    mode: Mode,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Of the pool's wrong attempts: how many there are, and the chance that one of k corrections (turn 2) is right."""
    rows = [
        (
            chain[0].problem,
            chain[0].sample % given[chain[0].problem],
            int(of),
            chain[1].verdicts[mode.value].correct,
        )
        for chain, of in zip(kept, problem, strict=True)
        if len(chain) > 1 and not chain[0].verdicts[mode.value].correct
    ]
    if not rows:
        return {"wrong": 0}
    places = {
        place: i for i, place in enumerate(dict.fromkeys((name, number) for name, number, _, _ in rows))
    }
    item = np.array([places[name, number] for name, number, _, _ in rows])
    figures = pool_pass_at_k(
        item,
        np.array([of for _, _, of, _ in rows]),
        np.array([right for _, _, _, right in rows]),
        default_ks(int(np.bincount(item).min())),
        bootstrap=bootstrap,
        seed=seed,
    )
    return {"wrong": len(places), **figures}


def states(found: Sequence[Chain], mode: Mode, turn: int) -> Mapping[str, int]:
    """How many attempts of a turn ended in each state."""
    counts = dict.fromkeys((state.value for state in State), 0)
    for chain in found:
        if len(chain) >= turn:
            counts[chain[turn - 1].verdicts[mode.value].state.value] += 1
    return counts
