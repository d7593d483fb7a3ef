"""Figures of points with their intervals: what stands for each task, and differences to the baseline.

Every arm has a line of its own here, however many there are, with its name beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Measure
from cipo_eval.analysis.judgements import JUDGEMENT_F1
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.cells import file_name
from cipo_reports.frames import AVERAGE
from cipo_reports.methods import FEW, focus
from cipo_reports.panels import COLUMN, PAGE, arm_lines, beside, legend, look, percent, shown, spelt
from cipo_reports.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D


def accuracies(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """What stands for each task, of each arm, with its interval: a panel for each task; one where there is one arm."""
    heads = {task: study.headline(task) for task in study.tasks}
    places = list(heads.items())
    if len(set(heads.values())) == 1 and len(heads) > 1:
        places.append((AVERAGE, next(iter(heads.values()))))
    by_task = {
        task: study.figure(figure, protocol).query("task == @task") for task, (protocol, figure) in places
    }
    if len(study.arms) == 1:
        figure = Figure(figsize=(COLUMN, 0.2 * len(places) + 0.75))
        axes = figure.subplots()
        for y, (task, _) in enumerate(places):
            _dots(study, axes, y, by_task[task])
        axes.set_yticks(range(len(places)), [shown(study, task) for task, _ in places])
        panels, rows, titles = [axes], len(places), [""]
    else:
        across = beside(len(places))
        down = math.ceil(len(places) / across)
        size = (COLUMN if across == 1 else PAGE, (0.16 * len(study.arms) + 0.75) * down)
        figure = Figure(figsize=size)
        grid_ = figure.subplots(down, across, squeeze=False, sharey=True)
        panels, rows, titles = (
            list(grid_.flat[: len(places)]),
            len(study.arms),
            [shown(study, t) for t, _ in places],
        )
        for extra in grid_.flat[len(places) :]:
            extra.set_axis_off()
        for (task, _), axes in zip(places, panels, strict=True):
            for y, arm in enumerate(study.names):
                _dots(study, axes, y, by_task[task][by_task[task]["arm"] == arm])
            axes.set_yticks(range(rows), [shown(study, arm) for arm in study.names])
    for axes, title, (_, (protocol, of)) in zip(panels, titles, places, strict=False):
        axes.set_ylim(rows - 0.5, -0.5)
        axes.set(title=title, xlabel=f"{named(protocol, of)}, %")
        axes.grid(visible=False, axis="y")
        percent(axes.xaxis)
    yield "accuracy", "What stands for each task, with 95 % intervals.", figure


def _dots(study: Study, axes: Axes, y: float, rows: pd.DataFrame) -> None:
    """Each row as a point with its interval, at height y."""
    for row in rows[rows["value"].notna()].itertuples():
        color = look(study, row.arm)["color"] if row.arm in focus(study) else "#777777"
        axes.plot(float(row.value), y, color=color, marker=look(study, row.arm)["marker"] or "o", ls="")
        if not pd.isna(row.low):
            axes.plot([float(row.low), float(row.high)], [y, y], color=color, linewidth=1.2)


def named(protocol: str, measure: Measure) -> str:
    """A figure as titles and axes call it, with the protocol where attempts were revised."""
    return spelt(measure) if protocol == DIRECT else f"{spelt(measure)} ({protocol})"


FOREST = (f.ACCURACY.name, f.CORRECTION_RATE.name, JUDGEMENT_F1.family)
"""Families of figures whose differences are drawn, beside pass@1."""
Panel = tuple[str, Measure]
"""Protocol and figure."""


def _panels(rows: pd.DataFrame) -> list[Panel]:
    panels = {(row["protocol"], row["figure"]): row["measure"] for row in rows.to_dict("records")}
    return [(protocol, measure) for (protocol, _), measure in panels.items()]


def forest(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Differences to the baseline with their intervals, task by task; a panel for each figure."""
    d = study.differences[study.differences["difference"].notna()]
    own = [figure.family for figure in study.figures]
    shown = d[[measure is f.PASS.at(1) or measure.family in (*FOREST, *own) for measure in d["measure"]]]
    wanted = _panels(shown)
    if not wanted:
        return
    tasks = [task for task in [*study.tasks, AVERAGE] if task in set(d["task"])]
    arms = [arm for arm in study.names if arm in set(d["arm"])]
    if len(arms) < FEW:
        yield "differences", _of_differences(study), _forest(study, d, wanted, tasks, arms)
        return
    for task in [AVERAGE] if AVERAGE in tasks else tasks:  # many methods: a line each, of one place
        of_task = d[d["task"] == task]
        there = _panels(shown[shown["task"] == task])
        if there:
            name = "differences" if task in (AVERAGE, tasks[0]) else f"differences-{file_name(task)}"
            caption = f"{_of_differences(study)} {'Average over tasks' if task == AVERAGE else task}."
            yield name, caption, _forest(study, of_task, there, [task], arms)


def _of_differences(study: Study) -> str:
    return f"Differences to {study.baseline}, paired by problem, with 95 % intervals."


def _forest(study: Study, d: pd.DataFrame, keys: list[Panel], tasks: list[str], arms: list[str]) -> Figure:
    """A panel for each figure. Rows are tasks, with a point for each arm; or arms, where there is one task."""
    by_arm = len(tasks) == 1
    across = min(3, len(keys))
    down = math.ceil(len(keys) / across)
    height = max(1.5, 0.17 * len(tasks) * len(arms) + 0.75)
    figure = Figure(figsize=(COLUMN if across == 1 else PAGE, height * down + 0.3))
    panels = figure.subplots(down, across, squeeze=False, sharey=True)
    for extra in panels.flat[len(keys) :]:
        extra.set_axis_off()
    labels = [shown(study, name) for name in (arms if by_arm else tasks)]
    for (protocol, measure), axes in zip(keys, panels.flat, strict=False):
        axes.axvline(0, color="#666666", linewidth=0.8)
        of_figure = d[(d["protocol"] == protocol) & (d["figure"] == measure.name)].assign(
            value=d["difference"]
        )
        for i, arm in enumerate(arms):
            for y, task in enumerate(tasks):
                at = i if by_arm else y + (i - (len(arms) - 1) / 2) * 0.7 / max(1, len(arms))
                _dots(study, axes, at, of_figure[(of_figure["arm"] == arm) & (of_figure["task"] == task)])
        axes.set_yticks(range(len(labels)), labels)
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_xlabel("difference, points")
        axes.set_title(named(protocol, measure))
        axes.grid(visible=False, axis="y")
        percent(axes.xaxis)
    if not by_arm:
        legend(figure, [_solid(handle) for handle in arm_lines(study, arms)])
    return figure


def _solid(handle: Line2D) -> Line2D:
    handle.set_linestyle("-")
    return handle
