"""The base class of a configuration's sections, and where the presets are."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def config_dir() -> Path:
    """The presets: in the checkout, or shipped in the package."""
    shipped = Path(str(resources.files("cipo_trainer"))) / "configs_data"
    return shipped if shipped.is_dir() else Path(__file__).resolve().parent.parent / "configs"


def _beside(path: Path | None) -> Path | None:
    """A folder that is not here may be one of the presets'."""
    if path is not None and not path.is_dir() and (config_dir() / path).is_dir():
        return config_dir() / path
    return path


Beside = Annotated[Path | None, AfterValidator(_beside)]


class Section(BaseModel):
    """Frozen, without unknown keys, documented by docstrings."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, protected_namespaces=()
    )
