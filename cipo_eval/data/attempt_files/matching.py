"""Finds the problems that the rows of a file are about; says how, and where a row contradicts itself.

In order of trust: an id map of the user; the problem's own id; its statement, first as it is, then without what two
copies differ in, then within instructions; a program to be repaired; the place in the data set, where a row says
nothing else; a like statement with the same answer; another copy's id. What rests on an id is checked against the row's
statement, where it has one: a row never gets a problem in silence that its text speaks against.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from cipo_eval.data.attempt_files import texts
from cipo_eval.data.attempt_files.aliases import Aliases, Reading
from cipo_eval.data.attempt_files.clues import Clues
from cipo_eval.records import Problem

ID_MAP, ID, TEXT, PROGRAM = "id map", "id", "text", "slug and program"
PLACE, ALIAS, ALIKE = "place in the data set", "id alias", "like text with the same answer"
NOTHING, UNKNOWN, DOUBTFUL = "name no problem", "match no problem", "have an id that could mean two problems"

_ALIKE = 0.5
"""A statement that shares fewer words with a problem's own is another problem's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """What a row is about."""

    problems: tuple[Problem, ...] = ()
    """Equally good ones; none: ``how`` says why."""
    how: str
    contradiction: str = ""
    """What the row's id and its text say, where they name different problems."""


class Matcher:
    """Matches rows with the problems of one task; ``id_map``: by id of the file, the problem's id."""

    def __init__(self, problems: Sequence[Problem], id_map: Mapping[str, str] | None = None) -> None:
        self._map = {name: p for p in problems for name, to in (id_map or {}).items() if to == p.id}
        self._by_id = {p.id: p for p in problems}
        self._by_place = {p.index: p for p in problems}
        self._by_plain = _grouped((texts.plain(p.question), p) for p in problems)
        self._aliases = Aliases(problems)
        self._problems = problems
        self._by_slug: dict[tuple[str, ...], list[Problem]] = defaultdict(list)
        for problem in problems:
            if slug := problem.metadata.get("slug"):
                buggy = str(problem.metadata.get("buggy_code", ""))
                for name in ((slug,), (slug, buggy.strip("\n")), (slug, texts.plain(buggy))):
                    self._by_slug[name].append(problem)
        self._read: dict[str, tuple[Problem, ...]] = {}

    @cached_property
    def _by_key(self) -> dict[str, tuple[Problem, ...]]:
        return _grouped((key, p) for p in self._problems if (key := texts.key(p.question)))

    @cached_property
    def _contained(self) -> texts.Contained:
        return texts.Contained(self._by_key)

    @cached_property
    def _by_answer(self) -> dict[str, tuple[Problem, ...]]:
        return _grouped((key, p) for p in self._problems if (key := texts.answer_key(p.gold)))

    def match(self, rows: Sequence[Clues]) -> list[Match]:
        """The match of each row. All rows of a file together: they tell how its ids are to be read."""
        matches = _places_believed([self._surely(row) for row in rows])
        problems_by_id = {
            name: match.problems[0]
            for row, match in zip(rows, matches, strict=True)
            if match is not None and match.how in (TEXT, ALIKE) and len(match.problems) == 1
            for name in (*row.names, *row.loose)
        }
        names = {name: row for row in rows for name in (*row.names, *row.loose)}
        reading = Reading()
        if any(match is None for match in matches):
            reading = self._aliases.read(names, problems_by_id, lambda name, p: _same_gold(names[name], p))
        return [match or self._by_alias(row, reading) for row, match in zip(rows, matches, strict=True)]

    def _surely(self, row: Clues) -> Match | None:
        """A match that needs no other rows; None where there may be one by an alias."""
        if row.empty:
            return Match(how=NOTHING)
        by_text = self._by_text(row)
        for how, names, of in (
            (ID_MAP, (*row.names, *row.loose, *_text_of(row.position)), self._map),
            (ID, (*row.names, *(name for name in row.loose if not name.isdecimal())), self._by_id),
        ):
            if problem := next((of[name] for name in names if name in of), None):
                return self._checked(row, problem, how, by_text)
        if problem := next((p for name in row.names if (p := self._aliases.same(name))), None):
            return self._checked(row, problem, ALIAS, by_text)
        if by_text:
            return Match(problems=by_text, how=TEXT)
        if row.slug is not None:
            repaired = tuple(self._by_program(row.slug, row.program))
            return Match(problems=repaired, how=PROGRAM if repaired else UNKNOWN)
        if row.position is not None and not row.names and not row.statements:
            at = self._by_place.get(row.position)
            if at is None:
                return Match(how=UNKNOWN)
            against = "" if _same_gold(row, at) is not False else f"the place of {at.id} and another answer"
            return Match(problems=(at,), how=PLACE, contradiction=against)
        if alike := self._alike(row):
            return Match(problems=(alike,), how=ALIKE)
        return None if row.names or row.loose else Match(how=UNKNOWN)

    def _checked(self, row: Clues, problem: Problem, how: str, by_text: tuple[Problem, ...]) -> Match:
        """A match by an id, unless the row's text is another problem's."""
        if by_text:
            against = "" if problem in by_text else f"the text of {by_text[0].id}"
        else:
            against = "" if _speaks_for(row, problem) else "another text"
        contradiction = f"the id of {problem.id} and {against}" if against else ""
        return Match(problems=(problem,), how=how, contradiction=contradiction)

    def _by_alias(self, row: Clues, reading: Reading) -> Match:
        names = (*row.names, *row.loose)
        if problem := next((reading.of[name] for name in names if name in reading.of), None):
            return Match(problems=(problem,), how=ALIAS) if _speaks_for(row, problem) else Match(how=UNKNOWN)
        return Match(how=DOUBTFUL if any(name in reading.doubtful for name in names) else UNKNOWN)

    def _by_text(self, row: Clues) -> tuple[Problem, ...]:
        for question in row.questions:
            if question not in self._read:
                self._read[question] = self._find_text(question)
            if match := self._read[question]:
                return match
        return ()

    def _find_text(self, question: str) -> tuple[Problem, ...]:
        """Problems with this statement; equal ones are several, different ones none."""
        if problems := self._by_plain.get(texts.plain(question)):
            return problems
        key = texts.key(question)
        if problems := self._by_key.get(key):
            return problems
        within = self._contained.find(key)
        return self._by_key[within[0]] if len(within) == 1 else ()

    def _alike(self, row: Clues) -> Problem | None:
        """The one problem whose statement is nearly the row's, if it has this answer."""
        if not row.questions or not row.answers:
            return None
        sharing = {p.id: p for a in row.answers for p in self._by_answer.get(texts.answer_key(a), ())}
        if not any(_is_near(row, problem) for problem in sharing.values()):
            return None
        near = [problem for problem in self._problems if _is_near(row, problem)]
        return near[0] if len(near) == 1 else None

    def _by_program(self, slug: str, buggy: str | None) -> Sequence[Problem]:
        """Of a slug with a buggy program those that are it, else all of the slug."""
        if buggy is None:
            return self._by_slug.get((slug,), [])
        text = buggy.replace("\r\n", "\n")
        keys = (slug, text.strip("\n")), (slug, texts.plain(text))
        return next((self._by_slug[name] for name in keys if name in self._by_slug), [])


def _speaks_for(row: Clues, problem: Problem) -> bool:
    """Whether the row has no statement, or one that may be the problem's in other words."""
    if not row.statements:
        return True
    return any(texts.likeness(question, problem.question) >= _ALIKE for question in row.statements)


def _is_near(row: Clues, problem: Problem) -> bool:
    return any(texts.is_near(question, problem.question) for question in row.questions)


def _places_believed(matches: Sequence[Match | None]) -> list[Match | None]:
    """The matches; where one row's answer contradicts its place, the file has another order, and no place counts."""
    wrong = next((m.contradiction for m in matches if m and m.how == PLACE and m.contradiction), "")
    return [replace(m, contradiction=wrong) if wrong and m and m.how == PLACE else m for m in matches]


def _same_gold(row: Clues, problem: Problem) -> bool | None:
    """Whether the row's right answer is the problem's, where both are numbers; None where that is not known."""
    gold = texts.as_number(problem.gold)
    golds = [number for text in row.golds if (number := texts.as_number(text)) is not None]
    return gold in golds if golds and gold is not None else None


def _text_of(position: int | None) -> tuple[str, ...]:
    return () if position is None else (str(position),)


def _grouped(pairs: Iterable[tuple[str, Problem]]) -> dict[str, tuple[Problem, ...]]:
    groups: dict[str, tuple[Problem, ...]] = {}
    for name, problem in pairs:
        groups[name] = (*groups.get(name, ()), problem)
    return groups
