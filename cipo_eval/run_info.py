"""What ``run.json`` says: which run a directory holds, how much of it was asked for, and with what it was made.

A directory belongs to one configuration (model, data, prompts, decoding, seed, mode). What may change between calls is
how much of it is wanted.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cipo_eval import __version__
from cipo_eval.errors import UsageError
from cipo_eval.plan import TaskPlan, definition_name, differences
from cipo_eval.records import SCHEMA_VERSION
from cipo_eval.store import RunStore

_NAMES_ONLY = ("engine.model:", "engine.file:", "engine.server:")
"""Paths may be written differently; fingerprints tell whether it is the same model or file. Of a served model the name
must be the same, its server may have moved."""


def bind(
    store: RunStore,
    plans: Sequence[TaskPlan],
    common: Mapping[str, Any],
    command: Sequence[str],
    *,
    regrade: bool = False,
) -> dict[str, Any]:
    """``run.json`` for this call, written: the stored one where it agrees, else a new one. Raises ``UsageError`` where
    the run was made with another configuration.

    ``regrade``: verdicts are to be replaced, so what they depend on may differ; written when all of them are new.
    """
    old = store.read_info()
    identities = {plan.name: plan.identity() for plan in plans}
    tasks = {plan.name: _task_info(plan, identities[plan.name]) for plan in plans}
    call = {"at": _now(), "command": list(command), "version": __version__}
    if old is None:
        info = {"schema": SCHEMA_VERSION, "created": _now(), **common, "tasks": tasks, "calls": [call]}
    else:
        differing = [d for d in differences(old, common) if not d.startswith(_NAMES_ONLY)] + [
            d
            for plan in plans
            for d in differences(old["tasks"].get(plan.name, {}), identities[plan.name], plan.name)
        ]
        if regrade:
            free = (".think:", ".harness:", ".protocols.")
            differing = [
                d for d in differing if not (d.startswith("modes:") or any(name in d for name in free))
            ]
        if any(d.startswith("engine.fingerprint:") for d in differing):
            raise UsageError(_another_model(store, old["engine"], common["engine"]))
        if differing:
            hint = (
                f" (`cipo-eval rescore {store.path} --mode …` regrades in another mode)"
                if any(d.startswith("modes") for d in differing)
                else ""
            )
            raise UsageError(
                f"{store.path} was made with another configuration: {'; '.join(differing)}. "
                f"Choose another --output, or ask for the same{hint}",
            )
        for name, block in tasks.items():
            _join(block, old["tasks"].get(name, {}), regrade)
        info = {**old, **common, "tasks": {**old["tasks"], **tasks}, "calls": [*old["calls"], call]}
    info["environment"] = environment()
    if confinement := _confinement(plans):
        info["sandbox"] = confinement
    if not regrade:
        store.write_info(info)
    return info


def _another_model(store: RunStore, there: Mapping[str, Any], asked: Mapping[str, Any]) -> str:
    """What to say where a directory is another model's, or another file's."""
    kind = "file" if asked.get("file") else "model"
    names = [of.get("model") or of.get("file") for of in (there, asked)]
    changed = f"{names[0]}, which has changed since"
    which = changed if names[0] == names[1] else f"{names[0]} there, {names[1]} asked"
    return f"{store.path} holds attempts of another {kind} ({which}): choose another --output"


def _task_info(plan: TaskPlan, identity: Mapping[str, Any]) -> dict[str, Any]:
    """What ``run.json`` says of a task. Each protocol keeps how much of it was asked for when it last was."""
    extent = plan.extent.to_json()
    return {
        **identity,
        "protocols": {name: {**facts, **extent} for name, facts in identity["protocols"].items()},
        "samples": plan.samples,
        "limit": plan.limit,
        "scope": extent["scope"],
        "direct": plan.revising.generates_first,
        "system_prompt": plan.system_prompt,
        "source": dict(plan.problems.source),
        "definition": definition_name(plan.problems.spec),
    }


def _join(block: dict[str, Any], known: Mapping[str, Any], regrade: bool) -> None:
    """Adds to what this call asks of a task what earlier calls asked: protocols that it does not name, and first
    attempts where it makes none. Judging again asks for nothing new."""
    before = known.get("protocols", {})
    block["protocols"] = before if regrade else {**before, **block["protocols"]}
    if regrade or (known.get("direct") and not block["direct"]):
        block |= {n: known[n] for n in ("samples", "limit", "scope", "direct") if n in known}


def _confinement(plans: Sequence[TaskPlan]) -> dict[str, Any] | None:
    """How programs are confined here, where any will run. Raises ``MissingError`` before anything is generated."""
    code = [
        plan
        for plan in plans
        if plan.problems.spec.verifier == "code"
        or any(p.options.get("verifier") == "code" for p in plan.problems.problems)
    ]
    if not code:
        return None
    from cipo_eval.sandbox import probe

    return probe.choose(allow_unsafe=any(plan.allow_unsafe for plan in code)).to_json()


def environment() -> dict[str, str]:
    """Versions that may explain a difference between two runs."""
    from importlib import metadata

    versions = {
        "cipo-eval": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    for package in ("torch", "transformers", "datasets", "lm_eval", "math-verify", "sympy", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> list[str]:
    """The exact command, for ``run.json``."""
    return ["cipo-eval", *sys.argv[1:]]
