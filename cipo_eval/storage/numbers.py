"""The numbers of attempts as columns: all that figures are made of, at about ninety bytes an attempt.

Texts, answers and reports stay in the attempts file. A column has a number in place of each word (``words``), and in
place of an answer a hash that is the same in every process: answers are only ever compared.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cipo_eval.records import Attempt, Mode, State, Verdict
from cipo_eval.verifiers.critique import RIGHT, WRONG

Array = NDArray[Any]
ATTEMPT = np.dtype(
    [
        ("offset", np.int64),
        ("length", np.int32),
        ("task", np.int16),
        ("problem", np.int32),
        ("protocol", np.int16),
        ("sample", np.int32),
        ("turn", np.int16),
        ("prompt", np.uint64),
        ("finish", np.int16),
        ("prompt_tokens", np.int32),
        ("completion_tokens", np.int32),
        ("left_out", np.int32),
        ("seconds", np.float64),
    ]
)
"""Of an attempt: where its line is in the file (bytes), what it is of, its prompt's hash, and what it took (seconds
are NaN where they are not known)."""
VERDICT = np.dtype(
    [
        ("state", np.int8),
        ("correct", np.bool_),
        ("label", np.uint64),
        ("said", np.int8),
        ("parts", np.int16),
        ("report", np.int16),
        ("seconds", np.float64),
    ]
)
"""Of a verdict in one mode: its state, the hash of what it votes for (0: nothing), what it is that was said
(``SAID_…``), and, by number, its parts and what figures need of its report."""
STATES = tuple(State)
SAID_NOTHING, SAID_SOMETHING, SAID_RIGHT, SAID_WRONG = range(4)
"""There is no answer; there is one; it is the word of a judgement (``verifiers.critique``)."""
NONE = -1
"""In place of a word, or of a verdict: there is none."""
UNKNOWN = -(1 << 31)
"""In place of a count of tokens."""
WORDS = ("task", "problem", "protocol", "finish", "parts", "report")
"""The columns that have words."""
REPORTED = ("integrity", "label")
"""What figures need of a verdict's report."""
MOST, MOST_TURNS = (1 << 31) - 1, (1 << 15) - 1
"""The largest numbers that columns hold: of counts, and of turns and words."""
WAITING = 1 << 13
"""Rows that wait at most until they are put into arrays: as objects they take ten times the space."""
CHUNK = 1 << 17
"""Most rows of an array that grows."""
_NO_VERDICT = (NONE, False, 0, SAID_NOTHING, NONE, NONE, 0.0)
_WORDS_OF_JUDGEMENTS = {RIGHT: SAID_RIGHT, WRONG: SAID_WRONG}


@functools.lru_cache(maxsize=WAITING)
def answer_hash(text: str) -> int:
    """64 bits that stand for an answer; never 0."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") or 1


class Words(dict[str, int]):
    """Words and their numbers, in the order of their first use: one that was not seen before gets a number when it is
    looked up."""

    __slots__ = ("words",)

    def __init__(self, words: Iterable[str] = ()) -> None:
        self.words = list(words)
        super().__init__({word: number for number, word in enumerate(self.words)})

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self.words)
        self.words.append(word)
        return number

    def find(self, word: str) -> int:
        """The number of a word, ``NONE`` where it was never seen."""
        return self.get(word, NONE)


class Packed(NamedTuple):
    """Columns as they are sent to another process."""

    words: Mapping[str, Sequence[str]]
    rows: Array
    """Of type ``ATTEMPT``."""
    verdicts: Mapping[Mode, Array]
    """By mode, of type ``VERDICT``."""

    def part(self, start: int, stop: int) -> Packed:
        """Some of the rows."""
        verdicts = {mode: of[start:stop] for mode, of in self.verdicts.items()}
        return Packed(self.words, self.rows[start:stop], verdicts)


class Numbers:
    """The columns of some attempts, one row each, in the order in which they were added."""

    def __init__(self, words: Mapping[str, Sequence[str]] | None = None) -> None:
        self.words = {name: Words((words or {}).get(name, ())) for name in WORDS}
        self._chunks: list[Array] = []
        self._verdicts: dict[Mode, list[Array]] = {}
        self._rows: list[tuple[Any, ...]] = []
        self._judged: dict[Mode, list[tuple[Any, ...]]] = {}
        self._stored = 0
        """Rows in chunks; the others wait."""

    def __len__(self) -> int:
        return self._stored + len(self._rows)

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Those in which any attempt has a verdict."""
        return tuple(self._judged)

    def add(self, attempt: Attempt, offset: int = 0, length: int = 0) -> None:
        """One more row. ``offset`` and ``length``: where its line is, in bytes. Raises ``ValueError`` for counts that
        no column can hold."""
        words = self.words
        task, protocol = words["task"][attempt.task], words["protocol"][attempt.protocol]
        reason, prompt, completion = attempt.finish_reason, attempt.prompt_tokens, attempt.completion_tokens
        finish = NONE if reason is None else words["finish"][reason._value_]
        prompt = UNKNOWN if prompt is None else prompt
        completion = UNKNOWN if completion is None else completion
        sample, turn, left_out = attempt.sample, attempt.turn, attempt.left_out
        if (
            sample > MOST
            or not UNKNOWN <= prompt <= MOST
            or not UNKNOWN <= completion <= MOST
            or not UNKNOWN <= left_out <= MOST
            or turn > MOST_TURNS
        ):
            raise ValueError("a count is too large")
        if task > MOST_TURNS or protocol > MOST_TURNS or finish > MOST_TURNS:
            raise ValueError("there are too many names of tasks, protocols or reasons to end")
        row = (
            offset,
            length,
            task,
            words["problem"][attempt.problem],
            protocol,
            sample,
            turn,
            answer_hash(attempt.prompt_hash),
            finish,
            prompt,
            completion,
            left_out,
            math.nan if attempt.seconds is None else _seconds(attempt.seconds),
        )
        verdicts = attempt.verdicts
        for mode, verdict in {mode: self._verdict(verdict) for mode, verdict in verdicts.items()}.items():
            judged = self._judged.get(mode)
            if judged is None:
                self._judged[mode] = judged = [_NO_VERDICT] * len(self._rows)
                self._verdicts[mode] = [_no_verdicts(len(chunk)) for chunk in self._chunks]
            judged.append(verdict)
        self._rows.append(row)
        if len(verdicts) < len(self._judged):
            for judged in self._judged.values():
                if len(judged) < len(self._rows):
                    judged.append(_NO_VERDICT)
        if len(self._rows) >= WAITING:
            self._pack()

    def _verdict(self, verdict: Verdict) -> tuple[Any, ...]:
        extracted, canonical = verdict.extracted, verdict.canonical
        vote = extracted if canonical is None else canonical
        parts = NONE
        if verdict.parts:
            parts = min(self.words["parts"][json.dumps(dict(verdict.parts))], MOST_TURNS)
        report = NONE
        if verdict.report and any(name in verdict.report for name in REPORTED):
            kept = {name: verdict.report[name] for name in REPORTED if name in verdict.report}
            report = min(self.words["report"][json.dumps(kept)], MOST_TURNS)
        return (
            _STATE_NUMBERS[verdict.state],
            verdict.correct,
            0 if vote is None else answer_hash(vote),
            SAID_NOTHING if extracted is None else _WORDS_OF_JUDGEMENTS.get(extracted, SAID_SOMETHING),
            parts,
            report,
            _seconds(verdict.seconds),
        )

    def extend(self, rows: Array, verdicts: Mapping[Mode, Array]) -> None:
        """Many rows at once, whose words have these numbers already. ``rows``: of type ``ATTEMPT``; ``verdicts``: by
        mode, of type ``VERDICT`` and as many."""
        self._pack()
        for mode in verdicts.keys() - self._judged.keys():
            self._judged[mode] = []
            self._verdicts[mode] = [_no_verdicts(len(chunk)) for chunk in self._chunks]
        self._chunks.append(rows)
        self._stored += len(rows)
        for mode, chunks in self._verdicts.items():
            chunks.append(verdicts[mode] if mode in verdicts else _no_verdicts(len(rows)))

    def join(self, packed: Packed, offset: int = 0) -> None:
        """Many rows at once that have words and numbers of their own; their lines begin at ``offset``. Raises
        ``ValueError`` for counts that no column can hold."""
        known = {name: self._known(name, words) for name, words in packed.words.items()}
        rows = packed.rows.copy()
        rows["offset"] += offset
        verdicts = {mode: of.copy() for mode, of in packed.verdicts.items()}
        for name, numbers in known.items():
            for table in (rows,) if name in (ATTEMPT.names or ()) else verdicts.values():
                table[name] = numbers[table[name]]
        self.extend(rows, verdicts)
        self._merge()

    def _known(self, name: str, words: Sequence[str]) -> Array:
        """The numbers here of words that have the numbers 0, 1, … elsewhere, and last what stands for none."""
        numbers = [self.words[name][word] for word in words]
        if name in ("parts", "report"):
            numbers = [min(number, MOST_TURNS) for number in numbers]
        elif name != "problem" and max(numbers, default=0) > MOST_TURNS:
            raise ValueError("there are too many names of tasks, protocols or reasons to end")
        return np.array([*numbers, NONE])

    def sent(self) -> Packed:
        """All rows, to be joined to others."""
        chunks, verdicts = self.packed()
        rows = np.concatenate([np.zeros(0, ATTEMPT), *chunks])
        of = {mode: np.concatenate(parts) for mode, parts in verdicts.items() if parts}
        return Packed({name: words.words for name, words in self.words.items()}, rows, of)

    def column(self, name: str) -> Array:
        """A column of the attempts, shape (rows,)."""
        self._pack()
        columns = [chunk[name] for chunk in self._chunks]
        return np.concatenate(columns) if columns else np.zeros(0, ATTEMPT[name])

    def verdicts(self, mode: Mode, name: str) -> Array:
        """A column of the verdicts in a mode, shape (rows,)."""
        self._pack()
        columns = [chunk[name] for chunk in self._verdicts.get(mode, ())]
        if columns:
            return np.concatenate(columns)
        return _no_verdicts(len(self))[name].copy()

    def packed(self) -> tuple[Sequence[Array], Mapping[Mode, Sequence[Array]]]:
        """All rows as arrays of type ``ATTEMPT``, and by mode of type ``VERDICT``, in chunks of the same lengths."""
        self._pack()
        return self._chunks, self._verdicts

    def _pack(self) -> None:
        if not self._rows:
            return
        self._chunks.append(np.array(self._rows, ATTEMPT))
        for mode, judged in self._judged.items():
            self._verdicts[mode].append(np.array(judged, VERDICT))
            judged.clear()
        self._stored += len(self._rows)
        self._rows.clear()
        self._merge()

    def _merge(self) -> None:
        for chunks in (self._chunks, *self._verdicts.values()):
            # as a binary counter does: each row is copied a few times, and there are few arrays
            while len(chunks) > 1 and len(chunks[-2]) <= len(chunks[-1]) <= CHUNK // 2:
                last = chunks.pop()
                chunks[-1] = np.concatenate([chunks[-1], last])


_STATE_NUMBERS = {state: number for number, state in enumerate(STATES)}


def _seconds(value: float) -> float:
    """Of a file, whose whole numbers may have any number of digits."""
    try:
        return float(value)
    except OverflowError as error:
        raise ValueError("a time is too large") from error


def _no_verdicts(count: int) -> Array:
    return np.full(count, np.array(_NO_VERDICT, VERDICT))
