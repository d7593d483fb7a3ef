"""Each tracker for real, offline: an evaluation and its report logged, and read back with the tracker's own reader."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cipo_eval import tracking

NUMBERS = {"math500/fixed/pass@1": 0.5, "math500/fixed/pass@1_low": 0.25}


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path / 'mlruns'}")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    return tmp_path


def logged(tracker: str, folder: Path) -> None:
    page = folder / "report.html"
    page.write_text("<html></html>")
    told = tracking.record([f"{tracker}:mine"], "a run", folder, {"request": {"samples": 8}}, NUMBERS, [page])
    assert told == []


def test_wandb(offline: Path) -> None:
    logged("wandb", offline)
    (run,) = (offline / "wandb").glob("offline-run-*")
    (stored,) = run.glob("*.wandb")
    deadline = time.monotonic() + 60
    while (content := stored.read_bytes()).count(b"pass@1") < 2 and time.monotonic() < deadline:
        time.sleep(0.1)  # its service writes the file
    assert b"math500/fixed/pass@1" in content
    assert b"samples" in content


def test_trackio(offline: Path) -> None:
    """In a process of its own: it reads where its files go when it is imported."""
    code = (
        "from pathlib import Path; import sys; sys.path.insert(0, sys.argv[2]); "
        "import test_trackers as t; t.logged('trackio', Path(sys.argv[1]))"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(offline), str(Path(__file__).parent)], check=True, env=os.environ
    )
    (database,) = (offline / "trackio").glob("mine*.db")
    with sqlite3.connect(database) as connection:
        rows = [str(row) for row in connection.execute("select * from metrics")]
    assert any("math500/fixed/pass@1" in row and "0.5" in row for row in rows)


def test_tensorboard(offline: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logged("tensorboard", offline)
    events = EventAccumulator(str(offline / "tensorboard"))
    events.Reload()
    assert {tag: events.Scalars(tag)[0].value for tag in events.Tags()["scalars"]} == NUMBERS
    assert events.Scalars("math500/fixed/pass@1")[0].step == 0
    text = events.Tensors("config")[0].tensor_proto.string_val[0]
    assert b'"samples": 8' in text


def test_mlflow(offline: Path) -> None:
    import mlflow

    logged("mlflow", offline)
    client = mlflow.MlflowClient()
    experiment = client.get_experiment_by_name("mine")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "a run"
    assert run.info.status == "FINISHED"
    assert run.data.metrics == {"math500/fixed/pass_1": 0.5, "math500/fixed/pass_1_low": 0.25}
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {"config.json", "report.html"}
