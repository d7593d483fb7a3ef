"""The verifier pool: hangs, crashes and memory bombs cost one verdict each; equal pairs are graded once."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.errors import UsageError
from cipo_eval.records import Mode, Problem, State
from cipo_eval.verifiers.pool import VerifierPool

FAULTY = "verifiers.faulty:FaultyVerifier"
PROBLEM = Problem(task="t", id="1", index=0, question="?", prompt="?", gold="right")


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, time_limit=2.0, memory_limit=2 << 30, wall_limit=2.0) as pool:
        yield pool


def state(pool: VerifierPool, text: str) -> State:
    return pool.verify(FAULTY, PROBLEM, text).state


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("right", State.CORRECT),
        ("wrong", State.INCORRECT),
        ("", State.NO_ANSWER),
        ("hang", State.VERIFIER_TIMEOUT),
        ("hang in C", State.VERIFIER_TIMEOUT),
        ("spin 100", State.VERIFIER_TIMEOUT),
        ("die", State.VERIFIER_ERROR),
        ("exit", State.VERIFIER_ERROR),
        ("give up", State.VERIFIER_ERROR),
        ("raise", State.VERIFIER_ERROR),
        ("raise early", State.VERIFIER_ERROR),
        ("memory", State.VERIFIER_ERROR),
    ],
)
def test_each_fault_costs_one_verdict_and_the_next_is_right(
    pool: VerifierPool, text: str, expected: State
) -> None:
    assert state(pool, text) is expected
    assert state(pool, f"wrong after {text}") is State.INCORRECT
    assert state(pool, "right") is State.CORRECT


def test_hangs_do_not_hold_up_their_neighbours(pool: VerifierPool) -> None:
    started = time.monotonic()
    futures = [
        pool.submit(FAULTY, PROBLEM, f"{'hang' if i == 5 else 'ok'} {i}", None, (Mode.FIXED,))
        for i in range(200)
    ]
    states = [f.result()[Mode.FIXED].state for f in futures]
    assert states.count(State.INCORRECT) == 199
    assert states[5] is State.VERIFIER_TIMEOUT
    assert time.monotonic() - started < 15


def test_equal_pairs_are_graded_once_and_modes_apart(pool: VerifierPool) -> None:
    before = pool.graded
    modes = (Mode.FIXED, Mode.PAPER)
    futures = [pool.submit(FAULTY, PROBLEM, "the same wrong answer", None, modes) for _ in range(50)]
    verdicts = [f.result() for f in futures]
    assert pool.graded == before + len(modes)
    assert all(set(v) == set(modes) for v in verdicts)


def test_a_mode_may_be_named_by_a_word(pool: VerifierPool) -> None:
    """A trap: verifiers ask ``mode is Mode.PAPER``, which no plain text is."""
    problem = replace(PROBLEM, gold="1.5")
    fixed, paper = (pool.verify("math", problem, r"\boxed{150\%}", None, mode) for mode in Mode)
    assert fixed.detail != paper.detail
    word: Any = "paper"
    assert replace(pool.verify("math", problem, r"\boxed{150\%}", None, word), seconds=0) == replace(
        paper, seconds=0
    )
    assert set(pool.submit("math", problem, "", None, (word,)).result()) == {Mode.PAPER}
    unknown: Any = "papper"
    with pytest.raises(UsageError, match=r"papper.*paper"):
        pool.verify("math", problem, "1.5", None, unknown)


def test_any_thread_may_use_it(pool: VerifierPool) -> None:
    found: list[State] = []
    threads = [threading.Thread(target=lambda: found.append(state(pool, "right"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [State.CORRECT] * 8


def test_closing_cancels_what_is_under_way_and_invents_no_verdict() -> None:
    pool = VerifierPool(1, time_limit=60)
    futures = [pool.submit(FAULTY, PROBLEM, f"hang {i}", None, (Mode.FIXED,)) for i in range(4)]
    time.sleep(2)
    pool.close()
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(timeout=10)


@pytest.mark.slow
@pytest.mark.parametrize("answer", ["ok", "hang", "hang in C"])
def test_workers_die_with_a_killed_parent(tmp_path: Path, answer: str) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, time
            sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
            from cipo_eval.records import Mode, Problem
            from cipo_eval.verifiers.pool import VerifierPool
            if __name__ == "__main__":
                problem = Problem(task="t", id="1", index=0, question="", prompt="", gold="")
                pool = VerifierPool(1, time_limit=2)
                print(pool.verify("{FAULTY}", problem, "x").detail.split("pid ")[1], flush=True)
                pool.submit("{FAULTY}", problem, "{answer}", None, (Mode.FIXED,))
                time.sleep(600)
            """
        )
    )
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    worker = int(parent.stdout.readline())
    time.sleep(0.5)
    parent.kill()
    parent.wait()
    for _ in range(150):
        status = Path(f"/proc/{worker}/stat")
        if not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z":  # a zombie is dead
            return
        time.sleep(0.1)
    pytest.fail(f"worker {worker} outlived its parent")


def test_what_is_remembered_holds_on_to_nobody_who_waited(pool: VerifierPool) -> None:
    """Grades stay; the futures of attempts that waited for one (with their texts behind them) do not."""
    waiting = [pool.submit(FAULTY, PROBLEM, "wrong as others", None, [Mode.FIXED]) for _ in range(20)]
    verdicts = [of.result()[Mode.FIXED] for of in waiting]
    references = [weakref.ref(of) for of in waiting]
    del waiting
    gc.collect()
    assert [reference() for reference in references] == [None] * 20
    again = pool.submit(FAULTY, PROBLEM, "wrong as others", None, [Mode.FIXED])
    assert again.done()
    assert again.result()[Mode.FIXED].state is verdicts[0].state is State.INCORRECT
