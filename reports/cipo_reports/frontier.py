"""What corrections cost and what they gain: first answers against second ones, and second answers against what the same
tokens buy without a correction."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from cipo_eval.analysis import figures as f
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.cells import Cell, Lookup, Table, difference, make_table, missing, name, share
from cipo_reports.frames import whole
from cipo_reports.methods import focus
from cipo_reports.panels import BESIDE, COLUMN, PAGE, label_ends, legend, look, percent, shown, spelt
from cipo_reports.runs import paired_difference
from cipo_reports.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D

FEWEST = 3
"""Methods that make a frontier; of two, the table of differences says as much."""
MANY = 8
"""With more methods only the baseline and those that no other is better than have intervals and names."""
OTHER, BEST, STROKE = "#777777", "#BF2F12", "#BBBBBB"
"""Colours of methods that other figures do not tell apart, of many those that no other is better than, and of strokes
to names."""
FURTHER = "vPX<>"
"""Markers of the former: enough for what of ``MANY`` methods is left, also where none is the baseline."""
EQUAL_MAJORITY = "equal-token maj"
"""The vote of as many first attempts as cost no more tokens than an attempt and its correction."""
AGAINST: tuple[tuple[str, str], ...] = (
    (f.ACCURACY.at(2).name, "acc@t2"),
    (f.ACCURACY.at(1).name, "keep the first"),
    (f.CHANGE.at(2).name, "gain over it"),
    (EQUAL_MAJORITY, "majority, same tokens"),
    (f.REVISED.name, "corrected"),
    (f.FRESH.name, "fresh attempt"),
    (f.LIFT.name, "lift"),
)
"""Figures and what the table calls them; the last three are of problems with failed attempts."""
SIGNED = frozenset({f.CHANGE.at(2).name, f.LIFT.name})


def _asked_of_all(study: Study) -> list[str]:
    """Protocols that ask the model to look at each attempt of its own again, and tell it nothing of it."""
    return [p for p in study.protocols if PROTOCOLS[p].own and not PROTOCOLS[p].continues]


def alternatives(study: Study) -> Table:
    """Second answers beside what can be had without them: the first answer kept, a fresh attempt, a vote."""
    look_up = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    several = len(_asked_of_all(study)) > 1
    over = study.paired and study.baseline is not None and len(study.runs) > 0
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        for protocol in _asked_of_all(study):
            group = []
            for arm in study.names:
                found = [look_up(arm, task, protocol, figure) for figure, _ in AGAINST]
                if found[0] is not None:
                    named = [name(task), *([name(protocol)] if several else []), name(arm)]
                    cells = [
                        share(row, signed=figure in SIGNED)
                        for row, (figure, _) in zip(found, AGAINST, strict=True)
                    ]
                    group.append(
                        [*named, *cells, *([_over_first(study, arm, task, protocol)] if over else [])]
                    )
            if group:
                rules.append(len(rows))
                rows += group
    columns = ["task", *(["protocol"] if several else []), "method", *(title for _, title in AGAINST)]
    columns += [f"over first of {study.baseline}"] if over else []
    notes = [
        "A gain over another method's second answers is not yet one over answering once. Keep the first: accuracy "
        "of first attempts. Majority, same tokens: the vote of as many first attempts as cost no more than an attempt "
        "with its correction. Of problems with failed attempts: corrected, the share of these made right; fresh "
        "attempt, the share of right ones among the others; lift, the difference."
    ]
    if over:
        notes.append(
            f"Over first of {study.baseline}: second answers less the first answers of {study.baseline}, points, with "
            "Student's 95 % interval over seeds."
        )
    caption = "Second answers and what the same tokens buy without them, per cent."
    left = 3 if several else 2
    return make_table("alternatives", caption, columns, rows, left=left, rules=tuple(rules[1:]), notes=notes)


def _over_first(study: Study, arm: str, task: str, protocol: str) -> Cell:
    """Second answers less the baseline's first ones."""
    first = str(study.baseline), protocol, f.ACCURACY.at(1).name
    return difference(paired_difference(study.runs, task, first, (arm, protocol, f.ACCURACY.at(2).name)))


def frontier(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Accuracy of first answers against that of second ones, with intervals; a panel for each task, a figure for each
    protocol that asks again."""
    for protocol in _asked_of_all(study):
        of_task = {task: _points(study, protocol, task) for task in study.tasks}
        tasks = [task for task, points in of_task.items() if len(points) >= FEWEST]
        if not tasks:
            continue
        across = min(2, len(tasks))
        down = math.ceil(len(tasks) / across)
        figure = Figure(figsize=(COLUMN if across == 1 else PAGE, 2.8 * down))
        panels = figure.subplots(down, across, squeeze=False)
        for extra in panels.flat[len(tasks) :]:
            extra.set_axis_off()
        marks: dict[str, Line2D] = {}
        for task, axes in zip(tasks, panels.flat, strict=False):
            marks |= _panel(study, axes, of_task[task], beside=figure if len(tasks) == 1 else None)
            axes.set_title(shown(study, task) if len(tasks) > 1 else "")
            axes.set_xlabel(f"{spelt(f.ACCURACY.at(1))}, %")
            axes.set_ylabel(f"{spelt(f.ACCURACY.at(2))}, %")
        if len(study.names) <= MANY:
            legend(figure, [marks[arm] for arm in study.names if arm in marks])
        yield (
            f"frontier-{protocol}",
            f"First answers and second ones ({protocol}), with 95 % intervals. On the line the second answer is worth "
            f"what keeping the first one is. Of more than {MANY} methods those that no other is above and to the right "
            "of have names and intervals.",
            figure,
        )


Points = Mapping[str, tuple[Any, Any]]
"""By method, the rows of its first and of its second answers."""


def _points(study: Study, protocol: str, task: str) -> Points:
    look_up = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    found = {
        arm: (
            look_up(arm, task, DIRECT, f.PASS.at(1).name),
            look_up(arm, task, protocol, f.ACCURACY.at(2).name),
        )
        for arm in study.names
    }
    return {
        arm: (first, second)
        for arm, (first, second) in found.items()
        if first and second and not missing(first["value"]) and not missing(second["value"])
    }


def _panel(study: Study, axes: Axes, points: Points, *, beside: Figure | None) -> dict[str, Line2D]:
    """Draws the points of a task, and returns the mark of each method. ``beside``: the figure, where there is room for
    names beside the panel."""
    best, many = _undominated(points), len(study.names) > MANY
    told = {*best, *([study.baseline] if study.baseline else [])}
    others = [arm for arm in study.names if arm not in focus(study)]
    marks: dict[str, Line2D] = {}
    for arm, (first, second) in points.items():
        seen = look(study, arm)
        color, marker = seen["color"], seen["marker"]
        if many and arm != study.baseline:
            color, marker = (BEST, "D") if arm in best else (OTHER, "o")
        elif arm in others:
            color, marker = OTHER, FURTHER[others.index(arm)]
        x, y = float(first["value"]), float(second["value"])
        spans = arm in told or not many  # intervals of all would hide the points
        if spans and not (pd.isna(first["low"]) or pd.isna(second["low"])):
            axes.plot([first["low"], first["high"]], [y, y], color=color, linewidth=0.8, alpha=0.6)
            axes.plot([x, x], [second["low"], second["high"]], color=color, linewidth=0.8, alpha=0.6)
        size = 3.0 if many and arm not in told else None
        (marks[arm],) = axes.plot(
            x, y, ls="", marker=marker, color=color, markersize=size, label=shown(study, arm)
        )
    values = [(float(first["value"]), float(second["value"])) for first, second in points.values()]
    ends = [value for pair in values for value in pair]
    axes.margins(0.12)
    axes.autoscale_view()
    box = axes.get_xlim(), axes.get_ylim()
    if many:  # of the points: an interval may go far
        box = _around([x for x, _ in values]), _around([y for _, y in values])
    axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color=BESIDE, linewidth=0.8, ls=":", zorder=1)
    room = 0.25 if many and not beside else 0.0  # names take it
    axes.set_xlim(box[0][0], min(1.02, box[0][1]) + room * (box[0][1] - box[0][0]))
    axes.set_ylim(box[1][0], min(1.02, box[1][1]))
    if many and beside:
        label_ends(beside, axes, [marks[arm] for arm in points if arm in told], stroke=STROKE)
    elif many:
        for arm, at in zip(points, values, strict=True):
            if arm in told:
                axes.annotate(
                    shown(study, arm),
                    at,
                    xytext=(4, 3),
                    textcoords="offset points",
                    fontsize=6.5,
                    color=marks[arm].get_color(),
                )
    for axis in (axes.xaxis, axes.yaxis):
        percent(axis)
    return marks


def _around(values: Sequence[float]) -> tuple[float, float]:
    """The ends of an axis that has room around its points."""
    low, high = min(values), max(values)
    room = 0.15 * max(high - low, 0.02)
    return low - room, high + room


def _undominated(points: Points) -> set[str]:
    """Methods than which no other is better in both answers."""
    at = {arm: (float(first["value"]), float(second["value"])) for arm, (first, second) in points.items()}
    return {
        arm
        for arm, (x, y) in at.items()
        if not any(u >= x and v >= y and (u, v) != (x, y) for u, v in at.values())
    }
