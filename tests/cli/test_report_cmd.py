"""``cipo-eval report`` on real outputs and on what goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import Commands
from made_runs import make_run

from cipo_reports import synthetic
from cipo_reports.synthetic import make_study

SMALL = {"seeds": 2, "problems": 12, "samples": 4}


def test_without_runs_it_says_what_it_needs(cipo: Commands) -> None:
    nothing = cipo("report")
    assert nothing.code == 2
    assert "needs run directories" in nothing.err
    assert cipo("report", "nowhere").code == 2
    assert cipo("report", "--gallery", "nowhere").code == 2


def test_it_writes_over_its_own_report_and_nothing_else(cipo: Commands, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    refused = cipo("report", "--gallery", "-o", tmp_path / "mine")
    assert refused.code == 2
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_the_gallery_shows_everything(
    cipo: Commands,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    some_figures: None,  # noqa: ARG001
    request: pytest.FixtureRequest,
) -> None:
    """Of the study that it makes up, or of a smaller one of the same kind, of which ``test_page`` has a whole report;
    in a folder in which a report was interrupted: it is written again."""
    if "some" in request.node.name:
        monkeypatch.setattr(synthetic, "make_study", lambda folder, **_: make_study(folder, **SMALL))
    out = tmp_path / "out"
    (out / "tables").mkdir(parents=True)
    (out / "tables" / "main.tex").write_text("half a ta")
    stale = out / "tables" / "category-gone.tex"
    stale.write_text("of an earlier report")
    (out / "results.csv").write_text("")
    found = cipo("report", "--gallery", "-o", out, "--json", "--published", "--model-card").json
    assert found["baseline"] == "warm start"
    assert (out / "report.html").exists()
    assert (out / "tables" / "main.tex").read_text().endswith("\\end{table*}\n")
    assert not stale.exists()
    for name in found["tables"]:
        for suffix in ("tex", "md", "csv", "html"):
            assert (out / "tables" / f"{name}.{suffix}").stat().st_size > 50
    for name in found["figures"]:
        for suffix in ("png", "pdf", "svg"):
            assert (out / "figures" / f"{name}.{suffix}").stat().st_size > 2000
    for name in ("results", "differences", "budget", "training"):
        frame, text = pd.read_parquet(out / f"{name}.parquet"), pd.read_csv(out / f"{name}.csv")
        assert len(frame) == len(text) > 10
        assert list(frame.columns) == list(text.columns)


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
def test_real_outputs_of_three_models(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    """The issue's own acceptance: runs made by ``score``, one command, numbers as in results.json."""
    have = {
        "Qwen2.5-Math-7B": ("aime24", "amc23", "math500", "minerva_math"),
        "Qwen2.5-14B-Instruct": ("aime24", "amc23", "math500", "minerva_math"),
        "Llama-3.1-8B": ("aime24", "amc23"),
    }
    runs: dict[tuple[str, str], Path] = {}
    for model, names in have.items():
        for name in names:
            task = name.removesuffix("_math")
            runs[model, task] = tmp_path / "runs" / f"{model}-{task}"
            done = cipo(
                "score", real_data / "model_outputs" / "math" / f"{model}__{name}.jsonl.gz", "--task", task,
                "--data-dir", real_data, "--limit", "130", "-o", runs[model, task], "--quiet",
            )  # fmt: skip
            assert done.code == 0, done.err
    groups = [f"{model}={tmp_path}/runs/{model}-*" for model in have]
    done = cipo(
        "report", "--groups", *groups, "-o", tmp_path / "out", "--published", "--model-card", "--json"
    )
    assert done.code == 0, done.err
    assert done.json["attempts"] == 2 * (30 + 40 + 130 + 130) + 30 + 40
    frame = pd.read_parquet(tmp_path / "out" / "results.parquet")
    whole = frame[(frame["column"] == "") & (frame["figure"] == "pass@1")]
    for (model, task), run in runs.items():
        block = json.loads((run / "results.json").read_text())["tasks"][task]["fixed"]
        row = whole[(whole["arm"] == model) & (whole["task"] == task)]
        assert row["value"].item() == block["metrics"]["pass@1"]["value"]
        assert [row["low"].item(), row["high"].item()] == block["metrics"]["pass@1"]["ci"]
    table = pd.read_csv(tmp_path / "out" / "tables" / "main.csv")
    assert list(table["method"])[:3] == list(have)
    assert "Qwen3-4B + CIPO†" in set(table["method"])
    card = (tmp_path / "out" / "model-cards" / "Qwen2.5-14B-Instruct.md").read_text()
    (index,) = yaml.safe_load(card.strip("-\n"))["model-index"]
    shown = {entry["dataset"]["name"]: entry["metrics"][0] for entry in index["results"]}
    assert shown["amc23"]["type"] == "pass@1"
    assert shown["amc23"]["value"] == 65.0
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Average: of the tasks that all methods have, without math500, minerva." in page


def test_runs_with_failed_verifiers_or_of_two_modes_say_so(cipo: Commands, tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", {"p": ["r", "w"]})
    missing = cipo("report", run, "-o", tmp_path / "out")
    assert missing.code == 2
    assert "no results that can be read" in missing.err
    assert not (tmp_path / "out").exists()
    assert cipo("report", run, "--mode", "both").code == 2
    assert "rescore" in cipo("report", run, "--mode", "paper", "-o", tmp_path / "out").err


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures", "code_cache")
def test_corrections_of_others_and_programs(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    """Runs without first attempts of their own, and results in parts."""
    outputs = real_data / "model_outputs"
    given = (
        "--task",
        "realcritic_math",
        "--protocol",
        "given",
        "--data-dir",
        real_data,
        "--limit",
        "30",
        "--quiet",
    )
    files = {
        n: outputs / "self_correction" / f"realcritic_o1-mini_math_{n}.jsonl.gz" for n in ("half", "self")
    }
    for name, more in (("half", ()), ("self", ("--attempts-from", files["self"]))):
        scored = cipo("score", files[name], *given, *more, "--allow-unmatched", "-o", tmp_path / name)
        assert scored.code == 0, scored.err
    refused = cipo("report", tmp_path / "half", tmp_path / "self", "-o", tmp_path / "out")
    assert refused.code == 2
    assert "pool" in refused.err
    assert not (tmp_path / "out").exists()
    done = cipo("report", tmp_path / "half", tmp_path / "self", "-o", tmp_path / "out", "--force", "--json")
    assert done.code == 0, done.err
    assert "transitions-given" in done.json["figures"]
    main = pd.read_csv(tmp_path / "out" / "tables" / "main.csv")
    block = json.loads((tmp_path / "half" / "results.json").read_text())["tasks"]["realcritic_math"]
    block = block["protocols"]["given"]["fixed"]
    assert main["realcritic_math acc@t2 (value)"][0] == block["by_turn"]["acc@t2"]["value"]
    file = outputs / "code" / "Meta-Llama-3-8B-Instruct__humaneval.jsonl.gz"
    score = cipo(
        "score",
        file,
        "--task",
        "humaneval",
        "--data-dir",
        real_data,
        "-o",
        tmp_path / "code",
        "--limit",
        "10",
    )
    assert score.code == 0, score.err
    done = cipo("report", tmp_path / "code", "-o", tmp_path / "programs", "--json")
    assert done.code == 0, done.err
    assert "category-humaneval-part" in done.json["tables"]
    assert done.json["baseline"] is None


def test_trackers_are_looked_at_before_runs_are_read(cipo: Commands) -> None:
    refused = cipo("report", "nowhere", "--track", "tensorboad:mine")
    assert refused.code == 2
    assert "--track tensorboad:mine: did you mean tensorboard" in refused.err
