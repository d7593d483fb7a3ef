"""What can be told of the other processes without torch: whether a launcher started this one, and whose error it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from cipo_eval.errors import CipoError

_LAUNCHER = frozenset(
    {
        *("RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "ROLE_NAME"),
        *("WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_WORLD_SIZE"),
        *("MASTER_ADDR", "MASTER_PORT"),
    }
)
"""Variables by which a launcher tells a process which one it is."""


class ElsewhereError(CipoError):
    """What went wrong in another process; that one, or process 0, tells it."""

    def __init__(self, rank: int, text: str, code: int) -> None:
        super().__init__(f"process {rank}: {text}")
        self.rank = rank
        """The process that it went wrong in."""
        self.exit_code = code


def launched() -> bool:
    """Whether ``torchrun``, or another launcher with its variables, started this process."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"))


def rank_here() -> int:
    """Number of this process, from 0; 0 where no launcher started it."""
    return int(os.environ["RANK"]) if launched() else 0


@contextmanager
def alone(gpu: int | None) -> Iterator[None]:
    """What is started in this block does not know that this process is one of several, and sees this GPU only (by its
    number here; None: whatever this process sees)."""
    told: dict[str, str | None] = {
        name: None for name in os.environ if name in _LAUNCHER or name.startswith("TORCHELASTIC_")
    }
    if gpu is not None and told:
        seen = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
        told["CUDA_VISIBLE_DEVICES"] = seen[gpu] if seen else str(gpu)
    before = {name: os.environ.get(name) for name in told}
    _set(told)
    try:
        yield
    finally:
        _set(before)


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
