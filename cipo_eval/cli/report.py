"""``cipo-eval report``: tables, figures and a page from run directories (its options: ``report_options``)."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.compare import named
from cipo_eval.cli.report_options import ReportOptions
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError, require

if TYPE_CHECKING:
    from cipo_reports.report import Written
    from cipo_reports.study import Study

PAGE_UNIT = 1_000_000
"""Characters that ``--page-megabytes`` counts by."""
GALLERY_TITLE = "cipo-eval report: a made-up study"
GALLERY_PROBLEMS, GALLERY_SAMPLES = 40, 8
"""Size of the study that ``--gallery`` shows: problems of each task, samples of each problem."""


def report(**values: Any) -> None:
    """Write OUTPUT/report.html, which opens anywhere, and every table and figure for a paper."""
    from cipo_eval import tracking
    from cipo_eval.cli.session import say
    from cipo_reports import hub

    options = ReportOptions(**values)
    trackers = _checked_trackers(options)
    with _sources(options) as (runs, groups, title):
        study = _study(options, runs, groups)
        written = _write(study, options, title)
    failures = tracking.record(
        trackers,
        title,
        options.output,
        hub.described(study),
        hub.numbers(study),
        [written.page, *hub.tables(options.output)],
    )
    links = _push(study, options, written.page, title)
    if options.json:
        typer.echo(json.dumps(_summary(study, written, links, failures)))
    else:
        for note in study.notes if options.talkative else ():
            say(f"! {note}")
        for line in () if options.quiet else (written.page, *links):
            typer.echo(str(line))
        for failure in failures:
            say(f"! {failure}")
    raise typer.Exit(EXIT_FAILURES if failures else EXIT_OK)


def _checked_trackers(options: ReportOptions) -> list[str]:
    """The names of trackers, once everything that can be refused before runs are read has been looked at. Raises
    ``UsageError`` and ``MissingError``."""
    from cipo_eval import tracking
    from cipo_eval.run.folder import look_at_place
    from cipo_reports import hub
    from cipo_reports.report import check_folder

    if options.mode is o.ModeFlag.both:
        raise UsageError("--mode both: a report shows one mode's verdicts at a time")
    trackers = named([options.track])
    tracking.check(trackers)
    hub.check([options.push_space, options.push_dataset], dry_run=options.dry_run)
    look_at_place(options.output)
    check_folder(options.output)
    if options.model_card:
        require("data", "--model-card")
    return trackers


@contextmanager
def _sources(options: ReportOptions) -> Iterator[tuple[Sequence[str], Sequence[str], str]]:
    """The runs and groups to read, and the page's title: as given, or of the made-up study, which is there until the
    block ends. Raises ``UsageError`` where both are asked for."""
    from cipo_reports.synthetic import make_study

    runs, groups = options.runs or [], options.groups or []
    if not options.gallery:
        yield runs, groups, options.title
        return
    if runs or groups:
        raise UsageError("--gallery shows a made-up study: it takes no runs")
    with tempfile.TemporaryDirectory(prefix="cipo-eval-") as folder:
        arms = make_study(Path(folder), problems=GALLERY_PROBLEMS, samples=GALLERY_SAMPLES)
        yield [], [f"{name}={','.join(map(str, paths))}" for name, paths in arms.items()], GALLERY_TITLE


def _study(options: ReportOptions, runs: Sequence[str], groups: Sequence[str]) -> Study:
    """What the runs say together."""
    from cipo_eval.analysis.figures import load
    from cipo_eval.records import Mode
    from cipo_reports.arms import read_arms
    from cipo_reports.study import read_study

    return read_study(
        read_arms(runs, groups),
        baseline=options.baseline,
        mode=Mode(options.mode.value) if options.mode else None,
        bootstrap=options.bootstrap,
        force=options.force,
        paired=options.paired,
        figures=load(named(options.figures)),
    )


def _write(study: Study, options: ReportOptions, title: str) -> Written:
    """Writes the report into the folder of the options."""
    from cipo_reports.report import write_report

    tell = _teller(options)
    return write_report(
        study,
        options.output,
        title=title,
        published=options.published,
        cards=options.model_card,
        budget=options.page_megabytes * PAGE_UNIT,
        on_step=lambda part: tell(f"  {part} …"),
    )


def _push(study: Study, options: ReportOptions, page: Path, title: str) -> list[str]:
    """Uploads what is asked for, and returns links to it; with ``--dry-run`` a line for each file instead."""
    from cipo_reports import hub

    with tempfile.TemporaryDirectory(prefix="cipo-eval-") as folder:
        uploads = hub.prepared(
            Path(folder), study, page, title, space=options.push_space, dataset=options.push_dataset
        )
        return hub.pushed(uploads, private=options.private, dry_run=options.dry_run, say=_teller(options))


def _teller(options: ReportOptions) -> Callable[[str], None]:
    """What shows a line of progress, or swallows it."""
    from cipo_eval.cli.session import say

    return say if options.talkative else lambda _: None


def _summary(study: Study, written: Written, links: Sequence[str], failures: Sequence[str]) -> dict[str, Any]:
    """What ``--json`` prints."""
    return {
        "page": str(written.page),
        "tables": written.tables,
        "figures": written.figures,
        "attempts": written.attempts,
        "left_out": written.left_out,
        "bytes": written.bytes,
        "baseline": study.baseline,
        "notes": study.notes,
        "pushed": links,
        "failures": failures,
    }
