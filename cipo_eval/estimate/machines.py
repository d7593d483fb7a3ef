"""What a run is to run on: how many of which GPU, and whose speed."""

from __future__ import annotations

from dataclasses import dataclass

from cipo_eval.errors import UsageError, nearest
from cipo_eval.estimate.constants import Constants, Gpu, ModelShape, Speed
from cipo_eval.estimate.roofline import Replica
from cipo_eval.estimate.shapes import shape_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What it is to run on."""

    name: str
    """The GPU's name."""
    gpu: Gpu
    speed: Speed
    """Of the engine."""
    shape: ModelShape
    """Of the model."""
    gpus: int
    """How many GPUs, in all."""

    @property
    def replica(self) -> Replica:
        """One copy of the model, on as many GPUs as it needs."""
        return Replica(gpu=self.gpu, speed=self.speed, shape=self.shape)

    @property
    def replicas(self) -> int:
        """Copies of the model. Raises ``UsageError`` where not even one fits."""
        if self.gpus < (needed := self.replica.gpus):
            raise UsageError(
                f"--gpus {self.gpus}: {self.shape.bytes / 1e9:,.0f} GB of weights need {needed} of {self.name}"
            )
        return self.gpus // needed


def machines_of(known: Constants, *, gpu: str, gpus: int | None, engine: str, model: str) -> Machines:
    """Machines by the names of GPU, engine and model; ``gpus`` None: as few as hold the model. Raises ``UsageError``
    for what there is none of, and for too few."""
    names = {name.lower(): name for name in known.gpus}
    name = names.get(gpu.strip().lower())
    if name is None:
        raise UsageError(
            f"unknown --gpu {gpu}: {nearest(gpu, known.gpus)} (others: --constants, docs/plan.md)"
        )
    speed, shape = known.engines[engine], shape_of(model, known)
    needed = Replica(gpu=known.gpus[name], speed=speed, shape=shape).gpus
    machines = Machines(
        name=name, gpu=known.gpus[name], speed=speed, shape=shape, gpus=needed if gpus is None else gpus
    )
    _ = machines.replicas  # too few are said here
    return machines
