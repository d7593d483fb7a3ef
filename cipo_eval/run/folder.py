"""Which folder a run goes into when ``--output`` names none, and whether a folder can hold it: told before anything
heavy is imported or loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import MissingError, UsageError, reason

if TYPE_CHECKING:
    from cipo_eval.records import Mode
    from cipo_eval.run.plan import TaskPlan

CLOCK = "CIPO_EVAL_CLOCK"
"""The environment variable with the time (ISO 8601) that chat templates are told which write the date: all shards of a
run must be told the same."""
LONGEST_NAME = 200
"""Bytes of a folder's name; file systems take 255."""
LEAST_FREE = 1 << 20
"""Bytes on disk below which a run does not begin."""
BYTES_A_TOKEN = 6
"""Bytes of a stored attempt for each of its tokens, on the generous side."""
BYTES_AN_ATTEMPT = 1500
"""Bytes of a stored attempt beside its text: its key, its numbers and its verdicts."""
_GENERIC = re.compile(
    r"(global)?[-_]?(step|checkpoint|ckpt|epoch|iter)s?[-_]?\d*|\d+|[0-9a-f]{40}"
    r"|final|last|latest|best|models?|weights?|hf|huggingface|merged|adapters?|lora|actor|snapshots?"
    r"|outputs?|train|training|runs?|seed[-_]?\d+",
    re.IGNORECASE,
)
"""Names of folders that say nothing of the model in them without the name of a folder above."""
_HUB = re.compile(r"models--(?:.*--)?(.+)")
"""A model's folder in the hub library's cache."""


def default_folder(model: str, root: Path = Path("runs")) -> Path:
    """``root`` and a name that tells the model from its siblings: the last part of its path, with the nearest part
    before it that says something where the last one does not (``grpo/checkpoints/step-000080``: ``grpo-step-000080``),
    and with more of them while the folder holds a run of a model in another place."""
    names = list(_names(model))
    for name in names:
        if not _is_of_another(root / name, model):
            return root / name
    return root / names[-1]


def _names(model: str) -> Iterator[str]:
    """Names for a model's run, each with one more part of its path than the one before."""
    path = Path(model)
    parts = [part for part in (path.resolve() if path.exists() else path).parts if part not in ("/", "..")]
    parts = parts or ["model"]
    *before, last = parts
    name = last.removesuffix(".gz").removesuffix(".jsonl")
    name = name[:8] if re.fullmatch("[0-9a-f]{40}", name) else name
    says_something = not _GENERIC.fullmatch(last)
    if says_something:
        yield _hub_name(name)
    for part in reversed(before if path.exists() else []):
        is_seed = part.lower().startswith("seed")
        if _GENERIC.fullmatch(part) and not is_seed:
            continue
        name = f"{_hub_name(part)}-{name}"
        says_something = says_something or not is_seed
        if says_something:
            yield name
    yield "-".join(parts)


def _hub_name(part: str) -> str:
    match = _HUB.fullmatch(part)
    return match[1] if match else part


def _is_of_another(folder: Path, model: str) -> bool:
    """Whether a folder holds a run of a model that lies elsewhere, as far as its run.json tells."""
    try:
        model_there = json.loads((folder / "run.json").read_bytes())["engine"]["model"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False
    places = Path(str(model_there)), Path(model)
    if all(place.exists() for place in places):
        return not places[0].samefile(places[1])
    return model_there != model and not any(place.exists() for place in places)  # names on a hub or a server


def of_seed(run: Path, seed: int) -> Path:
    """The run directory of one of several seeds: ``runs/x.seed-3``."""
    return run.with_name(f"{run.name}.seed-{seed}")


def look(folder: Path) -> None:
    """Checks that a folder can hold a run: as ``look_at_place``, and that there is nothing in it but a run. Makes
    nothing. Raises ``UsageError``, ``MissingError``."""
    from cipo_eval.storage.store import is_foreign, read_info

    look_at_place(folder)
    if is_foreign(folder):
        raise UsageError(f"{folder} is not empty and not a run directory: choose another --output")
    if os.path.lexists(folder / "run.json"):
        read_info(folder)


def look_at_place(folder: Path) -> None:
    """Checks that a folder can be made and written, and that the disk has room. Makes nothing. Raises ``UsageError``,
    ``MissingError``."""
    try:
        place = _nearest(folder)
        if not place.is_dir():
            raise UsageError(f"{folder} cannot be a folder, {place} is a file: choose another --output")
        if len(os.fsencode(folder.name)) > LONGEST_NAME:
            raise UsageError(f"the name {folder.name[:40]}… is too long: choose another --output")
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} cannot be a folder ({reason(error)}): choose another --output") from error
    if not os.access(place, os.W_OK | os.X_OK):
        raise MissingError(f"cannot write to {place}: choose another --output")
    if free_bytes(folder) < LEAST_FREE:
        raise MissingError(f"the disk of {place} is full: free some space, or choose another --output")


def free_bytes(folder: Path) -> int:
    """Bytes that are free where a folder is, or would be."""
    return shutil.disk_usage(_nearest(folder)).free


def _nearest(folder: Path) -> Path:
    """The folder, or what exists of its path."""
    place = folder
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    return place


def most_bytes(plans: Sequence[TaskPlan]) -> int:
    """Bytes that the attempts of a run take on disk at the most."""
    attempts = sum(plan.first_attempts + plan.most_later_attempts for plan in plans)
    longest = max((plan.sampling.max_tokens for plan in plans), default=0)
    return attempts * (longest * BYTES_A_TOKEN + BYTES_AN_ATTEMPT)


def check(
    folder: Path, plans: Sequence[TaskPlan], *, seed: int, modes: Sequence[Mode], engine: Mapping[str, Any]
) -> None:
    """Raises ``UsageError`` where the folder holds a run of something else, as far as can be told before the model is
    loaded: ``engine`` is what is known of it."""
    from cipo_eval.run.identity import refusal
    from cipo_eval.storage.store import read_info

    if not (folder / "run.json").exists():
        return
    stored = read_info(folder)
    common: dict[str, Any] = {"engine": dict(engine), "seed": seed, "modes": [mode.value for mode in modes]}
    if share := next((plan.share for plan in plans), None):
        common["shard"] = share.to_json()
    if why := refusal(folder, stored, common, {plan.name: plan.identity() for plan in plans}, whole=False):
        raise UsageError(why)


def frozen_clock(folder: Path) -> datetime:
    """The time of a run directory's first call, which chat templates that write the date are told in all later ones;
    in a new directory, now, or what ``CLOCK`` says. Raises ``UsageError`` for a ``run.json`` that cannot be read."""
    from cipo_eval.storage.store import read_info

    if (folder / "run.json").is_file():
        info = read_info(folder)
        with suppress(AttributeError, KeyError, TypeError, ValueError):  # of no use: the engine will differ
            return datetime.fromisoformat(info["engine"].get("clock") or info["created"])
    now = datetime.now(UTC).replace(microsecond=0)
    if text := os.environ.get(CLOCK):
        try:
            return datetime.fromisoformat(text)
        except ValueError as error:
            raise UsageError(f"{CLOCK} is {text!r:.40}: a time such as {now.isoformat()}") from error
    return now
