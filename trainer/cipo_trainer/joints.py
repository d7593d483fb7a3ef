"""Functions of the user's own in place of built-in ones: found by name, checked before anything is loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import fingerprint
from cipo_eval.settings import named_object


def imported(key: str, name: str, like: Callable[..., Any]) -> Callable[..., Any]:
    """The function ``package.module:function`` that the configuration's ``key`` names.

    Raises ``UsageError`` where there is none, or where it cannot be called as the built-in function ``like`` is.
    """
    function = named_object(name, key)
    if not callable(function):
        raise UsageError(f"{key}: {name} is not a function")
    expected = inspect.signature(like)
    by_position = [p.name for p in expected.parameters.values() if p.kind is not p.KEYWORD_ONLY]
    by_name = {p.name: None for p in expected.parameters.values() if p.kind is p.KEYWORD_ONLY}
    try:
        inspect.signature(function).bind(*by_position, **by_name)
    except (TypeError, ValueError) as error:
        taken = f"({', '.join([*by_position, *(['*', *by_name] if by_name else [])])})"
        raise UsageError(f"{key}: {name} must take {taken}: {error}") from error
    checked: Callable[..., Any] = function
    return checked


def described(name: str, function: Callable[..., Any]) -> str:
    """What identifies a function of the user's own: its name, and a fingerprint of its text where that is there."""
    try:
        return f"{name} {fingerprint(inspect.getsource(function))}"
    except (OSError, TypeError):
        return name
