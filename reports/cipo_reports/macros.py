r"""Figures of a report as LaTeX macros: ``\cipoeval{METHOD/TASK/FIGURE}`` in a text is always what the tables have.

Needs no package. Names are ASCII letters, digits and ``. @ + -``; other characters become ``-``.
"""

from __future__ import annotations

import re
from typing import Any

from cipo_eval.turns.protocols import DIRECT
from cipo_reports.cells import missing, number
from cipo_reports.frames import whole
from cipo_reports.latex import tex
from cipo_reports.study import Study

HEAD = r"""% \input{macros}, then \cipoeval{NAME} with a name of this file; shares are per cent, differences points.
\makeatletter
\providecommand{\cipoeval}[1]{\ifcsname cipoeval@#1\endcsname\csname cipoeval@#1\endcsname\else
  \PackageError{cipo-eval}{No figure \detokenize{#1} in the report}{}\fi}
\def\cipoeval@figure#1{\expandafter\def\csname cipoeval@#1\endcsname}
"""
ENDS = ("low", "high")


def macros(study: Study) -> str:
    """The file: every figure of whole tasks and of their average, and each difference to the baseline."""
    lines: dict[str, str] = {}
    for row in whole(study.results).to_dict("records"):
        _add(lines, _name(row), row, "value", sign="")
    for row in study.differences.to_dict("records"):
        _add(lines, f"{_name(row)}/difference", row, "difference", sign="+")
    body = "".join(f"\\cipoeval@figure{{{name}}}{{{text}}}\n" for name, text in lines.items())
    return f"{HEAD}{body}\\makeatother\n"


def _add(lines: dict[str, str], name: str, row: dict[str, Any], value: str, *, sign: str) -> None:
    if missing(row[value]) or row["measure"].kind in ("total", "amount"):  # no shares
        return
    if name in lines:  # names that differ in other characters alone
        name = next(other for i in range(2, len(lines) + 3) if (other := f"{name}-{i}") not in lines)
    for end, column in (("", value), *((f"/{end}", end) for end in ENDS)):
        if not missing(row[column]):
            lines[name + end] = tex(number(100 * float(row[column]), f"{sign}.1f"))


def _name(row: dict[str, Any]) -> str:
    parts = [
        row["arm"],
        row["task"],
        *([] if row["protocol"] == DIRECT else [row["protocol"]]),
        row["figure"],
    ]
    return "/".join(re.sub(r"[^A-Za-z0-9.@+-]+", "-", str(part)).strip("-") or "-" for part in parts)
