"""Figures that an estimate is made of, each with an interval and its source: the shipped ones, and over them those of a
file that ``plan --calibrate`` wrote or a user did.

One form for all: ``constants.yaml`` beside this module holds the shipped ones, a file of a user's has the same keys and
only those that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, model_validator

from cipo_eval.errors import UsageError
from cipo_eval.settings import Section, explained, merged, read_yaml

LEVELS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 1.0)
"""The shares below the ``quantiles`` of a ``Length``."""
VERSION = 1
"""Version of the file's form."""


MOST = 1e18
"""The largest figure that is taken."""


def _finite(value: float) -> float:
    if not 0 <= value <= MOST:
        raise ValueError("a number from 0")
    return value


Number = Annotated[float, AfterValidator(_finite)]
Large = Annotated[float, Field(ge=1e3, le=MOST)]
"""A rate or size of real machines and models."""


class Quantity(Section):
    """A figure with the interval that it lies in nineteen times of twenty."""

    value: Number
    low: Number
    high: Number
    source: str = ""
    """Where figure and interval come from."""

    @model_validator(mode="after")
    def _ordered(self) -> Quantity:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"{self.value:g} is not from {self.low:g} to {self.high:g}")
        return self

    def at(self, level: int) -> float:
        """The value (0), its lower end (-1) or its upper end (1)."""
        return (self.value, self.high, self.low)[level]


class Length(Section):
    """How long completions are, in tokens; of other problems and samples than those that were measured."""

    mean: Number
    """Mean tokens of a completion."""
    low: Number
    high: Number
    """With ``low``, the interval of the mean: over models or, where it was calibrated, over samples of problems."""
    between: Number = 0.0
    """Standard deviation of problems' means, as a share of the mean."""
    within: Number = 0.0
    """Standard deviation of completions of one problem, as a share of the mean."""
    quantiles: tuple[Number, ...]
    """Tokens that the shares ``LEVELS`` of completions have at the most: the shape of the distribution."""
    limit: int | None = Field(default=None, ge=1)
    """The ``max_tokens`` that they were measured under; None: none that mattered."""
    cut: Number = 0.0
    """Share of the completions that ended at that limit."""
    source: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Length:
        if not 0 < self.low <= self.mean <= self.high:
            raise ValueError(
                f"{self.mean:g} is not from {self.low:g} to {self.high:g}, or they are not above 0"
            )
        if len(self.quantiles) != len(LEVELS) or list(self.quantiles) != sorted(self.quantiles):
            raise ValueError(
                f"quantiles are {len(LEVELS)} numbers that grow (at {', '.join(map(str, LEVELS))})"
            )
        return self


class TaskFigures(Section):
    """Figures of one task, or of a kind of tasks, ``math`` or ``code``. What is None for a task is its kind's."""

    problems: int | None = Field(default=None, ge=1)
    """Problems within the task's own scope, for where its data is not at hand."""
    with_attempts: bool = False
    """Its data comes with attempts to correct."""
    prompt_tokens: Number | None = None
    """Mean tokens of a first prompt, for where the task's data is not at hand."""
    attempt_tokens: Number | None = None
    """Tokens of an attempt that comes with the data."""
    characters_per_token: Quantity | None = None
    """Characters of a prompt by its tokens."""
    lengths: dict[str, Length] = Field(default_factory=dict)
    """Lengths of completions by protocol and turn (``direct 1``, ``self 2``)."""
    again: Quantity | None = None
    """A revision's length by that of the attempt it revises, where ``lengths`` does not have it."""
    wrong: Quantity | None = None
    """Share of first attempts that are wrong: what ``oracle`` and ``feedback`` ask again."""
    row_bytes: Quantity | None = None
    """Bytes of a stored attempt beside its text."""
    bytes_per_token: Quantity | None = None
    """Bytes of a stored text by its tokens."""
    judging_seconds: Quantity | None = None
    """Processor seconds of a verdict."""


class Requests(Section):
    """What requests have in common."""

    message_tokens: Quantity
    """Tokens that the chat template adds to a message."""
    carried: Quantity
    """Share of an attempt that later turns see; thoughts are left out of it."""
    samples_reuse: Quantity
    """Share of a prompt that is found in the engine's prefix cache where another sample of it came before."""
    turns_reuse: Quantity
    """The same for the part of a later turn's prompt that its earlier turns computed."""
    directory_bytes: Quantity
    """Bytes of a run directory for each task, beside attempts and problems."""


class Speed(Section):
    """What an engine makes of a GPU."""

    bandwidth_share: Number = Field(gt=0, le=1)
    """Share of the peak memory bandwidth that is reached while weights and caches are read."""
    compute_share: Number = Field(gt=0, le=1)
    """Share of the peak of dense 16-bit multiplications that is reached: measured MFU of long prompts."""
    step_seconds: Number
    """Seconds that a step takes whatever is in it."""
    row_seconds: Quantity
    """Seconds that a step takes for each sequence in it: drawing a token with a seed of its own."""
    memory_share: Number = Field(gt=0, le=1)
    """Share of the memory that weights and caches take."""
    batch: int = Field(ge=1)
    """Sequences that are decoded together at the most."""
    startup_seconds: Quantity
    """Seconds until the first token: loading weights, compiling, capturing graphs."""
    source: str = ""


class Gpu(Section):
    """A GPU as its maker describes it."""

    memory: float = Field(ge=1e8, le=MOST)
    """Bytes of memory."""
    bandwidth: Large
    """Peak bytes per second from and to memory."""
    flops: Large
    """Peak of dense bfloat16 operations per second, without sparsity."""
    time: Quantity
    """Measured time as a multiple of what the model of time says, with the errors of that model."""
    source: str = ""


class ModelShape(Section):
    """A decoder-only transformer, as far as its speed depends on it."""

    parameters: Large
    """Parameters, all of them: what is read in a step."""
    multiplied: Large
    """Parameters that every token is multiplied with: all but an input embedding that is not the output layer too."""
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    key_value_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    weight_bytes: float = Field(default=2.0, gt=0, le=16)
    """Bytes of a parameter."""
    source: str = ""

    @property
    def bytes(self) -> float:
        """Bytes of all weights."""
        return self.parameters * self.weight_bytes

    @property
    def cache_bytes(self) -> float:
        """Bytes of the keys and values of one token, in all layers."""
        return 2.0 * self.layers * self.key_value_heads * self.head_dim * self.weight_bytes


class Constants(Section):
    """All figures of an estimate."""

    version: int = Field(default=VERSION, ge=VERSION, le=VERSION)
    note: str = ""
    """For people: what a calibrated file was fitted to."""
    tasks: dict[str, TaskFigures]
    """Figures by task."""
    kinds: dict[str, TaskFigures]
    """Figures of ``math`` and ``code``, for tasks that have none of their own."""
    requests: Requests
    engines: dict[str, Speed]
    """Speeds by engine."""
    gpus: dict[str, Gpu]
    """GPUs by the names that ``--gpu`` takes."""
    sizes: dict[str, ModelShape]
    """Models by size (``4B``)."""

    def of(self, task: str, kind: str) -> TaskFigures:
        """The figures of a task, those of its kind where it has none of its own."""
        base = self.kinds[kind]
        own = self.tasks.get(task)
        if own is None:
            return base
        names = own.model_fields_set
        values = {name: getattr(own, name) for name in names if getattr(own, name) is not None}
        values["lengths"] = {**base.lengths, **own.lengths}
        return base.model_copy(update=values)


@cache
def _shipped() -> dict[str, Any]:
    return read_yaml(Path(__file__).with_name("constants.yaml"))


def constants(file: Path | None = None) -> Constants:
    """The shipped constants, and over them those of a file. Raises ``UsageError`` for a file that cannot be read, and
    for unknown keys and wrong values."""
    values: Mapping[str, Any] = _shipped()
    if file is not None:
        values = merged(values, read_yaml(file))
    try:
        return Constants.model_validate(values)
    except ValidationError as error:
        place = f"--constants {file}" if file else "constants.yaml"
        raise UsageError(f"{place}: {explained(error, Constants)}") from error
