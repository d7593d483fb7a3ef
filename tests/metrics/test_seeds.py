"""Figures over seeds and problems: known limits, a model whose truth is known, and pairing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.metrics.bootstrap import clustered_standard_error
from cipo_eval.metrics.differences import compare_figures, compare_means
from cipo_eval.metrics.ratios import harmonic
from cipo_eval.metrics.seeds import compare_seed_means, compare_seeds, spread, spread_mean


def crossed(rng: np.random.Generator, seeds: int, problems: int, between: float) -> np.ndarray:
    """Seeds × problems: both have an effect of their own; ``between``: deviation of the seeds."""
    return (
        0.5
        + rng.normal(0, between, (seeds, 1))
        + rng.normal(0, 0.2, (1, problems))
        + rng.normal(0, 0.2, (seeds, problems))
    )


def test_the_value_is_the_mean_of_the_seeds_figures() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rng.random((3, 40)), rng.random((3, 40)) + 0.5
    found = spread(top, bottom)
    figures = top.sum(1) / bottom.sum(1)
    assert found.value == pytest.approx(figures.mean())
    assert found.std == pytest.approx(figures.std(ddof=1))


@pytest.mark.parametrize("between", [0.0, 0.04, 0.15])
def test_intervals_hold_the_truth_as_often_as_they_say(between: float) -> None:
    """Where problems vary most, where seeds do, and between."""
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(2000):
        low, high = spread(crossed(rng, 5, 60, between), np.ones((5, 60))).ci or (0, 0)
        hits += low <= 0.5 <= high
    # without an effect of seeds the larger of two estimates is taken: a little too wide
    assert 0.93 <= hits / 2000 <= (0.985 if between < 0.1 else 0.97)


def test_a_difference_of_nothing_is_rarely_significant_and_a_large_one_often() -> None:
    rng = np.random.default_rng(2)
    ones = np.ones((4, 50))
    false, found = 0, 0
    for _ in range(1000):
        both = rng.normal(0, 0.2, (1, 50))  # the same problems
        a, b, c = (
            rng.normal(0.5 + effect, 0.04, (4, 1)) + both + rng.normal(0, 0.1, (4, 50))
            for effect in (0, 0, 0.15)
        )
        false += compare_seeds(a, ones, b, ones).p < 0.05
        found += compare_seeds(a, ones, c, ones).p < 0.05
    assert false <= 70
    assert found >= 900


def test_without_spread_between_seeds_it_is_the_clustered_error_of_problems() -> None:
    """Copies of one run are one seed's worth of evidence about problems, and none about seeds."""
    rng = np.random.default_rng(3)
    x = rng.random(200)
    found = spread(np.tile(x, (4, 1)), np.ones((4, 200)))
    assert found.std == 0
    se = clustered_standard_error(x)
    assert found.ci is not None
    assert (found.ci[1] - found.ci[0]) / 2 == pytest.approx(1.972 * se, rel=2e-3)  # t of 199 degrees


def test_pairing_by_problem_takes_the_problems_own_difficulty_out() -> None:
    rng = np.random.default_rng(4)
    hard = rng.normal(0, 0.3, (1, 80))
    a, b = (0.5 + e + hard + rng.normal(0, 0.02, (3, 80)) for e in (0.0, 0.05))
    ones = np.ones((3, 80))
    paired = compare_seeds(a, ones, b, ones)
    shuffled = compare_seeds(a, ones, b[:, rng.permutation(80)], ones)
    assert paired.p < 1e-3 < shuffled.p
    assert paired.difference == pytest.approx(shuffled.difference)
    assert paired.difference == pytest.approx(compare_means(a.mean(0), b.mean(0)).difference)


@pytest.mark.parametrize("seeds", [2, 3, 4, 6])
@pytest.mark.parametrize("between", [0.02, 0.05, 0.15])
def test_few_pairs_of_seeds_do_not_find_what_is_not_there(seeds: int, between: float) -> None:
    """Trainings that differ by chance alone: significant about once in twenty times, however few they are."""
    rng = np.random.default_rng(5)
    ones = np.ones((seeds, 100))
    p = [
        compare_seeds(
            crossed(rng, seeds, 100, between), ones, crossed(rng, seeds, 100, between), ones, paired=True
        ).p
        for _ in range(500)
    ]
    assert np.mean(np.array(p) < 0.05) < 0.085
    assert np.mean(np.array(p) < 0.001) < 0.02


def test_pairing_by_seed_takes_the_warm_starts_own_worth_out() -> None:
    """Arms that share their start: a difference of nothing stays rarely significant, a small one shows."""
    rng = np.random.default_rng(7)
    ones = np.ones((5, 60))
    false, found, apart = 0, 0, 0
    for _ in range(1000):
        start = rng.normal(0, 0.08, (5, 1)) + rng.normal(0, 0.2, (1, 60))
        a, b, c = (
            0.5 + effect + start + rng.normal(0, 0.015, (5, 1)) + rng.normal(0, 0.1, (5, 60))
            for effect in (0, 0, 0.06)
        )
        false += compare_seeds(a, ones, b, ones, paired=True).p < 0.05
        found += compare_seeds(a, ones, c, ones, paired=True).p < 0.05
        apart += compare_seeds(a, ones, c, ones).p < 0.05
    assert false <= 70
    assert found >= 900 > 2 * apart
    one = compare_seeds(a, ones, c, ones, paired=True)
    assert one.difference == pytest.approx(compare_seeds(a, ones, c, ones).difference)
    shifted = compare_seeds(a, ones, a + 0.1 + start[:, :1], ones, paired=True)  # no partner's worth is lost
    assert shifted.difference == pytest.approx(0.1 + start[:, :1].mean())
    with pytest.raises(ValueError, match="as many seeds"):
        compare_seeds(a, ones, c[:4], ones[:4], paired=True)


def test_one_seed_against_several_is_as_unsure_as_the_several_say() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random((1, 50)), rng.random((4, 50)) + rng.normal(0, 0.2, (4, 1))
    one = compare_seeds(a, np.ones((1, 50)), b, np.ones((4, 50)))
    steady = compare_seeds(a, np.ones((1, 50)), np.tile(b.mean(0), (4, 1)), np.ones((4, 50)))
    assert one.ci[1] - one.ci[0] > 2 * (steady.ci[1] - steady.ci[0])


def attempts(seeds: int, problems: int) -> st.SearchStrategy[np.ndarray]:
    """Right and further attempts, (seeds, problems, 2), many of them alike."""
    counts = st.integers(0, 2)
    flat = st.lists(counts, min_size=2 * seeds * problems, max_size=2 * seeds * problems)
    alike = counts.map(lambda n: [n] * (2 * seeds * problems))
    return st.one_of(flat, alike).map(lambda x: np.array(x, dtype=float).reshape(seeds, problems, 2))


@given(data=st.data(), paired=st.booleans(), means=st.booleans())
def test_the_interval_excludes_nought_exactly_where_p_is_significant(
    data: st.DataObject, paired: bool, means: bool
) -> None:
    problems, seeds = data.draw(st.integers(1, 7)), data.draw(st.integers(2, 5))
    other = seeds if paired else data.draw(st.integers(1, 5))
    first, second = data.draw(attempts(seeds, problems)), data.draw(attempts(other, problems))
    tables = [(x[..., 0], np.full(x.shape[:2], 2.0) if means else x.sum(axis=2)) for x in (first, second)]
    found = compare_seeds(*tables[0], *tables[1], paired=paired)
    if found.ci is None:
        assert found.p in (None, 1.0)
    else:
        assert (found.ci[0] > 0 or found.ci[1] < 0) == (found.p < 0.05)


def test_where_nothing_varies_nothing_is_claimed() -> None:
    """Every seed gains the same at every problem: too little to say how sure it is, and not certainty."""
    ones = np.ones((3, 8))
    found = compare_seeds(0 * ones, ones, ones, ones)
    assert (found.difference, found.ci, found.p) == (1.0, None, None)
    same = compare_seeds(ones, ones, ones, ones)
    assert (same.difference, same.ci, same.p) == (0.0, None, 1.0)


def test_undefined_and_misshapen() -> None:
    nothing = spread(np.zeros((2, 5)), np.zeros((2, 5)))
    assert nothing.value is None
    assert nothing.ci is None
    undefined = compare_seeds(np.zeros((2, 5)), np.zeros((2, 5)), np.ones((2, 5)), np.ones((2, 5)))
    assert undefined.difference is None
    assert undefined.second == 1.0
    for shape in ((5,), (0, 5)):
        with pytest.raises(ValueError, match="seeds, problems"):
            spread(np.zeros(shape), np.zeros(shape))
    with pytest.raises(ValueError, match="two seeds"):
        compare_seeds(*[np.ones((1, 5))] * 4)


def test_means_over_tasks_know_that_the_seeds_are_the_same() -> None:
    rng = np.random.default_rng(6)
    hits = 0
    for _ in range(1000):
        seed = rng.normal(0, 0.05, (4, 1))  # one training is better at all tasks
        tasks = [0.5 + seed + rng.normal(0, 0.2, (1, n)) + rng.normal(0, 0.1, (4, n)) for n in (30, 50, 120)]
        low, high = spread_mean([(x, np.ones(x.shape)) for x in tasks]).ci
        hits += low <= 0.5 <= high
    assert 0.93 <= hits / 1000 <= 0.98
    single = spread_mean([(tasks[0], np.ones(tasks[0].shape))])
    assert single == spread(tasks[0], np.ones(tasks[0].shape))
    tables = [(x, np.ones(x.shape)) for x in tasks]
    assert spread_mean(tables).value == pytest.approx(np.mean([x.mean() for x in tasks]))
    better = [(x + 0.3, np.ones(x.shape)) for x in tasks]
    found = compare_seed_means(tables, better)
    assert found.difference == pytest.approx(0.3)
    assert found.p < 0.01


def test_figures_that_are_no_ratios_over_seeds() -> None:
    """The value is the mean of the seeds' figures; of seeds that are all the same, the difference of one."""
    rng = np.random.default_rng(11)
    sums = rng.random((4, 3, 200)) * [[[0.3]], [[1]], [[0.7]], [[1]]]
    figures = harmonic(*sums.mean(axis=-1))
    found = spread_mean([tuple(sums)], harmonic)
    assert found.value == pytest.approx(figures.mean())
    assert found.std == pytest.approx(figures.std(ddof=1))
    again = compare_seed_means([tuple(sums)], [tuple(sums)], form=harmonic)
    assert (again.difference, again.p) == (0, 1)
    other = np.clip(sums + rng.normal(0.02, 0.05, sums.shape), 0, None)
    forth, back = (
        compare_seed_means([tuple(a)], [tuple(b)], form=harmonic) for a, b in ((sums, other), (other, sums))
    )
    assert forth.difference == pytest.approx(-back.difference)
    assert forth.ci == pytest.approx((-back.ci[1], -back.ci[0]))
    same = [np.tile(x[:, :1], (1, 4, 1)) for x in (sums, other)]
    many = compare_seed_means([tuple(same[0])], [tuple(same[1])], form=harmonic)
    one = compare_figures(sums[:, 0], other[:, 0], harmonic)
    assert many.difference == pytest.approx(one.difference)
    assert many.ci == pytest.approx(one.ci, abs=0.004)
    nothing = spread_mean([tuple(np.zeros((4, 2, 5)))], harmonic)
    assert (nothing.value, nothing.ci) == (None, None)


def test_intervals_of_a_harmonic_mean_hold_the_truth() -> None:
    rng = np.random.default_rng(12)
    wrong = np.tile(np.arange(100) % 5 < 3, (4, 1))
    truth, hits = 2 * 0.4 * 0.7 / 1.1, 0
    for _ in range(400):
        hard = rng.normal(0, 0.15, 100)
        rate = (
            np.where(wrong, 0.4, 0.7) + hard - np.where(wrong, hard[wrong[0]].mean(), hard[~wrong[0]].mean())
        )
        hit = rng.random((4, 100)) < rate
        low, high = spread_mean([(wrong & hit, wrong, ~wrong & hit, ~wrong)], harmonic).ci or (0, 0)
        hits += low <= truth <= high
    assert hits / 400 >= 0.93
