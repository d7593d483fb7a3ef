"""Where figures go: ``log.jsonl`` always; trackers (``cipo_eval.tracking``) where a configuration asks."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cipo_eval.files import (
    DamagedLineError,
    Writing,
    append_json_line,
    read_json_lines,
    write_json,
    write_json_lines,
)
from cipo_eval.tracking import opened
from cipo_trainer.config import Config

TRACKERS = "trackers.json"
"""What each tracker calls the training, in its folder: where it goes on, the tracker's run does too."""


def evaluation_folder(step: int) -> str:
    """Of an evaluation after so many steps: a run directory within the folder of its training."""
    return f"eval/step-{step:06d}"


class Log:
    """The logs of one run. Raises ``MissingError`` for a logger that is not installed, and where the disk is full."""

    def __init__(self, folder: Path, config: Config, step: int) -> None:
        """``step``: of the checkpoint that the run goes on from; what was logged after it happens again."""
        self._folder = folder
        self._done = {(row["step"], row["kind"]) for row in read(folder / "log.jsonl")}
        for name in ("log.jsonl", "samples.jsonl"):
            self._rewind(folder / name, step)
        log = config.log
        named = {"wandb": log.wandb, "trackio": log.trackio, "mlflow": log.mlflow}
        asked = ["tensorboard"] if log.tensorboard else []
        asked += [f"{tracker}:{project}" for tracker, project in named.items() if project]
        place = folder / TRACKERS
        kept: dict[str, str] = json.loads(place.read_text(encoding="utf-8")) if place.is_file() else {}
        self._trackers = opened(asked, folder.name, folder, config.plain(), kept)
        self._going_on = [tracker in kept for tracker in asked]
        if idents := {one: tracker.ident for one, tracker in zip(asked, self._trackers, strict=True)}:
            with Writing(folder):
                write_json(place, kept | idents)

    def close(self) -> None:
        """Has the trackers write out what is left."""
        for tracker in self._trackers:
            tracker.close()

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Logs the figures of a step; ``kind``: ``train`` or ``eval``. A figure that is not finite is null."""
        plain = {name: _finite(value) for name, value in values.items()}
        self._append("log.jsonl", {"step": step, "kind": kind, **plain})
        numbers = {f"{kind}/{n}": float(v) for n, v in plain.items() if isinstance(v, int | float)}
        again = (step, kind) in self._done
        for tracker, going_on in zip(self._trackers, self._going_on, strict=True):
            if not (again and going_on):  # it has the same figures already
                tracker.log(numbers, step)

    def sample(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes out an attempt of a step, in ``samples.jsonl``."""
        self._append("samples.jsonl", {"step": step, **values})

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        with Writing(self._folder):
            append_json_line(self._folder / name, row)

    def _rewind(self, path: Path, step: int) -> None:
        """Drops rows after a step, and a torn last line; before the first step everything is done again."""
        rows = [row for row in read(path) if row["step"] <= step] if step else []
        with Writing(self._folder):
            write_json_lines(path, rows)


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a log file (``log.jsonl``), in order; a torn last line is left out."""
    rows: list[dict[str, Any]] = []
    with suppress(DamagedLineError):
        rows += (line.value for line in read_json_lines(path)) if path.is_file() else ()
    return rows


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
