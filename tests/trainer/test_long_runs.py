"""What long runs need: budgets, rewards of one's own, schedules that stay, corrections of the sampler, names of NaN."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from made import bandit, group
from test_packing import make_model
from test_step import BASE, config

import cipo_trainer
from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_trainer.config import Config, Loss, OwnReward, Reward
from cipo_trainer.logs import read
from cipo_trainer.loop import Trainer
from cipo_trainer.loss import importance, policy_loss
from cipo_trainer.presets import build
from cipo_trainer.reward import OwnRewards, overlong, rewards
from cipo_trainer.rollout import first_requests
from cipo_trainer.step import Learner, LossStream, rate


def train(asked: Config) -> Trainer:
    with Trainer(asked) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    return trainer


# --- budgets -------------------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {"rollout": {"problems": 2, "samples": 4, "max_tokens": 1}, "steps": 6}


@pytest.mark.parametrize(
    ("stop", "steps"),
    [
        ({"generated_tokens": 17}, 3),  # 8 a step
        ({"attempts": 16}, 2),
        ({"processed_tokens": 1}, 1),
        ({"hours": 1e-9}, 1),
        ({"attempts": 24, "generated_tokens": 1000}, 3),
    ],
)
def test_a_budget_ends_a_training_after_a_whole_step(
    tmp_path: Path, stop: dict[str, Any], steps: int
) -> None:
    said: list[str] = []
    asked = bandit(tmp_path, "grpo", **SMALL, stop=stop, loss={"beta": 0.1})
    outcome = cipo_trainer.train(asked, say=said.append)
    assert outcome.steps == steps
    name, value = next(iter(stop.items()))
    assert outcome.stopped == f"stop.{name}={value}"
    assert outcome.exit_code == 0
    assert said[-1] == f"ended after step {steps} of 6: stop.{name}={value} is used up"
    last = read(asked.output / "log.jsonl")[-1]
    assert last["attempts_total"] == 8 * steps
    assert last["generated_tokens_total"] == 8 * steps
    assert outcome.checkpoint.is_dir()
    assert cipo_trainer.train(asked).steps == steps  # nothing more is done


def test_a_run_goes_on_with_a_larger_budget_and_remembers_what_it_spent(tmp_path: Path) -> None:
    for attempts, steps in ((8, 1), (32, 4)):
        assert (
            cipo_trainer.train(bandit(tmp_path, "grpo", **SMALL, stop={"attempts": attempts})).steps == steps
        )
    whole = bandit(tmp_path, "grpo", **SMALL, stop={"attempts": 32}, output=str(tmp_path / "whole"))
    cipo_trainer.train(whole)
    states = [
        json.loads((folder / "checkpoints" / "step-000004" / "trainer_state" / "state.json").read_text())
        for folder in (tmp_path / "out", tmp_path / "whole")
    ]
    for state in states:
        state["spent"].pop("seconds")
    assert states[0] == states[1]


EVALUATED: dict[str, Any] = {
    "eval": {"every": 2, "samples": 4, "protocol": ["direct", "self"]},
    "optimizer": {"lr": 0.02, "batch": 4},
}


def learning(folder: Path, wanted: dict[str, float], steps: int = 30) -> Config:
    """Two questions, learned by heart and evaluated every two steps."""
    asked = bandit(folder, "sft", **EVALUATED, steps=steps)
    return build(
        {
            **asked.plain(),
            "eval": {**asked.plain()["eval"], "tasks": [str(folder / "bandit.yaml")]},
            "stop": {"figures": wanted},
        }
    )


@pytest.mark.slow
def test_a_training_ends_when_its_figures_are_reached(tmp_path: Path) -> None:
    """After the first evaluation in which all of them are, with a checkpoint; asked again it does nothing more."""
    said: list[str] = []
    asked = learning(tmp_path, {"bandit/pass@1": 0.9, "bandit/pass@2": 0.9})
    outcome = cipo_trainer.train(asked, say=said.append)
    evaluated = [row for row in read(asked.output / "log.jsonl") if row["kind"] == "eval"]
    good = [min(row["bandit/pass@1"], row["bandit/pass@2"]) >= 0.9 for row in evaluated]
    assert good == [False] * (len(good) - 1) + [True]
    assert outcome.steps == evaluated[-1]["step"] == 2 * (len(good) - 1) < 30
    assert (outcome.stopped, outcome.exit_code) == ("stop.figures", 0)
    assert said[-1] == f"ended after step {outcome.steps} of 30: stop.figures are reached"
    assert outcome.checkpoint.is_dir()
    again = cipo_trainer.train(asked)
    assert (again.steps, again.exit_code) == (outcome.steps, 0)
    more = cipo_trainer.train(learning(tmp_path, {"bandit/pass@1": 1.5}))  # more is wanted now: it goes on
    assert (more.steps, more.exit_code) == (30, 1)


def test_a_training_that_never_gets_as_good_as_wanted_says_so(tmp_path: Path) -> None:
    outcome = cipo_trainer.train(learning(tmp_path, {"bandit/pass@1": 1.5, "bandit/pass@2": 0.0}, steps=4))
    assert (outcome.steps, outcome.exit_code, set(outcome.wanting)) == (4, 1, {"bandit/pass@1"})
    assert outcome.failures[-1].startswith("bandit/pass@1 is 0.")
    assert outcome.failures[-1].endswith("after 4 steps, not 1.5 (stop.figures)")


def test_a_figure_that_no_evaluation_has_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no figure bandit/pass@3; .*bandit/pass@2"):
        cipo_trainer.train(learning(tmp_path, {"bandit/pass@3": 0.5}))
    with pytest.raises(UsageError, match=r"stop\.figures: without eval\.tasks"):
        bandit(tmp_path, "grpo", stop={"figures": {"bandit/pass@1": 0.5}})


def test_a_figure_that_one_attempt_each_cannot_have_is_refused(tmp_path: Path) -> None:
    """A lift compares with other attempts at the problem: with one alone no evaluation would ever reach it."""
    stop = {"figures": {"bandit/pass@1": 0.5, "bandit/self/correction_lift": 0.2}}
    evaluated = {"tasks": ["bandit"], "samples": 1, "protocol": ["direct", "self"]}
    with pytest.raises(UsageError, match=r"bandit/self/correction_lift is undefined with one attempt each"):
        bandit(tmp_path, "grpo", stop=stop, eval=evaluated)
    bandit(tmp_path, "grpo", stop=stop, eval={**evaluated, "samples": 2})


def test_what_dynamic_sampling_drops_is_spent_too(tmp_path: Path) -> None:
    rollout = {"problems": 2, "samples": 2, "max_tokens": 1, "dynamic": 3}
    asked = bandit(tmp_path, "dapo", rollout=rollout, steps=2)
    train(asked)
    rows = read(asked.output / "log.jsonl")
    drawn = sum(row["drawn"] for row in rows)
    assert drawn > 4
    assert rows[-1]["attempts_total"] == 2 * drawn
    assert rows[-1]["generated_tokens_total"] == 2 * drawn


# --- rewards of one's own ------------------------------------------------------------------------------------

MINE = """
def length(sample, anchor):
    return len(sample.tokens)

def corrects(sample, anchor):
    return 0.0 if anchor is None else 1.0

def crash(sample, anchor):
    raise RuntimeError("no idea")

def endless(sample, anchor):
    return float("inf")

def narrow(sample):
    return 0.0
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_rewards.py").write_text(MINE)
    monkeypatch.syspath_prepend(tmp_path / "mine")
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)


def own(*entries: Any) -> OwnRewards:
    return OwnRewards([OwnReward.model_validate(entry) for entry in entries])


@pytest.mark.usefixtures("mine")
def test_rewards_are_weighed_and_added() -> None:
    anchor = group("-").samples[0]
    groups = [group("+-"), group("+-", anchor=anchor)]
    added = own({"import": "my_rewards:length", "weight": 0.1}, "my_rewards:corrects")
    first, second = rewards(groups, Reward(weight=2.0), 16, added)
    assert first == pytest.approx([2.3, 0.3])  # three tokens each
    assert second == pytest.approx([3.3, 1.3])
    assert added.failed == 0
    assert rewards(groups, Reward(), 16)[0] == pytest.approx([1.0, 0.0])


@pytest.mark.usefixtures("mine")
@pytest.mark.parametrize(
    ("name", "why"), [("crash", "RuntimeError: no idea"), ("endless", "inf is no reward")]
)
def test_a_crash_is_counted_logged_and_told(tmp_path: Path, name: str, why: str) -> None:
    asked = bandit(tmp_path, "grpo", **SMALL | {"steps": 2}, rewards=[f"my_rewards:{name}"])
    outcome = cipo_trainer.train(asked)
    rows = read(asked.output / "log.jsonl")
    assert [row["reward_failed"] for row in rows] == [8.0, 8.0]
    assert all(why in row["reward_why"] for row in rows)
    assert outcome.reward_failed == 16
    assert outcome.exit_code == 1
    assert "gave no value 16 time(s)" in outcome.failures[0]
    assert why in outcome.failures[0]


def test_the_examples_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "examples")
    monkeypatch.delitem(sys.modules, "reward", raising=False)
    entries = ["reward:concise", {"import": "reward:changed_its_mind", "weight": 0.2}]
    correction = {"prompt_dir": "prompts", "samples": 4, "truncated": True}
    asked = bandit(tmp_path, "cipo", **SMALL | {"steps": 1}, rewards=entries, correction=correction)
    cipo_trainer.train(asked)
    (row,) = read(asked.output / "log.jsonl")
    assert row["base_reward"] == pytest.approx(row["base_accuracy"] * (1 + 1 / (1 + 1 / 256)))
    assert row["correction_reward"] >= row["correction_accuracy"]


@pytest.mark.usefixtures("mine")
def test_rewards_are_part_of_what_a_run_is(tmp_path: Path) -> None:
    cipo_trainer.train(bandit(tmp_path, "grpo", **SMALL | {"steps": 1}, rewards=["my_rewards:length"]))
    record = json.loads((tmp_path / "out" / "train.json").read_text())
    assert record["functions"]["rewards my_rewards:length"].startswith("my_rewards:length ")
    with pytest.raises(UsageError, match="another configuration"):
        Trainer(bandit(tmp_path, "grpo", **SMALL, rewards=["my_rewards:corrects"]))
    with pytest.raises(UsageError, match=r"must take \(sample, anchor\)"):
        Trainer(bandit(tmp_path, "grpo", **SMALL, rewards=["my_rewards:narrow"]))
    with pytest.raises(UsageError, match="there is no my_rewards:absent"):
        Trainer(bandit(tmp_path, "grpo", **SMALL, rewards=["my_rewards:absent"]))


# --- attempts that are too long ------------------------------------------------------------------------------


def test_dapo_punishes_long_attempts_in_its_last_fifth() -> None:
    reward = build({"model": "x", "algorithm": "dapo"}).reward
    assert [overlong(n, reward, 20480) for n in (16384, 18432, 20480)] == pytest.approx([0.0, 0.5, 1.0])
    assert build({"model": "x", "algorithm": "grpo"}).reward.overlong.buffer == 0


def test_overlong_filtering_keeps_them_out_of_the_loss_and_in_the_baseline(tmp_path: Path) -> None:
    from cipo_trainer.advantage import advantages
    from cipo_trainer.batch import Batch

    groups = [group("+-~~")]
    values = advantages(rewards(groups, Reward(), 16), "mean", "none")
    trained = {}
    for kept in (False, True):
        asked = bandit(
            tmp_path, "grpo", reward={"overlong": {"filter": kept}}, output=str(tmp_path / str(kept))
        )
        with Trainer(asked) as trainer:
            stream = trainer._loss_stream(Batch(name="base", groups=groups, advantages=values))
        trained[kept] = [sequence.advantage for sequence in stream.sequences]
    assert trained[False] == pytest.approx([0.75, -0.25, -0.25, -0.25])
    assert trained[True] == pytest.approx([0.75, -0.25])


# --- a problem twice -----------------------------------------------------------------------------------------


def test_a_problem_that_is_twice_in_a_batch_gets_two_groups() -> None:
    sample = group("+").samples[0]
    one, other = sample.problem, group("+", name="q").samples[0].problem
    requests = first_requests([one, other, one, one], 4, 16, Chat(), 0, "train", 3)
    seeds = [seed for request in requests for seed in request.seeds]
    assert len(set(seeds)) == 16
    alone = first_requests([other, one], 4, 16, Chat(), 0, "train", 3)
    assert {r.problem.id: r.seeds for r in alone} == {r.problem.id: r.seeds for r in requests[:2]}


# --- schedules -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_other_steps_do_not_bend_a_schedule_in_silence(tmp_path: Path, schedule: str) -> None:
    def asked(steps: int, **optimizer: Any) -> Config:
        return bandit(tmp_path, "sft", steps=steps, optimizer={"schedule": schedule, **optimizer})

    cipo_trainer.train(asked(2, decay_steps=4))
    rates = [row["lr"] for row in read(tmp_path / "out" / "log.jsonl")]
    with pytest.raises(UsageError, match=r"optimizer\.decay_steps: 4 there, 6 asked"):
        cipo_trainer.train(asked(6))
    cipo_trainer.train(asked(6, decay_steps=4))
    after = [row["lr"] for row in read(tmp_path / "out" / "log.jsonl")]
    assert after[:2] == rates
    assert after[:4] == [pytest.approx(0.02 * rate(n, asked(4))) for n in range(4)]
    assert after[4:] == [0.0, 0.0]


def test_a_constant_rate_goes_on_with_other_steps(tmp_path: Path) -> None:
    for steps in (1, 2):
        assert cipo_trainer.train(bandit(tmp_path, "sft", steps=steps)).steps == steps


# --- the sampler's mismatch ----------------------------------------------------------------------------------

LOGP = torch.tensor([-1.0, -2.0, -0.5, -1.5], dtype=torch.float64)
SAMPLED = torch.tensor([-1.5, -2.0, -0.5, -3.0], dtype=torch.float64)
SEGMENTS = torch.tensor([0, 0, 1, 1])
RATIOS = [math.exp(0.5), 1.0, 1.0, math.exp(1.5)]


def weighed(**options: Any) -> list[float]:
    values, _ = importance(LOGP - SAMPLED, SEGMENTS, Loss(**options))
    return values.tolist()


def test_importance_weights_by_hand() -> None:
    assert weighed(importance="token") == pytest.approx([*RATIOS[:3], 2.0])
    assert weighed(importance="token", importance_cap=1.2) == pytest.approx([1.2, 1.0, 1.0, 1.2])
    assert weighed(importance_range=(0.5, 2.0)) == pytest.approx([*RATIOS[:3], 0.0])
    sequence = [math.exp(0.5)] * 2
    assert weighed(importance="sequence") == pytest.approx([*sequence, 2.0, 2.0])
    assert weighed(importance="sequence", importance_range=(0.5, 2.0)) == pytest.approx([*sequence, 0.0, 0.0])


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_where_the_sampler_is_the_policy_the_correction_is_none(level: str) -> None:
    advantages = torch.tensor([1.0, 1.0, -0.5, -0.5], dtype=torch.float64)
    plain, _ = policy_loss(LOGP, advantages, SEGMENTS, Loss(), sampled=LOGP)
    corrected, counts = policy_loss(
        LOGP, advantages, SEGMENTS, Loss(importance=level, importance_range=(0.9, 1.1)), sampled=LOGP
    )
    assert torch.equal(plain, corrected)
    assert int(counts["importance_masked"]) == 0


def test_the_correction_is_on_where_another_engine_samples() -> None:
    def asked(**values: Any) -> Loss:
        return build({"model": "x", **values}).loss

    assert asked(rollout={"engine": "vllm"}).importance == "token"
    assert asked(rollout={"engine": "vllm"}, loss={"importance": "none"}).importance == "none"
    assert asked(rollout={"engine": "vllm"}, loss={"importance": "sequence"}).importance == "sequence"
    assert asked().importance == "none"
    assert asked(loss={"importance_cap": 3.0}).importance == "token"
    with pytest.raises(UsageError, match="truncated, or left out"):
        asked(loss={"importance_cap": 3.0, "importance_range": [0.5, 2.0]})


# --- what is not finite --------------------------------------------------------------------------------------


def test_what_is_not_finite_is_named(tmp_path: Path) -> None:
    model = make_model("llama").float()
    learner = Learner(model, config())
    names = [name for name, _ in model.named_parameters()]
    hook = dict(model.named_parameters())[names[4]].register_hook(lambda gradient: gradient * float("nan"))
    measured = learner.update([LossStream(name="base", sequences=BASE)], step=0, lr=1e-2)
    assert measured["not_finite"] == f"gradient of {names[4]}"
    hook.remove()
    assert "not_finite" not in learner.update([LossStream(name="base", sequences=BASE)], step=1, lr=1e-2)
    with torch.no_grad():
        dict(model.named_parameters())[names[7]][0] = float("inf")
    measured = learner.update([LossStream(name="base", sequences=BASE)], step=2, lr=1e-2)
    assert measured["not_finite"] == f"weight {names[7]}"

    asked = bandit(tmp_path, "sft", steps=1)
    with Trainer(asked) as trainer, Interrupts() as interrupts:
        first = next(iter(dict(trainer.policy.model.named_parameters())))
        trainer.policy.model.get_parameter(first).register_hook(lambda gradient: gradient * float("nan"))
        trainer.run(interrupts)
        assert trainer.state.not_finite == f"gradient of {first}"
    assert read(asked.output / "log.jsonl")[0]["not_finite"] == f"gradient of {first}"
