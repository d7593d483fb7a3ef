"""Worked examples that may stand before a task's problems (few-shot prompts): a JSON Lines file beside its definition.

Those of our tasks were written for this project, so that none is a test problem, and any model sees the same ones.
"""

from __future__ import annotations

import json
from pathlib import Path

from cipo_eval.data.definitions import TaskSpec, task_dir
from cipo_eval.data.documents import rendered
from cipo_eval.errors import UsageError, reason
from cipo_eval.turns.fewshot import Example


def documents(path: Path) -> list[dict[str, str]]:
    """The examples of a file as documents of lm-eval: ``question``, and the solution as ``gold``, its target.
    Raises ``UsageError``."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return [{"question": str(row["question"]), "gold": str(row["solution"])} for row in rows]
    except OSError as error:
        raise UsageError(f"the examples {path} cannot be read: {reason(error)}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{path} holds something else than lines with a question and a solution ({reason(error)})"
        ) from error


def examples(spec: TaskSpec, count: int) -> tuple[Example, ...]:
    """The first ``count`` examples of a task, in the order of their file.

    Raises ``UsageError`` where the task has fewer: they are never taken from the problems that are asked.
    """
    if not count:
        return ()
    if not spec.examples:
        raise UsageError(
            f"--num-fewshot {count}: the task {spec.name} has no examples to stand before its problems (`examples` in "
            "its definition: docs/add-a-task.md)"
        )
    path = spec.path.parent / spec.examples
    if not path.is_file():  # a task outside the package may build on our bases
        path = task_dir() / spec.examples
    examples = documents(path)
    if count > len(examples):
        raise UsageError(f"--num-fewshot {count}: there are {len(examples)} examples of the task {spec.name}")
    return tuple(
        Example(rendered(spec, document, f"the example {number} of {path}"), document["gold"])
        for number, document in enumerate(examples[:count], start=1)
    )
