"""Everything that ``results.json`` has of a task, a row each: what reports, terminals and trainings read it through.

Each value is looked up by the key that its figure writes it under: no key is ever taken apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis import measures as m
from cipo_eval.analysis.blind_spots import BLIND_SPOTS
from cipo_eval.analysis.figure import Figure, Measure
from cipo_eval.analysis.judgements import ALWAYS_WRONG, JOINED, JUDGEMENTS, LOCATIONS
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT

LOGGED_SAMPLES = 4096
"""Most samples at a problem for which scores are looked for in a trainer's log."""
Entry = Mapping[str, Any]
"""One figure in ``results.json``: ``value``, and where there is an interval ``ci`` and ``method``."""
PART = "part"
"""Stands for a column of the problems: a named part of the verdict (``base`` and ``plus`` of HumanEval+)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One value of one task in one run."""

    protocol: str
    measure: Measure
    entry: Entry
    problems: int
    attempts: int
    """Number of first attempts, or of chains of a protocol with revisions."""
    column: str = ""
    """The metadata column of a breakdown; empty: the value is over all problems."""
    group: str = ""
    """The column's value that the problems of this row share."""

    @property
    def value(self) -> float | None:
        """The value; None where it is undefined."""
        value: float | None = self.entry["value"]
        return value

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval; None where the figure has none."""
        ci = self.entry.get("ci")
        return (ci[0], ci[1]) if ci else None


def rows_of(entry: Mapping[str, Any], mode: Mode, figures: Sequence[Figure] = ()) -> Iterator[Row]:
    """The rows of a task's entry in ``results.json``, first attempts and then protocols. ``figures``: a user's own,
    beside the table's."""
    if block := entry.get(mode.value):
        yield from _first(block, figures)
    for protocol, modes in entry.get("protocols", {}).items():
        if (block := modes.get(mode.value)) and block["chains"]:
            yield from _revised(protocol, block, figures)


def first_scores(block: Mapping[str, Any], section: Mapping[str, Any]) -> list[Figure]:
    """The figures of first attempts that a section of a block has, in its order."""
    most = block["samples_per_problem"]["min"]
    names = {f.MEAN_SCORE.key: f.MEAN_SCORE}
    for family in (f.PASS, f.MAJORITY):
        names |= {figure.key: figure for figure in family.among(section, most)}
    return [names[key] for key in section if key in names]


def _first(block: Mapping[str, Any], figures: Sequence[Figure]) -> Iterator[Row]:
    sizes = {"problems": block["problems"], "attempts": block["attempts"]}
    of = {"protocol": DIRECT, **sizes}
    for figure in first_scores(block, block["metrics"]):
        yield Row(measure=figure, entry=block["metrics"][figure.key], **of)
    for measure, entry in _have(figures, block.get("figures", {})):
        yield Row(measure=measure, entry=entry, **of)
    for part, section in block.get("parts", {}).items():
        for figure in first_scores(block, section):
            yield Row(measure=figure, entry=section[figure.key], column=PART, group=part, **of)
    for state, share in block["state_shares"].items():
        yield Row(measure=m.STATES[state], entry={"value": share}, **of)
    for measure, value in _costs(block):
        yield Row(measure=measure, entry={"value": value}, **of)
    score = f.PASS.at(1)
    for column, groups in block["breakdown"].items():
        for group, section in groups.items():
            entry = {**section, "value": section[score.key]}
            of = {"protocol": DIRECT, "problems": section["problems"], "attempts": section["attempts"]}
            yield Row(measure=score, entry=entry, column=column, group=group, **of)


def _costs(block: Mapping[str, Any]) -> Iterator[tuple[Measure, float | None]]:
    tokens, seconds, states = block["tokens"], block["seconds"], block["states"]
    yield m.TRUNCATED, block["truncated"]
    yield m.TOKENS_PER_ATTEMPT, tokens["completion"]["mean"]
    yield m.GENERATED_TOKENS, tokens["completion"]["total"]
    yield m.PROMPT_TOKENS, tokens["prompt"]["total"]
    yield m.GENERATION_SECONDS, seconds["generation"]["total"]
    yield m.VERIFIER_SECONDS, seconds["verification"]["total"]
    yield m.VERIFIER_FAILURES, states["verifier_timeout"] + states["verifier_error"]
    yield m.WITHHELD, states.get("filtered", 0)


def withheld(block: Mapping[str, Any]) -> int:
    """Number of revisions whose text a server withheld; withheld first attempts are counted with the first attempts."""
    return sum(states.get("filtered", 0) for states in block["states"][1:])


def _revised(protocol: str, block: Mapping[str, Any], figures: Sequence[Figure]) -> Iterator[Row]:
    of = {"protocol": protocol, "problems": block["problems"], "attempts": block["chains"]}
    own = _have(figures, block.get("figures", {}))
    for measure, entry in (*_turns(block), *_beside(block), *own):
        yield Row(measure=measure, entry=entry, **of)
    main = [f.ACCURACY.at(turn) for turn in range(1, block["turns"] + 1)]
    main += [f.CORRECTION_RATE.at(2), f.RETENTION.at(2), *LOCATIONS]
    for column, groups in block.get("breakdown", {}).items():
        for group, section in groups.items():
            for measure, entry in _have(main, section):
                of |= {"problems": entry["problems"], "attempts": section["chains"]}
                yield Row(measure=measure, entry=entry, column=column, group=group, **of)


Pairs = Iterator[tuple[Measure, Entry]]


def _have(measures: Iterable[Measure], section: Mapping[str, Any]) -> Pairs:
    """Those of some figures that a section has, with their entries: runs of older versions may lack some."""
    for measure in measures:
        if measure.key in section:
            yield measure, section[measure.key]


def _turns(block: Mapping[str, Any]) -> Pairs:
    """After each turn, and from each turn to the next."""
    turns = range(1, block["turns"] + 1)
    yield from _have(map(f.ACCURACY.at, turns), block["by_turn"])
    yield from _have(map(f.CHANGE.at, turns[1:]), block["change"])
    for step in block["steps"]:
        yield from _have((family.at(step["to"]) for family in f.STEPS), step["metrics"])
        for before, row in step["matrix"].items():
            for after, share in (row or {}).items():
                yield m.FLOWS[before][after](step["to"]), {"value": share}


def _beside(block: Mapping[str, Any]) -> Pairs:
    """Lift, what first attempts alone give, tokens, corrections of a pool, blind spots, judgements."""
    yield from _have((f.LIFT, f.REVISED, f.FRESH), block["lift"])
    section, most = block.get("sequential", {}), block["chains"]
    for figure in f.SEQUENTIAL.among(section, most):
        yield from _have((figure, f.SEQUENTIAL_GAIN.at(figure.k or 1)), section)
    section = block["resampling"]
    yield from _have([f.RESAMPLED.at(2)], section)
    if equal := section.get("equal_tokens"):
        yield from _have([family.at(equal["k"]) for family in (f.EQUAL_PASS, f.EQUAL_MAJORITY)], equal)
        yield m.EQUAL_K, {"value": float(equal[m.EQUAL_K.key])}
    for measure in (m.FIRST_TOKENS, m.CHAIN_TOKENS) if block["tokens"] else ():
        yield measure, {"value": block["tokens"][measure.key]}
    section = block.get("pool", {})
    yield from _have(f.POOL.among(section, most), section)
    yield from _have(BLIND_SPOTS, block.get("blind_spot", {}))
    section = block.get("critique", {})
    yield from _have((*LOCATIONS, *JUDGEMENTS, ALWAYS_WRONG), section)
    yield from _have(JOINED, section.get("joined", {}))


# --- a trainer's log ----------------------------------------------------------------------------------------------


def logged(task: str, entry: Mapping[str, Any], mode: Mode) -> dict[str, float | None]:
    """What a trainer logs of an evaluation: by ``TASK/FIGURE`` the scores of first attempts, by
    ``TASK/PROTOCOL/FIGURE`` what the first step of each protocol did, and how it compares with fresh attempts."""
    values: dict[str, float | None] = {}
    if block := entry.get(mode.value):
        for figure in first_scores(block, block["metrics"]):
            values[f"{task}/{figure.name}"] = block["metrics"][figure.key]["value"]
    for protocol, modes in entry.get("protocols", {}).items():
        if steps := modes.get(mode.value, {}).get("steps"):
            for measure, score in _have((family.at(2) for family in f.STEPS), steps[0]["metrics"]):
                values[f"{task}/{protocol}/{measure.name}"] = score["value"]
        if block := modes.get(mode.value):
            for measure, score in _have((f.LIFT, f.REVISED, f.FRESH), block["lift"]):
                values[f"{task}/{protocol}/{measure.name}"] = score["value"]
    return values


@cache
def _logged_scores() -> dict[str, Figure]:
    return {figure.name: figure for figure in map(f.PASS.at, range(1, LOGGED_SAMPLES + 1))}


def logged_score(name: str) -> tuple[str | None, Figure | None]:
    """The task and the pass@k that a value of a trainer's log is named after (``logged``); None for other values."""
    task, _, score = name.partition("/")
    figure = _logged_scores().get(score)
    return (task, figure) if figure else (None, None)
