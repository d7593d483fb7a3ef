"""Tasks with their problems: where the rows of a task are, how they get here, and ``load_problems``.

A task is one lm-evaluation-harness YAML (``definitions``); its rows come from the first place that has them
(``sources``) and become problems (``problems``), whose prompts are what lm-eval would show (``documents``).

Left out on purpose: choices, filters. A task that needs them is an lm-eval task only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from cipo_eval.data import sources
from cipo_eval.data.definitions import (
    BOXED,
    GROUPS,
    PREFIX,
    Columns,
    Preset,
    RowSource,
    TaskSpec,
    expanded,
    fetch_command,
    fetch_hint,
    load_spec,
    select,
    task_dir,
    task_names,
)
from cipo_eval.data.documents import as_document, from_document
from cipo_eval.data.problems import (
    ProblemSet,
    TaskPlaces,
    build,
    check_count,
    content_fingerprint,
    prepared,
    read,
)
from cipo_eval.data.sources import Row
from cipo_eval.errors import MissingError, require
from cipo_eval.verifiers.code import testsets

__all__ = [
    "BOXED",
    "GROUPS",
    "PREFIX",
    "Columns",
    "Preset",
    "ProblemSet",
    "RowSource",
    "TaskPlaces",
    "TaskSpec",
    "as_document",
    "build",
    "content_fingerprint",
    "expanded",
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


def load_problems(
    name: str | Path, *, data_dir: str | Path | None = None, offline: bool | None = None
) -> ProblemSet:
    """A task with its items from the first places that have them (see ``data``); pulls what is missing when it may.

    ``offline`` None: as ``HF_HUB_OFFLINE`` says. Raises ``MissingError`` where no place has what the task requires,
    ``UsageError`` for a damaged file or a wrong number of items.
    """
    spec = load_spec(name)
    places, notes = _places(spec, data_dir), {}
    for row_source in spec.row_sources if not sources.is_offline(offline) else ():
        if row_source.name not in places:
            try:
                if place := _pull(spec, row_source, force=False):
                    places[row_source.name] = place
            except MissingError as error:
                if row_source.required:
                    raise
                notes[row_source.name] = str(error)
    located = _found(spec, places, notes)
    if located is None:
        raise _not_here(spec)
    return read(spec, located)


def look(spec: TaskSpec, data_dir: str | Path | None = None) -> str:
    """Where ``load_problems`` will take a task's rows from; nothing is read or fetched. Raises ``MissingError`` where
    they are not on this machine and may not, or cannot, be fetched."""
    if located := find(spec, data_dir):
        return str(located.place.origin.get("path") or located.place.path)
    if sources.is_offline() or fetch_command(spec) is None:
        raise _not_here(spec)
    require("data", f"fetching the items of {spec.name} from the hub")
    return "to be fetched from the hub"


def _not_here(spec: TaskSpec) -> MissingError:
    return MissingError(
        f"the items of {spec.name} are not here: {fetch_hint(spec)}, or point --data-dir or "
        "CIPO_EVAL_DATA at a local mirror (docs/data.md)"
    )


def find(spec: TaskSpec, data_dir: str | Path | None = None) -> TaskPlaces | None:
    """The places on this machine that hold a task's rows; None where something that it requires is not here."""
    return _found(spec, _places(spec, data_dir), {})


def _places(spec: TaskSpec, data_dir: str | Path | None) -> dict[str, sources.Place]:
    """The place of each row source that is here, by its name."""
    located = {
        row_source.name: sources.locate(
            _folder(spec, row_source), row_source.sources, spec.path.parent, data_dir
        )
        for row_source in spec.row_sources
    }
    return {name: place for name, place in located.items() if place}


def _found(
    spec: TaskSpec, places: Mapping[str, sources.Place], notes: Mapping[str, str]
) -> TaskPlaces | None:
    if any(row_source.required and row_source.name not in places for row_source in spec.row_sources):
        return None
    companions = {
        row_source.name: places[row_source.name]
        for row_source in spec.companions
        if row_source.name in places
    }
    return TaskPlaces(place=places[spec.own.name], companions=companions, notes=notes)


def _folder(spec: TaskSpec, row_source: RowSource) -> str:
    """Where below the cache's folder the rows of a source are kept."""
    return f"{spec.name}/{row_source.name}" if row_source.name else spec.name


def pull(
    spec: TaskSpec, *, force: bool = False, watch: Callable[[int], None] = lambda _: None
) -> TaskPlaces | None:
    """Fetches a task's rows, and those of its companions, from the hub into the cache.

    None where the hub has nothing of the task. ``watch`` hears how many rows of a file are done.
    """
    pulled = {
        row_source.name: _pull(spec, row_source, force=force, watch=watch) for row_source in spec.row_sources
    }
    if not any(pulled.values()):
        return None
    here = _places(spec, None)
    return _found(spec, {**here, **{name: place for name, place in pulled.items() if place}}, {})


def _pull(
    spec: TaskSpec, row_source: RowSource, *, force: bool, watch: Callable[[int], None] = lambda _: None
) -> sources.Place | None:
    """Fetches the rows of one source; None where the hub does not have it."""
    source = next((source for source in row_source.sources if source.kind == "hub"), None)
    if source is None:
        return None

    def check(rows: list[Row]) -> None:
        origin = {"kind": "hub", "repo": source.repo}
        if row_source is spec.own:
            build(spec, rows, source, origin)
        else:
            check_count(spec, row_source, rows, source, origin)

    folder = _folder(spec, row_source)
    if not force and row_source.prepare and (place := sources.locate(folder, [source], spec.path.parent)):
        force = not _has_tests(sources.read_rows(place.path))
    return sources.pull(folder, source, transform=prepared(row_source), check=check, force=force, watch=watch)


def _has_tests(rows: Iterable[Row]) -> bool:
    """Whether the cache still has the test sets that prepared rows refer to (in their column ``tests``)."""
    return all(testsets.exists(name) for row in rows if isinstance(name := row.get("tests"), str))
