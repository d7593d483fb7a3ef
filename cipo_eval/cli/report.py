"""``cipo-eval report``: tables, figures and a page from run directories."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.compare import named
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError, require


def report(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...",
            help="Run directories or outputs of `cipo-eval train`, a method each (NAME=RUN,RUN too).",
        ),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the report.")] = Path("report"),
    groups: Annotated[
        list[str] | None,
        typer.Option(
            "--groups",
            "-g",
            metavar="NAME=RUN,RUN",
            help="A method with its runs: seeds of one training, or different tasks; its training too. Repeatable.",
        ),
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="The method that the others are compared with (default: the first).")
    ] = None,
    title: Annotated[str, typer.Option(help="Of the page.")] = "cipo-eval report",
    published: Annotated[
        bool, typer.Option("--published", help="Add the CIPO paper's figures, marked as not measured here.")
    ] = False,
    model_card: Annotated[
        bool,
        typer.Option("--model-card", help="Write each method's model-index block for the Hugging Face hub."),
    ] = False,
    gallery: Annotated[
        bool,
        typer.Option("--gallery", help="Show every table and figure with a made-up study instead of runs."),
    ] = False,
    mode: Annotated[
        o.ModeFlag | None,
        typer.Option("--mode", help="Whose verdicts (default: the first that all runs have)."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare runs that were asked different things; the page says so.")
    ] = False,
    paired: Annotated[
        bool,
        typer.Option(
            "--paired",
            help="The i-th run of each method began with the same weights (a warm start). Counts from four runs on.",
        ),
    ] = False,
    page_megabytes: Annotated[
        int, typer.Option(min=0, help="Most characters of attempts in the page, in millions.")
    ] = 250,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figures", metavar="MODULE:OBJECT", help="Figures of your own too (separated by commas)."
        ),
    ] = None,
    track: Annotated[
        str,
        typer.Option(
            help="Log figures, page and tables with wandb, trackio, tensorboard or mlflow (NAME:PROJECT too)."
        ),
    ] = "",
    push_space: Annotated[
        str | None,
        typer.Option(metavar="USER/NAME", help="Upload the page as a static Space of the Hugging Face hub."),
    ] = None,
    push_dataset: Annotated[
        str | None,
        typer.Option(
            metavar="USER/NAME", help="Upload the runs' attempts and figures as a data set of the hub."
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="What is uploaded is not for everybody.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the report, list what would be uploaded, and stop.")
    ] = False,
    bootstrap: o.Bootstrap = 2000,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Write OUTPUT/report.html, which opens anywhere, and every table and figure for a paper."""
    import tempfile

    from cipo_eval import tracking
    from cipo_eval.analysis.figures import load
    from cipo_eval.cli.session import say
    from cipo_eval.records import Mode
    from cipo_eval.run.folder import look_at_place
    from cipo_reports import hub
    from cipo_reports.arms import read_arms
    from cipo_reports.report import check_folder, write_report
    from cipo_reports.study import read_study
    from cipo_reports.synthetic import make_study

    if mode is o.ModeFlag.both:
        raise UsageError("--mode both: a report shows one mode's verdicts at a time")
    trackers = named(track)
    tracking.check(trackers)
    hub.check([push_space, push_dataset], dry_run=dry_run)
    look_at_place(output)
    check_folder(output)
    if model_card:
        require("data", "--model-card")
    speak = not quiet and not json
    with tempfile.TemporaryDirectory(prefix="cipo-eval-") as folder:
        if gallery:
            if runs or groups:
                raise UsageError("--gallery shows a made-up study: it takes no runs")
            made = make_study(Path(folder), problems=40, samples=8)
            groups = [f"{name}={','.join(map(str, paths))}" for name, paths in made.items()]
            title = "cipo-eval report: a made-up study"
        study = read_study(
            read_arms(runs or [], groups or []),
            baseline=baseline,
            mode=Mode(mode.value) if mode else None,
            bootstrap=bootstrap,
            force=force,
            paired=paired,
            figures=load(named(figures)),
        )
        written = write_report(
            study,
            output,
            title=title,
            published=published,
            cards=model_card,
            budget=page_megabytes * 1_000_000,
            on_step=(lambda what: say(f"  {what} …")) if speak else lambda _: None,
        )
    failures = tracking.record(
        trackers, title, output, hub.described(study), hub.numbers(study), [written.page, *hub.tables(output)]
    )
    with tempfile.TemporaryDirectory(prefix="cipo-eval-") as folder:
        uploads = hub.prepared(
            Path(folder), study, written.page, title, space=push_space, dataset=push_dataset
        )
        links = hub.pushed(uploads, private=private, dry_run=dry_run, say=say if speak else lambda _: None)
    if json:
        found = {"page": str(written.page), "tables": written.tables, "figures": written.figures}
        sizes = {"attempts": written.attempts, "left_out": written.left_out, "bytes": written.bytes}
        told = {"baseline": study.baseline, "notes": study.notes, "pushed": links, "failures": failures}
        typer.echo(json_module.dumps({**found, **sizes, **told}))
        raise typer.Exit(EXIT_FAILURES if failures else EXIT_OK)
    for note in study.notes if speak else ():
        say(f"! {note}")
    if not quiet:
        typer.echo(f"{written.page}")
        for link in links:
            typer.echo(link)
    for failure in failures:
        say(f"! {failure}")
    raise typer.Exit(EXIT_FAILURES if failures else EXIT_OK)
