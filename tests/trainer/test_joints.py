"""Losses and advantages of the user's own: the examples train from outside the package, and mistakes are told."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import bandit

import cipo_trainer
from cipo_eval.errors import UsageError
from cipo_trainer import advantage, loss
from cipo_trainer.config import Advantage, Loss
from cipo_trainer.logs import read

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
ROLLOUT = {"problems": 2, "samples": 4, "max_tokens": 2}


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that the process can import, as PYTHONPATH would have it."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for place in (folder, EXAMPLES):
        monkeypatch.syspath_prepend(place)
    for name in ("loss", "advantage", "mine"):  # of another test
        monkeypatch.delitem(sys.modules, name, raising=False)
    return folder


def own_loss(**values: Any) -> Loss:
    return Loss.model_validate(values)


def test_the_example_loss_bounds_what_the_clip_does_not(outside: Path) -> None:  # noqa: ARG001
    """Where an advantage is not negative it is the built-in loss; where it is, at most ``bound`` times it."""
    config = own_loss(**{"import": "loss:dual_clip", "options": {"bound": 2.0}})
    old = torch.full((4,), -3.0)
    logp = torch.tensor([-3.0, -2.0, -2.5, 0.0])
    gains, segments = torch.tensor([1.0, 1.0, -1.0, -1.0]), torch.arange(4)
    mine, counts = loss.loss_function(config)(
        logp, gains, segments, config, old=old, reference=None, sampled=None
    )
    built_in, _ = loss.policy_loss(logp, gains, segments, Loss(), old=old)
    assert torch.equal(mine[:3], built_in[:3])
    assert (float(mine[3]), float(built_in[3])) == pytest.approx((2.0, float(torch.tensor(3.0).exp())))
    assert int(counts["bounded"]) == 1


def test_the_example_advantage_compares_with_the_stream(outside: Path) -> None:  # noqa: ARG001
    rewards = [np.array([1.0, 1.0]), np.array([0.0, 0.0, 1.0, 0.0])]
    values = advantage.advantage_function(
        Advantage.model_validate({"import": "advantage:against_the_batch"})
    )(rewards, "mean", "group_std")
    assert [v.shape for v in values] == [(2,), (4,)]
    assert np.concatenate(values).mean() == pytest.approx(0.0)
    assert values[0] == pytest.approx(np.full(2, 1.0), abs=1e-4)  # its own group has no variance at all


def test_the_examples_train_and_are_part_of_what_a_run_is(outside: Path, tmp_path: Path) -> None:  # noqa: ARG001
    """Two steps of CIPO with both; the run that is there goes on with the same function alone."""
    imports = {"import": "loss:dual_clip", "options": {"bound": 3.0}}
    more: dict[str, Any] = {
        "loss": {**imports, "beta": 0.0},
        "advantage": {"import": "advantage:against_the_batch"},
        "correction": {"prompt_dir": "prompts", "samples": 4},
        "rollout": ROLLOUT,
        "steps": 2,
    }
    config = bandit(tmp_path, "cipo", **more)
    assert cipo_trainer.train(config).steps == 2
    rows = read(config.output / "log.jsonl")
    assert [row["loss_bounded"] for row in rows] == [0.0, 0.0]  # one update per batch: the ratio is 1
    assert all(row["updates"] == 1 for row in rows)
    record = json.loads((config.output / "train.json").read_text())
    assert record["config"]["loss"]["import"] == "loss:dual_clip"
    assert record["functions"]["loss"].startswith("loss:dual_clip ")
    assert record["functions"]["advantage"].startswith("advantage:against_the_batch ")
    with pytest.raises(UsageError, match=r"loss\.import: 'loss:dual_clip' there, None asked"):
        cipo_trainer.train(bandit(tmp_path, "cipo", **more | {"loss": {"beta": 0.0}}))
    record["functions"]["loss"] = "loss:dual_clip 0123456789abcdef"  # the text of the function was another
    (config.output / "train.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="another function"):
        cipo_trainer.train(config)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine", r"there is no mine \(module:object\)"),
        ("nowhere:f", "there is no "),
        ("mine:absent", "there is no "),
        ("mine:number", "is not a function"),
        ("mine:narrow", r"must take \(logp, advantages, segments, config, \*, old, reference, sampled\)"),
        ("torn:f", "there is no "),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(
    outside: Path, tmp_path: Path, name: str, message: str
) -> None:
    (outside / "mine.py").write_text("number = 3\ndef narrow(logp, advantages): return logp\n")
    (outside / "torn.py").write_text("def f(:\n")
    config = bandit(tmp_path, "grpo", loss={"import": name}, model="/no/such/model")
    with pytest.raises(UsageError, match=message):
        cipo_trainer.train(config)
    assert not config.output.exists()


def test_what_does_not_fit_is_told_with_the_functions_name(outside: Path, tmp_path: Path) -> None:
    (outside / "mine.py").write_text(
        "def scalar(logp, *rest, **more): return logp.sum(), {}\ndef short(rewards, *rest): return rewards[1:]\n"
    )
    config = bandit(tmp_path, "grpo", loss={"import": "mine:scalar"}, rollout=ROLLOUT)
    with pytest.raises(UsageError, match="mine:scalar must give a loss for each token"):
        cipo_trainer.train(config)
    rewards = [np.array([1.0, 0.0])] * 2
    function = advantage.advantage_function(Advantage.model_validate({"import": "mine:short"}))
    with pytest.raises(UsageError, match="mine:short must give one value for each reward"):
        function(rewards, "mean", "none")


def test_all_sequences_reach_a_loss_of_ones_own(outside: Path, tmp_path: Path) -> None:
    """Also those whose advantage is 0, which the built-in loss can do without."""
    (outside / "mine.py").write_text("def bonus(logp, *rest, **more): return 0.01 * logp, {}\n")
    more: dict[str, Any] = {"rollout": {**ROLLOUT, "samples": 1}, "steps": 1}  # no group has any variance
    mine = bandit(
        tmp_path, "dr_grpo", **more, loss={"import": "mine:bonus"}, output=str(tmp_path / "mine-out")
    )
    built_in = bandit(tmp_path, "dr_grpo", **more)
    for config, updates in ((mine, 1), (built_in, 0)):
        cipo_trainer.train(config)
        assert read(config.output / "log.jsonl")[0]["updates"] == updates


def test_options_belong_to_a_loss_of_ones_own(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="options are for a loss of your own"):
        bandit(tmp_path, "grpo", loss={"options": {"bound": 1}})
    with pytest.raises(UsageError, match=r"rft has no advantages"):
        bandit(tmp_path, "rft", advantage={"import": "a:b"})
    with pytest.raises(UsageError, match=r"loss\.imprt: there is no such key; did you mean import"):
        bandit(tmp_path, "grpo", loss={"imprt": "a:b"})
