"""Problems as lm-eval's documents, and the prompts that task templates make of them.

Both harnesses show a model the same text by construction: templates are rendered with lm-eval's engine and settings
from the very document that lm-eval is handed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from typing import Any

from cipo_eval.data.definitions import TaskSpec
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem


def as_document(problem: Problem) -> dict[str, Any]:
    """The problem as lm-eval's document, over whose fields prompt templates are written."""
    return {
        **problem.metadata,
        "task": problem.task,
        "id": problem.id,
        "index": problem.index,
        "question": problem.question,
        "gold": problem.gold,
        "options": json.dumps(dict(problem.options), sort_keys=True),
    }


def from_document(document: Mapping[str, Any]) -> Problem:
    """The problem that ``as_document`` was given, without prompt and metadata: what a verifier needs."""
    return Problem(
        task=document["task"],
        id=document["id"],
        index=document["index"],
        question=document["question"],
        prompt="",
        gold=document["gold"],
        options=json.loads(document["options"]),
    )


def with_prompts(spec: TaskSpec, problem: Problem, where: str) -> Problem:
    """The problem with its prompts. Raises ``UsageError`` where a template fails; ``where`` is its row, in words."""
    document = as_document(problem)
    given_prompt = _render(spec, spec.given_template, document, where) if spec.given_template else ""
    return dataclasses.replace(problem, prompt=rendered(spec, document, where), given_prompt=given_prompt)


def rendered(spec: TaskSpec, document: Mapping[str, Any], where: str) -> str:
    """A document as the task asks it. Raises ``UsageError`` where the template fails for it; ``where``: its row."""
    return _render(spec, spec.template, document, where)


@functools.cache
def _template(text: str) -> Any:
    """lm-eval's template engine and settings, in the variant that gives a template no access to Python."""
    from jinja2 import BaseLoader, StrictUndefined
    from jinja2.sandbox import SandboxedEnvironment

    environment = SandboxedEnvironment(
        loader=BaseLoader(), undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    return environment.from_string(text)


def _render(spec: TaskSpec, template: str, document: Mapping[str, Any], where: str) -> str:
    from jinja2 import TemplateError

    try:
        return str(_template(template).render(**document))
    except TemplateError as error:
        name = "doc_to_text" if template == spec.template else "`given`"
        raise UsageError(f"{spec.path}: {name} fails for {where}: {error}") from error
