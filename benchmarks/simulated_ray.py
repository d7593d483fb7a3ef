"""A Ray cluster in virtual time: stands in for the library, so that the real engine of Ray drives replicas that are
not there.

``SimulatedRay`` has the part of Ray's interface that ``cipo_eval.cluster`` uses. Behind it replicas generate with as
many slots as they have, queue what they were given ahead, gather completions into answers to polls as
``cluster.station`` does, fail, and start anew. Time is virtual: it passes where the driver waits for replicas, and by
the driver's own processor time between two waits, so that replicas stand idle when the driver is slow. Every second of
every slot is accounted for (``Ledger``).
"""

from __future__ import annotations

import heapq
import math
import pickle
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from cipo_eval.cluster.station import BEAT_SECONDS, GATHER_SECONDS, Answer
from cipo_eval.records import Completion, FinishReason

BEGIN, FINISH, ANSWER, FAIL = range(4)
"""Of a replica: it is ready, one of its samples is done, an answer to a poll goes off, it dies."""
DRIVER, HANDING, VERIFIERS = "driver", "handing over", "verifiers"
"""Why time passes: the driver computes, it waits for replicas, it waits for verifiers."""
DRAWS = 1 << 14
"""Random numbers that are drawn at once."""
LOOK_SECONDS = 0.25
"""Virtual, between two looks at the queues."""
VERDICTS_TOGETHER = 32
"""That a driver which waits for verifiers waits for at once."""


@dataclass(frozen=True, kw_only=True)
class Machines:
    """What the simulated machines do. Seconds are virtual."""

    replicas: int
    slots: int
    """Samples that a replica generates at once."""
    token_seconds: float
    """Of one sample, whatever runs beside it."""
    median_tokens: float
    sigma: float
    """Lengths are lognormal: their median, and the deviation of their logarithm."""
    most_tokens: int = 4096
    life: float = float("inf")
    """Mean seconds until a replica that works fails, exponential."""
    start: float = 120.0
    """Seconds that a replica takes to load its model, on average; between 0.75 and 1.25 of it."""
    unnoticed: float = 5.0
    """Seconds until the driver hears that a replica has failed."""
    verifiers: int = 16
    verdict_seconds: float = 1 / 1185
    """On average; exponential."""
    call_seconds: float = 0.0005
    """Of the driver's processor that one call of Ray costs, beyond what is computed here."""
    driver_pace: float = 1.0
    """Virtual seconds that a second of the driver's processor takes; 0: it takes no time, whatever it does."""


@dataclass(slots=True)
class Ledger:
    """Seconds of slots by what became of them. Together they are all slots × the whole time."""

    busy: float = 0.0
    redone: float = 0.0
    """Of the busy ones, those whose work was lost with a replica."""
    start: float = 0.0
    """Until a replica was ready for the first time."""
    down: float = 0.0
    """From a failure until the replica that takes its place is ready."""
    tail: float = 0.0
    """Idle when all that was left was with some replica already."""
    idle: dict[str, float] = field(default_factory=lambda: dict.fromkeys((DRIVER, HANDING, VERIFIERS), 0.0))
    """Idle while work was left, by what the driver did meanwhile."""

    @property
    def total(self) -> float:
        """All of them."""
        return self.busy + self.start + self.down + self.tail + sum(self.idle.values())


class Poll:
    """A question to a replica that is answered once there is something to say."""

    __slots__ = ("answer", "answered", "handle")

    def __init__(self, handle: Handle) -> None:
        self.handle = handle
        self.answered = False
        self.answer: bytes | None = None
        """Pickled; None where the replica has died."""


class Handle:
    """One start of a replica."""

    def __init__(self, cluster: Cluster, first: bool) -> None:
        self.first = first
        """Whether none was there before in its place."""
        self.alive, self.ready, self.told = True, False, False
        self.queue: deque[tuple[int, int, int]] = deque()
        """Parcel, sample and problem of what waits for a slot."""
        self.busy: dict[tuple[int, int], float] = {}
        """When each sample that is generated was begun."""
        self.finished: list[tuple[int, int, int, int, float]] = []
        """Parcel, sample, problem, tokens and seconds of what no answer has carried yet."""
        self.poll: Poll | None = None
        self.gathering = False
        self.most = self.count = 0
        self.push = SimpleNamespace(remote=lambda parcels: cluster.push(self, parcels))
        self.pull = SimpleNamespace(remote=lambda: cluster.pull(self))


class Cluster:
    """Replicas, verifiers and their clock. ``total``: samples that will be asked for. ``text``: that of a sample of a
    problem (its index). ``seed``: of all that is drawn."""

    def __init__(
        self, machines: Machines, total: int, text: Callable[[int, int], str], seed: int = 0
    ) -> None:
        self.machines, self._text = machines, text
        self.now = 0.0
        self.ledger = Ledger()
        self.unassigned = total
        """Samples that are with no replica and not done."""
        self.failures = self.redone = self.calls = 0
        self.useful = 0.0
        """Seconds of slots whose samples were answered."""
        self.driver_seconds, self.own_seconds = 0.0, 0.0
        """Of the processor: the driver's, and this simulation's."""
        self.queues = Queues()
        self._up = self._begun = self._started = self._busy = 0
        self._queued = self._unheard = 0
        self._events: list[tuple[float, int, int, Handle, Any]] = []
        self._order = 0
        self._answered = 0
        """Answers that nobody has taken yet."""
        random = np.random.default_rng(seed)
        self._uniform = _draws(random.random)
        self._exponential = _draws(random.standard_exponential)
        self._normal = _draws(random.standard_normal)
        self._entered, self._left = 0.0, time.process_time()
        self._charged = 0
        self.pending: list[tuple[Future[Any], Any]] = []
        """Verdicts that were asked for since the last look."""
        self._judging: list[tuple[float, int, Future[Any], Any]] = []
        self._verifiers = [0.0] * machines.verifiers
        self.waiting: Callable[[], int] = lambda: 0
        """Samples that the driver has taken from its feed and given to nobody."""

    # --- the clock -------------------------------------------------------------------------------------------

    def enter(self) -> None:
        """From the driver's time into the simulation's: what the driver took passes."""
        self._entered = time.process_time()
        computed = self._entered - self._left
        self.driver_seconds += computed
        called = (self.calls - self._charged) * self.machines.call_seconds
        self._charged = self.calls
        self._advance(self.now + (computed + called) * self.machines.driver_pace, DRIVER)
        self._judge()

    def leave(self) -> None:
        """Back to the driver, with the verdicts that are there by now."""
        due = []
        while self._judging and self._judging[0][0] <= self.now:
            due.append(heapq.heappop(self._judging))
        self._left = time.process_time()
        self.own_seconds += self._left - self._entered
        for _, _, verdicts, value in due:
            verdicts.set_result(value)

    def _judge(self) -> None:
        """Gives verifiers what the driver has asked for."""
        for verdicts, value in self.pending:
            end = max(self._verifiers[0], self.now) + next(self._exponential) * self.machines.verdict_seconds
            heapq.heapreplace(self._verifiers, end)
            self._order += 1
            heapq.heappush(self._judging, (end, self._order, verdicts, value))
        self.pending.clear()

    @property
    def judging(self) -> int:
        """Verdicts that are not there yet."""
        return len(self._judging) + len(self.pending)

    def wait_for_verdicts(self, most: int = VERDICTS_TOGETHER) -> None:
        """What a driver does that has too many verdicts under way, or nothing else left."""
        self.enter()
        ends = heapq.nsmallest(most, self._judging)
        if ends:
            self._advance(ends[-1][0], VERIFIERS)
        self.leave()

    def _pass(self, until: float, why: str) -> None:
        seconds, ledger, slots = until - self.now, self.ledger, self.machines.slots
        if seconds <= 0:
            return
        up = self._up * slots
        ledger.busy += seconds * self._busy
        ledger.start += seconds * (self.machines.replicas - self._begun) * slots
        ledger.down += seconds * (self._begun * slots - up)
        if self.unassigned:
            ledger.idle[why] += seconds * (up - self._busy)
        else:
            ledger.tail += seconds * (up - self._busy)
        self.now = until

    def _advance(self, until: float, why: str) -> None:
        events = self._events
        while events and events[0][0] <= until:
            self._step(why)
        self._pass(until, why)

    def _step(self, why: str) -> None:
        moment, _, kind, handle, what = heapq.heappop(self._events)
        self._pass(moment, why)
        if kind == FINISH:
            self._finish(handle, *what)
        elif kind == ANSWER:
            if not what.answered and handle.poll is what and handle.alive:
                self._answer(handle, what)
        elif kind == BEGIN:
            self._begin(handle)
        elif handle.alive:
            self._fail(handle)
        elif what is not None and not what.answered:  # the driver hears of it
            what.answered = True
            self._answered += 1

    def _at(self, moment: float, kind: int, handle: Handle, what: Any = None) -> None:
        self._order += 1
        heapq.heappush(self._events, (moment, self._order, kind, handle, what))

    # --- replicas --------------------------------------------------------------------------------------------

    def start(self) -> Handle:
        """A replica that begins to load its model."""
        self._started += 1
        handle = Handle(self, first=self._started <= self.machines.replicas)
        self._at(self.now + self.machines.start * (0.75 + next(self._uniform) / 2), BEGIN, handle)
        return handle

    def _begin(self, handle: Handle) -> None:
        handle.ready = True
        self._up += 1
        self._begun += handle.first
        if self.machines.life != float("inf"):
            self._at(self.now + next(self._exponential) * self.machines.life, FAIL, handle)
        self._gather(handle)

    def _fail(self, handle: Handle) -> None:
        handle.alive = False
        self.failures += 1
        self._up -= 1
        self._busy -= len(handle.busy)
        lost = sum(self.now - begun for begun in handle.busy.values()) + sum(f[4] for f in handle.finished)
        self.ledger.redone += lost
        self.redone += len(handle.busy) + len(handle.finished)
        self.unassigned += len(handle.busy) + len(handle.finished) + len(handle.queue)
        self._queued -= len(handle.queue)
        self._unheard -= len(handle.finished)
        handle.busy, handle.finished = {}, []
        handle.queue.clear()
        if handle.poll is not None and not handle.poll.answered:
            self._at(self.now + self.machines.unnoticed, FAIL, handle, handle.poll)

    def push(self, handle: Handle, parcels: Sequence[tuple[int, Any]]) -> None:
        """Work for a replica; what a dead one is given is with nobody."""
        self.calls += 1
        pickle.dumps(parcels, pickle.HIGHEST_PROTOCOL)  # as Ray does, in the driver
        if not handle.alive:
            return
        for number, (request, _) in parcels:
            problem = request.problem.index
            handle.queue.extend((number, sample, problem) for sample in request.samples)
            self.unassigned -= len(request.samples)
            self._queued += len(request.samples)
        self._fill(handle)

    def _fill(self, handle: Handle) -> None:
        queue, busy, machines = handle.queue, handle.busy, self.machines
        while queue and len(busy) < machines.slots:
            number, sample, problem = queue.popleft()
            length = machines.median_tokens * math.exp(machines.sigma * next(self._normal))
            tokens = min(max(int(length), 1), machines.most_tokens)
            busy[number, sample] = self.now
            self._busy += 1
            self._queued -= 1
            end = self.now + tokens * machines.token_seconds
            self._at(end, FINISH, handle, (number, sample, problem, tokens))
        handle.most = max(handle.most, len(busy))

    def _finish(self, handle: Handle, number: int, sample: int, problem: int, tokens: int) -> None:
        if not handle.alive:
            return
        begun = handle.busy.pop((number, sample))
        self._busy -= 1
        handle.finished.append((number, sample, problem, tokens, self.now - begun))
        handle.count += 1
        self._unheard += 1
        if handle.queue:
            self._fill(handle)
        self._gather(handle)

    # --- polls -----------------------------------------------------------------------------------------------

    def pull(self, handle: Handle) -> Poll:
        """A poll of a replica."""
        self.calls += 1
        poll = handle.poll = Poll(handle)
        handle.gathering = False
        if not handle.alive:
            self._at(self.now + self.machines.unnoticed, FAIL, handle, poll)
            return poll
        self._at(self.now + BEAT_SECONDS, ANSWER, handle, poll)
        self._gather(handle)
        return poll

    def _gather(self, handle: Handle) -> None:
        """Something is to be said: an answer goes off soon."""
        poll = handle.poll
        if poll is None or poll.answered or handle.gathering or not handle.ready:
            return
        if handle.finished or not handle.told:
            handle.gathering = True
            self._at(self.now + GATHER_SECONDS, ANSWER, handle, poll)

    def _answer(self, handle: Handle, poll: Poll) -> None:
        finished = [
            (number, sample, self._completion(problem, sample, tokens, seconds))
            for number, sample, problem, tokens, seconds in handle.finished
        ]
        self.useful += sum(seconds for *_, seconds in handle.finished)
        handle.finished = []
        handle.told = handle.ready
        answer = Answer(
            place="node",
            process=1,
            ready={"engine": "simulated", "model": "simulated", "fingerprint": "0"} if handle.ready else None,
            finished=finished,
            works_at=handle.most,
            progress=handle.count,
        )
        poll.answer = pickle.dumps((answer, len(finished)), pickle.HIGHEST_PROTOCOL)
        poll.answered = True
        self._answered += 1

    def _completion(self, problem: int, sample: int, tokens: int, seconds: float) -> Completion:
        return Completion(
            text=self._text(problem, sample),
            finish_reason=FinishReason.STOP,
            prompt_tokens=100,
            completion_tokens=tokens,
            seconds=seconds,
        )

    def wait(self, polls: list[Poll], wanted: int, seconds: float) -> tuple[list[Poll], list[Poll]]:
        """As ``ray.wait``."""
        self.enter()
        self.queues.look(self)
        until = self.now + seconds
        while self._answered < wanted and self._events and self._events[0][0] <= until:
            self._step(HANDING)
        if self._answered < wanted:
            self._pass(until, HANDING)
        heard = [poll for poll in polls if poll.answered][:wanted]
        self.leave()
        return heard, []

    def get(self, poll: Poll) -> Any:
        """As ``ray.get``."""
        self._answered -= 1
        if poll.answer is None:
            raise ActorDied("The actor died unexpectedly: its process has died.")
        answer, finished = pickle.loads(poll.answer)
        self._unheard -= finished
        poll.answer = None
        return answer

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples in queues at replicas, completions that no driver has heard of, samples that it holds for replicas,
        and verdicts that are not there."""
        return self._queued, self._unheard, self.waiting(), self.judging


class Queues:
    """How long queues were, each length weighed with the time that it was seen to last."""

    names = ("waiting at replicas", "completions unheard of", "feed ahead", "verdicts under way")

    def __init__(self) -> None:
        self._weights = array("d")
        self._lengths = [array("q") for _ in self.names]
        self._looked = 0.0

    def look(self, cluster: Cluster) -> None:
        """Notes them, if it is time."""
        if (weight := cluster.now - self._looked) >= LOOK_SECONDS:
            self._looked = cluster.now
            self._weights.append(weight)
            for lengths, length in zip(self._lengths, cluster.lengths, strict=True):
                lengths.append(length)

    def figures(self) -> dict[str, dict[str, float]]:
        """Of each queue its mean and 99th percentile over time."""
        weights = np.asarray(self._weights)
        return {
            name: _weighted(np.asarray(lengths), weights)
            for name, lengths in zip(self.names, self._lengths, strict=True)
        }


def _weighted(lengths: npt.NDArray[Any], weights: npt.NDArray[Any]) -> dict[str, float]:
    if not len(lengths):
        return {"mean": 0.0, "p99": 0.0}
    order = np.argsort(lengths)
    at = np.searchsorted(np.cumsum(weights[order]), 0.99 * weights.sum())
    return {
        "mean": round(float(np.average(lengths, weights=weights)), 1),
        "p99": float(lengths[order[min(int(at), len(order) - 1)]]),
    }


def _draws(of: Callable[[int], npt.NDArray[Any]]) -> Iterator[float]:
    while True:
        yield from of(DRAWS).tolist()


class ActorDied(Exception):  # noqa: N818  named like Ray's
    """The error of a call of an actor that is gone."""


class SimulatedRay(SimpleNamespace):
    """The library, as far as ``cipo_eval.cluster`` and the engine use it."""

    exceptions = SimpleNamespace(RayError=ActorDied)

    def __init__(self, cluster: Cluster) -> None:
        super().__init__()
        self._cluster = cluster

    def is_initialized(self) -> bool:
        return True

    def put(self, value: Any) -> Any:
        return value

    def nodes(self) -> list[Mapping[str, Any]]:
        return []

    def remote(self, _kind: type) -> Any:
        """An actor class: every actor of it is a replica."""
        made = SimpleNamespace(remote=lambda *_: self._cluster.start())
        return SimpleNamespace(options=lambda **_: made)

    def kill(self, handle: Handle) -> None:
        handle.alive = False

    def wait(self, polls: list[Poll], *, num_returns: int, timeout: float) -> Any:
        return self._cluster.wait(polls, num_returns, timeout)

    def get(self, poll: Poll) -> Any:
        return self._cluster.get(poll)
