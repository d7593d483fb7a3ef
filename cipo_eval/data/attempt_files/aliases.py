"""Ids that another copy of a data set gives the same problems: ``humaneval_3``, ``3``, ``aime24-7``.

An id is read in one way for the whole file: as the problem's own number, or as its place from 0 or from 1. A reading
counts if every id of the file has a meaning in it and no row's text or right answer contradicts it; as places only if
some agree, since copies differ in their order. Where two readings would mean different problems, none counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cipo_eval.records import Problem

_Key = TypeVar("_Key", str, int)

_NUMBERED = re.compile(r"(.*?)[\s_\-/:.#]*0*(\d{1,18})", re.DOTALL)
_NOT_WORD = re.compile(r"[\W_]+")
_LONGEST = 200
"""Characters of an id that is looked at."""
_YEAR = re.compile(r"20(\d\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What the aliases of a file mean."""

    of: Mapping[str, Problem] = field(default_factory=dict)
    doubtful: frozenset[str] = frozenset()
    """Ids that could mean two problems."""


class Aliases:
    """The ids of a task's problems, and what other ids may mean by them."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self._names = {problems[0].task, problems[0].task.removeprefix("cipo_")} if problems else set()
        self._canonical = _unique((canonical(p.id), p) for p in problems)
        parts = [_numbered(p.id) for p in problems]
        prefixes = {part[0] for part in parts if part}
        self._prefix = prefixes.pop() if len(prefixes) == 1 and all(parts) else None
        self._numbers: dict[int, Problem] = {}
        if self._prefix is not None:
            self._numbers = _unique((part[1], p) for part, p in zip(parts, problems, strict=True) if part)
        self._places = {p.index: p for p in problems}

    def same(self, name: str) -> Problem | None:
        """The problem whose id differs from ``name`` in case, separators and leading zeros only."""
        return self._canonical.get(canonical(name))

    def read(
        self,
        names: Iterable[str],
        problems_by_id: Mapping[str, Problem],
        agrees: Callable[[str, Problem], bool | None] = lambda *_: None,
    ) -> Reading:
        """What ``names``, all ids of a file, mean.

        ``problems_by_id``: the problem that the text of an id's row names; ``agrees``: whether the right answer of an
        id's row is a problem's, None where that is not known.
        """
        numbers = {name: part for name in names if (part := _numbered(name)) and self._fits(part[0])}
        if not numbers:
            return Reading()
        meanings = (self._numbers.get, self._places.get, lambda number: self._places.get(number - 1))
        readings = [
            {name: p for name, (_, number) in numbers.items() if (p := meaning(number)) is not None}
            for meaning in meanings
        ]
        evidence = [
            [
                problems_by_id[name] is p if name in problems_by_id else agrees(name, p)
                for name, p in of.items()
            ]
            for of in readings
        ]
        sound = [False not in verdicts for verdicts in evidence]
        whole = [i for i, of in enumerate(readings) if sound[i] and len(of) == len(numbers)]
        all_ours = all(prefix in ("", self._prefix) for prefix, _ in numbers.values())
        if backed := [i for i in whole if True in evidence[i]]:
            whole = backed
        elif all_ours and readings[0] and sound[0]:
            whole = [0]  # an id is an id first; some may be of problems that are no longer there
        elif whole != [0]:
            return Reading(doubtful=frozenset(name for i in whole for name in readings[i]))
        chosen = readings[whole[0]]
        others = [readings[i] for i in whole[1:]]
        doubtful = {name for name, p in chosen.items() if any(of.get(name) is not p for of in others)}
        certain = {name: p for name, p in chosen.items() if name not in doubtful}
        return Reading(of=certain, doubtful=frozenset(doubtful))

    def _fits(self, prefix: str) -> bool:
        """Whether ids with this prefix may be of this task."""
        return prefix in ("", self._prefix) or prefix in {_word(name) for name in self._names}


def canonical(name: str) -> str:
    """The id in lower case, with one separator and without leading zeros."""
    parts = re.split(r"[\s_\-/:.#]+", name.casefold().strip())
    return "-".join(part.lstrip("0") or "0" if part.isdecimal() else part for part in parts)


def _numbered(name: str) -> tuple[str, int] | None:
    """What stands before an id's last number, and the number."""
    if len(name) > _LONGEST:
        return None
    match = _NUMBERED.fullmatch(name.strip())
    return (_word(match[1]), int(match[2])) if match else None


def _word(name: str) -> str:
    """``aime24`` for AIME_2024."""
    return _YEAR.sub(r"\1", _NOT_WORD.sub("", name.casefold()))


def _unique(pairs: Iterable[tuple[_Key, Problem]]) -> dict[_Key, Problem]:
    """Of keys that two problems have, none."""
    problems_by_key: dict[_Key, list[Problem]] = {}
    for name, problem in pairs:
        problems_by_key.setdefault(name, []).append(problem)
    return {name: problems[0] for name, problems in problems_by_key.items() if len(problems) == 1}
