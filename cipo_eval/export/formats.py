"""The table of formats, and how an export takes its place on disk: whole or not at all, and never over other files."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cipo_eval.errors import UsageError, nearest
from cipo_eval.export.source import Source
from cipo_eval.files import Writing, whole_folder, write_json

MARK = "cipo-eval-export.json"
"""Says that a folder is an export of ours, which the next one may take the place of."""
Write = Callable[[Source, Path], None]
"""Writes an export into an empty folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """One form that a run can be exported to."""

    name: str
    summary: str
    module: str
    """Which module's ``write`` makes it: imported when it is asked for."""


FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            name="inspect",
            summary="`.eval` logs of Inspect, one per task and protocol",
            module="inspect_logs",
        ),
        Format(name="eee", summary="records of Every Eval Ever, schema 0.3.0", module="eval_records"),
        Format(
            name="lm-eval", summary="results and samples as lm-evaluation-harness logs them", module="lm_eval"
        ),
        Format(name="hf", summary="`.eval_results/*.yaml` for a model on the Hugging Face hub", module="hub"),
        Format(
            name="parquet", summary="a Parquet dataset, a row an attempt, with its card", module="parquet"
        ),
    )
}
"""By the name that ``--to`` takes."""


def export(run: Path, name: str, output: Path, *, data_dir: Path | None = None) -> list[str]:
    """Writes a run to a folder in one of the ``FORMATS``; returns what a user has to hear of it.

    Raises ``UsageError`` for an unknown format, a folder that is not empty and no earlier export, and a run without
    figures; ``MissingError`` where a format's package is not installed or the disk is full.
    """
    if name not in FORMATS:
        raise UsageError(f"--to {name}: {nearest(name, FORMATS)}")
    _check_target(output)
    source = Source(run, data_dir)
    write: Write = importlib.import_module(f"cipo_eval.export.{FORMATS[name].module}").write
    with Writing(output), whole_folder(output) as folder:
        write(source, folder)
        write_json(folder / MARK, {"format": name, "run": run.name, "cipo_eval": source.version})
    return source.warnings


def _check_target(output: Path) -> None:
    """Refuses to take the place of anything but an earlier export."""
    if output.is_symlink() or (output.exists() and not output.is_dir()):
        raise UsageError(f"{output} is not a folder: choose another --output")
    if output.is_dir() and any(output.iterdir()) and not (output / MARK).is_file():
        raise UsageError(f"{output} is not empty and no earlier export: choose another --output")
