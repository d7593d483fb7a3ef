"""Figures of training: what the trainer logged, and where evaluations on the way lead."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.measures import TRAINING as LOG
from cipo_eval.analysis.measures import Logged
from cipo_reports.cells import file_name
from cipo_reports.frames import among
from cipo_reports.methods import focus
from cipo_reports.panels import arm_lines, grid, legend, look, percent, shares, shown
from cipo_reports.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True, slots=True)
class Panel:
    """A panel of training dynamics, with a line for each of some logged values."""

    title: str
    lines: tuple[Logged, ...]
    apart: str = ""
    """Titles of the lines' own panels, where they have such; empty: the title and the line's label."""

    def of(self, line: Logged) -> Panel:
        """The panel of one line alone."""
        if len(self.lines) == 1:
            return self
        return Panel(self.apart.format(line.label) if self.apart else f"{self.title}\n{line.label}", (line,))


PANELS = (
    Panel("reward, %", (LOG["base_accuracy"], LOG["correction_accuracy"])),
    Panel("retention and ρ, %", (LOG["retention"], LOG["rho"]), apart="{}, %"),
    Panel("entropy, nats", (LOG["entropy"],)),
    Panel("KL to the reference, nats", (LOG["kl"],)),
    Panel("length, tokens", (LOG["base_length"], LOG["correction_length"])),
    Panel("groups without variance, %", (LOG["base_zero_variance"], LOG["correction_zero_variance"])),
)
UNNAMED = (LOG["entropy"].label, LOG["kl"].label)
"""Alone in their panels, whose titles name them."""
SMOOTH = 20
"""Lines are smoothed over this part of the steps: a twentieth."""


def dynamics(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """What the trainer logged, smoothed over a twentieth of the steps; the mean of the seeds, and their range. A figure
    for each kind of problems that was trained on."""
    t = study.training[study.training["kind"] == "train"]
    names = list(dict.fromkeys(t["data"]))
    for data in names:
        figures = _dynamics(study, t[t["data"] == data])
        if len(names) == 1:
            yield from figures
        for name, caption, figure in figures:
            yield f"{name}_{file_name(data)}", f"{data}: {caption[0].lower()}{caption[1:]}", figure


def _dynamics(study: Study, t: pd.DataFrame) -> Iterator[tuple[str, str, Figure]]:
    if rolling := set(
        t[t["figure"] == LOG["base_accuracy"].name]["arm"]
    ):  # a warm start's long way would hide theirs
        t = t[t["arm"].isin(rolling)]
    logged = set(t["figure"])
    panels = [panel for panel in PANELS if logged & {line.name for line in panel.lines}]
    if not panels:
        return
    arms = [arm for arm in focus(study) if arm in set(t["arm"])]
    if len(arms) > 2:  # a panel for each line of an arm: few lines in each
        panels = [panel.of(line) for panel in panels for line in panel.lines if line.name in logged]
    wide = 3 if len(panels) > 2 else None  # titles are long
    figure, places = grid(max(2, len(panels)), height=1.6 if len(arms) <= 2 else 1.75, across=wide)
    drawn: dict[str, list[str]] = {}
    for panel, axes in zip(panels, places, strict=False):
        for value, line in zip(panel.lines, ("-", ":"), strict=False):
            for arm in arms:
                if _smooth(study, axes, t[(t["arm"] == arm) & (t["figure"] == value.name)], arm, line):
                    drawn.setdefault(line, []).append(value.label)
        axes.set(title=panel.title, xlabel="step")
        if panel.lines[0].share:
            shares(axes)
    for extra in places[len(panels) :]:
        extra.set_axis_off()
    handles = [Line2D([], [], color=look(study, a)["color"], lw=3, label=shown(study, a)) for a in arms]
    for line, names in drawn.items() if ":" in drawn else ():
        label = ", ".join(dict.fromkeys(name for name in names if name not in UNNAMED))
        handles.append(Line2D([], [], color="#555555", ls=line, label=label))
    legend(figure, handles)
    few = "" if len(arms) == t["arm"].nunique() else " Of the baseline and the best methods."
    yield (
        "training",
        f"Training dynamics, smoothed over a twentieth of the steps (bands: range of the seeds).{few}",
        figure,
    )


def _smooth(study: Study, axes: Axes, rows: pd.DataFrame, arm: str, line: str) -> bool:
    """Draws the mean of an arm's seeds, and their range; whether there is anything."""
    wide = rows.pivot(index="step", columns="seed", values="value")
    if not len(wide):
        return False
    smooth = wide.rolling(max(1, len(wide) // SMOOTH), min_periods=1).mean()
    color = look(study, arm)["color"]
    axes.plot(smooth.index, smooth.mean(axis=1), ls=line, color=color)
    if smooth.shape[1] > 1:
        low, high = smooth.min(axis=1), smooth.max(axis=1)
        axes.fill_between(smooth.index, low, high, color=color, alpha=0.15, linewidth=0)
    return True


def along(study: Study) -> Iterator[tuple[str, str, Figure]]:
    """pass@K against pass@1 along training, from the evaluations on the way, K the largest: whether a method that gains
    in the first loses in the second is seen at the same pass@1, not at the same step. The mean of the seeds, at steps
    that all of them have; a larger mark at the last one.
    """
    t = study.training[study.training["kind"] == "eval"]
    t = among(t, f.PASS.name).assign(k=lambda rows: rows["k"].astype(int))
    tasks = [task for task in dict.fromkeys(t["task"]) if t[t["task"] == task]["k"].max() > 1]
    if not tasks or t["step"].nunique() < 3:
        return
    figure, panels = grid(len(tasks))
    drawn: list[str] = []
    for task, axes in zip(tasks, panels, strict=True):
        own = t[t["task"] == task]
        first, most = f.PASS.at(1), f.PASS.at(int(own["k"].max()))
        for arm in study.names:
            of_arm = own[own["arm"] == arm]
            seeds = of_arm.groupby("step")["seed"].transform("nunique")
            # a mean of fewer seeds, where some ended earlier, would be of others
            wide = of_arm[seeds == of_arm["seed"].nunique()].pivot_table(
                index="step", columns="k", values="value"
            )
            if len(wide) < 2:
                continue
            drawn.append(arm)
            seen = look(study, arm)
            axes.plot(wide[first.k], wide[most.k], **{**seen, "marker": ""})
            end = {"color": seen["color"], "marker": seen["marker"] or "."}
            axes.plot(wide[first.k].iloc[-1:], wide[most.k].iloc[-1:], ls="", **end)
        axes.set(title=shown(study, task), xlabel=f"{first.label}, %", ylabel=f"{most.label}, %")
        percent(axes.xaxis)
        percent(axes.yaxis)
    legend(figure, arm_lines(study, [arm for arm in study.names if arm in drawn]))
    yield (
        "along",
        "pass@k against pass@1 along training, mean of the seeds; the mark is at the last step that all of them have.",
        figure,
    )
