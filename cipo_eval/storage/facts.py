"""What ``run.json`` must look like before anybody relies on it: it may be of another release, edited, or hostile."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from cipo_eval.data.dates import span
from cipo_eval.errors import UsageError
from cipo_eval.records import SCHEMA_VERSION, Mode
from cipo_eval.texts import think_tags
from cipo_eval.turns.protocols import known, known_from

_RUN = {
    "engine": dict,
    "seed": int,
    "modes": list,
    "tasks": dict,
    "calls": list,
    "shard": dict,
    "model_cutoff": str,
}
_TASK = {
    "data": str,
    "prompts": str,
    "verifier": str,
    "think": str,
    "harness": str | None,
    "scope": str | None,
    "sampling": dict,
    "protocols": dict,
    "samples": int,
    "limit": int | None,
    "direct": bool,
    "system_prompt": str | None,
    "fewshot": dict | None,
    "definition": str,
    "released": str,
}
_PROTOCOL = {"turns": int, "samples": int, "limit": int | None}
"""Kinds of the values that are there; what is lacking is noticed where it is asked for."""


class Facts(dict[str, Any]):
    """Part of a ``run.json``. A key that it lacks is the file's fault: asking for it raises ``UsageError``."""

    def __init__(self, path: Path, values: Mapping[str, Any], where: str = "") -> None:
        super().__init__(values)
        self._path, self._where = path, where

    def __missing__(self, key: str) -> NoReturn:
        raise UsageError(f"{self._path} has no `{self._where}{key}`: it is damaged, or of another release")

    def check(self, kinds: Mapping[str, Any]) -> None:
        """Raises ``ValueError`` for a value of another kind."""
        for key, kind in kinds.items():
            value = self.get(key, ...)
            if value is ... or (isinstance(value, kind) and not (kind is int and isinstance(value, bool))):
                continue
            raise ValueError(f"`{self._where}{key}` is {json.dumps(value)[:60]}")


def parsed(path: Path, text: bytes) -> dict[str, Any]:
    """The contents of a ``run.json``. Raises ``UsageError``, in one line, for whatever is wrong with it."""
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("it does not hold an object")
        info = Facts(path, values)
        if "schema" not in info:
            raise ValueError("it names no schema version")
        if info["schema"] != SCHEMA_VERSION:
            shown = json.dumps(info["schema"])[:60]
            raise ValueError(f"schema version {shown}, this release reads version {SCHEMA_VERSION}")
        info.check(_RUN)
        if "modes" in info and (not info["modes"] or not all(m in list(Mode) for m in info["modes"])):
            raise ValueError(f"`modes` is {json.dumps(info['modes'])[:60]}")
        if "model_cutoff" in info:
            span(info["model_cutoff"])
        if "tasks" in info:
            info["tasks"] = {name: _task(path, name, task) for name, task in info["tasks"].items()}
    except (ValueError, TypeError, RecursionError) as error:
        why = "nested too deeply" if isinstance(error, RecursionError) else error
        raise UsageError(f"{path} cannot be read ({why}): restore it, or choose another --output") from error
    return info


def _task(path: Path, name: str, task: Any) -> Facts:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):  # it is the name of a file
        raise ValueError(f"{name[:60]!r} is no task's name")
    if not isinstance(task, dict):
        raise ValueError(f"`tasks.{name}` is {json.dumps(task)[:60]}")
    entry = Facts(path, task, f"tasks.{name}.")
    entry.check(_TASK)
    if "released" in entry:
        span(entry["released"])
    if "think" in entry:
        think_tags(entry["think"])
    for protocol, facts in entry.get("protocols", {}).items():
        if not isinstance(facts, dict):
            raise ValueError(f"`tasks.{name}.protocols.{protocol}` is {json.dumps(facts)[:60]}")
        if isinstance(facts.get("traits"), dict):
            known_from(protocol, facts["traits"])
        if known(protocol) is None:
            raise ValueError(
                f"`tasks.{name}.protocols` has {protocol[:60]!r}, which this release does not know"
            )
        inner = Facts(path, facts, f"tasks.{name}.protocols.{protocol}.")
        inner.check(_PROTOCOL)
        entry["protocols"] = {**entry["protocols"], protocol: inner}
    return entry


def differences(
    old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "", *, complete: bool = False
) -> list[str]:
    """``name: old there, new asked`` for each value of ``new`` that ``old`` has otherwise.

    ``complete``: both are whole, so that a name that only one of them has is a difference too.
    """
    lines = []
    for name in [*new, *(name for name in old if complete and name not in new)]:
        label = f"{prefix}.{name}" if prefix else name
        if name not in old and not complete:
            continue
        before, after = old.get(name), new.get(name)
        if isinstance(after, Mapping) and isinstance(before, Mapping):
            lines += differences(before, after, label, complete=complete)
        elif before != after:
            lines.append(f"{label}: {before!r} there, {after!r} asked")
    return lines
