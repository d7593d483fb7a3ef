"""Whether a run directory and what is asked for now belong together, and the words for it where they do not."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cipo_eval.storage.facts import differences

NAMES_ONLY = ("engine.model:", "engine.file:", "engine.server:")
"""Paths may be written differently; fingerprints tell whether it is the same model or file. Of a served model the name
must be the same, its server may have moved."""
_MODEL = ("engine.fingerprint", "engine.adapter_fingerprint", "engine.base")
"""What differs where the model is another one."""


ASKED_FOR = ("enable_thinking", "chat_template_kwargs", "thinking_budget", "think_tags")
"""Facts of an engine that are there only where they were asked for: without one, the model does as its template has
it."""


def refusal(
    path: Path,
    stored: Mapping[str, Any],
    requested: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    regrade: bool = False,
    whole: bool = True,
) -> str | None:
    """Why ``path``, whose ``run.json`` is ``stored``, does not take what is ``requested`` (``engine``, ``seed``,
    ``modes``, of a shard also ``shard``) of ``tasks`` (name: identity); None where it does.

    ``whole``: the engine's facts are all there, so that one of ``ASKED_FOR`` that is not was not asked for.
    ``regrade``: verdicts are replaced, so that what only concerns them may differ, and of a shard those that are there.
    """
    if not regrade and (why := _other_part(path, stored.get("shard"), requested.get("shard"))):
        return why
    differing = conflicts(stored, requested, tasks, whole=whole)
    if regrade:
        free = (".think:", ".harness:", ".protocols.")
        differing = [d for d in differing if not (d.startswith("modes:") or any(name in d for name in free))]
    if not differing:
        return None
    if any(d.startswith(_MODEL) for d in differing):
        there, here = (_named(engine) for engine in (stored["engine"], requested["engine"]))
        what = "file" if "file" in stored["engine"] else "model"
        which = f"{there} there, {here} asked" if there != here else f"{here}, which has changed since"
        return f"{path} holds attempts of another {what} ({which}): choose another --output"
    hint = (
        f" (`cipo-eval rescore {path} --mode …` regrades in another mode)"
        if any(d.startswith("modes") for d in differing)
        else ""
    )
    return (
        f"{path} was made with another configuration: {'; '.join(differing)}. "
        f"Choose another --output, or ask for the same{hint}"
    )


def conflicts(
    stored: Mapping[str, Any],
    requested: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    whole: bool = True,
) -> list[str]:
    """What keeps attempts apart: ``name: old there, new asked`` for each fact of ``requested`` and of ``tasks`` (name:
    identity) that ``stored`` has otherwise. ``whole``: as of ``refusal``."""
    common = {name: value for name, value in requested.items() if name != "shard"}
    engines = [facts.get("engine", {}) for facts in (stored, common)]
    if whole and all(engines):
        plain = dict.fromkeys(name for engine in engines for name in ASKED_FOR if name in engine)
        stored = {**stored, "engine": {**plain, **engines[0]}}
        common["engine"] = {**plain, **engines[1]}
    return [d for d in differences(stored, common) if not d.startswith(NAMES_ONLY)] + [
        d
        for name, identity in tasks.items()
        for d in differences(stored["tasks"].get(name, {}), identity, name)
    ]


def _other_part(
    path: Path, stored: Mapping[str, Any] | None, requested: Mapping[str, Any] | None
) -> str | None:
    """Why a directory that holds this part of a run (None: a whole one) does not take that part; None where it does."""
    if stored == requested:
        return None
    there, here = (
        "a whole run" if part is None else f"part {part.get('index')} of {part.get('of')}"
        for part in (stored, requested)
    )
    if there != here:
        merging = ", or make one run of all parts with `cipo-eval merge`" if stored else ""
        return f"{path} holds {there} and {here} was asked for: choose another --output{merging}"
    return (
        f"{path} holds {there} of other tasks, problems or samples than are asked for now, which are split otherwise: "
        "choose another --output, or merge the shards first (`cipo-eval merge`) and ask the merged run for more"
    )


def _named(engine: Mapping[str, Any]) -> str:
    """A model as its run was asked for it."""
    revision = f" at {engine['revision']}" if engine.get("revision") else ""
    return f"{engine.get('model') or engine.get('file')}{revision}"
