"""Past what runs here: the real driver with up to hundreds of replicas that are simulated, and fail.

The runner, its feed, judging, store and figures are those of every run, and so are the ``ray`` engine and the crew that
balances it; in place of Ray's library stands ``simulated_ray``, in place of the verifiers a delay. Replicas live in
virtual time, to which the driver's own processor time is added: where the driver is too slow they stand idle. In the
end every sample must be stored once, whatever failed. Each configuration is a process of its own; the last line is one
JSON object.

    python benchmarks/scale_sim.py --replicas 1,8,64,512 --attempts 1000000
    python benchmarks/scale_sim.py --plot benchmarks/scale_sim.json docs/scaling/replicas.png
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scale
from simulated_ray import Cluster, Machines, SimulatedRay

from cipo_eval.records import Mode
from cipo_eval.verifiers.pool import MEMO_SIZE

MODELS: dict[str, dict[str, Any]] = {
    "small": {"slots": 256, "token_seconds": 256 / 64_500, "median_tokens": 450, "sigma": 0.47},
    "large": {"slots": 256, "token_seconds": 256 / 6_450, "median_tokens": 600, "sigma": 0.94},
}
"""What a replica holds. ``small``: 64,500 tokens a second, as one H200 was measured to give with the shape of a model
of half a billion parameters (RESULTS.md), lengths as those of Qwen2.5-14B-Instruct at MATH-500; ``large``: a tenth as
fast, lengths as those of Qwen2.5-Math-7B, which now and then does not stop. Three characters count as a token."""
LIFE_SECONDS = 4 * 3600.0
"""Mean of a replica's life: as short as machines that are let until somebody pays more."""
TOGETHER = 128
"""Completions that are judged until the clock goes on: to look at it costs some microseconds."""
SETTINGS = ("life", "start", "verifiers", "call_seconds", "driver_pace")
"""Of ``Machines``, those that a command sets."""
SAID_EVERY = 500_000
"""Attempts between two lines of figures so far."""
STEPS = 2_000_000
"""Of the loop that says how fast this processor is at the moment."""


class Verifiers(scale.SimulatedVerifier):
    """Gives every verdict when a verifier has had the time for it."""

    def __init__(self, cluster: Cluster) -> None:
        from cipo_eval.run.judging import IN_FLIGHT

        self._cluster, self._most = cluster, IN_FLIGHT - 1
        self.workers = cluster.machines.verifiers
        self._count = 0
        self._known: set[tuple[int, str | None]] = set()
        """Problems and answers."""

    def judge(self, verifier: str, problem: Any, said: str, *asked: Any) -> Any:
        """At once where the same answer was given before, as the real ones do."""
        self._count += 1
        if self._count % SAID_EVERY == 0:
            cluster = self._cluster
            so_far = figures(cluster, self._count, cluster.driver_seconds, samples=0)
            print(json.dumps({"so far": so_far}), flush=True)
        if self._count % TOGETHER == 0:
            self._cluster.enter()
            self._cluster.leave()
        value = super().judge(verifier, problem, said, *asked)
        if (key := (problem.index, value[Mode.FIXED].canonical)) in self._known:
            return value
        if len(self._known) >= MEMO_SIZE:
            self._known.clear()
        self._known.add(key)
        verdicts: Future[Any] = Future()
        self._cluster.pending.append((verdicts, value))
        while self._cluster.judging >= self._most:  # the run would wait: it does here, in virtual time
            self._cluster.wait_for_verdicts()
        return verdicts


def engine_on(cluster: Cluster) -> Any:
    """The engine of Ray, with the simulated library in its place."""
    from cipo_eval.engines import ray
    from cipo_eval.engines.options import EngineContext, RayOptions

    class Engine(ray.RayEngine):
        def generate(self, requests: Any) -> Iterator[tuple[Any, int, Any]]:
            yield from super().generate(requests)
            while cluster.judging:
                cluster.wait_for_verdicts(cluster.judging)

    sys.modules["ray"] = SimulatedRay(cluster)  # type: ignore[assignment]  in place of the library
    engine = Engine("simulated", RayOptions(replicas=cluster.machines.replicas), EngineContext())
    dispatcher = engine._crew._dispatcher
    cluster.waiting = lambda: sum(len(parcel.parts) for parcel in dispatcher._waiting)
    return engine


def calibration() -> float:
    """Processor seconds of a loop that is always the same."""
    started, total = time.process_time(), 0
    for number in range(STEPS):
        total += number * number % 7
    return round(time.process_time() - started, 3)


def check(store: Any, problems: int, samples: int) -> None:
    """Raises ``AssertionError`` unless every sample was stored once."""
    from cipo_eval.files import count_lines
    from cipo_eval.storage.store import attempts_path

    lines = count_lines(attempts_path(store.path, "scale"))
    assert lines == problems * samples, f"{lines} lines, asked for {problems * samples}"
    stored = store.load("scale")
    keys = stored.column("problem").astype(np.int64) * samples + stored.column("sample")
    assert len(np.unique(keys)) == problems * samples, "a sample is stored twice, and another is lost"
    assert stored.judged.all(), "a sample has no verdict"


def simulate(folder: Path, machines: Machines, problems: int, samples: int, seed: int = 0) -> dict[str, Any]:
    """One run, in this process; its figures."""
    from cipo_eval.interrupts import Interrupts
    from cipo_eval.run.progress import Progress
    from cipo_eval.storage.store import RunStore

    attempts = problems * samples
    definition = scale.make_data(folder, problems)
    cluster = Cluster(machines, attempts, scale.text, seed)
    engine = engine_on(cluster)
    with RunStore(folder / "run") as store:
        run = scale.bound(store, definition, samples, engine)
        run.execute(engine, Verifiers(cluster), Progress(), Interrupts())  # type: ignore[arg-type]  it has all that is used
        cluster.enter()
        driver = cluster.driver_seconds
        cluster.leave()
        store.write_results(run.results())
        cluster.enter()
        check(store, problems, samples)
    engine.close()
    return figures(cluster, attempts, driver, samples)


def figures(cluster: Cluster, attempts: int, driver: float, samples: int) -> dict[str, Any]:
    """What a run showed. ``driver``: its processor seconds without those of the figures in the end. What is lost, and
    the rate, are of the time after replicas were ready for the first time."""
    machines, ledger, makespan = cluster.machines, cluster.ledger, cluster.now
    busy = (driver + cluster.calls * machines.call_seconds) * machines.driver_pace
    capacity = machines.replicas * machines.slots * makespan
    lost = {
        "driver too slow": ledger.idle["driver"],
        "hand-over": ledger.idle["handing over"],
        "verifiers": ledger.idle["verifiers"],
        "down after failures": ledger.down,
        "lost work": ledger.redone,
        "tail": ledger.tail,
    }
    started = capacity - ledger.start
    return {
        "replicas": machines.replicas,
        "attempts": attempts,
        "samples": samples,
        "virtual_seconds": round(makespan, 1),
        "first_start_seconds": round(makespan * ledger.start / capacity, 1),
        "attempts_per_virtual_second": round(attempts / makespan / (started / capacity), 1),
        "driver_cpu_seconds": round(driver, 2),
        "driver_calls": cluster.calls,
        "driver_busy": round(busy / makespan, 4),
        "attempts_per_cpu_second": round(attempts / driver),
        "attempts_per_cpu_second_with_figures": round(attempts / cluster.driver_seconds),
        "simulation_cpu_seconds": round(cluster.own_seconds, 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "queues": cluster.queues.figures(),
        "failures": cluster.failures,
        "samples_redone": cluster.redone,
        "lost_share": round(1 - cluster.useful / started, 4),
        "lost": {name: round(seconds / started, 4) for name, seconds in lost.items()},
        "slot_seconds": {
            "useful": cluster.useful,
            "all": ledger.total,
            "first start": ledger.start,
            **lost,
        },
    }


def one(asked: argparse.Namespace, machines: Machines) -> dict[str, Any]:
    """A configuration, in this process, between two looks at how fast the processor is."""
    problems = max(asked.attempts // asked.samples, 1)
    before = calibration()
    row = simulate(asked.folder, machines, problems, asked.samples)
    return {"model": asked.model, **row, "calibration_seconds": [before, calibration()]}


def in_process(model: str, replicas: int, asked: argparse.Namespace) -> dict[str, Any]:
    """A configuration in a process of its own."""
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        folder = Path(temporary)
        words = [__file__, "--one", "--folder", temporary, "--model", model, "--replicas", str(replicas)]
        for name in ("attempts", "samples", *SETTINGS):
            words += [f"--{name.replace('_', '-')}", str(getattr(asked, name))]
        scale.process(words, folder / "one.log")
        row: dict[str, Any] = json.loads((folder / "one.log").read_text().splitlines()[-1])
        return row


def plot(rows: Sequence[dict[str, Any]], out: Path) -> None:
    """Draws what is lost, and how much is got through, over the replicas."""
    import matplotlib.pyplot as plt

    drawing, (lost, rate) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for model, marker in zip(dict.fromkeys(row["model"] for row in rows), "osD^", strict=False):
        of = sorted((row for row in rows if row["model"] == model), key=lambda row: row["replicas"])
        replicas = [row["replicas"] for row in of]
        rate.loglog(
            replicas, [r["attempts_per_virtual_second"] for r in of], marker=marker, label=f"{model} model"
        )
        waits = [100 * (r["lost"]["driver too slow"] + r["lost"]["hand-over"]) for r in of]
        lost.semilogx(replicas, waits, marker=marker, label=f"{model}: waits for the driver")
        down = [100 * (r["lost"]["down after failures"] + r["lost"]["lost work"]) for r in of]
        lost.semilogx(replicas, down, marker=marker, linestyle=":", label=f"{model}: failures")
    for axis, label in ((lost, "% of slot time"), (rate, "attempts per second")):
        axis.set_xlabel("replicas")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
        axis.legend(frameon=False, fontsize=8)
    drawing.savefig(out, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=100, help="of each problem")
    parser.add_argument("--replicas", default="1,8,64,512")
    parser.add_argument("--model", default=",".join(MODELS), help="what a replica holds")
    parser.add_argument("--life", type=float, default=LIFE_SECONDS, help="mean, of a replica, in seconds")
    parser.add_argument("--start", type=float, default=Machines.start, help="of a replica, in seconds")
    parser.add_argument("--verifiers", type=int, default=Machines.verifiers)
    parser.add_argument(
        "--call-seconds", type=float, default=Machines.call_seconds, help="of Ray, in the driver"
    )
    parser.add_argument("--driver-pace", type=float, default=Machines.driver_pace, help="0.5: twice as fast")
    parser.add_argument("--folder", type=Path, help="where the runs go (default: a temporary one)")
    parser.add_argument(
        "--plot", type=Path, nargs=2, metavar=("FIGURES", "PNG"), help="draw, and run nothing"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.plot:
        return plot(json.loads(asked.plot[0].read_text())["configurations"], asked.plot[1])
    if asked.one:
        machines = Machines(replicas=int(asked.replicas), **MODELS[asked.model])
        given = {name: getattr(asked, name) for name in SETTINGS}
        return print(json.dumps(one(asked, replace(machines, **given))))
    rows = []
    for model in asked.model.split(","):
        for replicas in asked.replicas.split(","):
            rows.append(in_process(model, int(replicas), asked))
            print(json.dumps(rows[-1]), flush=True)
    settings = {name: getattr(asked, name) for name in SETTINGS}
    print(json.dumps({"benchmark": "scale_sim", **settings, "models": MODELS, "configurations": rows}))
    return None


if __name__ == "__main__":
    main()
