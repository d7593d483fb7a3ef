"""Which verifier modes a run is judged in, by the name under which they are asked for."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cipo_eval.records import Mode


class ModeChoice(StrEnum):
    """One verifier mode, or both."""

    fixed = "fixed"
    """What is right counts as right."""
    paper = "paper"
    """As the benchmark's reference grader judges, faults included."""
    both = "both"
    """Both of them; ``fixed`` is the main one."""

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The modes that are meant, the main one first."""
        from cipo_eval.records import Mode

        return tuple(Mode) if self is ModeChoice.both else (Mode(self.value),)
