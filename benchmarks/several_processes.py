"""Two processes on two cores beside one with two threads, and weights in parts beside whole ones: the same steps.

A random Llama (``--hidden``, ``--layers``) on chains, CIPO: ``--problems`` problems with 8 attempts a step and as many
corrections; samples of random weights are as long as they may be. Arms run in turns, ``--rounds`` times, each in
processes of its own; of each the first step, which warms up, is left out. Times are of the steps alone, by their
medians; ``cpu`` is processor time of whole runs, starts and imports included.

    python benchmarks/several_processes.py [--rounds 2] [--steps 5]

The last line is one JSON object: seconds of a step (generation, update), and ratios of speeds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cipo_trainer"]
ARMS = {
    "one process, two threads": (["-m", "cipo_trainer"], "threads=2", 2),
    "two processes, whole weights": (LAUNCHER, "parallel=ddp", 1),
    "two processes, weights in parts": (LAUNCHER, "parallel=fsdp", 1),
}
PHASES = ("seconds", "seconds_rollout", "seconds_train")


def run(arm: str, options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rows of the steps after the first, and the processor time of everything."""
    command, own, threads = ARMS[arm]
    output = folder / "run"
    shutil.rmtree(output, ignore_errors=True)
    settings = [
        f"output={output}",
        f"steps={options.steps + 1}",
        "eval.tasks=[]",
        "checkpoint.every=1000",
        f"rollout={{problems: {options.problems}, samples: 8, max_tokens: {options.tokens}}}",
        f"shape={{layers: {options.layers}, hidden: {options.hidden}, inner: {2 * options.hidden}, heads: 4}}",
        "reward.workers=1",
        "loss.beta=0.001",  # every sequence is trained on
        f"threads={threads}",
        own,
    ]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    # threads that wait by spinning lose most where something else runs on the machine
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    environment |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    subprocess.run(
        [sys.executable, *command, "chains_cipo", *dict.fromkeys(settings), "--quiet"],
        check=True,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"rows": [row for row in rows if row["kind"] == "train"][1:], "cpu": cpu}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--problems", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    results: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        for round_number in range(options.rounds):
            for arm in ARMS:
                results[arm].append(run(arm, options, Path(folder)))
                seconds = statistics.median(row["seconds"] for row in results[arm][-1]["rows"])
                print(f"round {round_number + 1}: {arm}: {seconds:.2f} s a step", file=sys.stderr)
    medians = {
        arm: {
            phase: statistics.median(row[phase] for each in runs for row in each["rows"]) for phase in PHASES
        }
        for arm, runs in results.items()
    }
    one, whole, parts = (medians[arm] for arm in ARMS)
    print(
        json.dumps(
            {
                "arms": {
                    arm: {**medians[arm], "cpu": statistics.median(each["cpu"] for each in results[arm])}
                    for arm in ARMS
                },
                "two_by_one": {phase: one[phase] / whole[phase] for phase in PHASES},
                "parts_by_whole": {phase: whole[phase] / parts[phase] for phase in PHASES},
                "parts_by_one": {phase: one[phase] / parts[phase] for phase in PHASES},
                "options": vars(options),
                "cores": os.cpu_count(),
            }
        )
    )


if __name__ == "__main__":
    main()
