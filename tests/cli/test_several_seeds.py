"""``run --seeds``: a run for each seed, as if each had been asked for alone, and their means as reports have them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Commands, attempts, results
from seeded_engine import sums, task_text

from cipo_eval import UsageError, evaluate

ENGINE = ("--engine", "seeded_engine:Seeded", "-m", "m", "--verifier-workers", "1", "--bootstrap", "100")


@pytest.fixture
def line(tmp_path: Path) -> tuple[str, ...]:
    """The command without its output."""
    (tmp_path / "adding.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(12)))
    task = tmp_path / "adding.yaml"
    task.write_text(task_text("adding"))
    return ("run", "-t", str(task), "--samples", "2", "--protocol", "direct,self", *ENGINE)


def same(first: Path, second: Path) -> bool:
    return attempts(first, "adding") == attempts(second, "adding") and results(first) == results(second)


@pytest.mark.slow
def test_each_seed_is_the_run_that_it_is_alone(cipo: Commands, tmp_path: Path, line: tuple[str, ...]) -> None:
    for seed in (0, 5):
        assert cipo(*line, "--seed", str(seed), "-q", "-o", tmp_path / f"alone-{seed}").code == 0
    assert cipo(*line, "--seeds", "5", "-q", "-o", tmp_path / "five").code == 0
    assert same(tmp_path / "five", tmp_path / "alone-5"), "one of them is as --seed"
    outcome = cipo(*line, "--seeds", "0,5", "--json", "-o", tmp_path / "both")
    assert outcome.code == 0, outcome.err
    assert not (tmp_path / "both").exists()
    folders = [tmp_path / "both.seed-0", tmp_path / "both.seed-5"]
    assert same(folders[0], tmp_path / "alone-0")
    assert same(folders[1], tmp_path / "alone-5")
    assert [json.loads((folder / "run.json").read_text())["seed"] for folder in folders] == [0, 5]
    told = outcome.json
    assert list(told["runs"].values()) == [
        json.loads((folder / "results.json").read_text()) for folder in folders
    ]
    of_both = [row for row in told["means"] if (row["protocol"], row["figure"]) == ("direct", "pass@1")]
    values = [run["tasks"]["adding"]["fixed"]["metrics"]["pass@1"]["value"] for run in told["runs"].values()]
    assert values[0] != values[1]
    assert of_both[0]["value"] == pytest.approx(sum(values) / 2)
    assert (of_both[0]["seeds"], of_both[0]["method"]) == (2, "seeds")
    report = ("report", "-g", f"both={tmp_path}/both.seed-*", "-q", "-o", tmp_path / "page")
    assert cipo(*report, "--bootstrap", "100").code == 0
    csv = (tmp_path / "page" / "results.csv").read_text()
    assert f"both,adding,direct,pass@1,,,{of_both[0]['value']}" in csv


@pytest.mark.slow
def test_the_same_command_goes_on_and_more_seeds_add(
    cipo: Commands, tmp_path: Path, line: tuple[str, ...]
) -> None:
    run = tmp_path / "run"
    assert cipo(*line, "--seeds", "1,2", "-q", "-o", run).code == 0
    whole = [attempts(tmp_path / f"run.seed-{seed}", "adding") for seed in (1, 2)]
    stored = tmp_path / "run.seed-2" / "attempts" / "adding.jsonl"
    lines = stored.read_text().splitlines(keepends=True)
    stored.write_text("".join(lines[:7]) + lines[7][:20])  # as a kill leaves it
    outcome = cipo(*line, "--seeds", "1,2,3", "-o", run)
    assert outcome.code == 0, outcome.err
    assert [attempts(tmp_path / f"run.seed-{seed}", "adding") for seed in (1, 2)] == whole
    assert (tmp_path / "run.seed-3" / "results.json").is_file()
    assert "±" in outcome.out, "means with the deviation between seeds"
    assert outcome.err.count("data: ") == 1, "the problems are read once"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--seed 1 --seeds 1,2", "--seed and --seeds"),
        ("--seeds 1,x", "whole numbers"),
        ("--seeds ,", "whole numbers"),
        ("seeds=1,2 --submit slurm --shards 2", "from the command line only: --seeds"),
    ],
)
def test_what_does_not_go_together_is_refused(
    cipo: Commands, line: tuple[str, ...], words: str, message: str
) -> None:
    outcome = cipo(*line, *words.split())
    assert outcome.code == 2
    assert message in outcome.err


def test_a_folder_of_another_run_is_told_before_the_first_seed_begins(
    cipo: Commands, tmp_path: Path, line: tuple[str, ...]
) -> None:
    (tmp_path / "run.seed-2").mkdir()
    (tmp_path / "run.seed-2" / "notes.txt").write_text("mine")
    outcome = cipo(*line, "--seeds", "1,2", "-o", tmp_path / "run")
    assert outcome.code == 2
    assert "not a run directory" in outcome.err
    assert not (tmp_path / "run.seed-1").exists()


def test_a_dry_run_and_python(cipo: Commands, tmp_path: Path, line: tuple[str, ...]) -> None:
    outcome = cipo(*line, "--seeds", "1,2", "--dry-run", "--json", "-o", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    assert [look["output"] for look in outcome.json] == [str(tmp_path / f"run.seed-{s}") for s in (1, 2)]
    with pytest.raises(UsageError, match="one run"):
        evaluate(model="m", tasks="arithmetic", seeds=[1, 2])
