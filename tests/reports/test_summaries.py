"""A report's figures read back from its tables draw the same pictures; those of docs/study.md are drawn so."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cipo_eval.errors import UsageError
from cipo_reports.figures import by_turn
from cipo_reports.frontier import frontier
from cipo_reports.report import write_frames
from cipo_reports.study import Study
from cipo_reports.summaries import read_summary

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import study_pictures  # noqa: E402


def points(figure: Figure) -> list[tuple[str, np.ndarray]]:
    """Every line that is drawn, in its panel."""
    return [
        (axes.get_title(), np.asarray(line.get_xydata()))
        for axes in figure.axes
        for line in axes.lines
        if len(line.get_xydata())
    ]


def test_pictures_of_a_summary_are_those_of_its_study(study: Study, tmp_path: Path) -> None:
    write_frames(study, tmp_path)
    summary = read_summary(tmp_path, baseline=study.baseline)
    assert (summary.names, summary.tasks) == (study.names, study.tasks)
    for draws in (frontier, by_turn):
        whole, stored = ({name: points(of) for name, _, of in draws(each)} for each in (study, summary))
        assert whole
        assert whole.keys() == stored.keys()
        for name, lines in whole.items():
            assert [title for title, _ in lines] == [title for title, _ in stored[name]]
            for (_, expected), (_, given) in zip(lines, stored[name], strict=True):
                np.testing.assert_allclose(given, expected, atol=1e-9)


def test_what_is_no_summary_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read as the figures of a report"):
        read_summary(tmp_path)
    (tmp_path / "results.csv").write_text("arm,task\na,b\n")
    with pytest.raises(UsageError, match="has no column attempts"):
        read_summary(tmp_path)
    with pytest.raises(UsageError, match="has nothing of GRP"):
        read_summary(study_pictures.FOLDER / "worth", baseline="GRP")


def test_pictures_of_the_page_are_drawn_from_the_stored_figures(tmp_path: Path) -> None:
    """All of them, in the size of those that are there."""
    page = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\]\(study/([\w-]+)\.png\)", page)) == set(study_pictures.draw(tmp_path))
    for name in study_pictures.PICTURES:
        drawn, there = (folder / f"{name}.png" for folder in (tmp_path, study_pictures.FOLDER))
        assert drawn.read_bytes()[16:24] == there.read_bytes()[16:24]  # width and height
