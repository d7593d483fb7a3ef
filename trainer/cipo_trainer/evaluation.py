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
from cipo_eval.run.planning import plans
from cipo_eval.run.progress import Progress
from cipo_eval.run.request import RunRequest
from cipo_eval.run.runner import Run
from cipo_eval.storage.store import RunStore
from cipo_eval.turns.protocols import DIRECT
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
        task_plans = self._plans()
        with RunStore(folder) as store:
            run = Run(
                store,
                task_plans,
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
        for plan in task_plans:
            values |= logged(plan.name, results["tasks"][plan.name], Mode.FIXED)
        return values

    def _plans(self) -> list[TaskPlan]:
        """What is asked of each task: a run's request, sampled as the training samples."""
        config, settings = self._config, self._config.eval
        request = RunRequest.of(
            limit=settings.limit,
            protocol=[DIRECT, *settings.protocol],
            turn_format=settings.turn_format,
            prompt_dir=settings.prompt_dir,
            allow_unsafe_code=config.reward.allow_unsafe_code,
        )
        sampling = replace(
            rollout.sampling(settings.max_tokens or config.rollout.max_tokens),
            temperature=settings.temperature,
        )
        return plans(request, self._problems, [(settings.samples, sampling)] * len(self._problems))
