"""What all figures have in common: their look, an arm's colour, small panels, legends, and how they are saved.

An arm has the same colour, marker and line everywhere (Okabe & Ito's colours, told apart also without colour vision and
in grey); names stand in one legend per figure, never beside points where they could overlap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from cipo_reports.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#7A5195", "#000000")
MARKERS = "osD^vP*X"
LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)), (0, (3, 2)), (0, (7, 2)), "-")
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


@contextmanager
def style() -> Iterator[None]:
    """The look of all figures. Names are text: nothing in them is taken for mathematics."""
    with mpl.rc_context(STYLE):
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
    text = "".join(char if char.isprintable() else "?" for char in name)
    return text if len(text) <= NAME else f"{text[: NAME - 1]}…"


def look(study: Study, arm: str) -> dict[str, Any]:
    """Colour, marker and line of an arm, for matplotlib."""
    i = study.names.index(arm)
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": LINES[i % len(LINES)],
    }


def grid(count: int, *, height: float = 1.7) -> tuple[Figure, list[Axes]]:
    """Small panels, as many in a row as fit; one or two fit a column."""
    across = 3 if count in (3, 5, 6, 9) else min(count, 4)
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
    """What a legend shows of arms."""
    return [Line2D([], [], label=short(name), **look(study, name)) for name in names]


def percent(axis: Any) -> None:
    """Shares are shown in per cent."""
    axis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g}".replace("-", "−")))


def curve(study: Study, axes: Axes, arm: str, x: Any, rows: pd.DataFrame) -> None:
    """A line with its band of confidence."""
    seen = look(study, arm)
    axes.plot(x, rows["value"].astype(float), label=short(arm), **seen)
    if rows["low"].notna().all():
        low, high = (rows[end].astype(float) for end in ("low", "high"))
        axes.fill_between(x, low, high, color=seen["color"], alpha=0.15, linewidth=0)
