"""Ctrl-C, twice, SIGTERM, SIGHUP: the exit code says which, what was judged is kept, the same command goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import Commands, attempts

pytestmark = pytest.mark.slow
TESTS = Path(__file__).resolve().parent.parent


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "cipo_eval", *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder, env=environment)


def wait_for_attempts(path: Path, number: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not path.exists() or path.read_bytes().count(b"\n") < number:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "sign",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.exhaustive),  # as in the matrix of test_faults
        pytest.param(signal.SIGHUP, marks=pytest.mark.exhaustive),
    ],
)
def test_an_interrupted_run_keeps_what_it_has(
    tiny_checkpoint: Path, tmp_path: Path, sign: signal.Signals, cipo: Commands
) -> None:
    command = (
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        "arithmetic",
        "--samples",
        "4",
        "--max-tokens",
        "40",
    )
    command += ("--batch-tokens", "400", "-o", tmp_path / "run")
    process = start(tmp_path, *command)
    path = tmp_path / "run" / "attempts" / "arithmetic.jsonl"
    wait_for_attempts(path, 20, process)
    process.send_signal(sign)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + sign, err
    assert "are kept" in err
    assert "Traceback" not in err
    stored = attempts(tmp_path / "run", "arithmetic")
    assert 20 <= len(stored) < 800
    assert not (tmp_path / "run" / "results.json").exists()
    assert {row["verdicts"]["fixed"]["state"] for row in stored.values()} <= {
        "correct",
        "incorrect",
        "no_answer",
        "truncated",
    }
    assert cipo(*command, "--limit", "10", "--quiet").code == 0
    assert stored.items() <= attempts(tmp_path / "run", "arithmetic").items()


def test_a_second_interrupt_does_not_wait_for_a_hung_verifier(tmp_path: Path) -> None:
    """Twenty answers are judged at once, one hangs its verifier for ten minutes."""
    rows = [{"id": f"p{i}", "question": f"{i}+{i}=", "answer": str(2 * i)} for i in range(21)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "own.yaml").write_text(
        "include: _cipo_math.yaml\ntask: own\nmetadata:\n  cipo:\n"
        "    verifier: 'verifiers.faulty:FaultyVerifier'\n"
        "    columns: {question: question, gold: answer, id: id}\n"
        "    sources: [{kind: embedded, path: items.jsonl}]\n"
    )
    texts = [{"problem_id": row["id"], "text": row["answer"] if i else "hang"} for i, row in enumerate(rows)]
    (tmp_path / "outputs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    command = ("score", "outputs.jsonl", "--task", "own.yaml", "--verifier-timeout", "600", "-o", "run")
    process = start(tmp_path, *command)
    wait_for_attempts(tmp_path / "run" / "attempts" / "own.jsonl", 20, process)
    process.send_signal(signal.SIGINT)
    time.sleep(2)
    assert process.poll() is None  # waiting for the one that hangs, as it says
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "waiting for 1 verdict" in err
    assert "20 of 21 attempts are kept" in err
    stored = attempts(tmp_path / "run", "own")
    assert sorted(map(len, (row["verdicts"] for row in stored.values()))) == [0] + [1] * 20
