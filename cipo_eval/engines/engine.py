"""What every engine is: the contract between a run and whatever generates its completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.options import EngineContext, EngineOptions
from cipo_eval.records import Completion, Failure, Request, fingerprint


class Engine(Protocol):
    """Generates completions: the one interface of all engines. ``registry`` says how one is found and made.

    Optionally also ``refuses_begun``, which says why the engine does not go on with an answer that a request's last
    message begins (``Request.begun``), in a line; empty: it does. One without it is given no such requests.
    """

    name: str

    def describe(self) -> dict[str, Any]:
        """Identity for ``run.json``: the model, its fingerprint, versions. Equal identities give equal samples."""
        ...

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        """Yields ``(request, sample index, completion)`` as they finish, in any order; in place of a completion that
        it could not get, a ``Failure``.

        From a feed it takes more whenever it has room; for samples that it will never give it says ``done``.
        """
        ...

    def close(self) -> None:
        """Releases memory and processes; safe to call twice."""
        ...


Options = TypeVar("Options", bound=EngineOptions)


class OneByOneEngine(Generic[Options]):
    """An engine that completes one sample after another: of a small engine, ``complete`` is all that is to be written.

    A subclass names itself (``name``) and its options model (``options``, if it has options).
    """

    name: str
    options: ClassVar[type[EngineOptions]] = EngineOptions

    def __init__(self, model: str, chosen: Options) -> None:
        """``model``: what --model says; ``chosen``: the options as they were asked for."""
        self.model, self.chosen = model, chosen

    @classmethod
    def make(cls, model: str, options: Options, context: EngineContext) -> OneByOneEngine[Options]:
        """The engine. Raises ``UsageError``, ``MissingError`` for what it cannot be made of."""
        del context
        return cls(model, options)

    def complete(self, request: Request, seed: int) -> Completion | Failure:
        """One sample. It should depend on the request's messages, its sampling and ``seed`` only."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Model and options are its identity."""
        options = self.chosen.model_dump(mode="json")
        identity = fingerprint({"model": self.model, "options": options})
        return {"engine": self.name, "model": self.model, "fingerprint": identity, "options": options}

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            for request in taken:
                for sample, seed in zip(request.samples, request.seeds, strict=True):
                    yield request, sample, self.complete(request, seed)

    def close(self) -> None:
        """Does nothing: the engine holds no resources."""
