"""The jobs of a study on a Ray cluster: an actor for each job that runs, which starts the job's process on its node.

A job is the same command as here and works in the same folder, which all nodes must have (a shared file system). One
whose node is lost begins again on another, and goes on from what it has written.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipo_eval.cluster.connection import Connection, nodes, ray
from cipo_eval.cluster.crew import Crew, Done, Limits
from cipo_eval.cluster.station import Station, Surroundings
from cipo_eval.errors import EXIT_MISSING
from cipo_eval.interrupts import Interrupts
from cipo_trainer.study.grid import Job
from cipo_trainer.study.jobs import Process, Runner, Watch, launched

LOOK_SECONDS = 0.2
"""Between two looks at the cluster while a job is waited for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a study runs, and what a job takes of a node."""

    address: str = "auto"
    """The cluster, as ``--address`` of the engine ``ray`` has it."""
    cpus: float = 1.0
    gpus: float = 0.0
    wait_for_nodes: float = 3600.0
    """Seconds without any node for a job after which the study ends, with everything kept."""

    @property
    def needs(self) -> dict[str, float]:
        """What a job takes of a node, by Ray's names."""
        return {"CPU": self.cpus, "GPU": self.gpus}


@dataclass(frozen=True, slots=True)
class Order:
    """A job for a node. Plain data."""

    arguments: tuple[str, ...]
    """Of ``cipo-eval``."""
    log: str


class JobHost(Station):
    """The actor: one job at a time, each a process."""

    def __init__(self, surroundings: Surroundings) -> None:
        super().__init__()
        surroundings.adopt()
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.begin({"runs": "jobs"})

    def push(self, parcels: Sequence[tuple[int, Order]]) -> None:
        """The next job."""
        for number, order in parcels:
            # a process ends with the thread that began it, and this one with the actor
            threading.Thread(target=self._run, args=(number, order), daemon=True).start()

    def stop(self) -> None:
        """Ctrl-C for the job under way."""
        self._stopped = True
        if self._process is not None:
            self._process.send_signal(signal.SIGINT)

    def _run(self, number: int, order: Order) -> None:
        log = Path(order.log)
        if not log.parent.is_dir():
            self.give_up(
                "missing", f"{log.parent} is not on {self._place}: a study on Ray needs a shared file system"
            )
            return
        command = [sys.executable, "-m", "cipo_eval", *order.arguments]
        self._process = launched(command, log, os.environ)
        if self._stopped:
            self.stop()
        self.put(number, 0, self._process.wait())


class _Remote:
    """A job's process on some node."""

    def __init__(self, jobs: _Jobs, order: Order) -> None:
        self._jobs, self.order = jobs, order
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit code; None while it runs, or waits for a node."""
        self._jobs.look(0.0)
        return self.returncode

    def send_signal(self, _: int) -> None:
        """Ctrl-C, for all of them: a study stops as a whole."""
        self._jobs.stop()

    def wait(self) -> int:
        """Its exit code, waiting for it; of one that no node has begun, that of an interrupt."""
        while self.returncode is None:
            self._jobs.look(LOOK_SECONDS)
            if self.returncode is None and not self._jobs.crew.under_way:
                self.returncode = 128 + signal.SIGINT
        return self.returncode


class _Jobs:
    """The crew of a study."""

    def __init__(self, place: Place, workers: int, say: Callable[[str], None]) -> None:
        library = ray()
        actor = library.remote(JobHost).options(
            num_cpus=place.cpus, num_gpus=place.gpus, max_restarts=0, max_task_retries=0, max_concurrency=4
        )
        here = Surroundings.here()
        self._stopped = False
        self.crew: Crew[_Remote] = Crew(
            "host",
            lambda _: actor.remote(here),
            wanted=workers,
            needs=place.needs,
            limits=Limits(stall=float("inf"), nobody=place.wait_for_nodes),
            room=1,
            say=say,
        )

    def stop(self) -> None:
        """Ctrl-C for the jobs that are under way; no other one begins."""
        self._stopped = True
        self.crew.tell("stop")

    def look(self, seconds: float) -> None:
        """Takes what became of jobs."""
        if self._stopped:
            self.crew.withdraw()
        for event in self.crew.turn(seconds, lambda process, _: process.order):
            event.payload.returncode = event.result if isinstance(event, Done) else EXIT_MISSING


class RayRunner(Runner):
    """Carries out the jobs of a study on a cluster, ``workers`` at a time. Raises ``MissingError`` where there is
    none."""

    def __init__(
        self,
        folder: Path,
        jobs: Sequence[Job],
        workers: int | None,
        place: Place,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``workers``: None: as many as the cluster has room for now, at least one."""
        self._connection = Connection(place.address)
        super().__init__(folder, jobs, workers or room(place, nodes().values()))
        self._place, self._say = place, say
        self._jobs: _Jobs | None = None

    def run(self, interrupts: Interrupts, watch: Watch) -> None:
        """As ``Runner.run``."""
        workers = min(self.workers, len(self.left))
        self._jobs = _Jobs(self._place, workers, self._say)
        try:
            super().run(interrupts, watch)
        finally:
            self._jobs.crew.close()
            self._connection.close()

    def _launch(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        """Begins a job on some node; ``environment`` is this machine's, and a node has its own."""
        del environment
        assert self._jobs is not None
        process = _Remote(self._jobs, Order(tuple(command[3:]), str(log)))  # its own Python, not ours
        self._jobs.crew.add(process, (0,))
        return process


def room(place: Place, there: Any) -> int:
    """Jobs that nodes with these resources have room for, at least one."""
    wanted = {name: amount for name, amount in place.needs.items() if amount}
    fitting = [min((int(node.get(n, 0) // a) for n, a in wanted.items()), default=1) for node in there]
    return max(1, sum(fitting))
