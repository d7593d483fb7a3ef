"""How long ``cipo-eval merge`` takes, and how much memory: shards of made attempts, merged in a process of its own.

    python benchmarks/merge.py --attempts 1000000 --shards 8

The last line is JSON. Of 10,000 attempts and more a shard keeps an index of its attempts, as one that ran does.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from cipo_eval.records import Attempt, FinishReason, Mode, State, Verdict
from cipo_eval.run.api import Evaluation, Silence
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.request import RunRequest
from cipo_eval.run.runner import Run
from cipo_eval.run.shards import Shard
from cipo_eval.storage.store import RunStore

SAMPLES = 32
BATCH = 1000
TASK = """
task: cipo_made
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: made
    description: sums
    options: {}
    columns: {question: question, gold: gold, id: id, level: level}
    breakdown: [level]
    sources:
      - {kind: embedded, path: made.jsonl}
"""


def attempts(plan: TaskPlan, text: str) -> Iterator[Attempt]:
    """Those of a shard, in the order in which a busy engine might finish them."""
    assert plan.share is not None
    keys = [(p, s) for p, (start, stop) in plan.share.samples.items() for s in range(start, stop)]
    chance = Random(0)
    for start in range(0, len(keys), 512):
        part = keys[start : start + 512]
        chance.shuffle(part)
        for problem, sample in part:
            answer = chance.choice([problem, "1", "2"])
            right = answer == problem
            verdict = Verdict(
                correct=right,
                state=State.CORRECT if right else State.INCORRECT,
                extracted=answer,
                canonical=answer,
                detail="boxed; number",
                seconds=0.001,
            )
            yield Attempt(
                task="made",
                problem=problem,
                sample=sample,
                prompt_hash="0123456789abcdef",
                seed=sample,
                text=f"{text} \\boxed{{{answer}}}",
                finish_reason=FinishReason.STOP,
                prompt_tokens=80,
                completion_tokens=120,
                seconds=0.1,
                verdicts={"fixed": verdict},
            )


def make(folder: Path, count: int, shards: int) -> list[Path]:
    """Run directories of all shards of a run of so many attempts."""
    rows = [
        {"id": str(i), "question": f"What is {i}?", "gold": str(i), "level": str(i % 5)}
        for i in range(-(-count // SAMPLES))
    ]
    (folder / "made.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "made.yaml").write_text(TASK)
    paths = []
    for index in range(1, shards + 1):
        shard = Shard(index, shards)
        paths.append(shard.folder(folder / "run"))
        request = RunRequest.of(
            model="m", engine="openai", base_url="http://127.0.0.1:9/v1", tasks=str(folder / "made.yaml"),
            samples=SAMPLES, shard=str(shard), output=paths[-1],
        )  # fmt: skip
        plans = Evaluation(request, Silence()).plans
        with RunStore(paths[-1]) as store:
            engine = {"engine": "made", "model": "m", "fingerprint": "f"}
            run = Run(store, plans, engine=engine, seed=0, modes=[Mode.FIXED], command=["made"])
            held: list[Attempt] = []
            for attempt in attempts(run.plans[0], "So the answer that we are looking for is " * 8):
                held.append(attempt)
                if len(held) == BATCH:
                    store.extend(held)
                    held.clear()
            store.extend(held)
            store.load("made")
            store.write_results({})
    return paths


def main() -> None:
    """Makes shards, merges them, says what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--attempts", type=int, default=200_000)
    parser.add_argument("--shards", type=int, default=8)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        started = time.monotonic()
        shards = make(folder, asked.attempts, asked.shards)
        print(f"shards made in {time.monotonic() - started:.0f} s", file=sys.stderr)
        output = folder / "run"
        command = [
            sys.executable,
            "-m",
            "cipo_eval",
            "merge",
            *map(str, shards),
            "-o",
            str(output),
            "--quiet",
        ]
        started = time.monotonic()
        subprocess.run(command, check=True)
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = used.ru_utime + used.ru_stime
        lines = (output / "attempts" / "made.jsonl").stat().st_size
        told = {
            "benchmark": "merge",
            "attempts": asked.attempts,
            "shards": asked.shards,
            "processor_seconds": round(seconds, 1),
            "seconds": round(time.monotonic() - started, 1),
            "attempts_per_processor_second": round(asked.attempts / seconds),
            "peak_mb": round(used.ru_maxrss / 1024),
            "gigabytes": round(lines / 1e9, 2),
            "cores": os.cpu_count(),
        }
        print(json.dumps(told))


if __name__ == "__main__":
    main()
