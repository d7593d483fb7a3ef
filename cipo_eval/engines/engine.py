"""What every engine is: the contract between a run and whatever generates its completions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from cipo_eval.engines.feed import Feed
from cipo_eval.records import Completion, Failure, Request


class Engine(Protocol):
    """Generates completions: the one interface of ``hf``, ``replay`` and all later engines."""

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
