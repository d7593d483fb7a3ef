"""One kind of answer of the tables in ``math_kinds``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Kind:
    """A kind of answer: (gold, answer) pairs that are right and that are wrong, under the same options."""

    name: str
    source: str
    right: tuple[tuple[str, str], ...]
    wrong: tuple[tuple[str, str], ...]
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    texts: bool = False
    """Whether the answers are whole responses."""
