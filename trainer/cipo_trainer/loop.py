"""One training run, and CIPO's step (arXiv:2605.14539): base batch, corrections, update, measure.

Read ``Trainer.step`` first: it is the algorithm, and every line of it is a function of a module that reads alone:
``rollout`` (attempts and verdicts), ``correction`` (anchors, prompts, risk, ρ), ``reward``, ``advantage``, ``step``
(gradients of all streams, one update) with ``loss`` and ``packing``, ``measure``.

Left out on purpose, and what stands in its place:

1. A value model and generalised advantages: an attempt is one action, compared with the others of its group.
2. Asynchronous rollouts and replay of earlier steps' attempts: every step trains on what its own weights sampled.
3. Tensor, pipeline and expert parallelism: of several processes (``distributed``) each has a share of the problems to
   generate for and of the sequences to train on, and weights that are whole or in parts. Neither changes anything.
4. A reward model and shaped rewards by default: the reward is the verdict of the harness's own verifier, 0 or 1.
5. Trust regions beside the loss's clip: no adaptive KL coefficient, no early stop of an epoch.

Everything random is made of (seed, step), so a run that was broken off anywhere goes on from its last checkpoint as if
nothing had happened. ``python -m cipo_trainer cipo steps=2`` runs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cipo_eval.interrupts import Interrupts, unhurried
from cipo_eval.records import Request, derive_seed
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer import advantage, budget, correction, loss, measure, run_dir
from cipo_trainer.batch import Batch
from cipo_trainer.config import Config, Correction
from cipo_trainer.correction import Controller, CorrectionPrompts
from cipo_trainer.distributed.division import judge_together, judges, roll_out_together
from cipo_trainer.distributed.sharding import in_parts, load_parts
from cipo_trainer.distributed.world import World
from cipo_trainer.evaluation import Evaluator
from cipo_trainer.joints import described
from cipo_trainer.logs import Log, evaluation_folder
from cipo_trainer.methods import registry as methods
from cipo_trainer.methods.step import Step
from cipo_trainer.own_attempts import own_attempts, rows_of
from cipo_trainer.policy import Policy
from cipo_trainer.problems import Draws, encoded, problems, rows
from cipo_trainer.reward import OwnRewards, rewards
from cipo_trainer.rollout import Group, Judge, Sample, first_requests
from cipo_trainer.saving import Checkpoints
from cipo_trainer.step import Learner, LossStream, rate


@dataclass(slots=True)
class State:
    """What changes from step to step beside weights and optimizer."""

    step: int = 0
    """Steps done."""
    position: int = 0
    """Problems, or rows, drawn from the data so far."""
    controller: dict[str, Any] = field(default_factory=dict)
    """The fields of ``correction.Controller``; empty without a correction stream."""
    best: dict[str, Any] = field(default_factory=dict)
    """Step, figure and value of the best evaluation; empty before the first."""
    skipped: int = 0
    """Updates that changed nothing because something was not finite."""
    failed: int = 0
    """Attempts for which the verifier gave no verdict."""
    norms: dict[str, float] = field(default_factory=dict)
    """Smoothed gradient norms of both streams, where λ is made of them (``correction.balance``)."""
    remembered: list[dict[str, Any]] = field(default_factory=list)
    """Right attempts of the last steps, where anchors are drawn from them (``correction.remember``)."""
    not_finite: str = ""
    """What was not finite in the last update that changed nothing."""
    reward_failed: int = 0
    """Values that rewards of the user's own could not give."""
    reward_why: str = ""
    """The last of them, and why."""
    figures: dict[str, float | None] = field(default_factory=dict)
    """Of the last evaluation, where ``stop.figures`` are wanted; empty before the first."""
    spent: dict[str, float] = field(default_factory=dict)
    """Tokens, attempts and seconds of all steps so far (``budget.add``)."""


Watch = Callable[[int, Mapping[str, Any]], None]
"""Called after each step and each evaluation with the number of steps done and what was measured."""


class Trainer:
    """One training run in its folder, which it holds from its construction until ``run`` or ``close`` ends.

    A run that is in the folder already goes on from its last checkpoint: ``state.step`` steps are done. Also a context
    manager. Raises ``UsageError`` or ``MissingError`` for whatever can be known to be wrong beforehand: another process
    in the folder, a run of another configuration or on other data, a model, data or a package that is not there.
    """

    def __init__(
        self,
        config: Config,
        watch: Watch = lambda *_: None,
        say: Callable[[str], None] = lambda _: None,
        *,
        resume: bool = True,
        world: World | None = None,
    ) -> None:
        """``resume`` False: refuses a folder that holds a run. ``say``: as of ``Evaluator``. ``world``: the processes
        that train together, each with a trainer; process 0 holds the folder, writes, evaluates, and calls ``watch``."""
        self.config, self._watch = config, watch
        self.world = world = world or World()
        self.supervised = config.supervised
        self._advantages = advantage.advantage_function(config.advantage)
        self._own = OwnRewards(config.rewards)
        functions: dict[str, tuple[str | None, Callable[..., Any]]] = {
            "advantage": (config.advantage.import_, self._advantages),
            "loss": (config.loss.import_, loss.loss_function(config.loss)),
            **{f"rewards {name}": (name, made) for name, made in self._own.functions.items()},
        }
        with ExitStack() as resources:
            folder = world.first(lambda: resources.enter_context(run_dir.held(config, resume=resume)))
            self.evaluator = Evaluator(config, say)
            self.problems: Draws[Any] = rows(config) if self.supervised else problems(config)
            for warning in self.problems.warnings:
                say(warning)
            self.policy = policy = Policy(config, world)
            resources.callback(policy.close)
            if config.data.own_attempts:
                self.problems = rows_of(config, world.told(lambda: own_attempts(config, policy)))
            self.learner = Learner(
                policy.model, config, policy.reference, world=world, sharded=policy.sharded
            )
            self.state = State()
            self.checkpoints = Checkpoints.of(config, world)
            resources.callback(self.checkpoints.close)
            corrections = config.stream
            self.controller = Controller(rho=corrections.rho) if corrections else None
            self._prompts = CorrectionPrompts(corrections, config.chat) if corrections else None
            self._method = methods.method_of(config)
            self.pool = VerifierPool(judges(config, world), time_limit=config.reward.timeout)
            resources.callback(self.pool.close)
            self._resume()
            named = {key: described(name, made) for key, (name, made) in functions.items() if name}
            world.same("data", [self.problems.identity, named])
            world.first(lambda: folder.bind(self.problems.identity, named) if folder else None)
            self._resources = resources.pop_all()

    def __enter__(self) -> Trainer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends worker processes and the engine, and lets go of the folder."""
        self._resources.close()

    def _resume(self) -> None:
        """Goes on from the last checkpoint, if there is one."""
        if steps := self.world.told(self._kept):
            self.world.together(lambda: self._load(steps[-1]))

    def _kept(self) -> list[int]:
        self.checkpoints.clean()
        return self.checkpoints.steps()

    def _load(self, step: int) -> None:
        state, tensors = self.checkpoints.load(step)
        self.state = State(**state)
        self.policy.load(self.checkpoints.path(step))
        masters = self.learner.masters
        if isinstance(tensors, Path):
            try:
                tensors = load_parts(masters, tensors)
            except Exception as error:  # torch raises many kinds for damaged files
                raise self.checkpoints.damaged(step, error) from error
        elif self.policy.sharded:
            tensors = in_parts(masters, tensors)
        masters.load(tensors)
        if self.learner.teacher:
            self.learner.teacher.load(tensors["teacher"])
        if self.controller:
            self.controller = Controller(**self.state.controller)

    def run(self, interrupts: Interrupts) -> None:
        """Does all steps that are missing, then closes. Ctrl-C saves a checkpoint of the last whole step and is raised
        again."""
        config = self.config
        try:
            log = self.world.first(self._logged)
            if self.state.step == 0:
                self._evaluate(log, interrupts)
            while self.state.step < config.steps and not self.ended:
                self.world.together(lambda: _raise_what_came(interrupts))
                self._one(log, interrupts)
            self._save_once()
        except KeyboardInterrupt:
            if self.state.step:
                with unhurried():
                    self._save_once()
            raise
        finally:
            self.close()

    def _logged(self) -> Log:
        log = Log(self.config.output, self.config, self.state.step)
        self._resources.callback(log.close)
        return log

    def _one(self, log: Log | None, interrupts: Interrupts) -> None:
        """One step, with what comes after it: log, evaluation, checkpoint."""
        started = time.perf_counter()
        measured = self.step(self.state.step, log, interrupts)
        measured["seconds"] = max(self.world.gather(time.perf_counter() - started))
        measured |= measure.speed(measured, self.policy.device, self.world.size)
        measured["memory_peak"] = max(self.world.gather(measured["memory_peak"]))
        self.state.step += 1
        self.state.position += int(measured["drawn"])  # not before: Ctrl-C may come while samples are drawn
        measured |= budget.add(self.state.spent, measured)
        self._write(log, "train", measured)
        done, config = self.state.step, self.config
        last, better = done == config.steps or bool(self.spent), False
        if self.evaluator and (last or done % config.eval.every == 0):
            better = self._evaluate(log, interrupts)
        if last or better or self.reached or done % config.checkpoint.every == 0:
            self.save()

    @property
    def spent(self) -> str:
        """The budget that is used up; empty while none is."""
        return budget.used_up(self.state.spent, self.config.stop)

    @property
    def wanting(self) -> dict[str, float | None]:
        """Of ``stop.figures`` those that the last evaluation did not reach, as they are asked for now."""
        return budget.wanting(self.state.figures, self.config.stop) if self.state.figures else {}

    @property
    def reached(self) -> bool:
        return bool(self.state.figures) and not self.wanting

    @property
    def ended(self) -> str:
        """What of ``stop`` ends it before all steps are done; empty while nothing does."""
        return "stop.figures" if self.reached else self.spent

    # --- the algorithm ---------------------------------------------------------------------------------------

    def step(self, number: int, log: Log | None, interrupts: Interrupts) -> dict[str, Any]:
        """One step with this number, from 0. Returns what was measured in it, by the names of docs/training.md."""
        torch.manual_seed(derive_seed(self.config.seed, "step", number))
        if self.supervised:
            return self._supervised(number)
        self.policy.wake()
        started = time.perf_counter()
        base, measured = self._base_batch(number, interrupts)
        batches = [base]
        if self.config.stream:
            corrections, seen = self._corrections(base, self.config.stream, number, interrupts)
            batches.append(corrections)
            self._remember(base, int(measured["drawn"]))
            measured |= {**seen, "seconds_verify": measured["seconds_verify"] + seen["seconds_verify"]}
        elif self._method:
            batches, seen = self._method.batches(base, self._within(number, interrupts))
            seen["seconds_verify"] = measured["seconds_verify"] + seen.get("seconds_verify", 0.0)
            measured |= seen
        measured["seconds_rollout"] = time.perf_counter() - started
        self.policy.sleep()
        if log:
            groups = {batch.name: batch.groups for batch in batches}
            measure.write_samples(log, number + 1, groups, self.config.log.samples)
        measured |= self._update([self._loss_stream(batch) for batch in batches], number)
        if self.config.stream and self.config.stream.weight == "balanced":
            self.state.norms = correction.balance(self.state.norms, measured, self.config.stream)
        self.state.failed += int(sum(value for name, value in measured.items() if name.endswith("_failed")))
        measured |= self._own.taken()
        self.state.reward_failed += int(measured.get("reward_failed", 0))
        self.state.reward_why = measured.get("reward_why", self.state.reward_why)
        return measured

    def _base_batch(self, number: int, interrupts: Interrupts) -> tuple[Batch, dict[str, Any]]:
        """B problems with G attempts each, and what was measured of them.

        With dynamic sampling (DAPO, arXiv:2503.14476) groups without variance make room for others', as long as
        ``rollout.dynamic`` allows; what is missing then is filled up with them.
        """
        config, options = self.config, self.config.rollout
        groups: list[Group] = []
        decided: list[Group] = []
        waited, drawn, generated = 0.0, 0, 0.0
        for extra in range(1 + options.dynamic):
            drawn_now = self.problems.take(self.state.position + drawn, options.problems)
            place = (config.seed, "train", number, extra)
            requests = first_requests(drawn_now, options.samples, options.max_tokens, config.chat, *place)
            rolled, seconds = self._roll_out(requests, None, interrupts)
            drawn, waited = drawn + len(drawn_now), waited + seconds
            generated += sum(len(sample.tokens) for group in rolled for sample in group.samples)
            for group in rolled:
                (decided if options.dynamic and group.decided else groups).append(group)
            if len(groups) >= options.problems:
                break
        groups = [*groups, *decided][: options.problems]
        rewarded = rewards(groups, config.reward, options.max_tokens, self._own)
        advantages = self._advantages(rewarded, config.advantage.baseline, config.advantage.scale)
        measured: dict[str, Any] = measure.stream("base", groups, rewarded)
        measured |= {"drawn": float(drawn), "seconds_verify": waited}
        measured["dropped_tokens"] = generated - measured.get("base_tokens", 0.0)
        measured["dropped_attempts"] = drawn * options.samples - measured["base_attempts"]
        weight = self.config.stream.base_weight if self.config.stream else 1.0
        return Batch(name="base", groups=groups, advantages=advantages, weight=weight), measured

    def _corrections(
        self, base: Batch, options: Correction, number: int, interrupts: Interrupts
    ) -> tuple[Batch, dict[str, Any]]:
        """Corrections of some of the step's own attempts (the anchors), and what was measured of them; moves ρ."""
        config = self.config
        assert self.controller is not None
        assert self._prompts is not None
        rho, longest = self.controller.rho, config.rollout.max_tokens
        seed = derive_seed(config.seed, number, "anchors")
        history = [correction.recalled(row, self._problem(row)) for row in self.state.remembered]
        anchors = correction.select_anchors(base.groups, options, rho, seed, history)
        place = (config.seed, "train", number)
        samples = options.samples or config.rollout.samples
        requests = [self._prompts.request(a, n, samples, longest, *place) for n, a in enumerate(anchors)]
        first, waited = self._roll_out(requests, anchors, interrupts)
        later, more = self._again(first, options, number, interrupts)
        groups = [*first, *later]
        rewarded = rewards(groups, config.reward, longest, self._own)
        baseline, scale = config.advantage.baseline, config.advantage.scale
        advantages = correction.correction_advantages(
            groups, rewarded, options, baseline, scale, self._advantages
        )
        weight = correction.stream_weight(options, base.groups, groups, self.state.norms)
        measured: dict[str, Any] = measure.stream("correction", groups, rewarded)
        measured |= correction.diagnostics(base.groups, first)
        measured |= {"rho": rho, "lambda": weight, "target": self.controller.target(options)}
        measured["seconds_verify"] = waited + more
        if later:
            measured["later_accuracy"] = sum(group.accuracy for group in later) / len(later)
        self.controller.update(measured["retention"], options)
        return Batch(name="correction", groups=groups, advantages=advantages, weight=weight), measured

    def _again(
        self, groups: list[Group], options: Correction, number: int, interrupts: Interrupts
    ) -> tuple[list[Group], float]:
        """Corrections of corrections: of each group one, at random, for each further turn."""
        assert self._prompts is not None
        chains = [([group.anchor], group) for group in groups if group.anchor]
        found: list[Group] = []
        waited = 0.0
        for turn in range(1, options.turns):
            seed = derive_seed(self.config.seed, number, "chains", turn)
            continued = correction.continued(chains, seed)
            if not continued:
                break
            place = (self.config.seed, "train", number, f"turn {turn}")
            samples = options.samples or self.config.rollout.samples
            longest = self.config.rollout.max_tokens
            requests = [
                self._prompts.request(chain[-1], n, samples, longest, *place, earlier=chain[:-1])
                for n, chain in enumerate(continued)
            ]
            more, seconds = self._roll_out(requests, [chain[-1] for chain in continued], interrupts)
            chains = list(zip(continued, more, strict=True))
            found, waited = [*found, *more], waited + seconds
        return found, waited

    def _problem(self, row: Mapping[str, Any]) -> Any:
        """The problem of a remembered attempt."""
        return self.problems.take(row["position"], 1)[0]

    def _remember(self, base: Batch, drawn: int) -> None:
        """Keeps right attempts of a step for later ones, where anchors are drawn from them."""
        options = self.config.stream
        if options is None or options.retained != "history":
            return
        start = self.state.position
        at = {p.id: start + n for n, p in enumerate(self.problems.take(start, drawn))}
        self.state.remembered = correction.remember(self.state.remembered, base.groups, at, options)

    def _supervised(self, number: int) -> dict[str, Any]:
        count = self.config.optimizer.batch
        sequences = encoded(
            self.policy.tokenizer, self.problems.take(self.state.position, count), self.config.chat
        )
        return {
            "drawn": float(count),
            **self._update([LossStream(name="rows", sequences=sequences)], number),
        }

    def _update(self, streams: list[LossStream], number: int) -> dict[str, Any]:
        """One update of the weights on all streams together, and what was measured of it."""
        lr = self.config.optimizer.lr * rate(number, self.config)
        measured: dict[str, Any] = self.learner.update(streams, step=number, lr=lr)
        self.policy.changed()
        self.state.skipped += int(measured["skipped"])
        self.state.not_finite = measured.get("not_finite", self.state.not_finite)
        return {**measured, "lr": lr, "skipped_total": float(self.state.skipped)}

    def _roll_out(
        self,
        requests: list[Request],
        anchors: list[Sample] | None,
        interrupts: Interrupts,
        judge: Judge | None = None,
    ) -> tuple[list[Group], float]:
        engine, verifier = self.policy.engine, self.problems.verifier
        return roll_out_together(
            self.world, engine, self.pool, verifier, requests, anchors, interrupts=interrupts, judge=judge
        )

    def _within(self, number: int, interrupts: Interrupts) -> Step:
        """What a method has at hand."""

        def rolled(
            requests: list[Request], anchors: list[Sample] | None = None, judge: Judge | None = None
        ) -> tuple[list[Group], float]:
            return self._roll_out(requests, anchors, interrupts, judge)

        return Step(
            number=number,
            config=self.config,
            roll_out=rolled,
            advantages=self._advantages,
            encode=lambda request: tuple(self.policy.engine.texts.prompt(request).ids),
            spoken=self.policy.engine.texts.spoken,
            judge=lambda samples: judge_together(
                self.world, self.pool, self.problems.verifier, samples, interrupts
            ),
            referred=self.learner.referred,
            own=self._own,
        )

    def _loss_stream(self, batch: Batch) -> LossStream:
        """The sequences that a batch trains on; for ``rft`` its right attempts alone."""
        if self.config.imitates:
            return batch.imitated(self.config.stream)
        return batch.stream(self.config.loss, filtered=self.config.reward.overlong.filter)

    def _evaluate(self, log: Log | None, interrupts: Interrupts) -> bool:
        """Scores the held-out tasks; whether the first figure is the best so far."""
        if not self.evaluator:
            return False
        if not self.config.eval.engine:
            self.policy.wake()
        step = self.state.step
        folder = self.config.output / evaluation_folder(step)
        figures = self.world.told(
            lambda: self.evaluator.run(self.policy, self.pool, folder, step, interrupts)
        )
        self._write(log, "eval", figures)
        if self.config.stop.figures:
            self.state.figures = dict(figures)
        name = next(iter(figures), None)
        if not name or (self.state.best and figures[name] <= self.state.best["value"]):
            return False
        self.state.best = {"step": step, "figure": name, "value": figures[name]}
        return True

    def _write(self, log: Log | None, kind: str, values: Mapping[str, Any]) -> None:
        """Logs the figures of a step, and has them watched; in process 0."""

        def write() -> None:
            assert log is not None
            log.write(self.state.step, kind, values)
            self._watch(self.state.step, values)

        self.world.first(write)

    def save(self) -> None:
        """Writes a checkpoint of the steps that are done."""
        if self.controller:
            self.state.controller = self.controller.state()
        state = {name: getattr(self.state, name) for name in State.__slots__}
        best = self.state.best.get("step")
        masters, sharded = self.learner.masters, self.policy.sharded
        later = self.config.checkpoint.asynchronous
        tensors: Any = partial(sharded.save, masters, later=later) if sharded else masters.state()
        if self.learner.teacher:
            tensors |= {"teacher": self.learner.teacher.state()}
        with self.policy.saved() as (model, tokenizer):
            self.checkpoints.save(self.state.step, model, tokenizer, state, tensors, best)

    def _save_once(self) -> None:
        """Has a checkpoint of the last step, and all of it written."""
        self.checkpoints.finish()
        if self.state.step not in self.world.told(self.checkpoints.steps):
            self.save()
        self.checkpoints.finish()


def _raise_what_came(interrupts: Interrupts) -> None:
    """Ctrl-C that came while an update was made."""
    with interrupts.allowed():
        pass
