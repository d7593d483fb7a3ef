"""Whole training runs: they learn, they repeat, they go on from any break, and bad input is told."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Commands, results, turns
from fault_points import fault_points
from forks import Runs
from made import bandit, make_bandit, write_rows
from safetensors.torch import load_file
from tiny import make_checkpoint

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import State, Verdict
from cipo_eval.settings import to_yaml
from cipo_trainer import correction, loss, packing
from cipo_trainer.algorithms import ALGORITHMS
from cipo_trainer.config import Config
from cipo_trainer.logs import read
from cipo_trainer.loop import Trainer
from cipo_trainer.presets import load
from cipo_trainer.sections import config_dir

SHORT = {"fraction": 1.0, "prompt_dir": "prompts", "samples": 8, "truncated": True}
"""Corrections for the bandit: every character is a token."""


def train(config: Config) -> Trainer:
    with Trainer(config) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    return trainer


def rows(config: Config, *, kind: str = "train") -> list[dict[str, Any]]:
    """The log without what depends on the clock and the machine."""
    timed = ("seconds", "per_second", "memory_peak", "generated_tokens", "attempts_total")
    return [
        {k: v for k, v in row.items() if not any(part in k for part in timed)}
        for row in read(config.output / "log.jsonl")
        if row["kind"] == kind
    ]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


# --- learning ------------------------------------------------------------------------------------------------


QUICK = {"cipo", "sft"}
LONG = {"critique_grpo", "igrpo", "multi_turn_grpo", "pag", "s2r", "sdpo"}
"""Those that generate more than once in a step, or have a teacher, and take more than three seconds.
``test_methods`` looks at their steps."""
SECOND = {"igrpo", "rft_corrections", "score"}
"""Those that train second answers alone."""
METHODS: dict[str, dict[str, Any]] = {
    "multi_turn_grpo": {},
    "score": {},
    "sdpo": {"template": "{{ problem }} {{ demonstration }} {{ problem }}"},
    "pag": {"ask": "Right?", "right": "1", "wrong": "0", "retry": "Again."},
    "critique_grpo": {"right": "Right. Again.", "wrong": "Wrong. Again."},
    "s2r": {"check": "7", "retry": "0", "right": "8", "wrong": "9"},
}
"""Short words for the bandit: every character is a token."""


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param(
            a,
            marks=() if a in QUICK else pytest.mark.exhaustive if a in LONG else pytest.mark.slow,
        )
        for a in sorted(ALGORITHMS)
    ],
)
def test_every_algorithm_solves_a_bandit(tmp_path: Path, algorithm: str) -> None:
    """Two questions, each with one right token of fourteen."""
    more: dict[str, Any] = (
        {"correction": SHORT} if ALGORITHMS[algorithm].get("correction") is not None else {}
    )
    if algorithm == "rft_corrections":  # its few right ones are all that it learns
        more["correction"] = SHORT | {"fraction": 4.0}
    if algorithm in METHODS:
        more["method"] = ({} if algorithm == "s2r" else {"prompt_dir": "prompts"}) | METHODS[algorithm]
    if algorithm == "igrpo":  # a question that is lost is lost for good (docs/baselines.md): smaller steps
        more |= {"optimizer": {"lr": 0.005}, "steps": 80}
    if algorithm == "s2r":  # a solution must come to its end
        more["rollout"] = {"max_tokens": 2}
    if algorithm == "sdpo":  # a teacher that can make use of what it sees
        train(bandit(tmp_path / "teacher", "grpo"))
        more["reference"] = str(tmp_path / "teacher/out/checkpoints/step-000040")
    config = bandit(tmp_path, algorithm, **more)
    train(config)
    log = rows(config)
    assert len(log) == config.steps
    if algorithm == "sft":
        assert log[-1]["loss"] < 0.1 < log[0]["loss"]
    else:
        trained = "correction" if algorithm in SECOND else "base"
        accuracies = [row[f"{trained}_accuracy"] for row in log if f"{trained}_accuracy" in row]
        assert accuracies[0] < 0.4
        # once first answers are right, too, nothing is left to correct, or to learn from
        once = algorithm == "rft_corrections"
        assert (max(accuracies) if once else accuracies[-1]) > 0.9


@pytest.mark.slow
def test_lora_solves_it_too_and_its_adapter_is_scored(tmp_path: Path, cipo: Commands) -> None:
    make_bandit(tmp_path / "model", spread=0.5)  # its output layer is frozen: it must be able to say anything
    config = bandit(tmp_path, "dr_grpo", lora={"rank": 8}, optimizer={"lr": 0.05}, steps=80)
    trainer = train(config)
    assert rows(config)[-1]["base_accuracy"] > 0.9
    adapter = trainer.checkpoints.path(80)
    assert (adapter / "adapter_config.json").is_file()
    flags = ("--tasks", "arithmetic", "--limit", "2", "--max-tokens", "4", "--quiet")
    assert cipo("run", "--model", adapter, *flags, "-o", tmp_path / "run").code == 0


def flipped(logp: torch.Tensor, advantages: torch.Tensor, *rest: Any, **more: Any) -> Any:
    return ORIGINAL(logp, -advantages, *rest, **more)


ORIGINAL = loss.policy_loss


@pytest.mark.slow
def test_mutations_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What would be the worst mistakes make the tests that are meant for them fail."""
    import test_loss
    import test_packing

    with monkeypatch.context() as patch:  # the sign of the advantage
        patch.setattr(loss, "policy_loss", flipped)
        with pytest.raises(AssertionError):
            test_every_algorithm_solves_a_bandit(tmp_path / "flipped", "grpo")
        with pytest.raises(AssertionError):
            test_loss.test_clip_by_hand(1.1, 1.0, -1.1, True)
    with monkeypatch.context() as patch:  # the clip
        patch.setattr(torch.Tensor, "clamp", lambda x, *_, **__: x)
        with pytest.raises(AssertionError):
            test_loss.test_clip_by_hand(1.3, 1.0, -1.2, False)
    with monkeypatch.context() as patch:  # which output predicts which token
        made = packing.micro

        def shifted(*arguments: Any, **more: Any) -> packing.Micro:
            import dataclasses

            batch = made(*arguments, **more)
            return dataclasses.replace(
                batch, where=batch.where + 1 - 2 * (batch.where == batch.where.max()).long()
            )

        patch.setattr(test_packing, "micro", shifted)
        with pytest.raises(AssertionError):
            test_packing.test_layout_batches_and_chunks_change_nothing("llama", True, 40, 1000)


@pytest.mark.slow
def test_what_is_trained_on_is_what_was_sampled(tmp_path: Path) -> None:
    """On the CPU engine and trainer agree on every token's log-probability, and the first ratio is 1."""
    config = bandit(tmp_path, "cipo", correction=SHORT, rollout={"max_tokens": 6}, steps=4)
    train(config)
    for row in rows(config):
        assert row["mismatch_max"] < 1e-5
        assert row["clip_low"] == row["clip_high"] == 0


def test_lambda_0_is_the_base_algorithm_bit_for_bit(tmp_path: Path) -> None:
    """Corrections are sampled and measured, and change nothing."""
    base = bandit(tmp_path, "grpo", steps=6, output=str(tmp_path / "base"))
    zero = bandit(
        tmp_path, "cipo", steps=6, output=str(tmp_path / "zero"), correction={**SHORT, "weight": 0.0}
    )
    found = [weights(train(c).checkpoints.path(6)) for c in (base, zero)]
    assert same(*found)
    assert rows(zero)[-1]["correction_attempts"] > 0
    for one, other in zip(rows(base), rows(zero), strict=True):
        assert {k: other[k] for k in one} == one


def test_equal_runs_are_equal_and_seeds_matter(tmp_path: Path) -> None:
    runs = [bandit(tmp_path, "grpo", steps=3, output=str(tmp_path / str(i)), seed=i // 2) for i in range(3)]
    found = [weights(train(config).checkpoints.path(3)) for config in runs]
    assert same(found[0], found[1])
    assert not same(found[0], found[2])


def test_dynamic_sampling_looks_for_groups_with_variance(tmp_path: Path) -> None:
    plain = bandit(
        tmp_path, "dapo", steps=2, rollout={"dynamic": 0, "samples": 4}, output=str(tmp_path / "0")
    )
    dynamic = bandit(
        tmp_path, "dapo", steps=2, rollout={"dynamic": 6, "samples": 4}, output=str(tmp_path / "1")
    )
    for config in (plain, dynamic):
        train(config)
    assert [row["drawn"] for row in rows(plain)] == [4, 4]
    first = rows(dynamic)[0]
    assert 4 < first["drawn"] <= 28
    assert first["base_attempts"] == 16
    assert first["base_zero_variance"] < rows(plain)[0]["base_zero_variance"]
    # what was drawn and dropped was generated, too: methods are matched by it
    for row in (first, *rows(plain)):
        assert (row["dropped_tokens"] > 0) is (row["drawn"] * 4 > row["base_attempts"])


# --- breaks --------------------------------------------------------------------------------------------------


def cipo_run(folder: Path, output: str, **more: Any) -> Config:
    return bandit(
        folder,
        "cipo",
        steps=more.pop("steps", 12),
        output=str(folder / output),
        rollout={"problems": 4, "samples": 4, "max_tokens": 3},
        correction={**SHORT, "samples": 4},
        optimizer={"lr": 0.01, "minibatches": 2, **more.pop("optimizer", {})},
        checkpoint=more.pop("checkpoint", {"every": 3, "keep": 2}),
        log={"samples": 1},
        **more,
    )


@pytest.mark.slow
def test_a_run_that_goes_on_is_one_that_never_stopped(tmp_path: Path) -> None:
    """Five steps, then another process's seven: weights, log, ρ and optimizer as after twelve, bit for bit."""
    whole, parts = cipo_run(tmp_path, "whole"), cipo_run(tmp_path, "parts", steps=5)
    one = train(whole)
    train(parts)
    two = train(cipo_run(tmp_path, "parts"))
    assert same(weights(one.checkpoints.path(12)), weights(two.checkpoints.path(12)))
    assert rows(whole) == rows(parts)
    assert (whole.output / "samples.jsonl").read_text() == (parts.output / "samples.jsonl").read_text()
    (first, states), (second, others) = (t.checkpoints.load(12) for t in (one, two))
    for state in (first, second):
        state["spent"].pop("seconds")
    assert first == second
    for key, value in states["optimizer"]["state"].items():
        assert same(value, others["optimizer"]["state"][key])
    assert one.checkpoints.steps() == [9, 12]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [2, pytest.param(3, marks=pytest.mark.exhaustive)])
def test_a_training_goes_on_from_every_fault_point(tmp_path: Path, steps: int) -> None:
    """While starting, between steps, and while a checkpoint is written or an old one removed."""
    shape: dict[str, Any] = {"steps": steps, "checkpoint": {"every": 1, "keep": 1}}
    reference = cipo_run(tmp_path, "reference", **shape)
    with fault_points(reference.output, tmp_path / "states") as states:
        train(reference)
    last = Path("checkpoints") / f"step-{steps:06}"
    expected = weights(reference.output / last)
    assert len(states) >= steps * 8
    for state in states:
        again = cipo_run(tmp_path, str(state), **shape)
        train(again)
        assert same(weights(state / last), expected), state
        assert rows(again) == rows(reference), state
        assert (state / "samples.jsonl").read_text() == (reference.output / "samples.jsonl").read_text()


@pytest.mark.exhaustive
@pytest.mark.parametrize("asynchronous", [False, True])
def test_kill_9_at_twenty_moments_changes_nothing(tmp_path: Path, asynchronous: bool) -> None:
    """While starting, sampling, judging, training, and while a checkpoint is written."""
    reference = cipo_run(
        tmp_path, "reference", checkpoint={"every": 3, "keep": 2, "asynchronous": asynchronous}
    )
    (tmp_path / "config.yaml").write_text(to_yaml(reference))
    command = ["train", str(tmp_path / "config.yaml"), "threads=1", "--quiet"]
    runs = Runs(tmp_path, tmp_path / "model")
    runs.start(command)
    assert runs.wait() == 0, (tmp_path / "log.txt").read_text()
    expected = weights(reference.output / "checkpoints" / "step-000012")
    started = time.monotonic()  # again, now that everything is imported
    runs.start([*command, f"output={tmp_path / 'timed'}"])
    while not (tmp_path / "timed" / "log.jsonl").exists():
        time.sleep(0.01)
    beginning = time.monotonic() - started
    assert runs.wait() == 0

    chance, kills, finished, midway = random.Random(0), 0, 0, 0
    while kills < 20 or finished == 0:
        output = tmp_path / f"run-{finished}"
        log = output / "log.jsonl"

        def steps(log: Path = log) -> int:
            return len(read(log))

        before = steps()
        child = runs.start([*command, f"output={output}"])
        if kills < 20 and before < 12:  # one that had done all its steps may end
            early = chance.random() < 0.2
            target = 0 if early else chance.randint(before + 1, 12)
            runs.kill(child, steps, target, chance.uniform(0.0, beginning if early else 0.01))
        code = runs.wait()
        assert code in (0, -signal.SIGKILL), (tmp_path / "log.txt").read_text()
        kills += code != 0
        midway += code != 0 and 0 < len(read(output / "log.jsonl")) < 12
        if code == 0:
            again = cipo_run(tmp_path, output.name)
            assert same(weights(output / "checkpoints" / "step-000012"), expected)
            assert rows(again) == rows(reference)
            finished += 1
    runs.close()
    assert midway >= 8, "too few kills met a run in the middle of its work: the test's timing needs a look"


@pytest.mark.slow
@pytest.mark.parametrize("at", [0, 4])
def test_ctrl_c_saves_the_last_whole_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """Half-way through a step's sampling: what that step had is done again."""
    whole, broken = cipo_run(tmp_path, "whole", steps=7), cipo_run(tmp_path, "broken", steps=7)
    expected = weights(train(whole).checkpoints.path(7))
    ask = correction.CorrectionPrompts.request

    def interrupting(self: correction.CorrectionPrompts, *arguments: Any) -> Any:
        if arguments[-1] == at:
            os.kill(os.getpid(), signal.SIGINT)
        return ask(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(correction.CorrectionPrompts, "request", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    steps = sorted((broken.output / "checkpoints").glob("step-*"))
    assert [p.name for p in steps][-1:] == (["step-000004"] if at else [])
    assert same(weights(train(broken).checkpoints.path(7)), expected)
    assert rows(broken) == rows(whole)


def test_ctrl_c_ends_supervised_training_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is waited for there: the step that is under way is finished, and kept."""
    from cipo_trainer import loop

    whole, broken = (
        bandit(tmp_path, "sft", steps=5, output=str(tmp_path / name)) for name in ("whole", "broken")
    )
    expected = weights(train(whole).checkpoints.path(5))
    calls: list[int] = []
    encoded = loop.encoded

    def interrupting(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return encoded(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "encoded", interrupting)
        with pytest.raises(KeyboardInterrupt):
            train(broken)
    assert [p.name for p in (broken.output / "checkpoints").iterdir()] == ["step-000003"]
    assert same(weights(train(broken).checkpoints.path(5)), expected)
    assert rows(broken) == rows(whole)


@pytest.mark.slow
def test_adapters_go_on_too(tmp_path: Path) -> None:
    whole, parts = (
        bandit(tmp_path, "grpo", steps=n, output=str(tmp_path / name), lora={"rank": 4, "dropout": 0.1})
        for n, name in ((4, "whole"), (2, "parts"))
    )
    one = train(whole).checkpoints.path(4) / "adapter_model.safetensors"
    train(parts)
    two = train(parts.model_copy(update={"steps": 4})).checkpoints.path(4) / "adapter_model.safetensors"
    assert same(load_file(one), load_file(two))


def test_an_evaluation_before_the_first_step_is_logged_once(tmp_path: Path) -> None:
    """A run that is killed after it, and begins again."""
    config = bandit(tmp_path, "sft", steps=1, eval={"tasks": ["arithmetic"], "limit": 2, "max_tokens": 2})
    train(config.model_copy(update={"steps": 0}))
    for path in (config.output / "checkpoints").iterdir():
        shutil.rmtree(path)
    train(config)
    assert [row["step"] for row in read(config.output / "log.jsonl") if row["kind"] == "eval"] == [0, 1]


@pytest.mark.slow
def test_an_evaluation_with_another_engine_is_the_same(tmp_path: Path) -> None:
    """It gets the weights as they are after the step, in a checkpoint of which nothing is left."""
    asked = {"tasks": ["arithmetic"], "limit": 3, "samples": 2, "max_tokens": 3, "protocol": ["self"]}
    one = bandit(tmp_path, "sft", steps=1, eval=asked)
    two = bandit(tmp_path, "sft", steps=1, eval={**asked, "engine": {"engine": "hf", "dtype": "float32"}})
    two = two.model_copy(update={"output": tmp_path / "two"})
    for config in (one, two):
        train(config)
    places = [config.output / "eval" for config in (one, two)]
    for step in ("step-000000", "step-000001"):
        assert turns(places[0] / step, "arithmetic") == turns(places[1] / step, "arithmetic")
        assert results(places[0] / step) == results(places[1] / step)
        infos = [json.loads((place / step / "run.json").read_text()) for place in places]
        assert infos[0]["engine"] == infos[1]["engine"]
    assert sorted(path.name for path in places[1].iterdir()) == ["step-000000", "step-000001"]


@pytest.mark.parametrize(
    ("engine", "why"),
    [
        (
            {"engine": "openai", "base_url": "http://localhost:1/v1"},
            "openai does not generate with the weights",
        ),
        (
            {"engine": "ray", "inner": "openai", "base_url": "http://localhost:1/v1"},
            "openai does not generate",
        ),
        ({"engine": "hf", "replicas": 2}, "has no --replicas"),
        ({"engine": "hg"}, "did you mean hf"),
    ],
)
def test_an_engine_that_cannot_evaluate_is_refused_at_once(
    tmp_path: Path, engine: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=why):
        train(bandit(tmp_path, "sft", steps=1, eval={"tasks": ["arithmetic"], "engine": engine}))


@pytest.mark.slow
def test_a_full_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the second checkpoint is written: the first stays, no half one appears, and the run goes on later."""
    from cipo_eval.errors import MissingError

    whole, full = cipo_run(tmp_path, "whole", steps=7), cipo_run(tmp_path, "full", steps=7)
    expected = weights(train(whole).checkpoints.path(7))
    save = torch.save

    def failing(*arguments: Any, **more: Any) -> None:
        if (full.output / "checkpoints" / "step-000003").exists():
            raise OSError(28, "No space left on device")
        save(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", failing)
        with pytest.raises(MissingError, match="disk"):
            train(full)
    assert [p.name for p in (full.output / "checkpoints").iterdir()] == ["step-000003"]
    assert same(weights(train(full).checkpoints.path(7)), expected)


def test_the_best_checkpoint_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_trainer.evaluation import Evaluator

    values = iter([0.1, 0.9, 0.2, 0.3, 0.4, 0.5])
    monkeypatch.setattr(Evaluator, "run", lambda *_: {"arithmetic/pass@1": next(values)})
    config = bandit(
        tmp_path,
        "grpo",
        steps=5,
        eval={"tasks": ["arithmetic"], "every": 1},
        checkpoint={"every": 1, "keep": 2},
    )
    trainer = train(config)
    assert trainer.checkpoints.steps() == [1, 4, 5]
    assert trainer.state.best == {"step": 1, "figure": "arithmetic/pass@1", "value": 0.9}


# --- verifiers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["Hanging", "Dying"])
def test_a_verifier_that_fails_costs_its_own_reward_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    """Answers of 7 hang or kill the verifier's process; all others are judged as ever."""
    config = bandit(
        tmp_path,
        "grpo",
        verifier=f"failing_verifier:{failure}",
        steps=1,
        reward={"workers": 2, "timeout": 1.0},
    )
    groups: list[Any] = []
    found = Trainer._roll_out

    def keep(self: Trainer, *arguments: Any) -> Any:
        rolled = found(self, *arguments)
        groups.extend(rolled[0])
        return rolled

    monkeypatch.setattr(Trainer, "_roll_out", keep)
    trainer = train(config)
    verdicts: list[tuple[str, Verdict]] = [(s.text, s.verdict) for g in groups for s in g.samples]
    failed = {State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR}
    assert {text for text, verdict in verdicts if verdict.state in failed} == {"7"}
    assert trainer.state.failed == sum(text == "7" for text, _ in verdicts) > 0
    assert rows(config)[0]["base_failed"] == trainer.state.failed
    assert any(verdict.correct for _, verdict in verdicts)


# --- the command line ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_commands_that_differ_in_a_word(cipo: Commands, tmp_path: Path, real_data: Path) -> None:
    """GRPO and CIPO from one checkpoint on real training problems of MATH: run, log, evaluate, go on, are scored."""
    model = make_checkpoint(tmp_path / "model", context=1024)
    for preset in ("grpo", "cipo"):
        output = tmp_path / preset
        over = [
            f"output={output}",
            f"model={model}",
            f"data={{task: math_train, dir: {real_data}, generator: null, limit: 20}}",
            "rollout={problems: 2, samples: 2, max_tokens: 16}",
            "eval={tasks: [arithmetic], every: 2, limit: 4, samples: 1, max_tokens: 4}",
            "checkpoint.every=2",
        ]
        first = cipo("train", preset, *over, "steps=2", "--json")
        assert first.code == 0, first.err
        second = cipo("train", preset, *over, "steps=4", "--json")
        assert second.code == 0, second.err
        assert second.json["steps"] == 4
        log = read(output / "log.jsonl")
        assert [row["step"] for row in log if row["kind"] == "train"] == [1, 2, 3, 4]
        assert [row["step"] for row in log if row["kind"] == "eval"] == [0, 2, 4]
        assert ("correction_attempts" in log[1]) is (preset == "cipo")
        flags = ("--tasks", "arithmetic", "--limit", "3", "--max-tokens", "4", "--quiet")
        assert (
            cipo("run", "--model", second.json["checkpoint"], *flags, "-o", tmp_path / f"{preset} run").code
            == 0
        )
        assert cipo("train", preset, *over, "steps=4", "--no-resume").code == 2


@pytest.mark.slow
def test_code_is_rewarded_by_the_sandbox(cipo: Commands, tmp_path: Path, real_data: Path) -> None:
    model = make_checkpoint(tmp_path / "model", context=2048)
    outcome = cipo(
        "train",
        "grpo",
        f"output={tmp_path / 'out'}",
        f"model={model}",
        f"data={{task: leetcode_train, dir: {real_data}, generator: null, limit: 4}}",
        "rollout={problems: 1, samples: 2, max_tokens: 8}",
        "eval.tasks=[]",
        "steps=1",
        "--json",
    )
    assert outcome.code == 0, outcome.err
    assert read(tmp_path / "out" / "log.jsonl")[0]["base_accuracy"] == 0


def test_init_from_a_run_takes_its_last_weights(cipo: Commands, tmp_path: Path) -> None:
    train(bandit(tmp_path, "sft", steps=3))
    config = bandit(tmp_path, "grpo", output=str(tmp_path / "next"), steps=0)
    (tmp_path / "next.yaml").write_text(to_yaml(config))
    assert cipo("train", tmp_path / "next.yaml", "--init-from", tmp_path / "out", "--quiet").code == 0
    last = tmp_path / "next" / "checkpoints" / "step-000000"
    assert same(weights(last), weights(tmp_path / "out" / "checkpoints" / "step-000003"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["gpro"], 2, "or grpo"),
        (["no/such.yaml"], 2, "there is no configuration"),
        (["grpo", "rollout.problem=3"], 2, "rollout.problem: there is no such key; did you mean problems"),
        (["grpo", "steps=many"], 2, "steps"),
        (["grpo", "steps"], 2, "key=value"),
        (["grpo", "correction.weight=-1.0"], 2, "weight must not be negative"),
        (["grpo", "data.task=math_train"], 2, "exactly one of task, path and generator"),
        (["grpo", "model=/no/such/folder"], 2, "does not exist"),
        (["grpo", "model=new:other"], 2, "new:arithmetic"),
        (["grpo", "eval.tasks=[aritmetic]"], 2, "did you mean arithmetic"),
        (["grpo", "data={path: none.jsonl, generator: null}"], 2, "none.jsonl"),
        (["sft", "loss.beta=0.1"], 2, "sft has no rollouts"),
        (["grpo", "log.mlflow=x"], 3, "pip install mlflow"),
    ],
)
def test_bad_input_is_told(cipo: Commands, arguments: list[str], code: int, message: str) -> None:
    outcome = cipo("train", *arguments)
    assert outcome.code == code
    assert message in outcome.err


def test_another_configuration_does_not_go_on(cipo: Commands, tmp_path: Path) -> None:
    config = bandit(tmp_path, "grpo", steps=1)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert cipo("train", tmp_path / "c.yaml", "--quiet").code == 0
    outcome = cipo("train", tmp_path / "c.yaml", "loss.clip_low=0.3", "seed=4")
    assert outcome.code == 2
    assert "loss.clip_low" in outcome.err
    assert "seed" in outcome.err
    write_rows(tmp_path / "rows.jsonl", [{"question": "b", "answer": "3"}])
    assert "other data" in cipo("train", tmp_path / "c.yaml").err
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    assert "not empty" in cipo("train", tmp_path / "c.yaml", f"output={tmp_path / 'full'}").err


@pytest.mark.parametrize("left", ["config.yaml", ".train.json.new", ".new.partial"])
def test_what_a_killed_start_leaves_is_no_obstacle(cipo: Commands, tmp_path: Path, left: str) -> None:
    config = bandit(tmp_path, "grpo", steps=0)
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    config.output.mkdir()
    (config.output / left).touch()
    assert cipo("train", tmp_path / "c.yaml", "--quiet").code == 0


def test_a_damaged_checkpoint_is_told(cipo: Commands, tmp_path: Path) -> None:
    config = bandit(tmp_path, "grpo", steps=2, checkpoint={"every": 1})
    (tmp_path / "c.yaml").write_text(to_yaml(config))
    assert cipo("train", tmp_path / "c.yaml", "--quiet").code == 0
    place = config.output / "checkpoints" / "step-000002" / "trainer_state" / "optimizer.pt"
    place.write_bytes(place.read_bytes()[:100])
    outcome = cipo("train", tmp_path / "c.yaml", "steps=3", "--quiet")
    assert outcome.code == 2
    assert "step-000002 is damaged" in outcome.err


def test_print_config_is_a_configuration(cipo: Commands, tmp_path: Path) -> None:
    """What it prints, comments and all, gives the same when it is read again."""
    outcome = cipo("train", "cipo", "rollout.samples=3", "--print-config")
    assert outcome.code == 0
    assert "# ρ at the start" in outcome.out
    (tmp_path / "again.yaml").write_text(outcome.out)
    assert cipo("train", tmp_path / "again.yaml", "--print-config").out == outcome.out


def test_print_config_shows_mode_and_sources(cipo: Commands, tmp_path: Path) -> None:
    outcome = cipo("train", "qwen3_4b_math_cipo", "--print-config")
    assert "enable_thinking: false" in outcome.out
    for source in ("mirror: train/dapo_math_17917.jsonl", "hub: open-r1/DAPO-Math-17k-Processed at 31dd3095"):
        assert f"#   {source}" in outcome.out
    (tmp_path / "again.yaml").write_text(outcome.out)
    assert cipo("train", tmp_path / "again.yaml", "--print-config").out == outcome.out


@pytest.mark.parametrize("name", sorted(path.stem for path in (config_dir() / "data").glob("*_*.yaml")))
def test_training_sets_have_a_pinned_public_source(name: str) -> None:
    from cipo_eval.data.tasks import load_spec
    from cipo_trainer.presets import definition

    spec = load_spec(definition(name))
    if name == "any_math":
        return
    (hub,) = (source for source in spec.own.sources if source.kind == "hub")
    assert hub.revision is not None
    assert len(hub.revision) == 40
    assert spec.fingerprint is not None


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["leetcode_train", *(pytest.param(n, marks=pytest.mark.exhaustive) for n in ("dapo_math", "math_train"))],
)
def test_training_sets_of_the_mirror_are_the_reference_ones(real_data: Path, name: str) -> None:
    from cipo_eval.data.tasks import load_problems
    from cipo_trainer.presets import definition

    assert load_problems(definition(name), data_dir=real_data).known, name


@pytest.mark.slow
def test_the_module_trains_without_the_command_line(tmp_path: Path) -> None:
    """``python -m cipo_trainer`` has the same flags, messages and exit codes, and needs no ``cipo_eval.cli``."""
    import subprocess
    import sys

    (tmp_path / "c.yaml").write_text(to_yaml(bandit(tmp_path, "sft", steps=2)))
    code = (  # twice in one process, which takes ten seconds to import what a training needs
        "import json, runpy, sys\n"
        "for arguments in json.loads(sys.argv.pop()):\n"
        "    sys.argv[1:], code = arguments, None\n"
        "    try: runpy.run_module('cipo_trainer', run_name='__main__', alter_sys=True)\n"
        "    except SystemExit as stopped: code = stopped.code\n"
        "    print(code or 0, 'cipo_eval.cli' in sys.modules)"
    )
    calls = [
        [str(tmp_path / "c.yaml"), "--json", "optimizer.batch=2"],
        [str(tmp_path / "c.yaml"), "optimizer.batch=3"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls)], capture_output=True, text=True, check=True
    )
    result, *ends = done.stdout.splitlines()
    assert json.loads(result)["steps"] == 2
    assert ends == ["0 False", "2 False"]
    assert "optimizer.batch: 2 there, 3 asked" in done.stderr


PRESETS = sorted(path.stem for path in config_dir().glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_valid(name: str) -> None:
    config = load(name)
    assert name in ("arithmetic", "chains", "demo") or config.algorithm in name or "_" in name
    if config.correction and config.correction.prompt_dir:
        assert config.correction.prompt_dir.is_dir()


@pytest.mark.parametrize(
    "pair",
    [
        ("grpo", "cipo"),
        *(
            (f"{m}_grpo", f"{m}_cipo")
            for m in (
                "chains",
                "qwen3_4b_math",
                "seed_coder_8b_code",
                "qwen3_0.6b_math",
                "qwen2.5_1.5b_math",
                "smollm2_135m_math",
            )
        ),
    ],
)
def test_arms_differ_in_the_stream_and_nothing_else(pair: tuple[str, str]) -> None:
    """Equal attempts per step: half the problems, and as many corrections."""
    base, cipo = (load(name).model_dump(mode="json") for name in pair)
    attempts = [c["rollout"]["problems"] * c["rollout"]["samples"] for c in (base, cipo)]
    assert attempts[0] == attempts[1] * (1 + cipo["correction"]["fraction"])
    assert base["correction"] is None
    for section in ("algorithm", "correction", "output"):
        base.pop(section), cipo.pop(section)
    base["rollout"].pop("problems"), cipo["rollout"].pop("problems")
    assert base == cipo
