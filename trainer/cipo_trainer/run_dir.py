"""The folder of a training: one process holds it, and goes on with the run that is in it or is refused.

``train.json`` says what the run is: its configuration, the fingerprint of its data, and functions of the user's own.
It is compared before anything is loaded, and again when the data is known. From the command line and from Python a
training comes in through here.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cipo_eval import __version__
from cipo_eval.errors import UsageError
from cipo_eval.files import Writing, locked, unfinished, write_json, write_text
from cipo_eval.settings import explained, to_yaml
from cipo_eval.storage.facts import differences
from cipo_trainer.config import Config

RECORD = "train.json"
"""The file that says what the run is."""
CONFIGURATION = "config.yaml"
"""The file of the whole configuration, for people."""
LOCK = "train.lock"
"""The file that the process locks which holds the folder."""
_EARLY = {LOCK, CONFIGURATION, "new", ".new.partial"} | {
    unfinished(Path(name)).name for name in (RECORD, CONFIGURATION, "new")
}
"""What a process that is killed before ``train.json`` leaves behind, in this release or in 0.1.0."""
FREE = {
    "": {"steps", "stop", "output", "log", "checkpoint", "eval", "threads", "device", "parallel"},
    "reward": {"workers", "timeout"},
    "rollout": {"batch_tokens", "servers", "weights_dir", "server_timeout"},
    "data": {"dir"},
    "optimizer": {"micro_tokens", "chunk", "checkpointing", "stream_norms"},
}
"""Keys of a configuration, by section, that may change when a run goes on: how far, how fast, and what is looked at."""


class RunDir:
    """A training's folder while it is held."""

    def __init__(self, config: Config, record: Mapping[str, Any] | None) -> None:
        self.path = config.output
        self._config = config
        self._record = record

    def bind(self, data: str, functions: Mapping[str, str]) -> None:
        """Writes what the run is, with its whole configuration beside it.

        ``data``: the fingerprint of what is trained on. ``functions``: what identifies the user's own loss and
        advantage. Raises ``UsageError`` where the run that is there had others.
        """
        if self._record is not None:
            if self._record["data"] != data:
                raise UsageError(
                    f"{self.path} holds a run on other data than is there now: choose another output="
                )
            if changed := differences(self._record.get("functions", {}), functions):
                raise UsageError(
                    f"{self.path} holds a run with another function ({'; '.join(changed)}): choose another output="
                )
        record = {
            "version": __version__,
            "python": platform.python_version(),
            "data": data,
            "functions": dict(functions),
            "config": self._config.plain(),
        }
        with Writing(self.path):
            write_text(self.path / CONFIGURATION, to_yaml(self._config))
            write_json(self.path / RECORD, record)


@contextmanager
def held(config: Config, *, resume: bool = True) -> Iterator[RunDir]:
    """Holds the folder ``config.output``, which is made if it is not there, until the block ends.

    ``resume`` False: a run that is there already is refused. Raises ``UsageError`` where another process holds the
    folder, where it holds something else or a run of another configuration, and for a damaged ``train.json``.
    """
    _record(config, resume)  # nothing is written into a folder that is somebody else's
    busy = f"another process trains in {config.output}: wait for it, or choose another output="
    with ExitStack() as stack:
        with Writing(config.output):
            config.output.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(config.output / LOCK, busy))
        yield RunDir(config, _record(config, resume))  # what the process before us has left


def _record(config: Config, resume: bool) -> dict[str, Any] | None:
    """What the folder says of the run that is in it, checked against what is asked for; None for a new folder."""
    folder, place = config.output, config.output / RECORD
    if not place.is_file():
        if folder.is_dir() and {path.name for path in folder.iterdir()} - _EARLY:
            raise UsageError(f"{folder} is not empty and holds no training run: choose another output=")
        return None
    if not resume:
        raise UsageError(
            f"{folder} holds a run already, and it is not to go on (--no-resume): choose another output="
        )
    try:
        record: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        there = Config.model_validate(record["config"])
        _ = record["data"]
    except ValidationError as error:
        raise UsageError(f"{place} is damaged, or of another release ({explained(error, Config)})") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{place} is damaged ({error})") from error
    if changed := differences(_identity(there), _identity(config), complete=True):
        raise UsageError(
            f"{folder} holds a run with another configuration ({'; '.join(changed)}): "
            "choose another output=, or the same values"
        )
    return record


def _identity(config: Config) -> dict[str, Any]:
    """The part of a configuration that makes a run the run that it is."""
    values = {name: value for name, value in config.plain().items() if name not in FREE[""]}
    for section, free in FREE.items():
        if section and isinstance(values[section], dict):
            values[section] = {name: value for name, value in values[section].items() if name not in free}
    optimizer = config.optimizer
    if optimizer.schedule != "constant":  # which other steps would bend
        values["optimizer"]["decay_steps"] = optimizer.decay_steps or config.steps
    return values
