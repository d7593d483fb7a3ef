"""Cells of a report's tables, and tables as rows of them: text that carries its value, so that the page can sort it.

Nothing is computed here but which value is best. Shares are per cent, differences points.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cipo_eval.analysis.figure import Measure

if TYPE_CHECKING:  # every run prints a table, and few processes need pandas
    import pandas as pd

NONE = "–"
STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))
DAGGER = "†"
ONE_SEED = "‡"
"""Beside stars that rest on one training of a method."""
ONE_SEED_NOTE = f"{ONE_SEED} one seed: says nothing about another training."
MINUS = "−"


def number(value: float, form: str) -> str:
    """A number as ``format`` writes it, with a minus sign where ``format`` has a hyphen."""
    return format(value, form).replace("-", MINUS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What stands in a table."""

    text: str
    value: float | None = None
    """What it is sorted by; None: the text."""
    low: float | None = None
    high: float | None = None
    mark: str = ""
    """``best``, ``second`` or nothing."""
    title: str = ""
    """More about it, where a reader can ask for it."""
    latex: str = ""
    """The text in LaTeX, where that is more than its characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of cells under column names."""

    name: str
    """The stem of its files' names."""
    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    left: int = 1
    """So many columns are names."""
    rules: tuple[int, ...] = ()
    """Rows that have a line above them."""
    notes: tuple[str, ...] = field(default=())
    intervals: bool = False
    """Whether forms that have no other place for them show the cells' intervals."""
    setup: str = ""
    """What a caption in a paper says besides: how much was asked, and how differences were tested."""
    latex: Mapping[str, str] = field(default_factory=dict)
    """Titles of columns in LaTeX, where that is more than their characters."""


def name(text: str) -> Cell:
    """A method, a task, a category: what a row is about, in one line (values of a task's columns are free text)."""
    return Cell(text=" ".join(text.split()))


def figure_name(measure: Measure) -> Cell:
    """A figure, as readers call it."""
    return Cell(text=measure.label, latex=measure.latex)


def share(row: Mapping[str, Any] | None, *, stars: str = "", signed: bool = False) -> Cell:
    """A figure in per cent, with the deviation between seeds where there are several."""
    if row is None or missing(row["value"]):
        return Cell(text=NONE)
    value = float(row["value"])
    text = number(100 * value, "+.1f" if signed else ".1f")
    if not missing(row.get("std")):
        text += f" ± {100 * float(row['std']):.1f}"
    low, high = (None if missing(row.get(end)) else float(row[end]) for end in ("low", "high"))
    return Cell(text=text + stars, value=value, low=low, high=high, title=_interval_title(low, high))


def _interval_title(low: float | None, high: float | None) -> str:
    return (
        ""
        if low is None or high is None
        else f"95 % interval: {number(100 * low, '.1f')} to {number(100 * high, '.1f')}"
    )


def missing(value: Any) -> bool:
    """None, or NaN as frames have it."""
    return value is None or (isinstance(value, float) and value != value)


def difference(row: Mapping[str, Any] | None, *, one_seed: bool = False) -> Cell:
    """Points with their interval and stars."""
    if row is None or missing(row["difference"]):
        return Cell(text=NONE)
    text = number(100 * row["difference"], "+.1f")
    if not missing(row["low"]):
        text += f" [{number(100 * row['low'], '+.1f')}, {number(100 * row['high'], '+.1f')}]"
    return Cell(text=text + stars(row.get("p_holm"), one_seed=one_seed), value=float(row["difference"]))


def stars(p: float | None, *, one_seed: bool = False) -> str:
    """How far from chance: one to three stars, or none. ``one_seed``: of a method or of the baseline there is one
    training, and the stars say so themselves."""
    marks = "" if missing(p) else next((mark for limit, mark in STARS if p is not None and p < limit), "")
    return marks + ONE_SEED if marks and one_seed else marks


def amount(value: Any, digits: int = 0) -> Cell:
    """A number of things, or of seconds."""
    if missing(value):
        return Cell(text=NONE)
    return Cell(text=number(float(value), f",.{digits}f"), value=float(value))


def marked(cells: Sequence[Cell]) -> list[Cell]:
    """The best and second best of comparable cells, marked; equal ones share a mark."""
    values = sorted({cell.value for cell in cells if cell.value is not None}, reverse=True)
    if len([cell for cell in cells if cell.value is not None]) < 2 or len(values) < 2:
        return list(cells)
    ties = sum(cell.value == values[0] for cell in cells)
    marks = {values[0]: "best"} | ({values[1]: "second"} if ties == 1 else {})
    return [cell if cell.value is None else replace(cell, mark=marks.get(cell.value, "")) for cell in cells]


def by_columns(rows: list[list[Cell]], left: int, plain: Collection[int] = ()) -> list[list[Cell]]:
    """Marks the best of each column from ``left`` on, but for those where best means nothing (``plain``): controls,
    shares that depend on how many first answers were right, figures whose better side nobody has told."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    columns = [column if i < left or i in plain else marked(column) for i, column in enumerate(columns)]
    return [list(row) for row in zip(*columns, strict=True)]


class Lookup:
    """Rows of a frame by some of its columns."""

    def __init__(self, frame: pd.DataFrame, *keys: str) -> None:
        self._rows = {tuple(row[key] for key in keys): row for row in frame.to_dict("records")}

    def __call__(self, *key: str | Measure) -> Mapping[str, Any] | None:
        """A figure stands for its name."""
        names = tuple(part.name if isinstance(part, Measure) else part for part in key)
        row: Mapping[str, Any] | None = self._rows.get(names)
        return row


def file_name(text: str) -> str:
    """A name as a part of file names, also for LaTeX; may be empty."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def make_table(
    title: str,
    caption: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    left: int = 1,
    rules: tuple[int, ...] = (),
    notes: Sequence[str] = (),
    intervals: bool = False,
    figures: Sequence[Measure] = (),
) -> Table:
    """A table of that name, with characters that files' names can have; a note where stars rest on one seed.
    ``figures``: those whose labels are titles of columns."""
    if any(ONE_SEED in cell.text for row in rows for cell in row[left:]):
        notes = (*notes, ONE_SEED_NOTE)
    return Table(
        name=re.sub(r"[^\w.@-]+", "_", title),
        caption=caption,
        columns=tuple(columns),
        rows=tuple(tuple(row) for row in rows),
        left=left,
        rules=rules,
        notes=tuple(notes),
        intervals=intervals,
        latex={figure.label: figure.latex for figure in figures if figure.latex},
    )
