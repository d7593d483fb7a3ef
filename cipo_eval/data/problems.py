"""Problems from the rows of a task: by its columns or its reader, counted, and known by their content."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.data import sources
from cipo_eval.data.definitions import BOXED, Columns, RowSource, TaskSpec, fetch_command, fetch_hint
from cipo_eval.data.documents import with_prompts
from cipo_eval.data.readers import Reader, ReadProblem, reader, transform
from cipo_eval.data.sources import Row, Source, Transform
from cipo_eval.errors import CipoError, MissingError, UsageError
from cipo_eval.records import Problem, fingerprint
from cipo_eval.texts import last_boxed
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import TestSet

Companions = Mapping[str, Mapping[str, Row]]
"""Companion: key: row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemSet:
    """A task with its items."""

    spec: TaskSpec
    problems: tuple[Problem, ...]
    fingerprint: str
    source: Mapping[str, Any]
    """For ``run.json``: kind, path or repo, revision, rows, fingerprint, which known content it is; the same of
    companions; and ``coverage``, how many rows have which tests."""
    warnings: tuple[str, ...] = ()
    """What a user must hear: results may not be comparable."""

    @property
    def known(self) -> bool:
        """Whether these are items that the definition knows; True also where it knows none."""
        return not self.spec.fingerprints or self.fingerprint in self.spec.fingerprints


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPlaces:
    """The places on this machine that hold the rows of a task."""

    place: sources.Place
    """The place of the task's own rows."""
    companions: Mapping[str, sources.Place] = field(default_factory=dict)
    """The places of those companions that are here."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Why an optional companion could not be fetched."""


def prepared(row_source: RowSource) -> Transform:
    """What is kept of a row: all of it, some columns, or what a ``prepare`` function makes of it."""
    if row_source.prepare:
        return transform(row_source.prepare)
    if not row_source.keep:
        return lambda row: row
    return lambda row: {name: row[name] for name in row_source.keep if name in row}


def read(spec: TaskSpec, places: TaskPlaces) -> ProblemSet:
    """The problems in places that ``find`` or ``pull`` gave. Raises ``UsageError`` for wrong or damaged rows."""
    command = fetch_command(spec)
    companions: dict[str, Mapping[str, Row]] = {}
    facts: dict[str, Any] = {}
    warnings: list[str] = []
    for row_source in spec.companions:
        if place := places.companions.get(row_source.name):
            rows = sources.read(place, command, prepared(row_source))
            check_count(spec, row_source, rows, place.source, place.origin)
            companions[row_source.name] = {key: row for row in rows if (key := _key(row_source, row))}
            facts[row_source.name] = {**place.origin, "rows": len(rows)}
        else:
            facts[row_source.name] = None
            reason = places.notes.get(row_source.name) or f"{fetch_hint(spec)} to get it"
            warnings.append(
                f"{spec.name}: without its data `{row_source.name}`, {row_source.without} ({reason})"
            )
    rows = sources.read(places.place, command, prepared(spec.own))
    origin = {**places.place.origin, "companions": facts} if facts else places.place.origin
    problems = build(spec, rows, places.place.source, origin, companions)
    return dataclasses.replace(problems, warnings=(*warnings, *problems.warnings))


def build(
    spec: TaskSpec,
    rows: Sequence[Row],
    source: Source,
    origin: Mapping[str, Any],
    companions: Companions | None = None,
) -> ProblemSet:
    """Makes problems of rows, checks their number and ids, and says which known content they are."""
    where = _where(origin)
    check_count(spec, spec.own, rows, source, origin)
    problems: tuple[Problem, ...]
    coverage: Counter[str] = Counter()
    if spec.columns is not None:
        columns = spec.columns
        problems = tuple(
            _problem(spec, columns, row, index, f"{where}, row {index + 1}") for index, row in enumerate(rows)
        )
        content = content_fingerprint((problem.question, problem.gold) for problem in problems)
    else:
        problems, content, coverage = _read_items(spec, rows, companions or {}, where)
    ids = {problem.id for problem in problems}
    if len(ids) < len(problems):
        raise UsageError(
            f"{spec.name}: {where} has rows with the same id ({len(problems) - len(ids)} too many)"
        )
    label = spec.fingerprints.get(content)
    warnings = []
    if coverage:
        parts = "; ".join(f"{count} {what}" for what, count in coverage.most_common())
        warnings.append(f"{spec.name}: of {len(rows)} rows {parts}")
    if label is None and spec.fingerprints:
        warnings.append(
            f"{spec.name}: the items of {where} are not the reference ones (fingerprint {content}, reference "
            f"{spec.fingerprint}): results may differ from published ones; the run records which it used"
        )
    facts = {**origin, "rows": len(rows), "fingerprint": content, "content": label or "unknown"}
    if coverage:
        facts["coverage"] = dict(sorted(coverage.items()))
    return ProblemSet(
        spec=spec, problems=problems, fingerprint=content, source=facts, warnings=tuple(warnings)
    )


def _where(origin: Mapping[str, Any]) -> Any:
    return origin.get("path") or origin.get("repo")


def check_count(
    spec: TaskSpec, row_source: RowSource, rows: Sequence[Row], source: Source, origin: Mapping[str, Any]
) -> None:
    """Raises ``UsageError`` where a place has another number of rows than it, or the definition, says."""
    expected = source.rows or row_source.rows
    if expected is not None and len(rows) != expected:
        raise UsageError(
            f"{spec.name}: {_where(origin)} has {len(rows)} rows instead of {expected}: it is cut off or "
            f"another data set; {fetch_hint(spec)}"
        )


def _key(row_source: RowSource, row: Row) -> str:
    """What joins a row with a companion's."""
    return _text(_first(row, row_source.key))


def content_fingerprint(items: Iterable[tuple[str, str]]) -> str:
    """Identity of a set of (question, gold) pairs, whatever their order, file format and white space."""
    return fingerprint(
        sorted([" ".join(question.split()), " ".join(gold.split())] for question, gold in items)
    )


def _problem(spec: TaskSpec, columns: Columns, row: Row, index: int, where: str) -> Problem:
    question, gold = _text(_first(row, columns.question)), _gold(row, columns.gold)
    if not question or not gold:
        what, names = ("question", columns.question) if not question else ("answer", columns.gold)
        raise UsageError(f"{spec.name}: {where} has no {what} (column {' or '.join(names)})")
    if context := _text(_first(row, columns.context)):
        question = f"{context}\n\n{question}"
    options = dict(spec.options)
    for option, column in columns.options.items():
        if (value := _present(row.get(column))) is not None:
            plain = isinstance(value, bool | list)  # a list: the options of a question
            options[option] = value if plain else _text(value)
    metadata = {name: value for name in spec.breakdown if (value := _present(row.get(name))) is not None}
    problem_id = _first(row, columns.id)
    problem = Problem(
        task=spec.name,
        id=str(index) if problem_id is None else _text(problem_id),
        index=index,
        question=question,
        prompt="",
        gold=gold,
        options=options,
        metadata=metadata,
        attempt=_text(_first(row, columns.attempt)) or None,
        attempt_right=_truth(_first(row, columns.attempt_right)),
    )
    return with_prompts(spec, problem, where)


def _truth(value: Any) -> bool | None:
    """A truth value, or the first of a list of them."""
    label = value[0] if isinstance(value, list | tuple) and value else value
    return label if isinstance(label, bool) else None


def _gold(row: Row, columns: Sequence[str]) -> str:
    for name in columns:
        value = _text(_present(row.get(name.removeprefix(BOXED))))
        if value and name.startswith(BOXED):
            value = last_boxed(value) or ""
        if value:
            return value
    return ""


def _present(value: Any) -> Any:
    """The value, or None for what upstream files put where there is none."""
    return None if value in (None, "", "None", [], ()) or value != value else value


def _first(row: Row, columns: Sequence[str]) -> Any:
    return next((value for name in columns if (value := _present(row.get(name))) is not None), None)


def _text(value: Any) -> str:
    """The value as upstream wrote it: 27.0 stays ``27.0``; a list's entries are joined by commas."""
    if isinstance(value, list | tuple):
        return ", ".join(map(_text, value))
    return "" if value is None else str(value)


def _read_items(
    spec: TaskSpec, rows: Sequence[Row], companions: Companions, where: Any
) -> tuple[tuple[Problem, ...], str, Counter[str]]:
    """Problems by the definition's reader, their content's fingerprint, and how many rows have which coverage.

    The fingerprint covers what is asked and the tests that were really loaded (``gold`` names them by their contents).
    """
    read_row = reader(spec.reader)
    problems: list[Problem] = []
    contents: list[tuple[str, str]] = []
    coverage: Counter[str] = Counter()
    ids: Counter[str] = Counter()
    for index, row in enumerate(rows):
        item = _item(spec, read_row, row, companions, f"{where}, row {index + 1}")
        if item.coverage:
            coverage[item.coverage] += 1
        if item.tests is None and not item.answer:
            continue
        ids[item.id] += 1
        if item.repeated and ids[item.id] > 1:
            item = dataclasses.replace(item, id=f"{item.id}/{ids[item.id]}")
        problem = _from_item(spec, item, len(problems), f"{where}, row {index + 1}")
        problems.append(problem)
        shown = (f"{name} {text}" for name, text in sorted(item.shown.items()))
        contents.append(("\n".join([item.question, *shown]), problem.gold))
    return tuple(problems), content_fingerprint(contents), coverage


def _item(spec: TaskSpec, read_row: Reader, row: Row, companions: Companions, where: str) -> ReadProblem:
    matching = {
        row_source.name: companion
        for row_source in spec.companions
        if (companion := companions.get(row_source.name, {}).get(_key(row_source, row)))
    }
    try:
        return read_row(row, matching)
    except CipoError as error:
        raise type(error)(f"{spec.name}: {where}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise UsageError(
            f"{spec.name}: {where} has another form than {spec.reader} reads "
            f"({type(error).__name__}: {error}): it is damaged, or another data set"
        ) from error


def _from_item(spec: TaskSpec, item: ReadProblem, index: int, where: str) -> Problem:
    gold = testsets.store(item.tests) if isinstance(item.tests, TestSet) else item.tests or item.answer
    if isinstance(item.tests, str) and not testsets.exists(gold):
        raise MissingError(f"{spec.name}: {where}: its tests are no longer in the cache: {fetch_hint(spec)}")
    groups = [group.name for group in item.tests.groups] if isinstance(item.tests, TestSet) else []
    parts = {"parts": groups} if len(groups) > 1 else {}
    problem = Problem(
        task=spec.name,
        id=item.id,
        index=index,
        question=item.question,
        prompt="",
        gold=gold,
        options={**spec.options, **parts, **item.options},
        metadata={**item.shown, **item.metadata},
        attempt=item.attempt,
        attempt_right=item.attempt_right,
    )
    return with_prompts(spec, problem, where)
