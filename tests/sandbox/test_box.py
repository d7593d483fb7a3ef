"""The sandbox in a program's life: threads, forks, event loops, interruptions; and nothing stays behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.errors import MissingError
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Call, Lane, Sandbox, Series
from cipo_eval.sandbox.launch import LAYERS, Tier
from cipo_eval.sandbox.worker import Job, Reason, SandboxError, Worker
from sandbox.attacks.stage import descendants
from sandbox.drivers import ROOT

SQUARE = "def f(x): return x * x\n"
SLEEP = "import time\ndef f(x):\n    time.sleep(x)\n    return x\n"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Each test runs at one tier, which its name decides, and with ``-m exhaustive`` at the other."""
    if "tier" in metafunc.fixturenames:
        first = zlib.crc32(metafunc.function.__name__.encode()) % 2 == 0
        marks: dict[str, list[pytest.MarkDecorator]] = {"1": [pytest.mark.slow], "2": []}
        marks["2" if first else "1"].append(pytest.mark.exhaustive)
        tiers = [pytest.param(tier, marks=each) for tier, each in marks.items()]
        metafunc.parametrize("tier", tiers, indirect=True)


@pytest.fixture
def tier(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each tier that works here."""
    probed = probe.probe(Tier(int(request.param)))
    if not probed.works:
        pytest.skip(f"no tier {request.param} here: {probed.detail}")
    monkeypatch.setenv(probe.TIER_VARIABLE, request.param)
    return str(request.param)


def job(program: str = SQUARE, number: float = 3, **more: Any) -> Job:
    return Job(program=program, kind="calls", target="f", tests=[{"args": [number]}], **more)


def values(box: Sandbox, number: int) -> list[Any]:
    result = box.run(SQUARE, calls=[Call(args=[number]), Call(args=[number + 1])], target="f")
    return [outcome.value for outcome in result.outcomes]


def gone(pids: set[int], seconds: float = 2.0) -> bool:
    """Whether processes end within a time (a zombie has ended)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(alive(pid) for pid in pids):
            return True
        time.sleep(0.02)
    return False


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """No process, thread or descriptor stays."""
    before = set(descendants(os.getpid())), threading.active_count(), len(os.listdir("/proc/self/fd"))
    yield
    gc.collect()
    left = set(descendants(os.getpid())) - before[0]
    assert gone(left), left
    assert threading.active_count() <= before[1]
    assert len(os.listdir("/proc/self/fd")) <= before[2]


# --- ways to run programs --------------------------------------------------------------------------------------


def test_results(tier: str) -> None:
    with nothing_left(), Sandbox(workers=1) as box:
        result = box.run(
            "def f(x, y=1): return [x / y]\n",
            calls=[Call(args=[3]), Call(args=[3], kwargs={"y": 2}), Call(args=[1, 0]), Call(args=["a"])],
            target="f",
        )
        assert [outcome.value for outcome in result.outcomes] == [[3.0], [1.5], None, None]
        assert result.outcomes[2].error == "ZeroDivisionError: division by zero"
        assert "line 1, in f" in result.outcomes[2].traceback
        assert result.end.reason is Reason.EXIT
        assert result.tier == int(tier)
        printed = box.run("import sys\nprint(int(input()) * 2)\nsys.exit(3)\n", stdin=["4\n", "5\n", "x\n"])
        assert [(o.stdout, o.exit_code) for o in printed.outcomes] == [(b"8\n", 3), (b"10\n", 3), (b"", 1)]
        assert b"invalid literal" in printed.outcomes[2].stderr


def test_no_more_outcomes_than_calls(tier: str) -> None:
    """Whatever a program writes to wherever its results go."""
    say = "import os\nfor fd in range(3, 64):\n    try: os.write(fd, b'[\"v\",1]\\n' * 50)\n    except OSError: pass\n"
    with Sandbox(workers=1) as box:
        for program in (
            say + "def f(x): return 2\n",
            "def f(x):\n    " + say.replace("\n", "\n    ") + "return 2\n",
        ):
            assert len(box.run(program, calls=[Call(args=[1])], target="f").outcomes) <= 1
            assert values(box, 2) == [4, 9]


def test_time_limits(tier: str) -> None:
    with Sandbox(workers=1) as box:
        endless = box.run(
            "def f(x):\n    while x: pass\n",
            calls=[Call(args=[0]), Call(args=[1])],
            target="f",
            cpu_seconds=0.3,
        )
        assert [outcome.value for outcome in endless.outcomes] == [None]
        assert endless.end.reason is Reason.CPU
        assert endless.timed_out
        assert 0.3 <= endless.end.cpu < 0.6
        asleep = box.run(SLEEP, calls=[Call(args=[0]), Call(args=[60])], target="f", cpu_seconds=0.02)
        assert asleep.end.reason is Reason.WALL
        assert asleep.end.wall < 4


def test_a_program_that_sleeps_in_each_test_comes_to_an_end(
    tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits for each test do not add up to hours: the whole has a limit, too, of which the sandbox does not break."""
    many = Job(
        program=SLEEP, kind="calls", target="f", tests=[{"args": [0.05]}] * 1000, cpu=(0.2,), total=0.2
    )
    assert many.wall < 15
    monkeypatch.setattr(Job, "wall", property(lambda _: 1.5))
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        records, end = worker.collect(many)
        assert end.reason is Reason.WALL
        assert 1.5 <= end.wall < 3
        assert 1 < len(records) < 60
        assert worker.restarts == 0


def test_threads_of_programs_work(tier: str) -> None:
    """As they do in a subprocess: without and with a size of their stack."""
    program = """
import sys, threading
def deep(n): return 0 if n == 0 else 1 + deep(n - 1)
def f(size):
    if size: threading.stack_size(size)
    sys.setrecursionlimit(10 ** 6)
    values_of_threads = []
    threads = [threading.Thread(target=lambda: values_of_threads.append(deep(size and 50_000 or 500))) for _ in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return values_of_threads
"""
    with Sandbox(workers=1) as box:
        result = box.run(program, calls=[Call(args=[0]), Call(args=[1 << 27])], target="f")
        assert [outcome.value for outcome in result.outcomes] == [[500] * 4, [50_000] * 4], result


def test_from_a_thread(tier: str) -> None:
    """The sandbox outlives a thread that used it first."""
    found: list[Any] = []
    with nothing_left(), Sandbox(workers=1) as box:
        thread = threading.Thread(target=lambda: found.append(values(box, 3)))
        thread.start()
        thread.join()
        assert found == [[9, 16]]
        assert values(box, 4) == [16, 25]
        assert box.restarts == 0


def test_from_many_threads(tier: str) -> None:
    with nothing_left(), Sandbox(workers=2) as box, ThreadPoolExecutor(12) as pool:
        found = list(pool.map(lambda number: values(box, number), range(120)))
    assert found == [[n * n, (n + 1) ** 2] for n in range(120)]


def test_a_lane_from_one_thread_after_another(tier: str) -> None:
    """Each thread ends before the next begins; what a sandbox process hangs on must not be the thread that started it."""
    lane = Lane(Tier(int(tier)))
    try:
        for number in range(6):
            told: list[Any] = []
            thread = threading.Thread(
                target=lambda n=number: told.append(lane.sample("").collect(job(number=n))[0])
            )
            thread.start()
            thread.join()
            assert told == [[["l"], ["v", number * number]]]
        assert lane.restarts == 0
    finally:
        lane.close()


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_in_a_child_process(tier: str, method: str) -> None:
    """Children that have sandboxes of their own, beside one of their parent's."""
    context = multiprocessing.get_context(method)
    before = sandboxes()  # the one this process shares among its verifiers may be among them
    with Sandbox(workers=1) as box:
        assert values(box, 1) == [1, 4]
        with context.Pool(2) as pool:
            assert pool.map(_in_child, range(4)) == [[n * n, (n + 1) ** 2] for n in range(4)]
        assert values(box, 2) == [4, 9]
        assert box.restarts == 0
    assert gone(sandboxes() - before)


def sandboxes() -> set[int]:
    """Sandbox processes below this one (multiprocessing leaves some of its own)."""
    pids = set()
    for pid in descendants(os.getpid()):
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if words[0].endswith(b"bwrap") or b"-P" in words:
                pids.add(pid)
    return pids


def _in_child(number: int) -> list[Any]:
    with Sandbox(workers=1) as box:
        return values(box, number)


def test_a_fork_uses_its_parents_sandbox(tier: str) -> None:
    """It gets processes of its own; the parent's go on, and end with the parent alone."""
    with nothing_left(), Sandbox(workers=1) as box:
        assert values(box, 1) == [1, 4]
        lane = Lane(Tier(int(tier)))
        assert lane.sample("").collect(job())[0][1] == ["v", 9]
        pids = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                code = 1
                with contextlib.suppress(BaseException):
                    found = values(box, 5), lane.sample("").collect(job(number=6))[0][1]
                    lane.close()
                    box.close()
                    code = 0 if found == ([25, 36], ["v", 36]) else 2
                os._exit(code)
            pids.append(pid)
        for number in range(20):
            assert values(box, number) == [number**2, (number + 1) ** 2]
            assert lane.sample("").collect(job(number=number))[0][1] == ["v", number**2]
        assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids] == [0, 0, 0]
        assert box.restarts + lane.restarts == 0
        lane.close()


def test_a_fork_does_not_keep_a_sandbox_alive(tier: str) -> None:
    """Its copies of the pipes are closed."""
    worker = Worker(LAYERS[Tier(int(tier))])
    worker.ensure()
    pid = os.fork()
    if pid == 0:
        time.sleep(20)
        os._exit(0)
    try:
        time.sleep(0.1)
        process = worker._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        process.wait(3)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        worker.close()


def test_after_fork_in_a_thread_under_load(tier: str) -> None:
    """Forks while other threads are in the middle of jobs."""
    with Sandbox(workers=2) as box, ThreadPoolExecutor(2) as pool:
        running = [pool.submit(values, box, number) for number in range(60)]
        for _ in range(8):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        assert [one.result() for one in running] == [[n * n, (n + 1) ** 2] for n in range(60)]
        assert box.restarts == 0


# --- event loops -----------------------------------------------------------------------------------------------


def test_results_as_they_come(tier: str) -> None:
    """At most twice as many jobs as workers are taken beyond the results that were given."""
    taken = given = most = 0

    def jobs() -> Iterator[Job]:
        nonlocal taken, most
        for number in range(40):
            taken += 1
            most = max(most, taken - given)
            yield job(number=number)

    async def collect(box: Sandbox) -> dict[int, Any]:
        nonlocal given
        found = {}
        async for one, result in box.results(jobs()):
            given += 1
            found[one.tests[0]["args"][0]] = result.outcomes[0].value
            await asyncio.sleep(0.002)  # a slow reader
        return found

    with nothing_left(), Sandbox(workers=2) as box:
        assert asyncio.run(collect(box)) == {number: number * number for number in range(40)}
    assert most <= 5  # four under way, and the one that is being taken


def test_results_go_on_after_a_breakdown(tier: str) -> None:
    """The program under way comes with the error; the others have their results."""

    async def collect(box: Sandbox) -> list[Any]:
        found = []
        async for _, result in box.results([job(SLEEP, 30), *(job(number=n) for n in range(9))]):
            found.append(result if isinstance(result, SandboxError) else result.outcomes[0].value)
            if len(found) == 9:  # all but the one that sleeps
                workers = [worker for lane in box._lanes for worker in lane._workers.values()]
                while not all(
                    worker.hello for worker in workers
                ):  # one may still be starting: it has no program yet
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.5)
                pids = {worker.pid for worker in workers if worker.pid is not None}
                for pid in pids:
                    os.kill(pid, signal.SIGKILL)
                # One that is still dying looks alive to whoever gives it the next program. Whether its lane or this
                # thread is the one that sees its end first is open, so nobody waits for it here: it is looked at.
                assert gone(pids, 30)
        return found

    with nothing_left(), Sandbox(workers=2) as box:
        found = asyncio.run(collect(box))
        assert sorted(found[:9]) == [n * n for n in range(9)]
        assert isinstance(found[9], SandboxError)
        assert values(box, 3) == [9, 16]
        assert box.restarts >= 1


def test_several_readers_at_once(tier: str) -> None:
    async def collect(box: Sandbox, start: int) -> list[int]:
        jobs = (job(number=number) for number in range(start, start + 25))
        return sorted([result.outcomes[0].value async for _, result in box.results(jobs)])

    async def all_of_them(box: Sandbox) -> list[list[int]]:
        return await asyncio.gather(*(collect(box, start) for start in (0, 100, 200)))

    with Sandbox(workers=2) as box:
        found = asyncio.run(all_of_them(box))
    assert found == [[n * n for n in range(start, start + 25)] for start in (0, 100, 200)]


def test_the_event_loop_goes_on(tier: str) -> None:
    """While programs run and while the queue is full."""

    async def beside(box: Sandbox) -> float:
        worst, last = 0.0, time.monotonic()

        async def tick() -> None:
            nonlocal worst, last
            while True:
                await asyncio.sleep(0.01)
                worst, last = max(worst, time.monotonic() - last), time.monotonic()

        ticking = asyncio.create_task(tick())
        async for _ in box.results(job(SLEEP, 0.2) for _ in range(8)):
            pass
        ticking.cancel()
        return worst

    with Sandbox(workers=2) as box:
        assert asyncio.run(beside(box)) < 0.5


def test_a_reader_that_leaves(tier: str) -> None:
    """What it had taken is finished; the sandbox works for others."""

    async def first(box: Sandbox) -> int:
        async for _, result in box.results(job(number=n) for n in range(1000)):
            return int(result.outcomes[0].value)
        return -1

    with nothing_left(), Sandbox(workers=2) as box:
        assert asyncio.run(first(box)) >= 0
        assert values(box, 3) == [9, 16]


def test_the_queue_is_bounded(tier: str) -> None:
    """``submit`` waits rather than pile up."""
    with Sandbox(workers=1) as box:
        for _ in range(3):
            box.submit(job(SLEEP, 0.3))
        time.sleep(0.1)
        started = time.monotonic()
        box.submit(job(SLEEP, 0.01))
        assert time.monotonic() - started > 0.1


# --- when things break -------------------------------------------------------------------------------------------


def sealed(pid: int) -> set[int]:
    """The process itself, inside bubblewrap or not: the one that has no children before a job."""
    return {pid, *descendants(pid)}


def test_a_killed_sandbox_is_counted_and_replaced(tier: str) -> None:
    """In the middle of a job; the next one is fine."""
    lane = Lane(Tier(int(tier)))
    try:
        worker = lane.sample("")
        worker.ensure()
        assert worker.pid is not None
        victims = sealed(worker.pid)
        threading.Timer(0.3, lambda: [os.kill(pid, signal.SIGKILL) for pid in victims if alive(pid)]).start()
        with pytest.raises(SandboxError):
            worker.run(job(SLEEP, 30), lambda *_: True)
        assert lane.restarts == 1
        assert worker.collect(job())[0] == [["l"], ["v", 9]]
        assert gone(victims)
    finally:
        lane.close()


def test_the_innermost_process_killed(tier: str) -> None:
    """Only the sealed process, not what bubblewrap has around it: the sample must not live on."""
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        worker.ensure()
        assert worker.pid is not None
        found: set[int] = set()

        def kill() -> None:
            inside = sealed(worker.pid or 0)
            found.update(inside)
            innermost = [pid for pid in inside if not descendants(pid)]
            parents = [pid for pid in inside if set(descendants(pid)) == set(innermost)]
            os.kill(parents[0], signal.SIGKILL)

        threading.Timer(0.4, kill).start()
        with pytest.raises(SandboxError):
            worker.run(job(SLEEP, 30), lambda *_: True)
        assert len(found) >= 2
        assert gone(found)
        assert worker.collect(job())[0] == [["l"], ["v", 9]]


def test_a_sandbox_killed_between_jobs_is_replaced(tier: str) -> None:
    """Nobody notices."""
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        for _ in range(3):
            assert worker.collect(job())[0] == [["l"], ["v", 9]]
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            assert gone({worker.pid})
        assert worker.restarts == 0


def test_a_stopped_sandbox_is_replaced(tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It falls silent, and counts as broken after a while."""
    monkeypatch.setattr("cipo_eval.sandbox.worker.GRACE", 0.5)
    monkeypatch.setattr(Job, "wall", property(lambda _: 0.5))
    with nothing_left(), Worker(LAYERS[Tier(int(tier))]) as worker:
        worker.ensure()
        for pid in sealed(worker.pid or 0):
            os.kill(pid, signal.SIGSTOP)
        with pytest.raises(SandboxError):
            worker.run(job(), lambda *_: True)
        assert worker.collect(job())[0] == [["l"], ["v", 9]]


def test_one_broken_job_leaves_the_others(tier: str) -> None:
    with Sandbox(workers=2) as box:
        assert values(box, 2) == [4, 9]
        slow = box.submit(job(SLEEP, 30))
        idle = {"1": 2, "2": 0}[
            tier
        ]  # processes below a sandbox without a program: bubblewrap's two, or none
        busy: list[int] = []
        end = time.monotonic() + 30
        while not busy and time.monotonic() < end:  # until the program runs
            time.sleep(0.1)
            ready = [w.pid for lane in box._lanes for w in lane._workers.values() if w.pid and w.hello]
            busy = [pid for pid in ready if len(descendants(pid)) > idle]
        for pid in busy:
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(SandboxError):
            slow.result(20)
        assert [values(box, n) for n in range(5)] == [[n * n, (n + 1) ** 2] for n in range(5)]
        assert box.restarts >= 1


def test_neighbours_of_a_thread_bomb(tier: str) -> None:
    """Threads may be counted by user; another sandbox can fork all the same."""
    bomb = """
import ctypes, time
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
def f(x):
    count = 0
    while count < 20000:
        at = libc.mmap(None, ctypes.c_size_t(8192), 3, 0x22, -1, ctypes.c_long(0))
        if at == (1 << 64) - 1 or libc.clone(ctypes.cast(libc.pause, ctypes.c_void_p), ctypes.c_void_p(at + 8128), 0x10900,
                                              None) < 0: break
        count += 1
    time.sleep(x)
    return count
"""
    with Worker(LAYERS[Tier(int(tier))]) as one, Worker(LAYERS[Tier(int(tier))]) as other:
        one.ensure()
        other.ensure()
        told: list[Any] = []
        thread = threading.Thread(target=lambda: told.append(one.collect(job(bomb, 1.5))[0]))
        thread.start()
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            assert other.collect(job())[0] == [["l"], ["v", 9]]
        thread.join()
        assert other.restarts == 0
        assert 1 < told[0][1][1] < 10_000


def test_a_closed_sandbox_takes_nothing(tier: str) -> None:
    box = Sandbox(workers=1)
    box.close()
    box.close()
    with pytest.raises(SandboxError, match="closed"):
        box.run(SQUARE, calls=[Call(args=[1])], target="f")


def test_closing_finishes_what_was_submitted(tier: str) -> None:
    with nothing_left():
        box = Sandbox(workers=1)
        running = [box.submit(job(SLEEP, 0.1)) for _ in range(3)]
        box.close()
        assert [one.result(0).outcomes[0].value for one in running] == [0.1] * 3


def test_an_exception_does_not_wait_for_programs(tier: str) -> None:
    """Ctrl-C within ``with``: what is under way is given up."""
    started = time.monotonic()
    with nothing_left(), pytest.raises(KeyboardInterrupt), Sandbox(workers=1) as box:
        for _ in range(3):
            box.submit(job(SLEEP, 25))
        time.sleep(0.3)
        raise KeyboardInterrupt
    assert time.monotonic() - started < 6


def test_descriptors_and_processes_do_not_grow(tier: str) -> None:
    with Sandbox(workers=1) as box:
        values(box, 1)
        before = len(os.listdir("/proc/self/fd")), len(descendants(os.getpid()))
        for number in range(200):
            box.run(
                SQUARE if number % 3 else "import os\nos.abort()\n", calls=[Call(args=[number])], target="f"
            )
        assert (len(os.listdir("/proc/self/fd")), len(descendants(os.getpid()))) == before


def test_a_series_of_a_hostile_program_comes_to_an_end(tier: str) -> None:
    """Each test in a fresh process where need be: one that dies, hangs or forges does not repeat for ever."""
    programs = {
        "dies": "import os\nos.abort()\n",
        "exits": "import os\nprint(1, flush=True)\nos._exit(0)\n",
        "once": "import sys, os\nif sys.stdin.read() == '1': os.abort()\nprint(1)\n",
        "forges": 'import os\nfor fd in range(3, 64):\n    try: os.write(fd, b\'["l"]\\n["p","","",0,true]\\n\' * 9)\n'
        "    except OSError: pass\nos._exit(0)\n",
        "silent": "import os\nfor fd in range(3, 64):\n    try: os.close(fd)\n    except OSError: pass\n",
    }
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        for name, program in programs.items():
            tests = [{"input": str(number)} for number in range(8)]
            series = Series(
                Job(program=program, kind="stdin", tests=tests, cpu=(0.5,)), lambda *_: True, all_tests=True
            )
            started = time.monotonic()
            series.run(worker)
            assert len(series.outcomes) <= 8, name
            assert time.monotonic() - started < 8, name
        assert worker.restarts == 0
        assert worker.collect(job())[0] == [["l"], ["v", 9]]


# --- the end of the harness --------------------------------------------------------------------------------------

DRIVER = """
import os, signal, sys, threading, time
from cipo_eval.sandbox.box import Call, Sandbox
from cipo_eval.sandbox.worker import Job
def job(program): return Job(program=program, kind='calls', target='f', tests=[{'args': [1]}], cpu=(60.0,))
def main():
    with Sandbox(workers=2) as box:
        box.run('def f(x): return x', calls=[Call(args=[1])], target='f')
        busy = [box.submit(job('def f(x):\\n    while True: pass')), box.submit(job('import time\\ndef f(x): time.sleep(99)'))]
        if sys.argv[1] == 'forked' and os.fork() == 0:
            time.sleep(99)
            os._exit(0)
        time.sleep(0.5)
        print('ready', flush=True)
        busy[1].result()
try: main()
except KeyboardInterrupt: sys.exit(130)
"""


def driver(what: str = "plain") -> subprocess.Popen[str]:
    """A harness in the middle of its work."""
    process = subprocess.Popen(
        [sys.executable, "-c", DRIVER, what],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        # a shell starts what runs in the background with interrupts ignored, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("what", ["plain", "forked"])
def test_nothing_outlives_a_killed_harness(tier: str, what: str) -> None:
    """Not even where a fork of the harness lives on, as workers of multiprocessing do."""
    process = driver(what)
    deadline = time.monotonic() + 20
    while len(below := descendants(process.pid)) < 4 + (what == "forked") and time.monotonic() < deadline:
        time.sleep(0.02)  # two workers with a program each
    forks = {pid for pid in below if "time.sleep(99)" in Path(f"/proc/{pid}/cmdline").read_text()}
    assert len(forks) == (what == "forked")
    assert len(below) >= 4 + len(forks)
    process.kill()
    try:
        assert gone(set(below) - forks)
    finally:
        for pid in forks:
            os.kill(pid, signal.SIGKILL)
        process.communicate()


def test_an_interrupted_harness_ends_at_once(tier: str) -> None:
    """Ctrl-C, as a terminal sends it: to the whole group."""
    process = driver()
    below = set(descendants(process.pid))
    started = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=15)
    assert time.monotonic() - started < 8
    assert process.returncode == 130, errors
    assert gone(below)


def test_ctrl_c_does_not_reach_the_sandbox(tier: str) -> None:
    """Its processes are in a session of their own: the harness ends them itself."""
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        worker.ensure()
        assert worker.pid is not None
        assert os.getpgid(worker.pid) != os.getpgid(0)
        assert os.getsid(worker.pid) != os.getsid(0)


# --- what tiers there are ------------------------------------------------------------------------------------------


def test_nothing_works_without_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless it is asked for."""
    monkeypatch.delenv(probe.TIER_VARIABLE, raising=False)
    real = probe.probe

    def none(tier: Tier) -> probe.Probe:
        return real(tier) if tier is Tier.UNSAFE else probe.Probe(tier=tier, works=False, detail="not here")

    monkeypatch.setattr(probe, "probe", none)
    with pytest.raises(MissingError, match="cannot be confined"):
        Sandbox(workers=1)
    with Sandbox(workers=1, allow_unsafe=True) as box:
        assert values(box, 3) == [9, 16]
        assert box.run(SQUARE, calls=[Call(args=[1])], target="f").tier is Tier.UNSAFE


@pytest.mark.parametrize("asked", ["0", "4", "x", " 1"])
def test_a_tier_that_there_is_not(monkeypatch: pytest.MonkeyPatch, asked: str) -> None:
    monkeypatch.setenv(probe.TIER_VARIABLE, asked)
    with pytest.raises(MissingError):
        Sandbox(workers=1)


def test_the_probe_sees_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier that only seems to work is found out."""
    from cipo_eval.sandbox.launch import Layers

    weak = {**LAYERS, Tier.CONTAINER: Layers(bubblewrap=False, landlock=False)}
    monkeypatch.setattr(probe, "LAYERS", weak)
    probed = probe.probe.__wrapped__(Tier.CONTAINER)
    assert not probed.works
    assert "reads files" in probed.detail


@pytest.mark.parametrize("asked", ["1", "2"])
@pytest.mark.parametrize(
    "around",
    [["setpriv", "--bounding-set=-all", "--inh-caps=-all"], ["unshare", "--user", "--map-root-user"]],
    ids=["without capabilities", "in a user namespace"],
)
def test_a_root_that_may_not_change_users(around: list[str], asked: str) -> None:
    """As in containers: with fewer capabilities, or with no other users in its namespace."""
    if os.geteuid() != 0 or subprocess.run([*around, "true"], check=False).returncode:
        pytest.skip(f"needs root and {around[0]}")
    code = (
        "from cipo_eval.sandbox.box import *\n"
        "with Sandbox(1) as box: print(box.run('def f(x): return x', calls=[Call(args=[7])], target='f').outcomes[0].value)"
    )
    done = subprocess.run(
        [*around, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), probe.TIER_VARIABLE: asked},
        check=False,
    )
    if asked == "1" and "bubblewrap does not work here" in done.stderr:
        pytest.skip("no namespaces in there")
    assert done.stdout == "7\n", done.stderr


def test_identity(tier: str) -> None:
    """No capability, no new privileges, a filter, another user; seen from outside."""
    with Worker(LAYERS[Tier(int(tier))]) as worker:
        told: list[Any] = []
        thread = threading.Thread(target=lambda: told.append(worker.collect(job(SLEEP, 0.6))))
        worker.ensure()
        thread.start()
        time.sleep(0.3)
        innermost = [pid for pid in sealed(worker.pid or 0) if not descendants(pid)]
        status = dict(
            line.split(":\t", 1)
            for line in Path(f"/proc/{innermost[0]}/status").read_text().splitlines()
            if ":\t" in line
        )
        thread.join()
    for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[name], 16) == 0, name
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["Seccomp_filters"]) >= 2
    if os.geteuid() == 0:
        assert int(status["Uid"].split()[0]) >= 200_000
        assert status["Groups"].split() in ([], ["65534"])


def test_limits_of_open_files_are_no_matter(tier: str) -> None:
    """A harness that has few descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        with Sandbox(workers=1) as box:
            assert values(box, 3) == [9, 16]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_what_is_told_of_the_tier(tier: str) -> None:
    probed = probe.probe(Tier(int(tier)))
    assert json.dumps(probed.to_json())
    assert f"Landlock {probed.landlock}" in probed.detail
    assert ("bubblewrap" in probed.detail) == (tier == "1")
