"""The table of ``cipo-eval compare`` on the terminal.

Figures are per cent, differences are points. Names come from files: plain text without markup or control characters.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.text import Text

from cipo_eval.analysis.comparison import Comparison, Row
from cipo_eval.metrics.differences import ALPHA
from cipo_eval.metrics.ratios import DIGITS
from cipo_reports.cells import ONE_SEED_NOTE, number, stars
from cipo_reports.terminal import NONE, Column, encodable, plain, print_table

NAME = 24
"""Longest name in the table; longer ones are cut."""
LONGEST_PATH, LONGEST_NOTE = 200, 500
NO_CHANCE = 0.001
"""Smaller p are not written out."""


def render(comparison: Comparison, console: Console, *, problems: int = 0) -> None:
    """One row per task and figure; under it what makes it less than a comparison of like with like."""
    rows = comparison.rows
    first, second = (plain(str(path), LONGEST_PATH) for path in (comparison.first, comparison.second))
    console.print(Text.assemble("A: ", first, "\nB: ", second, f"  ({comparison.mode.value} mode)"))
    if not rows:
        console.print("The runs have no attempts at the same problems.")
    else:
        print_table(console, _columns(rows), section=len(rows))
        console.print(
            Text(
                "p: permutation test; adj.: Holm over tasks; "
                "MDE: the smallest true difference that would show with 80 % power",
                style="dim",
            )
        )
        if any(stars(row.p_holm) for row in rows):
            console.print(encodable(Text(ONE_SEED_NOTE, style="dim"), console))
    for row in rows[: len(rows) if problems else 0]:
        for what, names in (("gained", row.gained), ("lost", row.lost)):
            if names:
                listed = ", ".join(plain(problem, NAME).plain for problem in names[:problems])
                more = f" and {len(names) - problems} more" if len(names) > problems else ""
                console.print(Text.assemble(plain(row.task, NAME), f" {what}: {listed}{more}"))
    for note in comparison.notes:
        console.print(Text.assemble(("! ", "yellow"), plain(note, LONGEST_NOTE)))


def _columns(rows: Sequence[Row]) -> list[Column]:
    columns = [
        Column("task", [plain(row.task, NAME) for row in rows], left=True),
        Column("figure", [plain(row.label, NAME) for row in rows], left=True),
        Column("prob-\nlems", [Text(str(row.difference.problems)) for row in rows], rank=4),
        Column("A\n%", [_share(row.difference.first) for row in rows], rank=2),
        Column("B\n%", [_share(row.difference.second) for row in rows], rank=2),
        Column("B − A\n[95 % CI]", [_difference(row) for row in rows]),
        Column("p", [_p(row.difference.p) for row in rows], rank=1),
        Column("p\nadj.", _with_stars(rows)),
        Column("MDE", [_share(row.difference.mde) for row in rows], rank=3),
        Column("+/−", [_counts(row) for row in rows], rank=5),
        Column("p\nMcNemar", [_p((row.mcnemar or {}).get("p")) for row in rows], rank=6),
    ]
    return [c for c in columns if c.rank == 0 or any(cell.plain != NONE for cell in c.cells)]


def _with_stars(rows: Sequence[Row]) -> list[Text]:
    """Adjusted p with its stars, and beside them that a run is one training; numbers under each other."""
    marks = [stars(row.p_holm, one_seed=True) for row in rows]
    width = max(map(len, marks))
    return [_p(row.p_holm).append(mark.ljust(width)) for row, mark in zip(rows, marks, strict=True)]


def _share(value: float | None) -> Text:
    return Text(NONE if value is None else number(100 * value, ".1f"))


def _difference(row: Row) -> Text:
    difference = row.difference.difference
    if difference is None:
        return Text(NONE)
    text = Text(number(100 * difference, "+.1f"))
    if row.difference.ci:
        low, high = row.difference.ci
        text.append(f" [{number(100 * low, '+.1f')}, {number(100 * high, '+.1f')}]")
    if row.p_holm is not None and row.p_holm < ALPHA:
        text.stylize("bold green" if difference > 0 else "bold red")
    return text


def _p(value: float | None) -> Text:
    if value is None:
        return Text(NONE)
    value = round(value, DIGITS)  # as the JSON form has it, so that both are cut to the same digits
    return Text(f"<{NO_CHANCE}" if value < NO_CHANCE else f"{value:.3f}")


def _counts(row: Row) -> Text:
    if not row.gained and not row.lost:
        return Text(NONE)
    return Text(f"{len(row.gained)}/{len(row.lost)}")
