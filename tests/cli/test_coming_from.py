"""Every line of docs/coming-from.md that can run on this machine is run: on a tiny model, a problem or two, few tokens.

What is typed stays as it is, but for a server's address and a GPU's name; what only makes it short is put behind it.
Lines that need a package that is not here are skipped, and say which.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Commands
from model_server import ModelServer

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "coming-from.md"
ROWS = [row for row in PAGE.read_text().splitlines() if row.startswith("|")]
LINES = list(dict.fromkeys(line for row in ROWS for line in re.findall(r"`cipo-eval ([^`]+)`", row)))
NEEDS = {
    "vllm": "vllm",
    "mamba_ssm": "mamba_ssm",
    "--track wandb": "wandb",
    "--to inspect": "inspect_ai",
    "log.eval": "inspect_ai",
}
"""Python packages, by what a line names."""
ADDRESS, GPU = "http://127.0.0.1:8000/v1", "cuda:0"
SHORT = {
    "run": "--limit 1 --max-tokens 4 --bootstrap 100 --verifier-workers 1",
    "score": "--bootstrap 100 --verifier-workers 1",
    "rescore": "--bootstrap 100 --verifier-workers 1",
    "report": "--bootstrap 100",
    "train": "eval.tasks=[] steps=1 rollout.problems=2 rollout.samples=2 model=new:arithmetic",
}


@pytest.fixture(scope="module")
def made(once: Callable[[str, Callable[[Path], object]], Path], real_data: Path) -> Path:
    """What the lines name: a model, a base with an adapter, a run, files of answers, a training."""
    from tiny import make_adapter, make_checkpoint

    from cipo_eval import evaluate
    from cipo_eval.export.formats import export
    from cipo_trainer import training

    def make(folder: Path) -> None:
        make_checkpoint(folder / "M", context=16384)
        shutil.copytree(folder / "M", folder / "BASE")
        shutil.copytree(folder / "M", folder / "outputs" / "checkpoint-100")
        make_adapter(folder / "BASE", folder / "LORA")
        run = {"model": folder / "M", "data_dir": real_data, "limit": 2, "max_tokens": 4, "bootstrap": 100}
        evaluate(**run, tasks="aime24", output=folder / "runs" / "M")
        evaluate(**run, tasks="math500", output=folder / "other")
        export(folder / "other", "lm-eval", folder / "exported", data_dir=real_data)
        [samples] = (folder / "exported").rglob("samples_*.jsonl")
        shutil.copy(samples, folder / "samples_math_2026.jsonl")
        rows = [
            json.loads(line) for line in (folder / "other/attempts/math500.jsonl").read_text().splitlines()
        ]
        lines = [json.dumps({"id": row["problem"], "completion": row["text"]}) + "\n" for row in rows]
        (folder / "generated.jsonl").write_text("".join(lines))
        (folder / "sft.yaml").write_text("algorithm: sft\ndata: {generator: arithmetic}\noutput: runs/mine\n")
        if importlib.util.find_spec("inspect_ai"):
            export(folder / "runs" / "M", "inspect", folder / "logs", data_dir=real_data)
            shutil.copy(next((folder / "logs").rglob("*.eval")), folder / "log.eval")
        asked = training.configured("sft", [f"output={folder}/runs/sft", *SHORT["train"].split()], None)
        training.train(asked)

    return once("coming_from", make)


@pytest.mark.parametrize("line", LINES)
def test_a_line_runs(
    cipo: Commands,
    tmp_path: Path,
    made: Path,
    real_data: Path,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
) -> None:
    for word, package in NEEDS.items():
        if word in line and importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}, which is not installed")
    monkeypatch.setenv("CIPO_EVAL_DATA", str(real_data))
    monkeypatch.setenv("WANDB_MODE", "offline")
    command, *words = shlex.split(line)
    for path in made.iterdir():
        if path.name not in ("runs", "other", "exported", "logs"):
            (tmp_path / path.name).symlink_to(path)
    if command != "run" and not any(word.startswith("output=runs/sft") for word in words):
        shutil.copytree(made / "runs", tmp_path / "runs")
    if "--print-config" not in words:
        words += SHORT.get(command, "").split()
    with ModelServer(name="M") as server:
        outcome = cipo(command, *(word.replace(ADDRESS, server.url).replace(GPU, "cpu") for word in words))
    assert outcome.code == 0, outcome.err
    assert "Traceback" not in outcome.err


def test_most_lines_are_run() -> None:
    """What cannot run here is the exception, and each of its reasons is still one."""
    left_out = [line for line in LINES if any(word in line for word in NEEDS)]
    assert len(left_out) < len(LINES) / 4
    assert all(any(word in line for line in LINES) for word in NEEDS)
