"""``cipo-eval plan``: what a run will take, before it starts; and constants fitted to runs that were made."""

from __future__ import annotations

import inspect
import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import requests
from cipo_eval.cli.generate import Variant
from cipo_eval.errors import UsageError, nearest

if TYPE_CHECKING:
    from cipo_eval.estimate.constants import Constants, Gpu
    from cipo_eval.estimate.estimate import Machines

MACHINES, FITTING = "Machines", "Constants"
"""Panels of the help."""


class Speed(StrEnum):
    """Whose speed is meant."""

    vllm = "vllm"
    hf = "hf"


OPTIONS: dict[str, Any] = {
    "gpu": Annotated[
        str | None,
        typer.Option("--gpu", help="H100, H200, A100, L40S, … (docs/plan.md).", rich_help_panel=MACHINES),
    ],
    "gpus": Annotated[
        int | None,
        typer.Option(
            "--gpus", min=1, help="How many (default: as few as hold the model).", rich_help_panel=MACHINES
        ),
    ],
    "price": Annotated[
        float | None,
        typer.Option("--price", min=0, help="US dollars for a GPU and an hour.", rich_help_panel=MACHINES),
    ],
    "engine": Annotated[
        Speed | None,
        typer.Option(
            "--engine", help="vllm (default; also behind servers and Ray) or hf.", rich_help_panel=MACHINES
        ),
    ],
    "mean_tokens": Annotated[
        str | None,
        typer.Option(
            "--mean-tokens",
            help="Tokens of a first attempt: 3000, or aime24=9000,math500=3000.",
            rich_help_panel=FITTING,
        ),
    ],
    "constants": Annotated[
        Path | None,
        typer.Option("--constants", help="File of constants over the shipped ones.", rich_help_panel=FITTING),
    ],
    "calibrate": Annotated[
        list[Path] | None,
        typer.Option(
            "--calibrate",
            help="Fit constants to this run and write them; may be repeated.",
            rich_help_panel=FITTING,
        ),
    ],
    "write": Annotated[
        Path | None,
        typer.Option(
            "--write", help="Where fitted constants go (default: standard output).", rich_help_panel=FITTING
        ),
    ],
}
"""By parameter, what only this command takes."""
_PLANNED = ("task.", "decoding.", "turns.", "engine.model", "scoring.mode", "output.json_")
"""Fields of a run's request that an estimate depends on; a configuration file may hold all of them."""
_VARIANTS = {
    "engine.model": Variant(help="Size (4B, 8B, …) or folder of a checkpoint.", unset=True),
    "task.tasks": Variant(unset=True),
}


def parameters() -> list[inspect.Parameter]:
    """The options of the command: those of ``run`` that matter here, and its own."""
    from cipo_eval.run.request import RUN

    shown = {p.name for p in requests.parameters([f for f in RUN if f.startswith(_PLANNED)], _VARIANTS)}
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=option, default=None)
        for name, option in OPTIONS.items()
    ]
    return [*(p for p in requests.parameters(RUN, _VARIANTS) if p.name in shown), *own]


def plan(context: typer.Context, **values: Any) -> None:
    """Say what a run will take, before it starts: attempts, tokens, GPU hours, disk, cost, each with an interval.

    Takes what `run` takes, with a size or a checkpoint for --model."""
    from cipo_eval.cli.plan_table import show
    from cipo_eval.estimate.constants import constants
    from cipo_eval.estimate.estimate import as_json, estimate
    from cipo_eval.estimate.workload import workload
    from cipo_eval.run.request import RUN

    own = {name: values.pop(name) for name in OPTIONS}
    request = requests.request_of(context, RUN, values)
    known = constants(own["constants"])
    if own["calibrate"]:
        _calibrate(own, known, request.engine.model, request.task.data_dir)
        return
    if own["write"]:
        raise UsageError("--write belongs together with --calibrate")
    if not request.task.tasks:
        raise UsageError("--tasks names no task; `cipo-eval tasks` lists them")
    if own["gpu"] is None:
        raise UsageError(f"--gpu is missing: {', '.join(known.gpus)}")
    machines = _machines(own, known, request.engine.model)
    work = workload(request, known)
    found = estimate(work, known, machines, mean_tokens=_mean_tokens(own["mean_tokens"], request.task.tasks))
    if request.output.json_:
        typer.echo(json.dumps(as_json(found, own["price"])))
        return
    show(found, work, own["price"])


def _machines(own: dict[str, Any], known: Constants, model: str) -> Machines:
    from cipo_eval.estimate.estimate import Machines
    from cipo_eval.estimate.roofline import Replica
    from cipo_eval.estimate.shapes import shape_of

    name, gpu = _gpu(own["gpu"], known)
    speed = known.engines[(own["engine"] or Speed.vllm).value]
    shape = shape_of(model, known)
    gpus = own["gpus"] or Replica(gpu=gpu, speed=speed, shape=shape).gpus
    machines = Machines(name=name, gpu=gpu, speed=speed, shape=shape, gpus=gpus)
    _ = machines.replicas  # too few are said here
    return machines


def _gpu(name: str, known: Constants) -> tuple[str, Gpu]:
    for key, gpu in known.gpus.items():
        if key.lower() == name.strip().lower():
            return key, gpu
    raise UsageError(f"unknown --gpu {name}: {nearest(name, known.gpus)} (others: --constants, docs/plan.md)")


def _mean_tokens(text: str | None, tasks: tuple[str, ...]) -> dict[str, float]:
    """By task, what ``--mean-tokens`` says; under the empty name, of all."""
    found: dict[str, float] = {}
    for part in (text or "").split(",") if text is not None else ():
        task, _, number = part.rpartition("=")
        try:
            found[task.strip()] = float(number)
        except ValueError:
            raise UsageError(f"--mean-tokens {text}: 3000, or aime24=9000,math500=3000") from None
        if not 1 <= found[task.strip()] <= 1e7:
            raise UsageError(f"--mean-tokens {text}: from 1 to 10,000,000")
        if task.strip() and task.strip() not in tasks:
            raise UsageError(f"--mean-tokens {task.strip()}: {nearest(task.strip(), tasks)}")
    return found


def _calibrate(own: dict[str, Any], known: Constants, model: str, data_dir: Path | None) -> None:
    import yaml

    from cipo_eval.cli.progress import say
    from cipo_eval.estimate.calibration import calibrated
    from cipo_eval.files import write_text

    machines = _machines(own, known, model) if own["gpu"] else None
    values, notes = calibrated(own["calibrate"], known, machines, data_dir)
    for note in notes:
        say(note)
    text = yaml.safe_dump(values, sort_keys=False, width=110)
    if own["write"] is None:
        typer.echo(text, nl=False)
        return
    try:
        write_text(own["write"], text)
    except OSError as error:
        raise UsageError(f"--write {own['write']} cannot be written ({error.strerror})") from error
    say(f"constants: {own['write']}; use them with --constants {own['write']}")
