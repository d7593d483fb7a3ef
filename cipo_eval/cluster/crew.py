"""Actors of one kind on a Ray cluster, kept at their number while nodes come and go, and the work that they share.

An actor is a ``Station``: it is given parcels and polled for what is done. One that dies, with its node or alone, that
says nothing, or that goes on with nothing, is replaced, and what it had goes to others. Ray itself restarts nothing:
an actor that it restarts knows neither what it was told nor what it had to do.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from cipo_eval.cluster.connection import nodes, ray
from cipo_eval.cluster.dispatch import Dispatcher
from cipo_eval.cluster.station import Answer, Broken
from cipo_eval.errors import MissingError, UsageError

LOOK_NODES_SECONDS = 2.0
"""Between two looks at which nodes there are."""
MOST_PASSED_SECONDS = 1.0
"""Most seconds that count of the time between two looks: this process may have been stopped."""
HEARD_TOGETHER = 16
"""One in so many of the actors says something before they are heard, if that does not take too long: to hear any of
them costs a look at all."""
FIRST_SAY_SECONDS, SAY_SECONDS = 10.0, 60.0
"""Without a single actor: until the first message, and between two."""
START_SECONDS = 60.0
"""Seconds that a node which could hold an actor is given to start one, however little patience is asked for."""
FALSE_STARTS = 5
"""Actors lost one after the other before any was ready, after which there will be none."""
RESTART_SECONDS = 1.0
"""After an actor was lost before it was ready, until the next one; doubled with each that follows it."""

T = TypeVar("T")


class Done(NamedTuple, Generic[T]):
    """A part of a payload that is finished."""

    payload: T
    part: int
    result: Any


class Lost(NamedTuple, Generic[T]):
    """Parts of a payload with which too many actors were lost: nobody is given them any more."""

    payload: T
    parts: frozenset[int]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How long what may take."""

    silence: float = 120.0
    """Seconds without an answer after which an actor is lost."""
    stall: float = 3600.0
    """Seconds without progress after which an actor that has work is lost."""
    nobody: float = 3600.0
    """Seconds without any actor after which there is no use in waiting."""


@dataclass(slots=True, eq=False)
class _Actor:
    handle: Any
    node: str | None
    """The node that it is bound to."""
    poll: Any
    """The answer that is waited for."""
    place: str = ""
    """Where it is; empty until it has answered."""
    process: int = 0
    ready: Any = None
    progress: int = 0
    silent: float = 0.0
    stalled: float = 0.0


@dataclass(slots=True)
class _Count:
    lost: Counter[str] = field(default_factory=Counter)
    """Actors that were lost, by why."""
    false_starts: int = 0


class Crew(Generic[T]):
    """For one thread, except for ``say``. A context manager that ends its actors."""

    def __init__(
        self,
        what: str,
        start: Callable[[str | None], Any],
        *,
        wanted: int | None,
        needs: Mapping[str, float] | None = None,
        limits: Limits = Limits(),
        room: int | None = None,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """``what``: its actors, for people (``replica``). ``start(node)``: a new actor, bound to a node or to none.
        ``wanted``: how many; None: one on each node that has processors. ``needs``: what one takes of a node, by Ray's
        names (``CPU``, ``GPU``). ``room``: as in ``Dispatcher``. ``say``: hears what people should know at once."""
        self._what, self._start, self._wanted = what, start, wanted
        self._needs = {name: amount for name, amount in (needs or {"CPU": 1}).items() if amount}
        self._limits, self._say = limits, say
        self._dispatcher: Dispatcher[T] = Dispatcher(room)
        self._actors: dict[int, _Actor] = {}
        self._names = 0
        self._count = _Count()
        self._ready: Any = None
        self._notes: dict[str, None] = {}
        now = time.monotonic()
        self._looked, self._looked_at_nodes, self._next_start = now, -LOOK_NODES_SECONDS, now
        self._nobody = 0.0
        self._next_say = FIRST_SAY_SECONDS

    def __enter__(self) -> Crew[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return self._dispatcher.idle

    @property
    def under_way(self) -> int:
        """Parts that actors have; for any thread to look at."""
        return sum(tuple(self._dispatcher.held(name) for name in tuple(self._actors)))

    @property
    def room(self) -> int:
        """Parts that actors may have at the most."""
        return self._dispatcher.room

    @property
    def ready(self) -> Any:
        """What the first actor said of itself that could work; None: none could yet."""
        return self._ready

    @property
    def processes(self) -> list[int]:
        """Process ids of the actors that have answered."""
        return [actor.process for actor in tuple(self._actors.values()) if actor.process]

    @property
    def notes(self) -> list[str]:
        """What actors had to do otherwise than asked, and a line for each reason for which some were lost."""
        return [
            *self._notes,
            *(
                f"Ray: {count} {self._what}(s) lost ({why}); what they had went to others"
                for why, count in self._count.lost.items()
            ),
        ]

    def add(self, payload: T, parts: Iterable[int], *, home: Hashable = None, first: bool = False) -> None:
        """Work to be done, as in ``Dispatcher.add``."""
        self._dispatcher.add(payload, parts, home=home, first=first)

    def turn(self, seconds: float, pack: Callable[[T, set[int]], Any]) -> Iterator[Done[T] | Lost[T]]:
        """Sees to the actors, gives them what waits, and yields what is finished within so many seconds.

        ``pack``: what is sent of a payload with these parts. Raises ``UsageError`` where an actor says that what is
        asked for is wrong, ``MissingError`` where there was no actor for too long, or none that could start."""
        self._muster()
        for name, parcels in self._dispatcher.assign().items():
            packed = [(parcel.number, pack(parcel.payload, parcel.parts)) for parcel in parcels]
            self._actors[name].handle.push.remote(packed)
        yield from self._listen(seconds)

    def tell(self, method: str) -> None:
        """Calls a method of each actor that works at something, and waits for none."""
        for name, actor in self._actors.items():
            if actor.ready is not None and self._dispatcher.held(name):
                getattr(actor.handle, method).remote()

    def withdraw(self) -> None:
        """What nobody has begun is not wanted any more."""
        self._dispatcher.withdraw()

    def forget(self) -> None:
        """Nothing that was added is wanted any more."""
        self._dispatcher.forget()

    def close(self) -> None:
        """Ends the actors, whatever they do; safe to call twice."""
        actors, self._actors = self._actors, {}
        for name, actor in actors.items():
            self._dispatcher.leave(name)
            _kill(actor.handle)

    # --- who is there ----------------------------------------------------------------------------------------

    def _muster(self) -> None:
        """As many actors as are wanted; some may wait for a node."""
        now = time.monotonic()
        if now < self._next_start:
            return
        if self._wanted is not None:
            for _ in range(self._wanted - len(self._actors)):
                self._join(None)
        elif now - self._looked_at_nodes >= LOOK_NODES_SECONDS:
            self._looked_at_nodes = now
            there = {node for node, resources in nodes().items() if resources.get("CPU")}
            for node in there - {actor.node for actor in self._actors.values()}:
                self._join(node)

    def _join(self, node: str | None) -> None:
        handle = self._start(node)
        self._names += 1
        self._actors[self._names] = _Actor(handle, node, handle.pull.remote())

    def _lose(self, name: int, why: str) -> Iterator[Lost[T]]:
        actor = self._actors.pop(name)
        _kill(actor.handle)
        self._count.lost[why] += 1
        where = f" on {actor.place} (process {actor.process})" if actor.place else ""
        self._say(f"Ray: a {self._what}{where} is lost ({why}); what it had goes to others")
        if actor.ready is None:
            self._count.false_starts += 1
            self._next_start = time.monotonic() + RESTART_SECONDS * 2 ** min(self._count.false_starts, 6)
            if self._count.false_starts >= FALSE_STARTS and not self._someone:
                raise MissingError(f"Ray: no {self._what} can start: {why}")
        for parcel in self._dispatcher.leave(name):
            yield Lost(parcel.payload, frozenset(parcel.parts), f"{self._what}s were lost with it ({why})")

    @property
    def _someone(self) -> bool:
        return any(actor.ready is not None for actor in self._actors.values())

    # --- what they say ---------------------------------------------------------------------------------------

    def _listen(self, seconds: float) -> Iterator[Done[T] | Lost[T]]:
        library = ray()
        polls = {actor.poll: name for name, actor in self._actors.items()}
        if polls:
            some = -(-len(polls) // HEARD_TOGETHER)
            library.wait(list(polls), num_returns=some, timeout=seconds)
        else:
            time.sleep(seconds)
        heard = set(library.wait(list(polls), num_returns=len(polls), timeout=0)[0]) if polls else set()
        now = time.monotonic()
        passed, self._looked = min(now - self._looked, MOST_PASSED_SECONDS), now
        for poll, name in polls.items():
            self._actors[name].stalled += passed
            if poll in heard:
                yield from self._hear(name, poll)
            elif self._actors[name].place:
                yield from self._wait_for(name, passed)
        self._wait_for_anybody(passed)

    def _hear(self, name: int, poll: Any) -> Iterator[Done[T] | Lost[T]]:
        library, actor = ray(), self._actors[name]
        try:
            answer: Answer = library.get(poll)
        except library.exceptions.RayError as error:
            yield from self._lose(name, _why(error))
            return
        actor.place, actor.process, actor.silent = answer.place, answer.process, 0.0
        if answer.ready is not None and actor.ready is None:
            actor.ready = answer.ready
            if self._ready is None:
                self._ready = answer.ready
            elif self._ready != answer.ready:
                yield from self._lose(
                    name, "it does not do the same as the first one: another model, or precision"
                )
                return
            self._count.false_starts = 0
            self._dispatcher.join(name)
        self._notes.update(dict.fromkeys(answer.notes))
        if answer.progress != actor.progress or actor.ready is None or not self._dispatcher.held(name):
            actor.progress, actor.stalled = answer.progress, 0.0
        if actor.ready is not None and answer.works_at:
            self._dispatcher.works_at(name, answer.works_at)
        actor.poll = actor.handle.pull.remote()
        for number, part, result in answer.finished:
            payload = self._dispatcher.done(name, number, part)
            if payload is not None:
                yield Done(payload, part, result)
        if answer.broken:
            yield from self._broke(name, answer.broken)
        elif actor.stalled > self._limits.stall:
            yield from self._lose(name, f"it got no further for {self._limits.stall:g} s")

    def _broke(self, name: int, broken: Broken) -> Iterator[Lost[T]]:
        """What an actor says is wrong with what is asked ends all, unless it could not start where others can; what is
        missing does where nobody else is there."""
        others = sum(actor.ready is not None for key, actor in self._actors.items() if key != name)
        if broken.kind == "usage" and (self._actors[name].ready is not None or not others):
            raise UsageError(broken.why)
        if broken.kind == "missing" and not others:
            raise MissingError(broken.why)
        yield from self._lose(name, broken.why)

    def _wait_for(self, name: int, passed: float) -> Iterator[Lost[T]]:
        """An actor that did not answer this time."""
        actor = self._actors[name]
        actor.silent += passed
        if actor.silent > self._limits.silence:
            yield from self._lose(name, f"it said nothing for {self._limits.silence:g} s")

    def _wait_for_anybody(self, passed: float) -> None:
        if any(actor.place for actor in self._actors.values()):
            self._nobody, self._next_say = 0.0, FIRST_SAY_SECONDS
            return
        self._nobody += passed
        left = self._limits.nobody - self._nobody
        needs = ", ".join(f"{amount:g} {name}" for name, amount in self._needs.items())
        what = f"no node has room for a {self._what} ({needs})"
        if left <= 0 and (self._nobody > START_SECONDS or not self._possible()):
            raise MissingError(
                f"Ray: {what}, for {self._nobody:.0f} s now; what is judged is kept, and the same command goes on from "
                "there"
            )
        if self._nobody >= self._next_say:
            self._next_say = self._nobody + SAY_SECONDS
            self._say(f"Ray: {what}: waiting, for at most {max(left, 0):.0f} s more")

    def _possible(self) -> bool:
        """Whether some node is large enough: it may be about to start one."""
        return any(
            all(there.get(name, 0) >= amount for name, amount in self._needs.items())
            for there in nodes().values()
        )


def _kill(handle: Any) -> None:
    library = ray()
    with contextlib.suppress(Exception):  # it is gone already, or so is the cluster
        if library.is_initialized():
            library.kill(handle)


def _why(error: Exception) -> str:
    """One line of what Ray says of an actor's end, without what is of this one only."""
    text = str(error)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    why = next((why for sign, why in _SIGNS if sign in text), type(error).__name__)
    return f"{why}: {lines[-1][:200]}" if why == _NO_START or why == type(error).__name__ else why


_NO_START = "it does not start"
_SIGNS = (
    ("node has died", "its node is gone"),
    ("process has died", "its process has died"),
    ("unavailable", "it cannot be reached"),
    ("creation task", _NO_START),
)
"""What Ray says of an actor's end, and the same in a few words."""
