"""A study as jobs of a batch system: the warm starts, then an arm of a seed each, then the report.

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


def _one_of(groups: Sequence[Sequence[str]], study: Sequence[str]) -> str:
    """What an array's task does: the study's jobs of one of the groups."""
    cases = [
        f"{number}) set -- {shlex.join(word for name in names for word in ('--job', name))} ;;"
        for number, names in enumerate(groups, start=1)
    ]
    return "\n".join(
        [f"case {INDEX} in", *cases, "esac", f'exec {call("study", *study)} --workers 1 --quiet "$@"']
    )
