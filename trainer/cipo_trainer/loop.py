"""The training loop: roll out → verify → choose anchors → correct → verify → advantages → one update → log, save.

Read ``Trainer.step`` first: it is the algorithm. Everything random is made of (seed, step), so a run that was broken
off anywhere goes on from its last checkpoint as if nothing had happened.

Left out on purpose: several GPUs, a value model, replay of earlier steps' attempts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts, unhurried
from cipo_eval.records import derive_seed
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer import advantage, correction, measure
from cipo_trainer.config import Config
from cipo_trainer.correction import Asking, Controller
from cipo_trainer.evaluation import Evaluator
from cipo_trainer.logs import Log
from cipo_trainer.packing import Item
from cipo_trainer.policy import Policy
from cipo_trainer.problems import Draws, encoded, problems, rows
from cipo_trainer.reward import Rewards, rewards
from cipo_trainer.rollout import Group, first_request, roll_out
from cipo_trainer.saving import Checkpoints
from cipo_trainer.step import Learner, Stream


@dataclass(slots=True)
class State:
    """What changes from step to step beside weights and optimizer."""

    step: int = 0
    """Steps done."""
    position: int = 0
    """Problems, or rows, drawn."""
    controller: dict[str, Any] = field(default_factory=dict)
    best: dict[str, Any] = field(default_factory=dict)
    """Step and value of the best evaluation."""
    skipped: int = 0
    """Steps that changed nothing because something was not finite."""
    failed: int = 0
    """Attempts for which the verifier gave no verdict."""


Watch = Callable[[int, Mapping[str, Any]], None]
"""Told of each step that is done, and what was measured in it."""


class Trainer:
    """One training run. Raises ``UsageError``/``MissingError`` for whatever can be known to be wrong beforehand."""

    def __init__(self, config: Config, watch: Watch = lambda *_: None) -> None:
        self.config, self._watch = config, watch
        self.supervised = config.algorithm == "sft"
        self.evaluator = Evaluator(config)
        self.problems: Draws[Any] = rows(config) if self.supervised else problems(config)
        self.policy = Policy(config)
        self.learner = Learner(self.policy.model, config, self.policy.reference)
        self.state = State()
        self.checkpoints = Checkpoints(config.output / "checkpoints", config.checkpoint.keep)
        stream = config.stream
        self.controller = Controller(rho=stream.rho) if stream else None
        self._asking = Asking(stream) if stream else None
        self.pool = VerifierPool(config.reward.workers, time_limit=config.reward.timeout)

    def resume(self) -> int:
        """Goes on from the last checkpoint, if there is one; the step it is of."""
        self.checkpoints.clean()
        if steps := self.checkpoints.steps():
            state, tensors = self.checkpoints.load(steps[-1])
            self.state = State(**state)
            self.policy.load(self.checkpoints.path(steps[-1]))
            self.learner.masters.load(tensors)
            if self.controller:
                self.controller = Controller(**self.state.controller)
        return self.state.step

    def run(self, interrupts: Interrupts) -> None:
        """All steps that are missing. Ctrl-C saves a checkpoint of the last whole step and is raised again."""
        config = self.config
        log = Log(config.output, config, self.state.step)
        try:
            if self.state.step == 0:
                self._evaluate(log, interrupts)
            while self.state.step < config.steps:
                with interrupts.allowed():  # Ctrl-C that came while an update was made
                    pass
                self._one(log, interrupts)
        except KeyboardInterrupt:
            if self.state.step and self.state.step not in self.checkpoints.steps():
                with unhurried():
                    self.save()
            raise
        finally:
            self.pool.close()
            self.policy.close()
        if self.state.step not in self.checkpoints.steps():
            self.save()

    def _one(self, log: Log, interrupts: Interrupts) -> None:
        started = time.perf_counter()
        measured = self.step(self.state.step, log, interrupts)
        measured["seconds"] = time.perf_counter() - started
        measured |= measure.speed(measured, self.policy.device)
        self.state.step += 1
        self.state.position += int(measured["drawn"])  # not before: Ctrl-C may come while samples are drawn
        log.write(self.state.step, "train", measured)
        self._watch(self.state.step, measured)
        done, config = self.state.step, self.config
        last, better = done == config.steps, False
        if self.evaluator and (last or done % config.eval.every == 0):
            better = self._evaluate(log, interrupts)
        if last or better or done % config.checkpoint.every == 0:
            self.save()

    # --- the algorithm ---------------------------------------------------------------------------------------

    def step(self, number: int, log: Log | None, interrupts: Interrupts) -> dict[str, Any]:
        """One step with this number, from 0; what was measured."""
        torch.manual_seed(derive_seed(self.config.seed, "step", number))
        if self.supervised:
            return self._supervised(number)
        config, stream = self.config, self.config.stream
        most = config.rollout.max_tokens
        self.policy.wake()
        started = time.perf_counter()
        base, waited, drawn, spent = self._base(number, interrupts)
        given = rewards(base, config.reward, most)
        gains = advantage.of(given, config.advantage)
        measured: dict[str, Any] = measure.stream("base", base, given)
        measured |= {"drawn": float(drawn), "seconds_verify": waited}
        measured["dropped_tokens"] = spent - measured.get("base_tokens", 0.0)
        streams, rolled = [self._stream("base", base, gains)], {"base": base}
        if stream and self._asking and self.controller:
            anchors = correction.select_anchors(
                base, stream, self.controller.rho, derive_seed(config.seed, number, "anchors")
            )
            place = (config.seed, "train", number)
            count = stream.samples or config.rollout.samples
            asked = [self._asking.request(a, n, count, most, *place) for n, a in enumerate(anchors)]
            again, waited = self._roll_out(asked, anchors, interrupts)
            rewarded = rewards(again, config.reward, most)
            baseline, scale = config.advantage.baseline, config.advantage.scale
            gained = correction.correction_advantages(again, rewarded, stream, baseline, scale)
            weight = correction.stream_weight(stream, len(anchors), len(base))
            streams.append(self._stream("correction", again, gained, weight))
            rolled["correction"] = again
            found = correction.diagnostics(base, again)
            measured |= {**measure.stream("correction", again, rewarded), **found}
            measured |= {
                "rho": self.controller.rho,
                "lambda": weight,
                "target": self.controller.target(stream),
            }
            measured["seconds_verify"] += waited
            self.controller.update(found["retention"], stream)
        measured["seconds_rollout"] = time.perf_counter() - started
        self.policy.sleep()
        if log:
            measure.write_samples(log, number + 1, rolled, config.log.samples)
        measured |= self._learn(streams, number)
        self.state.failed += int(measured["base_failed"] + measured.get("correction_failed", 0))
        return measured

    def _base(self, number: int, interrupts: Interrupts) -> tuple[list[Group], float, int, float]:
        """Groups of the base stream, seconds that verdicts were waited for, problems drawn, and tokens generated.

        With dynamic sampling (DAPO, arXiv:2503.14476) groups without variance make room for others', as long as
        ``rollout.dynamic`` allows; what is missing then is filled up with them.
        """
        asked = self.config.rollout
        kept: list[Group] = []
        spare: list[Group] = []
        waited, drawn, spent = 0.0, 0, 0.0
        for turn in range(1 + asked.dynamic):
            found = self.problems.take(self.state.position + drawn, asked.problems)
            place = (self.config.seed, "train", number, turn)
            requests = [first_request(p, asked.samples, asked.max_tokens, *place) for p in found]
            groups, seconds = self._roll_out(requests, None, interrupts)
            drawn, waited = drawn + len(found), waited + seconds
            spent += sum(len(sample.tokens) for group in groups for sample in group.samples)
            for group in groups:
                (spare if asked.dynamic and group.decided else kept).append(group)
            if len(kept) >= asked.problems:
                break
        return [*kept, *spare][: asked.problems], waited, drawn, spent

    def _roll_out(
        self, requests: list[Any], anchors: list[Any] | None, interrupts: Interrupts
    ) -> tuple[list[Group], float]:
        engine, verifier = self.policy.engine, self.problems.verifier
        return roll_out(engine, self.pool, verifier, requests, anchors, interrupts=interrupts)

    def _stream(self, name: str, groups: list[Group], gains: Rewards, scale: float = 1.0) -> Stream:
        pairs = [
            (sample, float(gain))
            for group, of_group in zip(groups, gains, strict=True)
            for sample, gain in zip(group.samples, of_group, strict=True)
            if sample.tokens
        ]
        if self.config.algorithm == "rft":
            pairs = [(sample, 1.0) for sample, _ in pairs if sample.correct]
        items = [
            Item(prompt=s.prompt, tokens=s.tokens, advantage=gain, sampled=s.logprobs) for s, gain in pairs
        ]
        return Stream(name=name, items=items, scale=scale)

    def _supervised(self, number: int) -> dict[str, Any]:
        count = self.config.optimizer.batch
        items = encoded(self.policy.tokenizer, self.problems.take(self.state.position, count))
        return {"drawn": float(count), **self._learn([Stream(name="rows", items=items)], number)}

    def _learn(self, streams: list[Stream], number: int) -> dict[str, Any]:
        lr = self.config.optimizer.lr * rate(number, self.config)
        found: dict[str, Any] = self.learner.update(streams, step=number, lr=lr)
        self.policy.changed()
        self.state.skipped += int(found["skipped"])
        return {**found, "lr": lr, "skipped_total": float(self.state.skipped)}

    # --- around it -------------------------------------------------------------------------------------------

    def _evaluate(self, log: Log, interrupts: Interrupts) -> bool:
        """Whether it is the best so far."""
        if not self.evaluator:
            return False
        self.policy.wake()
        step = self.state.step
        folder = self.config.output / "eval" / f"step-{step:06d}"
        found = self.evaluator.run(self.policy.engine, self.pool, folder, step, interrupts)
        log.write(step, "eval", found)
        self._watch(step, found)
        name = next(iter(found), None)
        if not name or (self.state.best and found[name] <= self.state.best["value"]):
            return False
        self.state.best = {"step": step, "figure": name, "value": found[name]}
        return True

    def save(self) -> None:
        """A checkpoint of the steps that are done."""
        if self.controller:
            self.state.controller = self.controller.state()
        state = {name: getattr(self.state, name) for name in State.__slots__}
        best = self.state.best.get("step")
        tensors = self.learner.masters.state()
        with self.policy.saved() as (model, tokenizer):
            self.checkpoints.save(self.state.step, model, tokenizer, state, tensors, best)


def rate(step: int, config: Config) -> float:
    """Share of the peak learning rate at a step, from 0."""
    options = config.optimizer
    if step < options.warmup:
        return (step + 1) / options.warmup
    done = (step - options.warmup) / max(1, config.steps - options.warmup)
    if options.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * done))
    return 1 - done if options.schedule == "linear" else 1.0


def check_same(config: Config, known: Mapping[str, Any]) -> None:
    """Raises ``UsageError`` where a run cannot go on with another configuration."""
    now, free = (
        config.model_dump(mode="json"),
        {"steps", "output", "log", "checkpoint", "eval", "threads", "device"},
    )
    parts = {"reward": {"workers", "timeout"}, "rollout": {"batch_tokens"}, "data": {"dir"}}
    parts["optimizer"] = {"micro_tokens", "chunk", "checkpointing", "stream_norms"}
    changed = []
    for name, value in now.items():
        before = known.get(name)
        if name in free or value == before:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            changed += [
                f"{name}.{k}" for k in value if value[k] != before.get(k) and k not in parts.get(name, ())
            ]
        else:
            changed.append(name)
    if changed:
        raise UsageError(
            f"{config.output} holds a run with another {', '.join(changed)}: choose another output=, or the same values"
        )
