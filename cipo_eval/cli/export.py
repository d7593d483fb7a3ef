"""``cipo-eval export``: a run in the forms that other tools read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def export(
    run: Annotated[Path, typer.Argument(help="A finished run directory.")],
    to: Annotated[
        str,
        typer.Option("--to", metavar="FORMAT", help="inspect, eee, lm-eval, hf or parquet (docs/export.md)."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="A new folder, or an earlier export, which it takes the place of."
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", help="A local mirror of the tasks' data: prompts are made of it."),
    ] = None,
) -> None:
    """Write a run for Inspect, Every Eval Ever, lm-evaluation-harness, the Hugging Face hub, or as Parquet."""
    from cipo_eval.export.formats import export as write

    for warning in write(run, to, output, data_dir=data_dir):
        typer.echo(f"warning: {warning}", err=True)
    typer.echo(str(output))
