"""How tables are written: Markdown and CSV (LaTeX: ``latex.to_latex``; HTML: ``page.to_html``). Names are text in each,
never markup, and never a formula of a spreadsheet.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cipo_reports.cells import Cell, Table, number

FORMULA = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")
"""A spreadsheet takes text that begins so for a formula (OWASP, CSV injection)."""


def to_markdown(table: Table) -> str:
    """A pipe table; what could be markup in names is shown as text."""
    wraps = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    rows = [
        [wraps[cell.mark].format(_plain_markdown(cell.text)) + _interval(table, cell) for cell in row]
        for row in table.rows
    ]
    body = _pipe_table([_plain_markdown(column) for column in table.columns], rows, table.left)
    return (
        "\n\n".join([f"**{_plain_markdown(table.caption)}**", body, *map(_plain_markdown, table.notes)])
        + "\n"
    )


def _pipe_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> str:
    """The first ``left`` columns to the left, the others to the right, each as wide as its longest text, for people who
    read it as it is; a cell is one line."""
    lines = [[" ".join(text.split()) for text in line] for line in (header, *rows)]
    widths = [max(len(title) + 2, *map(len, cells)) for title, *cells in zip(*lines, strict=True)]
    sides = "<" * left + ">" * (len(header) - left)
    rule = [
        "".join((":" * (side == "<"), "-" * (width + 1), ":" * (side == ">")))
        for width, side in zip(widths, sides, strict=True)
    ]
    padded = [
        [f" {text:{side}{width}} " for text, side, width in zip(line, sides, widths, strict=True)]
        for line in lines
    ]
    return "\n".join(f"|{'|'.join(cells)}|" for cells in (padded[0], rule, *padded[1:]))


def interval_text(cell: Cell) -> str:
    """A cell's interval in per cent; nothing where it has none."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{number(100 * cell.low, '.1f')}, {number(100 * cell.high, '.1f')}]"


def _interval(table: Table, cell: Cell) -> str:
    text = interval_text(cell) if table.intervals else ""
    return f" {_plain_markdown(text)}" if text else ""


def _plain_markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(text, quote=False))


def to_csv(table: Table) -> str:
    """Text as in the other forms, and after it each number's value and interval in full."""
    columns: dict[str, list[Any]] = {}
    for place, column in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        columns[column] = [cell.text for cell in cells]
        if place >= table.left:
            for end in ("value", "low", "high"):
                values = [getattr(cell, end) for cell in cells]
                if any(value is not None for value in values):
                    columns[f"{column} ({end})"] = values
    return frame_csv(pd.DataFrame(columns))


def frame_csv(frame: pd.DataFrame) -> str:
    """A frame as CSV without its index. Text that a spreadsheet would take for a formula begins with ``'``, which says
    that it is text; numbers stay as they are."""
    shown = frame.map(_spreadsheet_text).rename(columns=_spreadsheet_text)
    return str(shown.to_csv(index=False))


def _spreadsheet_text(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace(
        "\r", "\n"
    )  # the csv module would not quote it, and the row would end
    if not value.startswith(FORMULA):
        return value
    return value if re.fullmatch(r"[+-]?\d+(\.\d+)?", value) else f"'{value}"
