"""That a command is alive, and how far it is: phases, and a run's attempts on a bar or, in a log, on a line a minute.

Told by the clock and not by what happens: a slow model is silent for minutes before its first attempt is finished.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from cipo_eval.run.ticks import every

if TYPE_CHECKING:
    from cipo_eval.run.progress import Progress
    from cipo_eval.run.watched import Watched

FIRST_SECONDS, MINUTE = 10.0, 60.0
"""Seconds until the first line in a run's log, and between two lines."""
BAR_SECONDS = 0.5
"""Seconds between two changes of a bar on a terminal."""
WINDOW_SECONDS = 30.0
"""Seconds over which tokens per second are measured, the last ones."""


def say(text: str) -> None:
    """Prints a line for the user on standard error: standard output is for results."""
    typer.echo(text, err=True)


def duration(seconds: float) -> str:
    """A number of seconds as a clock shows it: ``0:42``, ``1:02:03``."""
    hours, rest = divmod(max(0, round(seconds)), 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


@contextmanager
def phase(name: str, what: str, *, messages: bool = True) -> Iterator[None]:
    """Says what begins, in a log every minute that it goes on, and at the end how long it took."""
    if not messages:
        yield
        return
    say(f"{name}: {what} …")
    started = time.monotonic()
    with every(MINUTE, MINUTE, lambda: say(f"{name}: still at it after {_since(started)}")):
        yield
    if time.monotonic() - started >= 1:
        say(f"{name}: ready after {_since(started)}")


def _since(started: float) -> str:
    seconds = time.monotonic() - started
    return f"{seconds:.1f} s" if seconds < 60 else duration(seconds)


class Pace:
    """How fast a run is, and how long it will take; made of counts that other threads change."""

    def __init__(self, progress: Progress, clock: Callable[[], float] = time.monotonic) -> None:
        self.progress, self._clock = progress, clock
        self.engine: Watched | None = None
        """The one that works at the attempts, where one does."""
        self._started: tuple[float, int] | None = None
        """When the first attempts were asked for, and how many were there before."""
        self._seen: deque[tuple[float, int]] = deque()

    def look(self) -> None:
        """Takes note of the counts as they are now; to be called every second or so."""
        if not self.progress.total:
            return
        now = self._clock()
        if self._started is None:
            self._started = now, self.progress.done
        self._seen.append((now, self.engine.generated if self.engine else 0))
        while len(self._seen) > 2 and now - self._seen[1][0] >= WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def tokens_per_second(self) -> float | None:
        """Tokens that were generated per second over the last ``WINDOW_SECONDS``; None: not known yet."""
        if len(self._seen) < 2:
            return None
        (then, before), (now, after) = self._seen[0], self._seen[-1]
        return (after - before) / (now - then) if now > then else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until all is done, by the tokens of what is finished, else by attempts; None: nothing is finished."""
        if self._started is None:
            return None
        finished, left = self.progress.done - self._started[1], self.progress.total - self.progress.done
        if finished <= 0:
            return None
        engine, rate = self.engine, self.tokens_per_second
        if engine is not None and rate and engine.handed and engine.tokens:
            waiting = left - self.progress.judging
            partly = max(0, engine.generated - engine.tokens)
            return max(0.0, waiting * engine.tokens / engine.handed - partly) / rate
        return left * (self._clock() - self._started[0]) / finished

    def words(self) -> str:
        """How fast the run is and how long it will take, in words."""
        engine, parts = self.engine, []
        if engine is not None:
            if engine.under_way is not None:
                parts.append(f"{engine.under_way} running")
            if self.progress.judging:
                parts.append(f"{self.progress.judging} being judged")
            if (rate := self.tokens_per_second) is not None and engine.generated:
                parts.append(f"{rate:,.0f} tokens/s")
        if (left := self.seconds_left) is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


@contextmanager
def attempts(*, messages: bool) -> Iterator[tuple[Progress, Pace]]:
    """Shows how far a run is while the block counts its attempts: a bar on a terminal, a line every minute in a log,
    nothing without ``messages``."""
    from cipo_eval.run.progress import Progress

    if not messages:
        yield (quiet := Progress()), Pace(quiet)
        return
    progress = Progress(stopping=_stopping)
    pace = Pace(progress)
    if sys.stderr.isatty():
        yield from _bar(progress, pace)
        return

    last_line = time.monotonic() - MINUTE + FIRST_SECONDS

    def line() -> None:
        nonlocal last_line
        pace.look()
        if progress.total and time.monotonic() - last_line >= MINUTE:
            last_line = time.monotonic()
            counts = f"{progress.done}/{progress.total} attempts"
            say(
                "  "
                + "; ".join(part for part in (", ".join([counts, *_some(pace)]), _states(progress)) if part)
            )

    with every(1.0, 1.0, line):
        yield progress, pace


def _bar(progress: Progress, pace: Pace) -> Iterator[tuple[Progress, Pace]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("attempts"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show() -> None:
            pace.look()
            text = "; ".join(part for part in (pace.words(), _states(progress)) if part)
            bar.update(task, total=progress.total or None, completed=progress.done, description=text)

        with every(0.0, BAR_SECONDS, show):
            yield progress, pace


def _stopping(verdicts: int) -> None:
    say(f"stopping: waiting for {verdicts} verdict(s) under way; Ctrl-C again does not wait")


def _some(pace: Pace) -> list[str]:
    return [words] if (words := pace.words()) else []


def _states(progress: Progress) -> str:
    counts = sorted(progress.states.items(), key=lambda item: -item[1])
    return ", ".join(f"{count} {state}" for state, count in counts)
