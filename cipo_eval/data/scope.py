"""Which problems of a task count: a window of dates and values of metadata columns.

Figures over another window are another benchmark's figures: runs are compared over one window only.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Problems with ``start <= date < end`` (ISO dates of the metadata column ``date``) and the given values."""

    start: str | None = None
    """First day that counts; None: no limit."""
    end: str | None = None
    """First day that no longer counts."""
    only: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Metadata column: values that count. Columns without an entry are free."""

    def __post_init__(self) -> None:
        for day in (self.start, self.end):
            if day is not None:
                _check_day(day)
        if self.start and self.end and self.start >= self.end:
            raise UsageError(f"no day is from {self.start} on and before {self.end}")

    def admits(self, problem: Problem) -> bool:
        """Whether a problem counts. One without a date is outside of every window."""
        return self.admits_metadata(problem.metadata)

    def admits_metadata(self, metadata: Mapping[str, Any]) -> bool:
        """Whether a problem with this metadata counts."""
        if self.start or self.end:
            day = str(metadata.get("date", ""))[:10]
            if not day or (self.start and day < self.start) or (self.end and day >= self.end):
                return False
        return all(str(metadata.get(column)) in values for column, values in self.only.items())

    def to_text(self) -> str:
        """One line of JSON for ``run.json``; equal scopes have equal texts."""
        only = {column: sorted(values) for column, values in self.only.items()}
        return json.dumps({"start": self.start, "end": self.end, "only": only}, sort_keys=True)

    @classmethod
    def from_text(cls, text: str) -> Scope:
        """What ``to_text`` gave."""
        return cls.of(json.loads(text))

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Scope:
        """A scope of a mapping, such as a definition's. Raises ``UsageError``."""
        if unknown := set(body) - {"start", "end", "only"}:
            raise UsageError(f"a scope has start, end and only, not {', '.join(sorted(map(str, unknown)))}")
        start, end = (None if body.get(name) is None else str(body[name]) for name in ("start", "end"))
        only = {str(c): tuple(map(str, values)) for c, values in (body.get("only") or {}).items()}
        return cls(start=start, end=end, only=only)


def _check_day(text: str) -> None:
    try:
        if datetime.date.fromisoformat(text).isoformat() == text:
            return
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a day in the form 2024-08-01")
