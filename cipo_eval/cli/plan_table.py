"""How ``cipo-eval plan`` shows an estimate to people."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from cipo_eval.estimate.constants import Quantity
    from cipo_eval.estimate.estimate import Estimate
    from cipo_eval.estimate.workload import Workload

LEAST_SHARE = 0.02
"""Share of a figure's error from which on a cause of it is shown."""
HOUR = 3600.0
"""Seconds."""


def show(estimate: Estimate, work: Workload, price: float | None) -> None:
    """Prints the estimate: a row a task, the total, and where its error comes from. ``price``: US dollars for a GPU and
    an hour."""
    machines, total = estimate.machines, estimate.total
    shape, replicas = machines.shape, machines.replicas
    source = f" ({shape.source})" if shape.source else ""
    typer.echo(
        f"model: {shape.parameters / 1e9:.3g}B parameters, {shape.bytes / 1e9:.1f} GB{source}; "
        f"{replicas} replica(s) on {machines.gpus} x {machines.name}"
    )
    header = ("task", "problems", "samples", "attempts", "tokens in", "tokens out", "GPU hours", "disk")
    rows: list[tuple[str, ...]] = [header]
    for task in work.tasks:
        counts = f"{task.problems:,}", f"{task.samples:,}"
        rows.append((task.task, *counts, *_cells(estimate.tasks[task.task])))
    rows.append(("all, with loading and the end", "", "", *_cells(total)))
    widths = [max(len(row[i]) for row in rows) for i in range(len(header))]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(c.rjust(w) for c, w in zip(others, widths[1:], strict=True))]
        typer.echo("  ".join(cells).rstrip())
    typer.echo("")
    reusable, computed, tokens = (total[n].value for n in ("tokens_reusable", "tokens_computed", "tokens_in"))
    typer.echo(
        f"attempts        {_range(total['attempts'], _count)}\n"
        f"tokens in       {_range(total['tokens_in'], _count)}{_because(estimate, 'tokens_in')}\n"
        f"  prefix reuse  {reusable / tokens:.0%} of them were computed before for another request; "
        f"{_range(total['tokens_computed'], _count)} are computed ({computed / tokens:.0%})\n"
        f"tokens out      {_range(total['tokens_out'], _count)}{_because(estimate, 'tokens_out')}\n"
        f"GPU hours       {_range(total['gpu_seconds'], _hours)}{_because(estimate, 'gpu_seconds')}\n"
        f"time            {_range(estimate.wall_seconds, _duration)} on {machines.gpus} x {machines.name}\n"
        f"judging         {_range(total['judging_seconds'], _hours)} processor hours; "
        f"{math.ceil(total['judging_seconds'].value / estimate.wall_seconds.value)} process(es) keep up\n"
        f"disk            {_range(total['bytes'], _size)}{_because(estimate, 'bytes')}"
    )
    if price is not None:
        typer.echo(
            f"cost            {_range(estimate.cost(price), _dollars)} at ${price:,.2f} for a GPU and an hour"
        )
    for note in estimate.notes:
        typer.echo(f"note: {note}")


def _cells(row: Mapping[str, Quantity]) -> tuple[str, ...]:
    formats = (("attempts", _count), ("tokens_in", _count), ("tokens_out", _count), ("gpu_seconds", _hours),
               ("bytes", _size))  # fmt: skip
    return tuple(shown(row[name].value) for name, shown in formats)


def _because(estimate: Estimate, figure: str) -> str:
    """Which sources of error matter for a figure, the largest first."""
    shares = sorted(estimate.causes[figure].items(), key=lambda item: -item[1])
    shown = [f"{source} {share:.0%}" for source, share in shares if share >= LEAST_SHARE]
    return f"; up to: {', '.join(shown)}" if shown else ""


def _range(quantity: Quantity, shown: Callable[[float], str]) -> str:
    value, low, high = (shown(number) for number in (quantity.value, quantity.low, quantity.high))
    return value if low == high else f"{value} ({low} to {high})"


def _count(number: float) -> str:
    for unit, size in (("G", 1e9), ("M", 1e6)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number:,.0f}"


def _hours(seconds: float) -> str:
    hours = seconds / HOUR
    return f"{hours:,.0f}" if hours >= 100 else f"{hours:.3g}"


def _duration(seconds: float) -> str:
    if seconds < HOUR:
        return f"{seconds / 60:.0f} min"
    return f"{_hours(seconds)} h"


def _size(count: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count / 1e3:.3g} kB"


def _dollars(amount: float) -> str:
    return f"${amount:,.0f}" if amount >= 10 else f"${amount:,.2f}"
