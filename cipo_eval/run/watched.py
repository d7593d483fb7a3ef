"""An engine at work, watched: what it has handed out so far, for displays and for a warning about equal samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cipo_eval.engines.engine import Engine
    from cipo_eval.engines.feed import Feed
    from cipo_eval.records import Completion, Failure, Request


class Watched:
    """An engine whose completions are counted as they are handed out."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name = engine.name
        self.handed = 0
        self.tokens = 0
        """Of completions that were handed out."""
        self._first: dict[tuple[Any, ...], int] = {}
        self._alike: dict[tuple[Any, ...], bool] = {}

    @property
    def under_way(self) -> int | None:
        """Samples that the engine works at; None: it does not say."""
        return getattr(self._engine, "under_way", None)

    @property
    def generated(self) -> int:
        """Tokens that were generated so far; of an engine that does not say, those of finished samples."""
        return int(getattr(self._engine, "generated", self.tokens))

    @property
    def identical(self) -> int:
        """Problems whose samples, two or more of them, all have the same text, if that is so of every problem."""
        return len(self._alike) if all(self._alike.values()) else 0

    def describe(self) -> dict[str, Any]:
        """What the engine says of itself and its model, for ``run.json``."""
        return self._engine.describe()

    def notes(self) -> list[str]:
        """What the engine had to do otherwise than asked; nothing of an engine that does not say."""
        notes = getattr(self._engine, "notes", None)
        return notes() if notes else []

    def generate(
        self, requests: Feed | Sequence[Request]
    ) -> Iterator[tuple[Request, int, Completion | Failure]]:
        for request, sample, completion in self._engine.generate(requests):
            self.note(request, (hash(getattr(completion, "text", "")),))
            self.tokens += getattr(completion, "completion_tokens", None) or 0
            yield request, sample, completion

    def note(self, request: Request, marks: Sequence[int]) -> None:
        """Counts completions of a request as they are handed out. ``marks``: numbers that are equal for equal texts, 0
        for empty ones."""
        self.handed += len(marks)
        texts = [mark for mark in marks if mark]
        if request.turn > 1 or not texts:
            return
        key = (request.problem.task, request.problem.id)
        known = key in self._first
        first = self._first.setdefault(key, texts[0])
        if known or len(texts) > 1:
            self._alike[key] = self._alike.get(key, True) and all(mark == first for mark in texts)

    def close(self) -> None:
        """Closes the engine."""
        self._engine.close()
