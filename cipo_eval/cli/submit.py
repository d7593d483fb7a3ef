"""``--submit``: the options of commands that become jobs of a batch system, and what they do."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli.generate import ARGUMENTS
from cipo_eval.cli.session import say
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.run.api import Evaluation
    from cipo_eval.run.request import RunRequest
    from cipo_eval.run.slurm import Batch, Job

PANEL = "Batch system"


class System(StrEnum):
    """Where jobs are submitted to."""

    SLURM = "slurm"


Submit = Annotated[
    System | None,
    typer.Option(
        "--submit", help="Write scripts for sbatch and submit them (docs/slurm.md).", rich_help_panel=PANEL
    ),
]
Shards = Annotated[
    int | None,
    typer.Option("--shards", min=1, help="Jobs that the run is split into.", rich_help_panel=PANEL),
]
TemplateFile = Annotated[
    Path | None,
    typer.Option("--submit-template", help="Your own template of the scripts.", rich_help_panel=PANEL),
]
Partition = Annotated[str | None, typer.Option("--partition", help="Of the cluster.", rich_help_panel=PANEL)]
Account = Annotated[str | None, typer.Option("--account", help="That is charged.", rich_help_panel=PANEL)]
Time = Annotated[
    str | None,
    typer.Option(
        "--time", help="Limit of each job, such as 4:00:00; goes on after it.", rich_help_panel=PANEL
    ),
]
Gpus = Annotated[str | None, typer.Option("--gpus", help="Of each job.", rich_help_panel=PANEL)]
Sbatch = Annotated[
    list[str] | None,
    typer.Option(
        "--sbatch", help="A further option of sbatch: name=value. Repeatable.", rich_help_panel=PANEL
    ),
]
OPTIONS: dict[str, Any] = {
    "submit": Submit,
    "shards": Shards,
    "submit_template": TemplateFile,
    "partition": Partition,
    "account": Account,
    "time": Time,
    "gpus": Gpus,
    "sbatch": Sbatch,
}
"""By parameter, what ``run`` takes."""


def parameters() -> list[inspect.Parameter]:
    """The parameters of ``OPTIONS``."""
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=option, default=None)
        for name, option in OPTIONS.items()
    ]


def batch_of(values: Mapping[str, Any]) -> Batch:
    """What is asked of the cluster. Raises ``UsageError`` for options without ``--submit``."""
    from cipo_eval.run.slurm import Batch

    if values["submit"] is None:
        idle = [name for name, value in values.items() if value]
        if idle:
            raise UsageError(f"--{idle[0].replace('_', '-')} belongs together with --submit slurm")
    return Batch(
        partition=values["partition"],
        account=values["account"],
        time=values["time"],
        gpus=values["gpus"],
        extra=tuple(values["sbatch"] or ()),
        template=values["submit_template"],
    )


def submit_runs(
    context: typer.Context, request: RunRequest, runs: Sequence[Evaluation], values: Mapping[str, Any]
) -> None:
    """Submits the shards of each run (one for each seed), and the job that merges them; with ``--dry-run`` shows the
    scripts. Raises ``UsageError`` for what is wrong of any run before a job is submitted."""
    if request.task.shard:
        raise UsageError(
            "--submit makes the shards itself: leave out --shard, and say how many with --shards"
        )
    if not request.output.resume:
        raise UsageError("a job that is requeued goes on: leave out --no-resume")
    several = len(runs) > 1
    if several and getattr(context.get_parameter_source("seeds"), "name", "") != "COMMANDLINE":
        raise UsageError("--submit takes several seeds from the command line only: --seeds 0,1,2")
    for run in runs:
        _ = run.plans  # whatever is missing or wrong is said here, not by every job
    ours = {*OPTIONS, "output", "dry_run"} | ({"seeds"} if several else set())
    arguments = without(context.meta[ARGUMENTS], context.command.params, ours)
    for run in runs:
        seed = [f"--seeds={run.request.decoding.seed}"] if several else []
        _submit_run([*seed, *arguments], request, run.folder, values)


def _submit_run(
    arguments: Sequence[str], request: RunRequest, folder: Path, values: Mapping[str, Any]
) -> None:
    """Submits one run. ``arguments``: of ``cipo-eval run``, without its folder and shards."""
    from cipo_eval.run.slurm import run_jobs

    jobs = run_jobs(arguments, folder, values["shards"] or 1, _merging(request))
    hint = f"cipo-eval status {folder}.shard-*" if " " not in str(folder) else "cipo-eval status"
    carry_out(jobs, folder, batch_of(values), dry_run=request.output.dry_run, hint=hint)


def carry_out(jobs: Sequence[Job], output: Path, batch: Batch, *, dry_run: bool, hint: str) -> None:
    """Shows the scripts of jobs (``dry_run``), or writes them beside ``output`` and submits them; prints their numbers.
    ``hint``: how a user sees how far they are."""
    from cipo_eval.run import slurm

    folder = slurm.jobs_folder(output)
    if dry_run:
        for job in jobs:
            typer.echo(f"# --- {folder / job.name}.sbatch")
            typer.echo(job.script(folder, batch))
        return
    scripts = slurm.write(jobs, folder, batch)
    numbers = slurm.submit(scripts)
    for job, number in zip(jobs, numbers, strict=True):
        tasks = f" ({job.tasks} tasks)" if job.tasks else ""
        say(f"submitted {job.name} as job {number}{tasks}")
    say(f"scripts and logs: {folder}; how far it is: {hint}")
    typer.echo("\n".join(numbers))


def without(words: Sequence[str], parameters: Sequence[Any], names: Collection[str]) -> list[str]:
    """The words of a command line without those of some options, by name of their parameter."""
    takes: dict[str, bool] = {}
    dropped: set[str] = set()
    for parameter in parameters:
        if parameter.param_type_name == "option":
            flags = [*parameter.opts, *parameter.secondary_opts]
            takes |= dict.fromkeys(flags, not parameter.is_flag)
            dropped |= set(flags) if parameter.name in names else set()
    kept: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*kept, word, *rest]
        flag, group = word.partition("=")[0], [word]
        if word.startswith("--"):
            if takes.get(flag) and "=" not in word:
                group += rest[:1]
                del rest[:1]
        elif word.startswith("-") and len(word) > 1:
            letters = next(
                (i for i, letter in enumerate(word) if i and takes.get(f"-{letter}")), len(word) - 1
            )
            flag = f"-{word[letters]}"
            if takes.get(flag) and letters == len(word) - 1:
                group += rest[:1]
                del rest[:1]
            if flag in dropped and letters > 1:
                kept.append(word[:letters])
        if flag not in dropped:
            kept += group
    return kept


def _merging(request: RunRequest) -> list[str]:
    """What the merge is told besides: how figures are made, and where the data is."""
    from cipo_eval.run.request import MERGE

    words: list[str] = []
    for field in MERGE:
        section, _, name = field.partition(".")
        values = getattr(request, section)
        if section != "output" and name in values.model_fields_set and (value := getattr(values, name)):
            text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words.append(f"--{name.replace('_', '-')}={text}")
    return words
