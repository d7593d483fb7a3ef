"""The figures of ``results.json`` under stable names, for trackers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def numbers_of(results: Mapping[str, Any]) -> dict[str, float]:
    """Each figure as ``TASK/MODE/NAME``, or ``TASK/PROTOCOL/MODE/NAME`` of a protocol, and the ends of its interval as
    ``NAME_low`` and ``NAME_high``; besides ``TASK/MODE/attempts``, ``problems`` and the shares of states."""
    numbers: dict[str, float] = {}
    for task, block in results.get("tasks", {}).items():
        for name, part in block.items():
            if name == "protocols":
                for protocol, modes in part.items():
                    for mode, figures in modes.items():
                        numbers.update(_numbers(f"{task}/{protocol}/{mode}", figures))
            elif isinstance(part, Mapping):
                numbers.update(_numbers(f"{task}/{name}", part))
    return numbers


def _numbers(prefix: str, block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    for name in ("attempts", "problems"):
        if _is_number(block.get(name)):
            yield f"{prefix}/{name}", float(block[name])
    for name, share in (block.get("state_shares") or {}).items():
        if _is_number(share):
            yield f"{prefix}/state/{name}", float(share)
    yield from _figures(prefix, block)


def _figures(prefix: str, block: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Whatever has a value and an interval, however deep: ``metrics``, and turns of protocols."""
    for name, part in block.items():
        if not isinstance(part, Mapping) or name == "breakdown":
            continue
        if "value" in part and "ci" in part:
            if _is_number(part["value"]):
                yield f"{prefix}/{name}", float(part["value"])
            for end, number in zip(("low", "high"), part["ci"] or (), strict=False):
                if _is_number(number):
                    yield f"{prefix}/{name}_{end}", float(number)
        else:
            yield from _figures(prefix if name == "metrics" else f"{prefix}/{name}", part)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
