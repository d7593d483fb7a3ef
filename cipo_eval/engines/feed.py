"""Requests that come while others are generated: what lets turn 2 of one problem run beside turn 1 of another.

An engine takes what is there whenever it has room, and waits only when it has nothing else to do. The feed ends when
every sample that was asked for is done: each one may, before that, add the requests that follow from it.

Requests that were known from the beginning are made as they are taken, ``AHEAD`` samples before they are needed, or as
many as the engine has room for: ten million of them take no memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from cipo_eval.records import Request

_LOOK_SECONDS = 0.2
"""Between two looks while waiting: an interrupt gets through in between."""


AHEAD = 1 << 16
"""At most so many samples are with the engine of those that are made as they are taken, unless it has room for more."""


class Feed:
    """A queue of requests with a count of samples that are not done. Safe to use from several threads.

    ``samples``: how many the ``requests`` are for, where they are to be made as they are taken; None: they are counted
    at once. With ``follow`` False nothing follows from what is done: the feed ends when all requests are taken.
    """

    def __init__(
        self, requests: Iterable[Request] = (), *, follow: bool = True, samples: int | None = None
    ) -> None:
        self._changed = threading.Condition()
        self._waiting: list[Request] = []
        self._later: Iterator[Request] | None = None
        self.open = 0
        """Samples that are not done."""
        self._taken = 0
        """Samples that were taken and are not done."""
        self.ahead = AHEAD
        """As ``AHEAD``; an engine that has room for more raises it."""
        self.follow = follow
        """Whether requests may follow from what is done."""
        self.settle: Callable[[float], None] = self._rest
        """What the engine's thread does for at most so many seconds, whenever it looks for requests or waits for them:
        a run takes in the verdicts that are there by then, from which requests may follow."""
        if samples is None:
            self.add(requests)
        elif samples:
            self._later, self.open = iter(requests), samples

    def add(self, requests: Iterable[Request]) -> None:
        with self._changed:
            for request in requests:
                self._waiting.append(request)
                self.open += len(request.samples)
            self._changed.notify_all()

    def expect(self, samples: int) -> None:
        """So many samples come from elsewhere, and requests may follow from them."""
        with self._changed:
            self.open += samples

    def done(self, samples: int = 1) -> None:
        """So many samples are finished, or will never come, and what follows from them has been added."""
        with self._changed:
            self.open -= samples
            self._taken -= samples
            self._changed.notify_all()

    def end(self) -> None:
        """Nothing more is wanted, whatever is under way."""
        with self._changed:
            self._waiting.clear()
            self._later = None
            self.open, self.follow = 0, False
            self._changed.notify_all()

    def take(self, *, wait: bool) -> list[Request]:
        """The requests that came since the last call, and of those that are made as they are taken enough to keep the
        engine busy. With ``wait`` not before there are some, and none at the end."""
        self.settle(0.0)
        while True:
            with self._changed:
                if self._later is not None and (wait or self._taken < self.ahead - AHEAD // 2):
                    self._make()
                if self._waiting or not (wait and self.follow and self.open > 0):
                    requests, self._waiting = self._waiting, []
                    self._taken += sum(len(request.samples) for request in requests)
                    return requests
            self.settle(_LOOK_SECONDS)

    def _make(self) -> None:
        """Makes requests until the engine has enough."""
        room = self.ahead - self._taken
        for request in self._later or ():
            self._waiting.append(request)
            room -= len(request.samples)
            if room <= 0:
                return
        self._later = None

    def _rest(self, seconds: float) -> None:
        with self._changed:
            if not self._waiting and self.open > 0:
                self._changed.wait(seconds)


def as_feed(requests: Feed | Iterable[Request]) -> Feed:
    """A feed of requests from which nothing follows, unless it is one already."""
    return requests if isinstance(requests, Feed) else Feed(requests, follow=False)
