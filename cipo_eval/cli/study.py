"""``cipo-eval study``: trainings and evaluations as a grid from one file, and the report that compares them (its
options: ``study_options``; its work: ``studies``)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cipo_eval.cli import studies
from cipo_eval.cli import submit as batch
from cipo_eval.cli.session import say
from cipo_eval.cli.study_options import StudyOptions, Submit
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, MissingError, UsageError
from cipo_eval.run.folder import look_at_place

if TYPE_CHECKING:
    from cipo_eval.run.slurm import Batch
    from cipo_trainer.study.grid import Job, StudyConfig
    from cipo_trainer.study.jobs import Carrier

NAMED = 12
"""Missing jobs that a message names."""


def study(**values: Any) -> None:
    """Train and score every arm of a study, whatever is missing of it, and compare them in OUTPUT/report."""
    from cipo_trainer.study.grid import jobs, read_study_config, shipped_studies, study_file

    options = StudyOptions(**values)
    if options.config is None:
        if not options.listing:
            raise UsageError(f"name a study or its file: {', '.join(shipped_studies())} (--list says more)")
        _list_studies(as_json=options.json)
        return
    path = study_file(options.config)
    config = read_study_config(path, options.overrides or ())
    folder = options.output or Path("runs") / path.stem
    look_at_place(folder)
    if options.listing:
        _list_jobs(jobs(config), folder, as_json=options.json)
        return
    if options.dry_run and options.submit is None:
        raise UsageError("--dry-run belongs together with --submit; --list shows the jobs and what is done")
    cluster = options.batch
    if options.submit is Submit.SLURM:
        _submit(options, jobs(config), folder, cluster)
    elif options.report:
        _require_all(jobs(config), folder)
        studies.conclude(config, folder, as_json=options.json, quiet=options.quiet)
    elif options.dry_run:
        _show_ray_jobs(options, jobs(config), folder)
    else:
        raise typer.Exit(_carry_out(options, config, folder))


def _carry_out(options: StudyOptions, config: StudyConfig, folder: Path) -> int:
    """Does what is missing, here or on a Ray cluster, and concludes; returns the exit code."""
    runner = studies.carry_out(
        config,
        folder,
        workers=options.workers,
        only=options.job,
        messages=not (options.quiet or options.json),
        elsewhere=_on_ray(options) if options.submit is Submit.RAY else None,
    )
    if not options.job and not set(runner.failed) - studies.left_out(config, folder):
        studies.conclude(config, folder, as_json=options.json, quiet=options.quiet)
    return EXIT_FAILURES if runner.flawed else EXIT_OK


def _on_ray(options: StudyOptions) -> Carrier:
    """What carries jobs out on a cluster."""
    from cipo_trainer.study.on_ray import Place, RayRunner

    place = Place(address=options.address, cpus=options.job_cpus, gpus=options.job_gpus)
    return lambda folder, jobs, workers: RayRunner(folder, jobs, workers, place, say=say)


def _done(every: Sequence[Job], folder: Path) -> Collection[str]:
    """The names of the jobs whose results are in the study's folder."""
    from cipo_trainer.study.jobs import Ledger

    return Ledger(folder).done(every)


def _require_all(every: Sequence[Job], folder: Path) -> None:
    """Raises ``MissingError`` where a job is not done, those left out that need a warm start which was refused."""
    from cipo_trainer.study.jobs import Ledger

    done = _done(every, folder)
    without = Ledger(folder).left_out(every)
    if missing := [job.name for job in every if job.name not in done and job.name not in without]:
        raise MissingError(f"{len(missing)} of {len(every)} jobs are missing: {', '.join(missing[:NAMED])}")


def _show_ray_jobs(options: StudyOptions, every: Sequence[Job], folder: Path) -> None:
    """The jobs that would be carried out on a Ray cluster."""
    from cipo_trainer.study.jobs import jobs_named
    from cipo_trainer.study.submission import described

    where = f"Ray ({options.address}), each with {options.job_cpus:g} CPU and {options.job_gpus:g} GPU"
    every = jobs_named(every, options.job)
    lines = described(every, _done(every, folder), folder)
    typer.echo("\n".join([f"# {len(lines)} of {len(every)} jobs on {where}", *lines]))


def _submit(options: StudyOptions, every: Sequence[Job], folder: Path, cluster: Batch) -> None:
    """Submits the jobs that are missing to SLURM; with ``--dry-run`` shows their scripts."""
    from cipo_trainer.study.submission import batch_jobs

    assert options.config is not None
    words = [options.config, *(options.overrides or ()), "--output", str(folder)]
    batch.carry_out(
        batch_jobs(words, every, _done(every, folder), folder.name),
        folder,
        cluster,
        dry_run=options.dry_run,
        hint=f"cipo-eval study {shlex.join(words)} --list",
    )


def _list_jobs(every: Sequence[Job], folder: Path, *, as_json: bool) -> None:
    """The jobs of a study, done and open, with those that each waits for."""
    done = _done(every, folder)
    if as_json:
        rows = [{"job": j.name, "kind": j.kind, "needs": j.needs, "done": j.name in done} for j in every]
        typer.echo(json.dumps(rows))
        return
    for job in every:
        needs = f"   after {', '.join(job.needs)}" if job.needs else ""
        typer.echo(f"{'done' if job.name in done else 'open'}  {job.name}{needs}")


def _list_studies(*, as_json: bool) -> None:
    """The studies that the package ships, with their titles."""
    from cipo_trainer.study.grid import read_study_config, shipped_studies

    titles = {name: read_study_config(path).title for name, path in shipped_studies().items()}
    as_rows = json.dumps([{"study": name, "title": title} for name, title in titles.items()])
    typer.echo(as_rows if as_json else "\n".join(f"{name:12} {title}" for name, title in titles.items()))
