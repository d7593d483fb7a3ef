"""The ``replay`` engine: attempts read from a file or another run, so that outputs generated anywhere can be scored.

Layouts, how rows find their problems, and what is refused: docs/replay.md and ``attempt_files``.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    ) -> None:
        self.path = path
        self._turn = turn
        self._id_map = dict(id_map or {})
        self.warnings: list[str] = []
        self._held: dict[Place, list[Held]] = defaultdict(list)
        self._numbered: dict[Place, dict[int, Held]] = {}
        self._digest = hashlib.sha256()
        self._file = FileRows()
        self._empty = 0
        self._matched: Counter[str] = Counter()
        self._left_out: Counter[str] = Counter()
        names = sorted({p.task for p in problems})
        refused: dict[str, list[str]] = defaultdict(list)
        for file, task in _files(path, names):
            self._read(file, [p for p in problems if p.task == task], refused)
        self._refuse(refused, names, allow_unmatched)
        if not self._held:
            raise UsageError(f"{path} holds no attempts")
        self._number()

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self, file: Path, problems: Sequence[Problem], refused: dict[str, list[str]]) -> None:
        rows, told, clue = self._file.read(file, self._digest.update)
        matches = Matcher(problems, self._id_map).match(told)
        for row, number in zip(rows, clue, strict=True):
            match, attempts = matches[number], self._file.attempts(row)
            self._empty += not attempts
            if not match.problems or match.contradiction:
                why = CONTRADICTORY if match.contradiction else match.how
                refused[why].append(f"{self._file.where(row)}{_what(match)}")
                self._left_out[why] += len(attempts)
            else:
                self._matched[match.how] += 1
                if attempts:
                    self._hold(attempts, match.problems)

    def _hold(self, attempts: Sequence[Held], candidates: Sequence[Problem]) -> None:
        """Adds the attempts of a row; of equal problems the one with the fewest gets them."""
        turn = attempts[0].turn or self._turn
        places = [Place(p.task, p.id, *turn) for p in candidates]
        place = places[0]
        if len(places) > 1:
            place = min(places, key=lambda place: len(self._held.get(place, ())))
        self._held[place] += attempts

    def _where(self, attempt: Held) -> str:
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
        stored: dict[tuple[str, str, bool], list[Held]] = defaultdict(list)
        for place, held in self._held.items():
            stored[place.task, place.problem, _own(place.protocol)] += held
        several_turns = self._several_turns
        for place, held in self._held.items():
            if place[2:] == (DIRECT, 1) and not several_turns:
                pairing.in_order(held)
            else:
                same = stored[place.task, place.problem, _own(place.protocol)]
                pairing.by_rank(held, [a.label for a in same if a.label is not None])
        self._carry_first_turns()
        self._complete()

    @property
    def _several_turns(self) -> bool:
        """Whether the file holds more than one turn."""
        return len({place[2:] for place in self._held}) > 1

    def _carry_first_turns(self) -> None:
        """In a run, what a second turn corrects is the first turn of the same number."""
        for place, held in self._held.items():
            if place.turn == 2 and not _own(place.protocol):
                before = self._held.get(place._replace(turn=1), ())
                known = {a.label: self._file.completion(a).text for a in before}
                for attempt in held:
                    attempt.corrected = attempt.corrected or known.get(attempt.label)

    def _complete(self) -> None:
        self._numbered = {place: {a.number: a for a in held} for place, held in self._held.items()}

    def _own_turn(self) -> dict[Place, list[Held]]:
        """The attempts of the turn that the file is of."""
        return {place: held for place, held in self._held.items() if place[2:] == self._turn}

    def notes(self) -> list[str]:
        """What is unusual about the file, for the user: rows that are there twice, equal samples, other numbers."""
        notes = list(self.warnings)
        if repeated := list(self._file.repeated()):
            notes.append(
                f"{len(repeated)} row(s) of {self.path} are the same as an earlier one letter for letter "
                f"(first: {self._file.where(repeated[0])}): each of them counts as an attempt"
            )
        own = {tuple(map(str, place)): held for place, held in self._own_turn().items()}
        return notes + pairing.notes(own, self._where, self._file.text_mark)

    # --- corrections ------------------------------------------------------------------------------------------------

    @property
    def carrying(self) -> tuple[int, int]:
        """How many attempts of the file carry the attempt that they correct, and how many there are."""
        every = [a for held in self._own_turn().values() for a in held]
        return sum(a.corrected is not None for a in every), len(every)

    def differing(self, pool: Pool) -> int:
        """How many attempts correct another one than the pool has at their problem."""
        first = self._first_label()
        return sum(
            len(pairing.with_pool(held, items, first))
            for place, held in self._own_turn().items()
            if (items := pool.of(place.task, place.problem))
        )

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
        self._complete()

    def _first_label(self) -> int:
        return pairing.first_label(a for held in self._own_turn().values() for a in held)

    def carried(self, own: Pool | None = None) -> Pool:
        """The attempts that the rows carry as a pool, each once; labels of equal ones in ``own`` stay."""
        items: list[PoolItem] = []
        for place, held in self._own_turn().items():
            known = {item.text: item.right for item in (own.of(place.task, place.problem) if own else ())}
            at_problem: dict[str, PoolItem] = {}
            for attempt in held:
                if attempt.corrected is None:
                    raise UsageError(f"{self._where(attempt)} does not say what it corrects, other rows do")
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
        for place, held in self._held.items():
            for attempt in sorted(held, key=lambda a: a.number) if place[2:] == (DIRECT, 1) else ():
                text = attempt.corrected if attempt.critique else self._file.completion(attempt).text
                if text is None:
                    raise UsageError(
                        f"{self._where(attempt)} holds a critique, and not what it is of (column message)"
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
        return {place.problem: 1 + max(a.number for a in held) for place, held in self._own_turn().items()}

    def describe(self) -> dict[str, Any]:
        digest = self._digest.copy()
        if self._id_map:
            digest.update(json.dumps(sorted(self._id_map.items())).encode())
        return {"engine": self.name, "file": self.path.name, "fingerprint": digest.hexdigest()[:16]}

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            for request in taken:
                place = Place(request.problem.task, request.problem.id, request.protocol, request.turn)
                numbered = self._numbered.get(place, {})
                feed.done(len(set(request.samples) - numbered.keys()))
                for sample in request.samples:
                    if sample in numbered:
                        yield request, sample, self._file.completion(numbered[sample])

    def places(self, request: Request) -> Iterator[tuple[int, RowPlace | Completion, int]]:
        """Of each sample that the file has: its number, where it can be read again, and a number that is the same for
        equal texts (0: an empty one)."""
        of = Place(request.problem.task, request.problem.id, request.protocol, request.turn)
        numbered = self._numbered.get(of, {})
        for sample in request.samples:
            if held := numbered.get(sample):
                yield sample, self._file.place(held), self._file.text_mark(held)

    @property
    def rows(self) -> Understood:
        """How the rows of the file were understood."""
        attempts = len(self._file.held)
        left_out, matched = Counter(self._left_out), Counter(self._matched)
        return Understood(len(self._file), self._empty, attempts, left_out, matched)

    def numbered(self) -> Iterator[tuple[Place, bool, list[int]]]:
        """What attempts there are by their numbers, and whether they are of the turn that the file is of."""
        for place, held in self._held.items():
            yield place, place[2:] == self._turn, [attempt.number for attempt in held]

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
