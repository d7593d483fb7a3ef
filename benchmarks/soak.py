"""Many programs through the sandbox, a tenth of them hostile: does anything leak, does it slow down?

Two workers judge 200,000 small programs; every tenth attacks (it exits, crashes, loops, floods, eats memory, starts
threads, forges results). After each slice: throughput of the honest ones, verdicts that were not as they should be,
processes, descriptors and memory of the harness and of its sandboxes, memory files of the system. The last line is one
JSON object.

    python benchmarks/soak.py --programs 200000
"""

from __future__ import annotations

import argparse
import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane
from cipo_eval.sandbox.worker import Job

HONEST = "def f(x):\n    return [x, x * x]\n"
HOSTILE = {
    "exit": "import os\ndef f(x): os._exit(0)",
    "crash": "import ctypes\ndef f(x): ctypes.string_at(0)",
    "loop": "def f(x):\n    while True: pass",
    "flood": "def f(x):\n    while True: print('x' * 100000)",
    "memory": "def f(x): return bytearray(1 << 34)",
    "threads": "import threading, time\ndef f(x):\n    for _ in range(1000): threading.Thread(target=time.sleep, "
    "args=(9,)).start()",
    "fork": "import os\ndef f(x):\n    while True: os.fork()",
    "forge": "import os\nfor fd in range(3, 60):\n    try: os.write(fd, b'[\"v\",1]\\n' * 9)\n"
    "    except OSError: pass\n"
    "def f(x): return 1",
    "deep": "def f(x):\n    x = []\n    for _ in range(100000): x = [x]\n    return x",
    "stop": "import os, signal\ndef f(x): os.kill(os.getpid(), signal.SIGKILL)",
    "files": "def f(x): return [open(f'/tmp/{i}', 'w') for i in range(99)]",
}
CPU_SECONDS = 0.05
EXPECTED = b'["v",[7,49]]'


@dataclass
class Counts:
    """What all workers have done so far."""

    honest: int = 0
    hostile: int = 0
    wrong: int = 0
    """Honest programs that were not right, or hostile ones that were."""
    honest_seconds: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)


def work(lane: Lane, numbers: range, counts: Counts) -> None:
    """Judges programs by number."""
    attacks = list(HOSTILE.values())
    for number in numbers:
        hostile = number % 10 == 9
        program = attacks[(number // 10) % len(attacks)] if hostile else HONEST
        job = Job(
            program=program,
            kind="calls",
            tests=[{"args": [7]}],
            target="f",
            cpu=(CPU_SECONDS if hostile else 4.0,),
            memory=1 << 30,
        )
        lines: list[bytes] = []
        started = time.perf_counter()
        lane.sample(program).run(job, lambda _number, line, _seconds, lines=lines: lines.append(line) is None)
        seconds = time.perf_counter() - started
        with counts.lock:
            counts.wrong += (lines[1:] == [EXPECTED]) is hostile
            counts.hostile += hostile
            counts.honest += not hostile
            counts.honest_seconds += 0.0 if hostile else seconds


def state() -> dict[str, Any]:
    """Processes, descriptors and memory."""
    own = psutil.Process()
    tree = own.children(recursive=True)
    shared = next(
        line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("Shmem:")
    )
    return {
        "processes": len(tree),
        "descriptors": own.num_fds(),
        "harness_mb": round(own.memory_info().rss / 2**20, 1),
        "sandboxes_mb": round(sum(p.memory_full_info().pss for p in tree) / 2**20, 1),
        "shmem_mb": round(int(shared.split()[1]) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--programs", type=int, default=200_000)
    parser.add_argument("--slices", type=int, default=10)
    options = parser.parse_args()
    lanes = [Lane(probe.choose().tier) for _ in range(2)]
    work(lanes[0], range(20), Counts())
    work(lanes[1], range(20), Counts())
    counts = Counts()
    rows = []
    per_slice = options.programs // options.slices
    for index in range(options.slices):
        honest, spent = counts.honest, counts.honest_seconds
        at = index * per_slice
        threads = [
            threading.Thread(target=work, args=(lane, range(at + i, at + per_slice, 2), counts))
            for i, lane in enumerate(lanes)
        ]
        started = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        rows.append(
            {
                "programs": counts.honest + counts.hostile,
                "per_second": round(per_slice / (time.perf_counter() - started), 1),
                "honest_ms": round(1e3 * (counts.honest_seconds - spent) / max(1, counts.honest - honest), 3),
                "wrong": counts.wrong,
                "replaced": sum(lane.restarts for lane in lanes),
                **state(),
            }
        )
        print(rows[-1], flush=True)
    for lane in lanes:
        lane.close()
    time.sleep(1)
    print(
        json.dumps(
            {
                "benchmark": "soak",
                "cpus": os.cpu_count(),
                "programs": counts.honest + counts.hostile,
                "hostile": counts.hostile,
                "wrong": counts.wrong,
                "first": rows[0],
                "last": rows[-1],
                "processes_after": len(psutil.Process().children(recursive=True)),
            }
        )
    )


if __name__ == "__main__":
    main()
