"""What a study concludes from: which runs belong to which arm, and where the report of each temperature goes.

A study makes runs; what is computed of them is the harness's business (``cipo_reports``), which needs to know no more
than this.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cipo_trainer.logs import read
from cipo_trainer.study.grid import WARM, StudyConfig, arm_folder, jobs, run_folder


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What one report of a study compares."""

    temperature: float
    """Of sampling, in all its runs."""
    report: Path
    """Folder of the report."""
    arms: Mapping[str, Sequence[Path]]
    """By arm, its run directories (one for each family and seed), then the folders of their trainings."""


def comparisons(config: StudyConfig, folder: Path) -> list[Comparison]:
    """One for each temperature of the study in ``folder``; the first is the one that the study is about."""
    first = config.evaluate.temperatures[0]
    return [
        Comparison(
            temperature=temperature,
            report=folder / ("report" if temperature == first else f"report-t{temperature:g}"),
            arms={arm: _runs(config, folder, arm, temperature) for arm in config.arms},
        )
        for temperature in config.evaluate.temperatures
    ]


def _runs(config: StudyConfig, folder: Path, arm: str, temperature: float) -> list[Path]:
    places = [folder / arm_folder(config, f, s, arm) for f in config.families for s in config.seeds]
    return [*(place / run_folder(temperature) for place in places), *(place / "train" for place in places)]


def accepted(config: StudyConfig, folder: Path) -> list[str]:
    """A sentence for each warm start that had to be good enough (``stop.figures``): after how many steps it was, and
    its figures then."""
    sentences = []
    for job in jobs(config):
        if not (job.kind == WARM and job.strict):
            continue
        wanted = job.config["stop"]["figures"]
        evaluated = [row for row in read(folder / job.name / "log.jsonl") if row["kind"] == "eval"]
        if evaluated:
            last = evaluated[-1]
            values = ", ".join(
                f"{name.partition('/')[2]} {last[name]:.2f} (≥ {wanted[name]:g})" for name in wanted
            )
            family_name, seed, *_ = job.name.split("/")
            sentences.append(
                f"Warm start of {family_name}, {seed}: accepted after {last['step']} steps of its last stage, {values}."
            )
    return sentences
