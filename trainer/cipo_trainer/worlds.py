"""The families of synthetic problems by name, each made by its dial: no data is needed for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from cipo_eval.errors import UsageError, nearest
from cipo_trainer.arithmetic import Arithmetic
from cipo_trainer.chains import Chains
from cipo_trainer.countdown import Countdown
from cipo_trainer.families import Family
from cipo_trainer.programs import Programs

if TYPE_CHECKING:
    from cipo_trainer.config import Config

FAMILIES: Mapping[str, type[Family]] = {
    family.name: family for family in (Arithmetic, Chains, Countdown, Programs)
}
NEW = "new:"


def family(name: str, dial: Mapping[str, Any] | None = None) -> Family:
    """Raises ``UsageError`` for a name or a dial that there is none of."""
    if name not in FAMILIES:
        raise UsageError(f"there is no family {name}: {nearest(name, FAMILIES)}")
    try:
        return FAMILIES[name].model_validate(dict(dial or {}))
    except ValidationError as error:
        found = error.errors()[0]
        key = ".".join(map(str, found["loc"]))
        if found["type"] == "extra_forbidden":
            known = list(FAMILIES[name].model_fields)
            raise UsageError(f"data.dial: {name} has no {key}; {nearest(key, known)}") from error
        raise UsageError(f"data.dial: {key}: {found['msg']}") from error


def new_model(config: Config) -> Family:
    """The family for whose words ``model: new:NAME`` is made; with the dial of the data where that is the same one."""
    name = config.model.removeprefix(NEW)
    if name not in FAMILIES:
        known = ", ".join(f"{NEW}{known}" for known in FAMILIES)
        raise UsageError(f"model: there is no {config.model}; known: {known}")
    return family(name, config.data.dial if config.data.generator == name else None)
