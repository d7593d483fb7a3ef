"""The figures of a report, from the study's frames: matplotlib, for print at column width and for the screen.

Every function gives ``Figure``s with their names and captions; what they have in common is in ``panels``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, PathPatch, Rectangle
from matplotlib.path import Path as Outline
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from cipo_eval.analysis import figures as f
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.curves import REVISE
from cipo_reports.dots import accuracies, forest
from cipo_reports.frames import AVERAGE, among, whole
from cipo_reports.frontier import frontier
from cipo_reports.methods import focus
from cipo_reports.panels import (
    BESIDE,
    COLUMN,
    PAGE,
    arm_lines,
    curve,
    grid,
    left_label,
    legend,
    log_ticks,
    look,
    name_lines,
    numbered,
    percent,
    shares,
    shown,
    spaced,
    spelt,
    style,
)
from cipo_reports.study import Study
from cipo_reports.training_figures import along, dynamics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RIGHT, WRONG = "#004488", "#BF2F12"
FLOW: dict[tuple[str, str], tuple[str, str, float]] = {
    ("right", "right"): ("stays right", RIGHT, 0.2),
    ("wrong", "right"): ("corrected", RIGHT, 1.0),
    ("right", "wrong"): ("broken", WRONG, 1.0),
    ("wrong", "wrong"): ("stays wrong", WRONG, 0.5),
}
"""What a flow is called, its colour, and how much of it there is over white."""


def figures(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Name, caption and figure, of all for which the study has data."""
    makers = (
        accuracies,
        pass_curves,
        by_turn,
        transitions,
        frontier,
        scatter,
        budget,
        forest,
        along,
        dynamics,
    )
    known = numbered(study)
    with style([*study.names, *study.tasks]):
        for make in makers:
            for name, caption, figure in make(study):
                yield name, f"{caption} {known}." if known else caption, figure


def pass_curves(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """pass@k against k, a panel for each task."""
    scores = among(whole(study.results), f.PASS.name)
    curves = scores[scores["value"].notna()].copy()
    if not len(curves):
        return
    curves["k"] = curves["k"].astype(int)
    tasks = [task for task in study.tasks if curves[curves["task"] == task]["k"].max() > 1]
    if not tasks:
        return
    figure, panels = grid(len(tasks))
    drawn: list[str] = []
    for task, axes in zip(tasks, panels, strict=True):
        for arm in study.names:
            rows = curves[(curves["task"] == task) & (curves["arm"] == arm)].sort_values("k")
            if len(rows):
                drawn.append(arm)
                curve(study, axes, arm, rows["k"], rows)
        axes.set_xscale("log", base=2)
        ks = sorted(set(curves[curves["task"] == task]["k"]))
        axes.set_xticks(spaced(ks, ks[0], ks[-1]))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda k, _: f"{k:g}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(title=shown(study, task), xlabel="attempts, k")
        left_label(axes, "pass@k, %")
        shares(axes)
    name_lines(figure, study, panels, drawn)
    yield "passk", "pass@k with 95 % intervals.", figure


def by_turn(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Accuracy after each turn, a panel for each task, a figure for each protocol."""
    accuracies = among(whole(study.results), f.ACCURACY.name)
    for protocol in study.protocols:
        rows = accuracies[(accuracies["protocol"] == protocol) & accuracies["value"].notna()].copy()
        rows["turn"] = rows["turn"].astype(int)
        tasks = [task for task in study.tasks if task in set(rows["task"])]
        figure, panels = grid(len(tasks))
        drawn: list[str] = []
        for task, axes in zip(tasks, panels, strict=True):
            for arm in study.names:
                of_arm = rows[(rows["task"] == task) & (rows["arm"] == arm)].sort_values("turn")
                if len(of_arm):
                    drawn.append(arm)
                    curve(study, axes, arm, of_arm["turn"], of_arm)
            turns = int(rows["turn"].max())
            if turns <= 5:  # every turn by name: two bare numbers would be read as an axis without marks
                axes.set_xticks(range(1, turns + 1), [f"turn {turn}" for turn in range(1, turns + 1)])
                axes.set_xlim(0.75, turns + 0.25)
            else:
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.set_xlabel("turn")
            axes.set_title(shown(study, task))
            left_label(axes, "accuracy, %")
            shares(axes)
        name_lines(figure, study, panels, drawn)
        yield f"by-turn-{protocol}", f"Accuracy after each turn ({protocol}), with 95 % intervals.", figure


def transitions(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """What became of right and wrong first answers: flows from turn 1 to turn 2, means over the tasks of each arm."""
    for protocol in study.protocols:
        shares = {arm: flows for arm in study.names if (flows := _flows(study, arm, protocol))}
        if not shares:
            continue
        figure, panels = grid(len(shares), height=2.0)
        for (arm, flows), axes in zip(shares.items(), panels, strict=True):
            _alluvial(axes, flows)
            axes.set_title(shown(study, arm))
        handles = [Patch(facecolor=c, alpha=a, label=name) for name, c, a in FLOW.values()]
        legend(figure, handles)
        tasks = [
            task
            for task in study.tasks
            if len(study.figure(f.INTO_RIGHT.at(2), protocol).query("task == @task"))
        ]
        over = "" if len(tasks) == 1 else f", mean over {len(tasks)} tasks"
        yield (
            f"transitions-{protocol}",
            f"From the first answer to the second ({protocol}{over}), per cent of attempts.",
            figure,
        )


def _flows(study: Study, arm: str, protocol: str) -> dict[tuple[str, str], float]:
    """Shares of all attempts by what they were and became; empty where the arm has none."""
    parts = []
    for figure in (f.ACCURACY.at(1), f.INTO_RIGHT.at(2), f.INTO_WRONG.at(2)):
        rows = study.figure(figure, protocol)
        rows = rows[(rows["arm"] == arm) & (rows["task"] != AVERAGE) & rows["value"].notna()]
        if not len(rows):
            return {}
        parts.append(float(rows["value"].astype(float).mean()))
    right, gained, lost = parts
    return {
        ("right", "right"): right - lost,
        ("right", "wrong"): lost,
        ("wrong", "right"): gained,
        ("wrong", "wrong"): 1 - right - gained,
    }


def _alluvial(axes: Axes, flows: dict[tuple[str, str], float]) -> None:
    gap, width = 0.05, 0.1
    for side, x in ((0, 0.0), (1, 1.0)):
        total = sum(share for ends, share in flows.items() if ends[side] == "wrong")
        for name, low, high in (("wrong", 0.0, total), ("right", total + gap, 1 + gap)):
            colour = RIGHT if name == "right" else WRONG
            left = x - width if side == 0 else x
            axes.add_patch(Rectangle((left, low), width, max(0.0, high - low), color=colour))
            if high - low > 0.005:
                at, align = (left - 0.04, "right") if side == 0 else (left + width + 0.04, "left")
                text = f"{name}\n{100 * (high - low):.0f}"
                axes.text(at, (low + high) / 2, text, ha=align, va="center", fontsize=7)
    starts = {("wrong", 0): 0.0, ("wrong", 1): 0.0}
    for side in (0, 1):
        wrong = sum(share for ends, share in flows.items() if ends[side] == "wrong")
        starts["right", side] = wrong + gap
    # Where they leave and arrive, flows to and from "wrong" lie below.
    for before, after in sorted(flows, key=lambda ends: (ends[0] == "right", ends[1] == "right")):
        share = flows[before, after]
        a, b = starts[before, 0], starts[after, 1]
        starts[before, 0] += share
        starts[after, 1] += share
        if share <= 0:
            continue
        _, colour, alpha = FLOW[before, after]
        points = [
            (0, a),
            (0.5, a),
            (0.5, b),
            (1, b),
            (1, b + share),
            (0.5, b + share),
            (0.5, a + share),
            (0, a + share),
        ]
        codes = [Outline.MOVETO, *[Outline.CURVE4] * 3, Outline.LINETO, *[Outline.CURVE4] * 3]
        patch = PathPatch(Outline([*points, (0, a)], [*codes, Outline.CLOSEPOLY]), linewidth=0)
        patch.set(facecolor=colour, alpha=alpha, zorder=2 if before != after else 1)
        axes.add_patch(patch)
        # those that cross are named where they are alone: at the side of "wrong"
        beside = {("right", "wrong"): (0.87, b), ("wrong", "right"): (0.13, a)}
        x, low = beside.get((before, after), (0.5, (a + b) / 2))
        number = axes.text(x, low + share / 2, _whole(share), ha="center", va="center", fontsize=6.5)
        number.set(zorder=3, path_effects=[withStroke(linewidth=1.6, foreground="white")])
    axes.set(xlim=(-0.62, 1.62), ylim=(-0.02, 1 + gap + 0.02), xticks=(-width / 2, 1 + width / 2), yticks=())
    axes.set_xticklabels(["turn 1", "turn 2"])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _whole(share: float) -> str:
    """A share in whole per cent, which is not nothing where there is something."""
    return "<1" if 0 < share < 0.005 else f"{100 * share:.0f}"


def scatter(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """First accuracy against correction rate; the size of a point is retention. A colour and marker for each arm, a
    point for each task."""
    for protocol in study.protocols:
        first, rate, keeps = (
            study.figure(figure, protocol).set_index(["arm", "task"])["value"]
            for figure in (f.ACCURACY.at(1), f.CORRECTION_RATE.at(2), f.RETENTION.at(2))
        )
        points = [
            (arm, task)
            for arm, task in first.index
            if task != AVERAGE and not pd.isna(first[arm, task]) and not pd.isna(rate.get((arm, task)))
        ]
        if len(points) < POINTS:  # the tables say as much
            continue
        figure = Figure(figsize=(COLUMN, 2.9))
        axes = figure.subplots()
        sized = f.RETENTION.at(2).applies(PROTOCOLS[protocol])
        for arm, task in points:
            seen = look(study, arm)
            kept = keeps.get((arm, task))
            size = 40.0 if not sized or pd.isna(kept) else _size(float(kept))
            axes.scatter(
                float(first[arm, task]),
                float(rate[arm, task]),
                s=size,
                color=seen["color"],
                marker=seen["marker"] or "o",
                alpha=0.8,
                linewidth=0,
            )
        axes.set(xlabel=f"{spelt(f.ACCURACY.at(1))}, %", ylabel=f"{spelt(f.CORRECTION_RATE.at(2))}, %")
        axes.margins(0.12)
        for axis in (axes.xaxis, axes.yaxis):
            percent(axis)
        arms = [arm for arm in study.names if arm in {arm for arm, _ in points}]
        handles = arm_lines(study, arms)
        for handle in handles:
            handle.set_linestyle("")
            handle.set_marker(handle.get_marker() or "o")
        if sized:
            handles += [
                Line2D(
                    [], [], ls="", marker="o", color="#888888", ms=_size(x) ** 0.5, label=f"retention {x:.0%}"
                )
                for x in (0.5, 0.75, 1.0)
            ]
        legend(figure, handles, columns=3)
        what = "; size: retention" if sized else ""
        yield (
            f"scatter-{protocol}",
            f"Accuracy of first answers and correction rate by task ({protocol}){what}.",
            figure,
        )


POINTS = 6
"""Fewer points are no cloud."""


def _size(retention: float) -> float:
    return 12 + 100 * max(0.0, retention) ** 2


BUDGETS = {REVISE: ("-", "o"), f.PASS.name: (":", "^"), f.MAJORITY.name: ("--", "s")}
"""Lines and markers by kind of point."""
ACROSS = 4
"""Most panels beside each other."""


def budget(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """Accuracy against generated tokens: revising an answer, or drawing others, of which the best counts (somebody
    can tell) or the vote. A row of panels for each arm, a column for each task."""
    fair = {"self": [f.MAJORITY.name, f.PASS.name]}
    for protocol in [name for name in study.protocols if PROTOCOLS[name].own]:
        b = study.budget[study.budget["protocol"].isin([protocol, DIRECT])]
        there = b[b["protocol"] == protocol]
        tasks = [task for task in study.tasks if task in set(there["task"])]
        arms = [arm for arm in focus(study) if arm in set(there["arm"])]
        kinds = [REVISE, *fair.get(protocol, [f.PASS.name])]
        for start in range(0, len(tasks) if arms else 0, ACROSS):
            figure = _budget(study, b, arms, tasks[start : start + ACROSS], kinds, protocol)
            part = f"-{start // ACROSS + 1}" if start else ""
            few = "" if len(arms) == len(study.arms) else " Of the baseline and the best methods."
            caption = f"Revise ({protocol}) or resample: accuracy against generated tokens.{few}"
            yield f"budget-{protocol}{part}", caption, figure


def _budget(
    study: Study, b: pd.DataFrame, arms: list[str], tasks: list[str], kinds: list[str], protocol: str
) -> Figure:
    size = (COLUMN if len(tasks) == 1 else PAGE, 1.55 * len(arms) + 0.5)
    figure = Figure(figsize=size)
    panels = figure.subplots(len(arms), len(tasks), squeeze=False, sharex="col", sharey="col")
    for i, arm in enumerate(arms):
        for task, axes in zip(tasks, panels[i], strict=True):
            own = b[(b["task"] == task) & (b["arm"] == arm)]
            for kind in kinds:
                points = own[own["kind"] == kind].sort_values("tokens")
                if kind == f.MAJORITY.name and len(points):  # a vote of one is the first attempt
                    points = pd.concat([own[(own["kind"] == f.PASS.name) & (own["k"] == 1)], points])
                if len(points):
                    line, marker = BUDGETS[kind]
                    color = look(study, arm)["color"] if kind == REVISE else BESIDE
                    axes.plot(
                        points["tokens"],
                        points["value"],
                        ls=line,
                        marker=marker,
                        ms=3,
                        color=color,
                        label=kind,
                    )
            axes.set_title(
                f"{shown(study, arm)}\n{shown(study, task)}" if len(arms) > 1 else shown(study, task)
            )
            left_label(axes, "right, %")
    for task, axes in zip(tasks, panels[-1], strict=True):
        of_task = b[(b["task"] == task) & b["arm"].isin(arms)]["tokens"].astype(float)
        low, high = float(of_task.min()), float(of_task.max())
        axes.set_xscale("log", base=2)
        axes.set_xticks(spaced(log_ticks(low, high), low, high, apart=0.2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("tokens per problem")
        shares(axes)
    names = {
        REVISE: f"revise ({protocol})",
        f.PASS.name: "resample, best of k",
        f.MAJORITY.name: "resample, vote",
    }
    handles = [
        Line2D([], [], color=BESIDE, ls=BUDGETS[kind][0], marker=BUDGETS[kind][1], label=names[kind])
        for kind in kinds
    ]
    legend(figure, handles, columns=3)
    return figure
