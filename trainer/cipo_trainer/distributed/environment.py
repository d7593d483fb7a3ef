"""What can be told of the other processes without torch: whether a launcher started this one, and whose error it is."""

from __future__ import annotations

import os

from cipo_eval.errors import CipoError


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
