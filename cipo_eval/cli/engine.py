"""The flags of engines, made from the options models of the registry."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from cipo_eval.cli.generate import Generated, option
from cipo_eval.cli.options import ENGINE
from cipo_eval.engines import registry
from cipo_eval.settings import overridden

EngineName = Annotated[
    str,
    typer.Option(
        "--engine",
        help="Where completions come from: hf, vllm, openai, lm-eval:NAME, replay, or your own package.module:Class.",
        rich_help_panel=ENGINE,
    ),
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option(
        "--engine-option",
        help="An option of the engine, also of your own one: key=value; may be repeated.",
        rich_help_panel=ENGINE,
    ),
]


def engine_flags() -> list[Generated]:
    """A flag for each option of a built-in engine; its help begins with the engines that have it."""
    flags = []
    for name, owners in registry.flags().items():
        fields = {owner: registry.field(owner, name) for owner in owners}
        texts: dict[str, list[str]] = {}
        for owner, field in fields.items():
            texts.setdefault(field.description or "", []).append(owner)
        help = " ".join(f"{', '.join(engines)}: {text}" for text, engines in texts.items())
        flags.append(option(name, next(iter(fields.values())), panel=ENGINE, help=help))
    return flags


def chosen(
    engine: str, model: str, flags: Mapping[str, Any], pairs: Sequence[str] | None, *, think: str
) -> registry.EngineChoice:
    """The engine that a command line asks for: ``flags`` by option, those at their defaults included; ``pairs``:
    key=value, which win over flags. Raises ``UsageError``."""
    defaults = {flag.name: flag.default for flag in engine_flags()}
    values = {name: value for name, value in flags.items() if value != defaults[name]}
    options = registry.options(engine, overridden(values, list(pairs or ())))
    return registry.EngineChoice(engine=engine, model=model, options=options, think=think)


def frozen_clock(folder: Path) -> datetime:
    """The time of a run directory's first call, which chat templates that write the date are told in all later ones;
    in a new directory, now. Raises ``UsageError`` for a ``run.json`` that cannot be read."""
    from cipo_eval.storage.store import read_info

    if (folder / "run.json").is_file():
        info = read_info(folder)
        with suppress(AttributeError, KeyError, TypeError, ValueError):  # of no use: the engine will differ
            return datetime.fromisoformat(info["engine"].get("clock") or info["created"])
    return datetime.now(UTC).replace(microsecond=0)
