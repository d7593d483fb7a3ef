"""The data model: values are those of results.json, seeds are averaged, comparisons are those of ``compare``."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Commands
from made_runs import make_run

from cipo_eval.analysis.comparison import compare_runs
from cipo_eval.analysis.rows import rows_of
from cipo_eval.errors import UsageError
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.arms import read_arms, training_data
from cipo_reports.cost_tables import cost
from cipo_reports.study import AVERAGE, Study, read_study

Made = dict[str, list[Path]]


def results(run: Path) -> dict:
    return json.loads((run / "results.json").read_text())["tasks"]


def value(study: Study, arm: str, task: str, figure: str, protocol: str = DIRECT, group: str = "") -> float:
    r = study.results
    rows = r[
        (r.arm == arm)
        & (r.task == task)
        & (r.figure == figure)
        & (r.protocol == protocol)
        & (r.group == group)
    ]
    assert len(rows) == 1
    return rows["value"].item()


def test_every_figure_of_a_single_run_is_the_one_in_its_results(single: Study, made: Made) -> None:
    """Walks through results.json by itself, with names of its own."""
    for arm, paths in made.items():
        for task, entry in results(paths[0]).items():
            block = entry["fixed"]
            for name, estimate in block["metrics"].items():
                assert value(single, arm, task, name) == estimate["value"]
            assert value(single, arm, task, "truncated") == block["truncated"]
            assert value(single, arm, task, "generated tokens") == block["tokens"]["completion"]["total"]
            for level, found in block["breakdown"]["level"].items():
                assert value(single, arm, task, "pass@1", group=level) == found["pass@1"]
            for protocol, modes in entry["protocols"].items():
                revised = modes["fixed"]
                for name, estimate in {**revised["by_turn"], **revised["change"]}.items():
                    assert value(single, arm, task, name, protocol) == estimate["value"]
                for name, estimate in revised["sequential"].items():
                    assert value(single, arm, task, name, protocol) == estimate["value"]
                for name, estimate in revised["steps"][0]["metrics"].items():
                    assert value(single, arm, task, name, protocol) == estimate["value"]
                assert (
                    value(single, arm, task, "correction_lift", protocol)
                    == revised["lift"]["correction_lift"]["value"]
                )


@pytest.mark.slow
def test_values_over_seeds_are_means_with_the_seeds_deviation(study: Study, made: Made) -> None:
    for arm, paths in made.items():
        runs = [path for path in paths if (path / "run.json").exists()]
        of_runs = [results(run)["sums"]["fixed"]["metrics"]["pass@2"]["value"] for run in runs]
        rows = study.figure("pass@2")
        rows = rows[(rows["arm"] == arm) & (rows["task"] == "sums")]
        assert rows["value"].item() == pytest.approx(np.mean(of_runs))
        assert rows["std"].item() == pytest.approx(np.std(of_runs, ddof=1))
        assert rows["low"].item() < rows["value"].item() < rows["high"].item()
        assert rows["seeds"].item() == 2


def test_averages_are_means_of_the_tasks(study: Study) -> None:
    for figure, protocol in (("pass@1", DIRECT), ("correction_rate", "self"), ("acc@t2", "oracle")):
        rows = study.figure(figure, protocol).query("arm == 'CIPO'")
        tasks = rows[rows["task"] != AVERAGE]["value"].astype(float)
        assert rows[rows["task"] == AVERAGE]["value"].item() == pytest.approx(tasks.mean())
    totals = study.results[
        (study.results["task"] == AVERAGE) & study.results["figure"].str.contains("generated")
    ]
    assert not len(totals)


def test_differences_of_single_runs_are_those_of_compare(single: Study, made: Made) -> None:
    first, second = made["warm start"][0], made["CIPO"][0]
    found = compare_runs(first, second, bootstrap=200)
    ours = single.differences.query("arm == 'CIPO' and task != @AVERAGE")
    assert len(found.rows) == len(ours)
    for row, (_, mine) in zip(found.rows, ours.iterrows(), strict=True):
        name = mine["figure"] if mine["protocol"] == DIRECT else f"{mine['protocol']} {mine['figure']}"
        assert (row.task, row.name) == (mine["task"], name)
        assert (row.difference.difference, row.difference.p, row.p_holm) == (
            mine["difference"],
            mine["p"],
            mine["p_holm"],
        )


def test_differences_over_seeds_are_differences_of_the_means(study: Study) -> None:
    for _, row in study.differences.iterrows():
        of = {
            arm: value(study, arm, row["task"], row["figure"], row["protocol"])
            for arm in (row["arm"], row["baseline"])
        }
        assert row["difference"] == pytest.approx(of[row["arm"]] - of[row["baseline"]], abs=1e-9)
        assert row["low"] < row["difference"] < row["high"], row.to_dict()


def test_the_budget_begins_with_a_first_attempt(study: Study) -> None:
    for _, rows in study.budget.query("kind == 'revise'").groupby(["arm", "task", "protocol"]):
        rows = rows.sort_values("k")
        assert list(rows["k"]) == list(range(1, len(rows) + 1))
        assert (np.diff(rows["tokens"]) > 0).all()
        arm, task = rows.iloc[0][["arm", "task"]]
        assert rows.iloc[0]["tokens"] == pytest.approx(value(study, arm, task, "tokens per attempt"))
        assert rows.iloc[0]["value"] == pytest.approx(value(study, arm, task, "pass@1"))


def test_runs_with_different_tasks_complete_each_other(made: Made, tmp_path: Path) -> None:
    parts = []
    for task in ("sums", "equations"):
        part = tmp_path / task
        shutil.copytree(made["GRPO"][0], part)
        for name in ("run.json", "results.json"):
            whole = json.loads((part / name).read_text())
            whole["tasks"] = {task: whole["tasks"][task]}
            (part / name).write_text(json.dumps(whole))
        parts.append(part)
    found = read_study(read_arms([], [f"GRPO={tmp_path}/*"]), bootstrap=100)
    assert found.tasks == ["equations", "sums"]  # a pattern's folders come in order
    assert (found.figure("pass@1")["seeds"] == 1).all()
    assert (
        value(found, "GRPO", "sums", "pass@1")
        == results(made["GRPO"][0])["sums"]["fixed"]["metrics"]["pass@1"]["value"]
    )


def test_a_training_stands_for_its_last_evaluation(made: Made, tmp_path: Path) -> None:
    training = tmp_path / "out"
    shutil.copytree(made["CIPO"][1], training)
    with pytest.raises(UsageError, match="has no evaluation"):
        read_arms([str(training)], [])
    for step, run in ((10, made["GRPO"][0]), (200, made["CIPO"][0])):
        shutil.copytree(run, training / "eval" / f"step-{step:06d}")
    (arm,) = read_arms([str(training)], [])
    assert arm.name == "out"
    found = read_study([arm], bootstrap=100)
    assert (
        value(found, "out", "sums", "pass@1")
        == results(made["CIPO"][0])["sums"]["fixed"]["metrics"]["pass@1"]["value"]
    )
    assert set(found.training["figure"]) >= {"base_accuracy", "retention", "rho", "entropy"}
    with (training / "log.jsonl").open("a") as file:
        file.write('{"step": 121, "ba')  # torn
    assert found.training["step"].max() == read_study([arm], bootstrap=100).training["step"].max() == 120


def test_trainings_on_families_of_one_generator_are_told_apart(tmp_path: Path) -> None:
    """By what differs in their dials; held-out tasks have names of their own."""
    chains = {"generator": "chains", "task": None, "path": None}
    asked = {
        "slips": ({**chains, "dial": {"steps": 6, "systematic": 0.0}}, []),
        "plain": ({**chains, "dial": {"steps": 6}}, []),
        "named": ({**chains, "dial": {"steps": 9}}, ["tasks/cipo_long.yaml"]),
        "same": ({**chains, "dial": {"steps": 6}}, ["tasks/cipo_chains.yaml"]),
        "rows": ({"generator": None, "task": None, "path": "data/rows.jsonl"}, []),
    }
    for name, (data, tasks) in asked.items():
        (tmp_path / name).mkdir()
        config = {"data": data, "eval": {"tasks": tasks}}
        (tmp_path / name / "train.json").write_text(json.dumps({"config": config}))
    found = training_data([tmp_path / name for name in (*asked, "nothing")])
    assert list(found.values()) == ["chains (systematic 0.0)", "chains", "long", "chains", "rows", ""]


def test_figures_that_do_not_exist_are_missing_and_not_zero() -> None:
    undefined = {"value": None, "ci": None, "method": "none", "problems": 0}
    step = {
        "from": 1,
        "to": 2,
        "metrics": {"correction_rate": undefined},
        "matrix": {"right": None, "wrong": None},
    }
    entry = {
        "protocols": {
            "self": {
                "fixed": {
                    "problems": 3, "chains": 3, "turns": 2, "by_turn": {}, "change": {}, "steps": [step], "lift": {},
                    "resampling": {}, "tokens": None,
                }
            }
        }
    }  # fmt: skip
    (row,) = rows_of(entry, Mode.FIXED)
    assert row.value is None


@pytest.mark.slow
def test_runs_that_were_asked_other_things_need_force(tmp_path: Path, cipo: Commands) -> None:
    rights = {f"p{i}": ["wr", "rr"] for i in range(6)}
    runs = [
        make_run(tmp_path / "a", rights),
        make_run(tmp_path / "b", rights, sampling={"temperature": 0.2}),
    ]
    for run in runs:
        shutil.copy(_results_for(run), run / "results.json")
    refused = cipo("report", *runs, "-o", tmp_path / "out")
    assert refused.code == 2
    assert "sampling.temperature" in refused.err
    assert not (tmp_path / "out").exists()
    assert cipo("report", *runs, "-o", tmp_path / "out", "--force").code == 0
    assert "asked" not in refused.out
    assert (
        "sampling.temperature: 1.0 in the first, 0.2 in the second"
        in (tmp_path / "out" / "report.html").read_text()
    )


def _results_for(run: Path) -> Path:
    """Results of a run of ``make_run``, by the harness's own metrics."""
    from cipo_eval.analysis.summary import summarise
    from cipo_eval.storage.store import attempts_of_task

    first = [a for a in attempts_of_task(run, "arithmetic") if a.turn == 1]
    names = {a.problem: {} for a in first}
    block = {
        "arithmetic": {
            "fixed": summarise("arithmetic", first, names, mode="fixed", bootstrap=50),
            "missing_attempts": 0,
        }
    }
    path = run.parent / f"{run.name}.json"
    path.write_text(json.dumps({"schema": 1, "run": run.name, "model": {}, "tasks": block}))
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, "engine": {"engine": "hf", "model": "m"}}))
    return path


@pytest.mark.parametrize(
    ("groups", "says"),
    [
        (["a="], "NAME=FOLDER"),
        (["=x"], "NAME=FOLDER"),
        (["a=nowhere"], "neither a run directory"),
        (["a=nowhere/*"], "no folder is named like"),
        (["a\u202e=x"], "printable"),
        ([], "needs run directories"),
    ],
)
def test_wrong_arms_are_named(
    groups: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=says):
        read_arms([], groups)


def test_groups_may_follow_one_flag(made: Made) -> None:
    texts = [f"{name}={paths[0]}" for name, paths in made.items()]
    assert [arm.name for arm in read_arms(texts[1:], texts[:1])] == list(made)
    with pytest.raises(UsageError, match="two arms are named"):
        read_arms([str(made["GRPO"][0]), str(made["GRPO"][0])], [])


def test_an_unfinished_run_says_how_to_finish_it(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run-x"
    shutil.copytree(made["GRPO"][0], run)
    (run / "results.json").write_text('{"schema": 1, "ta')
    with pytest.raises(UsageError, match="run its command again"):
        read_study(read_arms([str(run)], []))
    with pytest.raises(UsageError, match="no arm is named so"):
        read_study(read_arms([str(made["GRPO"][0])], []), baseline="CIPO")


def test_frames_have_no_hidden_nans_as_text(study: Study) -> None:
    for frame in (study.results, study.differences, study.budget, study.training):
        for column in frame.columns:
            assert not frame[column].map(lambda x: isinstance(x, str) and x == "nan").any()
    assert isinstance(study.results, pd.DataFrame)
    assert not any(math.isinf(x) for x in study.results["value"].dropna().astype(float))


def test_what_was_withheld_or_not_asked_for_is_in_the_notes(made: Made, tmp_path: Path) -> None:
    run = tmp_path / "run-x"
    shutil.copytree(made["GRPO"][0], run)
    whole = json.loads((run / "results.json").read_text())
    entry = whole["tasks"]["sums"]
    entry["not_asked"] = 12
    entry["fixed"]["states"]["filtered"] = 3
    entry["protocols"]["self"]["fixed"]["states"][1]["filtered"] = 2
    (run / "results.json").write_text(json.dumps(whole))
    study = read_study(read_arms([str(run)], []), bootstrap=200)
    assert any("sums: a server withheld 5 replies, which count as wrong" in note for note in study.notes)
    assert any("sums: 12 attempts were not asked for, and do not count" in note for note in study.notes)
    assert study.figure("withheld").query("task == 'sums'")["value"].item() == 3
    withheld = [dict(zip(cost(study).columns, row, strict=True)) for row in cost(study).rows]
    assert {row["task"].text: row["withheld"].text for row in withheld}["sums"] == "3"
