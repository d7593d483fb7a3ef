"""Configurations as they are written: YAML files, and ``key=value`` on the command line over them.

One mechanism for a run and for a training: pydantic models whose fields' docstrings are their help. A file may
``include:`` another one that it starts from.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from cipo_eval.errors import UsageError, nearest, reason


def named_object(name: str, option: str) -> Any:
    """What ``package.module:object`` names: how users' own engines, protocols, figures, losses and readers are found.

    Modules of the working directory count, after all that are installed. Raises ``UsageError`` that begins with
    ``option``.
    """
    module, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.append("")
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
            text = yaml.safe_dump(plain, default_flow_style=True, width=10_000, allow_unicode=True).strip()
            yield f"{pad}{label}: {text.removesuffix('...').strip()}"


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
