"""Figures: what is drawn is what the frames have; no text lies on another or is cut off; no colour stands alone."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from reports.colours import seen, too_near
from reports.readable import overlaps

from cipo_reports.arms import Arm
from cipo_reports.figures import figures, pass_curves
from cipo_reports.fonts import USUAL, families, lacking, not_drawable
from cipo_reports.methods import FEW, focus
from cipo_reports.panels import (
    BESIDE,
    COLOURS,
    LINES,
    MARKERS,
    OTHERS,
    log_ticks,
    save,
    shares,
    short,
    spaced,
    style,
)
from cipo_reports.study import AVERAGE, Study
from cipo_reports.training_figures import along

Makes = Callable[[Study], Iterator[tuple[str, str, Figure]]]


def drawn(make: object, study: Study) -> list[tuple[str, str, Figure]]:
    """Laid out as they are when they are saved: every text has its place, of which pixels say no more."""
    with style():
        found = list(make(study))  # type: ignore[operator]
        for _, _, figure in found:
            FigureCanvasAgg(figure)
            figure.draw_without_rendering()
    return found


@pytest.fixture(scope="module")
def made_figures(study: Study) -> list[tuple[str, str, Figure]]:
    """All figures of the study."""
    return drawn(figures, study)


EACH_KIND = {"accuracy", "passk", "by-turn-self", "transitions-self", "scatter-self", "differences", "along"}
"""Without those that take longest to lay out: ``budget`` and ``training`` are panels of curves, too."""


@pytest.fixture(params=["each kind", pytest.param("all", marks=pytest.mark.exhaustive)])
def wanted(request: pytest.FixtureRequest) -> Makes:
    """Makes the figures of a study to look at: one of each kind, or all."""
    if request.param == "all":
        return figures
    return lambda study: (made for made in figures(study) if made[0] in EACH_KIND)


@pytest.fixture(scope="module")
def by_name(made_figures: list[tuple[str, str, Figure]]) -> dict[str, Figure]:
    return {name: figure for name, _, figure in made_figures}


def lines(axes: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in axes.get_lines()}  # type: ignore[attr-defined]


@pytest.mark.slow
def test_every_figure_is_there_and_readable(made_figures: list[tuple[str, str, Figure]]) -> None:
    found = made_figures
    names = [name for name, _, _ in found]
    assert len(names) == len(set(names))
    for kind in (
        "accuracy",
        "passk",
        "by-turn-self",
        "transitions-self",
        "scatter-self",
        "budget-self",
        "differences",
        "along",
        "training",
    ):
        assert kind in names
    for name, caption, figure in found:
        assert overlaps(figure) == [], name
        assert caption.endswith(".")
        assert figure.get_figwidth() in (3.35, 6.9)
        for axes in figure.axes:
            if axes.axison and axes.has_data():
                below = (
                    len(axes.get_shared_x_axes().get_siblings(axes)) > 1
                )  # the last panel of a column has it
                turns = "turn 1" in [label.get_text() for label in axes.get_xticklabels()]
                assert axes.get_xlabel() or turns or below, name
        texts = [text.get_text() for text in figure.findobj(Text)]
        assert not any(re.search(r"[a-z]_[a-z]", text) for text in texts), name  # no raw keys
        assert not any(re.fullmatch(r"-[\d.]+", text) for text in texts), name  # minus signs
        for axes in figure.axes:
            told = [line for line in axes.get_lines() if len(line.get_xdata()) > 2]
            assert len(told) <= 4 or not axes.axison, name


def test_overlaps_finds_them() -> None:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.text(0.5, 0.5, "one text")
    axes.text(0.52, 0.5, "another")
    axes.text(0.95, 0.1, "beyond the edge of it all")
    FigureCanvasAgg(figure).draw()
    assert ("one text", "another") in overlaps(figure)
    assert ("beyond the edge of it all", "the edge") in overlaps(figure)


@pytest.mark.slow
def test_curves_are_the_frames_numbers(study: Study, by_name: dict[str, Figure]) -> None:
    for axes in by_name["passk"].axes:
        for arm, (x, y) in lines(axes).items():
            for k, value in zip(x, y, strict=True):
                row = study.figure(f"pass@{int(k)}")
                row = row[(row["arm"] == arm) & (row["task"] == axes.get_title())]
                assert row["value"].item() == pytest.approx(value)
    for axes in by_name["by-turn-self"].axes:
        assert set(lines(axes)) == set(study.names)
        assert all(list(x) == [1, 2, 3] for x, _ in lines(axes).values())


@pytest.mark.slow
def test_flows_add_up(study: Study, by_name: dict[str, Figure]) -> None:
    flows = [name for name in by_name if name.startswith("transitions-")]
    assert flows
    for name in flows:
        figure, protocol = by_name[name], name.removeprefix("transitions-")
        for axes in figure.axes:
            arm = axes.get_title()
            texts = [text.get_text().split("\n") for text in axes.texts if "\n" in text.get_text()]
            shares = [int(share) for _, share in texts]
            assert sum(shares) in (199, 200, 201)  # both sides, rounded
            rows = study.figure("acc@t1", protocol)
            rows = rows[(rows["arm"] == arm) & (rows["task"] != AVERAGE)]
            first = next(int(share) for word, share in texts if word == "right")
            assert first == pytest.approx(100 * rows["value"].astype(float).mean(), abs=0.51)
            flows_of = [text.get_text() for text in axes.texts if "\n" not in text.get_text()]
            assert 3 <= len(flows_of) <= 4, "each flow has its number"
            assert sum(0 if share == "<1" else int(share) for share in flows_of) in range(97, 103)


@pytest.mark.slow
def test_differences_and_budget_and_training(study: Study, by_name: dict[str, Figure]) -> None:
    points = {
        round(float(line.get_xdata()[0]), 9)
        for axes in by_name["differences"].axes
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1
    }
    wanted = study.differences.query("figure == 'pass@1'")["difference"]
    assert {round(float(x), 9) for x in wanted} <= points
    for name in ("budget-self", "budget-oracle"):
        kinds = {text.get_text() for text in by_name[name].legends[0].get_texts()}
        assert ("resample, vote" in kinds) == (name == "budget-self")
    titles = [axes.get_title() for axes in by_name["training"].axes if axes.axison]
    assert titles[:2] == ["reward, %", "retention and ρ, %"]


@pytest.mark.slow
def test_ends_along_training_are_the_last_evaluations_means(study: Study) -> None:
    ((_, _, figure),) = drawn(along, study)
    (axes,) = figure.axes
    ends = {
        tuple(map(float, (*x, *y))) for x, y in (line.get_data() for line in axes.get_lines()) if len(x) == 1
    }
    t = study.training[study.training["kind"] == "eval"]
    last = t[t["step"] == t["step"].max()].groupby(["arm", "figure"])["value"].mean().unstack()
    assert ends == {(row["fractions/pass@1"], row["fractions/pass@4"]) for _, row in last.iterrows()}


def test_along_training_only_steps_that_all_seeds_have_are_averaged(study: Study) -> None:
    """A seed that ended earlier does not leave the mean of the others behind it."""
    t = study.training
    last = t[t["kind"] == "eval"]["step"].max()
    early = str(t[t["step"] == last]["arm"].iloc[0])
    gone = (t["arm"] == early) & (t["seed"] == 0) & (t["step"] == last)
    assert gone.any()
    ((_, _, figure),) = drawn(along, replace(study, training=t[~gone]))
    lines = [line for line in figure.axes[0].get_lines() if len(line.get_xdata()) > 1]
    steps = t[(t["kind"] == "eval") & (t["arm"] == early)]["step"].nunique()
    assert sorted({len(line.get_xdata()) for line in lines}) == [steps - 1, steps]


def drawn_colours(axes: Axes) -> set[str]:
    """Of lines and marks in a panel, as they are seen; without an axis of its own (the line at 0)."""
    lines = [line.get_color() for line in axes.get_lines() if line.get_color() != "#666666"]
    marks = [
        c for marks in axes.collections if isinstance(marks, PathCollection) for c in marks.get_facecolor()
    ]
    return {seen(colour) for colour in lines} | {seen((*colour[:3], 1.0)) for colour in marks}


@pytest.mark.slow
def test_no_panel_has_colours_that_are_taken_for_each_other(
    made_figures: list[tuple[str, str, Figure]],
) -> None:
    for name, _, figure in made_figures:
        for axes in figure.axes:
            assert too_near(drawn_colours(axes)) == [], name


def test_arms_differ_without_colour() -> None:
    assert len(set(MARKERS)) == len({str(line) for line in LINES}) == len(set(COLOURS)) == FEW


def changed(study: Study, arms: Sequence[Arm], frames: Callable[[pd.DataFrame], pd.DataFrame]) -> Study:
    """The same study with other arms, and other frames."""
    made = {name: frames(getattr(study, name)) for name in ("results", "differences", "budget", "training")}
    return Study(arms=tuple(arms), baseline=arms[0].name, mode=study.mode, **made)


@pytest.mark.slow
def test_hostile_and_long_names_neither_fail_nor_overlap(study: Study, wanted: Makes) -> None:
    names = {
        "CIPO": "$\\frac{1}{0}$ & <b>" + "x" * 40,
        "GRPO": "a long name that does not come to an end",
        "warm start": "\U0010fffe\U0001f0ff warm",  # no font has the first character, as with rare scripts
    }
    arms = [type(arm)(name=names[arm.name], runs=arm.runs, trainings=arm.trainings) for arm in study.arms]
    other = changed(study, arms, lambda frame: frame.assign(arm=frame["arm"].replace(names)))
    # trainings on two families of one generator, which their dials tell apart
    other.training["data"] = [
        f"chains (steps {6 + seed}, told 0.3)/.." if seed < 2 else "x" for seed in other.training["seed"]
    ]
    for name, _, figure in drawn(wanted, other):
        assert overlaps(figure) == [], name
        assert re.fullmatch(r"[\w.-]+", name)  # of files, as LaTeX takes them
    assert short("x" * 30) == "x" * 23 + "…"


@pytest.mark.slow
def test_a_name_that_no_font_has_is_a_number_that_the_caption_explains(single: Study, wanted: Makes) -> None:
    name = "\U0001f9ff\u2d5f\U00013000 warm"
    assert lacking(name)
    arms = [Arm(name=name, runs=single.arms[0].runs), *single.arms[1:]]
    other = changed(single, arms, lambda frame: frame.assign(arm=frame["arm"].replace("warm start", name)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib warns of characters that its fonts lack
        found = drawn(wanted, other)
    for kind, caption, figure in found:
        assert f"method 1: {name}" in caption, kind
        assert name not in [text.get_text() for text in figure.findobj(Text)]
    (accuracy,) = [figure for kind, _, figure in found if kind == "accuracy"]
    assert accuracy.axes[0].get_yticklabels()[0].get_text() == "method 1"
    (said,) = not_drawable(other.names)
    assert name in said


def test_an_installed_font_is_taken_for_what_the_usual_one_lacks() -> None:
    char = "\u0359"  # STIX, which matplotlib brings, has it
    assert families(["plain ü Δ"]) == [USUAL]
    assert lacking("plain\u200d ü Δ") == ""
    assert families([char])[0] == USUAL
    assert len(families([char])) == 2
    with warnings.catch_warnings(), style([char]):
        warnings.simplefilter("error")
        figure = Figure(figsize=(2, 1))
        figure.text(0.5, 0.5, f"a {char}")
        FigureCanvasAgg(figure).draw()


@pytest.mark.slow
def test_of_many_arms_the_baseline_and_the_best_are_told_apart(single: Study, wanted: Makes) -> None:
    names = [f"arm {i}" for i in range(9)]
    arms = [Arm(name=name, runs=single.arms[0].runs) for name in names]

    def many(frame: pd.DataFrame) -> pd.DataFrame:
        """Nine arms of one, each a little better than the one before."""
        own = frame[frame["arm"] == "CIPO"]
        better = [c for c in ("value", "low", "high", "difference") if c in own]
        copies = [
            own.assign(arm=name, **{c: own[c].astype(float) * (0.7 + 0.03 * i) for c in better})
            for i, name in enumerate(names)
        ]
        return pd.concat(copies, ignore_index=True)

    study = changed(single, arms, many)
    assert focus(study) == ("arm 0", "arm 6", "arm 7", "arm 8")
    found = {name: figure for name, _, figure in drawn(wanted, study)}
    for name, figure in found.items():
        assert overlaps(figure) == [], name
        for axes in figure.axes:
            lines = [line for line in axes.get_lines() if len(line.get_xdata()) > 1 and "-" in name]
            coloured = {line.get_color() for line in lines}
            coloured -= {OTHERS["color"], "#777777", "#666666", BESIDE}
            assert len(coloured) <= FEW, name
    texts = {text.get_text() for text in found["passk"].axes[-1].texts}
    assert texts == set(focus(study))
    assert [text.get_text() for text in found["passk"].legends[0].get_texts()] == ["5 others"]
    assert [label.get_text() for label in found["differences"].axes[0].get_yticklabels()] == names


@pytest.mark.slow
def test_first_attempts_alone_have_a_chart_of_accuracies_with_intervals(single: Study) -> None:
    only = changed(single, single.arms, lambda f: f[f["protocol"] == "direct"] if "protocol" in f else f)
    found = {name: figure for name, _, figure in figures(only)}
    assert {"accuracy", "passk", "differences"} <= set(found)
    assert not any(name.startswith(("scatter", "budget", "by-turn")) for name in found)
    for task, axes in zip([*only.tasks, AVERAGE], found["accuracy"].axes, strict=True):
        rows = only.figure("pass@1")
        rows = rows[rows["task"] == task]
        spans = {tuple(line.get_xdata()) for line in axes.get_lines() if len(line.get_xdata()) == 2}
        assert spans == {(row.low, row.high) for row in rows.itertuples()}


@pytest.mark.slow
def test_a_few_points_are_no_cloud_and_one_arm_has_a_line_for_each_task(single: Study) -> None:
    one = changed(single, single.arms[:1], lambda f: f[f["arm"] == single.arms[0].name])
    found = {name: figure for name, _, figure in figures(one)}
    assert not any(name.startswith("scatter") for name in found)
    (axes,) = found["accuracy"].axes
    assert [label.get_text() for label in axes.get_yticklabels()] == [*one.tasks, AVERAGE]


@pytest.mark.parametrize(("low", "high"), [(31, 260), (100, 170), (5, 5000), (40, 47)])
def test_a_logarithmic_axis_has_three_to_seven_marks_apart(low: float, high: float) -> None:
    ticks = log_ticks(low, high)
    assert 3 <= len(ticks) <= 7
    assert all(low <= tick <= high for tick in ticks)
    assert spaced([1, 2, 4, 8, 9], 1, 9) == [1, 2, 4, 9]  # 8 and 9 would lie on each other


def test_an_axis_of_shares_has_three_marks_and_ends_at_the_whole() -> None:
    with style():
        for values in ([0.351, 0.749], [0.0, 0.0], [1.0, 1.0], [0.5, 0.501]):
            axes = Figure(figsize=(2, 1.7)).subplots()
            axes.plot([1, 2], values)
            shares(axes)
            low, high = axes.get_ylim()
            assert -0.031 <= low <= min(values)
            assert max(values) <= high <= 1.031
            assert sum(low <= tick <= high for tick in axes.get_yticks()) >= 3


@pytest.mark.slow
def test_files_are_the_same_for_the_same_figure(study: Study, tmp_path: Path) -> None:
    ((name, _, figure),) = drawn(pass_curves, study)
    first = [path.read_bytes() for path in save(figure, tmp_path, name)]
    ((name, _, figure),) = drawn(pass_curves, study)
    assert [path.read_bytes() for path in save(figure, tmp_path, name)] == first
    pdf = (tmp_path / "passk.pdf").read_bytes()
    assert pdf.startswith(b"%PDF")
    assert b"/Subtype /Image" not in pdf, "lines, not pixels"
    assert b"/Subtype /Type3" not in pdf, "letters that can be searched, as publishers ask"
    with Image.open(tmp_path / "passk.png") as image:
        assert image.width == pytest.approx(6.9 * 200, abs=2)
