"""A study as jobs elsewhere: of a batch system (the warm starts, then an arm of a seed each, then the report), or of a
Ray cluster, before they are submitted.

Every job calls ``cipo-eval study`` with the jobs of the study that it is to do (``--job``), so that what is done stays
done, whoever did it.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection, Sequence
from pathlib import Path

from cipo_eval.run.slurm import INDEX, call
from cipo_eval.run.slurm import Job as BatchJob
from cipo_trainer.study.grid import Job
from cipo_trainer.study.jobs import filled


def batch_jobs(
    study: Sequence[str], every: Sequence[Job], done: Collection[str], title: str
) -> list[BatchJob]:
    """The jobs that are missing, as arrays that run one after the other. ``study``: the words of ``cipo-eval study``
    that name the study and its folder; ``done``: jobs that came to their end."""
    left = [job for job in every if job.name not in done]
    arms: dict[str, list[str]] = {}
    for job in left:
        if job.kind != "warm":
            arms.setdefault(str(Path(job.name).parent), []).append(job.name)
    stages = {"warm": [[job.name] for job in left if job.kind == "warm"], "arms": list(arms.values())}
    report = f"exec {call('study', *study)} --report"
    return [
        *(
            BatchJob(name=name, title=f"{title}-{name}", command=_one_of(groups, study), tasks=len(groups))
            for name, groups in stages.items()
            if groups
        ),
        BatchJob(name="report", title=f"{title}-report", command=report, gpus=False),
    ]


def described(every: Sequence[Job], done: Collection[str], folder: Path) -> list[str]:
    """A line for each job that is missing: its command, and the missing jobs that it waits for."""
    left = {job.name: job for job in every if job.name not in done}
    lines = []
    for job in left.values():
        needs = [need for need in job.needs if need in left]
        after = f"   # after {', '.join(needs)}" if needs else ""
        lines.append(shlex.join(["cipo-eval", *filled(job.arguments, folder.absolute())]) + after)
    return lines


def _one_of(groups: Sequence[Sequence[str]], study: Sequence[str]) -> str:
    """What an array's task does: the study's jobs of one of the groups."""
    cases = [
        f"{number}) set -- {shlex.join(word for name in names for word in ('--job', name))} ;;"
        for number, names in enumerate(groups, start=1)
    ]
    return "\n".join(
        [f"case {INDEX} in", *cases, "esac", f'exec {call("study", *study)} --workers 1 --quiet "$@"']
    )
