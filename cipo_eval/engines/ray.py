"""The ``ray`` engine: replicas of another engine on the nodes of a Ray cluster.

A replica is an actor that makes the inner engine on its node, as any command would, and holds a feed: requests are
pushed to whichever replica has room, completions come back as they are finished, and the inner engine batches without
a pause. The samples of a problem go to one replica as one request, and later turns to the replica that has their
beginning in its cache. What a lost replica had goes to others; since a sample depends on its request and seed only, it
is the same there.

The identity of a run is the inner engine's: how many replicas there are, and where, may change between two starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cipo_eval.cluster.connection import Connection, nodes, ray
from cipo_eval.cluster.crew import Crew, Done, Limits
from cipo_eval.cluster.station import Surroundings
from cipo_eval.engines import registry
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.options import EngineContext, RayOptions
from cipo_eval.engines.ray_replica import Opening, Replica
from cipo_eval.records import Completion, Failure, Problem, Request
from cipo_eval.verifiers.pool import VerifierPool
from cipo_eval.verifiers.ray_pool import RayVerifierPool

_LOOK_SECONDS = 0.05
"""Between two looks at the feed while samples are under way."""
_POLLS = 4
"""Calls of a replica that may be under way at once: its poll, and what it is given meanwhile."""


class RayEngine:
    """Generates on a cluster. Raises ``MissingError`` where there is none, or no room for a single replica."""

    name = "ray"
    options = RayOptions

    @classmethod
    def make(cls, model: str, options: RayOptions, context: EngineContext) -> RayEngine:
        return cls(model, options, context)

    @staticmethod
    def preview(model: str, options: RayOptions, context: EngineContext, requests: Sequence[Request]) -> str:
        """What the inner engine makes of it, and how many replicas are asked for."""
        inner = _choice(model, options, context).preview(context.problems, requests)
        return f"{inner}; {options.replicas} replica(s) on Ray ({options.address}), each with {_words(options.needs)}"

    def __init__(self, model: str, options: RayOptions, context: EngineContext) -> None:
        self._options, self._say = options, context.say
        self._pool: RayVerifierPool | None = None
        self._connection = Connection(options.address)
        try:
            start = _starter(model, options, context)
            self._crew: Crew[tuple[Request, bool]] = Crew(
                "replica",
                start,
                wanted=options.replicas,
                needs=options.needs,
                limits=Limits(
                    silence=options.replica_silence,
                    stall=options.replica_stall,
                    nobody=options.wait_for_nodes,
                ),
                room=options.replica_samples,
                say=context.say,
            )
            self._hint()
            while self._crew.ready is None:
                for _ in self._crew.turn(_LOOK_SECONDS, _packed):
                    raise AssertionError("nothing was asked for")
        except BaseException:
            self.close()
            raise

    def describe(self) -> dict[str, Any]:
        """Identity of the inner engine."""
        return dict(self._crew.ready)

    def refuses_begun(self) -> str:
        """Why the inner engine does not go on with an answer that is begun; empty: it does, or says so when it is
        asked (a server that only replicas see)."""
        known = hasattr(registry.engine_class(self._options.inner), "refuses_begun")
        return "" if known else f"{self._options.inner} is not known to go on with an answer that is begun"

    @property
    def under_way(self) -> int:
        return self._crew.under_way

    def processes(self) -> list[int]:
        """Process ids of the replicas that have answered, each on its own machine."""
        return self._crew.processes

    def notes(self) -> list[str]:
        """What was lost, and what inner engines had to do otherwise than asked."""
        return [*self._crew.notes, *(self._pool.notes if self._pool else ())]

    def verifier_pool(self, workers: int | None, time_limit: float) -> VerifierPool | None:
        """A pool on the nodes, where that was asked for; arguments as of ``VerifierPool``, for each node."""
        if self._options.verify_on_workers:
            limits = Limits(silence=self._options.replica_silence, nobody=self._options.wait_for_nodes)
            self._pool = RayVerifierPool(
                self._options.address, workers, time_limit=time_limit, limits=limits, say=self._say
            )
        return self._pool

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        feed, crew = as_feed(requests), self._crew
        try:
            while True:
                feed.ahead = max(feed.ahead, 2 * crew.room)
                for request in feed.take(wait=crew.idle):
                    home = (request.problem.task, request.problem.id) if feed.follow else None
                    crew.add((request, feed.follow), request.samples, home=home, first=request.turn > 1)
                if crew.idle:
                    return
                for event in crew.turn(_LOOK_SECONDS, _packed):
                    request, _ = event.payload
                    if isinstance(event, Done):
                        yield request, event.part, event.result
                        continue
                    for sample in sorted(event.parts):
                        yield request, sample, Failure(why=event.why)
        finally:
            crew.forget()

    def close(self) -> None:
        if crew := getattr(self, "_crew", None):
            crew.close()
        self._connection.close()

    def _hint(self) -> None:
        """GPUs that nobody asked for."""
        gpus = sum(resources.get("GPU", 0) for resources in nodes().values())
        if gpus and not self._options.gpus:
            self._say(f"Ray: the cluster has {gpus:g} GPU(s), and replicas take none: --gpus-per-replica")


def _choice(model: str, options: RayOptions, context: EngineContext) -> registry.EngineChoice:
    return registry.EngineChoice(
        engine=options.inner, model=model, options=options.inner_options, think=context.think
    )


def _starter(model: str, options: RayOptions, context: EngineContext) -> Callable[[str | None], Any]:
    """What starts a replica, wherever there is room."""
    library = ray()
    opening = library.put(
        Opening(
            engine=options.inner,
            model=model,
            options=options.inner_options.model_dump(mode="json", exclude_unset=True),
            think=context.think,
            clock=context.clock,
            problems=[_shown(problem) for problem in context.problems],
            surroundings=Surroundings.here(),
        )
    )
    actor = library.remote(Replica).options(
        num_cpus=options.cpus_per_replica,
        num_gpus=options.gpus,
        max_restarts=0,
        max_task_retries=0,
        max_concurrency=_POLLS,
        scheduling_strategy="SPREAD",
    )
    return lambda _: actor.remote(opening)


def _packed(payload: tuple[Request, bool], parts: set[int]) -> tuple[Request, bool]:
    """What a replica is sent: samples that are wanted (still), without what an engine has no use for."""
    request, follow = payload
    samples, seeds = request.samples, request.seeds
    if len(parts) < len(samples):
        wanted = [(s, seed) for s, seed in zip(samples, seeds, strict=True) if s in parts]
        samples, seeds = zip(*wanted, strict=True)
    slim = replace(request, samples=samples, seeds=seeds, history=(), problem=_shown(request.problem))
    return slim, follow


def _words(needs: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in needs.items() if amount) or "no core of its own"


def _shown(problem: Problem) -> Problem:
    """A problem without what never reaches an engine."""
    return replace(problem, gold="", options={}, attempt=None, attempt_right=None)
