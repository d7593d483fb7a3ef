"""How far a training or a study is: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cipo_eval.cli.progress import say

if TYPE_CHECKING:
    from cipo_trainer.config import Config
    from cipo_trainer.loop import Watch
    from cipo_trainer.study.jobs import Watch as StudyWatch


@contextmanager
def of_training(config: Config, *, messages: bool) -> Iterator[Watch]:
    """Shows the steps that are done, with the key figures of the last one."""
    from cipo_trainer.measure import headline
    from cipo_trainer.training import lines

    if not messages:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield lines(config, say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        MofNCompleteColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=config.steps)

        def show(step: int, measured: Mapping[str, Any]) -> None:
            if "seconds_train" not in measured:
                bar.console.print(f"step {step}: {headline(measured)}")
            bar.update(task, completed=step, description=headline(measured))

        yield show


@contextmanager
def of_study(*, messages: bool) -> Iterator[StudyWatch]:
    """Shows the share that is done, the time that is left, and the jobs under way."""
    from cipo_trainer.study.jobs import clock, lines

    if not messages:
        yield lambda *_: None
        return
    if not sys.stderr.isatty():
        yield lines(say)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (BarColumn(bar_width=20), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=1.0)

        def show(under_way: Sequence[str], share: float, left: float) -> None:
            bar.update(task, completed=share, description=f"{clock(left)} left  {', '.join(under_way)}")

        yield show
