"""A study as it is written, families × seeds × arms in one YAML file, and the jobs that it consists of.

Each family and seed has a warm start of its own; every arm of that seed begins with its weights. A job is a command of
``cipo-eval`` with a folder of its own, so it goes on by itself where it was broken off, and may run anywhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from cipo_eval.errors import UsageError, nearest
from cipo_eval.records import fingerprint
from cipo_eval.settings import explained, merged, overridden, read_yaml
from cipo_eval.turns.protocols import known
from cipo_trainer.config import Config, Shape
from cipo_trainer.presets import build
from cipo_trainer.sections import Section, config_dir
from cipo_trainer.worlds.registry import family

WARM = "warm"
"""Folder of the warm starts."""
STUDY = "{study}"
CONFIGS = "{configs}"
NEWEST = "{newest}"
"""In a job's command: the study's folder, that of the presets, and, before the folder of a training, its last
checkpoint. What is asked is the same on every machine."""
Tree = dict[str, Any]
Name = Annotated[str, Field(min_length=1, max_length=60)]


class FamilyUse(Section):
    """A family of synthetic problems with its dial."""

    family: str | None = None
    """Its name; by default the key under which it stands."""
    dial: dict[str, int | float | str] = Field(default_factory=dict)
    """As ``data.dial`` of `cipo-eval train`."""
    worlds: Literal["one", "seed"] = "one"
    """seed: each seed has entries of its own (``dial.world``); the held-out problems are the same, and there is no
    breakdown by hard entries."""
    items: int | None = Field(default=None, ge=1)
    """Held-out problems; by default the family's."""
    protocols: list[str] | None = None
    """In place of those of ``evaluate``."""
    warm: Tree = Field(default_factory=dict)
    """Over ``warm``; stages go over it."""
    train: Tree = Field(default_factory=dict)
    """Over ``train``; arms go over it: one that has half of the problems has half of the family's."""


class Scoring(Section):
    """How checkpoints are scored, as by `cipo-eval run`."""

    samples: int = Field(default=8, ge=1)
    limit: int | None = Field(default=None, ge=1)
    temperatures: list[float] = Field(default=[1.0])
    """The first is the one that the report is about."""
    others: int | None = Field(default=None, ge=1)
    """Problems at the other temperatures; by default ``limit``."""
    along: list[Annotated[int, Field(ge=1)]] = Field(default_factory=list)
    """Steps of the arms' trainings whose evaluation on the way (``train.eval``) has a report of its own too, of those
    arms that were evaluated then."""
    protocols: list[str] = Field(default=["direct", "self", "oracle"])
    max_tokens: int = Field(default=32, ge=1)
    prompt_dir: Path | None = Path("prompts")
    """Folder of templates; also one beside the presets."""
    turn_format: str = "inline"


class Expected(Section):
    """Seconds of a job on the machine that the file was written for: shares of progress, from which remaining time is
    estimated. They limit nothing."""

    warm: float = 1.0
    train: float = 1.0
    evaluate: float = 0.5


class WorthOf(Section):
    """The arms that the worth of a correction is made of: (arm - half) / (all - half)."""

    all: str
    """The arm with all attempts on fresh problems."""
    half: str
    """The arm with half of them."""


class Sweep(Section):
    """Arms that differ in several dials, one for each combination of their positions."""

    name: Name
    """Of an arm, with the dials in braces: ``CIPO, {share}, λ {weight}``."""
    over: Tree = Field(default_factory=dict)
    """What the arms have in common, over ``train``."""
    dials: dict[str, dict[str, Tree]] = Field(min_length=1)
    """By dial, by the name of a position, what an arm at it has over ``over``."""

    def arms(self) -> Iterator[tuple[str, Tree]]:
        """Names and configurations. Raises ``ValueError`` for a name that leaves a dial out, or has an unknown one."""
        named = {field for _, field, _, _ in Formatter().parse(self.name) if field is not None}
        if named != set(self.dials):
            raise ValueError(f"sweeps: {self.name} must name its dials: {', '.join(self.dials)}")
        for positions in product(*self.dials.values()):
            tree = self.over
            for dial, position in zip(self.dials, positions, strict=True):
                tree = merged(tree, self.dials[dial][position])
            yield self.name.format_map(dict(zip(self.dials, positions, strict=True))), tree


class StudyConfig(Section):
    """The whole of a study. What stands under ``sweeps`` (``Sweep``) in its file is further arms."""

    title: str = "cipo-eval study"
    seeds: list[int] = Field(default=[0], min_length=1)
    families: dict[Name, FamilyUse] = Field(min_length=1)
    shape: Shape | None = None
    """Of the models; by default the family's."""
    warm: Tree = Field(default_factory=dict)
    """Configuration of the warm start (`cipo-eval train`)."""
    stages: list[Tree] = Field(default_factory=list)
    """Over ``warm``: trainings one after the other, each from the last one's weights; the last is the warm start. One
    with ``stop.figures`` is accepted by what it can do: where it cannot, nothing of that seed is trained on it. Figures
    are named without the task: ``self/retention``."""
    train: Tree = Field(default_factory=dict)
    """What the arms' trainings have in common."""
    arms: dict[Name, Tree | None] = Field(min_length=1)
    """Configurations of the arms by name, over ``train``; nothing: the warm start itself."""
    baseline: str | None = None
    """Arm that others are compared with; by default the first."""
    worth: WorthOf | None = None
    """The report says what corrections of the other arms are worth."""
    evaluate: Scoring = Scoring()
    expected: Expected = Expected()

    @model_validator(mode="before")
    @classmethod
    def _with_sweeps(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "sweeps" not in values:
            return values
        sweeps = [Sweep.model_validate(sweep) for sweep in values["sweeps"] or []]
        arms = {name: tree for sweep in sweeps for name, tree in sweep.arms()}
        rest = {key: value for key, value in values.items() if key != "sweeps"}
        return {**rest, "arms": {**(values.get("arms") or {}), **arms}}

    @model_validator(mode="after")
    def _fits(self) -> StudyConfig:
        for names in (self.families, self.arms):
            slugs = [slug(name) for name in names]
            if twice := next((s for s in slugs if not s or slugs.count(s) > 1), None):
                raise ValueError(f"names must differ in their letters and digits: {twice!r}")
        if WARM in {slug(name) for name, over in self.arms.items() if over is not None}:
            raise ValueError(f"no trained arm may be named {WARM}")
        if self.baseline is not None and self.baseline not in self.arms:
            raise ValueError(
                f"baseline: there is no arm {self.baseline}; {nearest(self.baseline, self.arms)}"
            )
        for arm in (self.worth.all, self.worth.half) if self.worth else ():
            if arm not in self.arms:
                raise ValueError(f"worth: there is no arm {arm}; {nearest(arm, self.arms)}")
        named = [
            *self.evaluate.protocols,
            *(n for use in self.families.values() for n in use.protocols or ()),
        ]
        if unknown := [name for name in named if known(name) is None]:
            raise ValueError(f"protocols: unknown: {', '.join(unknown)}")
        if any("figures" in (stage.get("stop") or {}) for stage in self.stages[:-1]):
            raise ValueError("stages: stop.figures are for the last one")
        if len(set(self.seeds)) != len(self.seeds) or not self.evaluate.temperatures:
            raise ValueError("seeds must differ, and there must be a temperature")
        return self


@dataclass(slots=True, kw_only=True)
class Job:
    """A command with a folder of its own."""

    name: str
    """``family/seed/arm/what``; its folder within the study."""
    kind: str
    """``warm``, ``train`` or ``evaluate``."""
    arguments: tuple[str, ...]
    """Of ``cipo-eval``; ``{study}`` stands for the study's folder."""
    needs: tuple[str, ...] = ()
    """Jobs that come before it."""
    strict: bool = False
    """Failures of it stop those that need it (a warm start that has to be accepted)."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """Of a training: what is written into its configuration file."""
    expected: float = 1.0
    """Seconds, in proportion to other jobs."""
    units: int = 1
    """Steps of a training, attempts of an evaluation (roughly: not all are asked again)."""
    work: float = 1.0
    """Sequences of a training."""

    @property
    def identity(self) -> str:
        """A fingerprint of what is asked: with another one, results are of another question."""
        return fingerprint([self.arguments, self.config])


def slug(name: str) -> str:
    """A name as a folder: ``GRPO, 2× problems`` is ``grpo-2x-problems``."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower().replace("×", "x").replace("λ", "lambda")).strip("-.")


def study_file(source: str) -> Path:
    """A file, or one of the studies that are shipped, by name."""
    path = Path(source)
    if path.is_file():
        return path
    shipped = shipped_studies()
    if source not in shipped:
        raise UsageError(f"there is no study {source}: name a YAML file, or {nearest(source, shipped)}")
    return shipped[source]


def shipped_studies() -> dict[str, Path]:
    """By name, the files of the studies that come with the package."""
    return {path.stem: path for path in sorted((config_dir() / "studies").glob("*.yaml"))}


def read_study_config(path: Path, overrides: Sequence[str] = ()) -> StudyConfig:
    """A file with ``key.key=value`` over it. Raises ``UsageError`` for what cannot be read, unknown keys and wrong
    values, also in the trainings' parts."""
    try:
        config = StudyConfig.model_validate(overridden(read_yaml(path), overrides))
    except ValidationError as error:
        raise UsageError(f"{path}: {explained(error, StudyConfig)}") from error
    jobs(config)
    return config


def to_yaml(config: StudyConfig) -> str:
    """A study's configuration as its folder keeps it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


# --- the jobs ------------------------------------------------------------------------------------------------


def jobs(config: StudyConfig) -> list[Job]:
    """In an order in which they may run one by one: what others wait for comes first within a seed. Raises
    ``UsageError`` for trainings that are not possible."""
    return [
        job
        for seed in config.seeds
        for stage in zip(*(_of_seed(config, name, seed) for name in config.families), strict=True)
        for of_family in stage
        for job in of_family
    ]


def arm_folder(config: StudyConfig, family_name: str, seed: int, arm: str) -> str:
    """The folder of an arm of a seed within the study: it holds ``train``, and an evaluation for each temperature."""
    folder = slug(arm) if config.arms[arm] is not None else WARM
    return f"{slug(family_name)}/seed-{seed}/{folder}"


def run_folder(temperature: float) -> str:
    """The folder of an evaluation within that of its arm."""
    return f"run-t{temperature:g}"


def task_file(family_name: str) -> str:
    """The definition of a family's task, within the study."""
    return f"tasks/{slug(family_name)}/cipo_{slug(family_name)}.yaml"


def write_tasks(config: StudyConfig, folder: Path) -> None:
    """Writes the task of every family's dial into a study's folder."""
    for name, use in config.families.items():
        made = family(use.family or name, use.dial)
        place = (folder / task_file(name)).parent
        made.write_task(place, name=slug(name), limit=use.items, breakdown=use.worlds == "one")


def _of_seed(config: StudyConfig, name: str, seed: int) -> tuple[list[Job], list[Job], list[Job]]:
    """Warm start, trainings, evaluations."""
    stages: list[Job] = []
    for number, over in enumerate(config.stages or [{}], 1):
        last = number >= len(config.stages)
        place = f"{slug(name)}/seed-{seed}/{WARM}/{'train' if last else f'stage-{number}'}"
        before = stages[-1] if stages else None
        stages.append(_training(config, name, seed, place, start=before, over=over, warm=True))
    warm = stages[-1]
    trained, scored = [], []
    for arm, changes in config.arms.items():
        place, job = arm_folder(config, name, seed, arm), warm
        if changes is not None:
            job = _training(config, name, seed, f"{place}/train", start=warm, over=changes)
            trained.append(job)
        for temperature in config.evaluate.temperatures:
            scored.append(
                _evaluation(config, name, seed, f"{place}/{run_folder(temperature)}", temperature, job)
            )
    least = min((job.work for job in trained), default=1)
    for job in trained:
        job.expected *= job.work / least
    return stages, trained, scored


def _training(
    config: StudyConfig,
    name: str,
    seed: int,
    place: str,
    *,
    start: Job | None = None,
    over: Tree | None = None,
    warm: bool = False,
) -> Job:
    use = config.families[name]
    chosen, of_seed = use.family or name, use.worlds == "seed"
    values: Tree = {
        "seed": seed,
        "threads": 1,
        "data": {"generator": chosen, "dial": {**use.dial, **({"world": seed} if of_seed else {})}},
        "checkpoint": {"every": 200, "keep": 1},
    }
    if warm:
        shape = config.shape.model_dump() if config.shape else None
        values |= {"algorithm": "sft", "model": f"new:{chosen}", "shape": shape}
        values = merged(merged(merged(values, config.warm), use.warm), over or {})
    else:
        values = merged(merged(merged(values, config.train), use.train), over or {})
    if "eval" in values:  # on the way: of the family's own held-out problems
        values = merged(values, {"eval": {"tasks": [f"{STUDY}/{task_file(name)}"]}})
    if wanted := (values.get("stop") or {}).get("figures"):
        values = merged(values, {"stop": {"figures": None}})
        values["stop"]["figures"] = {f"{slug(name)}/{figure}": value for figure, value in wanted.items()}
    try:
        training = build(values)
    except UsageError as error:
        raise UsageError(f"{place}: {error}") from error
    kind = "warm" if warm else "train"
    arguments = ["train", f"{STUDY}/{place}.yaml", f"output={STUDY}/{place}", "--quiet"]
    arguments += ["--init-from", f"{STUDY}/{start.name}"] if start else []
    return Job(
        name=place,
        kind=kind,
        arguments=tuple(arguments),
        needs=(start.name,) if start else (),
        strict=bool(training.stop.figures),
        config=values,
        expected=getattr(config.expected, kind),
        units=max(1, training.steps),
        work=_work(training),
    )


def _checkpoint(of: Job) -> str:
    """The last one of a training; where it may end before all its steps, whatever that is by then."""
    ends_early = any(value is not None and value != {} for value in (of.config.get("stop") or {}).values())
    place = f"{STUDY}/{of.name}"
    return f"{NEWEST}{place}" if ends_early else f"{place}/checkpoints/step-{of.units:06d}"


def _work(config: Config) -> float:
    """Sequences of a training."""
    if config.algorithm == "sft":
        return config.steps * config.optimizer.batch
    stream, rollout = config.stream, config.rollout
    return config.steps * rollout.problems * rollout.samples * (1 + (stream.fraction if stream else 0))


def _evaluation(config: StudyConfig, name: str, seed: int, place: str, temperature: float, of: Job) -> Job:
    scoring, use = config.evaluate, config.families[name]
    samples = scoring.samples if temperature else 1
    everything = family(use.family or name, use.dial).items
    made = min(use.items or everything, everything)
    limit = scoring.limit if temperature == scoring.temperatures[0] else scoring.others or scoring.limit
    count = min(limit or made, made)
    protocols = use.protocols or scoring.protocols
    arguments = [
        "run", "--model", _checkpoint(of),
        "--tasks", f"{STUDY}/{task_file(name)}", "--output", f"{STUDY}/{place}",
        "--samples", str(samples), "--temperature", f"{temperature:g}", "--top-p", "1",
        "--max-tokens", str(scoring.max_tokens), "--protocol", ",".join(protocols),
        "--turn-format", scoring.turn_format, "--seed", str(seed), "--limit", str(count), "--quiet",
    ]  # fmt: skip
    if scoring.prompt_dir:
        shipped = not scoring.prompt_dir.is_dir() and (config_dir() / scoring.prompt_dir).is_dir()
        arguments += [
            "--prompt-dir",
            f"{CONFIGS}/{scoring.prompt_dir}" if shipped else str(scoring.prompt_dir),
        ]
    turns = 1 + 0.8 * sum(protocol != "direct" for protocol in protocols)
    return Job(
        name=place,
        kind="evaluate",
        arguments=tuple(arguments),
        needs=(of.name,),
        expected=config.expected.evaluate
        * samples
        * count
        / (scoring.samples * min(scoring.limit or made, made)),
        units=int(count * samples * turns),
    )
