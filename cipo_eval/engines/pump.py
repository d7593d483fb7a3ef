"""Samples as coroutines on an event loop of their own: what engines share that wait for somebody else's work.

The caller's thread takes requests from the feed, keeps a bounded number of samples under way, and hands each one out
the moment it is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from typing import Any

from cipo_eval.engines.feed import Feed
from cipo_eval.records import Completion, Failure, Request

_LOOK_SECONDS = 0.05
"""Between two looks at the feed while samples are under way."""

_CLOSE_SECONDS = 2.0
"""That what is under way is given to end, once it was told to."""

One = Callable[[Request, int], Coroutine[Any, Any, Completion | Failure]]
"""One sample of a request, given its seed."""


class Pump:
    """An event loop in a thread, with at most ``most`` samples under way on it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.loop = asyncio.new_event_loop()
        self._running: set[Future[Completion | Failure]] = set()
        self._thread = threading.Thread(target=self.loop.run_forever, name="pump", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> int:
        """Samples under way; for any thread to look at."""
        return len(self._running)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that the loop runs; raises what it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        finally:
            future.cancel()  # where the wait for it was interrupted; else it is done

    def run(self, feed: Feed, one: One) -> Iterator[tuple[Request, int, Completion | Failure]]:
        """Samples as they finish, in any order; the first error of one ends them all."""
        waiting: deque[tuple[Request, int, int]] = deque()
        finished: queue.SimpleQueue[tuple[Future[Completion | Failure], Request, int]] = queue.SimpleQueue()
        under_way = self._running = set()
        try:
            while True:
                for request in feed.take(wait=not waiting and not under_way):
                    new = [(request, s, seed) for s, seed in zip(request.samples, request.seeds, strict=True)]
                    # later turns first: a server still has their beginning in its cache
                    (waiting.extendleft if request.turn > 1 else waiting.extend)(new)
                if not waiting and not under_way:
                    return
                while waiting and len(under_way) < self.most:
                    request, sample, seed = waiting.popleft()
                    future = asyncio.run_coroutine_threadsafe(one(request, seed), self.loop)
                    under_way.add(future)
                    future.add_done_callback(lambda done, r=request, s=sample: finished.put((done, r, s)))  # type: ignore[misc]
                try:
                    future, request, sample = finished.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                under_way.discard(future)
                yield request, sample, future.result()
        finally:
            for future in under_way:
                future.cancel()

    def close(self, last: Coroutine[Any, Any, Any] | None = None) -> None:
        """Ends what is under way, waits, connections, all of it, then does ``last`` and stops the loop; within seconds,
        whatever hangs. Safe to call twice."""
        if not self._thread.is_alive():
            if last is not None:
                last.close()
            return
        ending = asyncio.run_coroutine_threadsafe(_end(last), self.loop)
        with contextlib.suppress(TimeoutError):
            ending.result(2 * _CLOSE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self.loop.close()


async def _end(last: Coroutine[Any, Any, Any] | None) -> None:
    """On the loop: cancels all other tasks, and does one thing more."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_CLOSE_SECONDS)
    if last is not None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(last, _CLOSE_SECONDS)
