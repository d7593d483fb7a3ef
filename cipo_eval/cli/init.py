"""``cipo-eval init``: a configuration file for ``run`` with every key, its help and its default."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from cipo_eval.cli.progress import say
from cipo_eval.errors import UsageError, reason

_WIDTH = 110
_HEAD = """\
# What `cipo-eval run --config {file}` does. Each key is a flag of `cipo-eval run` and has its default here: take the
# # before it away to set it. Flags, and key=value, on the command line win. null: not set.
"""
_File = Annotated[Path, typer.Argument(metavar="[FILE]", help="The file; one that is there stays as it is.")]
_Model = Annotated[str, typer.Option("--model", "-m", help="Checkpoint that it names.")]
_Tasks = Annotated[str, typer.Option("--tasks", "-t", help="Tasks that it names.")]


def init(file: _File = Path("run.yaml"), model: _Model = "CHECKPOINT", tasks: _Tasks = "arithmetic") -> None:
    """Write a configuration file for `run`: every key with its help, commented out at its default."""
    text = configuration(file.name, model, tasks)
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError:
        raise UsageError(f"{file} is there already: name another file, or remove it") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be written ({reason(error)})") from error
    say(f"written: {file}; then: cipo-eval run --config {file}")


def configuration(file: str, model: str, tasks: str) -> str:
    """The text of the file, whose own name stands in its head; ``model`` and ``tasks`` are what it sets."""
    from cipo_eval.run.request import RUN, RunRequest, flag_name
    from cipo_eval.settings import flag_of

    given: dict[str, Any] = {"engine.model": model, "task.tasks": tasks}
    lines = [_HEAD.format(file=file)]
    for section, part in RunRequest.model_fields.items():
        lines += [*_help(part.description, ""), f"{section}:"]
        fields = part.annotation.model_fields  # type: ignore[union-attr]  # every one is a Section
        for name in fields:
            path = f"{section}.{name}"
            if path == "engine.options":
                lines += _engine_options()
            elif path in RUN:
                names = [flag for flag in flag_of(fields[name]).names if flag.startswith("--")]
                key = flag_name(names[0]) if names else name
                value = given.get(path, fields[name].get_default(call_default_factory=True))
                lines += _help(fields[name].description)
                lines.append(f"  {'' if path in given else '#'}{key}: {_written(value)}")
        lines.append("")
    return "\n".join(lines)


def _engine_options() -> Iterator[str]:
    """The options of all built-in engines, each with the engines that have it."""
    from cipo_eval.engines import registry

    for name, owners in registry.flags().items():
        field = registry.field(owners[0], name)
        yield from _help(f"{', '.join(owners)}: {field.description or ''}")
        yield f"  #{name}: {_written(field.get_default(call_default_factory=True))}"


def _written(value: Any) -> str:
    """A default; of a list without an entry, that it is not set."""
    from cipo_eval.settings import yaml_value

    return yaml_value(None if value in ((), []) else value)


def _help(text: str | None, pad: str = "  ") -> list[str]:
    mark = f"{pad}# "
    return textwrap.wrap(" ".join((text or "").split()), _WIDTH, initial_indent=mark, subsequent_indent=mark)
