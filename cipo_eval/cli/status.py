"""``cipo-eval status``: how far runs are, seen from outside."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.progress import duration

if TYPE_CHECKING:
    from cipo_eval.run.status import Status

MAX_NAMED = 12
"""Missing shards whose names are shown; of others only how many there are."""


def status(
    runs: Annotated[
        list[Path], typer.Argument(help="Run directories, shards too; also ones that are not there yet.")
    ],
    json: o.Json = False,
) -> None:
    """Say how far runs are, while they run: attempts, failures, rate, time left, and who works at them."""
    from cipo_eval.run.status import State, missing_shards
    from cipo_eval.run.status import status as status_of

    statuses = [status_of(run) for run in runs]
    missing = missing_shards(statuses)
    done = all(each.state is State.DONE for each in statuses) and not missing
    if json:
        rows = [each.to_json() for each in statuses]
        totals = {name: sum(row[name] for row in rows) for name in ("done", "wanted", "failed")}
        typer.echo(json_module.dumps({"finished": done, **totals, "missing_shards": missing, "runs": rows}))
        return
    for each in statuses:
        typer.echo(f"{each.run}: {_words(each)}")
        if len(each.tasks) > 1:
            for name, task in each.tasks.items():
                typer.echo(f"  {name}: {task['done']}/{task['wanted']}")
    if missing:
        more = f" and {len(missing) - MAX_NAMED} more" if len(missing) > MAX_NAMED else ""
        typer.echo(f"not among them: shard {', '.join(missing[:MAX_NAMED])}{more}")
    if len(statuses) > 1:
        typer.echo(_sum(statuses))


def _words(status: Status) -> str:
    shard = [f"shard {status.shard}"] if status.shard else []
    if not status.tasks:
        return ", ".join([*shard, status.state.value, *_who(status)])
    parts = [
        *shard,
        status.state.value,
        f"{status.done}/{status.wanted} attempts{_share(status.done, status.wanted)}",
    ]
    if status.failed:
        parts.append(f"{status.failed} could not be had")
    if status.rate:
        parts.append(f"{status.rate:,.1f}/s")
    if status.seconds_left is not None:
        parts.append(f"{duration(status.seconds_left)} left")
    parts += _who(status)
    return ", ".join(parts) + (f" ({status.note})" if status.note else "")


def _who(status: Status) -> list[str]:
    writer = status.writer
    if not writer:
        return []
    job = f", job {writer['job']}" if "job" in writer else ""
    return [f"process {writer.get('pid')} on {writer.get('host')}{job}"]


def _share(done: int, wanted: int) -> str:
    return f" ({done / wanted:.0%})" if wanted else ""


def _sum(statuses: list[Status]) -> str:
    """A line on all runs together, which take as long as the one that takes longest."""
    done, wanted = sum(each.done for each in statuses), sum(each.wanted for each in statuses)
    states: dict[str, int] = {}
    for each in statuses:
        states[each.state.value] = states.get(each.state.value, 0) + 1
    parts = [f"{done}/{wanted} attempts{_share(done, wanted)}"]
    if rate := sum(each.rate or 0 for each in statuses):
        parts.append(f"{rate:,.1f}/s")
    left = [each.seconds_left for each in statuses if each.seconds_left is not None]
    if left:
        parts.append(f"{duration(max(left))} left of those that run")
    return f"together: {', '.join(parts)}; {', '.join(f'{count} {state}' for state, count in states.items())}"
