"""``cipo-eval rescore``: judge a run's attempts anew, without a model."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from cipo_eval.cli import requests
from cipo_eval.cli.generate import Variant
from cipo_eval.cli.session import Display, show

_RUN = inspect.Parameter(
    "run",
    inspect.Parameter.KEYWORD_ONLY,
    annotation=Annotated[Path, typer.Argument(help="Run directory.")],
)
_VARIANTS = {
    "scoring.mode": Variant(help="fixed, paper or both (default: the run's).", unset=True),
    "scoring.think": Variant(
        help="strip, keep, or the two tags of thoughts (default: the run's).", unset=True
    ),
}


def parameters() -> list[inspect.Parameter]:
    """The argument and the options of the command."""
    from cipo_eval.run.request import RESCORE

    return requests.parameters(RESCORE, _VARIANTS, _RUN)


def rescore(context: typer.Context, run: Path, **values: Any) -> None:
    """Judge every stored attempt again and rewrite verdicts and results; the attempts themselves stay."""
    from cipo_eval.run import api
    from cipo_eval.run.request import RESCORE

    request = requests.request_of(context, RESCORE, values)
    results = api.rescore(run, request, watch=Display(request.output))
    raise typer.Exit(show(replace(results, folder=None), request.output))
