"""The options of ``cipo-eval study``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli import submit as batch
from cipo_eval.cli.generate import parameters_of

if TYPE_CHECKING:
    from cipo_eval.run.slurm import Batch


class Submit(StrEnum):
    """Where jobs may be carried out other than here."""

    SLURM = "slurm"
    RAY = "ray"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions:
    """What ``cipo-eval study`` is told; a field is an option, whose help says what it means."""

    config: Annotated[
        str | None, typer.Argument(help="Configuration file, or the name of a shipped study (docs/study.md).")
    ] = None
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Over it: seeds=[0,1] evaluate.limit=200"),
    ] = None
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the study (default: runs/NAME).")
    ] = None
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Jobs at a time (default: one for each GPU, else for each core)."),
    ] = None
    job: Annotated[
        list[str] | None,
        typer.Option("--job", help="Only this job, and no report: for a cluster's own launcher. Repeatable."),
    ] = None
    listing: Annotated[
        bool,
        typer.Option(
            "--list", help="Print the jobs and their state, and stop; without a study, those shipped."
        ),
    ] = False
    submit: Annotated[
        Submit | None,
        typer.Option(
            "--submit",
            help="Carry the jobs out elsewhere: slurm writes scripts for sbatch and submits them (docs/slurm.md), "
            "ray takes a Ray cluster (docs/ray.md).",
        ),
    ] = None
    address: Annotated[str, typer.Option(help="Of a Ray cluster: auto, HOST:PORT or local.")] = "auto"
    job_cpus: Annotated[float, typer.Option(min=0, help="Cores of a Ray node for each job.")] = 1.0
    job_gpus: Annotated[float, typer.Option(min=0, help="GPUs of a Ray node for each job.")] = 0.0
    report: Annotated[
        bool, typer.Option("--report", help="Only the report; refused while jobs are missing.")
    ] = False
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="With --submit: show the scripts, or the jobs, and submit nothing.",
            rich_help_panel=batch.PANEL,
        ),
    ] = False
    submit_template: batch.TemplateFile = None
    partition: batch.Partition = None
    account: batch.Account = None
    time: batch.Time = None
    gpus: batch.Gpus = None
    sbatch: batch.Sbatch = None
    json: o.Json = False
    quiet: o.Quiet = False

    @property
    def batch(self) -> Batch:
        """What is asked of SLURM. Raises ``UsageError`` for options of it without ``--submit slurm``."""
        return batch.batch_of(
            {
                "submit": self.submit is Submit.SLURM or None,
                "submit_template": self.submit_template,
                "partition": self.partition,
                "account": self.account,
                "time": self.time,
                "gpus": self.gpus,
                "sbatch": self.sbatch,
            }
        )


def parameters() -> list[inspect.Parameter]:
    """The options of the command."""
    return parameters_of(StudyOptions)
