"""What ``cipo-eval study`` and ``cipo-eval demo`` do: carry out a study's jobs, and conclude from them."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from cipo_eval.cli.session import say
from cipo_eval.cli.training_progress import of_study

if TYPE_CHECKING:
    from cipo_reports.cells import Table
    from cipo_reports.worth import Worth
    from cipo_trainer.study.grid import StudyConfig
    from cipo_trainer.study.jobs import Carrier, Runner

PAGE_CHARACTERS = 20_000_000
"""Most characters of attempts in a study's page; each of its many runs can have a report of its own."""


def carry_out(
    config: StudyConfig,
    folder: Path,
    *,
    workers: int | None,
    only: Sequence[str] | None = None,
    messages: bool = True,
    elsewhere: Carrier | None = None,
) -> Runner:
    """Runs the jobs that are missing, and names those that failed; ``elsewhere``: not on this machine."""
    from cipo_eval.interrupts import Interrupts
    from cipo_trainer.study.jobs import prepared

    runner = prepared(config, folder, workers=workers, only=only, runner=elsewhere)
    total, missing = len(runner.jobs), len(runner.left)
    if messages and missing:
        place = f"{min(runner.workers, missing)} at a time, in {folder.resolve()}"
        say(f"{total} jobs, {total - missing} of them done, {place}")
    with Interrupts() as interrupts, of_study(messages=messages) as watch:
        runner.run(interrupts, watch)
    for line in runner.flaws():
        say(line)
    return runner


def left_out(config: StudyConfig, folder: Path) -> set[str]:
    """Jobs of seeds whose warm start was not accepted: the study concludes without them."""
    from cipo_trainer.study.grid import jobs
    from cipo_trainer.study.jobs import Ledger

    return Ledger(folder).left_out(jobs(config))


def conclude(config: StudyConfig, folder: Path, *, as_json: bool = False, quiet: bool = False) -> None:
    """Writes a report for each comparison, and shows the first one's headline and page."""
    from cipo_reports.arms import make_arm
    from cipo_reports.correction_tables import headline
    from cipo_reports.report import write_report
    from cipo_reports.study import read_study
    from cipo_trainer.study.conclusions import accepted, comparisons

    pages: list[str] = []
    shown = None
    for comparison in comparisons(config, folder):
        if not quiet and not as_json:  # a minute or two where there are many runs
            after = f", after {comparison.step} steps" if comparison.step else ""
            say(f"report for temperature {comparison.temperature:g}{after} …")
        arms = [make_arm(name, runs) for name, runs in comparison.arms.items()]
        study = read_study(
            arms,
            baseline=config.baseline,
            paired=True,
            worth=_worth(config, comparison.arms),
            remarks=accepted(config, folder),
        )
        report = write_report(study, comparison.report, title=config.title, budget=PAGE_CHARACTERS)
        pages.append(str(report.page))
        shown = shown or headline(study)
    assert shown is not None
    _show(shown, pages, as_json=as_json, quiet=quiet)


def _worth(config: StudyConfig, compared: Collection[str]) -> Worth | None:
    """The arms between which the worth of corrections is measured, of those compared; None where the study does not ask
    for it, or those that it is measured by are not there."""
    from cipo_reports.worth import Worth

    if not config.worth or not {config.worth.all, config.worth.half} <= set(compared):
        return None
    trained = tuple(name for name in compared if config.arms[name] is not None)
    return Worth(all=config.worth.all, half=config.worth.half, of=trained)


def _show(table: Table, pages: Sequence[str], *, as_json: bool, quiet: bool) -> None:
    """Prints the headline and where the page is."""
    if as_json:
        rows = [dict(zip(table.columns, [c.text for c in row], strict=True)) for row in table.rows]
        typer.echo(json.dumps({"pages": list(pages), "headline": rows}, ensure_ascii=False))
    elif not quiet:
        from rich.console import Console

        from cipo_reports.terminal import show_table

        show_table(table, Console())
        typer.echo(pages[0])
