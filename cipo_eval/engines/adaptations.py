"""What servers of OpenAI's protocol do not take, and what is done about it: one table.

A request says everything that sampling depends on, so that no server fills in values of its own. Some servers refuse a
parameter, or two of them together. What changes nothing is left out then; a seed is left out, and the run says so; a
parameter has another name; and what would change sampling is an error that names the flag.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cipo_eval.engines.server_replies import printable_line
from cipo_eval.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One field of a request, and what may become of it where a server refuses it."""

    flag: str = ""
    """The flag that it comes from."""
    neutral: tuple[float, ...] = ()
    """Values that change nothing: left out."""
    greedy: bool = False
    """Whether every value changes nothing at temperature 0."""
    instead: str = ""
    """The name that newer servers have for it; used where a refusal says so."""
    left_out: str = ""
    """Left out whatever its value; what that means."""


TABLE: dict[str, Parameter] = {
    "max_tokens": Parameter(flag="--max-tokens", instead="max_completion_tokens"),
    "max_completion_tokens": Parameter(flag="--max-tokens"),
    "seed": Parameter(
        flag="--seed",
        left_out="samples are drawn without one, and the same command draws other samples",
    ),
    "top_p": Parameter(flag="--top-p", neutral=(1.0,), greedy=True),
    "top_k": Parameter(flag="--top-k", neutral=(-1, 0), greedy=True),
    "min_p": Parameter(flag="--min-p", neutral=(0.0,), greedy=True),
    "repetition_penalty": Parameter(neutral=(1.0,)),
    "repeat_penalty": Parameter(neutral=(1.0,)),
    "temperature": Parameter(flag="--temperature", neutral=(1.0,)),
    "stop": Parameter(flag="--stop"),
    "chat_template_kwargs": Parameter(flag="--enable-thinking"),
    "continue_final_message": Parameter(flag="--protocol prefill"),
    "add_generation_prompt": Parameter(flag="--protocol prefill"),
    "n": Parameter(flag="--samples-per-request", left_out="each sample is asked for by itself"),
}
"""In this order where a refusal names several of them, a renaming first."""


_Values = tuple[tuple[str, str], ...]


class Adaptations:
    """What one server was found not to take. Learnt from its refusals, and kept only once it answers without it."""

    def __init__(self) -> None:
        self._notes: dict[str, str] = {}
        """Of each parameter that the server does not take, the line that says so."""
        self._taken: set[_Values] = set()
        """Parameters with their values, together, that the server has answered to: not what it refuses."""

    def notes(self) -> list[str]:
        """A line for each: what of a request this server does not get as it was asked for."""
        return sorted(self._notes.values())

    def applied(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A request's body as this server takes it, as far as that is known."""
        return _without(body, [name for name in self._notes if name in body and _may_go(name, body)])

    def after_refusal(self, body: Mapping[str, Any], text: str) -> dict[str, Any] | None:
        """The body without a parameter that the refusal is about, or with its other name; None where it is about
        something else. Raises ``UsageError`` where that would change what is sampled."""
        named = _named(body, text) if _parameters(body) not in self._taken else []
        for name in named:
            if TABLE[name].instead in text if TABLE[name].instead else _may_go(name, body):
                return _without(body, [name])
        if not named:
            return None
        flags = " and ".join(f"{TABLE[name].flag or name} ({json.dumps(body[name])[:80]})" for name in named)
        raise UsageError(
            f"the server does not take {flags} as asked, and without it sampling would be another "
            f"({printable_line(text)})"
        )

    def answered(self, body: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
        """The server has answered to this body, which stands for ``asked``."""
        self._taken.add(_parameters(body))
        for name in asked.keys() - body.keys():
            self._notes.setdefault(name, _note(name, asked[name]))


def _named(body: Mapping[str, Any], text: str) -> list[str]:
    """Parameters of a body that a refusal names, in the table's order; one only, if it says that it is about that."""
    named = [name for name in TABLE if name in body and re.search(rf"(?<!\w){name}(?!\w)", text)]
    about = [name for name in named if re.search(rf'"param(eter)?"\s*:\s*"{name}"', text)]
    return about or named


def _may_go(name: str, body: Mapping[str, Any]) -> bool:
    """Whether a request may be sent without it, or with its other name."""
    parameter = TABLE[name]
    if parameter.instead or parameter.left_out or body[name] in parameter.neutral:
        return True
    return parameter.greedy and body.get("temperature") == 0


def _parameters(body: Mapping[str, Any]) -> _Values:
    """What tells two bodies apart for a server: of a seed, that there is one."""
    return tuple((name, "" if name == "seed" else repr(body[name])) for name in TABLE if name in body)


def _without(body: Mapping[str, Any], gone: Sequence[str]) -> dict[str, Any]:
    """A body in which these parameters are left out, or have their other names."""
    names = {name: TABLE[name].instead if name in gone else name for name in body if name in TABLE}
    return {names.get(name, name): value for name, value in body.items() if names.get(name, name)}


def _note(name: str, value: Any) -> str:
    if TABLE[name].instead:
        return f"the server takes {TABLE[name].instead} in place of {name}"
    if TABLE[name].left_out:
        return f"the server refuses {name}: {TABLE[name].left_out}"
    return f"the server refuses {name}: left out, since {json.dumps(value)} changes nothing there"
