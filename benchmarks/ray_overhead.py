"""What Ray costs: one process beside one and two replicas of the same simulated engine, on one machine.

The engine works at so many samples at once, each of which takes the same time, whatever else the machine does: what is
measured is how well replicas are kept busy, and what a sample costs the driver, not how fast a model is. ``wide``: an
engine with room for many samples, as a server has on a large GPU; ``instant``: samples that take no time, so that the
driver is the limit. The cluster has one node for each replica and lives in a network namespace of its own. The last
line is one JSON object; rates are samples a second, costs processor seconds of the driver by thousand samples.

    python benchmarks/ray_overhead.py [--samples 6000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from cipo_eval.engines import registry  # noqa: E402  found in the folder that is added above
from cipo_eval.engines.feed import Feed, as_feed  # noqa: E402  found in the folder that is added above
from cipo_eval.engines.options import EngineContext, EngineOptions  # noqa: E402  found in the folder that is added above
from cipo_eval.engines.pump import Pump  # noqa: E402  found in the folder that is added above
from cipo_eval.records import Completion, Failure, FinishReason, Problem, Request, Sampling  # noqa: E402  found in the folder that is added above

CASES = {"wide": {"seconds": 0.5, "at_once": 128}, "narrow": {"seconds": 0.1, "at_once": 8}}
INSTANT = {"seconds": 0.0, "at_once": 128}
PER_REQUEST = 8
WARM = 0.1
"""Share of the samples that are not measured: the first ones find out how many an engine works at."""


class SimulatedOptions(EngineOptions):
    """How fast it is."""

    seconds: float
    """That each sample takes."""
    at_once: int
    """Samples under way at most."""


class Simulated:
    """Samples of constant latency, with the pump of the server engines."""

    name, options = "simulated", SimulatedOptions

    @classmethod
    def make(cls, model: str, options: SimulatedOptions, context: EngineContext) -> Simulated:
        del model, context
        return cls(options)

    def __init__(self, options: SimulatedOptions) -> None:
        self._options, self._pump = options, Pump(options.at_once)

    def describe(self) -> dict[str, Any]:
        """Nothing more than its name."""
        return {"engine": self.name}

    @property
    def under_way(self) -> int:
        return self._pump.under_way

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        return self._pump.run(as_feed(requests), self._one)

    async def _one(self, request: Request, seed: int) -> Completion:
        del request
        await asyncio.sleep(self._options.seconds)
        return Completion(text=f"{seed} " * 400, finish_reason=FinishReason.STOP, completion_tokens=1000)

    def close(self) -> None:
        self._pump.close()


def asked(samples: int) -> list[Request]:
    """Requests for so many samples in all."""
    sampling = Sampling(temperature=1, top_p=1, top_k=0, min_p=0, max_tokens=1000)
    return [
        Request(
            problem=Problem(task="t", id=str(i), index=i, question="q" * 200, prompt="q" * 300, gold="1"),
            messages=({"role": "user", "content": "q" * 300},),
            samples=tuple(range(PER_REQUEST)),
            seeds=tuple(range(i, i + PER_REQUEST)),
            sampling=sampling,
        )
        for i in range(samples // PER_REQUEST)
    ]


def measured(engine: Any, samples: int) -> dict[str, float]:
    """Rate, and cost to this process, of the samples after the first ones; twice as many as the engine has at once are
    left out at the end, too, where replicas run empty."""
    first = int(WARM * samples)
    last = samples - first
    for count, _ in enumerate(engine.generate(asked(samples)), 1):
        if count == first:
            began, spent = time.perf_counter(), time.process_time()
        if count == last:
            seconds, cost = time.perf_counter() - began, time.process_time() - spent
    return {"rate": round((last - first) / seconds, 1), "cost": round(cost / (last - first) * 1000, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=6000, help="of each case")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not arguments.inside:  # Ray listens on every interface: here there is only the loopback
        sys.stdout.flush()
        inner = [sys.executable, __file__, "--inside", "--samples", str(arguments.samples)]
        confined = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--", "sh", "-c"]
        os.execvp("unshare", [*confined, 'ip link set lo up && exec "$@"', "sh", *inner])
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="ray-")  # short: there are sockets in it
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(Path(__file__).parent)])
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
    head = {**node, "num_cpus": 0, "include_dashboard": False, "no_monitor": True}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(2):
        cluster.add_node(**node)
    sys.modules["ray_overhead"] = sys.modules["__main__"]
    results: dict[str, Any] = {"samples": arguments.samples}
    for case, options in {**CASES, "instant": INSTANT}.items():
        found: dict[str, Any] = {}
        samples = arguments.samples // 4 if case == "narrow" else arguments.samples
        for name in ("process", "1 replica", "2 replicas"):
            if name == "process":
                choice = registry.options("ray_overhead:Simulated", options)
                engine: Any = Simulated.make("m", choice, EngineContext())  # type: ignore[arg-type]  options of any engine
            else:
                values = {"inner": "ray_overhead:Simulated", "address": cluster.address, **options}
                chosen = registry.options("ray", {"replicas": int(name[0]), **values})
                engine = registry.EngineChoice(engine="ray", model="m", options=chosen).make(())
            found[name] = measured(engine, samples)
            engine.close()
        for name in ("1 replica", "2 replicas"):
            found[name]["of one process"] = round(found[name]["rate"] / found["process"]["rate"], 3)
        results[case] = found
        print(case, json.dumps(found), flush=True)
    cluster.shutdown()
    print(json.dumps(results))


if __name__ == "__main__":
    main()
