"""What happens to the processes of a sandbox is no verdict on a program; what a program does to itself is."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import cells

from cipo_eval.records import Mode, Problem, State
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import TestSet
from cipo_eval.verifiers.forkserver import server as fork_server
from cipo_eval.verifiers.pool import VerifierPool
from verifiers.test_code_verdict import asserts, calls

pytestmark = pytest.mark.slow
SLOW = "```python\nimport time\ndef f(x):\n    time.sleep(1.5)\n    return x + 1\n```"
"""A right program that can be met while it runs."""


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    """Of one worker, whose sandbox runs already."""
    with VerifierPool(1) as pool:
        assert pool.verify("code", problem(calls((1, 2))), "```python\ndef f(x): return 2\n```").correct
        yield pool


def problem(tests: TestSet) -> Problem:
    gold = testsets.store(tests)
    options = {"entry_point": "f"}
    return Problem(task="t", id="1", index=0, question="?", prompt="?", gold=gold, options=options)


def children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    except OSError:  # it has ended
        pass
    return sorted(found)


def sandboxes() -> list[list[int]]:
    """Of the pool's workers, each sandbox as the chain of its processes from the outermost to a program."""
    chains = []
    for worker in children(fork_server.pid or 0):
        for process in children(worker):
            chain = [process]
            while below := children(chain[-1]):
                chain.append(below[0])
            chains.append(chain)
    return chains


def met(which: int, length: int) -> list[int]:
    """The chain of a sandbox, once it has so many processes."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        found = sandboxes()
        if len(found) > which and len(found[which]) >= length and _is_started(found[which][0]):
            return found[which]
        time.sleep(0.01)
    raise AssertionError(f"no such sandbox: {sandboxes()}")


def _is_started(pid: int) -> bool:
    """Whether it has executed what it is to be: until then it is part of the worker."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes() != Path(f"/proc/{_parent(pid)}/cmdline").read_bytes()
    except OSError:
        return False


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize(
    ("number", "place"),
    cells(
        [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP],
        ["program", "zygote", "outermost", "worker"],
        one_in=3,
    ),
)
def test_a_disturbed_program_is_judged_again(pool: VerifierPool, number: signal.Signals, place: str) -> None:
    future = pool.submit("code", problem(calls((1, 2))), SLOW, None, (Mode.FIXED,))
    chain = met(0, 2)
    worker = _parent(chain[0])
    process = {"program": chain[-1], "zygote": chain[-2], "outermost": chain[0], "worker": worker}[place]
    started = time.monotonic()
    os.kill(process, number)
    verdict = future.result(timeout=60)[Mode.FIXED]
    print(f"{number.name} to {place}: {time.monotonic() - started:.1f} s")
    assert verdict.state is State.CORRECT, verdict


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_disturbed_judge_judges_again(pool: VerifierPool, number: signal.Signals) -> None:
    slow = "import time\nassert f(f(1)) == 3\ntime.sleep(1)"
    tests = asserts(slow, reference="def f(x): return x + 1")
    future = pool.submit(
        "code", problem(tests), "```python\ndef f(x): return x + 1\n```", None, (Mode.FIXED,)
    )
    os.kill(met(1, 1)[0], number)
    verdict = future.result(timeout=60)[Mode.FIXED]
    assert verdict.state is State.CORRECT, verdict


@pytest.mark.parametrize("what", ["signal.SIGKILL", "signal.SIGSTOP", "signal.SIGTERM"])
def test_a_program_that_ends_or_stops_itself_is_wrong(pool: VerifierPool, what: str) -> None:
    text = f"```python\nimport os, signal\ndef f(x):\n    os.kill(os.getpid(), {what})\n    return 0\n```"
    verdict = pool.verify("code", problem(calls((1, 2), cpu_seconds=0.2)), text)
    assert verdict.state is State.INCORRECT, verdict


def test_a_program_that_sleeps_is_too_slow(pool: VerifierPool) -> None:
    text = "```python\nimport time\ndef f(x):\n    time.sleep(60)\n    return 2\n```"
    verdict = pool.verify("code", problem(calls((1, 2), cpu_seconds=0.2)), text)
    assert (verdict.state, verdict.report["outcomes"]) == (State.INCORRECT, "1t")
