"""``cipo-eval run``: generate and judge attempts at tasks with a model."""

from __future__ import annotations

import inspect
from typing import Any

import typer

from cipo_eval.cli import requests, seeds, submit
from cipo_eval.cli.session import Display, show


def parameters() -> list[inspect.Parameter]:
    """The options of the command."""
    from cipo_eval.run.request import RUN

    return [*requests.parameters(RUN), *submit.parameters()]


def run(context: typer.Context, **values: Any) -> None:
    """Generate and judge attempts; an existing run directory is resumed and only added to.

    What is missing or wrong is said before anything is loaded."""
    from cipo_eval.run.api import evaluations
    from cipo_eval.run.request import RUN

    jobs = {name: values.pop(name) for name in submit.OPTIONS}
    request = requests.request_of(context, RUN, values)
    runs = evaluations(request, Display(request.output))
    submit.batch_of(jobs)
    if jobs["submit"]:
        submit.submit_runs(context, request, runs, jobs)
        return
    if request.output.dry_run:
        from cipo_eval.cli.dry_run import dry_run

        dry_run([(run.plans, run.folder) for run in runs], runs[0].engine, as_json=request.output.json_)
        return
    if len(runs) > 1:
        raise typer.Exit(seeds.carry_out(runs, request))
    raise typer.Exit(show(runs[0].run(), request.output))
