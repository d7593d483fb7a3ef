"""``cipo-eval study``: trainings and evaluations as a grid from one file, and the report that compares them."""

from __future__ import annotations

import json as json_module
import shlex
from collections.abc import Collection, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli import submit as batch
from cipo_eval.cli.session import say
from cipo_eval.cli.training_progress import of_study
from cipo_eval.errors import EXIT_FAILURES, MissingError, UsageError
from cipo_eval.run.folder import look_at_place

if TYPE_CHECKING:
    from cipo_eval.run.slurm import Batch
    from cipo_trainer.study.grid import Job, StudyConfig
    from cipo_trainer.study.jobs import Carrier, Runner

NAMED = 12
"""Missing jobs that a message names."""
PAGE_CHARACTERS = (
    20_000_000  # of attempts in a study's page; each of its many runs can have a report of its own
)


class Submit(StrEnum):
    """Where jobs may be carried out other than here."""

    SLURM = "slurm"
    RAY = "ray"


def study(
    config: Annotated[
        str | None, typer.Argument(help="Configuration file, or the name of a shipped study (docs/study.md).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Over it: seeds=[0,1] evaluate.limit=200"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the study (default: runs/NAME).")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Jobs at a time (default: one for each GPU, else for each core)."),
    ] = None,
    job: Annotated[
        list[str] | None,
        typer.Option("--job", help="Only this job, and no report: for a cluster's own launcher. Repeatable."),
    ] = None,
    listing: Annotated[
        bool,
        typer.Option(
            "--list", help="Print the jobs and their state, and stop; without a study, those shipped."
        ),
    ] = False,
    submit: Annotated[
        Submit | None,
        typer.Option(
            "--submit",
            help="Carry the jobs out elsewhere: slurm writes scripts for sbatch and submits them (docs/slurm.md), "
            "ray takes a Ray cluster (docs/ray.md).",
        ),
    ] = None,
    address: Annotated[str, typer.Option(help="Of a Ray cluster: auto, HOST:PORT or local.")] = "auto",
    job_cpus: Annotated[float, typer.Option(min=0, help="Cores of a Ray node for each job.")] = 1.0,
    job_gpus: Annotated[float, typer.Option(min=0, help="GPUs of a Ray node for each job.")] = 0.0,
    report: Annotated[
        bool, typer.Option("--report", help="Only the report; refused while jobs are missing.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="With --submit: show the scripts, or the jobs, and submit nothing.",
            rich_help_panel=batch.PANEL,
        ),
    ] = False,
    submit_template: batch.TemplateFile = None,
    partition: batch.Partition = None,
    account: batch.Account = None,
    time: batch.Time = None,
    gpus: batch.Gpus = None,
    sbatch: batch.Sbatch = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train and score every arm of a study, whatever is missing of it, and compare them in OUTPUT/report."""
    from cipo_trainer.study.grid import jobs, read_study_config, shipped_studies, study_file

    if config is None:
        if not listing:
            raise UsageError(f"name a study or its file: {', '.join(shipped_studies())} (--list says more)")
        _list_studies(as_json=json)
        return
    path = study_file(config)
    asked = read_study_config(path, overrides or ())
    folder = output or Path("runs") / path.stem
    look_at_place(folder)
    if listing:
        _list(jobs(asked), folder, as_json=json)
        return
    if dry_run and submit is None:
        raise UsageError("--dry-run belongs together with --submit; --list shows the jobs and what is done")
    in_batch = submit is Submit.SLURM or None
    options: dict[str, Any] = {"submit": in_batch, "submit_template": submit_template, "partition": partition}
    options |= {"account": account, "time": time, "gpus": gpus, "sbatch": sbatch}
    cluster = batch.batch_of(options)
    if in_batch or report:
        from cipo_trainer.study.jobs import Ledger

        every = jobs(asked)
        done = Ledger(folder).done(every)
        if in_batch:
            words = [config, *(overrides or ()), "--output", str(folder)]
            _submit(words, every, done, folder, cluster, dry_run=dry_run)
            return
        if left := [job.name for job in every if job.name not in done]:
            raise MissingError(f"{len(left)} of {len(every)} jobs are missing: {', '.join(left[:NAMED])}")
        conclude(asked, folder, as_json=json, quiet=quiet)
        return
    if dry_run:
        _show(asked, folder, job, f"Ray ({address}), each with {job_cpus:g} CPU and {job_gpus:g} GPU")
        return
    elsewhere = _on_ray(address, job_cpus, job_gpus) if submit is Submit.RAY else None
    runner = carry_out(
        asked, folder, workers=workers, only=job, messages=not (quiet or json), elsewhere=elsewhere
    )
    if not runner.failed and not job:
        conclude(asked, folder, as_json=json, quiet=quiet)
    raise typer.Exit(EXIT_FAILURES if runner.flawed else 0)


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
    every, left = len(runner.jobs), len(runner.left)
    if messages and left:
        place = f"{min(runner.workers, left)} at a time, in {folder.resolve()}"
        say(f"{every} jobs, {every - left} of them done, {place}")
    with Interrupts() as interrupts, of_study(messages=messages) as watch:
        runner.run(interrupts, watch)
    for line in runner.flaws():
        say(line)
    return runner


def _on_ray(address: str, cpus: float, gpus: float) -> Carrier:
    """What carries jobs out on a cluster."""
    from cipo_trainer.study.on_ray import Place, RayRunner

    place = Place(address=address, cpus=cpus, gpus=gpus)
    return lambda folder, jobs, workers: RayRunner(folder, jobs, workers, place, say=say)


def _show(config: StudyConfig, folder: Path, only: Sequence[str] | None, where: str) -> None:
    """The jobs that would be submitted to a place."""
    from cipo_trainer.study.grid import jobs
    from cipo_trainer.study.jobs import Ledger, chosen
    from cipo_trainer.study.submission import described

    every = chosen(jobs(config), only)
    lines = described(every, Ledger(folder).done(every), folder)
    typer.echo("\n".join([f"# {len(lines)} of {len(every)} jobs on {where}", *lines]))


def conclude(config: StudyConfig, folder: Path, *, as_json: bool = False, quiet: bool = False) -> None:
    """Writes a report for each temperature, and shows the first one's headline and page."""
    from rich.console import Console

    from cipo_reports.arms import make_arm
    from cipo_reports.correction_tables import headline
    from cipo_reports.report import write_report
    from cipo_reports.study import read_study
    from cipo_reports.terminal import show_table
    from cipo_reports.worth import Worth
    from cipo_trainer.study.conclusions import accepted, comparisons

    worth = None
    if config.worth:
        trained = tuple(name for name, over in config.arms.items() if over is not None)
        worth = Worth(all=config.worth.all, half=config.worth.half, of=trained)
    pages: list[str] = []
    shown = None
    for comparison in comparisons(config, folder):
        if not quiet and not as_json:  # a minute or two where there are many runs
            say(f"report for temperature {comparison.temperature:g} …")
        arms = [make_arm(name, runs) for name, runs in comparison.arms.items()]
        study = read_study(
            arms, baseline=config.baseline, paired=True, worth=worth, remarks=accepted(config, folder)
        )
        report = write_report(study, comparison.report, title=config.title, budget=PAGE_CHARACTERS)
        pages.append(str(report.page))
        shown = shown or headline(study)
    assert shown is not None
    if as_json:
        rows = [dict(zip(shown.columns, [c.text for c in row], strict=True)) for row in shown.rows]
        typer.echo(json_module.dumps({"pages": pages, "headline": rows}, ensure_ascii=False))
    elif not quiet:
        show_table(shown, Console())
        typer.echo(pages[0])


def _submit(
    words: Sequence[str],
    every: Sequence[Job],
    done: Collection[str],
    folder: Path,
    cluster: Batch,
    *,
    dry_run: bool,
) -> None:
    from cipo_trainer.study.submission import batch_jobs

    hint = f"cipo-eval study {shlex.join(words)} --list"
    batch.carry_out(batch_jobs(words, every, done, folder.name), folder, cluster, dry_run=dry_run, hint=hint)


def _list(every: Sequence[Job], folder: Path, *, as_json: bool) -> None:
    from cipo_trainer.study.jobs import Ledger

    done = Ledger(folder).done(every)
    if as_json:
        rows = [{"job": j.name, "kind": j.kind, "needs": j.needs, "done": j.name in done} for j in every]
        typer.echo(json_module.dumps(rows))
        return
    for job in every:
        needs = f"   after {', '.join(job.needs)}" if job.needs else ""
        typer.echo(f"{'done' if job.name in done else 'open'}  {job.name}{needs}")


def _list_studies(*, as_json: bool) -> None:
    from cipo_trainer.study.grid import read_study_config, shipped_studies

    titles = {name: read_study_config(path).title for name, path in shipped_studies().items()}
    as_rows = json_module.dumps([{"study": name, "title": title} for name, title in titles.items()])
    typer.echo(as_rows if as_json else "\n".join(f"{name:12} {title}" for name, title in titles.items()))
