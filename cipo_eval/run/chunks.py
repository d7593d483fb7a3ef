"""Attempts that are there already, judged many at a time: a worker reads them, judges them and makes their lines.

Those of a file (``score``) and of a run (``rescore``) need no model, so what is left is work for processors. A chunk of
them goes to a worker of the verifiers' pool, which can be killed, and comes back as a ``Block``: this process appends
its bytes. An answer that takes long, fails or kills its worker is judged by itself, by the same pool, as those of a
model are; its chunk waits for it. Blocks come in the order of their chunks, however many workers there are.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import NamedTuple, Protocol

from cipo_eval.data.attempt_files.rows import Place, Reader
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, Completion, FinishReason, Mode, Problem, Request, Verdict, fingerprint
from cipo_eval.run.judging import Generated, Verdicts, attempt_of, labelled
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.blocks import Block
from cipo_eval.storage.lines import attempt_of as stored_attempt
from cipo_eval.verifiers.in_place import InPlacePool, LeftOpenError
from cipo_eval.verifiers.pool import GradingKey, VerifierPool
from cipo_eval.verifiers.workers import WorkerError

ROWS, BYTES = 512, 1 << 20
"""A chunk has that many attempts at most, and ends with the one that makes it so large."""
FEW = 4 * ROWS
"""Attempts that are judged one by one: a worker takes longer to get ready."""
GRADING_SECONDS = 1.0
"""For so long a worker grades new answers of a chunk; the others are judged by themselves."""
CHUNK_SECONDS = 4.0
"""Processor seconds after which the worker of a chunk hangs."""
AHEAD = 4
"""Chunks under way for each worker."""


class Row(NamedTuple):
    """An attempt that is to be judged."""

    problem: Problem
    text: str
    finish_reason: FinishReason | None
    attempt: Callable[[Mapping[Mode, Verdict]], Attempt]
    """What is stored of it."""


class Chunk(Protocol):
    """Attempts at one task that are judged together."""

    @property
    def task(self) -> str: ...
    @property
    def verifier(self) -> str: ...
    @property
    def modes(self) -> tuple[Mode, ...]: ...
    def __len__(self) -> int: ...
    def rows(self, places: Iterable[int]) -> Iterator[Row]:
        """Reads some of them, by their places in the chunk. Raises ``UsageError`` where they cannot be read again."""
        ...


@dataclass(frozen=True, slots=True)
class Asked:
    """Samples of a request, and where each of them is."""

    request: Request
    places: tuple[Place | Completion, ...]


@dataclass(frozen=True, slots=True)
class GivenChunk:
    """Attempts of a file."""

    task: str
    verifier: str
    modes: tuple[Mode, ...]
    asked: tuple[Asked, ...]

    def __len__(self) -> int:
        return sum(len(of.places) for of in self.asked)

    def rows(self, places: Iterable[int]) -> Iterator[Row]:
        wanted, at = set(places), 0
        with closing(Reader()) as reader:
            for request, of in ((of.request, of.places) for of in self.asked):
                prompt = fingerprint(list(request.messages))
                for sample, place in zip(request.samples, of, strict=True):
                    if at in wanted:
                        said = reader.read(place) if isinstance(place, Place) else place
                        made = partial(attempt_of, Generated(request, sample, said), prompt)
                        yield Row(request.problem, said.text, said.finish_reason, made)
                    at += 1


@dataclass(frozen=True, slots=True)
class StoredChunk:
    """Attempts of a run."""

    task: str
    verifier: str
    modes: tuple[Mode, ...]
    path: Path
    offsets: tuple[int, ...]
    lengths: tuple[int, ...]
    problems: Mapping[str, Problem]

    def __len__(self) -> int:
        return len(self.offsets)

    def rows(self, places: Iterable[int]) -> Iterator[Row]:
        with self.path.open("rb") as stream:
            for at in places:
                line = os.pread(stream.fileno(), self.lengths[at], self.offsets[at])
                try:
                    attempt = stored_attempt(line)
                    problem = self.problems[attempt.problem]
                except (ValueError, KeyError, TypeError, AttributeError) as error:
                    raise UsageError(
                        f"{self.path} was changed while it was read: run the command again"
                    ) from error
                yield Row(problem, attempt.text, attempt.finish_reason, partial(judged_anew, attempt))


def judged_anew(attempt: Attempt, verdicts: Mapping[Mode, Verdict]) -> Attempt:
    """An attempt with other verdicts; what a pool says of it stays."""
    label = next((v.report.get("label") for v in attempt.verdicts.values()), None)
    return replace(attempt, verdicts={mode: labelled(v, label) for mode, v in verdicts.items()})


def chunks_of_requests(
    asked: Iterable[tuple[Request, Sequence[tuple[int, Place | Completion]]]],
    verifier: str,
    modes: Sequence[Mode],
) -> Iterator[GivenChunk]:
    """Chunks of the samples of requests at one task, in their order, as they are taken."""
    parts: list[Asked] = []
    rows = size = 0
    for request, samples in asked:
        seeds = dict(zip(request.samples, request.seeds, strict=True))
        begun = 0
        for at, (_, place) in enumerate(samples, start=1):
            rows += 1
            if not isinstance(place, Place):
                size += len(place.text)
            elif place.at == 0:  # a row may hold hundreds
                size += place.length
            if rows >= ROWS or size >= BYTES or at == len(samples):
                of = samples[begun:at]
                numbers = tuple(sample for sample, _ in of)
                part = replace(request, samples=numbers, seeds=tuple(seeds[n] for n in numbers))
                parts.append(Asked(part, tuple(where for _, where in of)))
                begun = at
            if rows >= ROWS or size >= BYTES:
                yield GivenChunk(request.problem.task, verifier, tuple(modes), tuple(parts))
                parts, rows, size = [], 0, 0
    if parts:
        yield GivenChunk(parts[0].request.problem.task, verifier, tuple(modes), tuple(parts))


def chunks_of_stored(
    path: Path,
    attempts: Attempts,
    problems: Mapping[str, Problem],
    verifier: str,
    modes: Sequence[Mode],
) -> Iterator[StoredChunk]:
    """Chunks of the attempts of a file of a run (``path``), in their order. ``problems``: by id.

    Of ``attempts`` no more is kept than where they are and what they are at: there may be millions of them, and as many
    new ones are about to be made."""
    words = attempts.words("problem")
    columns = [attempts.column(name) for name in ("offset", "length", "problem")]
    task = next(iter(attempts.present("task")), "")

    def chunks() -> Iterator[StoredChunk]:
        start, count = 0, len(columns[0])
        while start < count:
            part = slice(start, start + ROWS)
            offsets, lengths, numbers = (column[part].tolist() for column in columns)
            end, size = 0, 0
            while end < len(lengths) and size < BYTES:
                size += lengths[end]
                end += 1
            of = {name: problems[name] for name in {words[number] for number in numbers[:end]}}
            yield StoredChunk(
                task, verifier, tuple(modes), path, tuple(offsets[:end]), tuple(lengths[:end]), of
            )
            start += end

    return chunks()


class UnderWay:
    """Chunks that are being judged. For one thread."""

    def __init__(self, pool: VerifierPool, attempts: int) -> None:
        """``attempts``: how many there will be; of a ``FEW`` none goes to a worker."""
        self._pool, self._together = pool, attempts >= FEW
        self._chunks: deque[_Judged] = deque()
        self._some = threading.Event()

    @property
    def open(self) -> int:
        """Attempts that were submitted and not taken."""
        return sum(len(judged.chunk) for judged in self._chunks)

    @property
    def full(self) -> bool:
        """Whether nothing more should be submitted."""
        return len(self._chunks) >= AHEAD * (self._pool.workers + 1)

    def submit(self, chunk: Chunk) -> None:
        """Hands one chunk to a worker, or its attempts to the pool."""
        self._chunks.append(_Judged(chunk, self._pool, self._some.set, together=self._together))

    def wait(self, seconds: float) -> None:
        """Returns when there is a block to take, at the latest after so many seconds."""
        self._some.clear()
        if not self._advance() and seconds > 0:
            self._some.wait(seconds)

    def ready(self) -> Iterator[Block]:
        """Takes the blocks that are judged by now, in order; does not wait. Raises what went wrong in judging one."""
        while self._chunks and self._advance():
            yield from self._chunks.popleft().blocks()

    def _advance(self) -> bool:
        """Whether the first chunk is judged, or there is none."""
        done = [judged.advance() for judged in self._chunks]
        return not done or done[0]


class _Judged:
    """One chunk under way."""

    def __init__(
        self, chunk: Chunk, pool: VerifierPool, changed: Callable[[], None], *, together: bool
    ) -> None:
        self.chunk, self._pool, self._changed = chunk, pool, changed
        self._block = Block.of(chunk.task, ())
        self._left: dict[int, tuple[Row, Verdicts | dict[Mode, Verdict]]] = {}
        """By place in the chunk, what is judged by itself."""
        self._together: Future[tuple[Block, list[int]]] | None = None
        if together:
            # slow ones are told to the worker: it need not hang to find out
            arguments = (chunk, frozenset(pool.slow), pool.time_limit)
            self._together = pool.call(judge_together, arguments, CHUNK_SECONDS)
            self._together.add_done_callback(lambda _: changed())
        else:
            self._judge_singly(range(len(chunk)))

    def advance(self) -> bool:
        """Goes on with what can be gone on with; whether everything is judged."""
        if self._together is not None:
            if not self._together.done():
                return False
            left: Sequence[int] = range(len(self.chunk))
            with suppress(TimeoutError, WorkerError):  # it hung, or died, or raised: of one of its attempts
                self._block, left = self._together.result()
            self._together = None
            self._judge_singly(left)
        return all(not isinstance(v, Future) or v.done() for _, v in self._left.values())

    def blocks(self) -> Iterator[Block]:
        """All of it, in order."""
        begun = 0
        for alone, places in groupby(range(len(self.chunk)), key=self._left.__contains__):
            here = list(places)
            if not alone:
                yield self._block.part(begun, begun + len(here))
                begun += len(here)
                continue
            rows = [self._left[at] for at in here]
            yield Block.of(
                self.chunk.task,
                (row.attempt(v.result() if isinstance(v, Future) else v) for row, v in rows),
            )

    def _judge_singly(self, places: Sequence[int]) -> None:
        chunk = self.chunk
        for at, row in zip(places, chunk.rows(places), strict=True):
            verdicts = self._pool.judge(chunk.verifier, row.problem, row.text, row.finish_reason, chunk.modes)
            self._left[at] = row, verdicts
            if isinstance(verdicts, Future):
                verdicts.add_done_callback(lambda _: self._changed())


def judge_together(chunk: Chunk, slow: frozenset[GradingKey], time_limit: float) -> tuple[Block, list[int]]:
    """In a worker: the attempts that could be judged here, and the places in the chunk of the others."""
    left: list[int] = []

    def judged() -> Iterator[Attempt]:
        for at, row in enumerate(chunk.rows(range(len(chunk)))):
            try:
                verdicts = _pool.judge(chunk.verifier, row.problem, row.text, row.finish_reason, chunk.modes)
            except LeftOpenError:
                left.append(at)
                continue
            assert not isinstance(verdicts, Future)
            yield row.attempt(verdicts)

    _pool.begin(slow, GRADING_SECONDS, time_limit)
    return Block.of(chunk.task, judged()), left


_pool = InPlacePool()
"""Of this worker: answers that it has graded are remembered from one chunk to the next."""
