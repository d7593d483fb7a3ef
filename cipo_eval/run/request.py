"""What a run is asked for: one model, of which ``run``, ``score``, ``rescore`` and evaluation in a training are made.

A field is declared once, here: the commands' options are generated from it, configuration files and ``key=value`` set
it, and Python code gives it by name. Every field may be named by its section (``decoding.samples``) or by its flag
alone (``samples``).
"""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

from cipo_eval.data.dates import span
from cipo_eval.errors import UsageError, nearest
from cipo_eval.run.decoding import Decoding
from cipo_eval.run.modes import ModeChoice
from cipo_eval.run.shards import Shard
from cipo_eval.settings import Flag, Section, flag_of, merged, overridden, read_yaml, refused
from cipo_eval.texts import STRIP, think_tags
from cipo_eval.turns.revising import TurnFormat
from cipo_eval.verifiers.critique import Form

if TYPE_CHECKING:
    from cipo_eval.engines.registry import EngineChoice

DATES = ("start", "end")
"""Keys of a scope that are days; every other one is a column of the problems' metadata."""


class Harness(StrEnum):
    """Versions of the reference grader; they differ in a few rules (docs/math-verifier.md)."""

    QWEN = "qwen"
    SKYTHOUGHT = "skythought"


def _names(value: Any) -> Any:
    """The parts of a text with commas, or the items of a list, without repeats."""
    if value is None:
        return None
    parts: list[str] = []
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, Mapping | list | tuple | set | bytes):
            raise ValueError("a word, a number or a list of them")
        parts += [part.strip() for part in str(item).split(",") if part.strip()]
    return tuple(dict.fromkeys(parts))


def _tasks(names: tuple[str, ...]) -> tuple[str, ...]:
    """Names of tasks in place of groups and patterns. Raises ``UsageError``."""
    if not names:
        return names
    from cipo_eval.data.definitions import expanded  # the help of a command does without

    return expanded(names)


def _whole_numbers(value: Any) -> Any:
    if value is None:
        return None
    try:
        return tuple(sorted({int(part) for part in _names(value)}))
    except ValueError:
        raise ValueError("whole numbers separated by commas") from None


def _number_or_share(value: float | None) -> float | None:
    if value is None or value < 1:
        return value
    if value != int(value):
        raise ValueError("a whole number from 1, or a share between 0 and 1")
    return int(value)


def _scope(value: Any) -> Any:
    """A scope as a mapping of texts: of ``start=…,platform=a,b``, or of a mapping in a configuration."""
    if not isinstance(value, str):
        if not isinstance(value, Mapping):
            return value
        only = value.get("only")
        flat = {**value, **only} if isinstance(only, Mapping) else dict(value)
        return {key: _scope_value(item) for key, item in flat.items() if key != "only" and item is not None}
    values: dict[str, str] = {}
    key = ""
    for part in value.split(","):
        name, equals, text = part.partition("=")
        if equals:
            key = name.strip()
            values[key] = text.strip()
        elif key and part.strip():  # a further value of the same key
            values[key] += f",{part.strip()}"
    if not values:
        raise ValueError("start=DAY,end=DAY,COLUMN=VALUE,VALUE,…")
    return values


def _scope_value(value: Any) -> str:
    if isinstance(value, datetime.date):
        return value.isoformat()
    return ",".join(_names(value))


def _known_tags(value: str) -> str:
    think_tags(value)  # raises ValueError
    return value


def _cutoff(value: Any) -> str | None:
    """A date as text, also where YAML takes it for a day or a number."""
    text = None if value is None else str(value)
    if text:
        span(text)  # raises ValueError
    return text


def _shard(value: str) -> str:
    return str(Shard.of(value))  # raises ValueError


def _text_of_path(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Task(Section):
    """Which problems are asked, and which of them count."""

    tasks: Annotated[
        Names, AfterValidator(_tasks), Flag(names=("--tasks", "-t"), panel="", required=True)
    ] = ()
    """Task names, groups (math, code, correction) or patterns (aime*), comma-separated (`cipo-eval tasks` lists them),
    or `.yaml` files."""
    data_dir: Annotated[Path | None, Flag(variable="CIPO_EVAL_DATA")] = None
    """Local mirror of the data sets."""
    limit: Annotated[
        float | None,
        AfterValidator(_number_or_share),
        Flag(range="a whole number from 1, or a share between 0 and 1"),
    ] = Field(default=None, gt=0, allow_inf_nan=False)
    """Only the first N problems of each task; below 1: that share of them (0.1: a tenth, rounded up)."""
    scope: Annotated[dict[str, str] | None, BeforeValidator(_scope)] = None
    """Problems that count of tasks with a scope (livecodebench): start=DAY,end=DAY (the first that no longer counts),
    platform=leetcode,difficulty=easy,hard (columns of its data). Default: the task's."""
    shard: Annotated[str | None, AfterValidator(_shard)] = None
    """i/N: only part i of N, from 1/N to N/N, in a run directory of its own; `cipo-eval merge` makes one run of all
    parts (docs/slurm.md)."""
    allow_unmatched: bool = False
    """Leave out rows that match no problem."""
    id_map: Path | None = None
    """What the file's ids mean: JSON, JSON Lines or CSV of file id and problem id (docs/replay.md)."""


class Turns(Section):
    """What follows the first attempts."""

    protocol: Annotated[tuple[str, ...] | None, BeforeValidator(_names)] = None
    """direct, self, oracle, feedback, given, prefill, critique: comma-separated; they share their first turn
    (docs/protocols.md). Default: the task's, mostly direct."""
    turns: int = Field(default=2, ge=2, le=100)
    """Attempts of a chain, the first included."""
    turn_format: TurnFormat = TurnFormat.CHAT
    """chat: attempts as the assistant's messages; inline: one prompt with the problem and the last attempt."""
    prompt_dir: Path | None = None
    """Folder of templates in place of ours."""
    carry_think: bool = False
    """Later turns see the thoughts of earlier attempts."""
    attempts_from: Path | None = None
    """For given and critique: a pool, a run, or a file of attempts (docs/pools.md). Default: those that come with the
    task's data."""
    critique_form: Form = Form.ANALYSIS
    """How --protocol critique asks: analysis, then [[correct]] or [[wrong]]; json; verdict alone."""


class EngineSection(Section):
    """Where attempts come from."""

    model: Annotated[
        str, BeforeValidator(_text_of_path), Flag(names=("--model", "-m"), panel="", required=True)
    ] = ""
    """Checkpoint or LoRA adapter, folder or hub id; openai: the server's name; replay: a file or run."""
    engine: str = "hf"
    """Where completions come from: hf, vllm, openai, lm-eval:NAME, ray, replay, or your own package.module:Class."""
    model_cutoff: Annotated[str | None, BeforeValidator(_cutoff)] = None
    """When the model's training data ends (2025-02-15, 2025-02 or 2025): results and reports say of each task whether
    its answers were public by then."""
    options: Annotated[dict[str, Any], Flag(names=("--engine-option",), repeatable=True)] = Field(
        default_factory=dict
    )
    """An option of the engine, also of your own one: key=value; may be repeated."""

    def choice(self, think: str = STRIP) -> EngineChoice:
        """The engine, not yet made; ``think``: between which tags thoughts stand. Raises ``UsageError``."""
        from cipo_eval.engines import registry  # score and rescore do without

        model = registry.options_model(self.engine)
        owners = registry.flags()
        values = {  # a flag at its default is not refused by an engine that does not have it
            name: value
            for name, value in self.options.items()
            if name in model.model_fields
            or name not in owners
            or value != registry.field(owners[name][0], name).get_default()
        }
        options = registry.options(self.engine, values)
        return registry.EngineChoice(engine=self.engine, model=self.model, options=options, think=think)


class Scoring(Section):
    """How attempts are judged and figures are made."""

    mode: ModeChoice = ModeChoice.fixed
    """fixed: right; paper: as the reference grader; both: with a list of disagreements."""
    think: Annotated[str, AfterValidator(_known_tags)] = STRIP
    """strip: answers inside thoughts do not count, in any of the known tags; keep: they do; '<plan> </plan>': strip,
    with these two tags in place of the known ones."""
    harness: Harness | None = None
    """Fork of the Qwen2.5-Math harness that paper mode follows (default: by task)."""
    k: Annotated[tuple[int, ...] | None, BeforeValidator(_whole_numbers)] = None
    """The k of pass@k, comma-separated (default: 1,2,4,…,n)."""
    bootstrap: int = Field(default=2000, ge=100)
    """Resamples of problems for intervals (tests draw 9,999, or these if more)."""
    figures: Names = ()
    """Figures of your own too: module:object, comma-separated (docs/add-a-figure.md)."""
    allow_unsafe_code: bool = False
    """Run models' programs even where they cannot be confined (`cipo-eval doctor`). Stamped on the results."""
    verifier_workers: int | None = Field(default=None, ge=1)
    """Verifier processes (default: cores)."""
    verifier_timeout: float = Field(default=10.0, ge=0.1)
    """Processor seconds that one answer may take."""


class Output(Section):
    """Where results go; what is shown of them is for commands, functions return them."""

    output: Annotated[Path | None, Flag(names=("--output", "-o"))] = None
    """Run directory."""
    resume: bool = True
    """Go on in an existing run directory, or refuse it."""
    dry_run: bool = False
    """Look at model, data and folder, print what would run, and stop."""
    json_: Annotated[bool, Flag(names=("--json",))] = False
    """Results as JSON on standard output, nothing else."""
    quiet: Annotated[bool, Flag(names=("--quiet", "-q"))] = False
    """No progress, no table."""
    breakdown: bool = False
    """Also tables by subject, level, …"""
    track: Names = ()
    """Log the figures with wandb, trackio, tensorboard or mlflow (NAME:PROJECT too); comma-separated."""


class RunRequest(Section):
    """What is asked for, by section; a section that is not given has its defaults."""

    task: Task = Field(default_factory=Task)
    """Which problems are asked, and which of them count."""
    decoding: Decoding = Field(default_factory=Decoding)
    """How attempts are sampled."""
    turns: Turns = Field(default_factory=Turns)
    """What follows the first attempts."""
    engine: EngineSection = Field(default_factory=EngineSection)
    """Where attempts come from."""
    scoring: Scoring = Field(default_factory=Scoring)
    """How attempts are judged and figures are made."""
    output: Output = Field(default_factory=Output)
    """Where results go."""

    @classmethod
    def of(cls, **values: Any) -> RunRequest:
        """A request of values by section or by flag: ``of(model="CKPT", tasks="math500", samples=8)``.
        Raises ``UsageError``."""
        return validated(sectioned(values))


_SCORING = (
    "scoring.mode",
    "scoring.think",
    "scoring.harness",
    "scoring.k",
    "scoring.bootstrap",
    "scoring.figures",
    "scoring.allow_unsafe_code",
    "scoring.verifier_workers",
    "scoring.verifier_timeout",
)
_SHOWN = ("output.json_", "output.quiet", "output.breakdown")
RUN = (
    "engine.model",
    "task.tasks",
    "task.data_dir",
    "task.limit",
    "task.scope",
    "task.shard",
    *(f"decoding.{name}" for name in Decoding.model_fields),
    *(f"turns.{name}" for name in Turns.model_fields),
    "engine.engine",
    "engine.model_cutoff",
    "engine.options",
    *_SCORING,
    *(f"output.{name}" for name in Output.model_fields),
)
"""The fields that ``run`` takes, in the order of its help."""
SCORE = (
    "task.tasks",
    "task.data_dir",
    "task.limit",
    "task.scope",
    "decoding.samples",
    "task.allow_unmatched",
    "turns.protocol",
    "task.id_map",
    "turns.attempts_from",
    "engine.model_cutoff",
    *_SCORING[:6],
    "decoding.seed",
    *_SCORING[6:],
    "output.output",
    *_SHOWN,
)
"""The fields that ``score`` takes, in the order of its help."""
RESCORE = ("task.data_dir", *_SCORING, *_SHOWN)
"""The fields that ``rescore`` takes, in the order of its help."""
MERGE = ("task.data_dir", "scoring.k", "scoring.bootstrap", "scoring.figures", "output.output", *_SHOWN)
"""The fields that ``merge`` takes, in the order of its help."""
ALIASES = {f"lcb_{key}": key for key in (*DATES, "platform", "difficulty")}
"""Names of 0.1 for keys of ``task.scope``; they are read for one version more."""


def validated(values: Mapping[str, Any]) -> RunRequest:
    """The request of values by section. Raises ``UsageError``."""
    try:
        return RunRequest.model_validate(values)
    except ValidationError as error:
        raise UsageError(refused(error, RunRequest)) from error


def requested(
    file: Path | None = None,
    overrides: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    fields: Collection[str] = RUN,
    environment: Mapping[str, Any] | None = None,
) -> RunRequest:
    """The request of a configuration file, the environment, ``key=value`` and flags by name, each over those before.

    ``fields``: those that the command takes. Raises ``UsageError``.
    """
    values = merged(configured(file, (), fields), sectioned(environment or {}, fields))
    values = merged(values, configured(None, overrides, fields))
    return validated(merged(values, sectioned(flags or {}, fields)))


def configured(file: Path | None, overrides: Sequence[str], fields: Collection[str]) -> dict[str, Any]:
    """The values by section of a configuration file and of ``key=value`` over it. Raises ``UsageError``."""
    values = sectioned(read_yaml(file), fields, where=f"--config {file}: ") if file is not None else {}
    for override in overrides:
        values = merged(values, sectioned(overridden({}, [override]), fields))
    return values


def sectioned(
    values: Mapping[Any, Any], fields: Collection[str] = RUN + SCORE, *, where: str = ""
) -> dict[str, Any]:
    """Values whose keys are flags or sections, by section and field; None stands for a value that is not given.

    ``where``: what error messages begin with. Raises ``UsageError`` for a key that ``fields`` do not have.
    """
    names = _fields_by_name(tuple(dict.fromkeys(fields)))
    tree: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name in RunRequest.model_fields and value is None:
            continue  # a section whose keys are all commented out
        if name in RunRequest.model_fields and isinstance(value, Mapping | BaseModel):
            below = value.model_dump(exclude_unset=True) if isinstance(value, BaseModel) else value
            entries = {f"{name}.{str(field).replace('-', '_')}": item for field, item in below.items()}
        else:
            entries = {name: value}
        for entry, item in entries.items():
            place = names.get(entry)
            if place is None and entry.startswith("engine.") and "engine.options" in fields:
                place = ("engine", "options", entry.removeprefix("engine."))  # of an engine of the user's own
            if place is None:
                raise UsageError(f"{where}unknown key {entry}: {nearest(entry, names)}")
            if item is not None:
                _put(tree, place, item)
    return tree


def _put(tree: dict[str, Any], place: Sequence[str], value: Any) -> None:
    """One value at its place; a scope that is text is read first, so that single keys of it can be put over it."""
    if place == ("task", "scope"):
        try:
            value = _scope(value)
        except ValueError as error:
            raise UsageError(f"--scope {value}: {error}") from None
        if isinstance(value, Mapping):
            value = {**tree.get("task", {}).get("scope", {}), **value}
    elif place[:2] == ("task", "scope"):
        value = _scope_value(value)
    elif place == ("engine", "options"):
        pairs = [value] if isinstance(value, str) else value
        value = overridden({}, pairs) if isinstance(pairs, list | tuple) else value
        if isinstance(value, Mapping):
            value = {**tree.get("engine", {}).get("options", {}), **value}
    elif isinstance(value, set | bytes):
        raise UsageError(f"{place[-1]} takes a word, a number or a list of them")
    for part in place[:-1]:
        tree = tree.setdefault(part, {})
    tree[place[-1]] = value


@cache
def _fields_by_name(fields: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Where a value goes, by each name that it may have: the flag's or the field's, alone or behind its section."""
    places: dict[str, tuple[str, ...]] = {}
    for path in fields:
        section, _, name = path.partition(".")
        field = RunRequest.model_fields[section].annotation.model_fields[name]  # type: ignore[union-attr]
        for key in {name, *(flag_name(flag) for flag in flag_of(field).names if flag.startswith("--"))}:
            places[key] = places[f"{section}.{key}"] = (section, name)
    if "task.tasks" in fields:
        places["task"] = places["task.task"] = ("task", "tasks")
    if "task.scope" in fields:
        places |= {alias: ("task", "scope", key) for alias, key in ALIASES.items()}
    if "engine.options" in fields:
        from cipo_eval.engines import registry

        for option in registry.flags():
            places[option] = places[f"engine.{option}"] = ("engine", "options", option)
    return places


def flag_name(flag: str) -> str:
    """The name of a flag as a key: ``--top-p`` is ``top_p``."""
    return flag.partition("/")[0].removeprefix("--").replace("-", "_")
