"""Runs the command line inside the test process, as the console script would."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.cli import main


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Commands:
    """``cipo("run", "--model", …)`` gives exit code and output. The environment names no data unless a test says so."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path
    ) -> None:
        self._capsys = capsys
        monkeypatch.delenv("CIPO_EVAL_DATA", raising=False)
        monkeypatch.setenv("CIPO_EVAL_CACHE", str(folder / "cache"))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        monkeypatch.chdir(folder)

    def __call__(self, *arguments: str | os.PathLike[str]) -> Outcome:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        captured = self._capsys.readouterr()
        code = stopped.value.code
        return Outcome(
            code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err
        )


def turns(run: Path, task: str) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What a run stored of each attempt, times aside, by the whole key; fails where an attempt that has its verdict
    is there twice (what was judged again may be)."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for line in (run / "attempts" / f"{task}.jsonl").read_text().splitlines():
        row = json.loads(line)
        del row["seconds"]
        for verdict in row["verdicts"].values():
            del verdict["seconds"]
        key = tuple(row[name] for name in ("problem", "protocol", "sample", "turn"))
        known = found.get(key, {"verdicts": {}})["verdicts"]
        unsure = not known or any(v["state"] == "verifier_error" for v in known.values())
        assert unsure, f"{key} is there twice"
        found[key] = row
    return found


def attempts(run: Path, task: str) -> dict[tuple[str, int], dict[str, Any]]:
    """Of runs with one turn: by problem and sample."""
    return {(problem, sample): row for (problem, _, sample, _), row in turns(run, task).items()}


def results(run: Path) -> dict[str, Any]:
    """``results.json`` without times and without the directory's name."""
    found: dict[str, Any] = json.loads((run / "results.json").read_text())
    del found["run"]
    for task in found["tasks"].values():
        for name, block in task.items():
            if isinstance(block, dict) and name != "protocols":
                del block["seconds"]
    return found
