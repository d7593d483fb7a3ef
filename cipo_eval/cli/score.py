"""``cipo-eval score``: judge outputs that were generated anywhere."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli import requests
from cipo_eval.cli.generate import Variant
from cipo_eval.cli.session import Display, show

_FILE = inspect.Parameter(
    "file",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[
        Path, typer.Argument(help="JSON Lines of attempts (layouts: docs/replay.md), or a run directory.")
    ],
)
_VARIANTS = {
    "task.tasks": Variant(names=("--task", "-t"), help="The task that the attempts answer."),
    "decoding.samples": Variant(help="Attempts per problem (default: all).", panel=o.SCOPE, minimum=1),
    "turns.protocol": Variant(
        help="given: the file corrects attempts, of --attempts-from or those that come with the task's data."
    ),
    "turns.attempts_from": Variant(
        help="The file corrects these attempts: a pool, a run, or a file, also itself (docs/pools.md)."
    ),
    "decoding.seed": Variant(help="Recorded; scoring draws nothing.", panel=o.SCORING),
}


def parameters() -> list[inspect.Parameter]:
    """The argument and the options of the command."""
    from cipo_eval.run.request import SCORE

    return requests.parameters(SCORE, _VARIANTS, _FILE)


def score(context: typer.Context, file: Path, **values: Any) -> None:
    """Judge attempts from a file. Without --output only the figures remain."""
    from cipo_eval.run.request import SCORE

    request = requests.request_of(context, SCORE, values)
    display = Display(request.output)
    display.say(f"reading {file} for {', '.join(request.task.tasks)}")
    from cipo_eval.run import api  # which takes longer than all before

    results = api.score(file, request, watch=display)
    raise typer.Exit(show(results, request.output))
