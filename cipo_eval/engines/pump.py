"""Samples as coroutines on an event loop of their own: what engines share that wait for somebody else's work.

The caller's thread takes requests from the feed, keeps a bounded number of asks under way, and hands each sample out
the moment it is finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from cipo_eval.engines.feed import Feed
from cipo_eval.records import Completion, Failure, Request

_LOOK_SECONDS = 0.05
"""Between two looks at the feed while samples are under way."""

_CLOSE_SECONDS = 2.0
"""That what is under way is given to end, once it was told to."""

_Results = Sequence[Completion | Failure]
One = Callable[[Request], Coroutine[Any, Any, _Results]]
"""The samples of a request that is asked as a whole, in its order."""


class _Part(NamedTuple):
    """Samples of a request that are asked as a whole."""

    whole: Request
    """The request as the feed has it."""
    request: Request
    """The same for these samples only."""


_Finished = tuple[asyncio.Task[_Results], _Part]


class Pump:
    """An event loop in a thread, with at most ``most`` asks under way on it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.loop = asyncio.new_event_loop()
        self._asked = 0
        self._thread = threading.Thread(target=self.loop.run_forever, name="pump", daemon=True)
        self._thread.start()

    @property
    def under_way(self) -> int:
        """Samples under way; for any thread to look at."""
        return self._asked

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """The result of a coroutine that the loop runs; raises what it raises."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        finally:
            future.cancel()  # where the wait for it was interrupted; else it is done

    def run(
        self, feed: Feed, one: One, together: Callable[[], int] = lambda: 1
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        """Samples as they finish, in any order; the first error of one ends them all.

        ``together``: how many samples of a request are asked as a whole, at the moment.
        """
        waiting: deque[Iterator[_Part]] = deque()
        work = _Work(self.loop, one)
        under_way = self._asked = 0
        try:
            while True:
                for request in feed.take(wait=not waiting and not under_way):
                    # later turns first: a server still has their beginning in its cache
                    (waiting.appendleft if request.turn > 1 else waiting.append)(_parts(request, together))
                if not waiting and not under_way:
                    return
                while waiting and under_way < self.most:
                    if (part := next(waiting[0], None)) is None:
                        waiting.popleft()
                        continue
                    work.start(part)
                    under_way += 1
                    self._asked += len(part.request.samples)
                if not under_way:
                    continue
                try:
                    task, part = work.finished.get(timeout=_LOOK_SECONDS)
                except queue.Empty:
                    continue
                under_way -= 1
                self._asked -= len(part.request.samples)
                for sample, result in zip(part.request.samples, task.result(), strict=True):
                    yield part.whole, sample, result
        finally:
            self._asked = 0
            work.end()

    def close(self, last: Coroutine[Any, Any, Any] | None = None) -> None:
        """Ends what is under way, waits, connections, all of it, then does ``last`` and stops the loop; within seconds,
        whatever hangs. Safe to call twice."""
        if not self._thread.is_alive():
            if last is not None:
                last.close()
            return
        ending = asyncio.run_coroutine_threadsafe(_end(last), self.loop)
        with contextlib.suppress(TimeoutError):
            ending.result(3 * _CLOSE_SECONDS)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_CLOSE_SECONDS)
        if not self._thread.is_alive():
            self.loop.close()


class _Work:
    """Asks that are begun from one thread and run on a loop in another."""

    def __init__(self, loop: asyncio.AbstractEventLoop, one: One) -> None:
        self._loop, self._one = loop, one
        self._tasks: set[asyncio.Task[_Results]] = set()
        self._coming: deque[_Part] = deque()
        self._woken = False
        self.finished: queue.SimpleQueue[_Finished] = queue.SimpleQueue()

    def start(self, part: _Part) -> None:
        """Begins an ask. The loop is woken once for all that come before it looks: to wake it costs a system call, in
        which the other thread takes over."""
        self._coming.append(part)
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._begin)

    def end(self) -> None:
        """Cancels what is under way."""
        with contextlib.suppress(RuntimeError):  # the loop is closed, and nothing runs
            self._loop.call_soon_threadsafe(self._cancel)

    def _begin(self) -> None:
        self._woken = False  # first: what comes from now on wakes it again
        while self._coming:
            part = self._coming.popleft()
            task = self._loop.create_task(self._one(part.request))
            self._tasks.add(task)
            task.add_done_callback(lambda done, part=part: self._finish(done, part))  # type: ignore[misc]

    def _finish(self, task: asyncio.Task[_Results], part: _Part) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # it counts as seen, also where nobody takes the result any more
        self.finished.put((task, part))

    def _cancel(self) -> None:
        self._coming.clear()
        for task in self._tasks:
            task.cancel()


def _parts(request: Request, together: Callable[[], int]) -> Iterator[_Part]:
    """A request in parts of at most so many samples, each made when it is wanted: there may be millions to come."""
    samples, seeds = request.samples, request.seeds
    at = 0
    while at < len(samples):
        end = at + together()
        whole = at == 0 and end >= len(samples)
        yield _Part(
            request, request if whole else replace(request, samples=samples[at:end], seeds=seeds[at:end])
        )
        at = end


async def _end(last: Coroutine[Any, Any, Any] | None) -> None:
    """On the loop: cancels all other tasks, does one thing more, and ends the loop's threads."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_CLOSE_SECONDS)
    if last is not None:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(last, _CLOSE_SECONDS)
    with contextlib.suppress(Exception):  # threads that look up names
        await asyncio.wait_for(asyncio.get_running_loop().shutdown_default_executor(), _CLOSE_SECONDS)
