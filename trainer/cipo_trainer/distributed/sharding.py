"""Weights, gradients and optimizer in parts, one in each process (FSDP2), beside whole weights that generate.

``torch.distributed.fsdp.fully_shard`` on each layer and on the whole. The parts are float32 and are the masters; passes
compute in the model's own type, and gradients are summed in float32. The whole model beside it (``shown``) generates,
is evaluated and is written out; it gets the values after each update.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from types import MethodType
from typing import Any

import torch

from cipo_eval.errors import MissingError
from cipo_trainer.masters import Masters
from cipo_trainer.packing import Micro, logprobs

_SCORES = "token_scores"
"""Name of the method by which log-probabilities are asked of the parts."""


class Sharded:
    """A model in parts.

    ``shown``: the whole one, on its device. ``model``: another one of it in float32, not yet in parts, which it is
    from now on, on the same device.
    """

    def __init__(self, shown: Any, model: Any) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import (
            FSDPModule,
            MixedPrecisionPolicy,
            fully_shard,
            register_fsdp_forward_method,
        )

        device = next(shown.parameters()).device
        self.shown, self.model = shown, model
        self.dtype: torch.dtype = next(shown.parameters()).dtype
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        precision = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        for layer in model.get_decoder().layers:
            fully_shard(layer, mesh=mesh, mp_policy=precision)
        fully_shard(model, mesh=mesh, mp_policy=precision)
        for module in model.modules():
            if isinstance(
                module, FSDPModule
            ):  # gradients are summed: what they are divided by is in the loss
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        setattr(model, _SCORES, MethodType(logprobs, model))
        register_fsdp_forward_method(model, _SCORES)
        self._messages: Any = None
        self.take()

    def logprobs(self, batch: Micro, chunk: int) -> tuple[torch.Tensor, torch.Tensor]:
        """``packing.logprobs`` of the parts. All processes have to call it."""
        scores: tuple[torch.Tensor, torch.Tensor] = getattr(self.model, _SCORES)(batch, chunk)
        return scores

    def _pairs(self) -> list[tuple[torch.Tensor, Any]]:
        """Each parameter, whole and in parts."""
        self.model.reshard()  # after a pass without gradients the last parts are still together
        parts = dict(self.model.named_parameters())
        return [(whole, parts[name]) for name, whole in self.shown.named_parameters()]

    @torch.no_grad()
    def show(self) -> None:
        """Gives the whole model the values of the parts."""
        for whole, parts in self._pairs():
            whole.copy_(parts.full_tensor())

    @torch.no_grad()
    def take(self) -> None:
        """Gives the parts the values of the whole model."""
        for whole, parts in self._pairs():
            parts.copy_(_part(whole, parts))

    # --- checkpoints -----------------------------------------------------------------------------------------

    def save(self, masters: Masters, folder: Path, *, later: bool = False) -> Future[None] | None:
        """Writes this process's parts of the optimizer, and of the masters where the whole model's type is a shorter
        one. All processes have to call it, with the same folder, which must be on a disk that they share. Raises
        ``MissingError`` in all of them where one could not write.

        ``later``: a thread writes a copy; in process 0 all is there when the future that is returned has a result."""
        from torch.distributed import checkpoint

        parts = self._parts(masters)
        if later:
            if self._messages is None:  # the training's own messages are not to be mixed with these
                self._messages = torch.distributed.new_group(backend="gloo")
            saved = checkpoint.async_save(parts, checkpoint_id=str(folder), process_group=self._messages)
            return _told(saved, folder)
        try:
            checkpoint.save(parts, checkpoint_id=str(folder))
        except checkpoint.CheckpointException as error:
            raise _unwritten(folder, error) from error
        return None

    def _parts(self, masters: Masters) -> dict[str, torch.Tensor]:
        self.model.reshard()
        return _named(masters.state(with_masters=self.dtype != torch.float32))


def _unwritten(folder: Path, error: BaseException) -> MissingError:
    return MissingError(f"could not write a checkpoint into {folder}: {error}")


def _told(saved: Future[Any], folder: Path) -> Future[None]:
    """The same future, with our error."""
    from torch.distributed.checkpoint import CheckpointException

    told: Future[None] = Future()

    def done(saved: Future[Any]) -> None:
        error = saved.exception()
        if error is None:
            told.set_result(None)
        else:
            told.set_exception(_unwritten(folder, error) if isinstance(error, CheckpointException) else error)

    saved.add_done_callback(done)
    return told


def _named(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The tensors of ``Masters.state`` under names of one level."""
    named = {"form": torch.ones(())}  # there is always one
    for at, of_one in state["optimizer"]["state"].items():
        named |= {f"{kind}.{at}": value for kind, value in of_one.items()}
    return named | {f"masters.{at}": value for at, value in enumerate(state.get("masters", ()))}


def load_parts(masters: Masters, folder: Path) -> dict[str, Any]:
    """What ``Sharded.save`` wrote as ``Masters.load`` takes it, in however many processes it was written and however
    many there are now, in parts or whole. Needs no message to other processes."""
    from torch.distributed import checkpoint

    there = checkpoint.FileSystemReader(str(folder)).read_metadata().state_dict_metadata
    optimizer = masters.optimizer.state_dict()
    optimizer["state"] = {
        at: {
            "step": torch.zeros(()),
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }
        for at, parameter in enumerate(masters.ordered)
        if f"exp_avg.{at}" in there
    }
    state: dict[str, Any] = {"optimizer": optimizer}
    if "masters.0" in there:
        state["masters"] = [torch.zeros_like(parameter) for parameter in masters.parameters]
    with warnings.catch_warnings():  # of what is meant: each process reads for itself
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        checkpoint.load(_named(state), checkpoint_id=str(folder), no_dist=True)
    return state


def in_parts(masters: Masters, state: Mapping[str, Any]) -> dict[str, Any]:
    """The whole tensors of ``Masters.state`` as ``Masters.load`` takes them where masters are in parts."""
    ordered = masters.ordered
    optimizer = dict(state["optimizer"])
    optimizer["state"] = {
        at: {kind: _part(value, ordered[at]) if value.ndim else value for kind, value in of_one.items()}
        for at, of_one in optimizer["state"].items()
    }
    divided: dict[str, Any] = {"optimizer": optimizer}
    if "masters" in state:
        pairs = zip(state["masters"], masters.parameters, strict=True)
        divided["masters"] = [_part(value, parameter) for value, parameter in pairs]
    return divided


def _part(whole: torch.Tensor, like: Any) -> Any:
    """A whole tensor, which every process has, divided as ``like`` is."""
    from torch.distributed.tensor import distribute_tensor

    whole = whole.to(device=like.device, dtype=like.dtype)
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
