"""A report on the Hugging Face hub: its page as a static Space, its runs as a data set. Nothing is sent unasked."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

from cipo_eval.errors import CipoError, UsageError
from cipo_eval.tracking import numbers_of
from cipo_reports.cells import file_name
from cipo_reports.study import Study

_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_SPACE = """---
title: {title}
emoji: 📊
colorFrom: blue
colorTo: green
sdk: static
pinned: false
---

A report of [cipo-eval](https://pypi.org/project/cipo-eval/): `index.html` is the whole of it.
"""
_DATASET = """---
configs:
- config_name: attempts
  data_files: "*/attempts/*.jsonl"
---

# {title}

Runs of [cipo-eval](https://pypi.org/project/cipo-eval/): of each `run.json` (what was asked, and of whom),
`results.json` (figures) and `attempts` (every answer with its verdict).
"""
_FILES = ("run.json", "results.json", "attempts/*.jsonl", "attempts/*.jsonl.gz")


@dataclass(frozen=True, slots=True)
class Upload:
    """A folder as it is to stand on the hub."""

    kind: str
    """Kind of repository: ``space`` or ``dataset``."""
    name: str
    folder: Path

    @property
    def files(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


def check(names: Sequence[str | None], *, dry_run: bool) -> None:
    """Raises ``UsageError`` for a name that the hub does not have, and where no token says who uploads."""
    asked = [name for name in names if name is not None]
    for name in asked:
        if not _NAME.fullmatch(name):
            raise UsageError(f"{name!r} is no name on the hub: write USER/NAME")
    if dry_run and not asked:
        raise UsageError("--dry-run lists what --push-space or --push-dataset would upload: give one of them")
    if asked and not dry_run:
        from huggingface_hub import get_token

        if not get_token():
            raise UsageError(
                "uploading needs a token of the hub: `hf auth login`, or HF_TOKEN in the environment"
            )


def prepared(
    folder: Path, study: Study, page: Path, title: str, *, space: str | None, dataset: str | None
) -> list[Upload]:
    """What is to be uploaded, laid out below ``folder``."""
    uploads = []
    if space:
        place = folder / "space"
        place.mkdir()
        shutil.copyfile(page, place / "index.html")
        (place / "README.md").write_text(_SPACE.format(title=_quoted(title)), encoding="utf-8")
        uploads.append(Upload("space", space, place))
    if dataset:
        place = folder / "dataset"
        place.mkdir()
        (place / "README.md").write_text(_DATASET.format(title=title), encoding="utf-8")
        for name, run in _runs(study):
            for path in (path for pattern in _FILES for path in run.glob(pattern)):
                goal = place / name / path.relative_to(run)
                goal.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, goal)
        uploads.append(Upload("dataset", dataset, place))
    return uploads


def pushed(
    uploads: Sequence[Upload], *, private: bool, dry_run: bool, say: Callable[[str], None]
) -> list[str]:
    """Uploads folders to the hub, and returns links to them; with ``dry_run`` only a line for each file. Raises
    ``CipoError``."""
    if dry_run:
        return [
            f"would upload to {upload.kind} {upload.name}: {path.relative_to(upload.folder)} "
            f"({path.stat().st_size} bytes)"
            for upload in uploads
            for path in upload.files
        ]
    links = []
    for upload in uploads:
        from huggingface_hub import HfApi

        say(f"  uploading {len(upload.files)} file(s) to the {upload.kind} {upload.name} …")
        api = HfApi()
        try:
            api.create_repo(
                upload.name,
                repo_type=upload.kind,
                private=private,
                exist_ok=True,
                space_sdk="static" if upload.kind == "space" else None,
            )
            api.upload_folder(
                repo_id=upload.name,
                repo_type=upload.kind,
                folder_path=upload.folder,
                commit_message="cipo-eval report",
            )
        except Exception as error:  # the hub's refusals, and whatever a network has
            why = str(error).partition("\n")[0]
            raise CipoError(f"uploading to the {upload.kind} {upload.name}: {why}") from error
        links.append(f"{api.endpoint}/{upload.kind}s/{upload.name}")
    return links


def numbers(study: Study) -> dict[str, float]:
    """The figures of every run, as ``METHOD/RUN/…``; without ``RUN`` where a method has one."""
    values: dict[str, float] = {}
    for arm in study.arms:
        for number, run in enumerate(arm.runs):
            prefix = arm.name if len(arm.runs) == 1 else f"{arm.name}/{number}"
            values |= {f"{prefix}/{name}": value for name, value in numbers_of(run.results).items()}
    return values


def described(study: Study) -> dict[str, Any]:
    """The baseline and the methods of a report, with their runs, as JSON values."""
    return {
        "baseline": study.baseline,
        "methods": {arm.name: [str(run.path) for run in arm.runs] for arm in study.arms},
    }


def tables(report: Path) -> list[Path]:
    """The files of tables of a report."""
    return sorted(path for path in report.glob("tables/*") if path.is_file())


def _runs(study: Study) -> list[tuple[str, Path]]:
    """Runs with a folder for each, whatever their methods are called: no name leads out of the upload, or into another
    run's folder."""
    folders: dict[str, Path] = {}
    for arm in study.arms:
        for number, run in enumerate(arm.runs):
            name = file_name(arm.name if len(arm.runs) == 1 else f"{arm.name}-{number}") or "run"
            free = next(
                n for n in chain([name], (f"{name}-{again}" for again in count(2))) if n not in folders
            )
            folders[free] = run.path
    return list(folders.items())


def _quoted(title: str) -> str:
    return '"' + title.replace("\\", "\\\\").replace('"', '\\"') + '"'
