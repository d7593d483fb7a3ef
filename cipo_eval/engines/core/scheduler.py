"""Which samples run: the queue of requests, the rows under way, and how many slots of which length there are.

Plain Python, no tensors: the loop asks the scheduler what to do and moves keys and values accordingly. A sample begins
when a slot is free and its prompt went through the model; the longest requests begin first, so that not one of them is
left alone at the end; requests that follow from a finished sample go before those that wait.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from cipo_eval.engines.core.request import GenOutput, GenRequest, empty_outputs
from cipo_eval.engines.core.row import Row

LENGTH_STEP = 64
"""Lengths of slots, and of what attention sees, are multiples of it."""
SLOT_GROWTH = 1.5
"""Slots that must become longer while samples are under way become so much longer: turns of conversations grow."""
PREFIX_SHARE = 4
"""There is a slot for a kept prompt for every so many slots for samples ..."""
FEWEST_PREFIXES = 8
"""... and so many at the least."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A request with samples that have not begun."""

    request: GenRequest
    numbers: list[int]
    """Positions of those samples' seeds."""
    slot: int | None = None
    """The slot of the prefix cache that holds its prompt, once that went through the model."""


class Scheduler:
    """Slots 0 to ``width`` are for rows; those from ``width`` on for kept prompts (``prefix_cache``)."""

    def __init__(self, *, tokens: int, most_rows: int) -> None:
        """``tokens``: of all slots together; ``most_rows``: samples under way at the most."""
        self._tokens, self._most_rows = tokens, most_rows
        self.queue: list[Waiting] = []
        self.rows: list[Row] = []
        self.width = 0
        """Samples that can be under way at once."""
        self.slot_length = 0
        """Tokens of a slot of the cache; 0: there is no cache."""

    @property
    def idle(self) -> bool:
        return not self.queue and not self.rows

    @property
    def free(self) -> int:
        """Slots that no row has."""
        return self.width - len(self.rows)

    @property
    def prefix_slots(self) -> int:
        """Slots for kept prompts."""
        return max(FEWEST_PREFIXES, self.width // PREFIX_SHARE)

    def add(self, requests: Collection[GenRequest]) -> Iterator[GenOutput]:
        """Queues requests; the samples of those that have no room for a token are finished at once."""
        yield from (output for r in requests if r.max_new <= 0 for output in empty_outputs(r))
        waiting = [
            Waiting(request, list(range(len(request.seeds))))
            for request in sorted(requests, key=lambda r: -r.max_new)
            if request.max_new > 0
        ]
        self.queue[:0] = [w for w in waiting if w.request.first]
        self.queue += [w for w in waiting if not w.request.first]

    def forget(self) -> None:
        """Drops whatever waits or is under way."""
        self.rows, self.queue = [], []

    # --- slots -----------------------------------------------------------------------------------------------

    def fits(self, request: GenRequest) -> bool:
        """Whether slots are long enough for a request."""
        return _needed(request) <= self.slot_length

    def length_for(self, request: GenRequest) -> int | None:
        """The length that slots should have for a request: the present one, or a longer one with which all rows still
        have a slot, best with room for all that waits. None: it has to wait for rows to end."""
        if self.fits(request):
            return self.slot_length
        longest = max(_needed(waiting.request) for waiting in self.queue)
        if self.slot_length and self.rows:
            longest = max(longest, int(self.slot_length * SLOT_GROWTH))
        lengths = [_rounded_up(length) for length in (longest, _needed(request))]
        return next((length for length in lengths if self._width_at(length) >= len(self.rows)), None)

    def plan(self, length: int) -> None:
        """As many slots of this length as there are tokens for; ``slot_length`` changes once the cache has them."""
        self.width = self._width_at(length)

    def reach(self, more: int) -> int:
        """How far the rows' slots are filled after so many more tokens, at most; a multiple of ``LENGTH_STEP``."""
        longest = max((row.length for row in self.rows), default=0) + more
        return min(self.slot_length, _rounded_up(longest))

    def _width_at(self, length: int) -> int:
        return max(1, min(self._most_rows, int(self._tokens / length / (1 + 1 / PREFIX_SHARE))))

    # --- samples ---------------------------------------------------------------------------------------------

    def ready(self) -> list[tuple[Waiting, list[int]]]:
        """The first that wait whose prompts went through the model, and which of their samples there is room for."""
        admitted, room = [], self.free
        for waiting in self.queue:
            # no slot: no place for its prompt before samples of others have begun
            if waiting.slot is None or room <= 0 or not self.fits(waiting.request):
                break
            admitted.append((waiting, waiting.numbers[:room]))
            room -= len(waiting.numbers)
        return admitted

    def begin(self, rows: Iterable[Row]) -> None:
        """Rows that are under way from now on, in the next slots."""
        self.rows += rows

    def end(self, ended: Collection[int]) -> list[tuple[int, int]]:
        """Takes out the rows with these ids; the last row moves into the hole. Which slot's content must go to which
        other slot: pairs (from, to)."""
        origins = list(range(len(self.rows)))
        for at in range(len(self.rows) - 1, -1, -1):
            if id(self.rows[at]) in ended:
                tail, origin = self.rows.pop(), origins.pop()
                if at < len(self.rows):
                    self.rows[at], origins[at] = tail, origin
        return [(origin, at) for at, origin in enumerate(origins) if origin != at]

    def halve(self) -> None:
        """Memory is out: everything under way begins anew, with half as many slots; seeds make it what it was."""
        self._most_rows = self.width // 2
        again: dict[int, Waiting] = {}
        for row in self.rows:
            again.setdefault(id(row.request), Waiting(row.request, [])).numbers.append(row.number)
        self.queue[:0] = again.values()
        for waiting in self.queue:
            waiting.slot = None
        self.rows, self.slot_length = [], 0


def _needed(request: GenRequest) -> int:
    """Tokens of a slot that a request's samples may take."""
    return len(request.prompt) + request.max_new


def _rounded_up(length: int) -> int:
    return -(-length // LENGTH_STEP) * LENGTH_STEP
