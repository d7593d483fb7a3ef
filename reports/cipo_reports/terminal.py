"""The results table on the terminal: one row per task and mode, from the dict of ``results.json``.

Figures are per cent with one decimal. Numbers never wrap: where the terminal is too narrow for all columns, the least
needed intervals and columns go, and a line under the table names
them. Names come from files, so they are printed as plain text, without markup and without control characters.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich import box
from rich.console import Console, JustifyMethod
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from cipo_eval.analysis.figures import MAJORITY, PASS
from cipo_eval.analysis.measures import CEILING
from cipo_eval.analysis.rows import LOGGED_SAMPLES
from cipo_eval.data.dates import Side
from cipo_eval.metrics.bootstrap import mean_interval
from cipo_reports.cells import MINUS, number
from cipo_reports.cells import Table as CellTable

NONE = "-"
NAME_WIDTH = 24
"""Longest task or group name in a table; longer ones are cut."""
GAP = 2
"""Spaces between columns."""
INTERVAL = "[95 % CI]"
PLAIN = {MINUS: "-", "–": "-", "…": "~", "±": "+/-", "†": "+", "‡": "++", "Δ": "d", "→": "->"}
"""What stands for a character on a terminal that does not have it."""

Block = Mapping[str, Any]
Row = tuple[str, str, Block]
"""Task, mode, block."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column that is ready to print: all cells are text."""

    title: str
    cells: Sequence[Text]
    rank: int = 0
    """Which columns go first where there is no room: those with the highest rank; 0 always stays."""
    left: bool = False
    short: Column | None = None
    """The column without intervals, for where there is no room for them."""
    interval_rank: int = 9
    """When the intervals go, among the ranks of columns."""

    @property
    def name(self) -> str:
        """The title in one line."""
        return self.title.replace("-\n", "").replace("\n", " ").removesuffix(f" {INTERVAL}")

    @property
    def width(self) -> int:
        return max(text.cell_len for text in (*map(Text, self.title.split("\n")), *self.cells))


def render(results: Mapping[str, Any], console: Console, *, breakdown: bool = False) -> None:
    """Prints the summary table, notes on what needs a second look and, if asked for, the tables by subject,
    level, …"""
    rows = list(_rows(results))
    if rows:
        shown = _with_parts(rows)
        printed = print_table(console, _columns([*shown, *_macro(rows)]), section=len(shown))
        for row in rows if breakdown else ():
            printed += _print_breakdown(console, row)
        for note in _notes(results, rows, printed):
            console.print(note)
    elif not any("protocols" in entry for entry in results.get("tasks", {}).values()):
        console.print("No results: no task has been scored.")  # else the table of turns has what there is
    for task, entry in results.get("tasks", {}).items():
        if spare := entry.get("not_asked"):
            console.print(
                Text(
                    f"{plain(task, NAME_WIDTH)}: {spare} attempts on disk were not asked for and do not count"
                )
            )


def _rows(results: Mapping[str, Any]) -> Iterator[Row]:
    for task, entry in results.get("tasks", {}).items():
        for mode in ("fixed", "paper"):
            if mode in entry:
                yield task, mode, entry[mode]


def _with_parts(rows: Sequence[Row]) -> list[Row]:
    """Each row, and after it one for each named part of its result (``humaneval base``), with the figures it has."""
    shown: list[Row] = []
    for task, mode, block in rows:
        shown.append((task, mode, block))
        sizes = {
            key: block[key] for key in ("problems", "samples_per_problem", "unattempted") if key in block
        }
        for name, metrics in block.get("parts", {}).items():
            shown.append((f"{task} {name}", mode, {**sizes, "metrics": metrics}))
    return shown


def _macro(rows: Sequence[Row]) -> list[Row]:
    """For each mode with several tasks a row with the unweighted means of those figures that every task
    has."""
    averages: list[Row] = []
    for mode in ("fixed", "paper"):
        blocks = [block for _, of, block in rows if of == mode]
        if len(blocks) < 2:
            continue
        shared = [name for name in blocks[0]["metrics"] if all(name in block["metrics"] for block in blocks)]
        metrics = {name: _mean_figure([block["metrics"][name] for block in blocks]) for name in shared}
        averages.append(("macro average", mode, {"metrics": metrics}))
    return averages


def _mean_figure(figures: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    values = [figure["value"] for figure in figures]
    ends = [(figure["ci"][0], figure["ci"][1]) for figure in figures if figure["ci"]]
    ci = mean_interval(values, ends) if len(ends) == len(figures) else None
    return {"value": sum(values) / len(values), "ci": ci, "method": "macro"}


def _columns(rows: Sequence[Row]) -> list[Column]:
    blocks = [block for _, _, block in rows]
    names = [plain(task if mode == "fixed" else f"{task} ({mode})", NAME_WIDTH) for task, mode, _ in rows]
    columns = [
        Column("task", names, left=True),
        Column("prob.\nx n", [_size(block) for block in blocks], rank=3),
        Column(
            f"pass@1 %\n{INTERVAL}",
            aligned([figure_cell(block["metrics"].get("pass@1")) for block in blocks]),
        ),
        *_largest_k("pass", blocks, rank=1),
        *_largest_k("maj", blocks, rank=2),
        Column("trunc\n%", [_share(block.get("truncated"), "yellow") for block in blocks], rank=4),
        Column("no\nans %", [_share(_state_share(block, "no_answer"), "yellow") for block in blocks], rank=5),
        Column("verif.\nfailed", [_failed(block) for block in blocks], rank=1),
        *_withheld(blocks),
        Column("tokens", [_tokens(block) for block in blocks], rank=6),
    ]
    return [
        column for column in columns if column.rank == 0 or any(cell.plain != NONE for cell in column.cells)
    ]


def _largest_k(metric: str, blocks: Sequence[Block], *, rank: int) -> list[Column]:
    """The column of pass@k or maj@k at each task's largest k above 1; none where all have one sample."""
    largest = [max((k for k in _ks(metric, block) if k > 1), default=None) for block in blocks]
    # Rows without samples are averages: they do not decide what the column is called.
    samples = [block.get("samples_per_problem", {}).get("min") for block in blocks]
    of_tasks = {(k, n) for k, n in zip(largest, samples, strict=True) if k and n}
    if not of_tasks:
        return []
    one_k, all_n = len({k for k, _ in of_tasks}) == 1, all(k == n for k, n in of_tasks)
    title = f"{metric}@{next(iter(of_tasks))[0] if one_k else 'n' if all_n else 'k'}"
    figures: list[Mapping[str, Any] | None] = []
    suffixes: list[str] = []
    for block, k in zip(blocks, largest, strict=True):
        # An average over another k than the rows above it show would read as their average.
        known = k is not None and (one_k or "samples_per_problem" in block)
        figures.append(block["metrics"][f"{metric}@{k}"] if known else None)
        suffixes.append("" if one_k or all_n or not known else f" @{k}")
    return [with_intervals(title, figures, rank=rank, interval_rank=7 + rank, suffixes=suffixes)]


def with_intervals(
    title: str,
    figures: Sequence[Mapping[str, Any] | None],
    *,
    rank: int = 0,
    interval_rank: int = 9,
    suffixes: Sequence[str] = (),
    signed: bool = False,
) -> Column:
    """A column of figures with their intervals, which is narrowed to the figures alone where there is no room.
    ``suffixes``: what stands behind each figure."""
    ends = suffixes or [""] * len(figures)
    full = [figure_cell(f, signed=signed).append(end) for f, end in zip(figures, ends, strict=True)]
    bare = [
        figure_cell({**f, "ci": None, "method": ""} if f else None, signed=signed).append(end)
        for f, end in zip(figures, ends, strict=True)
    ]
    head = title if title.endswith("%") else f"{title} %"
    short = Column(_two_lines(title), bare, rank=rank)
    if not any(f and f.get("ci") for f in figures):
        return short
    return Column(f"{head}\n{INTERVAL}", aligned(full), rank=rank, short=short, interval_rank=interval_rank)


def _two_lines(title: str) -> str:
    words = title.removesuffix("%").split()
    return f"{words[0]}\n{' '.join([*words[1:], '%'])}"


def _ks(metric: str, block: Block) -> list[int]:
    family = {"pass": PASS, "maj": MAJORITY}[metric]
    most = block.get("samples_per_problem", {}).get("min", LOGGED_SAMPLES)  # averages do not say
    return [figure.k for figure in family.among(block["metrics"], most) if figure.k]


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def figure_cell(figure: Mapping[str, Any] | None, *, signed: bool = False) -> Text:
    """A share in per cent with its interval; ``*`` marks a binomial bound, ``~`` a simulated vote. ``signed``: a
    difference, in points."""
    if figure is None or figure["value"] is None:
        return Text(NONE)
    form = "+.1f" if signed else ".1f"
    text = Text("" if figure.get("exact", True) else "~").append(number(100 * figure["value"], form))
    if figure.get("ci"):
        low, high = (number(100 * end, form) for end in figure["ci"])
        text.append(f" [{low}, {high}]")
    if figure.get("method") == "clopper_pearson":
        text.append("*")
    return text


def aligned(cells: Sequence[Text]) -> Sequence[Text]:
    """Keeps figures under each other where only some carry the mark of a binomial bound."""
    if any(cell.plain.endswith("*") for cell in cells):
        for cell in cells:
            if not cell.plain.endswith("*"):
                cell.append(" ")
    return cells


def _size(block: Block) -> Text:
    """Problems (of those asked for, if some have no attempts) and samples of each."""
    if "samples_per_problem" not in block:
        return Text(NONE)
    missing = block.get("unattempted", 0)
    problems = f"{block['problems']}/{block['problems'] + missing}" if missing else f"{block['problems']}"
    fewest, most = (block["samples_per_problem"][end] for end in ("min", "max"))
    return Text(f"{problems} x {fewest if fewest == most else f'{fewest}-{most}'}")


def _share(share: float | None, style: str) -> Text:
    if share is None:
        return Text(NONE)
    return Text(_percent(share), style=style if share >= 0.05 else "")


def _state_share(block: Block, state: str) -> float | None:
    return block["states"][state] / block["attempts"] if "states" in block else None


def _failures(block: Block) -> tuple[int, int]:
    states = block.get("states", {})
    return states.get("verifier_timeout", 0), states.get("verifier_error", 0)


def _withheld(blocks: Sequence[Block]) -> list[Column]:
    """The column of replies that a server kept back; none where there were none."""
    counts = [block["states"].get("filtered", 0) if "states" in block else None for block in blocks]
    if not any(counts):
        return []
    cells = [Text(NONE) if n is None else Text(str(n), style="bold red" if n else "") for n in counts]
    return [Column("with-\nheld", cells, rank=1)]


def _failed(block: Block) -> Text:
    if "states" not in block:
        return Text(NONE)
    failed = sum(_failures(block))
    return Text(str(failed), style="bold red" if failed else "")


def _tokens(block: Block) -> Text:
    mean = block.get("tokens", {}).get("completion", {}).get("mean")
    return Text(NONE if mean is None else f"{mean:.0f}")


def plain(name: str, longest: int) -> Text:
    """A name without control, bidirectional or other unprintable characters, cut to ``longest`` columns."""
    text = Text("".join(char if char.isprintable() else "?" for char in name))
    text.truncate(longest, overflow="ellipsis")
    return text


def _notes(results: Mapping[str, Any], rows: Sequence[Row], printed: Sequence[Column]) -> Iterator[Text]:
    """What the reader must not overlook: failed verifiers, kinds of figures, modes that disagree."""
    failed = [(task, mode, *_failures(block)) for task, mode, block in rows if any(_failures(block))]
    for task, mode, timeouts, errors in failed:
        where = f"{plain(task, NAME_WIDTH)} ({mode})"
        yield Text(f"! {where}: verifier timeouts {timeouts}, verifier errors {errors}", style="bold red")
    if failed:
        yield Text("! These count as wrong. cipo-eval rescore judges them again.", style="bold red")
    for task, mode, block in rows:
        if withheld := block.get("states", {}).get("filtered", 0):
            where = f"{plain(task, NAME_WIDTH)} ({mode})"
            yield Text(
                f"! {where}: a server withheld {withheld} replies; they count as wrong", style="bold red"
            )
        if weak := block.get("weak_integrity"):
            where = f"{plain(task, NAME_WIDTH)} ({mode})"
            yield Text(
                f"! {where}: {weak} verdicts are weak: program and tests shared a process", style="yellow"
            )
    yield from explain_marks(printed)
    yield from _about_tasks(results["tasks"], rows)
    for task, entry in results["tasks"].items():
        if differ := len(entry.get("disagreements", ())):
            yield Text(f"{plain(task, NAME_WIDTH)}: fixed and paper mode differ on {differ} attempts")


def _about_tasks(tasks: Mapping[str, Any], rows: Sequence[Row]) -> Iterator[Text]:
    """Which tasks are all but solved, and which had public answers when the model's training data ended."""
    high = [
        task for task, _, block in rows if (block["metrics"].get("pass@1", {}).get("value") or 0) > CEILING
    ]
    if high:
        named = ", ".join(str(plain(task, NAME_WIDTH)) for task in dict.fromkeys(high))
        yield Text(f"at the ceiling, above {CEILING:.0%}: {named}", style="yellow")
    for side in Side:
        of_side = {task: entry for task, entry in tasks.items() if entry.get("golds") == side}
        if of_side:
            cutoff = next(iter(of_side.values()))["model_cutoff"]
            named = ", ".join(str(plain(task, NAME_WIDTH)) for task in of_side)
            yield Text(f"answers public {side} the model's cut-off ({cutoff}): {named}", style="dim")


def explain_marks(printed: Iterable[Column]) -> Iterator[Text]:
    """What the marks beside figures mean, of those that were printed."""
    cells = [cell.plain for column in printed for cell in column.cells if not column.left]
    if any("*" in text for text in cells):
        yield Text("* binomial bound: too few problems differ for a bootstrap", style="dim")
    if any(text.startswith("~") for text in cells):
        yield Text("~ majority vote simulated: the exact expectation would cost too much", style="dim")


def _print_breakdown(console: Console, row: Row) -> list[Column]:
    task, mode, block = row
    printed: list[Column] = []
    for column, groups in block.get("breakdown", {}).items():
        names = [plain(name, NAME_WIDTH) for name in groups]
        figures = [{**group, "value": group["pass@1"]} for group in groups.values()]
        console.print()
        columns = [
            Column(f"{plain(task, NAME_WIDTH)} ({mode})\nby {plain(column, NAME_WIDTH)}", names, left=True),
            Column("prob-\nlems", [Text(str(group["problems"])) for group in groups.values()], rank=1),
            Column("attempts", [Text(str(group["attempts"])) for group in groups.values()], rank=2),
            Column(f"pass@1 %\n{INTERVAL}", aligned([figure_cell(figure) for figure in figures])),
        ]
        printed += print_table(console, columns, section=len(names))
    return printed


def print_table(console: Console, columns: Sequence[Column], *, section: int) -> list[Column]:
    """Prints what fits, with a gap after the first ``section`` rows, and the names of what does not: the least
    needed columns and intervals give way. Returns the columns as they were printed."""
    columns, dropped = _that_fit(columns, console.width)
    columns = [_encodable(column, console) for column in columns]
    # Names give way where it is still too narrow, down to what tells them apart; numbers never do.
    spare = min(0, console.width - _width(columns))
    widths = [max(8, column.width + spare) if column.left else column.width for column in columns]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, collapse_padding=True)
    for column, width in zip(columns, widths, strict=True):
        justify: JustifyMethod = "left" if column.left else "right"
        table.add_column(Text(column.title), justify=justify, no_wrap=True, overflow="ellipsis", width=width)
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        table.add_row(*cells, end_section=index == section - 1)
    # ``print`` would squeeze the table into the terminal; laid out beforehand it overflows instead.
    room = console.options.update(width=max(console.width, sum(widths) + GAP * len(widths)))
    console.print(Segments(console.render(table, room)), crop=False, end="")
    if dropped:
        console.print(Text(f"Too narrow for: {', '.join(dropped)}", style="dim"))
    return columns


def _that_fit(columns: Sequence[Column], room: int) -> tuple[list[Column], list[str]]:
    """The columns that fit, and what had to go."""
    columns = list(columns)
    bare: list[str] = []
    dropped: list[str] = []
    while _width(columns) > room:
        last = max(columns, key=lambda c: c.rank)
        wide = max((c for c in columns if c.short), key=lambda c: c.interval_rank, default=None)
        if wide and wide.interval_rank > last.rank:
            columns = [column.short or column if column is wide else column for column in columns]
            bare.append(wide.name)
        elif last.rank > 0:
            columns = [column for column in columns if column is not last]
            dropped.append(last.name)
        else:
            break
    bare = [name for name in bare if name not in dropped]
    return columns, [*dropped, *([f"intervals of {', '.join(bare)}"] if bare else [])]


def _encodable(column: Column, console: Console) -> Column:
    """A column in characters that the terminal has."""
    title = encodable(Text(column.title), console).plain
    return replace(column, title=title, cells=[encodable(cell, console) for cell in column.cells])


def encodable(text: Text, console: Console) -> Text:
    """A text without the signs that the terminal's encoding lacks: a hyphen for a minus, and the like."""
    written = text.copy()
    for char, other in PLAIN.items():
        if char in written.plain and not _has(console.encoding, char):
            written.plain = written.plain.replace(char, other)
    return written


def _has(encoding: str, char: str) -> bool:
    try:
        char.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def _width(columns: Sequence[Column]) -> int:
    return sum(column.width + GAP for column in columns) - GAP


def show_table(cells: CellTable, console: Console) -> None:
    """Prints a table of a report: as the page has it, with its caption and notes."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for place, title in enumerate(cells.columns):
        left = place < cells.left
        # Names of methods and values go on in the next line rather than be cut.
        short = place < cells.left - 1
        table.add_column(
            encodable(Text(title), console),
            justify="left" if left else "right",
            no_wrap=short,
            overflow="fold",
        )
    for place, row in enumerate(cells.rows):
        if place in cells.rules:
            table.add_section()
        table.add_row(*(encodable(Text(cell.text), console) for cell in row))
    console.print(encodable(Text(cells.caption), console), table)
    for note in cells.notes:
        console.print(encodable(Text(note), console))
