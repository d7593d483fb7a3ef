"""Options that commands share besides those of a ``RunRequest`` (``requests``)."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.run.modes import ModeChoice as ModeFlag

__all__ = ["OUTPUT", "SCOPE", "SCORING", "Bootstrap", "DataDir", "Json", "ModeFlag", "Quiet"]

SCOPE, SCORING, OUTPUT = "Scope", "Scoring", "Output"
"""Panels of the help."""

DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="CIPO_EVAL_DATA",
        help="Local mirror of the data sets.",
        rich_help_panel=SCOPE,
    ),
]
Json = Annotated[
    bool,
    typer.Option("--json", help="Results as JSON on standard output, nothing else.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.", rich_help_panel=OUTPUT)]
Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap",
        min=100,
        help="Resamples of problems for intervals (tests draw 9,999, or these if more).",
        rich_help_panel=SCORING,
    ),
]
