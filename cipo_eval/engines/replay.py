"""The ``replay`` engine: attempts read from a file or another run, so that outputs generated anywhere can be scored.

Layouts, how rows find their problems, and what is refused: docs/replay.md and ``attempt_files``.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cipo_eval.data.attempt_files import pairing
from cipo_eval.data.attempt_files.matching import NOTHING, Match, Matcher
from cipo_eval.data.attempt_files.pairing import Held
from cipo_eval.data.attempt_files.rows import FileRows
from cipo_eval.data.attempt_files.rows import Place as RowPlace
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.options import EngineContext, ReplayOptions
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion, Problem, Request
from cipo_eval.turns.pools import Pool, PoolItem
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

if TYPE_CHECKING:
    from cipo_eval.verifiers.pool import VerifierPool

IntArray = NDArray[np.int64]
NOTHING_HELD = np.zeros(0, np.int64)
CONTRADICTORY = "name one problem by their id or place and another by their text or answer"
NOT_IN_POOL = "are at problems that the attempts to be corrected are not at"


class Place(NamedTuple):
    """What an attempt is an attempt at."""

    task: str
    problem: str
    protocol: str
    turn: int


class Understood(NamedTuple):
    """How the rows of a file were understood, in numbers."""

    rows: int
    empty: int
    attempts: int
    left_out: Counter[str]
    """By reason, attempts that are not among the engine's."""
    matched: Counter[str]
    """By how their problem was found."""


class ReplayEngine:
    """Completions of ``path`` for ``problems`` (those of one task or of several).

    ``turn`` is the protocol and turn of rows that do not say it: first attempts, or what followed somebody's attempts.
    ``id_map``: by id of the file, the problem's. Rows that match no problem, or contradict themselves, are an error
    unless ``allow_unmatched``. Raises ``UsageError``.
    """

    name = "replay"
    options = ReplayOptions

    @classmethod
    def make(cls, model: str, options: ReplayOptions, context: EngineContext) -> ReplayEngine:  # noqa: ARG003
        return cls(Path(model), context.problems)

    @classmethod
    def preview(
        cls,
        model: str,
        options: ReplayOptions,
        context: EngineContext,
        requests: Sequence[Request],  # noqa: ARG003
    ) -> str:
        facts = cls.make(model, options, context).describe()
        return f"{model} is there (fingerprint {facts['fingerprint']})"

    def __init__(
        self,
        path: Path,
        problems: Sequence[Problem],
        *,
        allow_unmatched: bool = False,
        turn: tuple[str, int] = (DIRECT, 1),
        id_map: Mapping[str, str] | None = None,
        pool: VerifierPool | None = None,
    ) -> None:
        self.path = path
        self._turn = turn
        self._id_map = dict(id_map or {})
        self.warnings: list[str] = []
        self._held: dict[Place, IntArray] = {}
        """The attempts of the file at each place, in their order."""
        self._numbered: dict[Place, dict[int, int]] = {}
        """By place and number, attempts of which completions were asked for."""
        self._digest = hashlib.sha256()
        self._file = FileRows()
        self._empty = 0
        self._matched: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        names = sorted({p.task for p in problems})
        refused: dict[str, list[str]] = defaultdict(list)
        for file, task in _files(path, names):
            self._read(file, [p for p in problems if p.task == task], refused, pool)
        self._refuse(refused, names, allow_unmatched)
        if not self._held:
            raise UsageError(f"{path} holds no attempts")
        self._numbers = np.zeros(self._file.attempts, np.int64)
        """By attempt its number at its place."""
        self._number()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(
        self,
        file: Path,
        problems: Sequence[Problem],
        refused: dict[str, list[str]],
        pool: VerifierPool | None,
    ) -> None:
        rows, told, clue = self._file.read(file, self._digest.update, pool)
        matches = Matcher(problems, self._id_map).match(told)
        held: dict[Place, array[int]] = {}
        for row, number in zip(rows, clue, strict=True):
            match, attempts = matches[number], self._file.attempts_of(row)
            self._empty += not attempts
            if not match.problems or match.contradiction:
                why = CONTRADICTORY if match.contradiction else match.how
                refused[why].append(f"{self._file.where(row)}{_what(match)}")
                self._left_out[why] += len(attempts)
            else:
                self._matched[match.how] += 1
                if attempts:
                    self._hold(held, attempts, match.problems)
        self._held.update({place: np.array(of) for place, of in held.items()})

    def _hold(
        self, held: dict[Place, array[int]], attempts: Sequence[int], candidates: Sequence[Problem]
    ) -> None:
        """Adds the attempts of a row; of equal problems the one with the fewest gets them."""
        turn = self._file.turn(attempts[0]) or self._turn
        places = [Place(p.task, p.id, *turn) for p in candidates]
        place = places[0]
        if len(places) > 1:
            place = min(places, key=lambda place: len(held.get(place, ())))
        if (there := held.get(place)) is None:
            there = held[place] = array("q")
        there.extend(attempts)

    def _where(self, attempt: int) -> str:
        return self._file.where(self._file.row_of(attempt))

    def _refuse(self, refused: Mapping[str, list[str]], names: Sequence[str], allowed: bool) -> None:
        """Rows without a problem: an error, or a warning where they may be left out."""
        counts = ", ".join(f"{len(rows)} row(s) {why}" for why, rows in refused.items())
        first = next((rows[0] for rows in refused.values()), "")
        if NOTHING in refused and (not allowed or not self._held):
            raise UsageError(
                f"{refused[NOTHING][0]} names no problem: it needs a column problem_id, question or idx "
                f"({len(refused[NOTHING])} such row(s))"
            )
        if refused and (not allowed or not self._held):
            raise UsageError(
                f"{counts} of {', '.join(names)} (first: {first}): is it the right --task? "
                "--id-map FILE says what ids mean; --allow-unmatched scores the others"
            )
        if refused:
            self.warnings.append(f"of {self.path}, {counts} (first: {first}) and were left out")

    # --- numbers ----------------------------------------------------------------------------------------------------

    def _number(self) -> None:
        """Numbers from 0 on. Turns of one chain in a run have one number, so they are numbered together."""
        if {place[2:] for place in self._held} == {(DIRECT, 1)}:
            for attempts in self._held.values():
                self._numbers[attempts] = pairing.in_order(*self._file.labels(attempts))
            return
        labels: dict[tuple[str, str, bool], set[int]] = defaultdict(set)
        for place in self._held:
            known = (a.label for a in self._of(place))
            chain = place.task, place.problem, _own(place.protocol)
            labels[chain].update(label for label in known if label is not None)
        for place in self._held:
            held = self._of(place)
            pairing.by_rank(held, labels[place.task, place.problem, _own(place.protocol)])
            self._note_numbers(held)
        self._carry_first_turns()

    def _of(self, place: Place) -> list[Held]:
        """The attempts at a place in the order of the file, with their numbers."""
        held = self._file.held(self._held[place].tolist())
        for attempt in held:
            attempt.number = int(self._numbers[attempt.at])
        return held

    def _note_numbers(self, held: Iterable[Held]) -> None:
        for attempt in held:
            self._numbers[attempt.at] = attempt.number
        self._numbered.clear()

    def _carry_first_turns(self) -> None:
        """In a run, what a second turn corrects is the first turn of the same number."""
        for place in self._held:
            if place.turn == 2 and not _own(place.protocol):
                before = place._replace(turn=1)
                firsts = self._of(before) if before in self._held else ()
                known = {a.label: self._file.completion(a.at).text for a in firsts}
                for attempt in self._of(place):
                    if text := known.get(attempt.label):
                        self._file.carry(attempt.at, text)

    def _own_turn(self) -> list[Place]:
        """The places of the turn that the file is of."""
        return [place for place in self._held if place[2:] == self._turn]

    def notes(self) -> list[str]:
        """What is unusual about the file, for the user: rows that are there twice, equal samples, other numbers."""
        notes = list(self.warnings)
        if repeated := list(self._file.repeated()):
            notes.append(
                f"{len(repeated)} row(s) of {self.path} are the same as an earlier one letter for letter "
                f"(first: {self._file.where(repeated[0])}): each of them counts as an attempt"
            )
        own = [self._held[place] for place in self._own_turn()]
        file = self._file
        return notes + pairing.notes(own, self._numbers, file.labels, file.text_marks, self._where)

    # --- corrections ------------------------------------------------------------------------------------------------

    @property
    def carrying(self) -> tuple[int, int]:
        """How many attempts of the file carry the attempt that they correct, and how many there are."""
        every = [a for place in self._own_turn() for a in self._of(place)]
        return sum(a.corrected is not None for a in every), len(every)

    def differing(self, pool: Pool) -> int:
        """How many attempts correct another one than the pool has at their problem."""
        first, differing = self._first_label(), 0
        for place in self._own_turn():
            if items := pool.of(place.task, place.problem):
                held = self._of(place)
                differing += len(pairing.with_pool(held, items, first))
                self._note_numbers(held)
        return differing

    def pair(self, pool: Pool) -> None:
        """Gives every correction the number of the attempt that it corrects.

        Raises ``UsageError`` where one corrects an attempt that the pool does not have.
        """
        if others := self.differing(pool):
            carrying, _ = self.carrying
            raise UsageError(
                f"{others} of the {carrying} attempts of {self.path} that say what they correct do not correct "
                f"the given attempts: --attempts-from {self.path} takes what its rows carry"
            )
        for place in self._own_turn():
            if not pool.of(place.task, place.problem):
                self._left_out[NOT_IN_POOL] += len(self._held.pop(place))

    def _first_label(self) -> int:
        return pairing.first_label(a for place in self._own_turn() for a in self._of(place))

    def carried(self, own: Pool | None = None) -> Pool:
        """The attempts that the rows carry as a pool, each once; labels of equal ones in ``own`` stay."""
        items: list[PoolItem] = []
        for place in self._own_turn():
            known = {item.text: item.right for item in (own.of(place.task, place.problem) if own else ())}
            at_problem: dict[str, PoolItem] = {}
            for attempt in self._of(place):
                if attempt.corrected is None:
                    raise UsageError(
                        f"{self._where(attempt.at)} does not say what it corrects, other rows do"
                    )
                at_problem[attempt.corrected] = PoolItem(
                    task=place.task,
                    problem=place.problem,
                    text=attempt.corrected,
                    right=known.get(attempt.corrected),
                )
            items += at_problem.values()
        return Pool(items=tuple(items), source=self.describe())

    def pool(self) -> Pool:
        """The first attempts as a pool to correct; of critiques, what they are of."""
        items = []
        for place in self._held:
            firsts = self._of(place) if place[2:] == (DIRECT, 1) else []
            for attempt in sorted(firsts, key=lambda a: a.number):
                text = attempt.corrected if attempt.critique else self._file.completion(attempt.at).text
                if text is None:
                    raise UsageError(
                        f"{self._where(attempt.at)} holds a critique, and not what it is of (column message)"
                    )
                items.append(PoolItem(task=place.task, problem=place.problem, text=text, right=attempt.right))
        return Pool(items=tuple(items), source=self.describe())

    # --- the engine -------------------------------------------------------------------------------------------------

    @property
    def samples(self) -> int:
        """The largest number of completions of one problem. Raises ``UsageError`` where the turn has none."""
        if not self.counts:
            turns = Counter(f"{place.protocol} turn {place.turn}" for place in self._held)
            raise UsageError(
                f"{self.path} holds no attempts of {self._turn[0]} turn {self._turn[1]}: it has "
                f"{', '.join(turns)}"
            )
        return max(self.counts.values())

    @property
    def counts(self) -> dict[str, int]:
        """By problem, up to which number it has completions of the turn that the file holds."""
        return {place.problem: 1 + int(self._numbers[self._held[place]].max()) for place in self._own_turn()}

    def describe(self) -> dict[str, Any]:
        digest = self._digest.copy()
        if self._id_map:
            digest.update(json.dumps(sorted(self._id_map.items())).encode())
        return {"engine": self.name, "file": self.path.name, "fingerprint": digest.hexdigest()[:16]}

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            for request in taken:
                numbered = self._at(request)
                feed.done(len(set(request.samples) - numbered.keys()))
                for sample in request.samples:
                    if sample in numbered:
                        yield request, sample, self._file.completion(numbered[sample])

    def _at(self, request: Request) -> dict[int, int]:
        """By number, the attempts at what a request is for."""
        place = Place(request.problem.task, request.problem.id, request.protocol, request.turn)
        if place not in self._numbered:
            held = self._held.get(place, NOTHING_HELD)
            self._numbered[place] = dict(zip(self._numbers[held].tolist(), held.tolist(), strict=True))
        return self._numbered[place]

    def places(self, request: Request) -> tuple[list[tuple[int, RowPlace | Completion]], list[int]]:
        """Of each sample that the file has its number and where it can be read again, and a number that is the same
        for equal texts (0: an empty one)."""
        numbered = self._at(request)
        self._numbered.clear()  # each is asked for once
        there = [(sample, numbered[sample]) for sample in request.samples if sample in numbered]
        marks = self._file.text_marks(np.array([at for _, at in there], np.int64))
        return [(sample, self._file.place(at)) for sample, at in there], marks.tolist()

    @property
    def rows(self) -> Understood:
        """How the rows of the file were understood."""
        attempts = self._file.attempts
        left_out, matched = Counter(self._left_out), Counter(self._matched)
        return Understood(len(self._file), self._empty, attempts, left_out, matched)

    def numbered(self) -> Iterator[tuple[Place, bool, list[int]]]:
        """What attempts there are by their numbers, and whether they are of the turn that the file is of."""
        for place, held in self._held.items():
            yield place, place[2:] == self._turn, self._numbers[held].tolist()

    def close(self) -> None:
        self._file.close()


def _own(protocol: str) -> bool:
    """Whether a protocol begins with the model's own attempt."""
    return protocol == DIRECT or protocol not in PROTOCOLS or PROTOCOLS[protocol].own


def _what(match: Match) -> str:
    return f": {match.contradiction}" if match.contradiction else ""


def _files(path: Path, tasks: Sequence[str]) -> list[tuple[Path, str]]:
    """The files to read, each with its task."""
    if path.is_dir():
        files = [(file, task) for task in tasks if (file := path / "attempts" / f"{task}.jsonl").is_file()]
        if not files:
            raise UsageError(
                f"{path} is a folder and no run directory of this task: it holds no "
                f"attempts/{'|'.join(tasks)}.jsonl"
            )
        return files
    if not path.is_file():
        raise UsageError(f"{path} does not exist")
    if len(tasks) > 1:
        raise UsageError(f"{path} is one file: name one --task")
    return [(path, tasks[0])]
