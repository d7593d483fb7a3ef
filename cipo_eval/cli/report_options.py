"""The options of ``cipo-eval report``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.generate import parameters_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions:
    """What ``cipo-eval report`` is told; a field is an option, whose help says what it means."""

    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run directories or outputs of `cipo-eval train`, a method each (NAME=RUN,RUN too).",
        ),
    ] = None
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("report")
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--groups",
            "-g",
            metavar="NAME=RUN,RUN",
            help="A method with its runs: seeds of one training, or different tasks; its training too. Repeatable.",
        ),
    ] = None
    baseline: Annotated[
        str | None, typer.Option(help="The method that the others are compared with (default: the first).")
    ] = None
    title: Annotated[str, typer.Option(help="Of the page.")] = "cipo-eval report"
    published: Annotated[
        bool, typer.Option("--published", help="Add the CIPO paper's figures, marked as not measured here.")
    ] = False
    model_card: Annotated[
        bool,
        typer.Option("--model-card", help="Write each method's model-index block for the Hugging Face hub."),
    ] = False
    gallery: Annotated[
        bool,
        typer.Option("--gallery", help="Show every table and figure with a made-up study instead of runs."),
    ] = False
    mode: Annotated[
        o.ModeFlag | None,
        typer.Option("--mode", help="Whose verdicts (default: the first that all runs have)."),
    ] = None
    force: Annotated[
        bool, typer.Option("--force", help="Compare runs that were asked different things; the page says so.")
    ] = False
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="The i-th run of each method began with the same weights (a warm start). Counts from four runs on.",
        ),
    ] = False
    page_megabytes: Annotated[
        int, typer.Option(min=0, help="Most characters of attempts in the page, in millions.")
    ] = 250
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figures", metavar="MODULE:OBJECT", help="Figures of your own too (separated by commas)."
        ),
    ] = None
    track: Annotated[
        str,
        typer.Option(
            help="Log figures, page and tables with wandb, trackio, tensorboard or mlflow (NAME:PROJECT too)."
        ),
    ] = ""
    push_space: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="Upload the page as a static Space of the Hugging Face hub."),
    ] = None
    push_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME", help="Upload the runs' attempts and figures as a data set of the hub."
        ),
    ] = None
    private: Annotated[bool, typer.Option("--private", help="What is uploaded is not for everybody.")] = False
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the report, list what would be uploaded, and stop.")
    ] = False
    bootstrap: o.Bootstrap = 2000
    json: o.Json = False
    quiet: o.Quiet = False

    @property
    def talkative(self) -> bool:
        """Whether progress and notes are shown."""
        return not self.quiet and not self.json


def parameters() -> list[inspect.Parameter]:
    """The options of the command."""
    return parameters_of(ReportOptions)
