"""What ``run``, ``score`` and ``rescore`` show: how it goes on, and what it came to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

import typer

from cipo_eval.cli import progress as progress_display
from cipo_eval.cli.progress import say

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from cipo_eval.run.api import Results
    from cipo_eval.run.progress import Progress
    from cipo_eval.run.request import Output
    from cipo_eval.run.runner import Run
    from cipo_eval.run.watched import Watched

__all__ = ["Display", "say", "show"]


class Display:
    """The terminal or the log of a command, as far as its user wants to see something (``run.api.Watch``)."""

    def __init__(self, output: Output) -> None:
        self._quiet = output.quiet
        self._messages = _messages(output)

    @cached_property
    def command(self) -> Sequence[str]:
        """The words of the command as they were typed."""
        from cipo_eval.run.info import command_line

        return command_line()

    def say(self, text: str) -> None:
        """A line, unless results alone are wanted."""
        if self._messages:
            say(text)

    def warn(self, text: str) -> None:
        """A line in any case."""
        say(text)

    def phase(self, name: str, what: str) -> AbstractContextManager[None]:
        """Says what begins, that it goes on, and how long it took."""
        return progress_display.phase(name, what, messages=self._messages)

    @contextmanager
    def attempts(self, engine: Watched | None) -> Iterator[Progress]:
        """A bar on a terminal, lines in a log."""
        with progress_display.attempts(messages=self._messages) as (progress, pace):
            pace.engine = engine
            yield progress

    def interrupted(self, run: Run, progress: Progress) -> None:
        """Says what is kept."""
        if not self._quiet:
            where = f"{progress.done} of {progress.total} attempts are kept in {run.store.path}"
            say(f"interrupted: {where}; the same command goes on from there")


def show(results: Results, output: Output) -> int:
    """Prints results as JSON, as tables or not at all, as ``output`` has it; returns the exit code."""
    for warning in results.warnings:
        say(f"warning: {warning}")
    if output.json_:
        typer.echo(json.dumps(results.figures))
    elif not output.quiet:
        from rich.console import Console

        from cipo_reports.terminal import render
        from cipo_reports.terminal_turns import render_turns

        console = Console()
        render(results.figures, console, breakdown=output.breakdown)
        render_turns(results.figures, console, breakdown=output.breakdown)
    for failure in results.failures:
        say(f"failed: {failure}")
    for line in results.account if not output.quiet else ():
        say(line)
    if results.folder is not None and _messages(output):
        say(f"run directory: {results.folder}")
    return results.exit_code


def _messages(output: Output) -> bool:
    return not output.quiet and not output.json_
