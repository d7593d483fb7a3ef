"""How tables are written: LaTeX, Markdown, CSV (HTML: ``page.to_html``). Names are text in each, never markup."""

from __future__ import annotations

import html
import re
from typing import Any

import pandas as pd

from cipo_reports.cells import Table

WIDE = 7
"""With more columns a LaTeX table takes both columns of a page."""
_TEX = {
    "Δ": "$\\Delta$",
    "→": "$\\to$",
    "±": "$\\pm$",
    "†": "$^\\dagger$",
    "–": "--",
    "−": "$-$",
    "<": "$<$",
    ">": "$>$",
}
_TEX_MARKS = {"best": "textbf:--rwrap;", "second": "underline:--rwrap;", "": ""}


def to_latex(table: Table) -> str:
    """A ``table`` environment with booktabs rules; needs nothing but ``\\usepackage{booktabs}``."""
    frame = table.frame()
    marks = pd.DataFrame(
        [[_TEX_MARKS[cell.mark] for cell in row] for row in table.rows],
        index=frame.index,
        columns=frame.columns,
    )
    style = frame.style.format(escape="latex").format_index(escape="latex", axis=1).hide(axis="index")
    style = style.apply(lambda _: marks, axis=None)
    text = style.to_latex(
        hrules=True,
        column_format="l" * table.left + "r" * (len(table.columns) - table.left),
        position_float="centering",
    )
    lines = text.splitlines()
    start = lines.index("\\midrule") + 1
    for row in sorted(table.rules, reverse=True):
        lines.insert(start + row, "\\midrule")
    notes = " ".join((table.caption, *table.notes))
    # The caption is escaped as cells are: by pandas.
    bare = pd.DataFrame([[notes]]).style.format(escape="latex").hide(axis="index").hide(axis="columns")
    escaped = bare.to_latex().splitlines()[1].removesuffix("\\\\").strip()
    lines.insert(2, f"\\caption{{{escaped}}}")
    if len(table.columns) > WIDE:
        lines.insert(2, "\\scriptsize\\setlength{\\tabcolsep}{3pt}")
        lines = [line.replace("{table}", "{table*}") for line in lines]
    lines.insert(lines.index("\\toprule") - 1, f"\\label{{tab:{re.sub(r'[^a-zA-Z0-9-]', '-', table.name)}}}")
    found = "\n".join(lines) + "\n"
    return "% \\usepackage{booktabs}\n" + found.translate({ord(k): v for k, v in _TEX.items()})


def to_markdown(table: Table) -> str:
    """A pipe table; what could be markup in names is shown as text."""
    wraps = {"best": "**{}**", "second": "<u>{}</u>", "": "{}"}
    frame = pd.DataFrame(
        [[wraps[cell.mark].format(_plain_markdown(cell.text)) for cell in row] for row in table.rows],
        columns=[_plain_markdown(column) for column in table.columns],
    )
    align = ["left"] * table.left + ["right"] * (len(table.columns) - table.left)
    body = frame.to_markdown(index=False, disable_numparse=True, colalign=align)
    return (
        "\n\n".join([f"**{_plain_markdown(table.caption)}**", body, *map(_plain_markdown, table.notes)])
        + "\n"
    )


def _plain_markdown(text: str) -> str:
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", html.escape(text, quote=False))


def to_csv(table: Table) -> str:
    """Text as in the other forms, and after it each number's value and interval in full."""
    columns: dict[str, list[Any]] = {}
    for number, column in enumerate(table.columns):
        cells = [row[number] for row in table.rows]
        columns[column] = [cell.text for cell in cells]
        if number >= table.left:
            for end in ("value", "low", "high"):
                values = [getattr(cell, end) for cell in cells]
                if any(value is not None for value in values):
                    columns[f"{column} ({end})"] = values
    return str(pd.DataFrame(columns).to_csv(index=False))
