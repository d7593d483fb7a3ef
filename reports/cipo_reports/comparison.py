"""The table of ``cipo-eval compare`` on the terminal, from the JSON form of a comparison.

Figures are per cent, differences are points. Names come from files: plain text without markup or control characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from cipo_eval.turns.protocols import PROTOCOLS
from cipo_reports.cells import ONE_SEED_NOTE, figure_name, number, stars
from cipo_reports.terminal import NONE, Column, encodable, plain, print_table

NAME = 24
ALPHA = 0.05


def render(comparison: Mapping[str, Any], console: Console, *, problems: int = 0) -> None:
    """One row per task and figure; under it what makes it less than a comparison of like with like."""
    rows = comparison["rows"]
    first, second = (plain(comparison[name], 200) for name in ("first", "second"))
    console.print(Text.assemble("A: ", first, "\nB: ", second, f"  ({comparison['mode']} mode)"))
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
        if any(stars(row["p_holm"]) for row in rows):
            console.print(encodable(Text(ONE_SEED_NOTE, style="dim"), console))
    for row in rows[: len(rows) if problems else 0]:
        for name in ("gained", "lost"):
            if row[name]:
                listed = ", ".join(plain(problem, NAME).plain for problem in row[name][:problems])
                more = f" and {len(row[name]) - problems} more" if len(row[name]) > problems else ""
                console.print(Text.assemble(plain(row["task"], NAME), f" {name}: {listed}{more}"))
    for note in comparison["notes"]:
        console.print(Text.assemble(("! ", "yellow"), plain(note, 500)))


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    columns = [
        Column("task", [plain(row["task"], NAME) for row in rows], left=True),
        Column("figure", [plain(_figure(row["figure"]), NAME) for row in rows], left=True),
        Column("prob-\nlems", [Text(str(row["problems"])) for row in rows], rank=4),
        Column("A\n%", [_share(row["first"]) for row in rows], rank=2),
        Column("B\n%", [_share(row["second"]) for row in rows], rank=2),
        Column("B − A\n[95 % CI]", [_difference(row) for row in rows]),
        Column("p", [_p(row["p"]) for row in rows], rank=1),
        Column("p\nadj.", _with_stars(rows)),
        Column("MDE", [_share(row["mde"]) for row in rows], rank=3),
        Column("+/−", [_counts(row) for row in rows], rank=5),
        Column("p\nMcNemar", [_p((row["mcnemar"] or {}).get("p")) for row in rows], rank=6),
    ]
    return [c for c in columns if c.rank == 0 or any(cell.plain != NONE for cell in c.cells)]


def _figure(named: str) -> str:
    """Protocol and figure, as readers call it."""
    protocol, _, figure = named.partition(" ")
    return f"{protocol} {figure_name(figure)}" if protocol in PROTOCOLS else figure_name(named)


def _with_stars(rows: Sequence[Mapping[str, Any]]) -> list[Text]:
    """Adjusted p with its stars, and beside them that a run is one training; numbers under each other."""
    marks = [stars(row["p_holm"], one_seed=True) for row in rows]
    width = max(map(len, marks))
    return [_p(row["p_holm"]).append(mark.ljust(width)) for row, mark in zip(rows, marks, strict=True)]


def _share(value: float | None) -> Text:
    return Text(NONE if value is None else number(100 * value, ".1f"))


def _difference(row: Mapping[str, Any]) -> Text:
    if row["difference"] is None:
        return Text(NONE)
    text = Text(number(100 * row["difference"], "+.1f"))
    if row["ci"]:
        low, high = row["ci"]
        text.append(f" [{number(100 * low, '+.1f')}, {number(100 * high, '+.1f')}]")
    if row["p_holm"] is not None and row["p_holm"] < ALPHA:
        text.stylize("bold green" if row["difference"] > 0 else "bold red")
    return text


def _p(value: float | None) -> Text:
    if value is None:
        return Text(NONE)
    return Text("<0.001" if value < 0.001 else f"{value:.3f}")


def _counts(row: Mapping[str, Any]) -> Text:
    if not row["gained"] and not row["lost"]:
        return Text(NONE)
    return Text(f"{len(row['gained'])}/{len(row['lost'])}")
