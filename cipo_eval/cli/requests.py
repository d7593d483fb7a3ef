"""Options of the commands that are made of a ``RunRequest``, generated from its fields; and the request of a call."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli.engine import engine_flags
from cipo_eval.cli.generate import Variant, option
from cipo_eval.cli.options import OUTPUT, SCOPE, SCORING
from cipo_eval.cli.progress import say

if TYPE_CHECKING:
    from cipo_eval.run.request import RunRequest

PANELS = {
    "task": SCOPE,
    "decoding": "Decoding",
    "turns": "Turns",
    "engine": "Engine",
    "scoring": SCORING,
    "output": OUTPUT,
}
"""The panel of the help for each section of a ``RunRequest``."""
_REQUIRED = {"model": ("engine", "model"), "tasks": ("task", "tasks"), "task": ("task", "tasks")}
"""The fields that options without a default set, by option."""


def parameters(
    fields: Sequence[str],
    variants: Mapping[str, Variant] | None = None,
    argument: inspect.Parameter | None = None,
) -> list[inspect.Parameter]:
    """The parameters of a command whose options set these fields of a ``RunRequest`` (``request.RUN`` and its like).

    ``variants``: by field, what this command says otherwise of an option. ``argument``: its argument, where it has one.
    Besides, a configuration file and ``key=value`` set the same fields.
    """
    from cipo_eval.run.request import ALIASES, RunRequest

    sections = {name: field.annotation for name, field in RunRequest.model_fields.items()}
    options = []
    for path in fields:
        section, _, name = path.partition(".")
        field = sections[section].model_fields[name]  # type: ignore[union-attr]  # every one is a Section
        variant = (variants or {}).get(path)
        complete = _tasks_from if path == "task.tasks" else None
        options.append(option(name, field, panel=PANELS[section], variant=variant, complete=complete))
        if path == "task.scope":
            options += [_alias(alias) for alias in ALIASES]
        if path == "engine.engine":
            options += engine_flags()
    required = [o for o in options if o.default is inspect.Parameter.empty]
    others = [o for o in options if o.default is not inspect.Parameter.empty]
    context = _parameter("context", typer.Context)
    return [
        context,
        *([argument] if argument else []),
        *_configuration(fields, [o.name for o in required]),
        *required,
        *others,
    ]


def _configuration(fields: Sequence[str], required: Sequence[str]) -> list[inspect.Parameter]:
    """The arguments ``key=value`` and the option ``--config``, read first: they may hold what is required."""

    def supply(context: typer.Context, file: Path | None, overrides: Sequence[str]) -> None:
        from cipo_eval.run.request import configured

        values = configured(file, overrides, fields)
        for name in required:
            section, field = _REQUIRED[name]
            if (value := values.get(section, {}).get(field)) is not None:
                context.default_map = {**(context.default_map or {}), name: str(value)}

    def read_file(context: typer.Context, value: Path | None) -> Path | None:
        supply(context, value, ())
        return value

    def read_overrides(context: typer.Context, value: list[str] | None) -> list[str] | None:
        supply(context, None, value or ())
        return value

    overrides = typer.Argument(
        metavar="KEY=VALUE",
        help="Over the configuration file, under the flags: decoding.samples=8, or samples=8.",
        is_eager=True,
        callback=read_overrides,
    )
    config = typer.Option(
        "--config",
        help="YAML file with the same names as the flags; flags win.",
        is_eager=True,
        callback=read_file,
        rich_help_panel=SCOPE,
    )
    return [
        _parameter("overrides", Annotated[list[str] | None, overrides], None),
        _parameter("config", Annotated[Path | None, config], None),
    ]


def _tasks_from(incomplete: str) -> list[str]:
    """Names of tasks and groups that the last of several names with commas may become."""
    from cipo_eval.data.definitions import ALL, GROUPS, task_names

    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in (*task_names(), *GROUPS, ALL) if name.startswith(last)]


def _alias(name: str) -> inspect.Parameter:
    """A flag of 0.1 that stands for a part of ``--scope``."""
    return _parameter(
        name, Annotated[str | None, typer.Option(f"--{name.replace('_', '-')}", hidden=True)], None
    )


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation, default=default)


def request_of(context: typer.Context, fields: Sequence[str], values: Mapping[str, Any]) -> RunRequest:
    """The request of a command line: ``values`` by parameter, of which those count that were given."""
    from cipo_eval.run.request import ALIASES, requested

    sources = {name: getattr(context.get_parameter_source(name), "name", "") for name in values}
    flags = {name: value for name, value in values.items() if sources[name] == "COMMANDLINE"}
    environment = {name: value for name, value in values.items() if sources[name] == "ENVIRONMENT"}
    file, overrides = values["config"], values["overrides"]
    for name in ("config", "overrides"):
        flags.pop(name, None)
    for name in flags.keys() & ALIASES.keys():
        say(f"--{name.replace('_', '-')} is going away: write --scope {ALIASES[name]}=…")
    return requested(file, overrides or (), flags, fields, environment)
