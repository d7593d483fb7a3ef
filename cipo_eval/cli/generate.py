"""Options of commands, generated from the settings models whose fields they set: an option is declared once, there.

A field's name is the flag, its type what the flag takes, its docstring the help, its constraints the range; what
else there is to say of it stands in its ``settings.Flag``.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


ARGUMENTS = "cipo_eval.arguments"
"""Where a deferred command's context has its words as they were given, in our spelling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What one command says otherwise of an option that several commands have; what is None or empty stays."""

    help: str | None = None
    names: tuple[str, ...] = ()
    """Its flags, the long one first."""
    panel: str | None = None
    """The panel of the help that lists it."""
    minimum: int | None = None
    """The least value that it takes."""
    unset: bool = False
    """The option has no default here: its help says what the command does without it."""


def option(
    name: str,
    field: FieldInfo,
    *,
    panel: str | None = None,
    help: str | None = None,
    variant: Variant | None = None,
    complete: Callable[[str], list[str]] | None = None,
) -> inspect.Parameter:
    """The option that sets one field; ``help`` in place of its docstring.

    ``panel``: that of the help which lists it. ``variant``: what a command says otherwise. ``complete``: what a shell
    may put in place of the beginning of a value. The parameter is for a function that typer is to call, and is named as
    the flag is, not as the field.
    """
    from cipo_eval.settings import flag_of

    flag, variant = flag_of(field), variant or Variant()
    panel = next(place for place in (variant.panel, flag.panel, panel, "") if place is not None)
    names = variant.names or flag.names or (f"--{name.replace('_', '-')}",)
    written = _written_as(field.annotation, repeatable=flag.repeatable)
    default = inspect.Parameter.empty if flag.required else _default(field, repeatable=flag.repeatable)
    if _is_boolean(written) and default is not False and "/" not in names[0]:
        names = (f"{names[0]}/--no-{names[0].removeprefix('--')}", *names[1:])
    if variant.unset:
        written, default = written | None, None
    low, high = (None, None) if flag.range else _range(field)
    option = typer.Option(
        *names,
        help=escaped(help or variant.help or field.description or ""),
        min=variant.minimum if variant.minimum is not None else low,
        max=high,
        envvar=flag.variable,
        autocompletion=complete,
        rich_help_panel=panel or None,
    )
    return inspect.Parameter(
        parameter_name(names),
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[written, option],
    )


def parameter_name(names: tuple[str, ...]) -> str:
    """The parameter of a function that an option's value goes to, by the option's long name."""
    return names[0].partition("/")[0].removeprefix("--").replace("-", "_")


def escaped(text: str) -> str:
    """A help text whose brackets rich does not take for its markup, on one line."""
    return re.sub(r"\[(?=[a-z#/@])", r"\\[", " ".join(text.split()))


def _written_as(annotation: Any, *, repeatable: bool) -> Any:
    """The type of what stands behind a flag: of several values, text with commas, or a list of a repeated flag's."""
    if get_origin(annotation) in (Union, UnionType):
        types = [
            _written_as(part, repeatable=repeatable) for part in get_args(annotation) if part is not NoneType
        ]
        return types[0] | None
    if get_origin(annotation) is Annotated:
        return _written_as(get_args(annotation)[0], repeatable=repeatable)
    if get_origin(annotation) in (list, tuple, dict, Mapping) or annotation in (list, tuple, dict, Mapping):
        return list[str] if repeatable else str
    return annotation


def _is_boolean(written: Any) -> bool:
    return written is bool or bool in get_args(written)


def _default(field: FieldInfo, *, repeatable: bool) -> Any:
    value = field.get_default(call_default_factory=True)
    if isinstance(value, list | tuple | Mapping):
        return list(value) if repeatable and value else ",".join(map(str, value)) or None
    return value


def _range(field: FieldInfo) -> tuple[float | None, float | None]:
    """The least and the greatest value, both included."""
    low = next((entry.ge for entry in field.metadata if hasattr(entry, "ge")), None)
    high = next((entry.le for entry in field.metadata if hasattr(entry, "le")), None)
    return low, high


def add(
    app: typer.Typer,
    function: Callable[..., None],
    parameters: Callable[[], list[inspect.Parameter]] | None = None,
    *,
    rewritten: Callable[[Sequence[str], Sequence[Any]], list[str]] | None = None,
) -> None:
    """Makes a function a command, whose options are read off it, or made of models, when it is called or asked for its
    help. The list of all commands does without them, which saves a tenth of its time.

    ``parameters``: what the function takes; by default what its signature says. ``rewritten``: makes of the words of a
    line, and the command's parameters, the words that are parsed (``aliases``).
    """

    def empty() -> None:
        """As much as the list of commands shows."""

    empty.__name__, empty.__doc__ = function.__name__, function.__doc__
    app.command(cls=_deferred(function, parameters or (lambda: _signed(function)), rewritten))(empty)


def parameters_of(options: type) -> list[inspect.Parameter]:
    """The parameters of a command whose options are the fields of a dataclass, each annotated as typer wants it
    (``Annotated[type, typer.Option(…)]``). The command makes the dataclass of the values that it is called with.
    """
    hints = get_type_hints(options, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(options)
    ]


def _signed(function: Callable[..., None]) -> list[inspect.Parameter]:
    return list(inspect.signature(function, eval_str=True).parameters.values())


def _deferred(
    function: Callable[..., None],
    parameters: Callable[[], list[inspect.Parameter]],
    rewritten: Callable[[Sequence[str], Sequence[Any]], list[str]] | None,
) -> type[TyperCommand]:
    class Deferred(TyperCommand):
        _parameters: list[Any] | None = None

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if not ctx.resilient_parsing:
                args = self.in_our_words(args)
            ctx.meta[ARGUMENTS] = list(args)
            return super().parse_args(ctx, args)

        def in_our_words(self, args: Sequence[str]) -> list[str]:
            """The words of a line as they are parsed."""
            return list(args) if rewritten is None else rewritten(args, self.params)

        @property
        def params(self) -> list[Any]:  # an attribute there
            if self._parameters is None:
                made = _command(function, parameters())
                self._parameters, self.callback = made.params, made.callback
            return self._parameters

        @params.setter
        def params(self, value: list[Any]) -> None:
            """What typer reads off a function that takes nothing."""

    return Deferred


def _command(function: Callable[..., None], parameters: list[inspect.Parameter]) -> Any:
    """The command that typer makes of a function with these parameters."""

    def call(**values: Any) -> None:
        function(**values)

    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    call.__doc__, call.__name__ = function.__doc__, function.__name__
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    app.command()(call)
    return typer.main.get_command(app)
