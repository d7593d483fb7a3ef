"""``cipo-eval tasks`` and ``cipo-eval data``: output, exit codes, speed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cipo_eval.cli import main
from cipo_eval.data import tasks
from cipo_eval.data.dates import span

NAMES = ["math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench"]
NAMES += ["mbpp", "mbpp_classic", "livecodebench", "debugbench"]


@pytest.fixture(autouse=True)
def _nothing_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIPO_EVAL_DATA", raising=False)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))


def call(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_tasks_says_where_data_is_or_how_to_get_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "--json") == 0
    entries = {entry["task"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert set(entries) == set(tasks.task_names())
    assert all(len(entry["groups"]) == 1 for entry in entries.values())
    for name in NAMES:
        assert entries[name]["data"] is None
        assert entries[name]["get"] == f"cipo-eval data pull {name}"
    assert entries["arithmetic"]["data"] == "embedded"
    assert entries["humaneval"]["data"] == "package"
    assert entries["humaneval"]["companions"] == {"plus": None}
    assert entries["humaneval"]["get"] == "cipo-eval data pull humaneval"
    assert call("tasks") == 0
    text = capsys.readouterr().out
    assert "without plus" in " ".join(text.split())
    assert all(name in text for name in tasks.task_names())
    assert "cipo-eval data pull" in text
    for group, names in tasks.GROUPS.items():
        assert f"{group}: {', '.join(names)}" in " ".join(text.split())


def test_tasks_sees_the_mirror(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "--json", "--data-dir", str(real_data)) == 0
    entries = {entry["task"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {entries[name]["data"] for name in NAMES} == {"mirror"}
    assert entries["humaneval"]["companions"] == {"plus": "mirror"}


def test_every_published_task_has_a_date(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("tasks", "--json") == 0
    entries = {entry["task"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert {name for name, entry in entries.items() if not entry["released"]} == set(tasks.GROUPS["made"])
    assert entries["gsm8k"]["released"] == "2021-10-27"
    assert all(span(entry["released"]).first.year > 2016 for entry in entries.values() if entry["released"])
    call("tasks")
    assert "released" in capsys.readouterr().out


@pytest.mark.exhaustive
@pytest.mark.usefixtures("code_cache")
def test_check_of_the_real_data(real_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that is there is as it should be; the data of CriticBench, BeyondAIME and GPQA is not."""
    assert call("data", "check", "all", "--data-dir", str(real_data), "--json") == 3
    found = json.loads(capsys.readouterr().out)
    absent = dict.fromkeys(("criticbench", "beyondaime", "realcritic_gpqa"), "missing")
    expected = dict.fromkeys(tasks.task_names(), "ok") | absent
    assert {entry["task"]: entry["status"] for entry in found} == expected


def test_check_without_data_exits_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "check", "math500,aime24") == 3
    assert "cipo-eval data pull math500" in capsys.readouterr().err


def test_check_of_changed_data_exits_1(
    real_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mirror = tmp_path / "mirror"
    shutil.copytree(real_data / "aime24", mirror / "aime24", copy_function=shutil.copyfile)
    mirror.chmod(0o755)
    (mirror / "aime24").chmod(0o755)
    path = mirror / "aime24/test.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    row = json.loads(lines[3])
    path.write_text("".join([*lines[:3], json.dumps({**row, "answer": "1"}) + "\n", *lines[4:]]))
    assert call("data", "check", "aime24", "--data-dir", str(mirror)) == 1
    assert "not the reference" in " ".join(capsys.readouterr().err.split())
    path.write_text("".join(lines[:-1]))
    assert call("data", "check", "aime24", "--data-dir", str(mirror)) == 1
    assert "29 rows instead of 30" in " ".join(capsys.readouterr().err.split())
    path.write_text("".join(lines)[:-50])
    assert call("data", "check", "aime24,math500", "--data-dir", str(mirror)) == 1


def test_wrong_usage_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("data", "check", "aime23") == 2
    assert "aime24" in capsys.readouterr().err
    assert call("tasks", "--data-dir", str(tmp_path / "nowhere")) == 2
    assert call("data", "pull") == 2


def test_pull_offline_exits_3_and_embedded_needs_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert call("data", "pull", "math500") == 3
    assert "HF_HUB_OFFLINE" in capsys.readouterr().err
    assert call("data", "pull", "arithmetic") == 0
    capsys.readouterr()
    assert call("data", "pull", "realcritic_math") == 3
    assert "is not pulled from the hub: put its file in place" in capsys.readouterr().err
    assert call("data", "pull", "gsm8k") == 3
    assert "(train/gsm8k_test.jsonl or gsm8k/test.jsonl)" in " ".join(capsys.readouterr().err.split())
    assert call("data", "pull", "all", "--json") == 3
    captured = capsys.readouterr()
    assert {entry["task"] for entry in json.loads(captured.out)} == set(tasks.task_names())
    assert "not pulled" in captured.err


def test_the_table_imports_nothing_heavy() -> None:
    """What takes seconds to import is imported where it is needed."""
    program = (
        "import sys; from cipo_eval.cli import main\n"
        "try: main(['tasks'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'transformers', 'lm_eval', 'datasets', 'scipy', 'sympy'} & set(sys.modules)),"
        " file=sys.stderr)"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stderr.splitlines()[-1] == "[]"
