"""``cipo-eval study``: trainings and evaluations as a grid from one file, and the report that compares them."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.run_folder import look_at_place
from cipo_eval.cli.session import LOG_SECONDS, say
from cipo_eval.errors import EXIT_FAILURES, UsageError

if TYPE_CHECKING:
    from cipo_reports.arms import Arm
    from cipo_trainer.study.grid import Job, StudyConfig
    from cipo_trainer.study.jobs import Runner, Watch

PAGE_CHARACTERS = 20_000_000
"""Of attempts in a study's page: it has many runs, and each of them can have a report of its own."""


def study(
    config: Annotated[
        str | None, typer.Argument(help="Configuration file, or the name of a shipped study (docs/study.md).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Over the configuration: seeds=[0,1] evaluate.limit=200"
        ),
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
            "--list",
            help="Print the jobs with what they need and their state, and stop; without a study, the shipped ones.",
        ),
    ] = False,
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
    runner = carry_out(asked, folder, workers=workers, only=job, messages=not (quiet or json))
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
) -> Runner:
    """Runs the jobs that are missing, and names those that failed."""
    from cipo_eval.files import Writing
    from cipo_eval.interrupts import Interrupts
    from cipo_trainer.study.grid import jobs, to_yaml, write_tasks
    from cipo_trainer.study.jobs import Runner

    every = jobs(config)
    chosen = _chosen(every, only)
    devices = _devices()
    count = workers or len(devices) or _cores()
    folder = folder.resolve()
    with Writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_tasks(config, folder)
        (folder / "study.yaml").write_text(to_yaml(config), encoding="utf-8")
    runner = Runner(folder, chosen, count, devices)
    if only and (
        lacking := {n for j in chosen for n in j.needs} - set(runner.done) - {j.name for j in chosen}
    ):
        raise UsageError(f"--job: {', '.join(sorted(lacking))} must come before")
    left = sum(job.name not in runner.done for job in chosen)
    if messages and left:
        say(
            f"{len(chosen)} jobs, {len(chosen) - left} of them done, {min(count, left)} at a time, in {folder}"
        )
    with Interrupts() as interrupts, _progress(runner, messages=messages) as watch:
        runner.run(interrupts, watch)
    for name, code in runner.flawed.items():
        log = runner.log(name)
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
        what = "failed" if name in runner.failed else "finished with failures"
        say(f"{what}: {name} (exit code {code}, {log}): {lines[-1] if lines else ''}")
    return runner


def conclude(config: StudyConfig, folder: Path, *, as_json: bool = False, quiet: bool = False) -> Path:
    """Writes a report for each temperature, shows the first one's headline, and returns its page."""
    from cipo_reports.correction_tables import headline
    from cipo_reports.report import write_report
    from cipo_reports.study import read_study

    pages: list[Path] = []
    shown = None
    for temperature in config.evaluate.temperatures:
        if not quiet and not as_json:  # a minute or two where there are many runs
            say(f"report for temperature {temperature:g} …")
        study = read_study(_arms(config, folder, temperature), baseline=config.baseline, paired=True)
        first = not pages
        out = folder / ("report" if first else f"report-t{temperature:g}")
        pages.append(write_report(study, out, title=config.title, budget=PAGE_CHARACTERS).page)
        if first:
            shown = headline(study)
    assert shown is not None
    if as_json:
        rows = [dict(zip(shown.columns, [c.text for c in row], strict=True)) for row in shown.rows]
        typer.echo(json_module.dumps({"pages": list(map(str, pages)), "headline": rows}, ensure_ascii=False))
    elif not quiet:
        from rich.console import Console

        from cipo_reports.terminal import show_table

        show_table(shown, Console())
        typer.echo(str(pages[0]))
    return pages[0]


def _arms(config: StudyConfig, folder: Path, temperature: float) -> list[Arm]:
    from cipo_reports.arms import make_arm
    from cipo_trainer.study.grid import arm_folder, run_folder

    found = []
    for arm in config.arms:
        places = [folder / arm_folder(config, f, s, arm) for f in config.families for s in config.seeds]
        runs = [place / run_folder(temperature) for place in places]
        found.append(make_arm(arm, [*runs, *(place / "train" for place in places)]))
    return found


def _chosen(every: Sequence[Job], only: Sequence[str] | None) -> list[Job]:
    from cipo_eval.errors import nearest

    names = {job.name: job for job in every}
    for name in only or ():
        if name not in names:
            raise UsageError(
                f"--job {name}: there is no such job; {nearest(name, names)} (--list shows them)"
            )
    return [names[name] for name in only] if only else list(every)


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
    if as_json:
        typer.echo(json_module.dumps([{"study": name, "title": title} for name, title in titles.items()]))
        return
    for name, title in titles.items():
        typer.echo(f"{name:12} {title}")


def _cores() -> int:
    import os

    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """GPUs that may be seen, by the names that CUDA_VISIBLE_DEVICES has."""
    import os

    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


@contextmanager
def _progress(runner: Runner, *, messages: bool) -> Iterator[Watch]:
    """A bar with the jobs under way on a terminal, a line now and then in a log."""
    from cipo_trainer.study.jobs import describe

    if not messages:
        yield lambda *_: None
        return

    def under_way(running: Sequence[Any]) -> str:
        return ", ".join(describe(one.job, runner.share(one.job)) for one in running)

    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

        columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=1.0)

            def show(running: Sequence[Any], share: float, left: float) -> None:
                bar.update(task, completed=share, description=f"{_time(left)}  {under_way(running)}")

            yield show
        return
    last = [-LOG_SECONDS]

    def line(running: Sequence[Any], share: float, left: float) -> None:
        now = time.monotonic()
        if running and now - last[0] >= LOG_SECONDS:
            last[0] = now
            say(f"  {share:4.0%}, {_time(left)}: {under_way(running)}")

    yield line


def _time(seconds: float) -> str:
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02} left" if hours else f"{rest // 60}:{rest % 60:02} left"
