"""What a rewriting or change may know, and the three layers of rewriting: form, style, wrapping."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .tree import Node
from .writer import Style


@dataclass(frozen=True)
class Context:
    """What a rewriting may know: the gold, its question and options, and a seeded source of chance."""

    gold: Node
    question: str
    options: Mapping[str, Any]
    random: random.Random

    @property
    def several(self) -> bool:
        return bool(self.options.get("multiple"))

    @property
    def measured(self) -> bool:
        return self.options.get("units") == "skip"

    @property
    def integer(self) -> bool:
        return self.options.get("kind") == "integer"


Form = Callable[[Node, Context], Node | None]
Restyle = Callable[[Node, Context], Style | None]
Wrapping = Callable[[str, Node, Context], str | None]


def one_of(found: list[Node], context: Context) -> Node | None:
    """One of the proposals by chance, None where there is none."""
    return context.random.choice(found) if found else None
