"""Self-correction: what became of attempts that a model went through again.

Every figure is a ratio of sums over problems, or is made of some of them. An attempt counts 1/n at a problem with n
attempts, so that problems weigh the same (as in pass@1), and acc@t2 = acc@t1·CL + (1 − acc@t1)·CS holds exactly, in the
figures and in each resample. Intervals come from resampling problems, all figures from the same resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.metrics.bootstrap import CONFIDENCE, FEW, RESAMPLES, ClusterBootstrap, clopper_pearson
from cipo_eval.metrics.majority import Votes, majority_at_k
from cipo_eval.metrics.passk import default_ks, pass_at_k

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
NEARLY = 0.01
"""Where an attempt and its revision are equally long, means differ by a token in thousands: up to this share more is no
more."""
Totals = Mapping[str, FloatArray]
"""Named sums over problems: one value each, or one per resample."""


@dataclass(frozen=True, slots=True)
class Figure:
    """How a figure comes from totals: NaN where it is undefined."""

    of: Callable[[Totals], FloatArray]
    share: bool = False
    """A share of attempts: where too few problems differ for a bootstrap, a binomial bound holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Chains of turns, one row each. Raises ``ValueError`` for shapes that do not fit, or rows without a first turn."""

    problem: NDArray[np.int64]
    """Index of the problem, shape (chains,)."""
    right: BoolArray
    """Whether the attempt of each turn is right, shape (chains, turns)."""
    asked: BoolArray
    """Whether the turn took place, same shape. After the last one the attempt stands as it was."""
    same: BoolArray | None = None
    """Whether a turn's answer is that of the turn before, shape (chains, turns − 1)."""
    tokens: NDArray[np.int64] | None = None
    """Tokens that were generated, shape (chains, turns)."""

    def __post_init__(self) -> None:
        shape = self.right.shape
        wanted = {"asked": shape, "same": (shape[0], shape[-1] - 1), "tokens": shape}
        if len(shape) != 2 or shape[1] < 1 or self.problem.shape != shape[:1]:
            raise ValueError(f"needs (chains, turns), got {shape} for {self.problem.shape} problems")
        for name, expected in wanted.items():
            found = getattr(self, name)
            if found is not None and found.shape != expected:
                raise ValueError(f"{name} has shape {found.shape}, not {expected}")
        if shape[0] and (not self.asked[:, 0].all() or (self.asked[:, 1:] > self.asked[:, :-1]).any()):
            raise ValueError("each chain has its first turn, and no turn after one that it lacks")

    def only(self, rows: BoolArray) -> Trajectories:
        """Some of the chains. ``rows``: shape (chains,)."""
        return Trajectories(
            problem=self.problem[rows],
            right=self.right[rows],
            asked=self.asked[rows],
            same=self.same[rows] if self.same is not None else None,
            tokens=self.tokens[rows] if self.tokens is not None else None,
        )

    @property
    def state(self) -> BoolArray:
        """Right or not after each turn: a turn that did not take place leaves what was there."""
        state = self.right.copy()
        for turn in range(1, state.shape[1]):
            state[:, turn] = np.where(self.asked[:, turn], self.right[:, turn], state[:, turn - 1])
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh:
    """First attempts of the model itself: what revising is compared with. By the index that ``Trajectories.problem``
    has, shape (problems,)."""

    attempts: NDArray[np.int64]
    right: NDArray[np.int64]
    among: bool = True
    """The chains begin with them; otherwise with somebody else's."""
    votes: Sequence[Votes] | None = None
    """Answers of the same attempts (``metrics.majority``); None: there is no majority to ask for."""
    tokens: float = 0.0
    """Mean tokens of one; 0: unknown."""


def summarise_turns(
    chains: Trajectories,
    *,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
    fresh: Fresh | None = None,
) -> dict[str, Any]:
    """All figures of one protocol, as JSON values (docs/correction.md).

    ``by_turn`` has accuracy after each turn; ``steps`` what went from each turn to the next; ``lift`` compares revising
    a failed attempt with another first attempt; ``resampling`` has what first attempts alone would have given, with
    ``equal_tokens`` those that cost no more than a chain; ``sequential`` compares k attempts with a revision each
    with 2k attempts. ``fresh`` None: the chains' own first turns, of which nothing
    else is known. Raises ``ValueError`` without chains.
    """
    if not len(chains.problem):
        raise ValueError("no chains: nothing to summarise")
    problems, problem = np.unique(chains.problem, return_inverse=True)
    counts = np.bincount(problem)
    weight = 1.0 / counts[problem]
    sums = _Sums(problem, weight, len(problems), bootstrap, seed)
    state, last = chains.state, chains.right.shape[1]
    for turn in range(last):
        sums.add(f"right{turn + 1}", state[:, turn])
    sums.add("all", np.ones(len(problem)))
    for turn in range(2, last + 1):
        _add_step(sums, chains, state, turn)
    right = np.bincount(problem, weights=state[:, 0]).astype(np.int64)
    own = Fresh(attempts=counts, right=right) if fresh is None else _at(fresh, problems)
    _add_lift(sums, chains, state, problem, own)
    spent = _tokens(chains, own)
    figures: dict[str, Figure] = {}
    for turn in range(1, last + 1):
        figures[f"acc@t{turn}"] = _ratio(f"right{turn}", "all")
    for turn in range(2, last + 1):
        figures[f"Δ(t1,t{turn})"] = _difference(f"right{turn}", "right1", "all")
    found = sums.estimate(figures)
    steps = [
        {"from": turn - 1, "to": turn, **_step(sums, turn, chains.same is not None)}
        for turn in range(2, last + 1)
    ]
    return {
        "problems": len(problems),
        "by_turn": {name: found[name] for name in figures if name.startswith("acc")},
        "change": {name: found[name] for name in figures if name.startswith("Δ")},
        "steps": steps,
        "lift": _lift(sums),
        "resampling": _resampling(own, sums, spent),
        "sequential": _sequential(sums, chains, problem, counts, own),
        "tokens": spent,
        "intervals": {"confidence": CONFIDENCE, "resamples": bootstrap, "seed": seed},
    }


def pool_pass_at_k(
    item: NDArray[np.int64],
    problem: NDArray[np.int64],
    right: BoolArray,
    ks: Sequence[int],
    *,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Chance that at least one of k corrections of a pool's attempt is right: unbiased (Chen et al. 2021, eq. 1), the
    mean over attempts, resampled by problem. All arrays have shape (corrections,). Raises ``ValueError`` for k above
    the fewest corrections of an attempt.
    """
    items, first, index = np.unique(item, return_index=True, return_inverse=True)
    n, c = np.bincount(index), np.bincount(index, weights=right).astype(np.int64)
    if not len(items) or max(ks) > n.min():
        raise ValueError(f"pass@{max(ks)} needs as many corrections of each attempt")
    problems, of = np.unique(problem[first], return_inverse=True)
    sums = _Sums(of, np.ones(len(items)), len(problems), bootstrap, seed)
    sums.add("all", np.ones(len(items)))
    for k in ks:
        sums.add(f"pass{k}", pass_at_k(n, c, k))
    return sums.estimate({f"pass@{k}": _ratio(f"pass{k}", "all") for k in ks})


def critique_figures(
    wrong: BoolArray,
    says_wrong: BoolArray,
    says_right: BoolArray,
    problem: NDArray[np.int64],
    after: BoolArray | None = None,
    *,
    bootstrap: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Any]:
    """Of judgements of responses: confusion counts, accuracy, precision, recall and F1 of "the response is wrong"
    (CriticBench, arXiv:2402.14809), and what became of the responses.

    All arrays have shape (judgements,); problems weigh the same. One that says neither is no hit. ``after``: whether
    the correction that followed is right; ``joined`` then has its rate for wrong responses that were ``caught`` or
    ``missed``, and for right ones that were ``doubted`` or ``trusted``. ``always_wrong``: F1 of saying "wrong" always.
    """
    problems, of, number = np.unique(problem, return_inverse=True, return_counts=True)
    sums = _Sums(of, 1.0 / number[of], len(problems), bootstrap, seed)
    cells = {
        "tp": wrong & says_wrong,
        "fp": ~wrong & says_wrong,
        "fn": wrong & ~says_wrong,
        "tn": ~wrong & ~says_wrong,
    }
    for name, values in {**cells, "all": np.ones(len(of)), "tn_said": ~wrong & says_right}.items():
        sums.add(name, values)
    sums.combine("hits", {"tp": 1, "tn_said": 1})
    sums.combine("judged", {"tp": 1, "fp": 1})
    sums.combine("wrong", {"tp": 1, "fn": 1})
    sums.combine("right", {"fp": 1, "tn": 1})
    figures = {
        "accuracy": _ratio("hits", "all"),
        "precision": _ratio("tp", "judged"),
        "recall": _ratio("tp", "wrong"),
        "specificity": _ratio("tn_said", "right"),
        "f1": Figure(lambda s: _divided(2 * s["tp"], s["judged"] + s["wrong"])),
        "always_wrong": Figure(lambda s: _divided(2 * s["wrong"], s["wrong"] + s["all"])),
    }
    found = {"counts": {name: int(values.sum()) for name, values in cells.items()}, **sums.estimate(figures)}
    if after is not None:
        groups = {"caught": "tp", "missed": "fn", "doubted": "fp", "trusted": "tn"}
        for name, cell in groups.items():
            sums.add(name, cells[cell] & after)
        found["joined"] = sums.estimate({name: _ratio(name, cell) for name, cell in groups.items()})
    return found


class _Sums:
    """Named sums over the attempts of each problem, resampled together."""

    def __init__(
        self, problem: NDArray[np.int64], weight: FloatArray, problems: int, bootstrap: int, seed: int
    ) -> None:
        self._problem, self._weight = problem, weight
        self.problems = problems
        self._bootstrap = ClusterBootstrap(problems, bootstrap, seed)
        self.by_problem: dict[str, FloatArray] = {}

    def add(self, name: str, values: NDArray[Any]) -> None:
        """``values``: shape (attempts,)."""
        weighted = values.astype(np.float64) * self._weight
        self.by_problem[name] = np.bincount(self._problem, weights=weighted, minlength=self.problems).astype(
            np.float64
        )

    def combine(self, name: str, parts: Mapping[str, float]) -> None:
        factors = np.array(list(parts.values()), dtype=np.float64)
        self.by_problem[name] = factors @ np.stack([self.by_problem[part] for part in parts])

    def value(self, figure: Figure) -> float | None:
        found = float(figure.of({name: x.sum(keepdims=True) for name, x in self.by_problem.items()})[0])
        return None if np.isnan(found) else found

    def estimate(self, figures: Mapping[str, Figure]) -> dict[str, Any]:
        """Each figure with its interval: by bootstrap; for a share where few problems differ, a binomial bound."""
        names = list(self.by_problem)
        table = np.stack([self.by_problem[name] for name in names])
        drawn: dict[str, list[FloatArray]] = {name: [] for name in figures}
        for weights in self._bootstrap.weights():
            totals = dict(zip(names, (weights @ table.T).T, strict=True))
            for name, figure in figures.items():
                drawn[name].append(figure.of(totals))
        return {name: self._entry(figure, np.concatenate(drawn[name])) for name, figure in figures.items()}

    def _entry(self, figure: Figure, drawn: FloatArray) -> dict[str, Any]:
        value = self.value(figure)
        with np.errstate(all="ignore"):
            own = figure.of(self.by_problem)
        own = own[~np.isnan(own)]
        entry: dict[str, Any] = {"value": value, "ci": None, "method": "none", "problems": int(own.size)}
        if value is None:
            return entry
        entry["value"] = round(value, 10)
        drawn = drawn[~np.isnan(drawn)]
        differing = own.size - np.unique(own, return_counts=True)[1].max() if own.size else 0
        if differing >= FEW and drawn.size:
            ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
            return {**entry, "ci": [round(float(end), 10) for end in ends], "method": "cluster_bootstrap"}
        if figure.share and own.size > 1:
            ends = np.array(clopper_pearson(value, int(own.size)))
            return {**entry, "ci": [round(float(end), 10) for end in ends], "method": "clopper_pearson"}
        return entry


def _divided(top: FloatArray, bottom: FloatArray) -> FloatArray:
    with np.errstate(all="ignore"):
        return np.where(np.abs(bottom) > 1e-12, top / bottom, np.nan)


def _ratio(top: str, bottom: str) -> Figure:
    return Figure(lambda s: _divided(s[top], s[bottom]), share=True)


def _difference(plus: str, minus: str, bottom: str) -> Figure:
    return Figure(lambda s: _divided(s[plus] - s[minus], s[bottom]))


def _add_step(sums: _Sums, chains: Trajectories, state: BoolArray, turn: int) -> None:
    """What went from one turn to the next: ``rr``, ``rw``, ``wr``, and ``ww`` with the same answer or another."""
    before, after = state[:, turn - 2], state[:, turn - 1]
    sums.add(f"rr{turn}", before & after)
    sums.add(f"rw{turn}", before & ~after)
    sums.add(f"wr{turn}", ~before & after)
    sums.add(f"ww{turn}", ~before & ~after)
    if chains.same is not None:
        sums.add(f"ww_same{turn}", ~before & ~after & chains.same[:, turn - 2])
    sums.combine(f"wrong{turn}", {f"wr{turn}": 1, f"ww{turn}": 1})


def _step(sums: _Sums, turn: int, answers: bool) -> dict[str, Any]:
    """Figures of one step (names: SCoRe, arXiv:2409.12917; CS, CL and RSS: arXiv:2412.19513)."""

    def rss(s: Totals) -> FloatArray:
        first, second = _divided(s[f"right{turn - 1}"], s["all"]), _divided(s[f"right{turn}"], s["all"])
        return _divided(second - first**2, 2 * first * (1 - first))

    figures: dict[str, Figure] = {
        "Δ": _difference(f"right{turn}", f"right{turn - 1}", "all"),
        "Δ(i→c)": _ratio(f"wr{turn}", "all"),
        "Δ(c→i)": _ratio(f"rw{turn}", "all"),
        "correction_rate": _ratio(f"wr{turn}", f"wrong{turn}"),
        "retention": _ratio(f"rr{turn}", f"right{turn - 1}"),
        "rss": Figure(rss),
    }
    shares = {name: sums.by_problem[f"{name}{turn}"].sum() for name in ("rr", "rw", "wr", "ww")}
    right, wrong = shares["rr"] + shares["rw"], shares["wr"] + shares["ww"]
    same = sums.by_problem[f"ww_same{turn}"].sum() if answers else None
    matrix = {
        "right": _shares({"right": shares["rr"], "wrong": shares["rw"]}, right),
        "wrong": _shares(
            {"right": shares["wr"], "same_wrong": same, "other_wrong": shares["ww"] - same}
            if same is not None
            else {"right": shares["wr"], "wrong": shares["ww"]},
            wrong,
        ),
    }
    return {"metrics": sums.estimate(figures), "matrix": matrix}


def _shares(parts: Mapping[str, float], total: float) -> dict[str, float] | None:
    """A row of the transition matrix: its entries sum to one; None where no attempt is in it."""
    return {name: round(float(part / total), 10) for name, part in parts.items()} if total > 0 else None


def _at(fresh: Fresh, problems: NDArray[np.int64]) -> Fresh:
    votes = [fresh.votes[i] for i in problems] if fresh.votes is not None else None
    return replace(fresh, attempts=fresh.attempts[problems], right=fresh.right[problems], votes=votes)


def _add_lift(
    sums: _Sums,
    chains: Trajectories,
    state: BoolArray,
    problem: NDArray[np.int64],
    own: Fresh,
) -> None:
    """Of failed attempts that were revised at problems with further attempts: revisions that are right, and the share
    of the *other* first attempts that are.

    Where the failed attempt is itself among the model's first attempts, it is left out of them: given that it failed,
    the others are still fair draws from the problem's rate, while the rate of all of them is too low by the factor
    (n − 1)/n.
    """
    first = state[:, 0]
    revised = (chains.asked[:, 1] if chains.asked.shape[1] > 1 else np.zeros(len(first), bool)) & ~first
    others = own.attempts[problem] - own.among
    counted = revised & (others > 0)
    fresh = own.right[problem] / np.maximum(others, 1)
    sums.add("lift_all", counted)
    sums.add("lift_revised", counted & state[:, min(1, state.shape[1] - 1)])
    sums.add("lift_fresh", np.where(counted, fresh, 0.0))


def _lift(sums: _Sums) -> dict[str, Any]:
    return sums.estimate(
        {
            "correction_lift": _difference("lift_revised", "lift_fresh", "lift_all"),
            "revised": _ratio("lift_revised", "lift_all"),
            "fresh": _ratio("lift_fresh", "lift_all"),
        }
    )


def _resampling(own: Fresh, sums: _Sums, spent: Mapping[str, float] | None) -> dict[str, Any]:
    """What further first attempts would have given, where all problems have enough: pass@2, and pass@k and maj@k of as
    many as cost no more tokens than a chain (pass@k has a verifier that chooses, maj@k has not)."""
    fewest = int(own.attempts.min())
    if fewest < 2:
        return {}
    sums.by_problem["pass2"] = pass_at_k(own.attempts, own.right, 2)
    found = sums.estimate({"pass@2": _ratio("pass2", "all")})
    if spent is None or spent["first"] <= 0:
        return found
    k = min(fewest, max(1, int((1 + NEARLY) * spent["chain"] / spent["first"])))
    figures = {f"pass@{k}": _ratio("pass", "all")}
    sums.by_problem["pass"] = pass_at_k(own.attempts, own.right, k)
    if own.votes is not None:
        sums.by_problem["maj"] = majority_at_k(own.votes, [k]).scores[k]
        figures[f"maj@{k}"] = _ratio("maj", "all")
    return {
        **found,
        "equal_tokens": {"k": k, "tokens": round(k * spent["first"], 6), **sums.estimate(figures)},
    }


def _sequential(
    sums: _Sums, chains: Trajectories, problem: NDArray[np.int64], counts: NDArray[np.int64], own: Fresh
) -> dict[str, Any]:
    """``seq@k``: chance that one of k attempts or one of their first revisions is right, unbiased as pass@k is, with
    what it gains over pass@2k of attempts alone; for all k for which there are enough of either."""
    fewest = min(int(counts.min()), int(own.attempts.min()) // 2)
    if fewest < 1 or chains.right.shape[1] < 2:
        return {}
    either = np.bincount(problem, weights=either_right(chains)).astype(np.int64)
    figures: dict[str, Figure] = {}
    for k in default_ks(fewest):
        sums.by_problem[f"seq{k}"] = pass_at_k(counts, either, k)
        sums.by_problem[f"parallel{k}"] = pass_at_k(own.attempts, own.right, 2 * k)
        figures[f"seq@{k}"] = _ratio(f"seq{k}", "all")
        figures[f"seq@{k} gain"] = _difference(f"seq{k}", f"parallel{k}", "all")
    return sums.estimate(figures)


def either_right(chains: Trajectories) -> BoolArray:
    """Whether the first attempt or its revision is right, where there was one; shape (chains,)."""
    right = chains.right & chains.asked
    return np.asarray(right[:, :2].any(axis=1), dtype=bool)


def _tokens(chains: Trajectories, own: Fresh) -> dict[str, float] | None:
    """Mean tokens of a first attempt of the model, and of all that it generated in a chain."""
    if chains.tokens is None:
        return None
    spent = np.where(chains.asked, chains.tokens, 0)
    first = own.tokens if not own.among else float(spent[:, 0].mean())
    return {
        "first": round(first, 6),
        "chain": round(float(spent[:, (0 if own.among else 1) :].sum(axis=1).mean()), 6),
    }
