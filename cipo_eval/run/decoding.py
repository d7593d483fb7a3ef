"""How attempts are sampled: what is asked for, over a preset of the task, over the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from cipo_eval.errors import UsageError, nearest
from cipo_eval.records import Sampling
from cipo_eval.settings import Flag, Section, refused

if TYPE_CHECKING:
    from cipo_eval.data.tasks import Preset

DEFAULTS: dict[str, Any] = {
    "samples": 1,
    "temperature": 0.6,
    "top_p": 0.95,
    "top_k": 0,
    "min_p": 0.0,
    "max_tokens": 2048,
    "stop": (),
}
"""Decoding without a preset. Sampled, so that ``--samples 8`` later only adds to a finished ``--samples 1``."""

FROM_CHECKPOINT = "checkpoint"
"""The preset that is the model's own."""


def _stop_strings(value: Any) -> Any:
    texts = [value] if isinstance(value, str | int | float) else value
    if isinstance(texts, list | tuple) and "" in texts:
        raise ValueError("empty string")
    return texts


def _seeds(value: Any) -> Any:
    """Seeds in their order, each once: of a number, a list of numbers, or a text with commas."""
    if value is None:
        return None
    items = (
        value.split(",") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
    )
    if any(isinstance(item, bool | float) for item in items):
        raise ValueError("whole numbers separated by commas")
    try:
        seeds = tuple(dict.fromkeys(int(item) for item in items if str(item).strip()))
    except (TypeError, ValueError):
        raise ValueError("whole numbers separated by commas") from None
    if not seeds:
        raise ValueError("whole numbers separated by commas")
    return seeds


class Decoding(Section):
    """How attempts are sampled; what is None comes from the preset, or else from ``DEFAULTS``."""

    samples: Annotated[int | None, Flag(names=("--samples", "-n"), range="at least 1")] = Field(
        default=None, ge=1
    )
    """Attempts per problem."""
    preset: str | None = None
    """greedy, paper or avg64: decoding per task; checkpoint: what the model recommends."""
    temperature: Annotated[float | None, Flag(range="0 (greedy) or more")] = Field(
        default=None, ge=0, lt=100, allow_inf_nan=False
    )
    """0: greedy (default 0.6)."""
    top_p: Annotated[float | None, Flag(range="above 0, at most 1")] = Field(default=None, gt=0, le=1)
    """Nucleus (default 0.95)."""
    top_k: Annotated[int | None, Flag(range="0 (off) or more")] = Field(default=None, ge=0)
    """0: off (default)."""
    min_p: Annotated[float | None, Flag(range="from 0, below 1")] = Field(default=None, ge=0, lt=1)
    """0: off (default)."""
    max_tokens: Annotated[int | None, Flag(range="at least 1")] = Field(default=None, ge=1)
    """Most new tokens per attempt (default 2048)."""
    stop: Annotated[tuple[str, ...] | None, BeforeValidator(_stop_strings), Flag(repeatable=True)] = None
    """Stop string; may be repeated."""
    seed: int = 0
    """Seed of all sampling."""
    seeds: Annotated[tuple[int, ...] | None, BeforeValidator(_seeds)] = None
    """Several seeds, comma-separated: a run for each, in a folder OUTPUT.seed-N, and their means."""
    system_prompt: str | None = None
    """System message before each prompt."""
    num_fewshot: Annotated[int, Flag(range="0 (none) or more")] = Field(default=0, ge=0)
    """Worked examples before each problem, of those that the task has (mathematics, gsm8k)."""
    fewshot_as_multiturn: bool = True
    """Examples as turns of the chat, or all in the problem's message."""

    @property
    def values(self) -> dict[str, Any]:
        """What is asked for, by the names of ``DEFAULTS``."""
        return {name: value for name in DEFAULTS if (value := getattr(self, name)) is not None}

    def recommended(self, recommendation: Mapping[str, Any]) -> Decoding:
        """The same without a preset, what is None as a checkpoint recommends it (``Checkpoint.recommended``)."""
        values = {
            name: recommendation[name]
            for name in ("temperature", "top_p", "top_k", "min_p")
            if name in recommendation
        }
        if not recommendation.get("do_sample"):
            values = {"temperature": 0.0}
        return self._with({**values, **self.values, "preset": None})

    def resolve(self, presets: Mapping[str, Preset]) -> tuple[int, Sampling]:
        """Samples per problem and sampling parameters of one task, whose presets are ``presets``.

        What is asked for wins over the preset, which wins over ``DEFAULTS``. Raises ``UsageError`` for a preset that
        the task does not have, and for values out of range.
        """
        values = dict(DEFAULTS)
        if self.preset is not None and self.preset != FROM_CHECKPOINT:
            if self.preset not in presets:
                raise UsageError(f"unknown --preset {self.preset}: {nearest(self.preset, presets)}")
            preset = presets[self.preset]
            values |= asdict(preset.sampling) | {"samples": preset.samples}
        complete = self._with({**values, **self.values})
        values = {name: getattr(complete, name) for name in DEFAULTS}
        samples = values.pop("samples")
        sampling = Sampling(**values)
        if samples > 1 and (sampling.temperature == 0 or sampling.top_k == 1):
            raise UsageError(
                f"--samples {samples} with greedy decoding would give {samples} identical answers: "
                "use --temperature above 0 (and not --top-k 1), or --samples 1"
            )
        return samples, sampling

    def _with(self, values: Mapping[str, Any]) -> Decoding:
        """The same with other values. Raises ``UsageError`` for those that are out of range."""
        try:
            return Decoding.model_validate({**self.model_dump(), **values})
        except ValidationError as error:
            raise UsageError(refused(error, Decoding)) from error
