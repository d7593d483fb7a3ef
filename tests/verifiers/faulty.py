"""A verifier that does in its worker whatever the answer says: what a fault in symbolic mathematics looks like."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cipo_eval.records import Extraction, Grade, Mode, Problem, State


def spin(seconds: float) -> None:
    """So much processor time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def hold(path: Path) -> None:
    """Says in ``path`` which process is here, a line each, and goes on once ``path.go`` is there."""
    with path.open("a") as file:
        file.write(f"{os.getpid()}\n")
    while not path.with_suffix(".go").exists():
        time.sleep(0.01)


class FaultyVerifier:
    name = "faulty"

    def extract(self, problem: Problem, text: str, finish_reason: str | None, mode: Mode) -> Extraction:  # noqa: ARG002
        if text == "raise early":
            raise ValueError("in extraction")
        if not text:
            return Extraction(answer=None, state=State.NO_ANSWER, how="nothing there")
        return Extraction(answer=text, how="all of it")

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:  # noqa: ARG002
        return None

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade:  # noqa: ARG002
        if answer == "hang in C":
            sum(iter(int, 1))
        if answer.startswith("hang"):
            time.sleep(600)
        if answer.startswith("spin"):
            spin(float(answer.removeprefix("spin")))
        if answer.startswith("hold"):
            hold(Path(answer.removeprefix("hold ")))
        if answer == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if answer == "exit":
            os._exit(3)
        if answer == "give up":
            return Grade(correct=False, canonical="", method="RecursionError", failed=True)
        if answer == "raise":
            raise RuntimeError("in grading")
        if answer == "memory":
            return Grade(correct=bool(bytearray(64 << 30)), canonical="")
        return Grade(correct=answer == gold, canonical=answer, method=f"pid {os.getpid()}")
