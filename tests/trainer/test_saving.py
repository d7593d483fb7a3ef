"""Checkpoints that are written while the training goes on: equal to others, whole or not there, and waited for."""

from __future__ import annotations

import copy
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from test_training import cipo_run, rows, same, train, weights

from cipo_eval.errors import MissingError
from cipo_eval.interrupts import Interrupts
from cipo_trainer.loop import Trainer

LATER = {"every": 2, "keep": 2, "asynchronous": True}


def files(folder: Path) -> dict[str, bytes]:
    """Of a checkpoint, but for what a file says of how it was written."""
    there = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "optimizer.pt")
    return {str(path.relative_to(folder)): path.read_bytes() for path in there}


def alike(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(alike(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    return bool(one == other)


@pytest.mark.parametrize(
    "more",
    [
        {},
        pytest.param({"lora": {"rank": 2}}, marks=pytest.mark.slow),
        pytest.param({"optimizer": {"dtype": "bfloat16"}}, marks=pytest.mark.slow),
    ],
)
def test_a_checkpoint_that_is_written_later_is_the_same(tmp_path: Path, more: dict[str, Any]) -> None:
    """Weights, tied ones once, adapters, masters, optimizer and state, to the bit, of the step that it is of."""
    both = [
        train(cipo_run(tmp_path, name, steps=5, checkpoint=saving, **copy.deepcopy(more)))
        for name, saving in (("at-once", {**LATER, "asynchronous": False}), ("later", LATER))
    ]
    assert [one.checkpoints.steps() for one in both] == [[4, 5], [4, 5]]
    for step in (4, 5):
        kept = [one.checkpoints.path(step) for one in both]
        now, later = map(files, kept)
        assert now.pop("trainer_state/state.json")  # seconds are in there
        assert later.pop("trainer_state/state.json")
        assert now == later
        assert alike(*(one.checkpoints.load(step)[1] for one in both))


@pytest.mark.slow
def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps go on meanwhile; the run goes on from the one before as if nothing had been, and its end waits."""
    whole = cipo_run(tmp_path, "whole", steps=5, checkpoint={**LATER, "asynchronous": False})
    expected = train(whole).checkpoints
    config = cipo_run(tmp_path, "out", steps=5, checkpoint=LATER)
    crashed = cipo_run(tmp_path, "crashed", steps=5, checkpoint=LATER)
    go_on, save = threading.Event(), torch.save

    def slow(*arguments: Any, **more: Any) -> None:
        if (config.output / "checkpoints" / "step-000002").exists():
            assert go_on.wait(60)
        save(*arguments, **more)

    def watch(step: int, _: object) -> None:
        if step == 5:  # that of step 4 is under way
            shutil.copytree(config.output, crashed.output)
            go_on.set()

    monkeypatch.setattr(torch, "save", slow)
    with Trainer(config, watch) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    assert trainer.checkpoints.steps() == [4, 5]
    there = sorted(path.name for path in (crashed.output / "checkpoints").iterdir())
    assert there == [".step-000004.new", "step-000002"]
    for again in (config, crashed):
        found = train(again).checkpoints
        assert found.steps() == [4, 5]
        for step in (4, 5):
            assert alike(found.load(step)[1], expected.load(step)[1])
            place = Path("checkpoints") / f"step-{step:06d}"
            assert same(weights(again.output / place), weights(whole.output / place))
        assert rows(again) == rows(whole)


@pytest.mark.parametrize("steps", [3, pytest.param(4, marks=pytest.mark.slow)])
def test_a_checkpoint_that_could_not_be_written_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """At the next one, or at the end; no part of it stays."""
    config = cipo_run(tmp_path, "out", steps=steps, checkpoint=LATER)

    def full(*arguments: Any, **more: Any) -> None:  # noqa: ARG001
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full)
        with pytest.raises(MissingError, match="disk"):
            train(config)
    assert not list((config.output / "checkpoints").iterdir())
    assert train(config).checkpoints.steps()[-1] == steps


@pytest.mark.slow
def test_what_is_not_waited_for_comes_to_its_end(tmp_path: Path) -> None:
    """Where a training ends with an error, what was being written is whole afterwards."""
    config = cipo_run(tmp_path, "out", steps=5, checkpoint=LATER)

    def watch(step: int, _: object) -> None:
        if step == 3:
            raise RuntimeError("something else")

    with pytest.raises(RuntimeError), Trainer(config, watch) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    assert trainer.checkpoints.steps() == [2]
