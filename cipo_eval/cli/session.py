"""What ``run``, ``score``, ``rescore`` and ``demo`` share: carrying a run through to its results and exit code."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError
from cipo_eval.interrupts import Interrupts

if TYPE_CHECKING:
    from cipo_eval.plan import TaskPlan
    from cipo_eval.records import Engine
    from cipo_eval.runner import Progress, Run
    from cipo_eval.verifiers.pool import VerifierPool

LOG_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """What the user wants to see."""

    json: bool = False
    quiet: bool = False
    breakdown: bool = False

    @property
    def messages(self) -> bool:
        return not self.quiet and not self.json


def say(text: str) -> None:
    """A line for the user, on standard error: standard output is for results."""
    typer.echo(text, err=True)


def check_ks(ks: Sequence[int] | None, plans: Sequence[TaskPlan]) -> None:
    """Refuses k above n before anything is generated: pass@k is never extrapolated."""
    for plan in plans if ks else ():
        if max(ks or ()) > plan.samples or min(ks or ()) < 1:
            raise UsageError(
                f"--k {max(ks or ())} needs at least that many samples, and {plan.name} gets {plan.samples}: "
                "raise --samples or lower --k",
            )


def carry_out(run: Run, pool: VerifierPool, show: Show, work: Callable[[Progress, Interrupts], None]) -> int:
    """Does ``work`` under a progress display, writes ``results.json``, shows the results; returns the exit code."""
    with Interrupts() as interrupts, _progress(show) as progress:
        try:
            work(progress, interrupts)
        except KeyboardInterrupt:
            if not show.quiet:
                kept = f"{progress.done} of {progress.total} attempts are kept in {run.store.path}"
                say(f"interrupted: {kept}; the same command goes on from there")
            raise
        finally:
            pool.close()
    results = run.results()
    run.store.write_results(results)
    failures = run.failures()
    for warning in [*run.warnings, *_gaps(results)]:
        say(f"warning: {warning}")
    if show.json:
        typer.echo(json.dumps(results))
    elif not show.quiet:
        from rich.console import Console

        from cipo_reports.terminal import render
        from cipo_reports.turns import render_turns

        console = Console()
        render(results, console, breakdown=show.breakdown)
        render_turns(results, console, breakdown=show.breakdown)
    for failure in failures:
        say(f"failed: {failure}")
    return EXIT_FAILURES if failures else EXIT_OK


def generate(run: Run, engine: Engine, pool: VerifierPool, show: Show) -> int:
    """``carry_out`` for whatever the engine still has to give."""

    def work(progress: Progress, interrupts: Interrupts) -> None:
        try:
            run.execute(engine, pool, progress, interrupts)
        finally:
            engine.close()

    return carry_out(run, pool, show, work)


def _gaps(results: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {block['missing_attempts']} of the attempts asked for are not there; the figures leave them out"
        for name, block in results["tasks"].items()
        if block["missing_attempts"]
    ]


@contextmanager
def _progress(show: Show) -> Iterator[Progress]:
    """A bar on a terminal, a line every few seconds in a log, nothing when quiet."""
    from cipo_eval.runner import Progress

    if not show.messages:
        yield Progress()
        return

    def stopping(verdicts: int) -> None:
        say(f"stopping: waiting for {verdicts} verdict(s) under way; Ctrl-C again does not wait")

    if sys.stderr.isatty():
        yield from _bar(stopping)
        return
    last = [time.monotonic()]

    def line(progress: Progress) -> None:
        now = time.monotonic()
        if now - last[0] >= LOG_SECONDS and progress.total:
            last[0] = now
            say(f"{progress.done}/{progress.total} attempts, {progress.tokens} tokens, {_states(progress)}")

    yield Progress(changed=line, stopping=stopping)


def _bar(stopping: Callable[[int], None]) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    from cipo_eval.runner import Progress

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("attempts", total=None)
        yield Progress(
            changed=lambda p: bar.update(
                task, total=p.total, completed=p.done, description=_states(p) or "attempts"
            ),
            stopping=stopping,
        )


def _states(progress: Progress) -> str:
    return ", ".join(f"{count} {state}" for state, count in progress.states.most_common())
