"""A replica of the ``ray`` engine, as it runs on a node: an actor that holds another engine, and a feed for it."""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cipo_eval.cluster.station import Station, Surroundings
from cipo_eval.engines.engine import Engine
from cipo_eval.engines.feed import Feed
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Failure, Problem, Request

_LOOK_SECONDS = 0.2
"""Between two looks at a feed in which nothing is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What a replica is made of. Plain data: a node makes the engine from it as any command would."""

    engine: str
    model: str
    options: Mapping[str, Any]
    think: str
    clock: datetime
    problems: Sequence[Problem] = ()
    """What the engine is told of the problems that will be asked."""
    surroundings: Surroundings
    """Engines of users' own are found there, and checkpoints."""


class Inbox(Feed):
    """A feed that stays open while it is empty: more comes from the driver as long as that is there."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived = threading.Event()

    def take(self, *, wait: bool) -> list[Request]:
        while True:
            self._arrived.clear()
            requests = super().take(wait=False)
            if requests or not wait:
                return requests
            self._arrived.wait(_LOOK_SECONDS)

    def arrive(self, requests: Sequence[Request]) -> None:
        """More to do."""
        self.add(requests)
        self._arrived.set()


class Replica(Station):
    """Generates what it is given: parcels are requests, parts their samples."""

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self._inbox = Inbox()
        self._numbers: dict[int, tuple[int, Request, set[int]]] = {}
        """Of requests under way, by identity: their parcel, themselves, and the samples that are not finished."""
        self._engine: Engine | None = None
        self._most = 0
        threading.Thread(target=self._work, args=(opening,), name="engine", daemon=True).start()

    def push(self, parcels: Sequence[tuple[int, tuple[Request, bool]]]) -> None:
        """Requests, and whether more may follow from them."""
        for number, (request, follow) in parcels:
            self._numbers[id(request)] = (number, request, set(request.samples))
            self._inbox.follow = follow
        self._inbox.arrive([request for _, (request, _) in parcels])

    def works_at(self) -> int:
        """The most samples that the engine was seen to have under way, if it says so."""
        self._look()
        return self._most

    def progress(self) -> int:
        """Tokens so far, if the engine says so."""
        return int(getattr(self._engine, "generated", None) or 0) if self._ready else 0

    def notes(self) -> Sequence[str]:
        """What the engine had to do otherwise than asked."""
        tell = getattr(self._engine, "notes", None)
        return tuple(tell()) if tell and self._ready else ()

    def _work(self, opening: Opening) -> None:
        """The engine's thread: makes it, and generates for as long as there is somebody who asks."""
        try:
            self._engine = made(opening)
            self.begin(self._engine.describe())
            while True:  # an engine without follow-ups may think that it is done
                for request, sample, completion in self._engine.generate(self._inbox):
                    self._finish(request, sample, completion)
        except UsageError as error:
            self.give_up("usage", str(error))
        except MissingError as error:
            self.give_up("missing", str(error))
        except BaseException as error:
            traceback.print_exc()
            self.give_up("fault", f"{type(error).__name__}: {str(error).partition(os.linesep)[0][:300]}")

    def _look(self, finished: int = 0) -> None:
        """Sees how many samples are under way, besides one that has just been finished."""
        if self._ready and (under_way := getattr(self._engine, "under_way", None)) is not None:
            self._most = max(self._most, int(under_way) + finished)

    def _finish(self, request: Request, sample: int, completion: Completion | Failure) -> None:
        self._look(1)  # those that take equally long end at once: afterwards none would be seen
        number, _, left = self._numbers[id(request)]
        left.discard(sample)
        if not left:
            del self._numbers[id(request)]
        self._inbox.done()
        if isinstance(completion, Completion):  # no run keeps them, and they are most of the bytes
            completion = replace(completion, token_ids=None, logprobs=None)
        self.put(number, sample, completion)


def made(opening: Opening) -> Engine:
    """The engine, on this node. Raises ``UsageError``, ``MissingError``."""
    from cipo_eval.engines import registry

    opening.surroundings.adopt()
    options = registry.options(opening.engine, opening.options)
    options.look(opening.model)
    choice = registry.EngineChoice(
        engine=opening.engine, model=opening.model, options=options, think=opening.think
    )
    return choice.make(opening.problems, clock=opening.clock)
