"""Tasks with their items: from the rows of a task's places to problems.

A task is one lm-evaluation-harness YAML (``definitions``). The prompt is lm-eval's own ``doc_to_text`` template,
rendered here with the same engine from the document that the task's ``load`` function hands to lm-eval: both harnesses
show a model the same text by construction.

Left out on purpose: few-shot examples, choices, filters. A task that needs them is an lm-eval task only.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipo_eval.data import sources as data
from cipo_eval.data.definitions import (
    BOXED,
    PREFIX,
    Columns,
    Feed,
    Preset,
    TaskSpec,
    load_spec,
    select,
    task_dir,
    task_names,
)
from cipo_eval.data.readers import Item, Reader, reader, transform
from cipo_eval.data.sources import Row, Source, Transform
from cipo_eval.errors import CipoError, MissingError, UsageError
from cipo_eval.records import Problem, fingerprint
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import TestSet

__all__ = [
    "BOXED",
    "PREFIX",
    "Columns",
    "Feed",
    "Found",
    "Preset",
    "ProblemSet",
    "TaskSpec",
    "as_document",
    "build",
    "content_fingerprint",
    "fetch_command",
    "fetch_hint",
    "find",
    "from_document",
    "load_problems",
    "load_spec",
    "look",
    "pull",
    "read",
    "select",
    "task_dir",
    "task_names",
]

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
class Found:
    """Where on this machine the rows of a task are."""

    place: data.Place
    """Of its own rows."""
    companions: Mapping[str, data.Place] = field(default_factory=dict)
    """Of those companions that are here."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """Why an optional companion could not be fetched."""


# --- places ----------------------------------------------------------------------------------------------


def load_problems(
    name: str | Path, *, data_dir: str | Path | None = None, offline: bool | None = None
) -> ProblemSet:
    """A task with its items from the first places that have them (see ``data``); pulls what is missing when it may.

    ``offline`` None: as ``HF_HUB_OFFLINE`` says. Raises ``MissingError`` where no place has what the task requires,
    ``UsageError`` for a damaged file or a wrong number of items.
    """
    spec = load_spec(name)
    places, notes = _places(spec, data_dir), {}
    for feed in spec.feeds if not data.is_offline(offline) else ():
        if feed.name not in places:
            try:
                if place := _pull(spec, feed, force=False):
                    places[feed.name] = place
            except MissingError as error:
                if feed.required:
                    raise
                notes[feed.name] = str(error)
    found = _found(spec, places, notes)
    if found is None:
        raise _not_here(spec)
    return read(spec, found)


def look(spec: TaskSpec, data_dir: str | Path | None = None) -> str:
    """Where ``load_problems`` will take a task's rows from; nothing is read or fetched. Raises ``MissingError`` where
    they are not on this machine and may not, or cannot, be fetched."""
    if found := find(spec, data_dir):
        return str(found.place.origin.get("path") or found.place.path)
    if data.is_offline() or fetch_command(spec) is None:
        raise _not_here(spec)
    return "to be fetched from the hub"


def _not_here(spec: TaskSpec) -> MissingError:
    return MissingError(
        f"the items of {spec.name} are not here: {fetch_hint(spec)}, or point --data-dir or "
        "CIPO_EVAL_DATA at a local mirror (docs/data.md)"
    )


def find(spec: TaskSpec, data_dir: str | Path | None = None) -> Found | None:
    """Where on this machine the items of a task are; None where something that it requires is not."""
    return _found(spec, _places(spec, data_dir), {})


def _places(spec: TaskSpec, data_dir: str | Path | None) -> dict[str, data.Place]:
    """By feed, where it is here."""
    located = {
        feed.name: data.locate(_folder(spec, feed), feed.sources, spec.path.parent, data_dir)
        for feed in spec.feeds
    }
    return {name: place for name, place in located.items() if place}


def _found(spec: TaskSpec, places: Mapping[str, data.Place], notes: Mapping[str, str]) -> Found | None:
    if any(feed.required and feed.name not in places for feed in spec.feeds):
        return None
    companions = {feed.name: places[feed.name] for feed in spec.companions if feed.name in places}
    return Found(place=places[spec.own.name], companions=companions, notes=notes)


def _folder(spec: TaskSpec, feed: Feed) -> str:
    """Where below the cache's folder a feed is kept."""
    return f"{spec.name}/{feed.name}" if feed.name else spec.name


def fetch_command(spec: TaskSpec) -> str | None:
    """The command that gets the items of a task; None where the hub does not have them."""
    if not any(source.kind == "hub" for feed in spec.feeds for source in feed.sources):
        return None
    return f"cipo-eval data pull {spec.name if spec.path.parent == task_dir() else spec.path}"


def fetch_hint(spec: TaskSpec) -> str:
    """What a user does to get the items of a task."""
    if command := fetch_command(spec):
        return f"run `{command}`"
    paths = [source.path for source in spec.sources]
    return f"put its file in place ({' or '.join(paths) or 'its definition names none'})"


def pull(
    spec: TaskSpec, *, force: bool = False, watch: Callable[[int], None] = lambda _: None
) -> Found | None:
    """Fetches a task's rows, and those of its companions, from the hub into the cache.

    None where the hub has nothing of the task. ``watch`` hears how many rows of a file are done.
    """
    pulled = {feed.name: _pull(spec, feed, force=force, watch=watch) for feed in spec.feeds}
    if not any(pulled.values()):
        return None
    here = _places(spec, None)
    return _found(spec, {**here, **{name: place for name, place in pulled.items() if place}}, {})


def _pull(
    spec: TaskSpec, feed: Feed, *, force: bool, watch: Callable[[int], None] = lambda _: None
) -> data.Place | None:
    """Fetches one feed; None where the hub does not have it."""
    source = next((source for source in feed.sources if source.kind == "hub"), None)
    if source is None:
        return None

    def check(rows: list[Row]) -> None:
        origin = {"kind": "hub", "repo": source.repo}
        if feed is spec.own:
            build(spec, rows, source, origin)
        else:
            _check_count(spec, feed, rows, source, origin)

    folder = _folder(spec, feed)
    if not force and feed.prepare and (place := data.locate(folder, [source], spec.path.parent)):
        force = not _has_tests(data.read_rows(place.path))
    return data.pull(folder, source, transform=_transform(feed), check=check, force=force, watch=watch)


def _transform(feed: Feed) -> Transform:
    if feed.prepare:
        return transform(feed.prepare)
    if not feed.keep:
        return lambda row: row
    return lambda row: {name: row[name] for name in feed.keep if name in row}


def _has_tests(rows: Iterable[Row]) -> bool:
    """Whether the cache still has the test sets that prepared rows refer to (in their column ``tests``)."""
    return all(testsets.exists(name) for row in rows if isinstance(name := row.get("tests"), str))


# --- items -----------------------------------------------------------------------------------------------


def read(spec: TaskSpec, found: Found) -> ProblemSet:
    """The problems in places that ``find`` or ``pull`` gave. Raises ``UsageError`` for wrong or damaged rows."""
    command = fetch_command(spec)
    companions: dict[str, Mapping[str, Row]] = {}
    facts: dict[str, Any] = {}
    warnings: list[str] = []
    for feed in spec.companions:
        if place := found.companions.get(feed.name):
            rows = data.read(place, command, _transform(feed))
            _check_count(spec, feed, rows, place.source, place.origin)
            companions[feed.name] = {key: row for row in rows if (key := _key(feed, row))}
            facts[feed.name] = {**place.origin, "rows": len(rows)}
        else:
            facts[feed.name] = None
            reason = found.notes.get(feed.name) or f"{fetch_hint(spec)} to get it"
            warnings.append(f"{spec.name}: without its data `{feed.name}`, {feed.without} ({reason})")
    rows = data.read(found.place, command, _transform(spec.own))
    origin = {**found.place.origin, "companions": facts} if facts else found.place.origin
    problems = build(spec, rows, found.place.source, origin, companions)
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
    _check_count(spec, spec.own, rows, source, origin)
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


def _check_count(
    spec: TaskSpec, feed: Feed, rows: Sequence[Row], source: Source, origin: Mapping[str, Any]
) -> None:
    expected = source.rows or feed.rows
    if expected is not None and len(rows) != expected:
        raise UsageError(
            f"{spec.name}: {_where(origin)} has {len(rows)} rows instead of {expected}: it is cut off or "
            f"another data set; {fetch_hint(spec)}"
        )


def _key(feed: Feed, row: Row) -> str:
    """What joins a row with a companion's."""
    return _text(_first(row, feed.key))


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
            options[option] = value if isinstance(value, bool) else _text(value)
    metadata = {name: value for name in spec.breakdown if (value := _present(row.get(name))) is not None}
    found = _first(row, columns.id)
    problem = Problem(
        task=spec.name,
        id=str(index) if found is None else _text(found),
        index=index,
        question=question,
        prompt="",
        gold=gold,
        options=options,
        metadata=metadata,
        attempt=_text(_first(row, columns.attempt)) or None,
        attempt_right=_truth(_first(row, columns.attempt_right)),
    )
    return _prompted(spec, problem, where)


def _truth(value: Any) -> bool | None:
    """A truth value, or the first of a list of them."""
    found = value[0] if isinstance(value, list | tuple) and value else value
    return found if isinstance(found, bool) else None


def _prompted(spec: TaskSpec, problem: Problem, where: str) -> Problem:
    """With its prompts."""
    document = as_document(problem)
    given = _render(spec, spec.given_template, document, where) if spec.given_template else ""
    return dataclasses.replace(
        problem, prompt=_render(spec, spec.template, document, where), given_prompt=given
    )


def _gold(row: Row, columns: Sequence[str]) -> str:
    for name in columns:
        value = _text(_present(row.get(name.removeprefix(BOXED))))
        if value and name.startswith(BOXED):
            from cipo_eval.texts import last_boxed

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


def _item(spec: TaskSpec, read_row: Reader, row: Row, companions: Companions, where: str) -> Item:
    matching = {
        feed.name: found
        for feed in spec.companions
        if (found := companions.get(feed.name, {}).get(_key(feed, row)))
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


def _from_item(spec: TaskSpec, item: Item, index: int, where: str) -> Problem:
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
    return _prompted(spec, problem, where)


# --- lm-eval ---------------------------------------------------------------------------------------------


def as_document(problem: Problem) -> dict[str, Any]:
    """The problem as lm-eval's document, over whose fields prompt templates are written."""
    return {
        **problem.metadata,
        "task": problem.task,
        "id": problem.id,
        "index": problem.index,
        "question": problem.question,
        "gold": problem.gold,
        "options": json.dumps(dict(problem.options), sort_keys=True),
    }


def from_document(document: Mapping[str, Any]) -> Problem:
    """The problem that ``as_document`` was given, without prompt and metadata: what a verifier needs."""
    return Problem(
        task=document["task"],
        id=document["id"],
        index=document["index"],
        question=document["question"],
        prompt="",
        gold=document["gold"],
        options=json.loads(document["options"]),
    )


@functools.cache
def _template(text: str) -> Any:
    """lm-eval's template engine and settings, in the variant that gives a template no access to Python."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return environment.from_string(text)


def _render(spec: TaskSpec, template: str, document: Mapping[str, Any], where: str) -> str:
    from jinja2 import TemplateError

    try:
        return str(_template(template).render(**document))
    except TemplateError as error:
        name = "doc_to_text" if template == spec.template else "`given`"
        raise UsageError(f"{spec.path}: {name} fails for {where}: {error}") from error
