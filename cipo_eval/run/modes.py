"""Which verifier modes a run is judged in, by the name under which they are asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cipo_eval.records import Mode


class ModeChoice(StrEnum):
    """One verifier mode, or both."""

    fixed = "fixed"
    paper = "paper"
    both = "both"

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are meant, the main one first."""
        from cipo_eval.records import Mode

        return tuple(Mode) if self is ModeChoice.both else (Mode(self.value),)
