"""What is counted beside figures: costs, states, where attempts went, and what the trainer logs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache

from cipo_eval.analysis.figure import Measure
from cipo_eval.records import State

CEILING = 0.95
"""Above such an accuracy, what is left to get right is little beside wrong golds and chance."""
TRUNCATED = Measure(name="truncated")
TOKENS_PER_ATTEMPT = Measure(name="tokens per attempt", kind="amount")
GENERATED_TOKENS = Measure(name="generated tokens", kind="total")
PROMPT_TOKENS = Measure(name="prompt tokens", kind="total")
GENERATION_SECONDS = Measure(name="generation seconds", kind="total")
VERIFIER_SECONDS = Measure(name="verifier seconds", kind="total")
VERIFIER_FAILURES = Measure(name="verifier failures", kind="total")
WITHHELD = Measure(name="withheld", kind="total")
EQUAL_K = Measure(name="equal-token k", key="k", kind="amount")
CHAIN_TOKENS = Measure(name="tokens of a chain", key="chain", kind="amount")
FIRST_TOKENS = Measure(name="tokens of a first", key="first", kind="amount")
STATES: Mapping[str, Measure] = {state.value: Measure(name=f"state {state.value}") for state in State}
"""Share of first attempts that ended in each state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Logged:
    """What the trainer logs at each step, as people read it."""

    name: str
    label: str
    share: bool = True
    short: str = ""
    """In the line that a step prints; empty: it is not among its key figures."""


TRAINING: Mapping[str, Logged] = {
    logged.name: logged
    for logged in (
        Logged(name="loss", label="loss", short="loss", share=False),
        Logged(name="base_accuracy", label="first attempts", short="accuracy"),
        Logged(name="correction_accuracy", label="corrections", short="corrections"),
        Logged(name="retention", label="retention", short="retention"),
        Logged(name="lift", label="lift", short="lift"),
        Logged(name="rho", label="ρ", short="rho"),
        Logged(name="entropy", label="entropy", share=False),
        Logged(name="kl", label="KL", share=False),
        Logged(name="base_length", label="first attempts", short="length", share=False),
        Logged(name="correction_length", label="corrections", share=False),
        Logged(name="base_zero_variance", label="first attempts"),
        Logged(name="correction_zero_variance", label="corrections"),
        Logged(name="grad_norm", label="gradient norm", short="norm", share=False),
    )
}
"""By the name in the trainer's log, in the order in which a step prints its key figures."""


def _flow(before: str, after: str) -> Callable[[int], Measure]:
    @cache
    def make(turn: int) -> Measure:
        later = "" if turn == 2 else f" t{turn - 1}→t{turn}"
        return Measure(name=f"{before}→{after}{later}", key=after, family=f"{before}→{after}", turn=turn)

    return make


FLOWS: Mapping[str, Mapping[str, Callable[[int], Measure]]] = {
    before: {after: _flow(before, after) for after in ("right", "wrong", "same_wrong", "other_wrong")}
    for before in ("right", "wrong")
}
"""Where right and wrong attempts went in the step to a turn, as ``steps[].matrix`` of ``results.json`` has it."""
