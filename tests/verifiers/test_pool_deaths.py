"""What happens to the processes of the verifier pool is no verdict: killed or stopped, the answer is judged again.

Answers that are held say where they are, so each fault meets its process in the middle of a grading.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from cipo_eval.records import Mode, Problem, State, Verdict
from cipo_eval.verifiers.forkserver import server as fork_server
from cipo_eval.verifiers.pool import VerifierPool
from cipo_eval.verifiers.workers import AHEAD

FAULTY = "verifiers.faulty:FaultyVerifier"
PROBLEM = Problem(task="t", id="1", index=0, question="?", prompt="?", gold="right")
TESTS = Path(__file__).resolve().parent.parent
SOON = 5.0
"""Seconds without a verdict that no fault may cost."""


@pytest.fixture
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2, time_limit=2.0, wall_limit=30.0) as pool:
        assert pool.verify(FAULTY, PROBLEM, "right").correct
        yield pool


def until(condition: Callable[[], bool], seconds: float = SOON) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Held:
    """An answer whose grading waits to be let go, and its neighbours."""

    def __init__(self, pool: VerifierPool, path: Path, neighbours: int = 40) -> None:
        self.path = path
        self.future = pool.submit(FAULTY, PROBLEM, f"hold {path}", None, (Mode.FIXED,))
        self.others = [
            pool.submit(FAULTY, PROBLEM, f"other {path.name} {i}", None, (Mode.FIXED,))
            for i in range(neighbours)
        ]

    def pids(self) -> list[int]:
        """Of the workers that it was given to, one after another."""
        text = self.path.read_text() if self.path.exists() else ""
        return [int(line) for line in text.split("\n")[:-1]]

    def worker(self, which: int = 0, seconds: float = SOON) -> int:
        until(lambda: len(self.pids()) > which, seconds)
        return self.pids()[which]

    def state(self) -> State:
        """Its verdict, once it is let go; those of its neighbours are what they should be."""
        self.path.with_suffix(".go").touch()
        assert {_state(future) for future in self.others} <= {State.INCORRECT}
        return _state(self.future)


def _state(future: Future[dict[Mode, Verdict]]) -> State:
    return future.result(timeout=2 * SOON)[Mode.FIXED].state


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_an_answer_whose_worker_is_killed_is_judged_again(
    pool: VerifierPool, tmp_path: Path, number: signal.Signals
) -> None:
    held = Held(pool, tmp_path / "held")
    os.kill(held.worker(), number)
    assert held.worker(1) != held.worker()
    assert held.state() is State.INCORRECT


def test_one_that_loses_two_workers_has_no_verdict_and_its_neighbours_have(
    pool: VerifierPool, tmp_path: Path
) -> None:
    held = Held(pool, tmp_path / "held")
    for which in range(2):
        os.kill(held.worker(which), signal.SIGKILL)
    assert held.state() is State.VERIFIER_ERROR
    assert "died" in held.future.result()[Mode.FIXED].detail


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_that_stop_a_run_do_not_reach_gradings(
    pool: VerifierPool, tmp_path: Path, number: signal.Signals
) -> None:
    held = Held(pool, tmp_path / "held")
    worker, server = held.worker(), fork_server.pid
    assert server is not None
    assert os.getsid(worker) != os.getsid(server) != os.getsid(0) != os.getsid(worker)
    os.kill(worker, number)
    os.kill(server, number)
    assert held.state() is State.INCORRECT
    assert len(held.pids()) == 1
    assert fork_server.pid == server
    os.kill(server, 0)


def test_a_killed_fork_server_takes_nothing_with_it(pool: VerifierPool, tmp_path: Path) -> None:
    held = Held(pool, tmp_path / "held")
    held.worker()
    server = fork_server.pid
    assert server is not None
    os.kill(server, signal.SIGKILL)
    assert held.state() is State.INCORRECT
    assert len(held.pids()) == 1
    again = Held(pool, tmp_path / "again")
    again.worker()
    until(lambda: fork_server.pid not in (None, server))
    assert again.state() is State.INCORRECT


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_fork_server_and_all_workers(pool: VerifierPool, tmp_path: Path, number: signal.Signals) -> None:
    """Also a server that is stopped, which forks nothing and does not say so."""
    held = [Held(pool, tmp_path / f"held-{i}", neighbours=0) for i in range(2)]
    workers = [one.worker() for one in held]
    others = Held(pool, tmp_path / "others")
    others.path.with_suffix(".go").touch()
    server = fork_server.pid
    assert server is not None
    os.kill(server, number)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    started = time.monotonic()
    for one in held:
        one.worker(1, 2 * SOON)
    print(f"{number.name}: {time.monotonic() - started:.1f} s")
    assert [one.state() for one in (*held, others)] == [State.INCORRECT] * 3


def test_a_stopped_worker_gives_way_to_another(pool: VerifierPool, tmp_path: Path) -> None:
    held = Held(pool, tmp_path / "held")
    worker = held.worker()
    os.kill(worker, signal.SIGSTOP)
    assert held.worker(1) != worker
    assert held.state() is State.INCORRECT
    until(lambda: not _alive(worker))


def test_a_worker_that_is_killed_while_it_has_nothing_to_do(pool: VerifierPool) -> None:
    pid = int(pool.verify(FAULTY, PROBLEM, "x").detail.split("pid ")[1])
    os.kill(pid, signal.SIGKILL)
    assert pool.verify(FAULTY, PROBLEM, "y").state is State.INCORRECT
    os.kill(int(pool.verify(FAULTY, PROBLEM, "z").detail.split("pid ")[1]), signal.SIGSTOP)
    assert {pool.verify(FAULTY, PROBLEM, f"z{i}").state for i in range(8)} == {State.INCORRECT}


def test_answers_behind_a_slow_one_do_not_wait_for_it(pool: VerifierPool, tmp_path: Path) -> None:
    """Both workers hold an answer and have been given others already; one is let go."""
    held = [Held(pool, tmp_path / f"held-{i}", neighbours=0) for i in range(2)]
    for one in held:
        one.worker()
    behind = [
        pool.submit(FAULTY, PROBLEM, f"behind {i}", None, (Mode.FIXED,)) for i in range(2 * (AHEAD - 1))
    ]
    time.sleep(0.2)
    assert held[0].state() is State.INCORRECT
    assert {_state(future) for future in behind} == {State.INCORRECT}
    assert not held[1].future.done()


def test_answers_that_kill_their_workers_are_no_storm_of_forks() -> None:
    from cipo_eval.verifiers.workers import STARTS_A_SECOND

    with VerifierPool(2) as pool:
        assert pool.verify(FAULTY, PROBLEM, "right").correct
        started, problems = time.monotonic(), [f"{i}" for i in range(25)]
        futures = [
            pool.submit(
                FAULTY,
                Problem(task="t", id=i, index=0, question="", prompt="", gold=i),
                "die",
                None,
                (Mode.FIXED,),
            )
            for i in problems
        ]
        assert {_state(future) for future in futures} == {State.VERIFIER_ERROR}
        deaths, burst = 2 * len(problems), 2 * pool.workers + 10
        assert time.monotonic() - started >= (deaths - burst) / STARTS_A_SECOND - 0.5
        assert pool.verify(FAULTY, PROBLEM, "right").correct


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.slow
def test_time_in_which_the_parent_is_stopped_counts_for_nobody(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys
            from cipo_eval.records import Mode, Problem
            from cipo_eval.verifiers.pool import VerifierPool
            if __name__ == "__main__":
                problem = Problem(task="t", id="1", index=0, question="", prompt="", gold="")
                with VerifierPool(1, time_limit=1, wall_limit=2) as pool:
                    print(pool.verify("{FAULTY}", problem, "hold {tmp_path / "held"}").state.value)
            """
        )
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(TESTS), *sys.path]))}
    parent = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, env=environment)
    until((tmp_path / "held").exists, 30)
    parent.send_signal(signal.SIGSTOP)
    time.sleep(3)
    parent.send_signal(signal.SIGCONT)
    time.sleep(0.3)
    (tmp_path / "held.go").touch()
    assert parent.communicate(timeout=20)[0].strip() == "incorrect"


@pytest.mark.slow
def test_verdicts_are_the_same_beside_eight_spinning_processes() -> None:
    """Answers on either side of the limit of processor time: wall time would judge them otherwise."""
    answers = ["right", "spin 0.6", "spin 0.7", "spin 100"]
    wanted = [State.CORRECT, State.INCORRECT, State.INCORRECT, State.VERIFIER_TIMEOUT]
    found = []
    for spinning in (0, 8):
        beside = [subprocess.Popen([sys.executable, "-c", "while 1: pass"]) for _ in range(spinning)]
        try:
            with VerifierPool(2, time_limit=1.0) as pool:
                futures = [pool.submit(FAULTY, PROBLEM, answer, None, (Mode.FIXED,)) for answer in answers]
                found.append([future.result(timeout=60)[Mode.FIXED].state for future in futures])
        finally:
            for process in beside:
                process.kill()
                process.wait()
    assert found == [wanted, wanted]


def test_a_fork_of_this_process_has_a_server_of_its_own(pool: VerifierPool) -> None:
    """Also one that is made in the moment in which another thread starts a worker."""
    before = fork_server.pid
    with fork_server._lock:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                with VerifierPool(1) as own:
                    verdict = own.verify(FAULTY, PROBLEM, "right")
                    code = 0 if verdict.correct and fork_server.pid != before else 2
            finally:
                os._exit(code)
    try:
        until(lambda: os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None, 30)
    finally:
        os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert fork_server.pid == before
    assert pool.verify(FAULTY, PROBLEM, "y").state is State.INCORRECT
