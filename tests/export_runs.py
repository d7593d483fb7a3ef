"""Runs to be exported: several turns of several protocols, of a model that writes what breaks files."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from seeded_engine import SeededOptions, sums, task_text

from cipo_eval.engines.engine import OneByOneEngine
from cipo_eval.export.source import unicode_text
from cipo_eval.records import Attempt, Completion, FinishReason, Request
from cipo_eval.run.api import evaluate

HOSTILE = (
    "",
    "half a pair \ud83d and a \x00 NUL",
    "</script><script>alert(1)</script><!-- ",
    "<think>a thought</think>",
    "line\u2028separator\r\n\x1b[2J | \\ud800 \"quotes\" 'too' {{ jinja }}",
    "\U0001f600 attachment://0123456789abcdef",
)


class Hostile(OneByOneEngine[SeededOptions]):
    """``--engine export_runs:Hostile``: answers that are right or wrong or cut off, around what is hard to write."""

    name, options = "hostile", SeededOptions

    def refuses_begun(self) -> str:
        """It goes on with what is begun, as it does with anything."""
        return ""

    def complete(self, request: Request, seed: int) -> Completion:
        chance = random.Random(seed)
        rough = HOSTILE[seed % len(HOSTILE)]
        if request.protocol == "critique" and request.turn % 2 == 0:
            return Completion(text=f"{rough} [[wrong]]", finish_reason=FinishReason.STOP)
        if chance.random() < 0.2:
            return Completion(text=rough or "…", finish_reason=FinishReason.LENGTH, completion_tokens=9)
        text = f"{rough} \\boxed{{{chance.choice([request.problem.gold, '1'])}}} {seed}"
        return Completion(
            text=text, finish_reason=FinishReason.STOP, prompt_tokens=7, completion_tokens=chance.randrange(9)
        )


PROTOCOLS = ("direct", "self", "oracle", "given", "critique", "prefill")


def task_file(folder: Path) -> Path:
    """The definition of a task of sums, each with somebody's attempt."""
    path = folder / "cipo_sums.yaml"
    path.write_text(task_text("sums", ["attempt"]))
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in sums(6, pool=True)))
    return path


def make_run(folder: Path, **more: Any) -> Path:
    """A run of every protocol of ``PROTOCOLS``, judged in both modes."""
    task, run = task_file(folder), folder / "run"
    asked = {"model": "m", "samples": 3, "protocol": ",".join(PROTOCOLS), "mode": "both", "bootstrap": 100}
    engine = {"engine": "export_runs:Hostile", "verifier_workers": 1}
    evaluate(**{**asked, **engine, **more}, tasks=str(task), output=run)
    return run


def stored(run: Path, task: str = "sums") -> list[Attempt]:
    """The attempts of a run as they stand on its disk."""
    lines = (run / "attempts" / f"{task}.jsonl").read_bytes().split(b"\n")
    return [Attempt.from_json(json.loads(line)) for line in lines if line]


def verdicts(run: Path, protocol: str, turn: int, task: str = "sums") -> dict[tuple[str, str], list[Any]]:
    """By problem and text, sorted, every verdict's state and answer in every mode."""
    found: dict[tuple[str, str], list[Any]] = {}
    for a in stored(run, task):
        if (a.protocol, a.turn) == (protocol, turn):
            said = {mode: (v.state.value, v.extracted) for mode, v in sorted(a.verdicts.items())}
            found.setdefault((a.problem, unicode_text(a.text)), []).append(said)
    return found
