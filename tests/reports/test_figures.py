"""Figures: what is drawn is what the frames have; no text lies on another or is cut off; no colour stands alone."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image
from reports.readable import overlaps

from cipo_reports.figures import along, by_turn, dynamics, figures, forest, pass_curves, transitions
from cipo_reports.figures import budget as budget_figures
from cipo_reports.panels import COLOURS, LINES, MARKERS, save, short, style
from cipo_reports.study import AVERAGE, Study


def drawn(make: object, study: Study) -> list[tuple[str, str, Figure]]:
    with style():
        found = list(make(study))  # type: ignore[operator]
        for _, _, figure in found:
            FigureCanvasAgg(figure).draw()
    return found


def lines(axes: object) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {line.get_label(): line.get_data() for line in axes.get_lines()}  # type: ignore[attr-defined]


def test_every_figure_is_there_and_readable(study: Study) -> None:
    found = drawn(figures, study)
    names = [name for name, _, _ in found]
    assert len(names) == len(set(names))
    for kind in (
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
                assert axes.get_xlabel() or name.startswith("transitions"), name


def test_overlaps_finds_them() -> None:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.text(0.5, 0.5, "one text")
    axes.text(0.52, 0.5, "another")
    axes.text(0.95, 0.1, "beyond the edge of it all")
    FigureCanvasAgg(figure).draw()
    assert ("one text", "another") in overlaps(figure)
    assert ("beyond the edge of it all", "the edge") in overlaps(figure)


def test_curves_are_the_frames_numbers(study: Study) -> None:
    ((_, _, figure),) = drawn(pass_curves, study)
    for axes in figure.axes:
        for arm, (x, y) in lines(axes).items():
            for k, value in zip(x, y, strict=True):
                row = study.figure(f"pass@{int(k)}")
                row = row[(row["arm"] == arm) & (row["task"] == axes.get_title())]
                assert row["value"].item() == pytest.approx(value)
    (of_self, _) = drawn(by_turn, study)
    for axes in of_self[2].axes:
        assert set(lines(axes)) == set(study.names)
        assert all(list(x) == [1, 2, 3] for x, _ in lines(axes).values())


def test_flows_add_up(study: Study) -> None:
    for name, _, figure in drawn(transitions, study):
        protocol = name.removeprefix("transitions-")
        for axes in figure.axes:
            arm = axes.get_title()
            texts = [text.get_text().split("\n") for text in axes.texts]
            shares = [int(share) for _, share in texts]
            assert sum(shares) in (199, 200, 201)  # both sides, rounded
            rows = study.figure("acc@t1", protocol)
            rows = rows[(rows["arm"] == arm) & (rows["task"] != AVERAGE)]
            first = next(int(share) for word, share in texts if word == "right")
            assert first == pytest.approx(100 * rows["value"].astype(float).mean(), abs=0.51)


def test_differences_and_budget_and_training(study: Study) -> None:
    ((_, _, figure),) = drawn(forest, study)
    points = {
        round(float(line.get_xdata()[0]), 9)
        for axes in figure.axes
        for line in axes.get_lines()
        if len(line.get_xdata()) == 1
    }
    wanted = study.differences.query("figure == 'pass@1'")["difference"]
    assert {round(float(x), 9) for x in wanted} <= points
    for name, _, made in drawn(budget_figures, study):
        kinds = {text.get_text() for text in made.legends[0].get_texts()}
        assert ("resample, vote" in kinds) == (name == "budget-self")
    ((_, _, dynamic),) = drawn(dynamics, study)
    titles = [axes.get_title() for axes in dynamic.axes if axes.axison]
    assert titles[:2] == ["reward, %", "retention and ρ, %"]


def test_ends_along_training_are_the_last_evaluations_means(study: Study) -> None:
    ((_, _, figure),) = drawn(along, study)
    (axes,) = figure.axes
    ends = {
        tuple(map(float, (*x, *y))) for x, y in (line.get_data() for line in axes.get_lines()) if len(x) == 1
    }
    t = study.training[study.training["kind"] == "eval"]
    last = t[t["step"] == t["step"].max()].groupby(["arm", "figure"])["value"].mean().unstack()
    assert ends == {(row["fractions/pass@1"], row["fractions/pass@4"]) for _, row in last.iterrows()}


def test_arms_differ_without_colour() -> None:
    assert len(set(MARKERS)) == len(MARKERS) >= 8
    assert len({str(line) for line in LINES[:4]}) == 4

    def luminance(colour: str) -> float:  # WCAG 2
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        return float(np.dot((0.2126, 0.7152, 0.0722), linear))

    assert min(1.05 / (luminance(colour) + 0.05) for colour in COLOURS[:3]) >= 3  # of graphics on white


def test_hostile_and_long_names_neither_fail_nor_overlap(study: Study) -> None:
    def renamed(name: str) -> str:
        return {
            "CIPO": "$\\frac{1}{0}$ & <b>" + "x" * 40,
            "GRPO": "漢字 mit einem langen Namen, der nicht endet",
        }.get(name, name)

    frames = {
        name: getattr(study, name).assign(arm=getattr(study, name)["arm"].map(renamed))
        for name in ("results", "differences", "budget", "training")
    }
    arms = tuple(
        type(arm)(name=renamed(arm.name), runs=arm.runs, trainings=arm.trainings) for arm in study.arms
    )
    other = Study(arms=arms, baseline=study.baseline, mode=study.mode, **frames)
    # trainings on two families of one generator, which their dials tell apart
    other.training["data"] = [
        f"chains (steps {6 + seed}, told 0.3)/.." if seed < 2 else "x" for seed in other.training["seed"]
    ]
    for name, _, figure in drawn(figures, other):
        assert overlaps(figure) == [], name
        assert re.fullmatch(r"[\w.-]+", name)  # of files, as LaTeX takes them
    assert short("x" * 30) == "x" * 23 + "…"


def test_files_are_the_same_for_the_same_figure(study: Study, tmp_path: Path) -> None:
    ((name, _, figure),) = drawn(pass_curves, study)
    first = [path.read_bytes() for path in save(figure, tmp_path, name)]
    ((name, _, figure),) = drawn(pass_curves, study)
    assert [path.read_bytes() for path in save(figure, tmp_path, name)] == first
    with Image.open(tmp_path / "passk.png") as image:
        assert image.width == pytest.approx(6.9 * 200, abs=2)
