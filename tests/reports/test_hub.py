"""Reports on the hub: nothing leaves unasked, a dry run lists it, and a loopback hub gets page and runs as they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hub_server import Hub

from cipo_reports.hub import prepared

STORED = Path(__file__).parents[1] / "stored_0_1_0"


@pytest.fixture(scope="module")
def run() -> Path:
    return next(path.parent for path in sorted(STORED.rglob("results.json")))


def report(run: Path, folder: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_HOME": str(folder / "hf"), **variables}
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if name not in variables:
            environment.pop(name, None)
    command = [
        sys.executable,
        "-m",
        "cipo_eval",
        "report",
        f"A={run}",
        "-o",
        str(folder / "report"),
        *options,
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_page_and_runs_on_a_hub(run: Path, tmp_path: Path) -> None:
    with Hub() as hub:
        names = ("--push-space", "me/page", "--push-dataset", "me/runs")
        dry = report(run, tmp_path, *names, "--dry-run", HF_ENDPOINT=hub.url)
        assert dry.returncode == 0, dry.stderr
        assert "would upload to space me/page: index.html" in dry.stdout
        assert "would upload to dataset me/runs: A/results.json" in dry.stdout
        assert not hub.requests
        done = report(run, tmp_path, *names, "--private", "--json", HF_ENDPOINT=hub.url, HF_TOKEN="hf_right")
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["pushed"] == [
            f"{hub.url}/spaces/me/page",
            f"{hub.url}/datasets/me/runs",
        ]
        space, dataset = hub.uploaded["spaces/me/page"], hub.uploaded["datasets/me/runs"]
        assert space["index.html"] == (tmp_path / "report" / "report.html").read_bytes()
        assert b"\nsdk: static\n" in space["README.md"]
        assert hub.created["spaces/me/page"]["sdk"] == "static"
        asked = hub.created["datasets/me/runs"]
        assert asked.get("private") or asked.get("visibility") == "private"
        assert dataset["A/results.json"] == (run / "results.json").read_bytes()
        assert any(name.startswith("A/attempts/") for name in dataset)


REFUSED = """
import sys
from pathlib import Path
from cipo_eval.errors import CipoError
from cipo_reports import hub
assert hub.pushed([], private=False, dry_run=False, say=print) == []
try:
    hub.pushed([hub.Upload("space", "me/page", Path(sys.argv[1]))], private=False, dry_run=False, say=print)
except CipoError as error:
    print(error)
"""


def test_a_refusal_is_said(tmp_path: Path) -> None:
    with Hub() as hub:
        (tmp_path / "index.html").write_text("x")
        environment = {**os.environ, "HF_HUB_OFFLINE": "0", "HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_wrong"}
        command = [sys.executable, "-c", REFUSED, str(tmp_path)]
        told = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert "uploading to the space me/page: " in told.stdout
        assert not hub.uploaded


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--push-space", "me/page"], "hf auth login"),
        (["--push-dataset", "x"], "USER/NAME"),
        (["--dry-run"], "--push-space"),
    ],
)
def test_refused_before_anything_is_written(run: Path, tmp_path: Path, options: list[str], said: str) -> None:
    told = report(run, tmp_path, *options)
    assert told.returncode == 2
    assert said in told.stderr
    assert not (tmp_path / "report").exists()


def test_a_method_s_name_leads_nowhere_else(run: Path, tmp_path: Path) -> None:
    """Each run has a folder of its own within the upload."""
    names = ["../../out", "/etc/x", "a/b", "a b", "A", "..", "a-b"]
    arms = [SimpleNamespace(name=name, runs=[SimpleNamespace(path=run)]) for name in names]
    place = tmp_path / "upload"
    place.mkdir()
    study: Any = SimpleNamespace(arms=arms)
    [upload] = prepared(place, study, run / "results.json", "title", space=None, dataset="me/runs")
    kept = [path.relative_to(upload.folder) for path in upload.files if path.name == "results.json"]
    assert len(kept) == len(names)
    assert all(len(path.parts) == 2 for path in kept)
    assert {path.name for path in tmp_path.iterdir()} == {"upload"}
