"""What corrections cost and gain: second answers beside their alternatives, and first ones against second ones."""

from __future__ import annotations

import pytest

from cipo_reports.cells import Lookup
from cipo_reports.figures import figures
from cipo_reports.frames import whole
from cipo_reports.frontier import AGAINST, _undominated, alternatives, frontier
from cipo_reports.study import Study

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
            if line.get_marker() in MARKERS
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
        ends = [(list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines]
        assert any(x == y and x[0] < x[-1] for x, y in ends)


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
