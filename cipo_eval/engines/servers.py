"""Which of several servers gets the next request: balance, health and rate limits, without sockets, with any clock.

The server with the fewest requests under way gets the next one, except that a conversation goes back to the server that
answered it before (it still has the beginning in its prefix cache) while that one has little more than its share.

Health is what servers do with the requests that they get. One that cannot be reached, or fails several times in a row,
is left: others get its requests, and after a wait that grows each time it is tried with one request, whose answer
brings it back. Where none answers, requests spend their own tries on any of them: a single server is never left. One
that asks for a pause (``Retry-After``) gets nothing until it is over, whatever else is there.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable, Iterable, Iterator
from typing import NamedTuple

from cipo_eval.engines.retries import LONGEST_WAIT, own_wait

FAILURES_IN_A_ROW = 3
"""After which a server is left; one that cannot be reached is left at once."""
STEADY = 16
"""Answers in a row after which the next leave counts as a first one again."""
SHARE = 1.25
"""Most requests that a server may have for the sake of its cache, as a multiple of an even share of those under way."""
CONVERSATIONS = 65_536
"""Whose servers are remembered: the latest ones."""


class Target(NamedTuple):
    """Where a server is."""

    url: str
    """Its address up to and with /v1, without a slash at its end."""
    address: str | None = None
    """The one of its name's addresses that is this server; None: the name has one."""

    def __str__(self) -> str:
        return f"{self.url} ({self.address})" if self.address else self.url


class Server:
    """What is known of one server; ``Servers`` changes it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.under_way = 0
        """Requests that it has."""
        self.left = False
        """Gets none until a trial succeeds."""
        self.on_trial = False
        self.left_for = ""
        """Why it was left the first time; empty: it never was."""
        self.longest_pause = 0.0
        """Seconds that it asked to be left alone for, at the most."""
        self._failures = 0
        """Since its last answer."""
        self._answers = 0
        """Since it was last left."""
        self._leaves = 0
        """Times that it was left or failed a trial, until it answers steadily."""
        self._trial_at = 0.0
        self._paused_until = 0.0
        self._chosen = 0
        """When it was last chosen, by a count of all choices."""

    def __str__(self) -> str:
        return str(self.target)


class Servers:
    """The servers of one model. Not for several threads."""

    def __init__(self, targets: Iterable[Target], clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._servers = [Server(target) for target in targets]
        self._homes: OrderedDict[Hashable, Server] = OrderedDict()
        self._choices = 0

    def __iter__(self) -> Iterator[Server]:
        return iter(self._servers)

    def __len__(self) -> int:
        return len(self._servers)

    def choose(self, conversation: Hashable = None, avoid: Collection[Server] = ()) -> Server | None:
        """The server of the next request, which counts as under way there until it is released; None: all that could
        answer have asked for a pause (``pause`` says how long it is).

        ``conversation``: what it goes on with, if its server is remembered. ``avoid``: servers to be taken only where
        there is no other.
        """
        ready = self._ready()
        if not ready:
            return None
        chosen = ready[0]
        if len(ready) > 1:
            ready = [server for server in ready if server not in avoid] or ready
            home = self._homes.get(conversation)
            if home in ready and home.under_way < self._share(ready):
                chosen = home
            else:
                chosen = min(ready, key=lambda server: (server.under_way, server._chosen))
        self._choices += 1
        chosen._chosen = self._choices
        chosen.under_way += 1
        return chosen

    def release(self, server: Server) -> None:
        """A request of its is over, however it went."""
        server.under_way -= 1

    def pause(self) -> float:
        """Seconds until a server may be chosen whose pause is over; 0 where one may be now."""
        now = self._clock()
        up = [server for server in self._servers if not server.left] or self._servers
        return max(0.0, min((server._paused_until - now for server in up), default=0.0))

    def another(self, than: Collection[Server]) -> bool:
        """Whether a server that answers, and has not asked for a pause, is there besides these."""
        now = self._clock()
        return any(
            not server.left and server._paused_until <= now and server not in than for server in self._servers
        )

    def answered(self, server: Server, conversation: Hashable = None) -> None:
        """Notes that a server has answered, which also brings it back where it was left; it is remembered for a
        conversation."""
        server.left = False
        server._failures = 0
        server._answers += 1
        if server._answers >= STEADY:
            server._leaves = 0
        if conversation is not None and len(self._servers) > 1:
            self._homes[conversation] = server
            self._homes.move_to_end(conversation)
            if len(self._homes) > CONVERSATIONS:
                self._homes.popitem(last=False)

    def failed(self, server: Server, why: str, *, unreachable: bool = False) -> None:
        """Notes that a server has not given what it should have. ``unreachable``: nobody is there, so that others need
        not find out."""
        server._failures += 1
        if server.left or len(self._servers) == 1:
            return
        if unreachable or server._failures >= FAILURES_IN_A_ROW:
            self.leave(server, why)

    def paused(self, server: Server, seconds: float) -> None:
        """Notes that a server asks to be left alone for so many seconds; it is for ``LONGEST_WAIT`` at the most."""
        server.longest_pause = max(server.longest_pause, seconds)
        until = self._clock() + min(max(seconds, 0.0), LONGEST_WAIT)
        server._paused_until = max(server._paused_until, until)

    def leave(self, server: Server, why: str) -> None:
        """Gives a server no more requests until a trial has succeeded."""
        server.left, server.on_trial = True, False
        server.left_for = server.left_for or why
        server._answers = 0
        server._trial_at = self._clock() + own_wait(server._leaves)
        server._leaves += 1

    def trials(self) -> list[Server]:
        """The servers that are to be tried now, with one request each; whoever tries one says ``answered`` or
        ``leave`` of it, and ``tried`` in the end."""
        now = self._clock()
        due = [
            server
            for server in self._servers
            if server.left and not server.on_trial and max(server._trial_at, server._paused_until) <= now
        ]
        for server in due:
            server.on_trial = True
        return due

    def tried(self, server: Server) -> None:
        """A trial of its is over."""
        server.on_trial = False

    def replace(self, targets: Iterable[Target]) -> list[Server]:
        """The list is now another one: new servers are tried first, and those that are gone get no more requests.
        Gives the latter."""
        wanted = list(dict.fromkeys(targets))
        kept = {server.target: server for server in self._servers if server.target in wanted}
        gone = [server for server in self._servers if server.target not in kept]
        self._servers = [kept.get(target) or self._new(target) for target in wanted]
        self._homes = OrderedDict((key, server) for key, server in self._homes.items() if server not in gone)
        return gone

    def _new(self, target: Target) -> Server:
        server = Server(target)
        server.left, server._trial_at = True, self._clock()
        return server

    def _ready(self) -> list[Server]:
        """Those that may be chosen now."""
        now = self._clock()
        up = [server for server in self._servers if not server.left] or self._servers
        return [server for server in up if server._paused_until <= now]

    def _share(self, ready: Collection[Server]) -> int:
        """Requests that one of these may have under way for the sake of its cache."""
        return math.ceil(SHARE * (sum(server.under_way for server in ready) + 1) / len(ready))
