"""What version 0.1.0 wrote still reads: runs, scored files, a study, its tasks and its trainings' configurations.

``stored_0_1_0`` was made by that version: ``weak`` and ``strong`` by ``run`` on a loopback server, ``scored`` and
``corrected`` by ``score`` of the two files beside them, ``study`` by ``study`` (weights and logs left out).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns
from model_server import ModelServer, ended

from cipo_eval.data.readers import ReadProblem, reader
from cipo_eval.data.tasks import load_problems, task_names
from cipo_eval.settings import merged
from cipo_trainer.config import Config
from cipo_trainer.study.grid import read_study_config, shipped_studies

STORED = Path(__file__).parent / "stored_0_1_0"
TRAININGS = sorted(STORED.glob("study/*/seed-0/*/train/train.json"))
RUNS = ("weak", "strong", "scored", "corrected")


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A copy that commands may write to."""
    return Path(shutil.copytree(STORED, tmp_path / "stored"))


def figures(run: Path) -> dict[str, Any]:
    """A run's figures, times aside."""
    tasks: dict[str, Any] = json.loads((run / "results.json").read_text())["tasks"]
    for task in tasks.values():
        for block in task.values():
            if isinstance(block, dict):
                block.pop("seconds", None)
    return tasks


@pytest.mark.parametrize("name", RUNS)
def test_a_run_judged_again_has_its_figures_and_verdicts(cipo: Commands, stored: Path, name: str) -> None:
    done = cipo("rescore", stored / name, "--quiet")
    assert done.code == 0, done.err
    assert figures(stored / name) == figures(STORED / name)
    assert turns(stored / name, "arithmetic") == turns(STORED / name, "arithmetic")


def test_a_users_own_figure_is_made_of_stored_attempts(
    cipo: Commands, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beside those that the run had, which stay as they were."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[1] / "examples")
    done = cipo("rescore", stored / "weak", "--quiet", "--figures", "figure:CHANGED")
    assert done.code == 0, done.err
    block = figures(stored / "weak")["arithmetic"]["protocols"]["oracle"]["fixed"]
    assert 0 <= block["figures"].pop("changed")["value"] <= 1
    assert not block.pop("figures")
    assert block == figures(STORED / "weak")["arithmetic"]["protocols"]["oracle"]["fixed"]


def test_two_runs_compare_as_they_did(cipo: Commands) -> None:
    """Beside figures that were not compared then."""
    done = cipo("compare", STORED / "weak", STORED / "strong", "--mode", "fixed", "--json")
    assert done.code == 0, done.err
    now, then = done.json[0], json.loads((STORED / "compare.json").read_text())[0]
    of_turns = ("Δ(t1,t2)", "rss", "seq@1 gain")
    new = {f"{protocol} {figure}" for protocol in ("self", "oracle") for figure in of_turns} | {"maj@2"}
    assert [row for row in now["rows"] if row["figure"] not in new] == then["rows"]
    assert new <= {row["figure"] for row in now["rows"]}
    assert now["notes"] == then["notes"]


def test_a_run_is_shown(cipo: Commands) -> None:
    listed = cipo("show", STORED / "weak", "--transition", "w->r")
    assert listed.code == 0, listed.err
    assert "add1-001 oracle sample 0: w→r  15 → 6" in listed.out
    whole = cipo("show", STORED / "weak", "--problem", "add1-001")
    assert whole.out.count("The answer is \\boxed{14}.") >= 2
    assert cipo("show", STORED / "study" / "programs" / "seed-0" / "grpo" / "run-t1").code == 0


def run_again(cipo: Commands, folder: Path, limit: int) -> list[Any]:
    """The command that made ``weak``, for so many problems; gives what the server was asked."""
    with ModelServer(name="weak", rule=lambda _: ended(text="\\boxed{0}")) as server:
        where = ("--engine", "openai", "--model", "weak", "--base-url", server.url, "-o", folder)
        asked = (
            "--tasks",
            "arithmetic",
            "--samples",
            "2",
            "--seed",
            "1",
            "--temperature",
            "1",
            "--mode",
            "both",
        )
        done = cipo("run", *where, *asked, "--limit", str(limit), "--protocol", "self,oracle", "--quiet")
        assert done.code == 0, done.err
        return server.bodies


def test_a_run_goes_on_where_it_stood(cipo: Commands, stored: Path) -> None:
    before = turns(stored / "weak", "arithmetic")
    assert run_again(cipo, stored / "weak", 3) == []
    assert turns(stored / "weak", "arithmetic") == before
    run_again(cipo, stored / "weak", 4)
    after = turns(stored / "weak", "arithmetic")
    assert {key: after[key] for key in before} == before
    added = {key[0] for key in after.keys() - before.keys()}
    assert len(added) == 1, "only the fourth problem's attempts are new"


@pytest.mark.parametrize(
    ("name", "flags"), [("scored", ()), ("corrected", ("--attempts-from", STORED / "corrections.jsonl"))]
)
def test_a_scored_file_is_known(cipo: Commands, stored: Path, name: str, flags: tuple[Any, ...]) -> None:
    file = STORED / ("outputs.jsonl" if name == "scored" else "corrections.jsonl")
    lines = (stored / name / "attempts" / "arithmetic.jsonl").read_text()
    done = cipo("score", file, "--task", "arithmetic", *flags, "-o", stored / name, "--quiet")
    assert done.code == 0, done.err
    assert (stored / name / "attempts" / "arithmetic.jsonl").read_text() == lines, "nothing is judged twice"
    assert figures(stored / name) == figures(STORED / name)


def test_a_study_that_was_done_is_done(cipo: Commands, stored: Path) -> None:
    """The identity of each job is computed anew from the study's file: a new default of a setting must keep it."""
    study = stored / "study"
    listed = cipo("study", study / "study.yaml", "-o", study, "--list")
    assert listed.code == 0, listed.err
    rows = [line for line in listed.out.splitlines() if "seed-0" in line]
    assert len(rows) == 6
    assert all(row.split()[0] == "done" for row in rows)


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
def test_a_run_and_its_training_are_reported(cipo: Commands, tmp_path: Path) -> None:
    arm = STORED / "study" / "chains" / "seed-0" / "grpo"
    done = cipo("report", arm / "run-t1", arm / "train", "-o", tmp_path / "report", "--quiet")
    assert done.code == 0, done.err
    written = {path.name for path in (tmp_path / "report").iterdir()}
    assert {"report.html", "results.csv", "training.csv"} <= written


@pytest.mark.parametrize("family", ["chains", "programs"])
def test_a_studys_tasks_have_their_problems(family: str) -> None:
    """``programs`` names a reader where 0.1.0 had it: ``cipo_trainer.programs:read``."""
    found = load_problems(STORED / "study" / "tasks" / family / f"cipo_{family}.yaml")
    assert len(found.problems) == 4
    stored = (STORED / "study" / family / "seed-0" / "grpo" / "run-t1" / "run.json").read_text()
    assert json.loads(stored)["tasks"][family]["data"] == found.fingerprint


@pytest.mark.parametrize(
    "name",
    [
        "criticbench:read",
        "debugbench:read",
        "mbpp:read_plus",
        "mbpp:read_classic",
        "livecodebench:read",
        "humaneval:read",
        "leetcode_train:read",
    ],
)
def test_readers_are_found_under_their_old_names(name: str) -> None:
    module, function = name.split(":")
    found = reader(f"cipo_eval.readers.{name}")
    assert (found.__module__, found.__name__) == (f"cipo_eval.data.readers.{module}", function)
    assert found.__annotations__["return"] in (ReadProblem, "ReadProblem")


@pytest.mark.parametrize("path", TRAININGS, ids=lambda path: "-".join(path.parts[-5:-2]))
def test_a_trainings_configuration_is_valid(path: Path) -> None:
    """And says what it said; what is new has its default."""
    stored = json.loads(path.read_text())["config"]
    now = Config.model_validate(stored).plain()
    assert merged(now, stored) == now


def test_what_is_shipped_is_read() -> None:
    """Presets and definitions of 0.1.0 are those that are shipped."""
    assert {"arithmetic", "programs", "math500", "livecodebench"} <= set(task_names())
    for path in shipped_studies().values():
        assert read_study_config(path).arms
