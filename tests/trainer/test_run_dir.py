"""A training's folder from Python: one writer, the same run or none, and folders that version 0.1.0 made."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made import bandit, write_rows
from safetensors.torch import load_file

import cipo_trainer
from cipo_eval.errors import MissingError, UsageError
from cipo_trainer.config import Config
from cipo_trainer.logs import read
from cipo_trainer.loop import Trainer
from cipo_trainer.presets import load
from cipo_trainer.run_dir import held
from cipo_trainer.sections import config_dir

STORED = Path(__file__).parent / "stored_0_1_0"
"""Folders that ``cipo-eval train`` of version 0.1.0 wrote: two steps of chains_sft, and the record of chains_cipo."""
SHAPE = "shape={layers: 1, hidden: 8, inner: 8, heads: 1}"


def short(folder: Path, **more: Any) -> Config:
    return bandit(folder, "sft", **{"steps": 1, **more})


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    config = short(tmp_path)
    with Trainer(config), pytest.raises(UsageError, match="another process trains in"):
        cipo_trainer.train(config)
    other = (  # in a process of its own, whose lock ours must respect
        "import sys; from cipo_trainer.presets import load; from cipo_trainer.run_dir import held\n"
        f"with held(load('sft', ['output={config.output}'])): print('held', flush=True); sys.stdin.read()"
    )
    shutil.rmtree(config.output)
    process = subprocess.Popen(
        [sys.executable, "-c", other], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(UsageError, match="another process trains in"):
        cipo_trainer.train(config)
    process.communicate()
    assert cipo_trainer.train(config).steps == 1


def test_a_run_goes_on_or_is_refused(tmp_path: Path) -> None:
    """Python sees what the command line sees."""
    said: list[str] = []
    seen: list[int] = []
    outcome = cipo_trainer.train(short(tmp_path), lambda step, _: seen.append(step), said.append)
    assert (outcome.steps, outcome.checkpoint.name, outcome.exit_code) == (1, "step-000001", 0)
    again = short(tmp_path, steps=3)
    assert cipo_trainer.train(again, lambda step, _: seen.append(step), said.append).steps == 3
    assert seen == [1, 2, 3]
    assert said == ["going on after step 1 of 3"]
    assert [row["step"] for row in read(again.output / "log.jsonl")] == [1, 2, 3]
    with pytest.raises(UsageError, match="holds a run already"):
        cipo_trainer.train(again, resume=False)
    with pytest.raises(UsageError, match=r"seed: 0 there, 4 asked.*optimizer\.lr: 0\.02 there, 0\.5 asked"):
        cipo_trainer.train(short(tmp_path, seed=4, optimizer={"lr": 0.5}))
    with pytest.raises(UsageError, match=r"correction: None there"):
        cipo_trainer.train(bandit(tmp_path, "cipo"))
    write_rows(tmp_path / "rows.jsonl", [{"question": "b", "completion": "3", "answer": "3"}])
    before = (again.output / "train.json").read_bytes()
    with held(again) as folder, pytest.raises(UsageError, match="other data"):
        folder.bind("another fingerprint", {})
    assert (again.output / "train.json").read_bytes() == before


def test_what_may_change_is_speed_and_length_alone(tmp_path: Path) -> None:
    config = short(tmp_path)
    cipo_trainer.train(config)
    free = {"threads": 1, "optimizer": {"micro_tokens": 99}, "eval": {"every": 3}, "reward": {"workers": 2}}
    with held(short(tmp_path, **free)):
        pass
    for other in ({"data": {"dial": {"modulus": 5}}}, {"lora": {"rank": 4}}, {"reward": {"format": 0.1}}):
        with pytest.raises(UsageError, match="another configuration"), held(short(tmp_path, **other)):
            pass


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"config": {}}', '{"config": {"stepz": 1}, "data": "x"}'])
def test_a_damaged_record_is_told(tmp_path: Path, text: str) -> None:
    config = short(tmp_path)
    config.output.mkdir()
    (config.output / "train.json").write_text(text)
    with pytest.raises(UsageError, match=r"train\.json is damaged"), held(config):
        pass


def test_somebody_elses_folder_stays_as_it_is(tmp_path: Path) -> None:
    config = short(tmp_path)
    config.output.mkdir()
    (config.output / "thesis.tex").touch()
    with pytest.raises(UsageError, match="not empty"):
        cipo_trainer.train(config)
    assert [path.name for path in config.output.iterdir()] == ["thesis.tex"]


def test_a_start_that_fails_lets_go_of_the_folder(tmp_path: Path) -> None:
    config = short(tmp_path)
    with pytest.raises((UsageError, MissingError)):
        cipo_trainer.train(config.model_copy(update={"model": "/no/such/folder"}))
    assert cipo_trainer.train(config).steps == 1


def test_a_run_of_0_1_0_goes_on(tmp_path: Path) -> None:
    """Its weights, optimizer and position: as a run that never stopped."""
    over = [SHAPE, "eval={tasks: [], prompt_dir: null}", "checkpoint={every: 1, keep: 1}", "steps=4"]
    over += ["optimizer={lr: 0.01, schedule: constant, warmup: 0, batch: 4}"]
    shutil.copytree(STORED / "sft", tmp_path / "old")
    weights = []
    for name, first in (("old", 3), ("new", 1)):
        steps: list[int] = []
        config = load("chains_sft", [*over, f"output={tmp_path / name}"])
        outcome = cipo_trainer.train(config, lambda step, _, steps=steps: steps.append(step))
        assert steps == list(range(first, 5))
        weights.append(load_file(outcome.checkpoint / "model.safetensors"))
    assert all(torch.allclose(weights[0][k], weights[1][k], atol=1e-5) for k in weights[1])
    losses = [[row["loss"] for row in read(tmp_path / n / "log.jsonl")] for n in ("old", "new")]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_a_record_of_0_1_0_is_compared(tmp_path: Path) -> None:
    record = (STORED / "cipo" / "train.json").read_text().replace("{configs}", str(config_dir()))
    assert "functions" not in json.loads(record)
    assert "import" not in json.loads(record)["config"]["loss"]
    (tmp_path / "train.json").write_text(record)
    over = [
        SHAPE,
        f"output={tmp_path}",
        "optimizer.lr=0.01",
        "rollout={problems: 2, samples: 2, max_tokens: 3}",
    ]
    with held(load("chains_cipo", [*over, "steps=500"])) as folder:
        folder.bind(json.loads(record)["data"], {})
    with (
        pytest.raises(UsageError, match=r"correction\.risk: 1\.0 there, 2\.0 asked"),
        held(load("chains_cipo", [*over, "correction.risk=2.0"])),
    ):
        pass
