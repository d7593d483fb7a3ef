"""Shells complete commands, options and names of tasks, although commands are made when they are called."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = "from cipo_eval.cli import main; import sys; sys.argv[0] = 'cipo-eval'; main()"


def completed(*words: str) -> list[str]:
    """What bash is offered for the last of these words."""
    line = {
        "COMP_WORDS": " ".join(("cipo-eval", *words)),
        "COMP_CWORD": str(len(words)),
        "_CIPO_EVAL_COMPLETE": "complete_bash",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, **line},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["res"], ["rescore"]),
        (["run", "--max-t"], ["--max-tokens"]),
        (["run", "--tasks", "math,aime"], ["math,aime24", "math,aime25", "math,aime26"]),
    ],
)
def test_shells_complete(words: list[str], offered: list[str]) -> None:
    assert completed(*words) == offered


def test_the_script_asks_for_that() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "--show-completion", "bash"],
        env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_CIPO_EVAL_COMPLETE=complete_bash" in done.stdout
    assert "complete -o default -F _cipo_eval_completion cipo-eval" in done.stdout
