"""How long a GPU takes: what a step reads from memory and multiplies, at the shares of the peaks that engines reach.

A step gives each sequence that is under way one token and computes a piece of prompts that come: weights are read
once for all of them, the keys and values of each for itself. Bytes and multiplications are added, not overlapped:
that is how measured throughput with 1 to 512 sequences at once is met within 14 % (``benchmarks/plan_speed.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cipo_eval.errors import UsageError
from cipo_eval.estimate.constants import Gpu, ModelShape, Speed

WEIGHTS_SHARE = 0.75
"""Share of a GPU's memory that weights may take before a model is spread over more GPUs."""
PARALLEL_SHARE = 0.85
"""Share of the speed of n GPUs that is reached where a model is spread over n."""
MOST_PARALLEL = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequences:
    """What is generated, on average."""

    prompt: float
    """Tokens of a prompt."""
    computed: float
    """Prompt tokens that are in no cache and have to be computed."""
    new: float
    """Tokens of a completion."""
    held: float
    """Tokens that a completion has on average while it is generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replica:
    """A copy of a model on as many GPUs as it needs."""

    gpu: Gpu
    speed: Speed
    shape: ModelShape

    @property
    def gpus(self) -> int:
        """The least power of two that leaves room for caches. Raises ``UsageError`` for a model beyond all bounds."""
        needed = self.shape.bytes / (WEIGHTS_SHARE * self.gpu.memory)
        count = int(2 ** max(0, math.ceil(math.log2(needed))))
        if count > MOST_PARALLEL:
            raise UsageError(
                f"the model has {self.shape.bytes / 1e9:,.0f} GB of weights: more than {count // 2} of these GPUs"
            )
        return count

    def _scale(self) -> float:
        """Bandwidth and multiplications by those of one GPU."""
        return self.gpus * (PARALLEL_SHARE if self.gpus > 1 else 1.0)

    def batch(self, sequences: Sequences, waiting: float) -> float:
        """How many are decoded together: as many as there are, as the engine takes, and as the caches have room for."""
        room = self.gpu.memory * self.gpus * self.speed.memory_share - self.shape.bytes
        fitting = room / ((sequences.prompt + sequences.held) * self.shape.cache_bytes)
        return max(1.0, min(float(self.speed.batch), waiting, fitting))

    def step(self, sequences: Sequences, batch: float, row_seconds: float) -> float:
        """Seconds of a step with so many sequences, prompts coming as fast as completions end."""
        shape, prefilled = self.shape, batch * sequences.computed / sequences.new
        read = shape.bytes + batch * (sequences.prompt + sequences.held) * shape.cache_bytes
        attention = 2.0 * shape.layers * shape.heads * shape.head_dim * sequences.prompt
        operations = 2.0 * shape.multiplied * (batch + prefilled) + prefilled * attention
        scale = self._scale()
        return (
            read / (self.speed.bandwidth_share * self.gpu.bandwidth * scale)
            + operations / (self.speed.compute_share * self.gpu.flops * scale)
            + self.speed.step_seconds
            + row_seconds * batch
        )

    def seconds(self, sequences: Sequences, waiting: float, row_seconds: float) -> float:
        """Seconds of the replica for one completion, while ``waiting`` are there to be decoded together."""
        batch = self.batch(sequences, waiting)
        return self.step(sequences, batch, row_seconds) * sequences.new / batch
