"""What is compared: arms, each with its runs (one for each seed), and the log of its training.

An arm is a name and run directories. Runs of an arm that have a task in common are seeds of one training; runs with
different tasks complete each other. The output folder of ``cipo-eval train`` may stand for a run: its last evaluation
counts, and its log is shown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cipo_eval.analysis.selection import Selected, selected_attempts
from cipo_eval.errors import UsageError, nearest
from cipo_eval.files import DamagedLineError, read_json_lines
from cipo_eval.records import Mode
from cipo_eval.storage.store import read_info

NAME_LENGTH = 60


@dataclass(frozen=True)
class RunData:
    """A run directory, read when needed and once."""

    path: Path

    @cached_property
    def info(self) -> dict[str, Any]:
        return read_info(self.path)

    @cached_property
    def results(self) -> dict[str, Any]:
        """``results.json``. Raises ``UsageError`` where there is none: the run did not come to its end."""
        path = self.path / "results.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(values["tasks"], dict):
                raise TypeError("no tasks")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self.path} has no results that can be read ({error}): run its command again to finish it, or "
                f"`cipo-eval rescore {self.path}`"
            ) from error
        return dict(values)

    @cached_property
    def _selected(self) -> dict[str, Selected]:
        return {}

    def selected(self, task: str) -> Selected:
        """The attempts at a task that count."""
        if task not in self._selected:
            self._selected[task] = selected_attempts(self.path, task, self.info)
        return self._selected[task]


@dataclass(frozen=True)
class Arm:
    """One method: its runs, and the folders of its trainings."""

    name: str
    runs: tuple[RunData, ...]
    trainings: tuple[Path, ...] = ()

    def having(self, task: str) -> list[RunData]:
        return [run for run in self.runs if task in run.results["tasks"]]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for run in self.runs for task in run.results["tasks"]))


def read_arms(runs: Sequence[str], groups: Sequence[str]) -> list[Arm]:
    """``runs``: folders, an arm each, named by their last part; ``groups``: ``NAME=FOLDER,FOLDER``, with ``*`` and
    ``?`` in folders. Raises ``UsageError`` for what is not there or not so, and for a name twice.
    """
    wanted: list[tuple[str, list[Path]]] = []
    for text in runs:  # `--groups a=x b=y` hands the second to us as a run
        if "=" in text and not Path(text).exists():
            groups = [*groups, text]
        else:
            wanted.append((_name(Path(text)), [Path(text)]))
    for text in groups:
        name, equals, folders = text.partition("=")
        paths = [path for folder in folders.split(",") if folder for path in _expanded(folder)]
        if not equals or not name.strip() or not paths:
            raise UsageError(f"--groups {text}: it is NAME=FOLDER,FOLDER …")
        wanted.append((name.strip(), paths))
    if not wanted:
        raise UsageError("report needs run directories, or --groups NAME=FOLDER,…")
    names = [name for name, _ in wanted]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UsageError(f"two arms are named {twice}: name them with --groups NAME=FOLDER,FOLDER")
    return [make_arm(name, paths) for name, paths in wanted]


def _expanded(folder: str) -> list[Path]:
    if not any(char in folder for char in "*?["):
        return [Path(folder)]
    anchor = Path(Path(folder).anchor)
    folders = sorted(path for path in anchor.glob(str(Path(folder).relative_to(anchor))) if path.is_dir())
    if not folders:
        raise UsageError(f"no folder is named like {folder}")
    return folders


def _name(path: Path) -> str:
    """Of ``runs/cipo/run`` the last part that says something."""
    parts = [part for part in path.resolve().parts if part not in ("run", "runs")]
    return parts[-1] if parts else str(path)


def make_arm(name: str, paths: Sequence[Path]) -> Arm:
    """An arm of run directories and outputs of trainings. Raises ``UsageError`` for folders that are neither."""
    if len(name) > NAME_LENGTH or not name.isprintable():
        raise UsageError(f"an arm's name has at most {NAME_LENGTH} printable characters: {name!r}")
    runs, trainings, evaluations = [], [], []
    for path in paths:
        if (path / "run.json").is_file():
            runs.append(RunData(path))
        elif (path / "log.jsonl").is_file():
            trainings.append(path)
            steps = sorted(
                step for step in (path / "eval").glob("step-*") if (step / "results.json").is_file()
            )
            evaluations += [RunData(step) for step in steps[-1:]]
        else:
            raise UsageError(
                f"{path} is neither a run directory (no run.json) nor the output of a training (no log.jsonl)"
            )
    runs = runs or evaluations
    if not runs:
        raise UsageError(f"the training of {name} has no evaluation: add a run of one of its checkpoints")
    return Arm(name=name, runs=tuple(runs), trainings=tuple(trainings))


def shared_mode(arms: Iterable[Arm], asked: Mode | None) -> Mode:
    """The mode whose verdicts all runs have. Raises ``UsageError`` where there is none."""
    runs = [run for arm in arms for run in arm.runs]
    modes = [mode for mode in runs[0].info["modes"] if all(mode in run.info["modes"] for run in runs)]
    if asked is not None and asked.value not in modes:
        lacking = next(run for run in runs if asked.value not in run.info["modes"])
        raise UsageError(
            f"{lacking.path} was not judged in mode {asked.value}: `cipo-eval rescore` does that"
        )
    if not modes:
        raise UsageError("the runs were not all judged in one mode: `cipo-eval rescore` does that")
    return asked or Mode(modes[0])


def baseline_of(arms: Sequence[Arm], name: str | None) -> str | None:
    """The arm that others are compared with: the first unless one is named; None where there is only one."""
    names = [arm.name for arm in arms]
    if name is not None and name not in names:
        raise UsageError(f"--baseline {name}: no arm is named so; {nearest(name, names)}")
    return name or (names[0] if len(names) > 1 else None)


def training_log(folder: Path) -> list[dict[str, Any]]:
    """Rows of ``log.jsonl``; a torn last line is left out."""
    rows: list[dict[str, Any]] = []
    with suppress(DamagedLineError):
        for line in read_json_lines(folder / "log.jsonl"):
            if isinstance(line.value, dict) and isinstance(line.value.get("step"), int):
                rows.append(line.value)
    return rows


def training_data(folders: Iterable[Path]) -> dict[Path, str]:
    """What each training was on, by a short name: its first held-out task, else where its problems came from, with
    what tells families of one generator apart: the part of the dial that not all of them share."""
    known: dict[Path, tuple[str, dict[str, Any] | None]] = {}
    for folder in folders:
        known[folder] = "", None
        with suppress(OSError, ValueError, KeyError, TypeError, StopIteration):
            config = json.loads((folder / "train.json").read_text(encoding="utf-8"))["config"]
            data, tasks = config["data"], config["eval"]["tasks"]
            named = next(str(n) for n in (*tasks, data["generator"], data["task"], data["path"]) if n)
            dial = None if tasks or not data["generator"] else dict(data.get("dial") or {})
            known[folder] = Path(named).stem.removeprefix("cipo_"), dial
    names: dict[Path, str] = {}
    for folder, (name, dial) in known.items():
        others = [other for same, other in known.values() if same == name and other is not None]
        own = [f"{k} {v}" for k, v in (dial or {}).items() if any(other.get(k) != v for other in others)]
        names[folder] = f"{name} ({', '.join(own)})" if own else name
    return names
