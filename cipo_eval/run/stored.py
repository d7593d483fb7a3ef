"""What a run directory was asked for, as a plan to judge its attempts by anew."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cipo_eval.data.examples import examples
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import load_problems
from cipo_eval.errors import UsageError
from cipo_eval.records import Sampling
from cipo_eval.run.plan import TaskPlan
from cipo_eval.turns.fewshot import FewShot
from cipo_eval.turns.protocols import protocols_named
from cipo_eval.turns.revising import Revising
from cipo_eval.verifiers.critique import Form


def stored_plan(name: str, task: Mapping[str, Any], data_dir: Path | None) -> TaskPlan:
    """One task as the run had it (``run.json``), with the data of now, whose fingerprint must be the same.
    Raises ``UsageError``, ``MissingError``."""
    problems = load_problems(task["definition"], data_dir=data_dir)
    if problems.fingerprint != task["data"]:
        raise UsageError(
            f"{name}: the data here is not the data of the run (fingerprint {problems.fingerprint}, "
            f"the run's {task['data']}): "
            "point --data-dir at the same copy",
        )
    shown, multiturn = FewShot.asked(task)
    return TaskPlan(
        problems=problems,
        samples=task["samples"],
        sampling=Sampling(**{**task["sampling"], "stop": tuple(task["sampling"]["stop"])}),
        limit=task["limit"],
        scope=Scope.from_text(task["scope"]) if task.get("scope") else None,
        system_prompt=task["system_prompt"],
        fewshot=FewShot(examples=examples(problems.spec, shown), multiturn=multiturn),
        revising=_revising(task),
        think=task["think"],
        harness=task["harness"],
    )


def _revising(task: Mapping[str, Any]) -> Revising:
    """What was asked for, as far as judging needs to know it: neither prompts nor pools."""
    protocols: Mapping[str, Mapping[str, Any]] = task["protocols"]
    forms = [facts["form"] for facts in protocols.values() if "form" in facts]
    return Revising(
        protocols=protocols_named(list(protocols)),
        direct=task["direct"],
        turns=max((facts["turns"] for facts in protocols.values()), default=2),
        critique_form=Form(forms[0]) if forms else Form.ANALYSIS,
    )
