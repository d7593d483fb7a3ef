"""Tables of self-correction on the terminal: for each task and protocol what became of attempts, turn by turn."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.figures import ACCURACY
from cipo_eval.analysis.judgements import JUDGEMENT_F1, LOCATED, LOCATION_F1, LOCATIONS
from cipo_eval.analysis.rows import withheld
from cipo_reports.terminal import NONE, Column, explain_marks, plain, print_table, with_intervals

NAME = 24


def render_turns(results: Mapping[str, Any], console: Console, *, breakdown: bool = False) -> None:
    """One row per task, protocol and mode; nothing where no attempt was revised. ``breakdown``: also by column of the
    problems."""
    rows = list(_rows(results))
    if not rows:
        return
    if revised := [row for row in rows if row[2]["steps"]]:
        _render_revisions(revised, console)
    _render_critiques(rows, console)
    _render_locations(rows, console)
    _render_blind_spots(rows, console)
    for task, name, block in rows if breakdown else ():
        for column, groups in block.get("breakdown", {}).items():
            _render_groups(f"{task}, {name}, by {column}", groups, block["turns"], console)
    for task, name, block in rows:
        notes = [
            (block["missing"], "chains are not complete"),
            (withheld(block), "replies were withheld by a server; they count as wrong"),
            (sum(block["shortened"]), "prompts had no room for the whole of an earlier attempt"),
        ]
        for count, what in notes:
            if count:
                console.print(Text.assemble(("! ", "yellow"), plain(task, NAME), f" {name}: {count} {what}"))


def _render_revisions(rows: list[tuple[str, str, Mapping[str, Any]]], console: Console) -> None:
    """What became of attempts that were revised."""
    last = max(block["turns"] for _, _, block in rows)
    accuracy = [
        with_intervals(
            f"acc@t{turn}",
            [block["by_turn"].get(f"acc@t{turn}") for _, _, block in rows],
            rank=0 if turn in (1, last) else 4,
        )
        for turn in range(1, last + 1)
    ]
    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in rows], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in rows], left=True),
        Column("chains", [Text(str(block["chains"])) for _, _, block in rows], rank=5),
        *accuracy,
        _metric("correction rate", rows, "correction_rate", rank=0, interval_rank=1),
        _metric("retention", rows, "retention", rank=1, interval_rank=6),
        with_intervals(
            "lift",
            [block["lift"]["correction_lift"] for _, _, block in rows],
            rank=2,
            interval_rank=3,
            signed=True,
        ),
        Column("same tokens:\npass, maj %", [_same_tokens(block) for _, _, block in rows], rank=3),
    ]
    console.print()
    printed = print_table(console, columns, section=len(rows))
    for note in explain_marks(printed):
        console.print(note)
    console.print(
        Text(
            "rates: of the step from turn 1 to 2; lift: revising a failed attempt against a fresh one; same tokens: "
            "what so many first attempts (@) give that cost no more than a chain",
            style="dim",
        )
    )


def _render_critiques(rows: list[tuple[str, str, Mapping[str, Any]]], console: Console) -> None:
    """What judgements were worth, and what became of the attempts; nothing where nothing was judged."""
    judged = [(task, name, block["critique"]) for task, name, block in rows if "critique" in block]
    judged = [row for row in judged if LOCATED.key not in row[2]]
    if not judged:
        return

    def column(title: str, name: str, rank: int, within: str | None = None) -> Column:
        entries = [(block[within] if within else block)[name] for _, _, block in judged]
        return with_intervals(title, entries, rank=rank)

    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in judged], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in judged], left=True),
        Column("judge-\nments", [Text(str(block["judgements"])) for _, _, block in judged], rank=5),
        column("accuracy", "accuracy", 1),
        column("F1", "f1", 0),
        Column(
            "always\nwrong %",
            [_share(block["always_wrong"]["value"]) for _, _, block in judged],
            rank=2,
        ),
        Column("unread", [Text(str(block["unread"])) for _, _, block in judged], rank=2),
        column("caught: corrected", "caught", 3, "joined"),
        column("missed: corrected", "missed", 4, "joined"),
    ]
    console.print()
    print_table(console, columns, section=len(judged))
    console.print(
        Text('F1: of "the attempt is wrong"; always wrong: of saying so of every attempt', style="dim")
    )


def _render_locations(rows: list[tuple[str, str, Mapping[str, Any]]], console: Console) -> None:
    """Whether judgements named the first wrong step; nothing where none was asked for."""
    judged = [(task, name, block["critique"]) for task, name, block in rows if "critique" in block]
    judged = [row for row in judged if LOCATED.key in row[2]]
    if not judged:
        return

    def column(figure: Figure, rank: int, title: str = "") -> Column:
        return with_intervals(title or figure.label, [block[figure.key] for _, _, block in judged], rank=rank)

    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in judged], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in judged], left=True, rank=4),
        Column("judge-\nments", [Text(str(block["judgements"])) for _, _, block in judged], rank=5),
        *(column(figure, 0 if figure is LOCATION_F1 else 1) for figure in LOCATIONS),
        column(JUDGEMENT_F1, 3, "F1, right or wrong"),
        Column("unread", [Text(str(block["unread"])) for _, _, block in judged], rank=2),
    ]
    console.print()
    for note in explain_marks(print_table(console, columns, section=len(judged))):
        console.print(note)
    console.print(
        Text(
            "error accuracy: the first wrong step is named; correct accuracy: none is, where none is wrong; location "
            "F1: their harmonic mean",
            style="dim",
        )
    )


def _render_blind_spots(rows: list[tuple[str, str, Mapping[str, Any]]], console: Console) -> None:
    """What a model makes of the same wrong attempts as its own words and as somebody else's, by where they are cut;
    nothing where no attempt was continued beside one that was given."""
    compared = [(task, name, block["blind_spot"]) for task, name, block in rows if "blind_spot" in block]
    if not compared:
        return

    def column(figure: Figure, rank: int) -> Column:
        entries = [block[figure.key] for _, _, block in compared]
        return with_intervals(figure.label, entries, rank=rank, signed=figure.signed)

    columns = [
        Column("task", [plain(task, NAME) for task, _, _ in compared], left=True),
        Column("protocol", [plain(name, NAME) for _, name, _ in compared], left=True),
        Column("against", [plain(block["against"], NAME) for _, _, block in compared], left=True, rank=3),
        *(column(figure, rank) for figure, rank in zip(BLIND_SPOTS, (0, 1, 2, 2), strict=True)),
    ]
    console.print()
    for note in explain_marks(print_table(console, columns, section=len(compared))):
        console.print(note)
    console.print(
        Text(
            "of the pool's wrong attempts: own, made right going on with them; given, made right where they stand in "
            "the user's message; blind spot: (given - own) / given",
            style="dim",
        )
    )


def _render_groups(title: str, groups: Mapping[str, Mapping[str, Any]], turns: int, console: Console) -> None:
    accuracies = [
        *(figure.key for figure in LOCATIONS),
        *(ACCURACY.at(turn).key for turn in range(1, turns + 1)),
    ]
    names = [name for name in accuracies if any(name in block for block in groups.values())]

    def column(heading: str, name: str, rank: int) -> Column:
        entries = [block.get(name) for block in groups.values()]
        return with_intervals(heading, entries, rank=rank)

    columns = [
        Column(title, [plain(value, NAME) for value in groups], left=True),
        Column("chains", [Text(str(block["chains"])) for block in groups.values()], rank=1),
        *(column(name, name, 0 if name in (names[0], names[-1]) else 3) for name in names),
        *([column("correction rate", "correction_rate", 2)] if turns > 1 else ()),
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


def _metric(
    title: str, rows: list[tuple[str, str, Mapping[str, Any]]], name: str, *, rank: int, interval_rank: int
) -> Column:
    figures = [block["steps"][0]["metrics"][name] for _, _, block in rows]
    return with_intervals(title, figures, rank=rank, interval_rank=interval_rank)


def _same_tokens(block: Mapping[str, Any]) -> Text:
    resampled = block["resampling"].get("equal_tokens")
    if not resampled:
        return Text(NONE)
    shares = [resampled.get(f"{name}@{resampled['k']}") for name in ("pass", "maj")]
    return Text(", ".join(f"{100 * entry['value']:.1f}" for entry in shares if entry) + f" @{resampled['k']}")
