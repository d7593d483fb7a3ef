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
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.estimate.constants import Constants
    from cipo_eval.estimate.machines import Machines

_MACHINES: dict[str, Any] = {"rich_help_panel": "Machines"}
_FITTING: dict[str, Any] = {"rich_help_panel": "Constants"}


class Speed(StrEnum):
    """Whose speed is meant."""

    vllm = "vllm"
    hf = "hf"


Gpu = Annotated[str | None, typer.Option(help="H100, H200, A100, L40S, … (docs/plan.md).", **_MACHINES)]
Gpus = Annotated[
    int | None, typer.Option(min=1, help="How many (default: as few as hold the model).", **_MACHINES)
]
Price = Annotated[float | None, typer.Option(min=0, help="US dollars for a GPU and an hour.", **_MACHINES)]
Engine = Annotated[
    Speed | None, typer.Option(help="vllm (default; also behind servers and Ray) or hf.", **_MACHINES)
]
MeanTokens = Annotated[
    str | None,
    typer.Option(help="Tokens of a first attempt: 3000, or aime24=9000,math500=3000.", **_FITTING),
]
File = Annotated[Path | None, typer.Option(help="File of constants over the shipped ones.", **_FITTING)]
Runs = Annotated[
    list[Path] | None,
    typer.Option(help="Fit constants to this run and write them; may be repeated.", **_FITTING),
]
Write = Annotated[
    Path | None, typer.Option(help="Where fitted constants go (default: standard output).", **_FITTING)
]
OPTIONS: dict[str, Any] = {
    "gpu": Gpu,
    "gpus": Gpus,
    "price": Price,
    "engine": Engine,
    "mean_tokens": MeanTokens,
    "constants": File,
    "calibrate": Runs,
    "write": Write,
}
"""By parameter, what only this command takes."""
_PLANNED = ("task.", "decoding.", "turns.", "engine.model", "scoring.mode", "output.json_")
_OF_ONE_RUN = ("decoding.seeds",)
"""Fields of a run's request that an estimate depends on; a configuration file may hold all of them. It is of one run:
several seeds take as much each."""
_VARIANTS = {
    "engine.model": Variant(help="Size (4B, 8B, …) or folder of a checkpoint.", unset=True),
    "task.tasks": Variant(unset=True),
}


def parameters() -> list[inspect.Parameter]:
    """The options of the command: those of ``run`` that matter here, and its own."""
    from cipo_eval.run.request import RUN

    shown = {
        p.name
        for p in requests.parameters(
            [f for f in RUN if f.startswith(_PLANNED) and f not in _OF_ONE_RUN], _VARIANTS
        )
    }
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
    from cipo_eval.estimate.lengths import stated_means
    from cipo_eval.estimate.workload import workload
    from cipo_eval.run.request import RUN

    own = {name: values.pop(name) for name in OPTIONS}
    request = requests.request_of(context, RUN, values)
    if own["engine"] is None and "engine" in request.engine.model_fields_set:  # a run's configuration file
        own["engine"] = Speed.hf if request.engine.engine == "hf" else Speed.vllm
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
    means = stated_means(own["mean_tokens"], [task.task for task in work.tasks])
    estimated = estimate(work, known, machines, mean_tokens=means)
    if request.output.json_:
        typer.echo(json.dumps(as_json(estimated, own["price"])))
        return
    show(estimated, work, own["price"])


def _machines(own: dict[str, Any], known: Constants, model: str) -> Machines:
    from cipo_eval.estimate.machines import machines_of

    engine = own["engine"] or Speed.vllm
    return machines_of(known, gpu=own["gpu"], gpus=own["gpus"], engine=engine.value, model=model)


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
