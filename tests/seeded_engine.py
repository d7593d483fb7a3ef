"""An engine without a model: what it says depends on the problem and the seed alone, and takes as long as one wants."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from cipo_eval.engines.engine import OneByOneEngine
from cipo_eval.engines.options import EngineOptions
from cipo_eval.records import Completion, FinishReason, Request


class SeededOptions(EngineOptions):
    """What can be chosen."""

    delay: float = Field(default=0.0, exclude=True)
    """Seconds of a sample."""


class Seeded(OneByOneEngine[SeededOptions]):
    """``--engine seeded_engine:Seeded``."""

    name, options = "seeded", SeededOptions

    def complete(self, request: Request, seed: int) -> Completion:
        time.sleep(self.chosen.delay)
        chance = random.Random(seed)
        if request.protocol == "critique" and request.turn % 2 == 0:
            text = chance.choice(["[[correct]]", "[[wrong]]", "who knows"])
        else:
            text = f"\\boxed{{{chance.choice([request.problem.gold, '1', '2'])}}} {chance.random()}"
        return Completion(text=text, finish_reason=FinishReason.STOP, completion_tokens=chance.randrange(9))


TASK = """
task: cipo_{name}
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: {name}
    description: sums
    options: {{}}
    columns: {{question: question, gold: gold, id: id{more}}}
    breakdown: [level]
    sources:
      - {{kind: embedded, path: {name}.jsonl}}
"""
"""The definition of a task beside its rows."""


def task_text(name: str, columns: Sequence[str] = ()) -> str:
    """The definition of a task whose rows have these columns as well."""
    return TASK.format(name=name, more="".join(f", {column}: {column}" for column in columns))


def sums(count: int, *, pool: bool = False) -> list[dict[str, Any]]:
    """Rows of a task: sums, of each also an attempt where ``pool`` says so."""
    rows: list[dict[str, Any]] = []
    for i in range(count):
        row = {"id": f"p{i}", "question": f"What is {i} + 10?", "gold": str(i + 10), "level": str(i % 2)}
        rows.append(row | ({"attempt": f"It is \\boxed{{{i + 10 * (i % 2)}}}."} if pool else {}))
    return rows
