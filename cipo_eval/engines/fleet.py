"""The servers of one model at work: each with its connections, and what was found out about it.

``servers`` decides which of them gets a request and which is left, ``addresses`` which there are, ``connections`` how
one is talked to; here is what ties them together, and what a server's errors mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

from cipo_eval.engines.adaptations import Adaptations
from cipo_eval.engines.addresses import LOOK_SECONDS, Addresses
from cipo_eval.engines.connections import Connections
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.engines.retries import LONGEST_WAIT, Again, Retries
from cipo_eval.engines.server_replies import error_name, json_object, printable_line, withheld
from cipo_eval.engines.servers import Server, Servers, Target
from cipo_eval.errors import CipoError, MissingError, UsageError, nearest

GRACE_SECONDS = 5.0
"""Seconds that other servers are waited for at the start, once one has answered."""
TRIAL_SECONDS = 60.0
"""Most seconds that the one request of a trial may take."""
_TICK_SECONDS = 0.1
"""Between two looks at whether a server is to be tried again."""
_PAUSE_LOOK_SECONDS = 0.5
"""Between two looks at whether a server is there, where all have asked for a pause."""
_OF_THE_SERVER = frozenset((401, 403, 404, 405, 410))
"""Refusals that are about a server rather than a request, where other servers are there; so are redirects."""
_FACTS = ("root", "max_model_len", "n_params", "n_vocab", "n_ctx_train", "size")
"""What lists of models tell of a model that should be the same on all servers (vLLM, SGLang, llama.cpp)."""
_MOST_BUILDS = 8
_MOST_DEPARTED = 100


class Refused(Exception):  # noqa: N818  may be answered with another request
    """The server does not take the request."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.said = status, text
        self.about: UsageError | None = None
        """What seems wrong, where it names a parameter that cannot be left out (or repeats a prompt that does)."""


class Member:
    """One server: its connections, and what it does not take."""

    def __init__(self, server: Server, connections: Connections) -> None:
        self.server, self.connections = server, connections
        self.adaptations = Adaptations()
        self.owner = ""
        """Who serves the model, as the list of models says (``vllm``)."""
        self.facts: dict[str, str] = {}
        """What the list of models tells of the model."""
        self.builds: set[str] = set()
        """What replies named as their ``system_fingerprint``."""

    def saw(self, build: str) -> None:
        if build and len(self.builds) < _MOST_BUILDS:
            self.builds.add(build)


class Visits:
    """Where the tries of one sample went."""

    def __init__(self, conversation: Hashable = None) -> None:
        """``conversation``: what the sample belongs to; turns of one go to one server where that may be."""
        self.conversation = conversation
        self.tried: list[Server] = []
        """Since the last wait."""


class Fleet:
    """The servers of one model. Made in any thread, used on one event loop.

    Raises ``UsageError`` for a model that a server does not have, ``MissingError`` where none can be reached or a key
    is wanted.
    """

    def __init__(self, model: str, options: OpenAIOptions, key: str, retries: Retries) -> None:
        self._model, self._options, self._key, self._retries = model, options, key, retries
        self._addresses = Addresses(options.base_url, options.api_key_env)
        self._servers = Servers(())
        self._members: dict[Target, Member] = {}
        self._departed: list[str] = []
        """Notes on servers that are not listed any more."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self, plain: Callable[[Member], Awaitable[None]]) -> None:
        """Looks for the servers. ``plain``: asks one of them a short plain prompt, if there is anything to ask, and
        raises ``Again`` where it does not answer."""
        targets = await self._addresses.targets()
        self._servers = Servers(targets)
        self._members = {server.target: self._member(server) for server in self._servers}
        await self._find_model()
        if len(targets) > 1 or self._addresses.may_change:
            self._spawn(self._watch(plain))

    async def close(self) -> None:
        for member in list(self._members.values()):
            await member.connections.close()

    @property
    def owners(self) -> set[str]:
        """Who serves the model, as far as servers said so (``owned_by``)."""
        return {member.owner for member in self._members.values() if member.owner}

    @property
    def heard(self) -> float:
        """When a reply last began (``time.monotonic``), of any server."""
        return max((member.connections.heard for member in self._members.values()), default=float("-inf"))

    # --- one request -----------------------------------------------------------------------------------------

    @asynccontextmanager
    async def visit(self, visits: Visits) -> AsyncIterator[Member]:
        """The server of the next try, for as long as it takes; waits while all ask for a pause. How the body ends says
        how the server did: ``Again`` counts against it, an answer or a refusal for it."""
        while (server := self._servers.choose(visits.conversation, visits.tried)) is None:
            await asyncio.sleep(max(min(self._servers.pause(), _PAUSE_LOOK_SECONDS), 0.001))
        visits.tried.append(server)
        member = self._members[server.target]
        try:
            yield member
        except Again as error:
            if error.after is not None and error.after > 0:
                self._servers.paused(server, error.after)
                error.after = self._servers.pause()  # another one may be there earlier
            else:
                self._servers.failed(server, error.why, unreachable=error.unreachable)
            raise
        except Exception:
            self._servers.answered(server)
            raise
        else:
            self._servers.answered(server, visits.conversation)
        finally:
            self._release(member)

    def _release(self, member: Member) -> None:
        """A request is over; a server that is not listed any more is closed after its last one."""
        self._servers.release(member.server)
        if not member.server.under_way and self._members.get(member.server.target) is not member:
            self._spawn(member.connections.close())

    def elsewhere(self, visits: Visits) -> bool:
        """Whether the next try of a sample can go to a server at once that has not failed it since its last wait."""
        if self._servers.another(visits.tried):
            return True
        del visits.tried[:-1]  # after the wait, rather not the one that was the last to fail
        return False

    async def receive(self, member: Member, path: str, body: bytes | None) -> bytes:
        """The content of a reply of status 200. Raises ``Again``, ``Refused``, or ``MissingError`` for a key."""
        try:
            reply = await member.connections.send(path, body)
        except Again as error:
            raise Again(error.why, self.shown(error.said), unreachable=error.unreachable) from error
        if reply.status != 200:
            text = reply.content.decode("utf-8", "replace")
            self.check_status(member, reply.status, text, reply.pause, listing=body is None)
        return reply.content

    def check_status(
        self,
        member: Member,
        status: int,
        text: str,
        after: float | None = None,
        *,
        inside: bool = False,
        listing: bool = False,
    ) -> NoReturn:
        """Raises what an error means: another try, a refusal, or a key that is missing.

        ``inside``: it came in a reply of status 200. ``listing``: to the question for the list of models."""
        busy = status in (408, 409, 425, 429) or status >= 500
        foreign = not listing and (300 <= status < 400 or status in _OF_THE_SERVER)
        if (busy or (foreign and self._servers.another([member.server]))) and not withheld(text):
            named = named_status(status, text)
            why = f"an error in place of a completion ({named})" if inside else f"status {named}"
            raise Again(why, self.shown(text), after=after)
        if status == 401:
            raise self._wants_a_key(status, text, member)
        raise Refused(status, text)

    # --- finding the servers ---------------------------------------------------------------------------------

    def _member(self, server: Server) -> Member:
        return Member(server, Connections(server.target, self._key, self._options.request_timeout))

    async def _find_model(self) -> None:
        """Asks all servers whether they have the model. Those that do not answer beside others are left for now."""
        asked = {self._spawn_look(member): member for member in self._members.values()}
        waiting = set(asked)
        while waiting and not any(task.done() and task.result() is None for task in asked):
            _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if waiting:
            _, waiting = await asyncio.wait(waiting, timeout=GRACE_SECONDS)
        for task in waiting:
            task.cancel()
        silent = {asked[task]: "no answer at the start" for task in waiting}
        silent |= {asked[task]: str(task.result()) for task in asked if task not in waiting and task.result()}
        if len(silent) == len(asked):
            raise self.gone(f"gives no answer after 2 tries ({self.shown(next(iter(silent.values())))})")
        for member in silent:
            self._servers.leave(member.server, "no answer at the start")

    def _spawn_look(self, member: Member) -> asyncio.Task[Again | None]:
        async def look() -> Again | None:
            try:
                await self._retries.run(lambda: self._look(member), further=1)
            except Again as error:
                return error
            return None

        return asyncio.get_running_loop().create_task(look())

    async def _look(self, member: Member) -> None:
        """Whether a server has the model; one without a list of models is believed."""
        try:
            listed = json_object(await self.receive(member, "models", None))
        except Refused as refusal:
            if refusal.status == 403:
                raise self.refusal(refusal, member) from refusal
            return
        data = listed.get("data")
        models = [m for m in data if isinstance(m, dict)] if isinstance(data, list) else []
        by_name = {str(m.get("id")): m for m in models}
        if by_name and self._model not in by_name:
            where = f"the server {member.server}" if len(self._servers) > 1 else "the server"
            raise UsageError(
                f"{where} has no model {printable_line(self._model)}: "
                f"{printable_line(nearest(self._model, by_name))}"
            )
        entry = by_name.get(self._model, {})
        member.owner = str(entry.get("owned_by", ""))
        meta = entry.get("meta")
        told = {**(meta if isinstance(meta, dict) else {}), **entry}
        member.facts = {n: printable_line(str(told[n])) for n in _FACTS if isinstance(told.get(n), str | int)}
        self._compare(member)

    def _compare(self, member: Member) -> None:
        """Raises ``UsageError`` for a server whose model is another one than that of a server at work, as far as both
        tell something of it."""
        others = [other for other in self._members.values() if other is not member and not other.server.left]
        for name in _FACTS:
            for other in others:
                told = [one.facts.get(name) for one in (other, member)]
                if None not in told and len({_essence(name, str(value)) for value in told}) > 1:
                    raise UsageError(
                        f"{other.server} and {member.server} serve different models as {printable_line(self._model)} "
                        f"({name}: {told[0]} and {told[1]}): a run has one; leave out the servers of the other"
                    )

    async def _watch(self, plain: Callable[[Member], Awaitable[None]]) -> None:
        """Tries servers again that were left, and looks whether the list of servers is another one."""
        looking: asyncio.Task[None] | None = None
        looked = time.monotonic()
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            for server in self._servers.trials():
                self._spawn(self._trial(server, plain))
            if not self._addresses.may_change or time.monotonic() - looked < LOOK_SECONDS:
                continue
            if looking is None or looking.done():  # names may take long to look up
                looked, looking = time.monotonic(), self._spawn(self._update())

    async def _trial(self, server: Server, plain: Callable[[Member], Awaitable[None]]) -> None:
        """Whether a server that was left has the model and answers: one plain request."""
        member = self._members.get(server.target)
        if member is None or member.server is not server:
            return  # not listed any more
        server.under_way += 1
        try:
            async with asyncio.timeout(min(TRIAL_SECONDS, self._options.request_timeout)):
                await self._look(member)
                await plain(member)
        except Again as error:
            self._servers.leave(server, error.why)
        except TimeoutError:
            self._servers.leave(server, "no answer to a plain prompt")
        except (UsageError, MissingError) as error:  # another model, another key: the others go on without it
            self._servers.leave(server, self.shown(str(error)))
        except Refused:  # that, too, is an answer
            self._servers.answered(server)
        else:
            self._servers.answered(server)
        finally:
            self._release(member)
            self._servers.tried(server)

    async def _update(self) -> None:
        with contextlib.suppress(UsageError):  # a proxy that nobody can use; the list stays
            targets = await self._addresses.targets()
            if targets == list(self._members):
                return
            for server in self._servers.replace(targets):
                gone = self._members.pop(server.target)
                self._departed += list(_told(server))[: _MOST_DEPARTED - len(self._departed)]
                if not server.under_way:
                    self._spawn(gone.connections.close())
            self._members = {
                server.target: self._members.get(server.target) or self._member(server)
                for server in self._servers
            }

    def _spawn(self, work: Any) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- what is said ----------------------------------------------------------------------------------------

    def __str__(self) -> str:
        """The servers, in a line; before they are known, as they were asked for."""
        names = [str(target) for target in self._members] or list(self._options.base_url)
        return names[0] if len(names) == 1 else f"{len(names)} servers: {', '.join(names[:8])}"

    def notes(self) -> list[str]:
        """A line for all that is worth knowing of the servers: what they do not take, which of them were left, what
        they differ in."""
        members = list(self._members.values())
        lines = {note for member in members for note in member.adaptations.notes()}
        lines.update(self._departed)
        lines.update(line for member in members for line in _told(member.server))
        lines.update(_differences(members))
        if self._addresses.complaint:
            lines.add(self._addresses.complaint)
        return sorted(lines)

    def gone(self, what: str) -> MissingError:
        """Nobody answers; ``what`` is said of the first server."""
        others = len(self._members) - 1
        more = f", nor do the {others} other servers" if others > 1 else ", nor does the other server"
        return MissingError(
            f"{self._named()} {what}{more if others > 0 else ''}; "
            "what is judged is kept, and the same command goes on from there"
        )

    def _wants_a_key(self, status: int, text: str, member: Member | None) -> MissingError:
        return MissingError(
            f"{self._named(member)} wants a key that it accepts ({status}: {self.shown(text)}): "
            f"export {self._options.api_key_env}=…"
        )

    def _named(self, member: Member | None = None) -> str:
        """A server, the first one where none is given."""
        return str(member.server if member else next(iter(self._members), self))

    def refusal(self, refused: Refused, member: Member | None = None) -> CipoError:
        """A refusal of all that is asked, as an error."""
        if refused.status == 403:
            return self._wants_a_key(refused.status, refused.said, member)
        return UsageError(
            f"{self._named(member)} refuses the request ({refused.status}: {self.shown(refused.said)})"
        )

    def unkeyed(self, text: str) -> str:
        """A server's words without the key, should it repeat it."""
        return text.replace(self._key, "…") if self._key else text

    def shown(self, text: str) -> str:
        """One line of a server's words."""
        return printable_line(self.unkeyed(text))


def _essence(name: str, value: str) -> str:
    """What must not differ in a fact: a model may lie in another folder on each server."""
    return value.rstrip("/").rpartition("/")[2] if name == "root" else value


def named_status(status: int, text: str) -> str:
    """A status with the error's own name, which is the same for all errors of the kind."""
    return f"{status} {error_name(text)}".strip()


def _told(server: Server) -> Iterator[str]:
    """What became of one server."""
    if server.left_for:
        yield f"{server} was left for a time ({server.left_for}); the other servers got its requests"
    if server.longest_pause > LONGEST_WAIT:
        yield (
            f"{server} asked for pauses of more than {LONGEST_WAIT:g} seconds (Retry-After); "
            f"it was asked again after {LONGEST_WAIT:g}"
        )


def _differences(members: Iterable[Member]) -> Iterator[str]:
    """What servers of one model should not differ in."""
    members = list(members)
    for name in _FACTS:
        by_value = {member.facts[name]: member for member in members if name in member.facts}
        if len(by_value) > 1:
            values = ", ".join(f"{value} ({member.server})" for value, member in sorted(by_value.items())[:4])
            yield f"the servers differ in {name} of the model: {values}; is it the same one on all of them?"
    named = [member for member in members if member.builds]
    for member in named[1:]:
        if not member.builds & named[0].builds:
            yield (
                f"the servers name different builds of the model (system_fingerprint): {min(named[0].builds)} "
                f"({named[0].server}), {min(member.builds)} ({member.server}); is it the same one on all of them?"
            )
            return
