"""A training's configuration: presets by name, files, and the defaults of its algorithm.

``algorithm`` names defaults of the sections ``advantage``, ``loss`` and ``correction`` (``algorithms``); what is
written out wins over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cipo_eval.data.tasks import load_spec
from cipo_eval.errors import UsageError, nearest
from cipo_eval.settings import explained, merged, overridden, read_yaml, to_yaml
from cipo_trainer.algorithms import ALGORITHMS
from cipo_trainer.config import Config
from cipo_trainer.sections import config_dir
from cipo_trainer.worlds.registry import family


def load(source: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration of a YAML file, or of a preset by name, with ``key.key=value`` over it.

    Raises ``UsageError`` for files that are not there, unknown keys (with the nearest known) and wrong values.
    """
    return build(overridden(read_yaml(_find(source)), overrides))


def presets() -> dict[str, Path]:
    """By name, the files of the configurations that come with the package."""
    return {path.stem: path for path in sorted(config_dir().glob("*.yaml"))}


def definition(task: str) -> str | Path:
    """Where the definition of ``data.task`` is: one that comes with the trainer, or what the harness knows."""
    shipped = config_dir() / "data" / f"{task}.yaml"
    return shipped if shipped.is_file() else task


def verifier_of(config: Config) -> str:
    """The verifier that judges a configuration's problems, without reading them. Raises ``UsageError``."""
    data = config.data
    if data.generator:
        return family(data.generator, data.dial).verifier
    return load_spec(definition(data.task)).verifier if data.task else "math"


def printed(config: Config) -> str:
    """The whole configuration as a file, documented, with the sources of its data as a comment at the end."""
    return to_yaml(config) + "".join(f"# {line}\n" for line in _sources(config))


def _sources(config: Config) -> list[str]:
    if not config.data.task:
        return []
    spec = load_spec(definition(config.data.task))
    lines = [f"where the rows of {spec.name} come from, the first that is here:"]
    for source in spec.own.sources:
        if source.kind == "hub":
            pinned = f"at {source.revision}" if source.revision else "at its head: no commit is known"
            place = f"{source.repo} {pinned}, {', '.join(source.files)}"
        else:
            place = f"{source.package} {source.path}".strip()
        lines.append(f"  {source.kind}: {place}")
    labels = [f"{fingerprint} ({label})" for fingerprint, label in spec.fingerprints.items()]
    return [*lines, f"  reference content: {'; '.join(labels)}"] if labels else lines


def build(values: Mapping[str, Any]) -> Config:
    """A configuration of plain values, with its algorithm's defaults below them. Raises ``UsageError``."""
    name = values.get("algorithm", "grpo")
    defaults = ALGORITHMS.get(name, {}) if isinstance(name, str) else {}
    if "correction" in values and values["correction"] is None:
        defaults = {k: v for k, v in defaults.items() if k != "correction"}
    try:
        return Config.model_validate(merged(defaults, values))
    except ValidationError as error:
        raise UsageError(explained(error, Config)) from error


def _find(source: str | Path) -> Path:
    path = Path(source)
    if path.is_file():
        return path
    if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
        raise UsageError(f"there is no configuration {path}")
    shipped = presets()
    if str(source) not in shipped:
        raise UsageError(f"no preset is named {source}: {nearest(str(source), shipped)}")
    return shipped[str(source)]
