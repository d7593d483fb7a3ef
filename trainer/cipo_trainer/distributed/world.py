"""The processes of a training, as the trainer sees them: one, or several that act as one.

``World`` is a process by itself, in which everything here is the plain call. ``Processes`` are those that ``torchrun``
started. In them every process must reach the same calls in the same order; what one of them cannot do (an error,
Ctrl-C) all of them learn where they meet next, and end alike.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch

from cipo_eval.errors import EXIT_FAILURES, EXIT_USAGE, CipoError, UsageError
from cipo_trainer.distributed.beats import Beats
from cipo_trainer.distributed.environment import ElsewhereError, launched, rank_here

T = TypeVar("T")
LONGEST_WAIT = timedelta(hours=6)
"""How long a process waits for another that lives: attempts of one share may take far longer than those of another.
A process that does not live is noticed by its beats (``beats``)."""
START_WAIT = timedelta(minutes=5)
"""How long processes wait for each other at the start."""
BUCKET = 8_388_608
"""Numbers of gradients that are summed in one message."""
_meetings = itertools.count()
"""Processes may train together more than once: what the launcher's store knows of one time is not that of another."""


class World:
    """One process, alone."""

    rank = 0
    """Number of this process, from 0; process 0 writes what there is to write."""
    size = 1
    """How many processes there are."""
    local_rank = 0
    """Number of this process on its machine."""
    local_size = 1
    """How many processes there are on this machine."""

    def device(self, name: str) -> torch.device:
        """The device of this process: ``auto`` is a GPU where there is one."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        return torch.device(name)

    def gather(self, value: T) -> list[T]:
        """This value of each process, in order of their ranks."""
        return [value]

    def together(self, work: Callable[[], T]) -> list[T]:
        """Does the work in each process, and gathers what it gave. Where it failed or was interrupted in one of them,
        it is as if it had in all."""
        return [work()]

    def first(self, work: Callable[[], T]) -> T | None:
        """Does the work in process 0, while the others wait. Returns what it gave, there; None elsewhere. Where it
        failed or was interrupted, it is as if it had in all."""
        return work()

    def told(self, work: Callable[[], T]) -> T:
        """As ``first``, but what the work gave is returned in all processes."""
        return work()

    def added(self, values: dict[str, float]) -> dict[str, float]:
        """The sum of each of these numbers over all processes; one that a process does not have is 0 there."""
        return values

    def complete(self, parameters: Sequence[torch.Tensor]) -> None:
        """Gives a gradient of zeros to those parameters that have one in another process."""

    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replaces tensors, the same ones in each process, by their sums over all processes. All processes get the
        same bits."""

    def same(self, what: str, value: Any) -> None:
        """Raises ``UsageError`` where the processes do not have the same value."""


@dataclass(frozen=True, slots=True)
class _Result:
    """What came of a process's part in something."""

    value: Any = None
    failed: str | None = None
    code: int = EXIT_FAILURES
    interrupted: bool = False


class Processes(World):
    """The processes that ``torchrun`` started, of which this is one."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.local_size = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.ending = False
        """Whether all processes know that something went wrong."""

    def device(self, name: str) -> torch.device:
        device = super().device(name)
        if device.type != "cuda":
            return device
        if (count := torch.cuda.device_count()) < self.local_size:
            raise UsageError(f"{self.local_size} processes need as many GPUs here, and there are {count}")
        return torch.device("cuda", self.local_rank)

    def gather(self, value: T) -> list[T]:
        gathered: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(gathered, value)
        return gathered

    def together(self, work: Callable[[], T]) -> list[T]:
        mine, error = _tried(work)
        results = self.gather(mine)
        self._check(results, error)
        return [result.value for result in results]

    def first(self, work: Callable[[], T]) -> T | None:
        mine, error = _tried(work) if self.rank == 0 else (_Result(), None)
        told = _Result(failed=mine.failed, code=mine.code, interrupted=mine.interrupted)
        self._check(self.gather(told), error)
        value: T | None = mine.value
        return value

    def told(self, work: Callable[[], T]) -> T:
        return self.together(work if self.rank == 0 else lambda: None)[0]  # type: ignore[return-value]

    def _check(self, results: Sequence[_Result], error: Exception | None) -> None:
        """Raises what went wrong in the first process in which something did."""
        for rank, result in enumerate(results):
            if result.failed is None:
                continue
            self.ending = True
            if error is not None and rank == self.rank:
                raise error
            raise ElsewhereError(rank, result.failed, result.code) from error
        if any(result.interrupted for result in results):
            self.ending = True
            raise KeyboardInterrupt

    def added(self, values: dict[str, float]) -> dict[str, float]:
        sums: dict[str, float] = {}
        for part in self.gather(values):
            for name, value in part.items():
                sums[name] = sums.get(name, 0.0) + value
        return sums

    @torch.no_grad()
    def complete(self, parameters: Sequence[torch.Tensor]) -> None:
        there = torch.tensor([p.grad is not None for p in parameters], dtype=torch.int32)
        torch.distributed.all_reduce(there, torch.distributed.ReduceOp.MAX)
        for parameter, somewhere in zip(parameters, there.tolist(), strict=True):
            if somewhere and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    @torch.no_grad()
    def add_up(self, tensors: Sequence[torch.Tensor]) -> None:
        for bucket in _buckets(tensors):
            if len(bucket) == 1 and bucket[0].is_contiguous():
                torch.distributed.all_reduce(bucket[0])
                continue
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            torch.distributed.all_reduce(flat)
            parts = torch.split(flat, [tensor.numel() for tensor in bucket])
            for tensor, part in zip(bucket, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def same(self, what: str, value: Any) -> None:
        values = self.gather(value)
        for rank, other in enumerate(values):
            if other != values[0]:
                self.ending = True
                text = (
                    f"process {rank} has another {what} than process 0: all need the same files and release"
                )
                raise UsageError(text) if self.rank == 0 else ElsewhereError(0, text, EXIT_USAGE)


def _tried(work: Callable[[], T]) -> tuple[_Result, Exception | None]:
    try:
        return _Result(value=work()), None
    except KeyboardInterrupt:
        return _Result(interrupted=True), None
    except Exception as error:
        code = error.exit_code if isinstance(error, CipoError) else EXIT_FAILURES
        return _Result(failed=str(error) or type(error).__name__, code=code), error


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterator[list[torch.Tensor]]:
    """The tensors in their order, as many of a type together as a message holds."""
    bucket: list[torch.Tensor] = []
    room = BUCKET
    for tensor in tensors:
        if bucket and (tensor.numel() > room or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, room = [], BUCKET
        bucket.append(tensor)
        room -= tensor.numel()
    if bucket:
        yield bucket


@contextmanager
def joined(device: str) -> Iterator[World]:
    """The processes that this one was started with, met for as long as the block takes; where there is no other, a
    ``World``. ``device``: as in a configuration. Raises ``UsageError`` where there are fewer GPUs than processes."""
    if not launched() or int(os.environ["WORLD_SIZE"]) == 1:
        yield World()
        return
    distributed = torch.distributed
    world = Processes(rank_here(), int(os.environ["WORLD_SIZE"]))
    place = world.device(device)
    if place.type == "cuda":
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    launcher, _, _ = next(distributed.rendezvous("env://", timeout=START_WAIT))
    store = distributed.PrefixStore(f"cipo_trainer/{next(_meetings)}", launcher)
    distributed.init_process_group(
        backend, store=store, rank=world.rank, world_size=world.size, timeout=LONGEST_WAIT
    )
    try:
        with Beats(store.clone(), world.rank, world.size):
            try:
                yield world
            except BaseException:
                if world.ending:  # nobody leaves while another has something to write
                    world.gather(None)
                raise
            world.gather(None)
    finally:
        distributed.destroy_process_group()
