"""The table of ``cipo-eval compare --leaderboard`` on the terminal. Figures are per cent."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from cipo_eval.analysis.leaderboard import Leaderboard
from cipo_reports.cells import number
from cipo_reports.terminal import Column, encodable, plain, print_table

NAME, LONGEST_NOTE = 40, 500
PAIRS = (
    "Runs that share a letter cannot be told apart: permutation tests paired by problem, Holm over all pairs."
)
RANKS = "ranks: 95 %, for all runs at once. One training each: says nothing about another training."


def render(board: Leaderboard, console: Console) -> None:
    """One row per run, the best first; under it how to read the table, and what makes it less than a fair one."""
    rows = board.standings
    columns = [
        Column("rank", [Text(str(row.rank)) for row in rows]),
        Column("run", [plain(str(row.run), NAME) for row in rows], left=True),
        Column("mean\n%", [_share(row.value) for row in rows]),
        Column(
            "95 %", [Text(f"{100 * row.interval[0]:.1f}–{100 * row.interval[1]:.1f}") for row in rows], rank=2
        ),
        Column("ranks", [_ranks(row.best_rank, row.worst_rank) for row in rows]),
        Column("", [Text(row.letters) for row in rows], left=True),
    ]
    if len(board.tasks) > 1:
        columns += [
            Column(plain(task, NAME).plain, [_share(row.by_task[i]) for row in rows], rank=3 + i)
            for i, task in enumerate(board.tasks)
        ]
    of_tasks = ", ".join(f"{task} ({n})" for task, n in zip(board.tasks, board.problems, strict=True))
    console.print(
        Text.assemble("pass@1, mean over ", plain(of_tasks, LONGEST_NOTE), f"  ({board.mode.value} mode)")
    )
    print_table(console, columns, section=len(rows))
    for text in (PAIRS, RANKS):
        console.print(encodable(Text(text, style="dim"), console))
    for note in board.notes:
        console.print(Text.assemble(("! ", "yellow"), plain(note, LONGEST_NOTE)))


def _share(value: float) -> Text:
    return Text(number(100 * value, ".1f"))


def _ranks(best: int, worst: int) -> Text:
    return Text(str(best) if best == worst else f"{best}–{worst}")
