"""What a run is asked to do: decoding, scope and scoring, resolved from presets and flags."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import UsageError, nearest
from cipo_eval.records import Mode, Sampling

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

MODES: dict[str, tuple[Mode, ...]] = {
    "fixed": (Mode.FIXED,),
    "paper": (Mode.PAPER,),
    "both": (Mode.FIXED, Mode.PAPER),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """Decoding flags of the command line; None: the preset's value, or else the default."""

    samples: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    max_tokens: int | None = None
    stop: tuple[str, ...] | None = None

    def recommended(self, said: Mapping[str, Any]) -> Decoding:
        """With a checkpoint's recommendation (``Checkpoint.recommended``) for what is None."""
        values = {name: said[name] for name in ("temperature", "top_p", "top_k", "min_p") if name in said}
        if not said.get("do_sample"):
            values = {"temperature": 0.0}
        given = {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        return replace(self, **{**values, **given})

    def resolve(self, preset: str | None, presets: Mapping[str, Preset]) -> tuple[int, Sampling]:
        """Samples per problem and sampling parameters for one task, whose presets are ``presets``.

        Flags win over the preset, which wins over ``DEFAULTS``. Raises ``UsageError`` for values out of range.
        """
        if preset is not None and preset not in presets:
            raise UsageError(f"unknown --preset {preset}: {nearest(preset, presets)}")
        values = dict(DEFAULTS)
        if preset is not None:
            chosen = presets[preset]
            values |= asdict(chosen.sampling) | {"samples": chosen.samples}
        values |= {f.name: v for f in fields(self) if (v := getattr(self, f.name)) is not None}
        samples = int(values.pop("samples"))
        sampling = Sampling(
            temperature=float(values["temperature"]),
            top_p=float(values["top_p"]),
            top_k=int(values["top_k"]),
            min_p=float(values["min_p"]),
            max_tokens=int(values["max_tokens"]),
            stop=tuple(values["stop"]),
        )
        _check(samples, sampling)
        return samples, sampling


def _check(samples: int, sampling: Sampling) -> None:
    wrong = [
        text
        for text, bad in (
            (f"--samples {samples}: at least 1", samples < 1),
            (
                f"--temperature {sampling.temperature}: 0 (greedy) or more",
                not 0 <= sampling.temperature < 100,
            ),
            (f"--top-p {sampling.top_p}: above 0, at most 1", not 0 < sampling.top_p <= 1),
            (f"--top-k {sampling.top_k}: 0 (off) or more", sampling.top_k < 0),
            (f"--min-p {sampling.min_p}: from 0, below 1", not 0 <= sampling.min_p < 1),
            (f"--max-tokens {sampling.max_tokens}: at least 1", sampling.max_tokens < 1),
            ("--stop: empty string", "" in sampling.stop),
            (
                f"--samples {samples} with greedy decoding would give {samples} identical answers: "
                "use --temperature above 0 (and not --top-k 1), or --samples 1",
                samples > 1 and (sampling.temperature == 0 or sampling.top_k == 1),
            ),
        )
        if bad
    ]
    if wrong:
        raise UsageError("; ".join(wrong))
