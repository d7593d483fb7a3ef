"""``cipo-eval run --dry-run``: a closer look at what a run needs, short of loading weights and of writing anything."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cipo_eval.errors import MissingError
from cipo_eval.run import folder as run_folder

if TYPE_CHECKING:
    from cipo_eval.engines.registry import EngineChoice
    from cipo_eval.run.plan import TaskPlan


def dry_run(runs: Sequence[tuple[Sequence[TaskPlan], Path]], choice: EngineChoice, *, as_json: bool) -> None:
    """Prints what each run, with its folder, would generate, and a line for each part that was looked at. Raises what
    the runs would raise."""
    looks = []
    for plans, folder in runs:
        rows, looked = _look(plans, folder, choice)
        if not as_json:
            _print(rows, looked)
        looks.append({"output": str(folder), "tasks": rows, "looked_at": looked})
    if as_json:
        typer.echo(json.dumps(looks if len(looks) > 1 else looks[0]))


def _look(
    plans: Sequence[TaskPlan], folder: Path, choice: EngineChoice
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    from cipo_eval.run.info import confinement

    rows = [_row(plan, folder) for plan in plans]
    looked = {"model": _model(plans, choice)}
    if confined := confinement(plans):
        looked["sandbox"] = confined["detail"]
    looked["output"] = _output(plans, folder)
    return rows, looked


def _print(rows: Sequence[dict[str, Any]], looked: dict[str, str]) -> None:
    for row in rows:
        typer.echo(
            f"{row['task']}: {row['problems']} problems x {row['samples']} samples = {row['attempts']} attempts, "
            f"{row['attempts_to_generate']} to generate, at most {row['most_new_tokens']:,} new tokens "
            f"(temperature {row['temperature']}, top_p {row['top_p']}, max_tokens {row['max_tokens']})",
        )
        if row["most_attempts_of_later_turns"]:
            typer.echo(f"  and at most {row['most_attempts_of_later_turns']} attempts of later turns")
    for name, text in looked.items():
        typer.echo(f"{name}: {text}")


def _row(plan: TaskPlan, folder: Path) -> dict[str, Any]:
    """What would be generated of a task: attempts that are already on disk are not counted again."""
    from cipo_eval.storage.store import attempts_of_task
    from cipo_eval.turns.protocols import DIRECT

    stored = attempts_of_task(folder, plan.name)
    new = plan.first_attempts - int(plan.selection.part_of(stored, DIRECT).sum())
    return {
        "task": plan.name,
        "problems": len(plan.selected),
        "samples": plan.samples,
        "attempts": plan.first_attempts,
        "attempts_to_generate": new,
        "most_attempts_of_later_turns": plan.most_later_attempts,
        "most_new_tokens": new * plan.sampling.max_tokens,
        "temperature": plan.sampling.temperature,
        "top_p": plan.sampling.top_p,
        "max_tokens": plan.sampling.max_tokens,
    }


def _model(plans: Sequence[TaskPlan], choice: EngineChoice) -> str:
    """What there is to say of the model: of a checkpoint, how it sees the first prompt."""
    problems = [problem for plan in plans for problem in plan.all_problems]
    return choice.preview(problems, [plan.first(plan.selected[0], [0], 0) for plan in plans if plan.selected])


def _output(plans: Sequence[TaskPlan], folder: Path) -> str:
    free, most = run_folder.free_bytes(folder), run_folder.most_bytes(plans)
    if free < run_folder.LEAST_FREE:
        raise MissingError(f"the disk of {folder} is full: free some space, or choose another --output")
    what = "holds a run, which goes on" if (folder / "run.json").exists() else "is new"
    scarce = "" if free > most else ": may not be enough"
    return f"{folder} {what}; {_size(free)} free, at most {_size(most)} needed{scarce}"


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
