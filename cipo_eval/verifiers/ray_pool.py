"""The verifier pool with its workers on the nodes of a Ray cluster: one actor a node, which holds killable processes.

What is judged, how often and under which limits is the ordinary pool's business, and so are the processes: a grading
that hangs is killed on its node, and a program runs in the sandbox of that node. Only who has which grading is decided
here, and what a lost node had goes to others.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError, TimeoutError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cipo_eval.cluster.connection import Connection, nodes, ray
from cipo_eval.cluster.crew import Crew, Done, Limits
from cipo_eval.cluster.station import Station, Surroundings
from cipo_eval.errors import CipoError, MissingError
from cipo_eval.verifiers.pool import MEMORY_LIMIT, TIME_LIMIT, GradingWorkers, VerifierPool, sleep_limit
from cipo_eval.verifiers.workers import WorkerError, Workers

AHEAD = 16
"""Gradings that a node is given for each of its processes: most take milliseconds, the way to a node as many."""
_MOST_WORKERS = 16
"""Processes of a node by default."""
_LOOK_SECONDS = 0.02
"""Between two looks at what is submitted, while gradings are under way."""
_IDLE_SECONDS = 0.2
"""The same while there are none; what is submitted ends that wait."""

_Arguments = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GradingResult:
    """The result of a grading, as plain data that can be sent from node to node."""

    result: Any = None
    """The grade and the seconds that it took."""
    problem: str = ""
    """Why there is no grade: ``timeout``, ``worker`` (it died), ``missing`` (none starts); empty: there is one."""
    why: str = ""
    """The words of the error, where there was one."""

    @classmethod
    def of(cls, future: Future[Any]) -> GradingResult:
        """The result or the error of a finished future of ``Workers``."""
        try:
            return cls(result=future.result())
        except TimeoutError:
            return cls(problem="timeout")
        except MissingError as error:
            return cls(problem="missing", why=str(error))
        except BaseException as error:
            return cls(problem="worker", why=str(error))

    def settle(self, future: Future[Any]) -> None:
        """Gives a future on the caller's side the same result or error; one that is done already stays as it is."""
        errors = {"timeout": TimeoutError, "missing": MissingError, "worker": WorkerError}
        with suppress(InvalidStateError):
            if self.problem:
                future.set_exception(errors[self.problem](self.why))
            else:
                future.set_result(self.result)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a node grades."""

    workers: int | None
    """Processes; None: as many as the node has cores, ``_MOST_WORKERS`` at most."""
    memory_limit: int
    """Bytes of address space of each process."""
    wall_limit: float | None
    """Seconds that a grading may sleep; None: the default of ``pool.sleep_limit``."""
    surroundings: Surroundings
    """The working directory and the variables that the caller has."""


class Grader(Station):
    """The actor of a node: parcels are gradings, of one part each."""

    def __init__(self, terms: Terms) -> None:
        super().__init__()
        terms.surroundings.adopt()
        count = terms.workers or min(os.cpu_count() or 1, _MOST_WORKERS)
        self._width = AHEAD * count
        self._workers = Workers(
            count, memory_limit=terms.memory_limit, wall_limit=partial(sleep_limit, terms.wall_limit)
        )
        self.begin({"grades": True})

    def push(self, parcels: Sequence[tuple[int, tuple[_Arguments, float]]]) -> None:
        """Gradings, with their limits in processor seconds."""
        for number, (arguments, limit) in parcels:
            future = self._workers.submit(arguments, limit)
            future.add_done_callback(lambda done, n=number: self.put(n, 0, GradingResult.of(done)))  # type: ignore[misc]

    def works_at(self) -> int:
        """Gradings that the node is given at a time."""
        return self._width


@dataclass(slots=True, eq=False)
class _Grading:
    arguments: _Arguments
    limit: float
    future: Future[Any] = field(default_factory=Future)


class _OnNodes:
    """``GradingWorkers`` on a cluster: a thread that has a crew of graders. Usable from any thread."""

    def __init__(self, terms: Terms, limits: Limits, say: Callable[[str], None]) -> None:
        self._terms, self._limits, self._say = terms, limits, say
        self._submitted: queue.SimpleQueue[_Grading | None] = queue.SimpleQueue()
        self._open: set[_Grading] = set()
        self._closing = self._finishing = False
        self._broken: str | None = None
        self.notes: list[str] = []
        self.processes: list[int] = []
        self._thread = threading.Thread(target=self._run, name="verifiers-on-ray", daemon=True)
        self._thread.start()

    def submit(self, arguments: _Arguments, limit: float) -> Future[Any]:
        """As ``Workers.submit``."""
        grading = _Grading(arguments, limit)
        self._submitted.put(grading)
        if self._broken is not None:
            self._give_up(self._broken)
        return grading.future

    def close(self, *, wait: bool = False) -> None:
        """As ``Workers.close``."""
        self._finishing, self._closing = True, not wait
        self._submitted.put(None)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        try:
            with Crew[_Grading](
                "verifier", self._starter(), wanted=None, limits=self._limits, say=self._say
            ) as crew:
                while not self._closing and not (self._finishing and crew.idle and self._submitted.empty()):
                    self._take(crew)
                    for event in crew.turn(_LOOK_SECONDS if not crew.idle else 0.0, _packed):
                        graded = (
                            event.result
                            if isinstance(event, Done)
                            else GradingResult(None, "worker", event.why)
                        )
                        self._open.discard(event.payload)
                        graded.settle(event.payload.future)
                    self.notes, self.processes = crew.notes, crew.processes
        except CipoError as error:
            self._broken = str(error)
        except Exception as error:  # the cluster is gone
            self._broken = f"Ray: {type(error).__name__}: {error}"
        finally:
            self._give_up(self._broken)

    def _take(self, crew: Crew[_Grading]) -> None:
        """What was submitted; waits for some where there is nothing else to do."""
        with suppress(queue.Empty):
            grading = (
                self._submitted.get(timeout=_IDLE_SECONDS) if crew.idle else self._submitted.get_nowait()
            )
            while True:
                if grading is not None and not grading.future.done():
                    self._open.add(grading)
                    crew.add(grading, (0,))
                grading = self._submitted.get_nowait()

    def _give_up(self, why: str | None) -> None:
        """Cancels what has no result, or says why it will have none."""
        with suppress(queue.Empty):
            while True:
                if (grading := self._submitted.get_nowait()) is not None:
                    self._open.add(grading)
        while self._open:
            future = self._open.pop().future
            if why is None:
                future.cancel()
            else:
                GradingResult(None, "missing", why).settle(future)

    def _starter(self) -> Callable[[str | None], Any]:
        library = ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        actor, terms = library.remote(Grader), self._terms

        def start(node: str | None) -> Any:
            assert node is not None
            # beside the replicas, which have the cores: waiting for tokens leaves most of them free
            there = NodeAffinitySchedulingStrategy(node_id=node, soft=False)
            return actor.options(
                num_cpus=0, max_restarts=0, max_task_retries=0, max_concurrency=4, scheduling_strategy=there
            ).remote(terms)

        return start


def _packed(grading: _Grading, _: set[int]) -> tuple[_Arguments, float]:
    return grading.arguments, grading.limit


class RayVerifierPool(VerifierPool):
    """Judges completions on the nodes of a cluster, all of them that have processors, as they come and go."""

    def __init__(
        self,
        address: str,
        workers: int | None = None,
        *,
        time_limit: float = TIME_LIMIT,
        memory_limit: int = MEMORY_LIMIT,
        wall_limit: float | None = None,
        limits: Limits | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``address``: of the cluster. ``workers``: processes of each node (default: its cores). The others as in
        ``VerifierPool``; ``limits``, ``say``: as in ``Crew``. Raises ``MissingError`` where no cluster is."""
        self._connection = Connection(address)
        cores = [int(resources["CPU"]) for resources in nodes().values() if resources.get("CPU")]
        there = sum(workers or min(count, _MOST_WORKERS) for count in cores)
        super().__init__(there or 1, time_limit=time_limit, memory_limit=memory_limit, wall_limit=wall_limit)
        self._terms = Terms(
            workers=workers,
            memory_limit=memory_limit,
            wall_limit=wall_limit,
            surroundings=Surroundings.here(),
        )
        self._say = say
        self._limits = replace(limits or Limits(), stall=float("inf"))  # a grading has limits of its own
        self._nodes: _OnNodes | None = None

    @property
    def notes(self) -> list[str]:
        """A line for each reason for which nodes were lost."""
        return self._nodes.notes if self._nodes else []

    def processes(self) -> list[int]:
        """Process ids of the nodes' actors, where they have answered."""
        return self._nodes.processes if self._nodes else []

    def close(self, *, wait: bool = False) -> None:
        """Ends the nodes' actors, with ``wait`` after they have finished what was submitted, and leaves the cluster."""
        super().close(wait=wait)
        self._connection.close()

    def _start_workers(self) -> GradingWorkers:
        self._nodes = _OnNodes(self._terms, self._limits, self._say)
        return self._nodes
