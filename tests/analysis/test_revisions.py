"""Figures of self-correction: identities, small cases by hand, and a lift of zero where there is no skill."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.analysis.chains import Chains, Fresh, Judgements
from cipo_eval.analysis.revisions import critique_block, pool_block, summarise_turns


def chains(rows: list[tuple[int, str]], **more: Any) -> Chains:
    """Rows of a problem and its turns: ``r`` right, ``w`` wrong, ``.`` not asked."""
    letters = np.array([list(turns) for _, turns in rows])
    return Chains(
        problem=np.array([problem for problem, _ in rows]), right=letters == "r", asked=letters != ".", **more
    )


def figures(block: dict[str, Any]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in block.items()}


turns_of = st.integers(2, 4).flatmap(
    lambda count: st.lists(
        st.tuples(st.integers(0, 5), st.text("rw", min_size=count, max_size=count)), min_size=1, max_size=40
    )
)


@given(rows=turns_of)
def test_accuracy_decomposes_into_retention_and_correction(rows: list[tuple[int, str]]) -> None:
    """acc@t2 = acc@t1·CL + (1 − acc@t1)·CS (arXiv:2412.19513); Δ = Δ(i→c) − Δ(c→i) (arXiv:2409.12917)."""
    found = summarise_turns(chains(rows), bootstrap=10)
    accuracy = list(figures(found["by_turn"]).values())
    for step in found["steps"]:
        f = figures(step["metrics"])
        first, second = accuracy[step["from"] - 1], accuracy[step["to"] - 1]
        kept = first * (f["retention"] or 0) + (1 - first) * (f["correction_rate"] or 0)
        assert kept == pytest.approx(second, abs=1e-9)
        assert f["Δ"] == pytest.approx(second - first, abs=1e-9)
        assert f["Δ"] == pytest.approx(f["Δ(i→c)"] - f["Δ(c→i)"], abs=1e-9)
        if 0 < first < 1:
            assert f["rss"] == pytest.approx((second - first**2) / (2 * first * (1 - first)), abs=1e-6)
        for row in step["matrix"].values():
            assert row is None or sum(row.values()) == pytest.approx(1, abs=1e-9)


@given(rows=turns_of, seed=st.integers(0, 99))
def test_the_order_of_chains_does_not_matter(rows: list[tuple[int, str]], seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(rows))
    shuffled = summarise_turns(chains([rows[i] for i in order]), bootstrap=20)
    expected = summarise_turns(chains(rows), bootstrap=20)
    assert figures(shuffled["by_turn"]) == pytest.approx(figures(expected["by_turn"]))
    for ours, theirs in zip(shuffled["steps"], expected["steps"], strict=True):
        for name, entry in ours["metrics"].items():
            assert entry["method"] == theirs["metrics"][name]["method"]
            if entry["ci"]:
                assert entry["ci"] == pytest.approx(theirs["metrics"][name]["ci"], abs=1e-9)


def test_problems_weigh_the_same_however_many_attempts_they_have() -> None:
    found = summarise_turns(chains([(0, "rr"), (1, "wr"), (1, "ww"), (1, "ww"), (1, "ww")]), bootstrap=10)
    assert figures(found["by_turn"]) == {"acc@t1": 0.5, "acc@t2": 0.625}
    assert figures(found["steps"][0]["metrics"])["correction_rate"] == 0.25
    assert figures(found["steps"][0]["metrics"])["retention"] == 1


def test_a_turn_that_did_not_take_place_leaves_what_was_there() -> None:
    """As in ``oracle``: right attempts are not asked again, and accuracy is that after at most t turns."""
    found = summarise_turns(chains([(0, "r.."), (1, "wr."), (2, "www"), (3, "wwr")]), bootstrap=10)
    assert figures(found["by_turn"]) == {"acc@t1": 0.25, "acc@t2": 0.5, "acc@t3": 0.75}
    assert figures(found["steps"][0]["metrics"])["retention"] == 1
    assert figures(found["steps"][1]["metrics"])["correction_rate"] == 0.5


def test_the_matrix_tells_the_same_wrong_answer_from_another() -> None:
    rows = [(0, "ww"), (0, "ww"), (0, "wr"), (0, "ww"), (1, "rw"), (1, "rr")]
    same = np.array([[True], [False], [False], [False], [False], [True]])
    matrix = summarise_turns(chains(rows, same=same), bootstrap=10)["steps"][0]["matrix"]
    assert matrix == {
        "right": {"right": 0.5, "wrong": 0.5},
        "wrong": {"right": 0.25, "same_wrong": 0.25, "other_wrong": 0.5},
    }


def test_undefined_figures_are_none() -> None:
    found = summarise_turns(chains([(0, "rr"), (1, "rr")]), bootstrap=10)
    step = figures(found["steps"][0]["metrics"])
    assert step["correction_rate"] is None
    assert step["rss"] is None
    assert found["steps"][0]["matrix"]["wrong"] is None
    assert figures(found["lift"]) == {"correction_lift": None, "revised": None, "fresh": None}


def test_the_lift_leaves_out_the_attempt_that_is_revised() -> None:
    """Problem 0: one of three fails; the other two are right. Problem 1 has no other attempt."""
    found = summarise_turns(chains([(0, "ww"), (0, "rr"), (0, "rr"), (1, "wr")]), bootstrap=10)
    assert figures(found["lift"]) == {"correction_lift": -1.0, "revised": 0.0, "fresh": 1.0}


@pytest.mark.slow
def test_without_any_skill_the_lift_is_zero() -> None:
    """A revision that is a fresh draw: the mean over many runs is zero, and the naive estimate is not."""
    rng = np.random.default_rng(0)
    lifts, naive = [], []
    for _ in range(300):
        rate = rng.beta(1, 1, size=60)
        problem = np.repeat(np.arange(60), 4)
        right = rng.random((240, 2)) < rate[problem, None]
        found = summarise_turns(Chains(problem=problem, right=right, asked=np.ones_like(right)), bootstrap=1)
        lifts.append(found["lift"]["correction_lift"]["value"])
        failed = ~right[:, 0]
        all_of_them = np.bincount(problem, weights=right[:, 0])[problem] / 4
        naive.append((right[failed, 1] - all_of_them[failed]).mean())
    error = np.std(lifts) / np.sqrt(len(lifts))
    assert abs(np.mean(lifts)) < 4 * error
    assert np.mean(naive) > 8 * error


def test_a_binomial_bound_is_for_shares_only() -> None:
    """Thirty problems at which nothing is ever right: a rate has a bound, a difference has none."""
    found = summarise_turns(chains([(i, "ww") for i in range(30)] * 2), bootstrap=10)
    rate, lift = found["steps"][0]["metrics"]["correction_rate"], found["lift"]["correction_lift"]
    assert (rate["value"], rate["method"]) == (0, "clopper_pearson")
    assert rate["ci"] == pytest.approx([0, 1 - 0.025 ** (1 / 30)])
    assert (lift["value"], lift["ci"], lift["method"]) == (0, None, "none")
    assert found["change"]["Δ(t1,t2)"]["ci"] is None


def test_pass_at_k_of_a_pool() -> None:
    """Three wrong attempts of the pool, two corrections each, weigh the same; a right one does not count."""
    rows = [(5, "wr"), (5, "ww"), (5, "ww"), (5, "ww"), (9, "wr"), (9, "wr"), (9, "rr")]
    found = pool_block(chains(rows, item=np.array([0, 0, 1, 1, 2, 2, 3])), bootstrap=10)
    assert found.pop("wrong") == 3
    assert figures(found) == {"pass@1": 0.5, "pass@2": pytest.approx(2 / 3)}
    assert pool_block(chains([(0, "rr")], item=np.array([0]))) == {"wrong": 0}


def judged(wrong: Any, says_wrong: Any, says_right: Any, after: Any = None) -> Chains:
    """A judgement at each of some problems; ``after``: whether the correction that followed is right."""
    right = np.stack([~wrong] if after is None else [~wrong, after], axis=1)
    return Chains(
        problem=np.arange(len(wrong)),
        right=right,
        asked=np.ones_like(right),
        judgements=Judgements(
            wrong=wrong,
            says_wrong=says_wrong,
            says_right=says_right,
            true=np.where(wrong, says_wrong, says_right),
        ),
    )


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=1, max_size=50))
def test_critique_figures_are_those_of_the_field(rows: list[tuple[bool, bool, bool]]) -> None:
    wrong, says, after = (np.array(column) for column in zip(*rows, strict=True))
    found = critique_block(judged(wrong, says, ~says, after), bootstrap=5)
    tp, fp, fn = ((wrong & says).sum(), (~wrong & says).sum(), (wrong & ~says).sum())
    assert found["counts"] == {"tp": tp, "fp": fp, "fn": fn, "tn": len(rows) - tp - fp - fn}
    assert found["accuracy"]["value"] == pytest.approx((wrong == says).mean())
    f1 = None if tp + fp + fn == 0 else 2 * tp / (2 * tp + fp + fn)
    assert found["f1"]["value"] == (None if f1 is None else pytest.approx(f1))
    always = critique_block(judged(wrong, np.ones_like(wrong), np.zeros_like(wrong)), bootstrap=5)
    assert found["always_wrong"]["value"] == always["f1"]["value"]
    joined = figures(found["joined"])
    sizes = {"caught": tp, "missed": fn, "doubted": fp, "trusted": len(rows) - tp - fp - fn}
    corrected = sum((joined[name] or 0) * size for name, size in sizes.items())
    assert corrected == pytest.approx(after.sum())
    assert all((joined[name] is None) is bool(size == 0) for name, size in sizes.items())


def test_a_judgement_that_says_nothing_is_no_hit() -> None:
    wrong, nothing = np.array([True, False]), np.array([False, False])
    found = critique_block(judged(wrong, nothing, nothing), bootstrap=5)
    assert found["counts"] == {"tp": 0, "fp": 0, "fn": 1, "tn": 1}
    assert (found["accuracy"]["value"], found["specificity"]["value"], found["precision"]["value"]) == (
        0,
        0,
        None,
    )


def test_attempts_of_others_are_compared_with_the_models_own() -> None:
    """A pool's wrong attempt at each of two problems; the model's own are right once in four, and never."""
    fresh = Fresh(
        attempts=np.array([4, 4]),
        right=np.array([1, 0]),
        among=False,
        votes=[[("a", True), ("b", False), ("b", False), ("c", False)], [("a", False)] * 4],
        tokens=10.0,
    )
    rows, tokens = [(0, "wr"), (0, "ww"), (1, "ww")], np.array([[0, 20], [0, 30], [0, 25]])
    found = summarise_turns(chains(rows, tokens=tokens, fresh=fresh), bootstrap=10)
    assert figures(found["lift"]) == {"correction_lift": 0.125, "revised": 0.25, "fresh": 0.125}
    assert found["tokens"] == {"first": 10, "chain": 25}
    equal = found["resampling"]["equal_tokens"]
    assert (equal["k"], equal["tokens"]) == (2, 20)
    assert (equal["pass@2"]["value"], equal["maj@2"]["value"]) == (0.25, pytest.approx((1 / 2) * (1 / 2) / 2))
    none = Fresh(attempts=np.array([0, 0]), right=np.array([0, 0]), among=False)
    found = summarise_turns(chains(rows, tokens=tokens, fresh=none), bootstrap=10)
    assert figures(found["lift"]) == {"correction_lift": None, "revised": None, "fresh": None}
    assert found["resampling"] == {}


def test_a_revision_of_an_attempts_length_is_worth_another_attempt() -> None:
    """Seven tokens each, but one attempt has eight: a chain is two attempts long nevertheless."""
    pool = chains([(0, "wr"), (1, "ww")] * 50, tokens=np.array([[7, 7]] * 99 + [[8, 7]]))
    equal = summarise_turns(pool, bootstrap=5)["resampling"]["equal_tokens"]
    assert (equal["k"], equal["tokens"]) == (2, 14.02)


@pytest.mark.parametrize(
    "more",
    [
        {"asked": np.ones((2, 3), bool)},
        {"same": np.ones((2, 2), bool)},
        {"tokens": np.ones((3, 2), np.int64)},
        {"asked": np.array([[False, True], [True, True]])},
    ],
)
def test_shapes_that_do_not_fit(more: dict[str, Any]) -> None:
    right = np.ones((2, 2), bool)
    with pytest.raises(ValueError, match=r"shape|first turn"):
        Chains(**{"problem": np.zeros(2, np.int64), "right": right, "asked": right, **more})


@pytest.mark.slow
def test_intervals_cover_what_they_should() -> None:
    """Correction rate and its difference to one half, of problems drawn from a population."""
    rng = np.random.default_rng(1)
    inside = {"correction_rate": 0, "Δ": 0}
    runs = 400
    # rate p ~ Beta(1, 1) of the first turn; revised: right with p where it failed, 0.9 where it was right
    # E[(1 − p)·p] / E[1 − p] = (1/2 − 1/3) / (1/2) = 1/3;  Δ = E[p·0.9 + (1 − p)·p − p] = 0.45 + 1/6 − 0.5
    truth = {"correction_rate": 1 / 3, "Δ": 0.45 + 1 / 6 - 0.5}
    for _ in range(runs):
        rate = rng.random(80)
        problem = np.repeat(np.arange(80), 4)
        first = rng.random(320) < rate[problem]
        second = rng.random(320) < np.where(first, 0.9, rate[problem])
        right = np.stack([first, second], axis=1)
        found = summarise_turns(
            Chains(problem=problem, right=right, asked=np.ones_like(right)), bootstrap=400
        )
        for name in inside:
            low, high = found["steps"][0]["metrics"][name]["ci"]
            inside[name] += low <= truth[name] <= high
    assert all(0.92 <= count / runs <= 0.975 for count in inside.values()), inside


def test_the_worked_example_of_the_docs() -> None:
    """docs/correction.md shows these numbers."""
    rows = [(0, "rr"), (0, "rw"), (1, "wr"), (1, "ww"), (2, "rr"), (2, "wr")]
    found = summarise_turns(chains(rows), bootstrap=10)
    step = figures(found["steps"][0]["metrics"])
    assert figures(found["by_turn"]) == {"acc@t1": 0.5, "acc@t2": pytest.approx(0.6667, abs=1e-4)}
    assert step["correction_rate"] == pytest.approx(0.6667, abs=1e-4)
    assert step["retention"] == pytest.approx(0.6667, abs=1e-4)
    assert step["rss"] == pytest.approx(0.8333, abs=1e-4)
    assert figures(found["lift"]) == pytest.approx(
        {"correction_lift": 0.3333, "revised": 0.6667, "fresh": 0.3333}, abs=1e-4
    )


def test_seq_at_k_counts_attempts_with_a_right_turn() -> None:
    """Problem 0: one of two chains is right at its first turn, the other at neither; problem 1: one is only broken."""
    found = summarise_turns(chains([(0, "rr"), (0, "ww"), (1, "rw"), (1, "wr")]), bootstrap=10)["sequential"]
    assert figures(found) == {"seq@1": 0.75, "seq@1 gain": 0.75 - 1.0}
    with_four = [(0, "ww"), (0, "wr"), (0, "ww"), (0, "rr")]
    found = summarise_turns(chains(with_four), bootstrap=10)["sequential"]
    # two of four chains are right: 1 - C(2,2)/C(4,2) of two; one of four first attempts: pass@2 1/2, pass@4 1
    assert figures(found) == pytest.approx(
        {"seq@1": 0.5, "seq@1 gain": 0.0, "seq@2": 5 / 6, "seq@2 gain": 5 / 6 - 1}
    )


@pytest.mark.slow
def test_revisions_that_are_fresh_draws_gain_nothing_over_as_many_attempts() -> None:
    rng = np.random.default_rng(1)
    gains = []
    for _ in range(300):
        rate = rng.beta(1, 2, size=60)
        problem = np.repeat(np.arange(60), 4)
        right = rng.random((240, 2)) < rate[problem, None]
        made = Chains(problem=problem, right=right, asked=np.ones_like(right))
        found = summarise_turns(made, bootstrap=1)["sequential"]
        gains.append([found[f"seq@{k} gain"]["value"] for k in (1, 2)])
    error = np.std(gains, axis=0) / np.sqrt(len(gains))
    assert (np.abs(np.mean(gains, axis=0)) < 4 * error).all()
