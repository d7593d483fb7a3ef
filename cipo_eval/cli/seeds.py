"""``run --seeds``: a run for each seed, and what they come to together, as a report has it of the seeds of a method."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cipo_eval.cli.session import Display, say
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK

if TYPE_CHECKING:
    from cipo_eval.run.api import Evaluation, Results
    from cipo_eval.run.request import RunRequest
    from cipo_reports.study import Study


def carry_out(runs: Sequence[Evaluation], request: RunRequest) -> int:
    """Generates and judges what is missing of each run, and shows their means; returns the exit code. What is missing
    or wrong of any of them is said before the first begins."""
    output = request.output
    display = Display(output)
    for run in runs:
        _ = run.plans
    done: list[Results] = []
    for run in runs:
        display.say(f"seed {run.request.decoding.seed}: {run.folder}")
        results = run.run()
        for warning in results.warnings:
            say(f"warning: seed {run.request.decoding.seed}: {warning}")
        for failure in results.failures:
            say(f"failed: seed {run.request.decoding.seed}: {failure}")
        done.append(results)
    folders = [run.folder for run in runs]
    if output.json_ or not output.quiet:
        _show(_study(folders, request), done, as_json=output.json_)
    display.say(
        f"run directories: {', '.join(map(str, folders))}; with others: cipo-eval report -g NAME=RUN,RUN"
    )
    return EXIT_FAILURES if any(results.failures for results in done) else EXIT_OK


def _study(folders: Sequence[Path], request: RunRequest) -> Study:
    """The runs as the seeds of one method, named as the folder without its seed."""
    from cipo_eval.analysis.figures import load
    from cipo_reports.arms import NAME_LENGTH, make_arm
    from cipo_reports.study import read_study

    name = folders[0].name.rpartition(".seed-")[0]
    return read_study(
        [make_arm(name[:NAME_LENGTH], folders)],
        bootstrap=request.scoring.bootstrap,
        figures=load(request.scoring.figures),
    )


def _show(study: Study, done: Sequence[Results], *, as_json: bool) -> None:
    from cipo_reports.frames import RESULTS, whole

    if as_json:
        means = json.loads(whole(study.results)[RESULTS].to_json(orient="records"))
        runs = {str(results.folder): results.figures for results in done}
        typer.echo(json.dumps({"runs": runs, "means": means}))
        return
    from rich.console import Console

    from cipo_eval.turns.protocols import PROTOCOLS
    from cipo_reports.correction_tables import overview
    from cipo_reports.tables import main
    from cipo_reports.terminal import show_table

    console = Console()
    show_table(main(study), console)
    if any(PROTOCOLS[name].own for name in study.protocols):
        show_table(overview(study), console)
    for note in study.notes:
        say(f"! {note}")
