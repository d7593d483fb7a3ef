"""Configurations as they are written: YAML files, and ``key=value`` on the command line over them.

One mechanism for a run and for a training: pydantic models whose fields' docstrings are their help. A file may
``include:`` another one that it starts from.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from cipo_eval.errors import UsageError, nearest, reason

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails


class Section(BaseModel):
    """A part of a configuration: frozen, without unknown keys, documented by its fields' docstrings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        protected_namespaces=(),
        coerce_numbers_to_str=True,
        defer_build=True,  # the help of a command reads fields, and validates nothing
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How a field is written on a command line, as far as its name, type and docstring do not say it.

    It stands in the field's ``Annotated``; ``cipo_eval.cli.generate`` makes the option of it.
    """

    names: tuple[str, ...] = ()
    """The long name and short ones (``--output``, ``-o``); by default the field's name."""
    panel: str | None = None
    """The panel of the help that the option is in, empty for the first one; by default that of its section."""
    range: str = ""
    """The field's constraints in words, which ``refused`` uses in place of pydantic's."""
    variable: str | None = None
    """The environment variable that holds the value where the line does not give it."""
    repeatable: bool = False
    """A list is written by repeating the flag; by default with commas."""
    required: bool = False
    """A command does not begin without it, whatever the field's default."""


def flag_of(field: FieldInfo) -> Flag:
    """The ``Flag`` of a field; one without anything special where it declares none."""
    return next((entry for entry in field.metadata if isinstance(entry, Flag)), Flag())


def named_object(name: str, option: str) -> Any:
    """What ``package.module:object`` names: how users' own engines, protocols, figures, losses and readers are found.

    The module may be in the working directory. Raises ``UsageError`` that begins with ``option``.
    """
    module, _, attribute = name.partition(":")
    if not {"", str(Path.cwd())}.intersection(sys.path):
        sys.path.append("")  # last: it is in nobody's way
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        raise UsageError(f"{option}: there is no {name} (module:object): {error}") from error


def overridden(values: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Values with ``key.key=value`` put into them. Raises ``UsageError``."""
    for text in overrides:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise UsageError(f"{text!r} is not of the form key=value")
        try:
            _put(values, key.split("."), yaml.safe_load(value))
        except (yaml.YAMLError, RecursionError) as error:
            raise UsageError(f"{text[:80]!r}: the value is no YAML ({reason(error)})") from error
    return values


def to_yaml(config: BaseModel, *, documented: bool = True) -> str:
    """The whole configuration; with each field's documentation as a comment."""
    return "\n".join(_lines(config, 0, documented)) + "\n"


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """One tree of values over another."""
    tree = dict(base)
    for key, value in over.items():
        below = tree.get(key)
        nested = isinstance(value, Mapping) and isinstance(below, Mapping)
        tree[key] = merged(below, value) if nested else value  # type: ignore[arg-type]  # both are mappings
    return tree


def _lines(section: BaseModel, depth: int, documented: bool) -> Iterable[str]:
    pad = "  " * depth
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if documented and field.description:
            yield from (f"{pad}# {line}" for line in " ".join(field.description.split()).splitlines())
        if isinstance(value, BaseModel):
            yield f"{pad}{name}:"
            yield from _lines(value, depth + 1, documented)
        else:
            label = field.alias or name
            plain = section.model_dump(mode="json", include={name}, by_alias=True)[label]
            yield f"{pad}{label}: {yaml_value(plain)}"


def yaml_value(value: Any) -> str:
    """A value as it stands behind its key, on one line."""
    plain = to_jsonable_python(value)
    text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True).strip()
    return text.removesuffix("...").strip()


def read_yaml(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The values of a file, over those of the one that it includes. Raises ``UsageError``."""
    if path in seen:
        raise UsageError(f"{path} includes itself")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {reason(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"{path} must hold keys and values")
    include = values.pop("include", None)
    if include is None:
        return values
    return merged(read_yaml(path.parent / str(include), (*seen, path)), values)


def _put(values: dict[str, Any], keys: Sequence[str], value: Any) -> None:
    for key in keys[:-1]:
        below = values.get(key)
        values[key] = below if isinstance(below, dict) else {}
        values = values[key]
    values[keys[-1]] = value


def explained(error: ValidationError, root: type[BaseModel]) -> str:
    """What is wrong with which key of a configuration of class ``root``."""
    lines = []
    for problem in error.errors():
        place = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            known = _fields_at(root, problem["loc"][:-1])
            lines.append(f"{place}: there is no such key; {nearest(str(problem['loc'][-1]), known)}")
        else:
            lines.append(f"{place or 'configuration'}: {problem['msg'].removeprefix('Value error, ')}")
    return "\n".join(lines)


def refused(error: ValidationError, root: type[BaseModel]) -> str:
    """What is wrong with which flag of a command whose options set the fields of ``root``, in one line."""
    return "; ".join(_refused(entry, root) for entry in error.errors())


def _refused(entry: ErrorDetails, root: type[BaseModel]) -> str:
    model, place = root, list(entry["loc"])
    name = ""
    while place and (field := model.model_fields.get(str(place[0]))) is not None:
        name = str(place.pop(0))
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
            flag = flag_of(field)
            shown = flag.names[0].partition("/")[0] if flag.names else f"--{name.replace('_', '-')}"
            bounded = entry["type"].startswith(("greater_than", "less_than", "finite_number"))
            told = flag.range if flag.range and bounded else entry["msg"].removeprefix("Value error, ")
            return f"{shown} {str(entry['input'])[:80]}: {told}"
        model = field.annotation
    if entry["type"] == "extra_forbidden":
        return f"there is no {'.'.join(map(str, entry['loc']))}: {nearest(str(place[0]), model.model_fields)}"
    return f"{name or 'configuration'}: {entry['msg'].removeprefix('Value error, ')}"


def _fields_at(root: type[BaseModel], place: Sequence[int | str]) -> list[str]:
    section: Any = root
    for part in place:
        field = section.model_fields.get(part)
        if field is None:  # an entry of a mapping
            continue
        options = getattr(field.annotation, "__args__", None) or (field.annotation,)
        section = next(
            option for option in options if isinstance(option, type) and issubclass(option, BaseModel)
        )
    return [field.alias or name for name, field in section.model_fields.items()]
