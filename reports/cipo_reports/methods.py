"""What a report says of methods as such: which ones figures tell apart, and where one training stands for all."""

from __future__ import annotations

from functools import lru_cache

from cipo_reports.frames import AVERAGE
from cipo_reports.study import Study

FEW = 4
"""So many methods are told apart by lines and colours in one figure."""


@lru_cache(maxsize=8)
def focus(study: Study) -> tuple[str, ...]:
    """The arms that figures with lines tell apart: all where they are few, else the baseline and the best, by the mean
    over tasks of the figure that stands for each."""
    if len(study.arms) <= FEW:
        return tuple(study.names)
    values: dict[str, list[float]] = {name: [] for name in study.names}
    for task in study.tasks:
        protocol, figure = study.headline(task)
        rows = study.figure(figure, protocol)
        for row in rows[(rows["task"] == task) & rows["value"].notna()].to_dict("records"):
            values[row["arm"]].append(float(row["value"]))
    ranked = sorted(study.names, key=lambda name: -sum(values[name]) / max(1, len(values[name])))
    best = [name for name in ranked if name != study.baseline][: FEW - 1]
    return tuple(name for name in study.names if name in best or name == study.baseline)


def one_seed(study: Study, arm: str, task: str) -> bool:
    """Whether a difference between this arm and the baseline rests on one training of either."""
    both = [of for of in study.arms if of.name in (arm, study.baseline)]
    tasks = study.tasks if task == AVERAGE else [task]
    return any(len(of.having(name)) == 1 for of in both for name in tasks)
