"""The pictures of docs/reports.md, made anew: ``python benchmarks/gallery.py --data-dir MIRROR``.

A made-up study shows every kind of figure; its numbers mean nothing. Published outputs of real models, judged here,
show figures of real data: those whose licence lets their figures be shown (``SHOWN``). Without ``--data-dir`` the
made-up ones alone are made. The last line is one JSON object: the pictures, and what the real ones say.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipo_eval import score
from cipo_reports.arms import read_arms
from cipo_reports.figures import figures
from cipo_reports.panels import save
from cipo_reports.study import Study, read_study
from cipo_reports.synthetic import make_study

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reports"
MADE_UP = (
    "accuracy",
    "passk",
    "by-turn-self",
    "transitions-self",
    "scatter-self",
    "budget-self",
    "differences",
    "along",
    "training",
)
"""Figures of the made-up study that the page shows."""
MATHEMATICS = {"math500": "math500", "minerva": "minerva_math", "amc23": "amc23", "aime24": "aime24"}
"""Tasks, and what their files of outputs are called."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Published outputs: what they are, and which figures of them are shown."""

    source: str
    licence: str
    files: Mapping[str, Mapping[str, str]]
    """By method and task, the file below the mirror."""
    more: Mapping[str, Any]
    """What else ``score`` is asked."""
    shown: Mapping[str, str]
    """Figures, by the name that they get."""


SHOWN = (
    Published(
        source="NovaSky-AI/SkyThought, evaluation outputs at f7bcf0b4",
        licence="Apache-2.0",
        files={
            model: {
                task: f"model_outputs/math/{model}__{file}.jsonl.gz" for task, file in MATHEMATICS.items()
            }
            for model in ("Qwen2.5-Math-7B", "Qwen2.5-14B-Instruct")
        },
        more={},
        shown={"real-accuracy": "accuracy", "real-differences": "differences"},
    ),
    Published(
        source="tangzhy/RealCritic, outputs of o1-mini at 968bb1ea",
        licence="MIT",
        files={
            "o1-mini": {
                "realcritic_math": "model_outputs/self_correction/realcritic_o1-mini_math_half.jsonl.gz"
            }
        },
        more={"protocol": "given"},
        shown={"real-transitions": "transitions-given"},
    ),
)


def scored(published: Published, data: Path, folder: Path) -> Study:
    """The outputs judged here, in fixed mode, as a study."""
    groups = []
    for method, by_task in published.files.items():
        runs = []
        for task, file in by_task.items():
            run = folder / f"{method}-{task}"
            score(data / file, task=task, data_dir=data, output=run, **published.more)
            runs.append(str(run))
        groups.append(f"{method}={','.join(runs)}")
    return read_study(read_arms([], groups))


def drawn(study: Study, wanted: Mapping[str, str]) -> Iterator[str]:
    """Draws those figures of a study, by the name that they get; returns the names."""
    by_figure = {figure: name for name, figure in wanted.items()}
    with tempfile.TemporaryDirectory() as folder:
        for figure, _, picture in figures(study):
            if name := by_figure.get(figure):
                png, *_ = save(picture, Path(folder), name)
                FOLDER.joinpath(png.name).write_bytes(png.read_bytes())
                yield name


def main() -> None:
    """Makes all pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="mirror with the published outputs")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_study(Path(folder), problems=40, samples=8)
        study = read_study(
            read_arms([], [f"{name}={','.join(map(str, paths))}" for name, paths in made.items()])
        )
        names = list(drawn(study, dict(zip(MADE_UP, MADE_UP, strict=True))))
    told: dict[str, Any] = {}
    for published in SHOWN if asked.data_dir else ():
        with tempfile.TemporaryDirectory() as folder:
            study = scored(published, asked.data_dir, Path(folder))
            names += drawn(study, published.shown)
            head = {task: study.headline(task) for task in study.tasks}
            for task, (protocol, figure) in head.items():
                rows = study.figure(figure, protocol).query("task == @task")
                told |= {
                    f"{row.arm}/{task}/{figure.name}": round(100 * row.value, 1) for row in rows.itertuples()
                }
    print(json.dumps({"pictures": names, "per cent": told}))


if __name__ == "__main__":
    main()
