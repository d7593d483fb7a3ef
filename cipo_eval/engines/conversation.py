"""How a conversation is put to a model: one object for a run, for a training, and for what a checkpoint remembers.

A run's flags (``--enable-thinking``, ``--chat-template``, ``--system-prompt`` …) and a training's section ``chat`` are
both a ``Chat``. A training writes it beside its weights (``RECORD``), so that whoever evaluates the checkpoint asks it
as it was trained.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field

from cipo_eval.errors import UsageError, reason
from cipo_eval.settings import Section

RECORD = "cipo_chat.json"
"""The file of a checkpoint that says how its training asked it."""


def variables(value: Any) -> Any:
    """Variables of a template from the text of a mapping (JSON or YAML); a mapping as it is."""
    if not isinstance(value, str):
        return {} if value is None else value
    try:
        read = yaml.safe_load(value)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"no mapping: {reason(error)}") from error
    if not isinstance(read, Mapping):
        raise ValueError('a mapping, such as {"reasoning_effort": "low"}')
    return dict(read)


Variables = Annotated[dict[str, Any], BeforeValidator(variables)]


class Chat(Section):
    """How messages become a prompt. What is None is left to the model's own chat template."""

    enable_thinking: bool | None = None
    """enable_thinking of the chat template (Qwen3 and its kin); default: the template's own."""
    template: str | None = None
    """A chat template in place of the checkpoint's: a file (Jinja2), or its text."""
    kwargs: Variables = Field(default_factory=dict)
    """Further variables of the chat template, such as {reasoning_effort: low}."""
    system: str | None = None
    """System message before each prompt."""

    def text(self) -> str | None:
        """The template's text; None where the checkpoint's own is to be used. Raises ``UsageError`` for a file that
        cannot be read."""
        if self.template is None or "{" in self.template:
            return self.template
        try:
            return Path(self.template).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"the chat template {self.template} cannot be read: {reason(error)}") from error

    def variables(self) -> dict[str, Any]:
        """Everything that the template is told."""
        thinking = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        return {**self.kwargs, **thinking}

    def messages(self, prompt: str) -> tuple[dict[str, str], ...]:
        """The messages that ask for a first attempt."""
        system = ({"role": "system", "content": self.system},) if self.system else ()
        return (*system, {"role": "user", "content": prompt})

    def given(self) -> dict[str, Any]:
        """What is said, by the names of the fields; of a template its text."""
        values = {name: getattr(self, name) for name in type(self).model_fields}
        values["template"] = self.text()
        return {name: value for name, value in values.items() if value not in (None, {}, "")}

    def differences(self, other: Chat) -> list[str]:
        """Where ``other`` is not this one, a phrase each: what is said here, and what there."""
        mine, theirs = self.given(), other.given()
        return [
            f"{name}: {_shown(mine.get(name))} here, {_shown(theirs.get(name))} there"
            for name in type(self).model_fields
            if mine.get(name) != theirs.get(name)
        ]


def write(folder: Path, chat: Chat) -> None:
    """Writes beside weights how their training asked them; nothing where it said nothing. The template itself goes
    with the tokenizer."""
    values = {name: value for name, value in chat.given().items() if name != "template"}
    if values:
        (folder / RECORD).write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")


def trained(model: str) -> Chat | None:
    """How the training of a checkpoint asked it; None where the folder does not say. Raises ``UsageError``."""
    path = Path(model) / RECORD
    if not path.is_file():
        return None
    try:
        return Chat.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} is damaged ({reason(error)}): remove it, and say --enable-thinking …"
        ) from error


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
