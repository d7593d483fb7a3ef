"""Tables of self-correction on the terminal: for each task and protocol what became of attempts, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from cipo_reports.terminal import NONE, Column, aligned, figure_cell, plain, print_table

NAME = 24


def render_turns(results: Mapping[str, Any], console: Console, *, breakdown: bool = False) -> None:
    """One row per task, protocol and mode; nothing where no attempt was revised. ``breakdown``: also by column of the
    problems."""
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
        Column("same tokens:\npass, maj %", aligned([_same_tokens(block) for _, _, block in rows]), rank=3),
    ]
    console.print()
    print_table(console, columns, section=len(rows))
    console.print(
        Text(
            "rates: of the step from turn 1 to 2; lift: revising a failed attempt against a fresh one; same tokens: "
            "what so many first attempts (@) give that cost no more than a chain",
            style="dim",
        )
    )
    _render_critiques(rows, console)
    for task, name, block in rows if breakdown else ():
        for column, groups in block.get("breakdown", {}).items():
            _render_groups(f"{task}, {name}, by {column}", groups, console)
    for task, name, block in rows:
        notes = [
            (block["missing"], "chains are not complete"),
            (sum(block["shortened"]), "prompts had no room for the whole of an earlier attempt"),
        ]
        for count, what in notes:
            if count:
                console.print(Text.assemble(("! ", "yellow"), plain(task, NAME), f" {name}: {count} {what}"))


def _render_critiques(rows: list[tuple[str, str, Mapping[str, Any]]], console: Console) -> None:
    """What judgements were worth, and what became of the attempts; nothing where nothing was judged."""
    judged = [(task, name, block["critique"]) for task, name, block in rows if "critique" in block]
    if not judged:
        return

    def column(title: str, name: str, rank: int, within: str | None = None) -> Column:
        entries = [(block[within] if within else block)[name] for _, _, block in judged]
        cells = [figure_cell(entry if entry["value"] is not None else None) for entry in entries]
        return Column(title, aligned(cells), rank=rank)

    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in judged], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in judged], left=True),
        Column("judge-\nments", [Text(str(block["judgements"])) for _, _, block in judged], rank=5),
        column("accuracy\n%", "accuracy", 1),
        column("F1 %", "f1", 0),
        Column(
            "always\nwrong %",
            [_share(block["always_wrong"]["value"]) for _, _, block in judged],
            rank=2,
        ),
        Column("unread", [Text(str(block["unread"])) for _, _, block in judged], rank=2),
        column("caught:\ncorrected %", "caught", 3, "joined"),
        column("missed:\ncorrected %", "missed", 4, "joined"),
    ]
    console.print()
    print_table(console, columns, section=len(judged))
    console.print(
        Text('F1: of "the attempt is wrong"; always wrong: of saying so of every attempt', style="dim")
    )


def _render_groups(title: str, groups: Mapping[str, Mapping[str, Any]], console: Console) -> None:
    found = (name for block in groups.values() for name in block if name.startswith("acc@t"))
    names = list(dict.fromkeys(found))

    def column(heading: str, name: str, rank: int) -> Column:
        entries = [block.get(name) for block in groups.values()]
        return Column(
            heading,
            aligned([figure_cell(e if e and e["value"] is not None else None) for e in entries]),
            rank=rank,
        )

    columns = [
        Column(title, [plain(value, NAME) for value in groups], left=True),
        Column("chains", [Text(str(block["chains"])) for block in groups.values()], rank=1),
        *(column(f"{name}\n%", name, 0 if name in (names[0], names[-1]) else 3) for name in names),
        column("correction\nrate %", "correction_rate", 2),
    ]
    console.print()
    print_table(console, columns, section=len(groups))


def _share(value: float | None) -> Text:
    return Text(NONE if value is None else f"{100 * value:.1f}")


def _rows(results: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for task, entry in results.get("tasks", {}).items():
        for name, modes in entry.get("protocols", {}).items():
            for mode, block in modes.items():
                if block["chains"]:
                    yield task, name if mode == "fixed" else f"{name} ({mode})", block


def _accuracy(block: Mapping[str, Any], turn: int) -> Text:
    entry = block["by_turn"].get(f"acc@t{turn}")
    return _share(entry["value"] if entry else None)


def _metric(title: str, rows: list[tuple[str, str, Mapping[str, Any]]], name: str, *, rank: int) -> Column:
    entries = [block["steps"][0]["metrics"][name] for _, _, block in rows]
    cells = [figure_cell(entry if entry["value"] is not None else None) for entry in entries]
    return Column(title, aligned(cells), rank=rank)


def _same_tokens(block: Mapping[str, Any]) -> Text:
    found = block["resampling"].get("equal_tokens")
    if not found:
        return Text(NONE)
    shares = [found.get(f"{name}@{found['k']}") for name in ("pass", "maj")]
    return Text(", ".join(f"{100 * entry['value']:.1f}" for entry in shares if entry) + f" @{found['k']}")


def _lift(block: Mapping[str, Any]) -> Text:
    entry = block["lift"]["correction_lift"]
    if entry["value"] is None:
        return Text(NONE)
    text = Text(f"{100 * entry['value']:+.1f}")
    if entry["ci"]:
        low, high = entry["ci"]
        text.append(f" [{100 * low:+.1f}, {100 * high:+.1f}]")
    return text
