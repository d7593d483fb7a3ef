"""Evaluation during training: the harness itself, on held-out tasks, with the weights as they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cipo_eval.analysis.rows import logged
from cipo_eval.data.tasks import ProblemSet, load_problems
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Mode
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.progress import Progress
from cipo_eval.run.runner import Run
from cipo_eval.storage.store import RunStore
from cipo_eval.turns.protocols import DIRECT, chosen
from cipo_eval.turns.revising import Prompts, Revising, TurnFormat
from cipo_eval.verifiers.pool import VerifierPool
from cipo_trainer import rollout
from cipo_trainer.config import Config


class Evaluator:
    """Raises ``UsageError``/``MissingError`` at once for tasks that are unknown or whose data is not there."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._problems: list[ProblemSet] = [
            load_problems(name, data_dir=config.data.dir) for name in config.eval.tasks
        ]

    def __bool__(self) -> bool:
        return bool(self._problems)

    def run(
        self, engine: Any, pool: VerifierPool, folder: Path, step: int, interrupts: Interrupts
    ) -> dict[str, Any]:
        """A run directory at ``folder``, and its key figures: ``task/figure``, the first task's accuracy first."""
        config = self._config
        plans = [self._plan(problems) for problems in self._problems]
        with RunStore(folder) as store:
            run = Run(
                store,
                plans,
                engine={**engine.describe(), "trained_steps": step},
                seed=config.seed,
                modes=(Mode.FIXED,),
                command=["cipo-eval", "train"],
                bootstrap=200,
            )
            run.execute(engine, pool, Progress(), interrupts)
            results = run.results()
            store.write_results(results)
        values: dict[str, Any] = {}
        for plan in plans:
            values |= logged(plan.name, results["tasks"][plan.name], Mode.FIXED)
        return values

    def _plan(self, problems: ProblemSet) -> TaskPlan:
        config, asked = self._config, self._config.eval
        sampling = rollout.sampling(asked.max_tokens or config.rollout.max_tokens)
        own = tuple(p for p in chosen(asked.protocol) if p.name != DIRECT)
        prompts = Prompts(asked.prompt_dir) if asked.prompt_dir else None
        revising = Revising(protocols=own, turn_format=TurnFormat(asked.turn_format), prompts=prompts)
        return TaskPlan(
            problems=problems,
            samples=asked.samples,
            sampling=replace(sampling, temperature=asked.temperature),
            limit=asked.limit,
            revising=revising,
            allow_unsafe=config.reward.allow_unsafe_code,
        )
