"""What a study concludes from: which runs belong to which arm, and where each of its reports goes.

A study makes runs; what is computed of them is the harness's business (``cipo_reports``), which needs to know no more
than this.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cipo_eval.errors import UsageError
from cipo_trainer.logs import evaluation_folder, read
from cipo_trainer.study.grid import WARM, StudyConfig, arm_folder, jobs, run_folder
from cipo_trainer.study.jobs import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one report of a study compares."""

    temperature: float
    """Of sampling, in all its runs."""
    report: Path
    """Folder of the report."""
    arms: Mapping[str, Sequence[Path]]
    """By arm, its run directories (one for each family and seed), then the folders of their trainings."""
    step: int | None = None
    """Of the trainings, whose evaluation on the way is compared; None: what they ended with."""


def comparisons(config: StudyConfig, folder: Path) -> list[Comparison]:
    """One for each temperature of the study in ``folder``, then one for each step of ``evaluate.along``; the first is
    what the study is about. Seeds whose warm start was not accepted are left out. Raises ``UsageError`` where none was,
    and for a step at which the baseline was not evaluated."""
    first = config.evaluate.temperatures[0]
    without = Ledger(folder).left_out(jobs(config))
    ends = [
        Comparison(
            temperature=temperature,
            report=folder / ("report" if temperature == first else f"report-t{temperature:g}"),
            arms={arm: _runs(config, folder, arm, run_folder(temperature), without) for arm in config.arms},
        )
        for temperature in config.evaluate.temperatures
    ]
    return ends + [_after(step, config, folder, without) for step in config.evaluate.along]


def _after(step: int, config: StudyConfig, folder: Path, without: Collection[str]) -> Comparison:
    """Of the evaluations that trainings made on the way, after so many steps."""
    run = evaluation_folder(step)
    trained = {arm: places for arm, places in config.arms.items() if places is not None}
    arms = {arm: _runs(config, folder, arm, f"train/{run}", without) for arm in trained}
    there = {arm: of for arm, of in arms.items() if all(p.is_dir() for p in of)}
    if not there or (config.baseline or next(iter(trained))) not in there:
        raise UsageError(
            f"evaluate.along: after {step} steps there is no evaluation of {config.baseline or 'any arm'}: "
            "train.eval.every says when there is one"
        )
    report = folder / f"report-step-{step}"
    return Comparison(temperature=config.evaluate.temperatures[0], report=report, arms=there, step=step)


def _runs(config: StudyConfig, folder: Path, arm: str, run: str, without: Collection[str]) -> list[Path]:
    names = [arm_folder(config, f, s, arm) for f in config.families for s in config.seeds]
    first = run_folder(config.evaluate.temperatures[0])
    kept = [folder / name for name in names if f"{name}/{first}" not in without]
    if not kept:
        raise UsageError(
            f"no warm start was accepted: there is nothing of {arm} to compare (jobs.jsonl, logs)"
        )
    return [*(place / run for place in kept), *(place / "train" for place in kept)]


def accepted(config: StudyConfig, folder: Path) -> list[str]:
    """A sentence for each warm start that had to be good enough (``stop.figures``): after how many steps it was, or
    was not, and its figures then."""
    sentences = []
    every = jobs(config)
    left_out = Ledger(folder).left_out(every)
    for job in every:
        if not (job.kind == WARM and job.strict):
            continue
        wanted = job.config["stop"]["figures"]
        evaluated = [row for row in read(folder / job.name / "log.jsonl") if row["kind"] == "eval"]
        if evaluated:
            last = evaluated[-1]
            values = ", ".join(
                f"{name.partition('/')[2]} {_number(last[name])} (≥ {wanted[name]:g})" for name in wanted
            )
            place = ", ".join(job.name.split("/")[:2])
            outcome = "not accepted, and left out," if job.name in left_out else "accepted"
            sentences.append(
                f"Warm start of {place}: {outcome} after {last['step']} steps of its last stage, {values}."
            )
    return sentences


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"
