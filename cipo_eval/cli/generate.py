"""Command-line options from pydantic models: an option is declared once, as a field with its docstring.

The docstring is the help; the type, the default and the bounds (``ge``, ``le``) are the field's. ``bool`` is a switch
(``--name``), ``bool | None`` a pair (``--name/--no-name``), a list an option that may be repeated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any, NamedTuple, TypeVar

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

Function = TypeVar("Function", bound=Callable[..., Any])


class Generated(NamedTuple):
    """An option as a parameter of a command."""

    name: str
    annotation: Any
    """``Annotated`` with typer's ``Option``."""
    default: Any


def options_of(model: type[BaseModel], *, panel: str | None = None) -> list[Generated]:
    """An option for each field of a model."""
    return [option(name, field, panel=panel) for name, field in model.model_fields.items()]


def option(name: str, field: FieldInfo, *, panel: str | None = None, help: str | None = None) -> Generated:
    """The option of one field; ``help``: in place of its docstring."""
    flag = f"--{name.replace('_', '-')}"
    if field.annotation == bool | None:
        flag = f"{flag}/--no-{name.replace('_', '-')}"
    bounds = {
        kind: getattr(part, kind) for part in field.metadata for kind in ("ge", "le") if hasattr(part, kind)
    }
    info = typer.Option(
        flag,
        min=bounds.get("ge"),
        max=bounds.get("le"),
        help=" ".join((help or field.description or "").split()),
        rich_help_panel=panel,
    )
    return Generated(name, Annotated[field.annotation, info], field.get_default(call_default_factory=True))


def with_options(options: Iterable[Generated]) -> Callable[[Function], Function]:
    """A command whose ``**keywords`` are these options."""

    def decorated(function: Function) -> Function:
        signature = inspect.signature(function, eval_str=True)
        written = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
        generated = [
            inspect.Parameter(
                o.name, inspect.Parameter.KEYWORD_ONLY, annotation=o.annotation, default=o.default
            )
            for o in options
        ]
        function.__signature__ = signature.replace(parameters=[*written, *generated])  # type: ignore[attr-defined]
        return function

    return decorated
