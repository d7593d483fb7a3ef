"""The list of all figures for people, from the table: ``python -m cipo_eval.analysis.list_figures`` writes it anew."""

from __future__ import annotations

from pathlib import Path

from cipo_eval.analysis.figure import Family, Figure
from cipo_eval.analysis.figures import TABLE
from cipo_eval.errors import UsageError
from cipo_eval.files import write_text

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
PAGE = Path("docs/metrics.md")
EXAMPLE = 2
"""The turn, or the k, of the figure that stands for its family."""
WHERE = {
    "metrics": "First attempts",
    "by_turn": "After each turn",
    "change": "Against the first turn",
    "steps[].metrics": "From a turn to the next",
    "lift": "Revising against another first attempt",
    "resampling": "What first attempts alone give",
    "resampling.equal_tokens": "What they give for the tokens of a chain",
    "sequential": "Attempts with a revision each",
    "pool": "Corrections of a pool's attempts",
    "blind_spot": "A pool's wrong attempts as the model's own words, and in the user's message",
    "critique": "Judgements of attempts; positive: the attempt is wrong",
    "critique.joined": "What became of the attempts that were judged",
}
"""By section of ``results.json``, its heading."""


def listed() -> str:
    """A table in Markdown for each section of ``results.json``, with the figures in its order."""
    parts = []
    for section, entries in TABLE.items():
        rows = [_row(entry) for entry in entries]
        head = ["| key | meaning | formula | source |", "|---|---|---|---|"]
        parts.append("\n".join([f"**{WHERE[section]}** (`{section}`)", "", *head, *rows]))
    return "\n\n".join(parts)


def _row(entry: Figure | Family) -> str:
    figure = entry.at(EXAMPLE) if isinstance(entry, Family) else entry
    key = entry.name if isinstance(entry, Family) else figure.key
    return f"| `{key}` | {figure.meaning} | {figure.formula} | {figure.source} |"


def with_list(text: str) -> str:
    """A page with the list between its two marks. Raises ``UsageError`` where it has no marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n\n{listed()}\n\n{END}{after}"


if __name__ == "__main__":
    write_text(PAGE, with_list(PAGE.read_text(encoding="utf-8")))
