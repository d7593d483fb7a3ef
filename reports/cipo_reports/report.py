"""Writes a report: the frames, every table and figure, the page, and model cards.

OUT/report.html, macros.tex, results.parquet and .csv (differences, budget and training likewise),
tables/NAME.{tex,md,csv,html}, figures/NAME.{png,pdf,svg}, model-cards/ARM.md.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cipo_eval.errors import UsageError, missing_packages, require
from cipo_eval.files import Writing
from cipo_reports.cells import file_name
from cipo_reports.explorer import BUDGET
from cipo_reports.figures import figures
from cipo_reports.frames import FRAMES, NUMBERS
from cipo_reports.latex import to_latex
from cipo_reports.macros import macros
from cipo_reports.page import to_html, write_page
from cipo_reports.panels import save
from cipo_reports.study import Study
from cipo_reports.tables import tables
from cipo_reports.writers import frame_csv, to_csv, to_markdown

_OURS = {"report.html", ".report.html.new", "macros.tex", "tables", "figures", "model-cards"} | {
    f"{name}.{suffix}" for name in FRAMES for suffix in ("parquet", "csv")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What ``write_report`` wrote: files, and how much of the runs is in the page."""

    page: Path
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    attempts: int
    """Attempts that the page holds."""
    left_out: int
    """Attempts whose text the page had no room for."""
    bytes: int
    """Size of the page."""


def write_report(
    study: Study,
    out: Path,
    *,
    title: str = "cipo-eval report",
    published: bool = False,
    cards: bool = False,
    budget: int = BUDGET,
    on_step: Callable[[str], None] = lambda _: None,
) -> Written:
    """Writes a study's report into a folder. ``cards``: model cards too; ``budget``: most characters of attempts in the
    page; ``on_step`` is told what is being written. Raises ``UsageError`` for a folder that holds something else,
    ``MissingError`` where it cannot be written.
    """
    check_folder(out)
    if cards:
        require("data", "a model card")
    with Writing(out):
        for folder in (out, out / "tables", out / "figures"):
            folder.mkdir(parents=True, exist_ok=True)
            for old in folder.iterdir():  # of an earlier report: nothing of it may stay beside the new one
                if old.is_file():
                    old.unlink()
        on_step("tables")
        write_frames(study, out)
        made = tables(study, with_published=published)
        for table in made:
            for suffix, writer in (
                ("tex", to_latex),
                ("md", to_markdown),
                ("csv", to_csv),
                ("html", to_html),
            ):
                (out / "tables" / f"{table.name}.{suffix}").write_text(writer(table), encoding="utf-8")
        (out / "macros.tex").write_text(macros(study), encoding="utf-8")
        on_step("figures")
        drawn = []
        for name, caption, figure in figures(study):
            save(figure, out / "figures", name)
            drawn.append((name, caption, out / "figures" / f"{name}.svg"))
        if cards:
            on_step("model cards")
            _cards(study, out / "model-cards")
        on_step("page")
        sizes = write_page(out / "report.html", study, made, drawn, title=title, budget=budget)
    return Written(
        page=out / "report.html",
        tables=tuple(table.name for table in made),
        figures=tuple(name for name, _, _ in drawn),
        attempts=sizes["attempts"],
        left_out=sizes["left_out"],
        bytes=sizes["bytes"],
    )


def check_folder(out: Path) -> None:
    """Raises ``UsageError`` for a folder that holds something else than a report."""
    if out.exists() and (not out.is_dir() or {path.name for path in out.iterdir()} - _OURS):
        raise UsageError(f"{out} holds something that is no report: choose another --output")


def write_frames(study: Study, out: Path) -> None:
    """Writes each frame that has rows (``results`` always) as NAME.parquet, as it is, and as NAME.csv for people.
    Without the package that writes Parquet there is only the latter."""
    binary = not missing_packages("data")
    for name, columns in FRAMES.items():
        frame = getattr(study, name)[columns]
        if name == "results" or len(frame):
            frame = frame.astype(dict.fromkeys(NUMBERS.intersection(columns), "float64"))
            if binary:
                frame.to_parquet(out / f"{name}.parquet", index=False)
            (out / f"{name}.csv").write_text(frame_csv(frame), encoding="utf-8")


def _cards(study: Study, folder: Path) -> None:
    from cipo_reports.card import model_card

    folder.mkdir(exist_ok=True)
    for arm in study.arms:
        (folder / f"{file_name(arm.name) or 'arm'}.md").write_text(model_card(study, arm), encoding="utf-8")
