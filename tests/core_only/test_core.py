"""The installed wheel without any extra: what it brings, that every command is there, and what works without a model in
this process. Commands are the console script's, away from the checkout."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import pytest
import typer
from fast_server import MODEL, FastServer
from packaging.requirements import Requirement
from typer.testing import CliRunner

import cipo_eval
from cipo_eval import errors
from cipo_eval.cli import app

MOST_PACKAGES = 45
"""That come with the package, besides itself."""
MOST_BYTES = 370 << 20
"""Of their files, without byte code; numpy, scipy, pandas, sympy and matplotlib are most of it."""
ABSENT = (
    "torch",
    "transformers",
    "datasets",
    "lm_eval",
    "accelerate",
    "tokenizers",
    "huggingface_hub",
    "pyarrow",
)
SCRIPT = Path(sys.executable).parent / "cipo-eval"

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    for name in ("CIPO_EVAL_DATA", "PYTHONPATH", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)

    def command(*words: str | Path, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done

    return command


def brought() -> set[str]:
    """Distributions that the core asks for, and those that they ask for."""
    found: set[str] = set()
    left = [("cipo-eval", frozenset[str]())]
    seen = set(left)
    while left:
        name, asked = left.pop()
        found.add(re.sub(r"[-_.]+", "-", name).lower())
        for line in metadata.requires(name) or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in (*asked, "")):
                needed = (requirement.name, frozenset(requirement.extras))
                if needed not in seen:
                    seen.add(needed)
                    left.append(needed)
    return found - {"cipo-eval"}


def test_the_installed_package_is_what_is_tested() -> None:
    checkout = Path(__file__).resolve().parents[2]
    assert not Path(cipo_eval.__file__).is_relative_to(checkout / "cipo_eval")


@pytest.mark.parametrize("package", ABSENT)
def test_nothing_heavy_is_here(package: str) -> None:
    assert importlib.util.find_spec(package) is None


def test_few_packages_come_with_it() -> None:
    assert len(brought()) <= MOST_PACKAGES, sorted(brought())


def test_they_are_not_large() -> None:
    files = [
        place
        for name in (*brought(), "cipo-eval")
        for file in metadata.files(name) or ()
        if file.suffix != ".pyc" and (place := Path(str(file.locate()))).is_file()
    ]
    assert sum(place.stat().st_size for place in files) <= MOST_BYTES


def commands() -> Iterator[list[str]]:
    """Every command and subcommand, as it is typed."""
    left: list[tuple[list[str], object]] = [([], typer.main.get_command(app))]
    while left:
        words, command = left.pop()
        yield words
        left += [([*words, name], inner) for name, inner in getattr(command, "commands", {}).items()]


def test_every_command_explains_itself(run: Run) -> None:
    assert "--help" in run("--help").stdout
    every = list(commands())
    assert len(every) > 20
    for words in every:
        shown = CliRunner().invoke(app, [*words, "--help"])
        assert shown.exit_code == 0, words
        assert "--help" in shown.stdout, words


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        (("run", "--model", "owner/model", "--tasks", "arithmetic"), "hf"),
        (("run", "--engine", "vllm", "--model", "owner/model", "--tasks", "arithmetic"), "vllm"),
        (("run", "--engine", "ray", "--model", "owner/model", "--tasks", "arithmetic"), "ray"),
        (("run", "--engine", "lm-eval:hf", "--model", "owner/model", "--tasks", "arithmetic"), "lm-eval"),
        (("data", "pull", "math500"), "data"),
        (("train", "grpo", "model=owner/model"), "train"),
        (("study", "claims"), "train"),
        (("demo",), "train"),
        (("report", "--gallery", "--model-card", "-o", "report"), "data"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_what_is_missing_is_named_with_its_command(
    run: Run, tmp_path: Path, words: tuple[str, ...], extra: str
) -> None:
    done = run(*words, code=3)
    assert done.stderr.count("\n") == 1
    assert f"pip install 'cipo-eval[{extra}]'" in done.stderr
    assert not (tmp_path / "runs").exists()


def test_the_doctor_knows_what_is_missing(run: Run) -> None:
    said = json.loads(run("doctor", "--json").stdout)["extras"]
    assert said.keys() == errors.EXTRAS.keys()
    assert not any(one["here"] for one in said.values())


def outputs(path: Path, wrong: int) -> Path:
    """Outputs for the first sums, of which every ``wrong``-th is wrong."""
    rows = [
        {"problem_id": problem.id, "sample": 0, "text": f"\\boxed{{{int(problem.gold) + (at % wrong == 0)}}}"}
        for at, problem in enumerate(cipo_eval.load_problems("arithmetic").problems[:20])
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_score_compare_and_report(run: Run, tmp_path: Path) -> None:
    for name, wrong in (("worse", 2), ("better", 5)):
        path = outputs(tmp_path / f"{name}.jsonl", wrong)
        run("score", path, "--task", "arithmetic", "--limit", "20", "-o", f"runs/{name}")
    compared = json.loads(run("compare", "runs/worse", "runs/better", "--json").stdout)
    (row,) = [row for row in compared[0]["rows"] if row["figure"] == "pass@1"]
    assert (row["first"], row["second"]) == (0.5, 0.8)
    run("report", "runs/worse", "runs/better", "-o", "report")
    made = {path.name for path in (tmp_path / "report").iterdir()}
    assert made >= {"report.html", "results.csv", "tables", "figures"}
    assert any((tmp_path / "report" / "figures").glob("*.pdf"))
    assert "80.0" in (tmp_path / "report" / "tables" / "main.md").read_text()


def test_programs_are_judged(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task with tests of docs/add-a-task.md: its reader, the sandbox, worker processes."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "add-a-task.md").read_text()
    section = page.partition("## A task with tests")[2]
    for name, text in re.findall(r"^`(\S+)`:\n\n```\w+\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        (tmp_path / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", ".")
    programs = {"square": "def square(x):\n    return x * x", "cube": "def cube(x):\n    return x * x"}
    rows = [
        {"problem_id": name, "sample": 0, "text": f"```python\n{code}\n```"}
        for name, code in programs.items()
    ]
    (tmp_path / "programs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("score", "programs.jsonl", "--task", "cipo_squares.yaml", "--json", "--allow-unsafe-code")
    assert json.loads(done.stdout)["tasks"]["squares"]["fixed"]["metrics"]["pass@1"]["value"] == 0.5


def test_a_server_is_asked(run: Run, tmp_path: Path) -> None:
    with FastServer() as server:
        words = ("--engine", "openai", "--base-url", server.url, "--model", MODEL)
        run("run", *words, "--tasks", "arithmetic", "--limit", "8", "--samples", "2", "-o", "runs/server")
        run("run", *words, "--tasks", "arithmetic", "--limit", "8", "--samples", "4", "-o", "runs/server")
    lines = (tmp_path / "runs" / "server" / "attempts" / "arithmetic.jsonl").read_text().splitlines()
    assert len(lines) == 32
    assert json.loads(run("status", "runs/server", "--json").stdout)
