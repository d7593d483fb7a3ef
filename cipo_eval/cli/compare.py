"""``cipo-eval compare``: is one run better than another, and at which problems?"""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.records import Mode


def named(options: Sequence[str] | None) -> list[str]:
    """Names of a repeatable option, each of which may hold several, separated by commas."""
    return [name.strip() for option in options or () for name in option.split(",") if name.strip()]


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run directories; each is compared with the first.")],
    mode: Annotated[
        o.ModeFlag | None,
        typer.Option("--mode", help="Whose verdicts (default: the first that all runs have)."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Compare runs that were asked different things; the table says so."),
    ] = False,
    problems: Annotated[
        int, typer.Option("--problems", min=0, help="Name as many problems that were gained and lost.")
    ] = 0,
    figures: Annotated[
        list[str] | None,
        typer.Option(
            "--figures", metavar="MODULE:OBJECT", help="Figures of your own too (separated by commas)."
        ),
    ] = None,
    ranked: Annotated[
        bool,
        typer.Option(
            "--leaderboard", help="All runs in one order by mean pass@1, with ranks and all pairs tested."
        ),
    ] = False,
    bootstrap: o.Bootstrap = 2000,
    json: o.Json = False,
) -> None:
    """Paired differences per task and figure, with intervals, p-values and the smallest difference that would show."""
    from cipo_eval.analysis.comparison import compare_runs
    from cipo_eval.analysis.figures import load
    from cipo_eval.records import Mode

    if len(runs) < 2:
        raise UsageError("compare needs two run directories or more")
    if mode is o.ModeFlag.both:
        raise UsageError("--mode both: compare looks at one mode at a time")
    judged = Mode(mode.value) if mode else None
    if ranked:
        _leaderboard(runs, judged, bootstrap, force=force, json=json)
        return
    own = load(named(figures))
    comparisons = [
        compare_runs(
            runs[0],
            other,
            mode=judged,
            bootstrap=bootstrap,
            force=force,
            figures=own,
        )
        for other in runs[1:]
    ]
    if json:
        typer.echo(json_module.dumps([comparison.to_json() for comparison in comparisons]))
        return
    from rich.console import Console

    from cipo_reports.terminal_comparison import render

    console = Console()
    for comparison in comparisons:
        render(comparison, console, problems=problems)


def _leaderboard(runs: list[Path], mode: Mode | None, bootstrap: int, *, force: bool, json: bool) -> None:
    from cipo_eval.analysis.leaderboard import leaderboard

    board = leaderboard(runs, mode=mode, bootstrap=bootstrap, force=force)
    if json:
        typer.echo(json_module.dumps(board.to_json()))
        return
    from rich.console import Console

    from cipo_reports.terminal_leaderboard import render

    render(board, Console())
