"""``cipo-eval pool``: fixed pools of attempts to correct."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import say
from cipo_eval.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Fixed pools of attempts, for `run --protocol given`.")


@app.command()
def build(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The pool's file.")],
    wrong: Annotated[int, typer.Option(min=0, help="Wrong attempts.")] = 500,
    right: Annotated[int, typer.Option(min=0, help="Right attempts.")] = 100,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 0,
    task: Annotated[
        str | None, typer.Option("--task", "-t", help="One task (default: all of the run).")
    ] = None,
    mode: Annotated[
        o.ModeFlag | None, typer.Option("--mode", help="Whose verdicts (default: the run's first mode).")
    ] = None,
) -> None:
    """Draw wrong and right first attempts of a run, spread over its problems."""
    from cipo_eval.records import Mode
    from cipo_eval.run.pools import build_pool, write_pool

    if mode is o.ModeFlag.both:
        raise UsageError("--mode both: a pool follows one mode")
    if not wrong + right:
        raise UsageError("a pool of no attempts: raise --wrong or --right")
    pool = build_pool(
        run, task=task, wrong=wrong, right=right, seed=seed, mode=Mode(mode.value) if mode else None
    )
    write_pool(pool, output)
    say(f"{output}: {len(pool.items)} attempts, fingerprint {pool.fingerprint}")


@app.command()
def show(pool: Annotated[Path, typer.Argument(help="A pool's file.")]) -> None:
    """What a pool holds."""
    from cipo_eval.run.pools import read_file

    content = read_file(pool)
    typer.echo(f"fingerprint {content.fingerprint}")
    for name, value in content.source.items():
        typer.echo(f"{name}: {value}")
    for task in dict.fromkeys(item.task for item in content.items):
        items = [item for item in content.items if item.task == task]
        kinds = Counter({True: "right", False: "wrong", None: "not judged"}[item.right] for item in items)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        typer.echo(f"{task}: {counts}, at {len({item.problem for item in items})} problems")
