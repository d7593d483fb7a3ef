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


def refusal(
    path: Path,
    stored: Mapping[str, Any],
    requested: Mapping[str, Any],
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    regrade: bool = False,
) -> str | None:
    """Why ``path``, whose ``run.json`` is ``known``, does not take what is ``asked`` (``engine``, ``seed``, ``modes``)
    of ``tasks`` (name: identity); None where it does.

    ``regrade``: verdicts are replaced, so that what only concerns them may differ.
    """
    differing = [d for d in differences(stored, requested) if not d.startswith(NAMES_ONLY)] + [
        d
        for name, identity in tasks.items()
        for d in differences(stored["tasks"].get(name, {}), identity, name)
    ]
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


def _named(engine: Mapping[str, Any]) -> str:
    """A model as its run was asked for it."""
    revision = f" at {engine['revision']}" if engine.get("revision") else ""
    return f"{engine.get('model') or engine.get('file')}{revision}"
