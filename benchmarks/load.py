"""Whether a verdict depends on what else a machine does: all of HumanEval+ judged idle, and with all cores busy twice.

Programs: the canonical solutions and, with ``--outputs``, a file of recorded ones (any layout of docs/replay.md).
Limits are of processor time, so both times every program must get the same verdict, test by test. The last line is
one JSON object.

    CIPO_EVAL_DATA=… python benchmarks/load.py --outputs …/Qwen2.5-Coder-1.5b-base__humaneval.jsonl.gz
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from cipo_eval.data.tasks import load_problems
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.records import Mode, Request, Sampling
from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.verifier import CodeVerifier, judge

SPIN = "while True: pass"
Asked = tuple[str, str]
"""A reference to tests, a program."""


def programs(outputs: Path | None) -> list[Asked]:
    problems = load_problems("humaneval").problems
    asked = [(p.gold, testsets.load(p.gold).reference or "") for p in problems]
    if outputs:
        sampling = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=1)
        requests = [
            Request(problem=p, messages=(), samples=(0,), seeds=(0,), sampling=sampling) for p in problems
        ]
        verifier = CodeVerifier()
        for request, _, completion in ReplayEngine(outputs, problems).generate(requests):
            answer = verifier.extract(request.problem, completion.text, None, Mode.FIXED).answer
            if answer:
                asked.append((request.problem.gold, answer))
    return asked


def verdicts(lanes: list[Lane], asked: list[Asked]) -> tuple[list[tuple[bool, str, str]], float]:
    """Verdict, reason and outcomes by test of each program, and the seconds that all took."""
    free: SimpleQueue[Lane] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def one(item: Asked) -> tuple[bool, str, str]:
        lane = free.get()
        try:
            grade = judge(lane, *item, Mode.FIXED)
        finally:
            free.put(lane)
        return grade.correct, grade.method, str(grade.report["outcomes"])

    started = time.perf_counter()
    with ThreadPoolExecutor(len(lanes)) as threads:
        found = list(threads.map(one, asked))
    return found, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--outputs", type=Path)
    arguments = parser.parse_args()
    tier, cores = probe.choose().tier, os.cpu_count() or 1
    lanes = [Lane(tier) for _ in range(cores)]
    asked = programs(arguments.outputs)
    verdicts(lanes, asked[:164])  # references are prepared once
    idle, seconds = verdicts(lanes, asked)
    spinning = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(2 * cores)]
    try:
        busy, seconds_busy = verdicts(lanes, asked)
    finally:
        for process in spinning:
            process.kill()
            process.wait()
        for lane in lanes:
            lane.close()
    differing = sum(a != b for a, b in zip(idle, busy, strict=True))
    print(f"{len(asked)} programs, {sum(right for right, _, _ in idle)} right, {differing} differ")
    print(f"idle {seconds:.1f} s, busy {seconds_busy:.1f} s")
    print(
        json.dumps(
            {
                "benchmark": "load",
                "programs": len(asked),
                "differing": differing,
                "seconds_idle": round(seconds, 1),
                "seconds_busy": round(seconds_busy, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
