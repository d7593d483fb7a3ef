"""Judging is pulled: whatever the verifiers' threads do, attempts are taken, kept and followed in one thread."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from commands import Commands, turns

from cipo_eval.run import judging
from cipo_eval.run.runner import Run

FOLLOWED = (
    "--protocol",
    "direct,self",
    "--samples",
    "3",
    "--limit",
    "4",
    "--max-tokens",
    "8",
    "--engine",
    "hf",
)


def test_attempts_are_kept_by_the_thread_that_generates(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also with room for one verdict at a time: generating pauses, and nothing is lost or doubled."""
    monkeypatch.setattr(judging, "IN_FLIGHT", 1)
    threads, keep = set(), Run._keep

    def kept(run: Run, attempt: Any) -> None:
        threads.add(threading.current_thread())
        keep(run, attempt)

    monkeypatch.setattr(Run, "_keep", kept)
    command = ("run", "--model", tiny_checkpoint, "--tasks", "arithmetic", *FOLLOWED, "-o", tmp_path / "run")
    assert cipo(*command, "--quiet").code == 0
    stored = turns(tmp_path / "run", "arithmetic")
    assert len(stored) == 4 * 3 * 2
    assert all(attempt["verdicts"] for attempt in stored.values())
    assert threads == {threading.main_thread()}
