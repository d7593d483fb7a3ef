"""Tables of self-correction on the terminal: for each task and protocol what became of attempts, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from cipo_reports.terminal import NONE, Column, aligned, figure_cell, plain, print_table

NAME = 24


def render_turns(results: Mapping[str, Any], console: Console) -> None:
    """One row per task, protocol and mode; nothing where no attempt was revised."""
    rows = list(_rows(results))
    if not rows:
        return
    last = max(block["turns"] for _, _, block in rows)
    accuracy = [
        Column(
            f"acc@t{turn}\n%",
            [_accuracy(block, turn) for _, _, block in rows],
            rank=0 if turn in (1, last) else 4,
        )
        for turn in range(1, last + 1)
    ]
    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in rows], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in rows], left=True),
        Column("chains", [Text(str(block["chains"])) for _, _, block in rows], rank=5),
        *accuracy,
        _metric("correction\nrate %", rows, "correction_rate", rank=0),
        _metric("retention\n%", rows, "retention", rank=1),
        Column("lift\n[95 % CI]", aligned([_lift(block) for _, _, block in rows]), rank=2),
    ]
    console.print()
    print_table(console, columns, section=len(rows))
    console.print(
        Text(
            "rates: of the step from turn 1 to 2; lift: revising a failed attempt against a fresh one",
            style="dim",
        )
    )
    for task, name, block in rows:
        if block["missing"]:
            console.print(
                Text.assemble(
                    ("! ", "yellow"),
                    plain(task, NAME),
                    f" {name}: {block['missing']} chains are not complete",
                )
            )


def _rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for task, entry in results.get("tasks", {}).items():
        for name, modes in entry.get("protocols", {}).items():
            for mode, block in modes.items():
                if block["chains"]:
                    yield task, name if mode == "fixed" else f"{name} ({mode})", block


def _accuracy(block: Mapping[str, Any], turn: int) -> Text:
    entry = block["by_turn"].get(f"acc@t{turn}")
    return Text(NONE if entry is None else f"{100 * entry['value']:.1f}")


def _metric(title: str, rows: list[tuple[str, str, Mapping[str, Any]]], name: str, *, rank: int) -> Column:
    entries = [block["steps"][0]["metrics"][name] for _, _, block in rows]
    cells = [figure_cell(entry if entry["value"] is not None else None) for entry in entries]
    return Column(title, aligned(cells), rank=rank)


def _lift(block: Mapping[str, Any]) -> Text:
    entry = block["lift"]["correction_lift"]
    if entry["value"] is None:
        return Text(NONE)
    text = Text(f"{100 * entry['value']:+.1f}")
    if entry["ci"]:
        low, high = entry["ci"]
        text.append(f" [{100 * low:+.1f}, {100 * high:+.1f}]")
    return text
