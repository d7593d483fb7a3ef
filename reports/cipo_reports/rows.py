"""Every figure that a run's ``results.json`` has for a task, a row each: the names that all reports use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT

FAULTS = ("verifier failures", "withheld")
"""Figures that count what went wrong around the model."""


def rows_of(entry: Mapping[str, Any], mode: Mode) -> Iterator[dict[str, Any]]:
    """Every figure of a task's entry in ``results.json``, a row each, without the arm."""
    if block := entry.get(mode.value):
        sizes = {"problems": block["problems"], "attempts": block["attempts"]}
        for name, estimate in block["metrics"].items():
            yield _row(DIRECT, name, estimate, **sizes)
        for part, metrics in block.get("parts", {}).items():
            for name, estimate in metrics.items():
                yield _row(DIRECT, name, estimate, column="part", group=part, **sizes)
        for state, share in block["state_shares"].items():
            yield _row(DIRECT, f"state {state}", {"value": share}, **sizes)
        for name, value in _costs(block).items():
            yield _row(DIRECT, name, {"value": value}, **sizes)
        for column, groups in block["breakdown"].items():
            for group, found in groups.items():
                estimate = {**found, "value": found["pass@1"]}
                more = {"problems": found["problems"], "attempts": found["attempts"]}
                yield _row(DIRECT, "pass@1", estimate, column=column, group=group, **more)
    for protocol, modes in entry.get("protocols", {}).items():
        if (block := modes.get(mode.value)) and block["chains"]:
            yield from _revised(protocol, block)


def _row(
    protocol: str,
    figure: str,
    estimate: Mapping[str, Any],
    *,
    column: str = "",
    group: str = "",
    **sizes: int,
) -> dict[str, Any]:
    low, high = estimate.get("ci") or (None, None)
    return {
        "protocol": protocol,
        "figure": figure,
        "column": column,
        "group": group,
        "value": estimate["value"],
        "low": low,
        "high": high,
        "method": estimate.get("method", ""),
        **sizes,
    }


def _costs(block: Mapping[str, Any]) -> dict[str, float | None]:
    tokens, seconds = block["tokens"], block["seconds"]
    return {
        "truncated": block["truncated"],
        "tokens per attempt": tokens["completion"]["mean"],
        "generated tokens": tokens["completion"]["total"],
        "prompt tokens": tokens["prompt"]["total"],
        "generation seconds": seconds["generation"]["total"],
        "verifier seconds": seconds["verification"]["total"],
        "verifier failures": sum(block["states"][s] for s in ("verifier_timeout", "verifier_error")),
        "withheld": block["states"].get("filtered", 0),
    }


def withheld(block: Mapping[str, Any]) -> int:
    """Revisions that a server kept back. First attempts are counted where they were made."""
    return sum(states.get("filtered", 0) for states in block["states"][1:])


def _revised(protocol: str, block: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    sizes = {"problems": block["problems"], "attempts": block["chains"]}
    named = {**block["by_turn"], **block["change"]}
    for step in block["steps"]:
        later = "" if step["to"] == 2 else f" t{step['from']}→t{step['to']}"
        named |= {f"{name}{later}": estimate for name, estimate in step["metrics"].items()}
        for before, row in step["matrix"].items():
            for after, share in (row or {}).items():
                named[f"{before}→{after}{later}"] = {"value": share}
    named |= {**block["lift"], **block.get("sequential", {})}
    resampling = dict(block["resampling"])
    equal = resampling.pop("equal_tokens", {})
    named |= {f"resampled {name}": estimate for name, estimate in resampling.items()}
    if equal:
        named |= {
            f"equal-token {name.partition('@')[0]}": estimate
            for name, estimate in equal.items()
            if "@" in name
        }
        named["equal-token k"] = {"value": float(equal["k"])}
    if spent := block["tokens"]:
        named |= {f"tokens of a {name}": {"value": value} for name, value in spent.items()}
    named |= {f"pool {name}": x for name, x in block.get("pool", {}).items() if name != "wrong"}
    if critique := block.get("critique"):
        named |= {
            f"judgement {'F1' if name == 'f1' else name}": critique[name]
            for name in ("accuracy", "precision", "recall", "specificity", "f1", "always_wrong")
        }
        named |= {f"{name}: corrected": estimate for name, estimate in critique.get("joined", {}).items()}
    for name, estimate in named.items():
        yield _row(protocol, name, estimate, **sizes)
    for column, groups in block.get("breakdown", {}).items():
        for group, found in groups.items():
            for name, estimate in found.items():
                if isinstance(estimate, Mapping):
                    more = {"problems": estimate["problems"], "attempts": found["chains"]}
                    yield _row(protocol, name, estimate, column=column, group=group, **more)
