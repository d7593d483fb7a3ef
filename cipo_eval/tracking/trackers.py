"""The trackers, each behind the same four methods."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from cipo_eval.errors import CipoError, MissingError, UsageError, nearest

PROJECT = "cipo-eval"
"""The project (MLflow: experiment) of runs that name none."""


class Tracker(Protocol):
    """Where the figures of one run go."""

    ident: str
    """What the tracker calls the run, by which it goes on (``opened``)."""

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Figures by name, at a step (an evaluation has one, 0)."""
        ...

    def artifact(self, paths: Sequence[Path]) -> None:
        """Keeps files beside the figures, where the tracker keeps files."""
        ...

    def close(self) -> None:
        """Writes out what is left."""
        ...


class _Wandb:
    def __init__(self, project: str, name: str, folder: Path, config: Mapping[str, Any], ident: str) -> None:
        self._wandb = _module("wandb", "wandb")
        self._name = name
        self._run = self._wandb.init(
            project=project, name=name, dir=str(folder), config=dict(config), id=ident or None, resume="allow"
        )
        self.ident = str(self._run.id)

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def artifact(self, paths: Sequence[Path]) -> None:
        kept = self._wandb.Artifact(re.sub(r"[^\w.-]+", "-", self._name), type="cipo-eval")
        for path in paths:
            kept.add_file(str(path))
        self._run.log_artifact(kept)

    def close(self) -> None:
        self._run.finish()


class _Trackio:
    """Keeps numbers and configurations; files have no place in it."""

    def __init__(self, project: str, name: str, folder: Path, config: Mapping[str, Any], ident: str) -> None:  # noqa: ARG002
        self.ident = name  # a run of its goes on by its name
        self._run = _module("trackio", "trackio").init(
            project=project,
            name=name,
            config=dict(config),
            resume="allow",
            embed=False,
            auto_log_cpu=False,
            auto_log_gpu=False,
        )

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        self._run.log(dict(numbers), step=step)

    def artifact(self, paths: Sequence[Path]) -> None:
        """Nothing."""

    def close(self) -> None:
        self._run.finish()


class _TensorBoard:
    """Event files in ``tensorboard`` of the run's folder; the configuration as a text. Needs no torch."""

    def __init__(self, project: str, name: str, folder: Path, config: Mapping[str, Any], ident: str) -> None:  # noqa: ARG002
        self.ident = "tensorboard"  # all files of a folder are a run
        writer = _module("tensorboard.summary.writer.event_file_writer", "tensorboard")
        self._summary = importlib.import_module("tensorboard.compat.proto.summary_pb2")
        self._event = importlib.import_module("tensorboard.compat.proto.event_pb2").Event
        self._writer = writer.EventFileWriter(str(folder / "tensorboard"))
        tensor = importlib.import_module("tensorboard.compat.proto.tensor_pb2").TensorProto
        text = f"```json\n{json.dumps(config, indent=1, default=str)}\n```"
        metadata = self._summary.SummaryMetadata()
        metadata.plugin_data.plugin_name = "text"
        value = self._summary.Summary.Value(
            tag="config", metadata=metadata, tensor=tensor(dtype="DT_STRING", string_val=[text.encode()])
        )
        self._add([value], 0)

    def _add(self, values: list[Any], step: int) -> None:
        summary = self._summary.Summary(value=values)
        self._writer.add_event(self._event(step=step, wall_time=time.time(), summary=summary))

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        value = self._summary.Summary.Value
        self._add([value(tag=name, simple_value=number) for name, number in numbers.items()], step)

    def artifact(self, paths: Sequence[Path]) -> None:
        """Nothing: TensorBoard shows event files."""

    def close(self) -> None:
        self._writer.close()


class _Mlflow:
    def __init__(self, project: str, name: str, folder: Path, config: Mapping[str, Any], ident: str) -> None:  # noqa: ARG002
        self._mlflow = _module("mlflow", "mlflow")
        self._mlflow.set_experiment(project)
        with contextlib.suppress(self._mlflow.MlflowException):  # of a store that is not this one
            self._mlflow.start_run(run_id=ident or None, run_name=name)
        if (run := self._mlflow.active_run()) is None:
            run = self._mlflow.start_run(run_name=name)
        self.ident = str(run.info.run_id)
        self._mlflow.log_text(json.dumps(config, indent=1, default=str), "config.json")

    def log(self, numbers: Mapping[str, float], step: int) -> None:
        """Names lose what MLflow does not take: ``pass@1`` is ``pass_1``."""
        plain = {re.sub(r"[^\w\-. :/]", "_", name): number for name, number in numbers.items()}
        self._mlflow.log_metrics(plain, step=step)

    def artifact(self, paths: Sequence[Path]) -> None:
        for path in paths:
            self._mlflow.log_artifact(str(path))

    def close(self) -> None:
        self._mlflow.end_run()


TRACKERS: dict[str, Any] = {
    "wandb": _Wandb,
    "trackio": _Trackio,
    "tensorboard": _TensorBoard,
    "mlflow": _Mlflow,
}
"""By the name that ``--track`` takes."""
_MODULES = {"wandb": "wandb", "trackio": "trackio", "tensorboard": "tensorboard", "mlflow": "mlflow"}


def named(text: str) -> tuple[str, str]:
    """Tracker and project of ``wandb`` or ``wandb:PROJECT``. Raises ``UsageError``."""
    name, _, project = text.partition(":")
    if name not in TRACKERS:
        raise UsageError(f"--track {text}: {nearest(name, TRACKERS)}")
    return name, project or PROJECT


def check(asked: Sequence[str]) -> None:
    """Raises ``UsageError`` or ``MissingError`` for what cannot be tracked with, before anything is done."""
    for text in asked:
        name, _ = named(text)
        if importlib.util.find_spec(_MODULES[name]) is None:
            raise _missing(name)


def opened(
    asked: Sequence[str],
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    idents: Mapping[str, str] = MappingProxyType({}),
) -> list[Tracker]:
    """A tracker for each that is asked for (``named``). ``name``: the run's; ``folder``: where local files go;
    ``config``: what the run was asked, plain values; ``idents``: of runs that go on, by what is asked for. Raises
    ``UsageError``, ``MissingError``."""
    check(asked)
    return [
        TRACKERS[named(one)[0]](named(one)[1], name, folder, config, idents.get(one, "")) for one in asked
    ]


def record(
    asked: Sequence[str],
    name: str,
    folder: Path,
    config: Mapping[str, Any],
    numbers: Mapping[str, float],
    files: Sequence[Path] = (),
) -> list[str]:
    """Figures that are done, in each tracker (``opened``), with files beside them. What a tracker could not take is a
    line of what is returned, and no error: the figures lie on the disk, and nothing of them is lost."""
    failures = []
    for text in asked:
        try:
            for tracker in opened([text], name, folder, config):
                try:
                    tracker.log(numbers, 0)
                    tracker.artifact(files)
                finally:
                    tracker.close()
        except CipoError:
            raise
        except (
            Exception
        ) as error:  # a server that is not there, a key that is wrong: whatever the package raises
            failures.append(f"--track {text}: {type(error).__name__}: {str(error)[:300]}")
    return failures


def _module(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise _missing(package) from error


def _missing(package: str) -> MissingError:
    return MissingError(f"{package} is not installed: pip install {package}")
