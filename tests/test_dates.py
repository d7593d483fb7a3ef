"""Dates of tasks and of models: what was public when, in definitions, runs, results and reports."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
from commands import Commands, results
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.data import tasks
from cipo_eval.data.dates import Side, side, span
from cipo_eval.data.scope import Scope
from cipo_eval.errors import UsageError
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.request import RunRequest

YAML = """
task: cipo_{name}
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: {name}
    released: {released}
    columns: {{question: q, gold: a}}
    sources: [{{kind: embedded, path: {name}.jsonl}}]
"""


def test_what_a_date_covers() -> None:
    assert span("2025") == (date(2025, 1, 1), date(2025, 12, 31))
    assert span("2024-02") == (date(2024, 2, 1), date(2024, 2, 29))
    assert span("2024-08..2025-04") == (date(2024, 8, 1), date(2025, 4, 30))
    for wrong in (
        "",
        "25",
        "2025-13",
        "2025-02-30",
        "2025-2-1",
        "2025..2024",
        "soon",
        "2025-01-01T00:00",
        "9" * 99,
    ):
        with pytest.raises(ValueError, match=r"date|before it begins"):
            span(wrong)


@given(st.dates(), st.dates())
def test_sides_of_days(released: date, cutoff: date) -> None:
    expected = Side.AFTER if released > cutoff else Side.BEFORE
    if min(released.year, cutoff.year) >= 1000:
        assert side(str(released), str(cutoff)) is expected


@pytest.mark.parametrize(
    ("released", "cutoff", "where"),
    [
        ("2025-02-12", "2025-02", Side.ACROSS),
        ("2025-02-12", "2025-01", Side.AFTER),
        ("2025-02-12", "2025-03", Side.BEFORE),
        ("2024-08..2025-04", "2024-12", Side.ACROSS),
        ("2025", "2024", Side.AFTER),
    ],
)
def test_what_is_too_coarse_is_not_decided(released: str, cutoff: str, where: Side) -> None:
    assert side(released, cutoff) is where


def made(folder: Path, name: str, released: str) -> Path:
    rows = [{"q": f"What is {i} + 1?", "a": str(i + 1)} for i in range(4)]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text(YAML.format(name=name, released=released))
    return folder / f"{name}.yaml"


@pytest.mark.parametrize(
    ("written", "read"), [("2025-02-12", "2025-02-12"), ("2025", "2025"), ('"2025-02"', "2025-02")]
)
def test_definitions_may_write_days_as_yaml_does(tmp_path: Path, written: str, read: str) -> None:
    assert tasks.load_spec(made(tmp_path, "sums", written)).released == read
    with pytest.raises(UsageError, match="released: 'soon' is no date"):
        tasks.load_spec(made(tmp_path, "other", "soon"))


def test_a_window_of_dates_is_when_its_problems_came_out(tmp_path: Path) -> None:
    problems = tasks.load_problems(made(tmp_path, "sums", "2020"))
    sampling = problems.spec.presets["greedy"].sampling
    plan = TaskPlan(problems=problems, samples=1, sampling=sampling)
    assert plan.released == "2020"
    window = Scope(start="2024-08-01", end="2025-05-01")
    assert (
        TaskPlan(problems=problems, samples=1, sampling=sampling, scope=window).released
        == "2024-08-01..2025-04-30"
    )


def test_the_cut_off_of_a_request() -> None:
    for given_as in ("2024-06", date(2024, 6, 1), 2024):
        assert RunRequest.of(model="m", model_cutoff=given_as).engine.model_cutoff == str(given_as)
    with pytest.raises(UsageError, match=r"model.cutoff"):
        RunRequest.of(model="m", model_cutoff="June")


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
def test_results_and_reports_say_what_was_public(cipo: Commands, tmp_path: Path) -> None:
    old, new = made(tmp_path, "old", "2020-05-01"), made(tmp_path, "new", "2025")
    rows = [{"problem_id": str(i), "text": f"\\boxed{{{i + 1}}}"} for i in range(4)]
    for name, cutoff in (("a", ("--model-cutoff", "2023-12")), ("b", ())):
        for task in (old, new):
            file = tmp_path / "said.jsonl"
            file.write_text("".join(json.dumps({**row, "model": name}) + "\n" for row in rows))
            folder = tmp_path / f"{name}-{task.stem}"
            done = cipo("score", file, "--task", task, "-o", folder, *cutoff)
            assert done.code == 0, done.err
            assert "at the ceiling, above 95%" in done.out
            assert ("the model's cut-off (2023-12)" in done.out) is bool(cutoff)
    entry = results(tmp_path / "a-old")["tasks"]["old"]
    assert (entry["released"], entry["model_cutoff"], entry["golds"]) == ("2020-05-01", "2023-12", "before")
    assert results(tmp_path / "a-new")["tasks"]["new"]["golds"] == "after"
    entry = results(tmp_path / "b-new")["tasks"]["new"]
    assert (entry["released"], "golds" in entry) == ("2025", False)
    before = results(tmp_path / "a-old")
    assert cipo("rescore", tmp_path / "a-old", "--quiet").code == 0
    assert results(tmp_path / "a-old") == before
    groups = [f"{name}={tmp_path / f'{name}-old'},{tmp_path / f'{name}-new'}" for name in "ab"]
    done = cipo("report", "--groups", groups[0], "--groups", groups[1], "-o", tmp_path / "report", "--json")
    assert done.code == 0, done.err
    table = pd.read_csv(tmp_path / "report" / "tables" / "dates.csv")
    assert table["answers public"].astype(str).tolist() == ["2020-05-01", "2025"]
    assert table["a (2023-12)"].tolist() == ["before", "after"]
    assert len(table.columns) == 3
    assert (
        "At the ceiling, above 95%: old (a, b); new (a, b)"
        in (tmp_path / "report" / "tables" / "main.md").read_text()
    )


def test_a_cut_off_may_be_said_later(cipo: Commands, tmp_path: Path) -> None:
    task = made(tmp_path, "old", "2020")
    file = tmp_path / "said.jsonl"
    file.write_text(json.dumps({"problem_id": "0", "text": "1"}) + "\n")
    ask = ("run", "--engine", "replay", "--model", file, "--tasks", task, "-o", tmp_path / "run", "--quiet")
    for cutoff, where in (
        ((), None),
        (("--model-cutoff", "2019"), "after"),
        ((), "after"),
        (("--model-cutoff", "2021"), "before"),
    ):
        assert cipo(*ask, "--limit", "1", *cutoff).code == 0
        assert results(tmp_path / "run")["tasks"]["old"].get("golds") == where


@pytest.mark.parametrize(("key", "value"), [("model_cutoff", "June"), ("model_cutoff", 3), ("released", "x")])
def test_what_a_run_says_is_checked(cipo: Commands, tmp_path: Path, key: str, value: object) -> None:
    file = tmp_path / "said.jsonl"
    file.write_text(json.dumps({"problem_id": "0", "text": "1"}) + "\n")
    folder = tmp_path / "run"
    done = cipo(
        "score", file, "--task", made(tmp_path, "old", "2020"), "--limit", "1", "-o", folder, "--quiet"
    )
    assert done.code == 0, done.err
    info = json.loads((folder / "run.json").read_text())
    (info if key == "model_cutoff" else info["tasks"]["old"])[key] = value
    (folder / "run.json").write_text(json.dumps(info))
    found = cipo("rescore", folder)
    assert found.code == 2
    assert "cannot be read" in found.err
