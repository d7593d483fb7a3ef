"""The families of synthetic problems by name, each made by its dial: no data is needed for them.

``python -m cipo_trainer.worlds.registry chains tasks/chains.jsonl`` writes a family's evaluation items.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cipo_eval.errors import UsageError, nearest
from cipo_trainer.worlds.arithmetic import Arithmetic
from cipo_trainer.worlds.chains import Chains
from cipo_trainer.worlds.countdown import Countdown
from cipo_trainer.worlds.family import Family
from cipo_trainer.worlds.programs import Programs

if TYPE_CHECKING:
    from cipo_trainer.config import Config

FAMILIES: Mapping[str, type[Family]] = {
    family.name: family for family in (Arithmetic, Chains, Countdown, Programs)
}
NEW = "new:"
"""How ``model`` begins in a configuration where a new one is made for a family's words."""


def family(name: str, dial: Mapping[str, Any] | None = None) -> Family:
    """The family of this name with this dial. Raises ``UsageError`` for a name or a dial that there is none of."""
    if name not in FAMILIES:
        raise UsageError(f"there is no family {name}: {nearest(name, FAMILIES)}")
    try:
        return FAMILIES[name].model_validate(dict(dial or {}))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            fields = list(FAMILIES[name].model_fields)
            raise UsageError(f"data.dial: {name} has no {key}; {nearest(key, fields)}") from error
        raise UsageError(f"data.dial: {key}: {first['msg']}") from error


def new_model(config: Config) -> Family:
    """The family for whose words ``model: new:NAME`` is made; with the dial of the data where that is the same one."""
    name = config.model.removeprefix(NEW)
    if name not in FAMILIES:
        models = ", ".join(f"{NEW}{family_name}" for family_name in FAMILIES)
        raise UsageError(f"model: there is no {config.model}; known: {models}")
    return family(name, config.data.dial if config.data.generator == name else None)


def main() -> None:
    """``FAMILY PATH``: writes the evaluation items of a family's default dial."""
    parser = argparse.ArgumentParser(prog="python -m cipo_trainer.worlds.registry", description=main.__doc__)
    parser.add_argument("family", choices=list(FAMILIES))
    parser.add_argument("path", type=Path)
    arguments = parser.parse_args()
    family(arguments.family).write_items(arguments.path)


if __name__ == "__main__":
    main()
