"""``cipo-eval merge``: one run directory of all shards of a run."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from cipo_eval.cli import requests
from cipo_eval.cli.generate import Variant
from cipo_eval.cli.session import Display, show

_SHARDS = inspect.Parameter(
    "shards",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[
        list[Path], typer.Argument(help="Run directories of all shards.", metavar="SHARD...")
    ],
)
_PARTIAL = inspect.Parameter(
    "partial",
    inspect.Parameter.KEYWORD_ONLY,
    default=False,
    annotation=Annotated[
        bool, typer.Option("--partial", help="Also where shards are missing or not finished; says which.")
    ],
)
_VARIANTS = {"output.output": Variant(help="Run directory to make (required).")}


def parameters() -> list[inspect.Parameter]:
    """The arguments and the options of the command."""
    from cipo_eval.run.request import MERGE

    context, *others = requests.parameters(MERGE, _VARIANTS)
    others = [parameter for parameter in others if parameter.name not in ("overrides", "config")]
    return [context, _SHARDS, _PARTIAL, *others]


def merge(context: typer.Context, shards: list[Path], partial: bool, **values: Any) -> None:
    """Make one run of all shards of a run (`run --shard i/N`): the same attempts and figures as without shards.

    Refused where they are not shards of one run, or where some are missing (exit code 3, without --partial)."""
    from cipo_eval.run.merge import merge as merged
    from cipo_eval.run.request import MERGE

    request = requests.request_of(context, MERGE, {**values, "config": None, "overrides": None})
    results = merged(shards, request, partial=partial, watch=Display(request.output))
    raise typer.Exit(show(results, request.output))
