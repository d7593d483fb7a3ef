"""Jobs for SLURM: scripts for ``sbatch``, made from a template that users may replace, and their submission.

Nothing of it is needed to use a batch system: a job is a command of ``cipo-eval`` that goes on by itself where it was
broken off, and these scripts only call such commands. They name the Python that made them.
"""

from __future__ import annotations

import os
import re
import shlex
import string
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cipo_eval.errors import MissingError, UsageError, nearest, reason
from cipo_eval.files import Writing, write_text
from cipo_eval.run.folder import CLOCK
from cipo_eval.run.shards import Shard

TEMPLATE = Path(__file__).parent / "templates" / "slurm.sbatch"
"""The package's own template of a script."""
SBATCH_SECONDS = 60.0
"""Seconds after which an ``sbatch`` that says nothing has failed."""
_PLAIN = re.compile(r"[A-Za-z0-9_./,:=@%+^~-]+")
"""Values that ``sbatch`` reads as they are."""
INDEX = '"$SLURM_ARRAY_TASK_ID"'
"""The number of an array's task, from 1, as the shell writes it."""


class Template(string.Template):
    """A script with ``@@{name}`` in it, so that the shell's own dollars stay what they are."""

    delimiter = "@@"


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What the jobs ask of the cluster."""

    partition: str | None = None
    """The partition (queue) of the cluster; None: its default."""
    account: str | None = None
    """The account that is charged; None: the user's default."""
    time: str | None = None
    """Time limit of each job, as sbatch writes it (``4:00:00``)."""
    gpus: str | None = None
    """GPUs of each job that generates or trains, as sbatch writes them."""
    extra: tuple[str, ...] = ()
    """Further options of sbatch, ``key=value`` each."""
    template: Path | None = None
    """In place of ``TEMPLATE``."""

    def lines(self, *, gpus: bool) -> list[str]:
        """The ``#SBATCH`` lines. Raises ``UsageError`` for what cannot stand in a line."""
        options = {"partition": self.partition, "account": self.account, "time": self.time}
        if gpus:
            options["gpus"] = self.gpus
        pairs = [(name, value) for name, value in options.items() if value is not None]
        for text in self.extra:
            name, equals, value = text.removeprefix("--").partition("=")
            if not re.fullmatch("[a-z][a-z0-9-]*", name):
                raise UsageError(
                    f"--sbatch {text!r:.60}: write an option of sbatch as name=value, or its name alone"
                )
            pairs.append((name, value if equals else ""))
        return [f"#SBATCH --{name}" + (f"={quoted(value)}" if value else "") for name, value in pairs]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One script: a job, or an array of them."""

    name: str
    """Name of its file, without ``.sbatch``."""
    title: str
    """Name of the job in the queue."""
    command: str
    """What the shell runs; it ends in ``exec``."""
    tasks: int | None = None
    """Tasks of an array, which are numbered from 1; None: a single job."""
    gpus: bool = True
    """Whether it needs the GPUs of the batch."""

    def script(self, folder: Path, batch: Batch) -> str:
        """The text of the script, whose log goes into ``folder``. Raises ``UsageError`` for a template that cannot be
        filled in."""
        path = batch.template or TEMPLATE
        try:
            template = Template(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--submit-template {path} cannot be read: {reason(error)}") from error
        log = str(folder.absolute()).replace("%", "%%") + f"/{self.name}-%{'A_%a' if self.tasks else 'j'}.log"
        array = [f"#SBATCH --array=1-{self.tasks}"] if self.tasks else []
        values = {
            "name": quoted(re.sub(r"[^A-Za-z0-9._-]+", "-", self.title)[:60] or "cipo-eval"),
            "log": quoted(log),
            "options": "\n".join([*array, *batch.lines(gpus=self.gpus)]),
            "environment": f"export {CLOCK}={_clock()}",
            "command": self.command,
        }
        try:
            text = template.substitute(values)
        except (KeyError, ValueError) as error:
            name = str(error.args[0]) if isinstance(error, KeyError) else ""
            known = nearest(name, values) if name else f"there are {', '.join(values)}"
            raise UsageError(f"--submit-template {path}: no such placeholder {name}: {known}") from error
        lacking = [name for name in ("command", "options") if f"@@{{{name}}}" not in template.template]
        if lacking:
            raise UsageError(f"--submit-template {path} has no @@{{{lacking[0]}}}: its jobs would do nothing")
        return text


def _clock() -> str:
    """The time that all jobs are told."""
    return shlex.quote(os.environ.get(CLOCK) or datetime.now(UTC).isoformat(timespec="seconds"))


def quoted(value: str) -> str:
    """A value in a line for ``sbatch``. Raises ``UsageError`` for what would begin another line."""
    if not value.isprintable():
        raise UsageError(f"{value!r:.80} cannot stand in a script for sbatch: choose another name")
    return value if _PLAIN.fullmatch(value) else '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def call(*arguments: str) -> str:
    """A command of ``cipo-eval``, for a shell."""
    return shlex.join([sys.executable, "-m", "cipo_eval", *arguments])


def run_jobs(arguments: Sequence[str], output: Path, count: int, merging: Sequence[str]) -> list[Job]:
    """The shards of a run as an array, and the job that merges them. ``arguments``: of ``cipo-eval run``, without
    ``--output`` and ``--shard``; ``merging``: options of ``cipo-eval merge``."""
    last = Shard(count, count)
    width = len(str(count))
    before, after = (shlex.quote(part) for part in str(last.folder(output)).rsplit(f"{count}-of-{count}", 1))
    del after
    shard = f"printf -v shard %0{width}d {INDEX}\n"
    folder = f'{before}"$shard"-of-{count}'
    run = f"{call('run')} --shard {INDEX}/{count} --output {folder} {shlex.join(arguments)}"
    merge = f"{call('merge')} {before}*-of-{count} --output {shlex.quote(str(output))} {shlex.join(merging)}"
    return [
        Job(name="run", title=output.name, command=f"{shard}exec {run}".rstrip(), tasks=count),
        Job(name="merge", title=f"{output.name}-merge", command=f"exec {merge}".rstrip(), gpus=False),
    ]


def jobs_folder(output: Path) -> Path:
    """Where scripts and logs of a run's jobs are."""
    return output.with_name(f"{output.name}.slurm")


def write(jobs: Sequence[Job], folder: Path, batch: Batch) -> list[Path]:
    """Writes the scripts, and returns their paths."""
    texts = [job.script(folder, batch) for job in jobs]
    paths = [folder / f"{job.name}.sbatch" for job in jobs]
    with Writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts, strict=True):
            write_text(path, text)
    return paths


def submit(scripts: Sequence[Path]) -> list[str]:
    """Submits scripts, each after the one before has ended, however it ended. Returns the numbers of the jobs. Raises
    ``MissingError`` where there is no ``sbatch``, or where it refuses."""
    numbers: list[str] = []
    for script in scripts:
        command = ["sbatch", "--parsable", *([f"--dependency=afterany:{numbers[-1]}"] if numbers else [])]
        try:
            ended = subprocess.run(
                [*command, str(script)], capture_output=True, text=True, timeout=SBATCH_SECONDS
            )
        except FileNotFoundError as error:
            raise MissingError(
                f"there is no sbatch on this machine: submit {script} where there is one (--dry-run shows the scripts)"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise MissingError(f"sbatch says nothing (squeue?): {script} is not submitted") from error
        if ended.returncode:
            before = f"; job {', '.join(numbers)} is submitted" if numbers else ""
            raise MissingError(f"sbatch refused {script}: {ended.stderr.strip()[:300]}{before}")
        numbers.append(ended.stdout.strip().partition(";")[0])
    return numbers
