"""Run directories with given verdicts, for tests of what reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cipo_eval.records import Attempt, State, Verdict

IDENTITY = {
    "data": "d",
    "prompts": "p",
    "verifier": "math",
    "think": "strip",
    "sampling": {"temperature": 1.0},
}


def make_run(folder: Path, rights: dict[str, list[str]], **more: Any) -> Path:
    """``rights``: by problem, of each sample its turns (``w``, ``r``, or another letter: wrong, with that answer): the
    first is ``direct``, the next ``self``."""
    (folder / "attempts").mkdir(parents=True)
    extent = {"turns": 2, "samples": 99, "limit": None}
    task = {**IDENTITY, "protocols": {"self": {"templates": "t", **extent}}, **more}
    info = {"schema": 1, "modes": ["fixed"], "tasks": {"arithmetic": task}}
    (folder / "run.json").write_text(json.dumps(info))
    with (folder / "attempts" / "arithmetic.jsonl").open("w") as file:
        for problem, samples in rights.items():
            for sample, turns in enumerate(samples):
                for turn, letter in enumerate(turns, start=1):
                    state = State.CORRECT if letter == "r" else State.INCORRECT
                    answer = letter if letter not in "wr" else None
                    attempt = Attempt(
                        task="arithmetic",
                        problem=problem,
                        protocol="direct" if turn == 1 else "self",
                        sample=sample,
                        turn=turn,
                        prompt_hash="x",
                        seed=1,
                        text="",
                        finish_reason="stop",
                        prompt_tokens=1,
                        completion_tokens=1,
                        seconds=None,
                        verdicts={"fixed": Verdict(correct=letter == "r", state=state, canonical=answer)},
                    )
                    file.write(json.dumps(attempt.to_json()) + "\n")
    return folder
