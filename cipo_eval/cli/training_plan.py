"""``cipo-eval train PRESET --plan``: what a training takes of a GPU, and about how long a step is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import UsageError, nearest
from cipo_eval.estimate.constants import Constants, Gpu, ModelShape, constants
from cipo_eval.estimate.roofline import Replica, Sequences
from cipo_trainer.memory import RECOMPUTED_FROM, Architecture, Memory, planned
from cipo_trainer.presets import verifier_of

if TYPE_CHECKING:
    from cipo_trainer.config import Config

TRAINING_SHARE = 0.35
"""Share of a GPU's peak that forward and backward passes reach: assumed (goal of the trainer: 0.3 or more)."""
SHARE_RANGE = (0.5, 0.2)
"""That share at its best and at its worst: assumed."""
MEAN_RANGE = (0.7, 1.5)
"""How short and how long attempts may be by ``--mean-tokens``, as multiples of it: assumed."""
FORWARD_FLOPS = 2.0
"""Operations of a forward pass for each parameter and token: a multiplication and an addition."""
BACKWARD_FLOPS, FROZEN_BACKWARD_FLOPS = 4.0, 2.0
"""Operations of a backward pass, likewise; of frozen weights (adapters) only their inputs have gradients."""
UPDATE_RATE = 3e9
"""Bytes per second at which vLLM is sent new weights: assumed."""
PROMPT = 150
"""Tokens of a prompt: assumed, as nothing is known of them here."""
GB = 1e9
"""Bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTime:
    """Seconds of a step: an estimate, with the lengths and speeds that it stands for."""

    attempts: int
    """Attempts of the base batch."""
    corrections: int
    """Corrections of a step."""
    tokens: float
    """Tokens of an attempt: assumed."""
    sampling: float
    """Seconds of sampling."""
    training: float
    """Seconds of forward and backward passes."""
    low: float
    """Seconds of the step where attempts are short and the share of the peak is at its best."""
    high: float
    """Seconds of the step where attempts are long and the share is at its worst."""
    longest: float
    """Seconds of the step where every attempt uses up its tokens."""

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.sampling + self.training


def plan(config: Config, *, gpu: str, mean_tokens: float | None = None, ranks: int = 1) -> dict[str, Any]:
    """Memory and time of a training on GPUs of this name, as ``--json`` prints it. Raises ``UsageError``."""
    known = constants()
    names = {name.lower(): name for name in known.gpus}
    if (name := names.get(gpu.strip().lower())) is None:
        raise UsageError(f"unknown --gpu {gpu}: {nearest(gpu, known.gpus)}")
    device = known.gpus[name]
    memory = planned(config, device_bytes=device.memory, ranks=ranks)
    time = _step_time(config, memory, known, device, mean_tokens, ranks)
    return {
        "model": config.model,
        "parameters": memory.architecture.parameters,
        "source": memory.architecture.source,
        "gpu": name,
        "gpu_bytes": device.memory,
        "ranks": ranks,
        "bytes": {
            "both": memory.stays,
            "sampling": memory.samples,
            "training": memory.trains,
            "host": memory.host,
        },
        "sampling_bytes": memory.sampling,
        "training_bytes": memory.training,
        "peak_bytes": memory.peak,
        "fits": memory.peak <= device.memory,
        "step": None
        if time is None
        else {
            "attempts": time.attempts,
            "corrections": time.corrections,
            "mean_tokens": time.tokens,
            "seconds": {"value": time.seconds, "low": time.low, "high": time.high},
            "sampling_seconds": time.sampling,
            "training_seconds": time.training,
            "seconds_at_max_tokens": time.longest,
        },
    }


def _step_time(
    config: Config, memory: Memory, known: Constants, gpu: Gpu, mean: float | None, ranks: int
) -> StepTime | None:
    """None for supervised training, whose rows' lengths nobody knows here."""
    if config.algorithm == "sft":
        return None
    rollout, corrections = config.rollout, config.stream
    attempts = rollout.problems * rollout.samples
    revised = (
        int(corrections.fraction * rollout.problems) * (corrections.samples or rollout.samples)
        if corrections
        else 0
    )
    length = known.kinds["code" if verifier_of(config) == "code" else "math"].lengths["direct 1"]
    given = None if mean is None else (mean, *(factor * mean for factor in MEAN_RANGE))
    lengths = given or (length.mean, length.low, length.high)
    middle, low, high = (min(value, float(rollout.max_tokens)) for value in lengths)

    def seconds(tokens: float, share: float) -> tuple[float, float]:
        return _phases(config, memory, known, gpu, (attempts, revised, tokens, share, ranks))

    sampling, training = seconds(middle, TRAINING_SHARE)
    return StepTime(
        attempts=attempts,
        corrections=revised,
        tokens=middle,
        sampling=sampling,
        training=training,
        low=gpu.time.low * sum(seconds(low, SHARE_RANGE[0])),
        high=gpu.time.high * sum(seconds(high, SHARE_RANGE[1])),
        longest=sum(seconds(float(rollout.max_tokens), TRAINING_SHARE)),
    )


def _phases(
    config: Config, memory: Memory, known: Constants, gpu: Gpu, load: tuple[int, int, float, float, int]
) -> tuple[float, float]:
    """Seconds of sampling and of training for so many attempts and corrections of so many tokens each."""
    attempts, revised, tokens, share, ranks = load
    shape, servers = memory.architecture, len(config.rollout.servers)
    speed = known.engines["vllm" if servers else config.rollout.engine]
    sampling_on = servers or ranks  # a GPU of this kind for each server: assumed
    room = gpu
    if not servers:
        held = sum(memory.samples.values()) or gpu.memory
        room = gpu.model_copy(update={"memory": held / speed.memory_share})
    replica = Replica(gpu=room, speed=speed, shape=_shape(shape))
    samples, sampling = config.rollout.samples, 0.0
    for count, prompt in ((attempts, float(PROMPT)), (revised, PROMPT + tokens)):
        if count:
            sequences = Sequences(prompt=prompt, computed=prompt / samples, new=tokens, held=tokens / 2)
            each = replica.seconds(sequences, count / sampling_on, speed.row_seconds.value)
            sampling += gpu.time.value * each * count / sampling_on
    if config.rollout.engine != "hf":
        sampling += 2.0 * shape.parameters / UPDATE_RATE
    passed = attempts * (PROMPT + tokens) + revised * (PROMPT + 2 * tokens)
    options = config.optimizer
    times = FORWARD_FLOPS + (FROZEN_BACKWARD_FLOPS if config.lora else BACKWARD_FLOPS)
    # further forward passes: activations computed again, the reference's, the policy's before several updates
    recomputed = options.checkpointing is not False and shape.parameters >= RECOMPUTED_FROM
    times += FORWARD_FLOPS if recomputed else 0.0
    times += FORWARD_FLOPS if config.referred else 0.0
    times += FORWARD_FLOPS if options.minibatches * options.epochs > 1 else 0.0
    training = options.epochs * passed * times * shape.multiplied / (share * gpu.flops * ranks)
    return sampling, training


def _shape(shape: Architecture) -> ModelShape:
    return ModelShape(
        parameters=shape.parameters,
        multiplied=shape.multiplied,
        layers=shape.layers,
        heads=shape.heads,
        key_value_heads=shape.key_value_heads,
        head_dim=shape.head_dim,
    )


def written(name: str, values: dict[str, Any]) -> str:
    """The plan for people."""
    parts = values["bytes"]
    ranks = values["ranks"]
    of_each = f"GB of each GPU, of {ranks}" if ranks > 1 else "GB of each GPU"
    lines = [
        f"{name}: {values['model']}, {values['parameters'] / 1e9:.2f} B parameters ({values['source']})",
        f"{of_each:34}{'sampling':>10}{'training':>10}",
    ]
    for phase, columns in (("both", (1, 1)), ("sampling", (1, 0)), ("training", (0, 1))):
        for part, size in parts[phase].items():
            cells = "".join(f"{size / GB:10.1f}" if shown else f"{'':10}" for shown in columns)
            lines.append(f"  {part:32}{cells}")
    lines.append(f"{'together':34}{values['sampling_bytes'] / GB:10.1f}{values['training_bytes'] / GB:10.1f}")
    left = (values["gpu_bytes"] - values["peak_bytes"]) / GB
    verdict = (
        f"fits, {left:.1f} GB are left" if values["fits"] else f"does not fit, {-left:.1f} GB are missing"
    )
    lines.append(f"{values['gpu']} ({values['gpu_bytes'] / GB:.1f} GB): {verdict}")
    for part, size in parts["host"].items():
        lines.append(f"host: {part}, {size / GB:.1f} GB")
    if step := values["step"]:
        minutes = {key: value / 60 for key, value in step["seconds"].items()}
        lines.append(
            f"a step (estimate): {step['attempts']:,} attempts and {step['corrections']:,} corrections of "
            f"{step['mean_tokens']:,.0f} tokens: {minutes['value']:.1f} min ({minutes['low']:.1f} to "
            f"{minutes['high']:.1f}), {step['sampling_seconds'] / 60:.1f} of them sampling; "
            f"{step['seconds_at_max_tokens'] / 60:.1f} min where every attempt uses up its tokens"
        )
    return "\n".join(lines) + "\n"
