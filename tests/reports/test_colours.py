"""Colours that stand side by side are told apart with each kind of colour blindness, and in grey."""

from __future__ import annotations

import numpy as np
from reports.colours import VISIONS, as_seen, contrast, distance, over_white, too_near

from cipo_reports.figures import FLOW
from cipo_reports.panels import BESIDE, COLOURS, OTHERS


def test_the_simulation_is_one() -> None:
    """Greys stay what they are; red and green, of one lightness, become one where red or green is not seen."""
    for vision in VISIONS:
        assert np.allclose(as_seen("#808080", vision), as_seen("#808080", "normal"), atol=0.05)
    red, green = "#c05030", "#5f8a20"
    assert distance(red, green, "normal") > 60
    assert distance(red, green, "deuteranopia") < distance(red, green, "normal") / 3
    assert distance("#0000ff", "#008080", "tritanopia") < distance("#0000ff", "#008080", "normal") / 2
    assert too_near(["#0072B2", "#D55E00", "#009E73", "#CC79A7"]), (
        "in grey, a palette for the colour-blind is none"
    )


def test_methods_are_told_apart_from_each_other_and_from_what_is_beside_them() -> None:
    assert too_near([*COLOURS, str(OTHERS["color"])]) == []
    assert [too_near([colour, BESIDE]) for colour in COLOURS] == [[]] * len(COLOURS)
    assert min(map(contrast, [*COLOURS, BESIDE])) >= 3, "of graphics on white (WCAG 2)"


def test_flows_are_told_apart() -> None:
    assert too_near(over_white(colour, alpha) for _, colour, alpha in FLOW.values()) == []
