"""Every figure, declared once: ``results.json``, comparisons, reports and trainings take it from this table.

A figure is Σ over problems of the mean of ``top`` over its chains, divided by the same of ``bottom``; problems weigh
the same. Figures that differ in a turn or a number of attempts only are a ``Family``. What is counted beside figures
(costs, states) stands in ``measures``. Names are written from these objects and never read back.

A new figure is one entry here and one test; a figure of a user's own is a ``Figure`` in a module of theirs, found by
``load`` (docs/add-a-figure.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.chains import Chains, FloatArray
from cipo_eval.analysis.figure import Family, Figure, Measure, Values
from cipo_eval.analysis.judgements import (
    ALWAYS_WRONG,
    JOINED,
    JUDGEMENT_ACCURACY,
    JUDGEMENT_F1,
    JUDGEMENTS,
    LOCATIONS,
)
from cipo_eval.errors import UsageError
from cipo_eval.metrics.majority import majority_at_k
from cipo_eval.metrics.passk import pass_at_k
from cipo_eval.metrics.ratios import divided
from cipo_eval.settings import named_object
from cipo_eval.turns.protocols import DIRECT, Protocol

CODE_2024 = "arXiv:2412.19513"
SCORE = "SCoRe, arXiv:2409.12917"
CHEN = "Chen et al. 2021, arXiv:2107.03374, eq. 1"
WANG = "Wang et al. 2022, arXiv:2203.11171"


def _asks_all(protocol: Protocol) -> bool:
    """Where only wrong attempts are revised, right ones stay by construction."""
    return not protocol.only_wrong and not protocol.locates


def _of_pool(protocol: Protocol) -> bool:
    return not protocol.own and not protocol.locates


def _direct(protocol: Protocol) -> bool:
    return protocol.name == DIRECT


Entry = Figure | Family

# --- first attempts -----------------------------------------------------------------------------------------------


def _pass_of_chains(k: int) -> Values:
    return lambda c: pass_at_k(c.counts, c.total(c.state[:, 0]), k)


def _pass(k: int) -> Figure:
    return Figure(
        name=f"pass@{k}",
        family="pass@k",
        k=k,
        top=_pass_of_chains(k),
        unit="problem",
        applies=_direct,
        compared=True,
        seeds=True,
        meaning="chance that at least one of k attempts is right",
        formula="mean of 1 − C(n−c, k) / C(n, k)",
        source=CHEN,
    )


def _majority(k: int) -> Figure:
    return Figure(
        name=f"maj@{k}",
        family="maj@k",
        k=k,
        top=_vote(k),
        unit="problem",
        applies=_direct,
        compared=True,
        seeds=True,
        meaning="chance that the most frequent answer of k attempts is right (self-consistency)",
        formula="mean over all choices of k of the n attempts",
        source=WANG,
    )


def _vote(k: int) -> Values:
    def scores(chains: Chains) -> FloatArray:
        if chains.own.votes is None:
            raise ValueError("answers of these attempts are not put to a vote")
        return majority_at_k(chains.own.votes, [k]).scores[k]

    return scores


PASS = Family("pass@k", _pass)
MAJORITY = Family("maj@k", _majority)
MEAN_SCORE = Figure(
    name="avg@n",
    top=_pass_of_chains(1),
    unit="problem",
    applies=_direct,
    seeds=True,
    meaning="chance that one attempt is right: pass@1 by its other name",
    formula="mean of c/n",
)

# --- after each turn ----------------------------------------------------------------------------------------------


def _accuracy(turn: int) -> Figure:
    return Figure(
        name=f"acc@t{turn}",
        family="acc@t",
        turn=turn,
        top=lambda c: c.state[:, turn - 1],
        compared=True,
        seeds=True,
        meaning="right after turn t",
        formula="P(r at t)",
    )


def _change(turn: int) -> Figure:
    return Figure(
        name=f"Δ(t1,t{turn})",
        family="Δ(t1,t)",
        turn=turn,
        kind="difference",
        top=lambda c: c.state[:, turn - 1] - c.state[:, 0].astype(float),
        compared=True,
        seeds=True,
        meaning="gain over the first turn",
        formula="acc@t − acc@t1",
        source=SCORE,
    )


ACCURACY = Family("acc@t", _accuracy)
CHANGE = Family("Δ(t1,t)", _change)

# --- from a turn to the next --------------------------------------------------------------------------------------


def _step(
    key: str, values: Callable[[NDArray[np.bool_], NDArray[np.bool_]], tuple[Any, Any]], **more: Any
) -> Family:
    """Figures of the step to a turn, with whether attempts were right ``before`` and ``after`` it, shape (chains,)
    each. Later steps than the first have their turns in their names."""

    def make(turn: int) -> Figure:
        later = "" if turn == 2 else f" t{turn - 1}→t{turn}"
        label = more.get("label", key.replace("_", " "))
        return Figure(
            **{
                **more,
                "name": f"{key}{later}",
                "label": f"{label}{later}",
                "key": key,
                "family": key,
                "turn": turn,
                "compared": more.get("compared", False) and turn == 2,
                "seeds": more.get("seeds", False) and turn == 2,
            },
            top=lambda c: values(c.after(turn - 1), c.after(turn))[0],
            bottom=lambda c: values(c.after(turn - 1), c.after(turn))[1],
        )

    return Family(key, make)


def _ones(values: NDArray[np.bool_]) -> FloatArray:
    return np.ones(len(values))


def relative_score(second: FloatArray, first: FloatArray) -> FloatArray:
    """RSS of accuracies before and after a step (arXiv:2412.19513), elementwise: 0.5 where revising changes nothing."""
    return divided(second - first**2, 2 * first * (1 - first))


STEP_CHANGE = _step(
    "Δ",
    lambda before, after: (after - before.astype(float), _ones(before)),
    kind="difference",
    meaning="gain of a step",
    formula="acc@t − acc@(t−1)",
    source=SCORE,
)
INTO_RIGHT = _step(
    "Δ(i→c)",
    lambda before, after: (~before & after, _ones(before)),
    seeds=True,
    meaning="share of all attempts that became right",
    formula="P(w then r)",
    source=SCORE,
)
INTO_WRONG = _step(
    "Δ(c→i)",
    lambda before, after: (before & ~after, _ones(before)),
    seeds=True,
    meaning="share of all attempts that became wrong",
    formula="P(r then w)",
    source=SCORE,
)
CORRECTION_RATE = _step(
    "correction_rate",
    lambda before, after: (~before & after, ~before),
    compared=True,
    seeds=True,
    meaning="wrong attempts that became right (critique score, CS)",
    formula="P(r at 2 \\| w at 1)",
    source=CODE_2024,
)
RETENTION = _step(
    "retention",
    lambda before, after: (before & after, before),
    applies=_asks_all,
    compared=True,
    seeds=True,
    meaning="right attempts that stayed right (confidence level, CL)",
    formula="P(r at 2 \\| r at 1)",
    source=CODE_2024,
)
RELATIVE_SCORE = _step(
    "rss",
    lambda before, after: (after, before),
    form=relative_score,
    kind="amount",
    compared=True,
    seeds=True,
    meaning="relative self-correction score",
    formula="(acc₂ − acc₁²) / (2·acc₁·(1 − acc₁))",
    source=CODE_2024,
)
STEPS = (STEP_CHANGE, INTO_RIGHT, INTO_WRONG, CORRECTION_RATE, RETENTION, RELATIVE_SCORE)


# --- beside other first attempts ----------------------------------------------------------------------------------


def _counted(chains: Chains) -> NDArray[np.bool_]:
    """Failed attempts that were revised, at problems with other first attempts; shape (chains,)."""
    return np.asarray(chains.revised & ~chains.state[:, 0] & (_others(chains) > 0), dtype=bool)


def _others(chains: Chains) -> NDArray[np.int64]:
    """First attempts at the problem of each chain but the chain's own, shape (chains,)."""
    return np.asarray(chains.own.attempts[chains.place] - chains.own.among, dtype=np.int64)


def _fresh_share(chains: Chains) -> FloatArray:
    """Share of the *other* first attempts at the same problem that are right, where they count; shape (chains,).

    A failed attempt that is itself among the model's first attempts is left out of them: given that it failed, the
    others are still fair draws from the problem's rate, while the rate of all is too low by the factor (n − 1)/n.
    """
    share = chains.own.right[chains.place] / np.maximum(_others(chains), 1)
    return np.where(_counted(chains), share, 0.0)


LIFT = Figure(
    name="correction_lift",
    label="lift",
    kind="difference",
    top=lambda c: (_counted(c) & c.after(2)) - _fresh_share(c),
    bottom=_counted,
    compared=True,
    seeds=True,
    meaning="revising a failed attempt against a fresh one: `revised` − `fresh`",
    formula="see [correction](correction.md)",
)
REVISED = Figure(
    name="revised",
    top=lambda c: _counted(c) & c.after(2),
    bottom=_counted,
    meaning="failed attempts that a revision made right, at problems with other first attempts",
)
FRESH = Figure(
    name="fresh",
    label="resample",
    top=_fresh_share,
    bottom=_counted,
    meaning="the other first attempts at the problems of these, right ones of them",
)


def _pass_of_fresh(k: int) -> Values:
    return lambda c: pass_at_k(c.own.attempts, c.own.right, k)


def _resampled(k: int) -> Figure:
    return Figure(
        name=f"resampled pass@{k}",
        key=f"pass@{k}",
        family="resampled pass@k",
        k=k,
        top=_pass_of_fresh(k),
        unit="problem",
        meaning="two first attempts and a verifier that chooses",
        formula="1 − C(n−c, 2)/C(n, 2)",
        source=CHEN,
    )


def _equal_pass(k: int) -> Figure:
    return Figure(
        name="equal-token pass",
        key=f"pass@{k}",
        k=k,
        top=_pass_of_fresh(k),
        unit="problem",
        meaning="one of as many first attempts as cost no more tokens than a chain",
        formula="pass@k, k = ⌊1.01 · tokens of a chain / tokens of a first attempt⌋, at most n",
    )


def _equal_majority(k: int) -> Figure:
    return Figure(
        name="equal-token maj",
        key=f"maj@{k}",
        k=k,
        top=_vote(k),
        unit="problem",
        meaning="the vote of as many",
        formula="maj@k, the same k",
    )


RESAMPLED = Family("pass@k", _resampled)
EQUAL_PASS = Family("pass@k", _equal_pass)
EQUAL_MAJORITY = Family("maj@k", _equal_majority)


def _sequential(k: int) -> Figure:
    return Figure(
        name=f"seq@{k}",
        family="seq@k",
        k=k,
        top=_either(k),
        unit="problem",
        seeds=True,
        meaning="one of k attempts or of their first revisions is right",
        formula="mean over problems of 1 − C(n−e, k)/C(n, k), e chains of n with either turn right",
        source=CHEN,
    )


def _sequential_gain(k: int) -> Figure:
    return Figure(
        name=f"seq@{k} gain",
        family="seq@k gain",
        k=k,
        kind="difference",
        top=lambda c: _either(k)(c) - _pass_of_fresh(2 * k)(c),
        unit="problem",
        compared=True,
        seeds=True,
        meaning="the same less pass@2k: as many attempts alone",
        formula="seq@k − pass@2k",
    )


def _either(k: int) -> Values:
    return lambda c: pass_at_k(c.counts, c.total(c.either), k)


SEQUENTIAL = Family("seq@k", _sequential)
SEQUENTIAL_GAIN = Family("seq@k gain", _sequential_gain)


def _pool(k: int) -> Figure:
    def top(chains: Chains) -> FloatArray:
        """Of each attempt of the pool, shape (items,)."""
        assert chains.item is not None
        _, item = np.unique(chains.item, return_inverse=True)
        right = np.bincount(item, weights=chains.after(2)).astype(np.int64)
        return pass_at_k(np.bincount(item), right, k)

    return Figure(
        name=f"pool pass@{k}",
        key=f"pass@{k}",
        family="pool pass@k",
        k=k,
        top=top,
        unit="item",
        applies=_of_pool,
        meaning="one of k corrections of a pool's wrong attempt is right",
        formula="mean over these attempts of 1 − C(n−c, k)/C(n, k)",
        source=CHEN,
    )


POOL = Family("pass@k", _pool)

# --- the table ----------------------------------------------------------------------------------------------------

TABLE: Mapping[str, tuple[Entry, ...]] = {
    "metrics": (PASS, MEAN_SCORE, MAJORITY),
    "by_turn": (ACCURACY,),
    "change": (CHANGE,),
    "steps[].metrics": STEPS,
    "lift": (LIFT, REVISED, FRESH),
    "resampling": (RESAMPLED,),
    "resampling.equal_tokens": (EQUAL_PASS, EQUAL_MAJORITY),
    "sequential": (SEQUENTIAL, SEQUENTIAL_GAIN),
    "pool": (POOL,),
    "blind_spot": BLIND_SPOTS,
    "critique": (*LOCATIONS, *JUDGEMENTS, ALWAYS_WRONG),
    "critique.joined": JOINED,
}
"""By section of ``results.json``, in the order of each."""


def with_seeds(protocol: Protocol, turns: int, ks: Iterable[int]) -> list[Figure]:
    """The figures of a protocol that have an interval over several trainings; those of a number of attempts for each
    of ``ks``."""
    ks = list(ks)
    numbers: Mapping[str, Iterable[int]] = {"metrics": ks, "sequential": ks, "by_turn": range(1, turns + 1)}
    chosen: list[Figure] = []
    for section, entries in TABLE.items():
        for entry in entries:
            if isinstance(entry, Family):
                chosen += [entry.at(number) for number in numbers.get(section, range(2, turns + 1))]
            else:
                chosen.append(entry)
    return [figure for figure in chosen if figure.seeds and figure.applies(protocol)]


def compared(protocol: Protocol, turns: int, more: Iterable[Figure] = ()) -> list[Figure]:
    """The figures of a protocol with revisions that ``cipo-eval compare`` tells the difference of: accuracy after the
    last turn and its gain over the first, what the first step did, lift, seq@1 gain, blind spots, judgements, and those
    of a user's own (``more``)."""
    gain = (CHANGE.at(turns),) if turns > 1 else ()
    first = (CORRECTION_RATE.at(2), RETENTION.at(2), RELATIVE_SCORE.at(2)) if turns > 1 else ()
    judged = (*LOCATIONS, JUDGEMENT_ACCURACY, JUDGEMENT_F1)
    chosen = (ACCURACY.at(turns), *gain, *first, LIFT, SEQUENTIAL_GAIN.at(1), *BLIND_SPOTS, *judged, *more)
    return [figure for figure in chosen if figure.compared and figure.applies(protocol)]


def load(names: Iterable[str]) -> tuple[Figure, ...]:
    """A user's own figures, each named ``module:object``; an object may be a figure or several.

    Raises ``UsageError`` where there is no such object, it is no figure, or another figure has its name.
    """
    loaded: list[Figure] = []
    taken = {entry.name for entries in TABLE.values() for entry in entries}
    for name in names:
        named = named_object(name, "--figures")
        several = list(named) if isinstance(named, list | tuple) else [named]
        for figure in several:
            if not isinstance(figure, Figure):
                raise UsageError(
                    f"--figures {name} is not a Figure, nor a list of such (docs/add-a-figure.md)"
                )
            if figure.name in taken:
                raise UsageError(f"--figures {name}: another figure is named {figure.name}")
            taken.add(figure.name)
            loaded.append(figure)
    return tuple(loaded)


def is_later_step(measure: Measure) -> bool:
    """Whether it is of a step between turns that is not the first: it stands in no overview."""
    return measure.family in {family.name for family in STEPS} and measure.turn != 2
