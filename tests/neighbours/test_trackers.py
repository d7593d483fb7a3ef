"""Each tracker for real, offline: an evaluation and its report logged, and read back with the tracker's own reader."""

from __future__ import annotations

import json
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


def trained(folder: Path, tracker: str) -> None:
    """What a training logs that was broken off after its third step and goes on from its second, in other processes."""
    code = (
        "import sys; from pathlib import Path;"
        "from cipo_trainer.logs import Log; from cipo_trainer.presets import build;"
        "folder, tracker, first, last = Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:]);"
        "on = True if tracker == 'tensorboard' else 'mine';"
        "log = Log(folder, build({'output': str(folder), 'log': {tracker: on}}), first);"
        "[log.write(step, 'train', {'loss': 1 / step}) for step in range(first + 1, last + 1)]; log.close()"
    )
    for first, last in ((0, 3), (2, 5)):
        command = [sys.executable, "-c", code, str(folder), tracker, str(first), str(last)]
        subprocess.run(command, check=True, env=os.environ)


STEPS = [(step, pytest.approx(1 / step)) for step in range(1, 6)]


def test_a_training_that_goes_on_is_one_run_of_mlflow(offline: Path) -> None:
    import mlflow

    trained(offline, "mlflow")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("mine").experiment_id])
    history = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in history] == STEPS
    assert run.info.status == "FINISHED"


def test_a_training_that_goes_on_has_no_step_twice_in_tensorboard(offline: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(offline, "tensorboard")
    events = EventAccumulator(str(offline / "tensorboard"))
    events.Reload()
    assert [(point.step, point.value) for point in events.Scalars("train/loss")] == STEPS


def test_a_training_that_goes_on_is_one_run_of_wandb(offline: Path) -> None:
    """Offline each process has a folder; ``wandb sync`` puts those of one id into one run."""
    trained(offline, "wandb")
    idents = {run.name.rpartition("-")[2] for run in (offline / "wandb").glob("offline-run-*")}
    assert idents == set(json.loads((offline / "trackers.json").read_text()).values())
    assert len(idents) == 1


def test_a_training_that_goes_on_is_one_run_of_trackio(offline: Path) -> None:
    trained(offline, "trackio")
    (database,) = (offline / "trackio").glob("mine*.db")
    with sqlite3.connect(database) as connection:
        rows = list(connection.execute("select run_name, step, metrics from metrics order by step"))
    assert {name for name, _, _ in rows} == {offline.name}
    assert [(step, json.loads(metrics)["train/loss"]) for _, step, metrics in rows] == STEPS
