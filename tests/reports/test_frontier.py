"""What corrections cost and gain: second answers beside their alternatives, and first ones against second ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from cipo_reports.arms import make_arm
from cipo_reports.cells import Lookup
from cipo_reports.figures import figures
from cipo_reports.frames import whole
from cipo_reports.frontier import AGAINST, FURTHER, MANY, _undominated, alternatives, frontier
from cipo_reports.methods import FEW
from cipo_reports.study import Study, read_study

MARKERS = tuple("osD^")


def test_a_gain_is_over_keeping_the_first_answer(study: Study) -> None:
    """What stands in the table of every method: the second accuracy less the first; lift likewise."""
    table = alternatives(study)
    at = [table.columns.index(title) for _, title in AGAINST]
    assert len(table.rows) >= len(study.names)
    for row in table.rows:
        second, first, gain, _, corrected, fresh, lift = (row[i].value for i in at)
        assert None not in (second, first, gain)
        assert gain == pytest.approx(second - first)
        if lift is not None:
            assert lift == pytest.approx(corrected - fresh)


def test_every_method_is_a_point_of_the_frontier(study: Study) -> None:
    """Where both answers are known, at the values of the frames; the line is that of keeping the first."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    drawn = {name: figure for name, _, figure in frontier(study)}
    assert drawn
    assert set(drawn) <= {name for name, _, _ in figures(study)}
    for name, figure in drawn.items():
        protocol = name.removeprefix("frontier-")
        axes = figure.axes[0]
        points = {
            (x, y)
            for line in axes.lines
            if line.get_marker() in (*MARKERS, *FURTHER)
            for x, y in zip(*line.get_data(), strict=True)
        }
        expected = {
            (
                look(arm, study.tasks[0], "direct", "pass@1")["value"],
                look(arm, study.tasks[0], protocol, "acc@t2")["value"],
            )
            for arm in study.names
        }
        assert points == expected
        (named,) = figure.legends  # of few methods all are
        assert [text.get_text() for text in named.get_texts()] == list(study.names)
        ends = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        assert any(x == y and x[0] < x[-1] for x, y in ends)


def test_there_are_markers_for_all_of_few_methods() -> None:
    """Figures with lines tell apart at least all but one of ``FEW``: the baseline may be missing."""
    assert len({*MARKERS, *FURTHER}) == len(MARKERS) + len(FURTHER)
    assert len(FURTHER) >= MANY - (FEW - 1)


def test_methods_that_no_other_beats_are_named() -> None:
    def at(x: float, y: float) -> tuple[dict[str, float], dict[str, float]]:
        return {"value": x}, {"value": y}

    points = {
        "a": at(0.9, 0.5),
        "b": at(0.5, 0.9),
        "c": at(0.5, 0.5),
        "d": at(0.7, 0.7),
        "twin": at(0.7, 0.7),
    }
    assert _undominated(points) == {"a", "b", "d", "twin"}


def test_second_answers_are_held_against_the_baseline_s_first(made: dict[str, list[Path]]) -> None:
    """Run by run, where the i-th runs of the methods began alike: the mean of the differences, Student's interval."""
    arms = [make_arm(name, runs) for name, runs in made.items()]
    asked = read_study(arms, bootstrap=10, paired=True, baseline=arms[0].name)
    assert "over first of" not in " ".join(alternatives(read_study(arms, bootstrap=10)).columns)
    table = alternatives(asked)
    assert table.columns[-1] == f"over first of {arms[0].name}"
    (task,) = asked.tasks[:1]
    first, second = (
        [
            run.results["tasks"][task]["protocols"]["self"]["fixed"]["by_turn"][f"acc@t{turn}"]["value"]
            for run in arm.having(task)
        ]
        for arm, turn in ((arms[0], 1), (arms[-1], 2))
    )
    rows = [row for row in table.rows if (row[0].text, row[-10].text) == (task, arms[-1].name)] or [
        row for row in table.rows if row[0].text == task and arms[-1].name in {cell.text for cell in row[:3]}
    ]
    expected = sum(b - a for a, b in zip(first, second, strict=True)) / len(first)
    assert rows[0][-1].value == pytest.approx(expected)
    assert len(first) > 1
    assert "[" in rows[0][-1].text


def test_runs_are_those_that_means_are_made_of(made: dict[str, list[Path]]) -> None:
    arms = [make_arm(name, runs) for name, runs in made.items()]
    asked = read_study(arms, bootstrap=10)
    keys = ["arm", "task", "protocol", "figure"]
    means = whole(asked.results).set_index(keys)["value"]
    groups = {key: rows for key, rows in asked.runs.groupby(keys) if key[-1] in ("pass@1", "acc@t2")}
    assert groups
    for key, rows in groups.items():
        assert rows["value"].mean() == pytest.approx(means[key])
        assert list(rows["run"]) == list(range(1, len(rows) + 1))
