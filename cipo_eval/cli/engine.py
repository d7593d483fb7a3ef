"""The flags of engines, made from the options models of the registry."""

from __future__ import annotations

import inspect

from cipo_eval.cli.generate import option


def engine_flags(panel: str = "Engine") -> list[inspect.Parameter]:
    """A flag for each option of a built-in engine; its help begins with the engines that have it."""
    from cipo_eval.engines import registry

    flags = []
    for name, owners in registry.flags().items():
        fields = {owner: registry.field(owner, name) for owner in owners}
        texts: dict[str, list[str]] = {}
        for owner, field in fields.items():
            texts.setdefault(field.description or "", []).append(owner)
        help = " ".join(f"{', '.join(engines)}: {text}" for text, engines in texts.items())
        flags.append(option(name, next(iter(fields.values())), panel=panel, help=help))
    return flags
