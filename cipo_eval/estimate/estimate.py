"""The estimate: attempts, tokens, reuse of prompts, GPU hours, disk and judging, each with an interval and its causes.

Every source of error is moved to either end of its interval alone; what that does to a figure is added up as of
independent errors, in proportions (the root of the sum of squares of logarithms). Within a source everything moves
together: a model that is longer than thought at one task is taken to be so at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cipo_eval.estimate.constants import Constants, Length, Quantity, TaskFigures
from cipo_eval.estimate.lengths import Expected, expected, scale, with_mean
from cipo_eval.estimate.machines import Machines
from cipo_eval.estimate.roofline import Sequences
from cipo_eval.estimate.workload import Load, TaskLoad, Workload

INDEXED, INDEX_BYTES = 20_000, 79
"""Attempts of a task from which on there is an index of them, and its bytes for each."""
PROBLEM_BYTES = 250
"""Bytes of a problem in the run directory, beside its question."""
QUESTION_CHARACTERS = 3.0
"""Characters of a question for each token of its prompt, where the task's data is not at hand: assumed."""
STAYS_WRONG = 0.5
"""Share of wrong answers among revisions of wrong ones, as a share of the way from that of first attempts to 1."""
SOURCES = {
    "lengths": "how much the model writes",
    "revisions": "how much it writes when it revises",
    "prompts": "tokens of prompts",
    "verdicts": "how many attempts are wrong",
    "reuse": "what of prompts the cache has",
    "speed": "the model of time",
    "ends": "loading, and the last sequences",
    "storage": "bytes of an attempt",
    "judging": "seconds of a verdict",
}
"""What may be off, and what that is."""
FIGURES = ("attempts", "tokens_in", "tokens_reusable", "tokens_computed", "tokens_out", "gpu_seconds", "bytes",
           "judging_seconds")  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What a run will take."""

    tasks: Mapping[str, Mapping[str, Quantity]]
    """By task, the figures; GPU seconds without loading and the last sequences."""
    total: Mapping[str, Quantity]
    causes: Mapping[str, Mapping[str, float]]
    """By figure and source, how far the source alone moves the total, as a share."""
    machines: Machines
    notes: tuple[str, ...]

    @property
    def wall_seconds(self) -> Quantity:
        """From the start to the end, on all GPUs."""
        return _times(self.total["gpu_seconds"], 1 / self.machines.gpus)

    def cost(self, price: float) -> Quantity:
        """At a price of one GPU for an hour."""
        return _times(self.total["gpu_seconds"], price / 3600)


def estimate(
    work: Workload,
    constants: Constants,
    machines: Machines,
    *,
    mean_tokens: Mapping[str, float] | None = None,
) -> Estimate:
    """What a workload takes on some machines.

    ``mean_tokens``: by task (empty name: all), how long first attempts are.
    """
    calculation = _Calculation(work, constants, machines, mean_tokens or {})
    base = calculation.figures({})
    moved = {source: [calculation.figures({source: level}) for level in (-1, 1)] for source in SOURCES}
    places = [*base]
    quantities = {
        place: {figure: _interval(base, moved, place, figure) for figure in FIGURES} for place in places
    }
    total = quantities.pop("")
    causes = {
        figure: {source: _share(base, ends, figure) for source, ends in moved.items()} for figure in FIGURES
    }
    return Estimate(
        tasks=quantities,
        total=total,
        causes=causes,
        machines=machines,
        notes=(*work.notes, *calculation.notes()),
    )


def calculated_seconds(
    work: Workload, constants: Constants, machines: Machines, attempts: Mapping[str, int]
) -> float:
    """GPU seconds of a run that made so many attempts by task, without loading."""
    rows = _Calculation(work, constants, machines, {}).figures({})
    return math.fsum(
        row["gpu_seconds"] * attempts[task] / row["attempts"]
        for task, row in rows.items()
        if task in attempts
    )


class _Calculation:
    """All figures at given levels of the sources of error."""

    def __init__(
        self, work: Workload, constants: Constants, machines: Machines, mean_tokens: Mapping[str, float]
    ) -> None:
        self.work, self.constants, self.machines = work, constants, machines
        self.mean_tokens = mean_tokens
        self.of = {task.task: constants.of(task.task, task.kind) for task in work.tasks}

    def figures(self, levels: Mapping[str, int]) -> dict[str, dict[str, float]]:
        """By task, and of all under the empty name, the ``FIGURES``."""
        rows, longest = {}, 0.0
        attempts = sum(
            load.most for task in self.work.tasks for load in task.loads if load.turn == 1 or load.pooled
        )
        for task in self.work.tasks:
            rows[task.task], tail = self._task(task, levels, attempts)
            longest = max(longest, tail)
        total = {figure: math.fsum(row[figure] for row in rows.values()) for figure in FIGURES}
        ends = levels.get("ends", 0)
        tail = longest * (0.0, 1.0, 2.0)[ends + 1]
        total["gpu_seconds"] += self.machines.gpus * (self.machines.speed.startup_seconds.at(ends) + tail)
        rows[""] = total
        return rows

    def length(self, task: TaskLoad, load: Load) -> Length:
        """Of the attempts of a turn, as far as constants know it, or else by the length of the first."""
        figures = self.of[task.task]
        known = figures.lengths.get(load.name)
        mean = self.mean_tokens.get(task.task, self.mean_tokens.get(""))
        if known is None and load.judges:
            known = figures.lengths["critique 2"]
        if known is None:
            known = figures.lengths["critique 3" if load.protocol == "critique" else "direct 1"]
        if mean is None or load.judges:
            return known
        return with_mean(mean, task.sampling.max_tokens, known)

    def new_tokens(self, task: TaskLoad, load: Load, levels: Mapping[str, int]) -> Expected:
        """Of an attempt."""
        figures, length, level = self.of[task.task], self.length(task, load), levels.get("lengths", 0)
        limit = task.sampling.max_tokens
        beyond = max(0, limit - length.limit) if length.limit else 0
        factor = scale(length, level, task.problems, load.most, beyond)
        if (
            load.turn > 1
            and load.name not in figures.lengths
            and not load.judges
            and load.protocol != "critique"
        ):
            factor *= _given(figures.again).at(levels.get("revisions", 0))
        return expected(length, limit, factor)

    def _task(
        self, task: TaskLoad, levels: Mapping[str, int], attempts: int
    ) -> tuple[dict[str, float], float]:
        """The figures of a task, and the seconds that its longest sequences take at the end."""
        figures, row = self.of[task.task], dict.fromkeys(FIGURES, 0.0)
        new = {load.name: self.new_tokens(task, load, levels) for load in task.loads}
        first, pooled = self._prompt_characters(task, figures, levels)
        longest = 0.0
        for load in task.loads:
            count = self._attempts(load, figures, levels)
            prompt, reusable, computed = self._prompt(load, figures, first, pooled, new, levels)
            sequences = Sequences(
                prompt=prompt, computed=computed, new=new[load.name].mean, held=new[load.name].held
            )
            seconds, tail = self._seconds(sequences, new[load.name], attempts, levels)
            longest = max(longest, tail)
            row["attempts"] += count
            row["tokens_in"] += count * prompt
            row["tokens_reusable"] += count * reusable
            row["tokens_computed"] += count * computed
            row["tokens_out"] += count * sequences.new
            row["gpu_seconds"] += count * seconds * self.machines.replica.gpus
        stored = row["attempts"] + task.pool_attempts
        row["bytes"] = self._bytes(task, figures, stored, row["tokens_out"], levels)
        row["judging_seconds"] = (
            stored * task.modes * _given(figures.judging_seconds).at(levels.get("judging", 0))
        )
        return row, longest

    def _attempts(self, load: Load, figures: TaskFigures, levels: Mapping[str, int]) -> float:
        if not load.conditional:
            return float(load.most)
        wrong = _given(figures.wrong).at(levels.get("verdicts", 0))
        stays = min(1.0, wrong + STAYS_WRONG * (1 - wrong))
        return load.most * wrong * stays ** (load.turn - 2)

    def _prompt_characters(
        self, task: TaskLoad, figures: TaskFigures, levels: Mapping[str, int]
    ) -> tuple[float, float]:
        """Tokens of a first prompt without its template, and of an attempt of a pool."""
        per_token = _given(figures.characters_per_token)
        density = per_token.at(-levels.get("prompts", 0))
        if task.here:
            return task.characters / density, task.pool_characters / density
        off = per_token.value / density
        return (figures.prompt_tokens or 0.0) * off, (figures.attempt_tokens or 0.0) * off

    def _prompt(
        self,
        load: Load,
        figures: TaskFigures,
        first: float,
        pooled: float,
        new: Mapping[str, Expected],
        levels: Mapping[str, int],
    ) -> tuple[float, float, float]:
        """Tokens of a prompt; those of them that were computed before; and those that are computed now."""
        requests, level = self.constants.requests, levels.get("prompts", 0)
        added = load.added / _given(figures.characters_per_token).at(-level)
        template = (load.messages + 1) * requests.message_tokens.at(level)
        carried = requests.carried.at(level) * sum(new[name].mean for name in load.shown)
        prompt = max(1.0, first + added + template + carried + (pooled if load.pooled else 0.0))
        reuse = levels.get("reuse", 0)
        if load.alike > 1 or load.turn == 1:
            reusable = prompt * (load.alike - 1) / load.alike
            share = requests.samples_reuse.at(reuse)
        else:
            reusable = (
                max(0.0, prompt - max(0.0, added) - 2 * requests.message_tokens.at(level))
                if load.prefixed
                else 0.0
            )
            share = requests.turns_reuse.at(reuse)
        return prompt, reusable, max(1.0, prompt - share * reusable)

    def _seconds(
        self, sequences: Sequences, length: Expected, attempts: int, levels: Mapping[str, int]
    ) -> tuple[float, float]:
        """Seconds of a replica for an attempt, and those of the last sequences of a run."""
        machines, level = self.machines, levels.get("speed", 0)
        row = machines.speed.row_seconds.at(level)
        time = machines.gpu.time.at(level)
        waiting = max(1.0, attempts / machines.replicas)
        replica = machines.replica
        alone = replica.step(sequences, 1.0, row) * max(0.0, length.long - length.mean)
        return time * replica.seconds(sequences, waiting, row), time * alone

    def _bytes(
        self, task: TaskLoad, figures: TaskFigures, stored: float, tokens: float, levels: Mapping[str, int]
    ) -> float:
        level = levels.get("storage", 0)
        texts = tokens * _given(figures.bytes_per_token).at(level) + task.pool_attempts * task.pool_characters
        rows = stored * (task.modes * _given(figures.row_bytes).at(level))
        index = stored * INDEX_BYTES if stored >= INDEXED else 0.0
        assumed = QUESTION_CHARACTERS * (figures.prompt_tokens or 0.0)
        characters = task.characters if task.here else assumed
        problems = task.problems * (characters + PROBLEM_BYTES)
        return texts + rows + index + problems + self.constants.requests.directory_bytes.at(level)

    def notes(self) -> Iterable[str]:
        """What a reader should know of the figures."""
        for task in self.work.tasks:
            if task.task not in self.constants.tasks and not self.mean_tokens:
                yield f"{task.task}: no lengths of this task are known: those of {task.kind} stand in (--mean-tokens)"
            for load in task.loads:
                length, limit = self.length(task, load), task.sampling.max_tokens
                if length.cut and length.limit and limit > length.limit:
                    yield (
                        f"{task.task}, {load.name}: {length.cut:.0%} of the calibrating run's completions ended at its "
                        f"--max-tokens {length.limit}; under {limit} they may be longer"
                    )


def _given(quantity: Quantity | None) -> Quantity:
    """A figure that every kind of task has."""
    assert quantity is not None, "the shipped constants of a kind say everything"
    return quantity


def _times(quantity: Quantity, factor: float) -> Quantity:
    return Quantity(value=quantity.value * factor, low=quantity.low * factor, high=quantity.high * factor)


_Moved = Mapping[str, list[dict[str, dict[str, float]]]]


def _interval(base: Mapping[str, Mapping[str, float]], moved: _Moved, place: str, figure: str) -> Quantity:
    value = base[place][figure]
    if value <= 0:
        return Quantity(value=max(value, 0.0), low=0.0, high=0.0)
    down = up = 0.0
    for ends in moved.values():
        logs = [math.log(max(end[place][figure], value * 1e-6) / value) for end in ends]
        down, up = down + min(0.0, *logs) ** 2, up + max(0.0, *logs) ** 2
    return Quantity(value=value, low=value * math.exp(-math.sqrt(down)), high=value * math.exp(math.sqrt(up)))


def _share(
    base: Mapping[str, Mapping[str, float]], ends: list[dict[str, dict[str, float]]], figure: str
) -> float:
    value = base[""][figure]
    return max(abs(end[""][figure] - value) for end in ends) / value if value > 0 else 0.0


def as_json(estimated: Estimate, price: float | None) -> dict[str, Any]:
    """The estimate as ``cipo-eval plan --json`` prints it."""
    machines = estimated.machines

    def shown(quantity: Quantity) -> dict[str, float]:
        return {"value": quantity.value, "low": quantity.low, "high": quantity.high}

    return {
        "gpu": machines.name,
        "gpus": machines.gpus,
        "replicas": machines.replicas,
        "model": machines.shape.model_dump(exclude_unset=True),
        "tasks": {name: {key: shown(q) for key, q in row.items()} for name, row in estimated.tasks.items()},
        "total": {key: shown(quantity) for key, quantity in estimated.total.items()},
        "wall_seconds": shown(estimated.wall_seconds),
        "cost": None if price is None else shown(estimated.cost(price)),
        "causes": {key: dict(row) for key, row in estimated.causes.items()},
        "notes": list(estimated.notes),
    }
