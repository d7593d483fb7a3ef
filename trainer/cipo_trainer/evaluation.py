"""Evaluation during training: the harness itself, on held-out tasks, with the weights as they are.

The training's own engine has them already. Another one (``eval.engine``: replicas on a Ray cluster, vLLM with a GPU of
its own) is made of a checkpoint that is written for it, and is gone when the evaluation ends.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.analysis.rows import logged
from cipo_eval.data.tasks import ProblemSet, load_problems
from cipo_eval.engines import registry
from cipo_eval.engines.conversation import Chat
from cipo_eval.engines.prompting import Prompting, Thinking
from cipo_eval.errors import UsageError
from cipo_eval.files import Writing, whole_folder
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Mode
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.planning import plans
from cipo_eval.run.progress import Progress
from cipo_eval.run.request import RunRequest
from cipo_eval.run.runner import Run
from cipo_eval.storage.store import RunStore
from cipo_eval.turns.protocols import DIRECT
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer import rollout
from cipo_trainer.config import Config

if TYPE_CHECKING:
    from cipo_eval.engines.engine import Engine
    from cipo_eval.engines.registry import EngineChoice
    from cipo_trainer.policy import Policy

_WITHOUT_WEIGHTS = ("openai", "replay")
"""Engines that do not generate with the weights that they are given."""
_FILES = ("base", "adapter_fingerprint")
"""What an engine says of the files that its weights came from; those of a training are known by its step."""


class Evaluator:
    """Evaluates the policy on the tasks of ``eval``, by the harness.

    Made before a training begins: raises ``UsageError``/``MissingError`` at once for tasks that are unknown or whose
    data is not there, and for an engine that cannot evaluate.
    """

    def __init__(self, config: Config, say: Callable[[str], None] = lambda _: None) -> None:
        """``say``: hears what another engine has to tell, such as that it waits for nodes."""
        self._config, self._say = config, say
        self._problems: list[ProblemSet] = [
            load_problems(name, data_dir=config.data.dir) for name in config.eval.tasks
        ]
        self._chat = config.chat if config.eval.chat is None else config.eval.chat
        if self and (others := self._chat.differences(config.chat)):
            say(f"evaluations ask otherwise than the training: {'; '.join(others)}")
        if self and config.eval.engine:
            self._choice(config.model)

    def __bool__(self) -> bool:
        return bool(self._problems)

    def run(
        self, policy: Policy, pool: VerifierPool, folder: Path, step: int, interrupts: Interrupts
    ) -> dict[str, Any]:
        """Evaluates the weights as they are after ``step``, into a run directory at ``folder``; returns its key figures
        by name, ``task/figure``, the first task's accuracy first."""
        config = self._config
        task_plans = self._plans()
        with ExitStack() as resources:
            store = resources.enter_context(RunStore(folder))
            if config.eval.engine:
                weights = resources.enter_context(
                    _written(policy, folder.with_name(f"{folder.name}.weights"))
                )
                problems = [problem for plan in task_plans for problem in plan.all_problems]
                with interrupts.allowed():  # nodes may be waited for
                    engine = self._choice(str(weights)).make(problems, say=self._say)
                resources.enter_context(closing(engine))
                if elsewhere := _verifiers(engine, config):
                    pool = resources.enter_context(elsewhere)
            else:
                engine = resources.enter_context(_asked_by(policy, self._chat))
            run = Run(
                store,
                task_plans,
                engine={**_identity(engine, policy), "trained_steps": step},
                seed=config.seed,
                modes=(Mode.FIXED,),
                command=["cipo-eval", "train"],
                bootstrap=200,
            )
            run.execute(engine, pool, Progress(), interrupts)
            results = run.results()
            store.write_results(results)
        values: dict[str, Any] = {}
        for plan in task_plans:
            values |= logged(plan.name, results["tasks"][plan.name], Mode.FIXED)
        return values

    def _choice(self, weights: str) -> EngineChoice:
        """The engine of ``eval.engine`` for a checkpoint. Raises ``UsageError``."""
        asked = {**self._config.eval.engine, "model": weights}
        inner = RunRequest.of(engine=asked).engine
        name = str(inner.options.get("inner", "hf")) if inner.engine == "ray" else inner.engine
        if name in _WITHOUT_WEIGHTS:
            raise UsageError(f"eval.engine: {name} does not generate with the weights of a training")
        ours = {
            "enable_thinking": self._chat.enable_thinking,
            "chat_template_kwargs": self._chat.kwargs or None,
            "chat_template": self._chat.template,
            "trust_remote_code": self._config.trust_remote_code or None,
        }
        known = registry.options_model(name).model_fields
        told = {key: value for key, value in ours.items() if key in known and value is not None}
        return RunRequest.of(engine={**told, **asked}).engine.choice()

    def _plans(self) -> list[TaskPlan]:
        """What is asked of each task: a run's request, sampled as the training samples."""
        config, settings = self._config, self._config.eval
        request = RunRequest.of(
            limit=settings.limit,
            protocol=[DIRECT, *settings.protocol],
            turn_format=settings.turn_format,
            prompt_dir=settings.prompt_dir,
            system_prompt=self._chat.system,
            allow_unsafe_code=config.reward.allow_unsafe_code,
        )
        sampling = replace(
            rollout.sampling(settings.max_tokens or config.rollout.max_tokens),
            temperature=settings.temperature,
        )
        return plans(request, self._problems, [(settings.samples, sampling)] * len(self._problems))


@contextmanager
def _asked_by(policy: Policy, chat: Chat) -> Iterator[Engine]:
    """The training's own engine, which puts conversations to the model as ``chat`` says for as long as the block takes.

    Raises ``UsageError`` where the chat template does not know what is asked.
    """
    engine = policy.engine
    usual = engine.texts
    if chat.differences(policy.config.chat):
        engine.texts = Prompting(
            policy.checkpoint.tokenizer,
            context=usual.context,
            thinking=Thinking(chat=chat),
            ends=policy.checkpoint.ends,
        )
    try:
        yield engine
    finally:
        engine.texts = usual


def _verifiers(engine: Engine, config: Config) -> VerifierPool | None:
    """The pool of an engine that works elsewhere, where it has one there."""
    make = getattr(engine, "verifier_pool", None)
    pool: VerifierPool | None = make(config.reward.workers, config.reward.timeout) if make else None
    return pool


def _identity(engine: Engine, policy: Policy) -> dict[str, Any]:
    """What a run directory says of its engine: the model is the one that the training began with, wherever its weights
    of now generate, so that an evaluation that was broken off goes on with another engine too."""
    facts = {name: value for name, value in engine.describe().items() if name not in _FILES}
    return {**facts, **policy.checkpoint.describe()}


@contextmanager
def _written(policy: Policy, folder: Path) -> Iterator[Path]:
    """A checkpoint of the weights as they are, for as long as the block takes."""
    try:
        with Writing(folder), whole_folder(folder) as partial, policy.saved() as (model, tokenizer):
            model.save_pretrained(partial)
            tokenizer.save_pretrained(partial)
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
