"""docs/study.md says what its committed results say: every number of its tables, to the digit that is shown."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from cipo_reports.frontier import AGAINST
from cipo_reports.runs import paired_difference
from cipo_trainer.presets import load

DOCS = Path(__file__).resolve().parents[2] / "docs"
FIGURES = {
    "acc@t2": ("self", "acc@t2"),
    "correction rate": ("self", "correction_rate"),
    "resample": ("self", "fresh"),
    "lift": ("self", "correction_lift"),
    "retention": ("self", "retention"),
}
STUDIES = sorted(path.parent.name for path in (DOCS / "study").glob("*/results.csv"))


def tables(study: str) -> list[list[dict[str, str]]]:
    """Rows of the tables after the mark of a study, by column."""
    page = (DOCS / "study.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(rf"<!-- {study} -->\n((?:\|.*\n)+)", page):
        head, _, *lines = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in block.splitlines()
        ]
        found.append([dict(zip(head, line, strict=True)) for line in lines])
    return found


@pytest.mark.parametrize("study", STUDIES)
def test_numbers_of_the_page_are_those_of_the_results(study: str) -> None:
    results = pd.read_csv(DOCS / "study" / study / "results.csv")
    results = results[results["column"].isna()]
    shown = tables(study)
    assert shown, f"docs/study.md shows nothing of {study}"
    for row in (row for table in shown for row in table):
        of = results[(results["task"] == row["task"]) & (results["arm"] == row["method"])]
        assert len(of), row
        for column, text in row.items():
            if column in ("task", "method"):
                continue
            protocol, figure = FIGURES.get(column, ("direct", column))
            (found,) = of[(of["protocol"] == protocol) & (of["figure"] == figure)].to_dict("records")
            value, _, std = text.replace("−", "-").partition(" ± ")
            assert float(value) == pytest.approx(100 * found["value"], abs=0.051), (row, column)
            assert not std or float(std) == pytest.approx(100 * found["std"], abs=0.051), (row, column)


def test_every_study_is_shown() -> None:
    assert set(STUDIES) == set(re.findall(r"<!-- ([\w-]+) -->", (DOCS / "study.md").read_text()))


def block(name: str) -> list[dict[str, str]]:
    """Rows of the table after a mark that names a study and one of its tables."""
    (text,) = re.findall(rf"<!-- {name} -->\n((?:\|.*\n)+)", (DOCS / "study.md").read_text(encoding="utf-8"))
    head, _, *lines = [[cell.strip() for cell in line.strip("|\n").split("|")] for line in text.splitlines()]
    return [dict(zip(head, line, strict=True)) for line in lines]


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", text.replace("−", "-"))]


@pytest.mark.parametrize("study", ["worth", "methods_small"])
def test_worths_of_the_page_are_those_of_the_results(study: str) -> None:
    worth = pd.read_csv(DOCS / "study" / study / "worth.csv")
    worth = worth.set_index(["task", "arm", "protocol", "figure"])
    shown = block(f"{study}: worth")
    assert shown
    for row in shown:
        found = worth.loc[row["task"], row["method"], "direct", "pass@1"]
        assert numbers(row["worth on pass@1"])[0] == pytest.approx(found["value"], abs=0.0051)
        assert int(row["seeds"]) == found["seeds"]
        ends = numbers(row["worth on pass@1"])[1:]
        assert ends == pytest.approx([v for v in (found["low"], found["high"]) if v == v], abs=0.0051)


def test_alternatives_of_the_page_are_those_of_the_results() -> None:
    """Also the comparison with the baseline's first answers, made anew of the figures of single runs."""
    results = pd.read_csv(DOCS / "study/worth/results.csv")
    results = results[results["column"].isna()].set_index(["task", "arm", "protocol", "figure"])["value"]
    runs = pd.read_csv(DOCS / "study/worth/runs.csv")
    names = {title: figure for figure, title in AGAINST}
    shown = block("worth: alternatives")
    assert shown
    for row in shown:
        task, arm = row["task"], row["method"]
        for title, text in row.items():
            if title in names:
                expected = results[task, arm, "self", names[title]]
                assert numbers(text)[0] == pytest.approx(100 * expected, abs=0.051), (row, title)
        made = paired_difference(runs, task, ("GRPO", "self", "acc@t1"), (arm, "self", "acc@t2"))
        assert made is not None
        expected = [100 * made[name] for name in ("difference", "low", "high")]
        assert numbers(row["over first of GRPO"]) == pytest.approx(expected, abs=0.051)


@pytest.mark.parametrize(
    "study", ["methods", "methods_small", *(f"frontier_long-{step}" for step in (40, 80, 160))]
)
def test_differences_by_seed_are_those_of_the_runs(study: str) -> None:
    """Made anew of the figures of single runs, and so are means."""
    every = pd.read_csv(DOCS / "study" / study / "runs.csv")
    rows = block(f"{study}: over")
    shown = {(row.get("task", "idle"), row[next(key for key in row if key != "task")]) for row in rows}
    assert shown == {(task, arm) for task, arm in zip(every["task"], every["arm"], strict=True)} - {
        (task, "warm start") for task in every["task"]
    }
    turns = {"pass@1": "acc@t1", "acc@t2": "acc@t2"}
    for row in rows:
        task = row.pop("task", "idle")
        runs = every[every["task"] == task]
        (_, arm), *columns = row.items()
        for title, text in columns:
            figure, over, other = title.partition(" over ")
            second = arm, "self", turns[figure]
            if not over:
                of = runs[(runs["arm"] == arm) & (runs["protocol"] == "self") & (runs["figure"] == second[2])]
                assert numbers(text)[0] == pytest.approx(100 * of["value"].mean(), abs=0.051)
                continue
            name = other.removeprefix("first of ")
            first = name, "self", "acc@t1" if name != other else turns[figure]
            made = paired_difference(runs, task, first, second)
            assert made is not None
            if text == "–":
                assert made["low"] is None
                continue
            expected = [100 * made[key] for key in ("difference", "low", "high")]
            assert numbers(text) == pytest.approx(expected, abs=0.051), (arm, title)


def test_trainings_of_the_page_on_size_draw_as_many_attempts() -> None:
    """All but the half, and each command can be built."""
    page = (DOCS / "study-at-size.md").read_text(encoding="utf-8")
    drawn = {}
    for command in re.findall(r"^\$ cipo-eval train (.+)$", page.replace("\\\n", ""), re.MULTILINE):
        preset, *overrides = command.split()
        config = load(preset, overrides)
        rollout, stream = config.rollout, config.stream
        corrected = (
            int(stream.fraction * rollout.problems) * (stream.samples or rollout.samples) if stream else 0
        )
        drawn[str(config.output)] = rollout.problems * rollout.samples + corrected
    assert len(drawn) == 6
    assert drawn.pop("runs/half-0") == 512
    assert set(drawn.values()) == {1024}
