"""From chains of turns to the numbers of ``results.json``: one block for one protocol on one task, judged in one mode
(docs/correction.md lists the keys)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.chains import Chains, StoredChains, chains_of, states
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.judgements import ALWAYS_WRONG, CELLS, JOINED, JUDGEMENTS, LOCATIONS
from cipo_eval.metrics.bootstrap import CONFIDENCE, RESAMPLES
from cipo_eval.metrics.passk import default_ks
from cipo_eval.metrics.ratios import DIGITS, estimates
from cipo_eval.records import Attempt, Mode, derive_seed
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.numbers import SAID_NOTHING
from cipo_eval.turns.protocols import Protocol

NEARLY = 0.01
"""Where an attempt and its revision are equally long, means differ by a token in thousands: up to this share more is no
more."""
TOKEN_DIGITS = 6
"""Decimals of mean tokens."""
Block = dict[str, Any]


def revisions(
    task: str,
    attempts: Iterable[Attempt],
    protocol: Protocol,
    *,
    mode: Mode,
    turns: int,
    bootstrap: int = RESAMPLES,
    first: Iterable[Attempt] = (),
    votes: bool = False,
    metadata: Mapping[str, Mapping[str, Any]] | None = None,
    breakdown: Sequence[str] = (),
    figures: Sequence[Figure] = (),
    beside: tuple[Protocol, Attempts] | None = None,
    seed: int = 0,
) -> Block:
    """The figures of one protocol on one task, with what is missing and what became of each turn.

    ``attempts``: those of the protocol, and the first turns that its chains begin with; ``first``: the model's own
    first attempts, which revising is compared with (``votes``: their answers can be put to a vote); ``breakdown``:
    columns of the problems' ``metadata`` by whose values the main figures are also given; ``figures``: a user's own,
    beside the table's; ``beside``: the protocol that one which continues attempts is compared with, and its attempts.
    """
    stored = chains_of(attempts, protocol)
    complete = stored.complete(protocol, mode, turns)
    block: Block = {
        "mode": mode.value,
        "turns": turns,
        "chains": len(complete),
        "missing": len(stored) - len(complete),
    }
    if len(complete):
        seed = derive_seed("bootstrap", seed, task, protocol.name)
        chains = Chains.of(complete, protocol, mode, turns, first=first, votes=votes, beside=beside)
        block |= summarise_turns(chains, bootstrap=bootstrap, seed=seed)
        if not protocol.own and not protocol.locates:
            block["pool"] = pool_block(chains, bootstrap=bootstrap, seed=seed)
        if beside is not None:
            resamples = {"bootstrap": bootstrap, "seed": seed}
            block["blind_spot"] = {"against": beside[0].name, **entries(BLIND_SPOTS, chains, **resamples)}
        if protocol.judges:
            unread = int((complete.turn(2, complete.attempts.verdicts(mode, "said")) == SAID_NOTHING).sum())
            critique = critique_block(chains, locates=protocol.locates, bootstrap=bootstrap, seed=seed)
            block["critique"] = {"judgements": len(complete), "unread": unread, **critique}
        if own := [figure for figure in figures if figure.applies(protocol)]:
            block["figures"] = entries(own, chains, bootstrap=bootstrap, seed=seed)
        main = LOCATIONS if protocol.locates else _main(chains.turns)
        groups = _groups(chains, complete, metadata or {}, breakdown, main, bootstrap=bootstrap, seed=seed)
        if groups:
            block["breakdown"] = groups
    last = protocol.last_turn(turns)
    left_out = stored.attempts.column("left_out") != 0
    block["shortened"] = [int(stored.turn(turn, left_out).sum()) for turn in range(1, last + 1)]
    block["states"] = [states(stored, mode, turn) for turn in range(1, last + 1)]
    return block


def entries(figures: Iterable[Figure], chains: Chains, *, bootstrap: int = RESAMPLES, seed: int = 0) -> Block:
    """By key, the value of each figure of some chains with its interval (``metrics.ratios``)."""
    ratios = {figure.key: figure.ratio(chains) for figure in figures}
    return dict(estimates(ratios, bootstrap=bootstrap, seed=seed))


def summarise_turns(chains: Chains, *, bootstrap: int = RESAMPLES, seed: int = 0) -> Block:
    """What became of attempts turn by turn, as JSON values.

    ``by_turn`` has accuracy after each turn; ``steps`` what went from each turn to the next; ``lift`` compares revising
    a failed attempt with another first attempt; ``resampling`` has what first attempts alone would have given, with
    ``equal_tokens`` those that cost no more than a chain; ``sequential`` compares k attempts with a revision each
    with 2k attempts. Raises ``ValueError`` without chains.
    """
    if not len(chains):
        raise ValueError("no chains: nothing to summarise")
    resamples = {"bootstrap": bootstrap, "seed": seed}
    later = range(2, chains.turns + 1)
    spent = tokens_of(chains)
    return {
        "problems": len(chains.counts),
        "by_turn": entries(map(f.ACCURACY.at, range(1, chains.turns + 1)), chains, **resamples),
        "change": entries(map(f.CHANGE.at, later), chains, **resamples),
        "steps": [
            {
                "from": turn - 1,
                "to": turn,
                "metrics": entries((step.at(turn) for step in f.STEPS), chains, **resamples),
                "matrix": _matrix(chains, turn),
            }
            for turn in later
        ],
        "lift": entries((f.LIFT, f.REVISED, f.FRESH), chains, **resamples),
        "resampling": _resampling(chains, spent, **resamples),
        "sequential": entries(sequential(chains), chains, **resamples),
        "tokens": spent,
        "intervals": {"confidence": CONFIDENCE, "resamples": bootstrap, "seed": seed},
    }


def pool_block(chains: Chains, *, bootstrap: int = RESAMPLES, seed: int = 0) -> Block:
    """Corrections of the pool's wrong attempts: how many attempts there are, and the chance that one of k first
    corrections is right (pass@k)."""
    wrong = chains.only(~chains.right[:, 0])
    if not len(wrong) or wrong.item is None:
        return {"wrong": 0}
    corrections = np.unique(wrong.item, return_counts=True)[1]
    figures = map(f.POOL.at, default_ks(int(corrections.min())))
    return {"wrong": len(corrections), **entries(figures, wrong, bootstrap=bootstrap, seed=seed)}


def critique_block(
    chains: Chains, *, locates: bool = False, bootstrap: int = RESAMPLES, seed: int = 0
) -> Block:
    """The first judgement of each chain: confusion counts and figures (``analysis.judgements``), also those of
    judgements that ``locates`` says name a step; where a correction followed, ``joined`` has what became of the
    attempts. Raises ``ValueError`` for chains without judgements."""
    if chains.judgements is None:
        raise ValueError("these chains have no judgements")
    resamples = {"bootstrap": bootstrap, "seed": seed}
    counts = {name: int(cell(chains.judgements).sum()) for name, cell in CELLS.items()}
    figures = (*(LOCATIONS if locates else ()), *JUDGEMENTS, ALWAYS_WRONG)
    block = {"counts": counts, **entries(figures, chains, **resamples)}
    return block | ({"joined": entries(JOINED, chains, **resamples)} if chains.turns > 1 else {})


def sequential(chains: Chains) -> list[Figure]:
    """seq@k and its gain over 2k first attempts, for every k for which there are enough chains and first attempts."""
    fewest = min(int(chains.counts.min()), int(chains.own.attempts.min()) // 2)
    if fewest < 1 or chains.turns < 2:
        return []
    return [family.at(k) for k in default_ks(fewest) for family in (f.SEQUENTIAL, f.SEQUENTIAL_GAIN)]


def tokens_of(chains: Chains) -> dict[str, float] | None:
    """Mean tokens of a first attempt of the model, and of all that it generated in a chain; None where not known."""
    if chains.tokens is None:
        return None
    spent = np.where(chains.asked, chains.tokens, 0)
    among = chains.own.among
    first = float(spent[:, 0].mean()) if among else chains.own.tokens
    # somebody else's attempt costs nothing, unless all that follows it counts with it
    whole = float(spent[:, (0 if among or chains.turns == 1 else 1) :].sum(axis=1).mean())
    return {"first": round(first, TOKEN_DIGITS), "chain": round(whole, TOKEN_DIGITS)}


def _matrix(chains: Chains, turn: int) -> dict[str, dict[str, float] | None]:
    """Where right and wrong attempts went in the step to a turn."""
    before, after = chains.after(turn - 1), chains.after(turn)
    if chains.same is None:
        wrong = {"right": ~before & after, "wrong": ~before & ~after}
    else:
        same = chains.same[:, turn - 2]
        wrong = {
            "right": ~before & after,
            "same_wrong": ~before & ~after & same,
            "other_wrong": ~before & ~after & ~same,
        }
    right = {"right": before & after, "wrong": before & ~after}
    return {
        start: _shares({end: float(chains.mean(cell).sum()) for end, cell in row.items()})
        for start, row in (("right", right), ("wrong", wrong))
    }


def _shares(parts: Mapping[str, float]) -> dict[str, float] | None:
    """A row of the transition matrix: its entries sum to one; None where no attempt is in it."""
    total = sum(parts.values())
    return {name: round(part / total, DIGITS) for name, part in parts.items()} if total > 0 else None


def _resampling(
    chains: Chains, spent: Mapping[str, float] | None, *, bootstrap: int, seed: int
) -> dict[str, Any]:
    """What further first attempts would have given, where all problems have enough: pass@2, and pass@k and maj@k of as
    many as cost no more tokens than a chain (pass@k has a verifier that chooses, maj@k has not)."""
    resamples = {"bootstrap": bootstrap, "seed": seed}
    fewest = int(chains.own.attempts.min())
    if fewest < 2:
        return {}
    block = entries([f.RESAMPLED.at(2)], chains, **resamples)
    if spent is None or spent["first"] <= 0:
        return block
    k = min(fewest, max(1, int((1 + NEARLY) * spent["chain"] / spent["first"])))
    families = (f.EQUAL_PASS, f.EQUAL_MAJORITY) if chains.own.votes is not None else (f.EQUAL_PASS,)
    equal = {"k": k, "tokens": round(k * spent["first"], TOKEN_DIGITS)}
    return {
        **block,
        "equal_tokens": equal | entries((family.at(k) for family in families), chains, **resamples),
    }


def _main(turns: int) -> list[Figure]:
    """Accuracy after each turn, correction rate and retention of the first step."""
    first = [f.CORRECTION_RATE.at(2), f.RETENTION.at(2)] if turns > 1 else []
    return [*map(f.ACCURACY.at, range(1, turns + 1)), *first]


def _groups(
    chains: Chains,
    complete: StoredChains,
    metadata: Mapping[str, Mapping[str, Any]],
    columns: Sequence[str],
    main: Sequence[Figure],
    *,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """By column of the problems' metadata and value: chains and the ``main`` figures. ``complete``: the same chains as
    they are stored."""
    groups: dict[str, Any] = {}
    problem = complete.problem
    for column in columns:
        values = [metadata.get(name, {}).get(column) for name in complete.attempts.words("problem")]
        texts = np.array(["" if value is None else f"={value}" for value in values], dtype=object)
        of_chains = texts[problem]
        for value in sorted(set(of_chains) - {""}):
            rows = np.asarray(of_chains == value, dtype=bool)
            part = entries(main, chains.only(rows), bootstrap=bootstrap, seed=seed)
            groups.setdefault(column, {})[value[1:]] = {"chains": int(rows.sum()), **part}
    return groups
