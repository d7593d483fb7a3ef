"""What ``run``, ``score``, ``rescore`` and ``demo`` share: carrying a run through to its results and exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import typer

from cipo_eval.cli.progress import LOG_SECONDS, Watched, attempts, say
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError
from cipo_eval.interrupts import Interrupts

if TYPE_CHECKING:
    from cipo_eval.engines.engine import Engine
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.progress import Progress
    from cipo_eval.run.runner import Run
    from cipo_eval.verifiers.pool import VerifierPool

__all__ = ["LOG_SECONDS", "Show", "carry_out", "check_k", "check_ks", "generate", "say"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Show:
    """What the user wants to see."""

    json: bool = False
    quiet: bool = False
    breakdown: bool = False

    @property
    def messages(self) -> bool:
        return not self.quiet and not self.json


def check_ks(ks: Sequence[int] | None, plans: Sequence[TaskPlan]) -> None:
    """Refuses k above n before anything is generated: pass@k is never extrapolated."""
    for plan in plans:
        check_k(ks, plan.name, plan.samples)


def check_k(ks: Sequence[int] | None, task: str, samples: int) -> None:
    """``check_ks`` for one task."""
    if ks and (max(ks) > samples or min(ks) < 1):
        raise UsageError(
            f"--k {max(ks)} needs at least that many samples, and {task} gets {samples}: "
            "raise --samples or lower --k",
        )


def carry_out(
    run: Run,
    pool: VerifierPool,
    show: Show,
    work: Callable[[Progress, Interrupts], None],
    *,
    engine: Watched | None = None,
) -> int:
    """Does ``work`` under a progress display, writes ``results.json``, shows the results; returns the exit code.

    ``engine``: the one that works, where one does."""
    with Interrupts() as interrupts, attempts(messages=show.messages) as (progress, pace):
        pace.engine = engine
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
        from cipo_reports.terminal_turns import render_turns

        console = Console()
        render(results, console, breakdown=show.breakdown)
        render_turns(results, console, breakdown=show.breakdown)
    for failure in failures:
        say(f"failed: {failure}")
    return EXIT_FAILURES if failures else EXIT_OK


def generate(run: Run, engine: Engine, pool: VerifierPool, show: Show) -> int:
    """``carry_out`` for whatever the engine still has to give."""
    watched = Watched(engine)

    def work(progress: Progress, interrupts: Interrupts) -> None:
        try:
            run.execute(watched, pool, progress, interrupts)
        finally:
            watched.close()
        if problems := watched.identical:
            run.warnings.append(
                f"all samples of a problem have the same text, at each of {problems} problem(s): more of them tell "
                "nothing more (does the server, or the file, heed seed and temperature?)"
            )

    return carry_out(run, pool, show, work, engine=watched)


def _gaps(results: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {block['missing_attempts']} of the attempts asked for are not there; the figures leave them out"
        for name, block in results["tasks"].items()
        if block["missing_attempts"]
    ]
