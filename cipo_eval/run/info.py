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
from cipo_eval.records import SCHEMA_VERSION
from cipo_eval.run.identity import refusal
from cipo_eval.run.plan import TaskPlan, definition_name
from cipo_eval.storage.store import RunStore


def bind(
    store: RunStore,
    plans: Sequence[TaskPlan],
    common: Mapping[str, Any],
    command: Sequence[str],
    *,
    cutoff: str | None = None,
    regrade: bool = False,
) -> dict[str, Any]:
    """``run.json`` for this call, written: the stored one where it agrees, else a new one. Raises ``UsageError`` where
    the run was made with another configuration.

    ``cutoff``: when the model's training data ends, where this call says so. ``regrade``: verdicts are to be replaced,
    so what they depend on may differ; written when all of them are new.
    """
    old = store.read_info()
    identities = {plan.name: plan.identity() for plan in plans}
    if share := next((plan.share for plan in plans), None):
        common = {**common, "shard": share.to_json()}
    tasks = {plan.name: _task_info(plan, identities[plan.name]) for plan in plans}
    call = call_of(command)
    if old is None:
        info = {"schema": SCHEMA_VERSION, "created": _now(), **common, "tasks": tasks, "calls": [call]}
    else:
        if why := refusal(store.path, old, common, identities, regrade=regrade):
            raise UsageError(why)
        for name, block in tasks.items():
            _join(block, old["tasks"].get(name, {}), regrade)
        info = {**old, **common, "tasks": {**old["tasks"], **tasks}, "calls": [*old["calls"], call]}
    if cutoff:
        info["model_cutoff"] = cutoff
    info["environment"] = environment()
    if confined := confinement(plans):
        info["sandbox"] = confined
    if not regrade:
        store.write_info(info)
    return info


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
        **({"released": plan.released} if plan.released else {}),
        "system_prompt": plan.system_prompt,
        "source": dict(plan.problems.source),
        "definition": definition_name(plan.problems.spec),
    }


def _join(block: dict[str, Any], stored: Mapping[str, Any], regrade: bool) -> None:
    """Adds to what this call asks of a task what earlier calls asked: protocols that it does not name, and first
    attempts where it makes none. Judging again asks for nothing new."""
    before = stored.get("protocols", {})
    block["protocols"] = before if regrade else {**before, **block["protocols"]}
    if regrade or (stored.get("direct") and not block["direct"]):
        block |= {n: stored[n] for n in ("samples", "limit", "scope", "direct") if n in stored}


def confinement(plans: Sequence[TaskPlan]) -> dict[str, Any] | None:
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


def call_of(command: Sequence[str]) -> dict[str, Any]:
    """What ``run.json`` says of a call that is made now."""
    return {"at": _now(), "command": list(command), "version": __version__}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command_line() -> list[str]:
    """The exact command, for ``run.json``."""
    return ["cipo-eval", *sys.argv[1:]]
