"""How tables are written: Markdown and CSV (LaTeX: ``latex.to_latex``; HTML: ``page.to_html``). Names are text in each,
never markup, and never a formula of a spreadsheet.
"""

from __future__ import annotations

import html
import re
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
    frame = pd.DataFrame(rows, columns=[_plain_markdown(column) for column in table.columns])
    align = ["left"] * table.left + ["right"] * (len(table.columns) - table.left)
    body = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    return (
        "\n\n".join([f"**{_plain_markdown(table.caption)}**", body, *map(_plain_markdown, table.notes)])
        + "\n"
    )


def interval_text(cell: Cell) -> str:
    """A cell's interval in per cent; nothing where it has none."""
    if cell.low is None or cell.high is None:
        return ""
    return f"[{number(100 * cell.low, '.1f')}, {number(100 * cell.high, '.1f')}]"


def _interval(table: Table, cell: Cell) -> str:
    found = interval_text(cell) if table.intervals else ""
    return f" {_plain_markdown(found)}" if found else ""


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
