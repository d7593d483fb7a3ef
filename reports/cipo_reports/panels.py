"""What all figures have in common: their look, an arm's colour, small panels, legends, and how they are saved.

An arm has the same colour, marker and line everywhere. The colours are told apart by people with each kind of colour
blindness, and by their lightness where there is no colour (tests simulate both). Where there are many, the baseline and
the best are told apart and the others are grey. Names stand beside the ends of lines, moved apart, or in one legend per
figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Measure
from cipo_reports.fonts import drawable, families, lacking
from cipo_reports.methods import focus
from cipo_reports.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#004488", "#BF2F12", "#1E9E8A", "#000000")
MARKERS = "osD^"
LINES = ("-", "--", "-.", (0, (1, 1)))
"""Line styles of the methods, in their order."""
COLUMN, PAGE = 3.35, 6.9
"""Width in inches of a column and of a page of a two-column paper."""
STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "figure.constrained_layout.use": True,
    "savefig.dpi": 200,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "cipo-eval",
    "text.parse_math": False,
}
NAME = 24
"""Longest name in a figure; longer ones are cut."""


BESIDE = "#262626"
"""What is drawn beside an arm's line and is no arm."""
OTHERS: dict[str, Any] = {"color": "#bdbdbd", "marker": "", "linestyle": "-", "linewidth": 0.8, "zorder": 1.5}
"""The look of methods that a figure does not tell apart."""


@contextmanager
def style(texts: Iterable[str] = ()) -> Iterator[None]:
    """The look of all figures. Names are text: nothing in them is taken for mathematics. ``texts``: what is to be
    drawn, in fonts that have its characters."""
    with mpl.rc_context({**STYLE, "font.family": families(texts)}):
        yield


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Writes ``name.png``, ``.pdf`` and ``.svg``, the same bytes for the same figure."""
    paths = [folder / f"{name}.{kind}" for kind in ("png", "pdf", "svg")]
    with style():
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is laid out: not once more for each file
        for path in paths:
            metadata = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
            figure.savefig(path, metadata=metadata[path.suffix])
    return paths


def short(name: str) -> str:
    """A name that fits, without what fonts cannot show."""
    text = drawable(name)
    return text if len(text) <= NAME else f"{text[: NAME - 1]}…"


def shown(study: Study, name: str) -> str:
    """What stands for a method or a task in figures: its name, or its number where no installed font has it."""
    if not lacking(name):
        return short(name)
    kind, among = ("method", study.names) if name in study.names else ("task", study.tasks)
    return f"{kind} {among.index(name) + 1}"


def numbered(study: Study) -> str:
    """A sentence for captions that says which names the numbers stand for; empty where there are none."""
    names = [name for name in dict.fromkeys([*study.names, *study.tasks]) if lacking(name)]
    return "; ".join(f"{shown(study, name)}: {name}" for name in names)


def look(study: Study, arm: str) -> dict[str, Any]:
    """Colour, marker and line of an arm, for matplotlib."""
    if arm not in focus(study):
        return dict(OTHERS)
    i = focus(study).index(arm)
    return {"color": COLOURS[i], "marker": MARKERS[i], "linestyle": LINES[i]}


def spelt(measure: Measure) -> str:
    """A figure as an axis names it: without abbreviations of ours."""
    if measure.family != f.ACCURACY.name or measure.turn is None:
        return measure.label
    return "accuracy of first answers" if measure.turn == 1 else f"accuracy after turn {measure.turn}"


def beside(count: int) -> int:
    """How many of so many panels stand in a row."""
    return 3 if count in (3, 5, 6, 9) else min(count, 4)


def grid(count: int, *, height: float = 1.7, across: int | None = None) -> tuple[Figure, list[Axes]]:
    """Small panels, as many in a row as fit; one or two fit a column."""
    across = across or beside(count)
    down = math.ceil(count / across)
    width = COLUMN if across <= 2 else PAGE
    height = 2.0 if count == 1 else height
    figure = Figure(figsize=(width, height * down + 0.45))
    axes = figure.subplots(down, across, squeeze=False)
    for extra in axes.flat[count:]:
        extra.set_axis_off()
    return figure, list(axes.flat[:count])


def legend(figure: Figure, handles: Sequence[Any], columns: int = 4) -> None:
    """Above all panels, on as many lines as the names need."""
    if handles:
        room = figure.get_figwidth() / 0.062  # characters of the legend's size
        longest = max(len(str(handle.get_label())) for handle in handles) + 8
        columns = max(1, min(columns, int(room / longest), len(handles)))
        figure.set_figheight(figure.get_figheight() + 0.15 * (math.ceil(len(handles) / columns) - 1))
        figure.legend(handles=handles, loc="outside upper center", ncols=columns, handlelength=2.4)


def arm_lines(study: Study, names: Sequence[str]) -> list[Line2D]:
    """What a legend shows of arms; those that are not told apart together."""
    lines = [Line2D([], [], label=shown(study, n), **look(study, n)) for n in focus(study) if n in names]
    if others := len({name for name in names if name not in focus(study)}):
        lines.append(Line2D([], [], label=f"{others} other{'s' if others > 1 else ''}", **OTHERS))
    return lines


def name_lines(figure: Figure, study: Study, panels: Sequence[Axes], names: Sequence[str]) -> None:
    """Names the lines of arms: beside their ends in the last panel of the first row, where all of them are; else, and
    for those that are not told apart, in a legend."""
    first = [axes for axes in panels if axes.get_subplotspec().is_first_row()]  # type: ignore[union-attr]
    told = [name for name in focus(study) if name in names]
    lines = {str(line.get_label()): line for line in first[-1].get_lines()}
    if len(told) < 2 or not all(shown(study, name) in lines for name in told):
        legend(figure, arm_lines(study, names))
        return
    label_ends(figure, first[-1], [lines[shown(study, name)] for name in told])
    legend(figure, arm_lines(study, [name for name in names if name not in told]))


def label_ends(figure: Figure, axes: Axes, lines: Sequence[Line2D], *, stroke: str | None = None) -> None:
    """Writes the name of each line at the right of its last point, with a stroke to it, of the line's colour unless
    ``stroke`` is one; names are moved apart."""
    low, high = axes.get_ylim()
    rows = axes.get_gridspec().nrows  # type: ignore[union-attr]
    gap = 0.14 / (figure.get_figheight() / rows - 0.7)  # inches of a line, of the panel's inner height
    order = sorted(lines, key=lambda line: _end(line)[1])
    heights = [(_end(line)[1] - low) / (high - low) for line in order]
    for i in range(1, len(heights)):
        heights[i] = max(heights[i], heights[i - 1] + gap)
    heights[-1] = min(heights[-1], 1.0)
    for i in range(len(heights) - 2, -1, -1):
        heights[i] = min(heights[i], heights[i + 1] - gap)
    for line, height in zip(order, heights, strict=True):
        axes.annotate(
            str(line.get_label()),
            _end(line),
            xytext=(1.07, height),
            textcoords="axes fraction",
            va="center",
            fontsize=7,
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": stroke or line.get_color(),
                "linewidth": 0.8,
                "shrinkA": 1,
                "shrinkB": 3,
            },
        )


def _end(line: Line2D) -> tuple[float, float]:
    x, y = line.get_data()
    return float(np.asarray(x)[-1]), float(np.asarray(y)[-1])


def percent(axis: Any) -> None:
    """Shares are shown in per cent, with three marks at least."""
    axis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=3, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}".replace("-", "−")))


def shares(axes: Axes) -> None:
    """The vertical axis is for shares: in per cent, with nothing far under 0 or over 100, and not so near that noise
    fills the panel."""
    low, high = axes.get_ylim()
    middle, half = (low + high) / 2, max(high - low, 0.05) / 2
    low, high = max(middle - half, -0.03), min(middle + half, 1.03)
    axes.set_ylim(low, max(high, low + 0.05))
    percent(axes.yaxis)


def left_label(axes: Axes, text: str) -> None:
    """A vertical axis is named once in each row of panels."""
    if axes.get_subplotspec().is_first_col():  # type: ignore[union-attr]
        axes.set_ylabel(text)


def log_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers between two positive ones, evenly enough for a logarithmic axis."""
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7)):
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [d * 10.0**p for p in powers for d in digits if low <= d * 10.0**p <= high]
        if len(ticks) >= 3:
            return ticks if len(ticks) <= 7 else ticks[:: math.ceil(len(ticks) / 7)]
    return [float(x) for x in MaxNLocator(nbins=4).tick_values(low, high) if low <= x <= high]


def spaced(ticks: Sequence[float], low: float, high: float, *, apart: float = 0.13) -> list[float]:
    """The ticks of a logarithmic axis whose labels do not lie on each other: the last, and what is ``apart`` (of
    the axis) from the one kept before it."""
    width = math.log(high / low) or 1.0
    kept: list[float] = []
    for tick in sorted(ticks, reverse=True):
        if not kept or math.log(kept[-1] / tick) / width >= apart:
            kept.append(tick)
    return kept[::-1]


def curve(study: Study, axes: Axes, arm: str, x: Any, rows: pd.DataFrame) -> None:
    """A line with its band of confidence; without the band for an arm that is not told apart."""
    seen = look(study, arm)
    axes.plot(x, rows["value"].astype(float), label=shown(study, arm), **seen)
    if rows["low"].notna().all() and arm in focus(study):
        low, high = (rows[end].astype(float) for end in ("low", "high"))
        axes.fill_between(x, low, high, color=seen["color"], alpha=0.12, linewidth=0)
