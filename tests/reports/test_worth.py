"""What corrections are worth between two arms."""

from __future__ import annotations

from pathlib import Path

import pytest

from cipo_eval.analysis.rows import rows_of
from cipo_eval.errors import UsageError
from cipo_eval.metrics.fieller import ratio_of_means
from cipo_eval.records import Mode
from cipo_reports.arms import RunData, make_arm
from cipo_reports.study import Study, read_study
from cipo_reports.tables import tables
from cipo_reports.worth import Worth, worth_table


@pytest.fixture(scope="module")
def asked(made: dict[str, list[Path]]) -> Study:
    arms = [make_arm(name, runs) for name, runs in made.items()]
    names = [arm.name for arm in arms]
    return read_study(arms, bootstrap=10, worth=Worth(all=names[1], half=names[0]))


def first(run: RunData, task: str, mode: Mode) -> float:
    """pass@1 of a run."""
    rows = rows_of(run.results["tasks"][task], mode)
    (value,) = [
        row.value
        for row in rows
        if (row.protocol, row.measure.name) == ("direct", "pass@1") and not row.column
    ]
    assert value is not None
    return value


def test_it_is_made_of_the_values_of_seeds(asked: Study) -> None:
    """Of each task and figure, from the results of the i-th runs."""
    half, everything, arm = asked.arms[:3]
    assert set(asked.worth["arm"]) == {one.name for one in asked.arms[2:]}
    rows = asked.worth[(asked.worth["arm"] == arm.name) & (asked.worth["figure"] == "pass@1")]
    assert len(rows)
    for row in rows.to_dict("records"):
        of_arms = [one.having(row["task"]) for one in (arm, everything, half)]
        a, b, c = ([first(run, row["task"], asked.mode) for run in runs] for runs in of_arms)
        expected = ratio_of_means(
            [x - z for x, z in zip(a, c, strict=True)], [y - z for y, z in zip(b, c, strict=True)]
        )
        assert row["value"] == pytest.approx(expected.value)
        assert row["seeds"] == len(a)
        if expected.ci:
            assert (row["low"], row["high"]) == pytest.approx(expected.ci)
        else:
            assert row["low"] != row["low"] or row["low"] is None


def test_its_table_stands_in_the_report(asked: Study, study: Study) -> None:
    """Only where it was asked for; an interval that is not there is said."""
    assert "worth" in {table.name for table in tables(asked)}
    assert "worth" not in {table.name for table in tables(study)}
    table = worth_table(asked.worth)
    assert table.columns[:2] == ("task", "method")
    assert "trainings" in table.columns
    texts = {cell.text for row in table.rows for cell in row}
    assert any("[" in text for text in texts)
    assert "means nothing" in " ".join(table.notes)


def test_arms_that_are_not_there_are_told(made: dict[str, list[Path]]) -> None:
    arms = [make_arm(name, runs) for name, runs in made.items()]
    with pytest.raises(UsageError, match="worth: no arm is named nonsense"):
        read_study(arms, bootstrap=10, worth=Worth(all="nonsense", half=arms[0].name))
