"""What became of every attempt of a file: judged, or left out for a reason that is named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """``attempts == judged + sum(left_out.values())``, whatever the file holds."""

    rows: int
    empty: int
    """Rows that hold no attempt."""
    attempts: int
    judged: int
    left_out: Mapping[str, int]
    """By reason, how many attempts."""
    matched: Mapping[str, int]
    """By what they were matched by, how many rows."""

    def lines(self) -> list[str]:
        """The equation and how rows were matched, for people."""
        parts = [f"{self.judged} judged"]
        if self.left_out:
            reasons = ", ".join(f"{count} {why}" for why, count in self.left_out.items())
            parts.append(f"{sum(self.left_out.values())} left out ({reasons})")
        if self.attempts == self.rows and not self.empty:
            start = f"rows: {self.rows} in the file"
        else:
            none = f", {self.empty} of them with none" if self.empty else ""
            start = f"rows: {self.rows} in the file{none}, with {self.attempts} attempts"
        matched = ", ".join(f"{count} by {how}" for how, count in self.matched.items())
        return [f"{start} = {' + '.join(parts)}", f"matched: {matched}"]

    def to_json(self) -> dict[str, Any]:
        """The account as ``run.json`` holds it."""
        return {
            "rows": self.rows,
            "rows_without_attempts": self.empty,
            "attempts": self.attempts,
            "judged": self.judged,
            "left_out": dict(self.left_out),
            "matched": dict(self.matched),
        }
