"""Constants fitted to finished runs: how long completions are, tokens of prompts, bytes of an attempt, seconds of a
verdict, and, where it is told on which GPU they ran, how far the model of time is off there.

Means have intervals over problems (problems are what runs draw from; samples of one problem are not independent).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.errors import CipoError, UsageError
from cipo_eval.estimate.constants import LEVELS, VERSION, Constants
from cipo_eval.estimate.estimate import calculated_seconds
from cipo_eval.estimate.machines import Machines
from cipo_eval.estimate.workload import TaskLoad, Workload, task_load
from cipo_eval.records import FinishReason, Mode
from cipo_eval.run.stored import stored_plan
from cipo_eval.settings import merged
from cipo_eval.storage.lines import line_of
from cipo_eval.storage.numbers import UNKNOWN
from cipo_eval.storage.store import attempts_of_task, attempts_path, read_info
from cipo_eval.turns.protocols import DIRECT

if TYPE_CHECKING:
    from cipo_eval.storage.attempts import Attempts

CONFIDENCE = 0.95
"""Level of confidence intervals."""
MOST_READ = 2000
"""Attempts of a task whose lines are read, to see how much of them is text."""
LEAST_PROBLEMS = 4
"""Problems from which on a straight line from characters to tokens is fitted."""
ONE_RUN, MANY_RUNS = 1.25, 1.1
"""Factor to either side of a measured speed: of a single run, and beyond the spread of several."""
FULL = 2
"""A speed is read off runs with so many times as many attempts as are decoded together: the last ones are alone."""
Array = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a run has of one task."""

    run: Path
    name: str
    facts: Mapping[str, Any]
    """The task's entry in ``run.json``."""
    modes: Sequence[Mode]
    attempts: Attempts
    load: TaskLoad | None
    """The run's plan of the task; None where its data is not at hand."""


def calibrated(
    runs: Sequence[Path], constants: Constants, machines: Machines | None, data_dir: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Values to put over the constants (as a file of ``--constants`` has them), and what could not be fitted.

    ``machines``: what all runs ran on; None: the speed stays as it is. Raises ``UsageError`` for a run without
    completions, or one that does not say how many tokens they have.
    """
    parts, notes = [part for run in runs for part in _parts(run, data_dir)], []
    names = list(dict.fromkeys(part.name for part in parts))
    values: dict[str, Any] = {
        "version": VERSION,
        "note": f"fitted to {', '.join(str(run) for run in runs)}",
        "tasks": {},
        "requests": {},
    }
    templates, carried = [], []
    for name in names:
        of_task = [part for part in parts if part.name == name]
        values["tasks"][name], template, shares = _task(of_task)
        templates += template
        carried += shares
        if any(part.load is None for part in of_task):
            notes.append(f"{name}: its data is not here, so tokens of prompts were fitted to their mean only")
    if templates:
        values["requests"]["message_tokens"] = _spread(templates, "prompts of the runs")
    if carried:
        values["requests"]["carried"] = _around(np.concatenate(carried), "second turns of the runs")
    values["requests"]["directory_bytes"] = _spread([_other_bytes(run) for run in runs], "the runs", 2.0)
    if machines is not None:
        speed, remarks = _speed(
            runs, parts, Constants.model_validate(merged(constants.model_dump(), values)), machines
        )
        notes += remarks
        if speed:
            gpu = machines.gpu.model_dump() | {"time": speed}
            values["gpus"] = {machines.name: gpu}
    return values, notes


def _parts(run: Path, data_dir: Path | None) -> list[Part]:
    info, parts = read_info(run), []
    for name, facts in info["tasks"].items():
        attempts = attempts_of_task(run, name)
        attempts = attempts.only(attempts.judged)
        if not len(attempts):
            continue
        if (attempts.column("completion_tokens") == UNKNOWN).all():
            raise UsageError(
                f"{run} does not say how many tokens its completions at {name} have (scored files do not): calibrate "
                "with a run of a model"
            )
        try:
            load = task_load(stored_plan(name, facts, data_dir), len(info["modes"]))
        except CipoError:
            load = None
        parts.append(
            Part(
                run=run,
                name=name,
                facts=facts,
                modes=[Mode(mode) for mode in info["modes"]],
                attempts=attempts,
                load=load,
            )
        )
    if not parts:
        raise UsageError(
            f"{run} has no judged completions: run it first, a few problems are enough (--limit)"
        )
    return parts


def _task(parts: Sequence[Part]) -> tuple[dict[str, Any], list[float], list[Array]]:
    """What the runs say of a task; tokens that its template adds to a message; shares of attempts that are carried."""
    limits = {int(part.facts["sampling"]["max_tokens"]) for part in parts}
    if len(limits) > 1:
        raise UsageError(
            f"{parts[0].name} has --max-tokens {' and '.join(map(str, sorted(limits)))} in these runs: calibrate with "
            "one of them at a time"
        )
    lengths: dict[str, Any] = {}
    kinds = sorted({kind for part in parts for kind in _turns(part.attempts)})
    for protocol, turn in kinds:
        chosen = [_at(part.attempts, protocol, turn) for part in parts]
        problems, tokens = _joined(parts, chosen, "completion_tokens")
        if tokens.any():
            cut = np.concatenate(
                [_cut(part.attempts)[rows] for part, rows in zip(parts, chosen, strict=True)]
            )
            lengths[f"{protocol} {turn}"] = _length(problems, tokens, float(cut.mean()), min(limits))
    task: dict[str, Any] = {"lengths": lengths}
    first = [_at(part.attempts, DIRECT, 1) for part in parts]
    wrong = np.concatenate(
        [
            ~part.attempts.verdicts(part.modes[0], "correct")[rows]
            for part, rows in zip(parts, first, strict=True)
        ]
    )
    if len(wrong):
        task["wrong"] = _around(_by(_problems(parts, first), wrong), "first attempts", most=1.0)
    every = [np.ones(len(part.attempts), bool) for part in parts]
    seconds = np.concatenate(
        [np.mean([part.attempts.verdicts(mode, "seconds") for mode in part.modes], axis=0) for part in parts]
    )
    task["judging_seconds"] = _around(_by(_problems(parts, every), seconds), "verdicts")
    task |= _bytes(parts)
    task_prompts, templates = _prompts(parts, first)
    return task | task_prompts, templates, _carried(parts, task_prompts, templates)


def _length(problems: Array, tokens: Array, cut: float, limit: int) -> dict[str, Any]:
    means, sizes = _by(problems, tokens), np.unique(problems, return_counts=True)[1]
    mean = float(tokens.mean())
    inside = np.sum((tokens - np.repeat(means, sizes)[np.argsort(np.argsort(problems, kind="stable"))]) ** 2)
    within = math.sqrt(inside / max(1, len(tokens) - len(means)))
    between = (
        math.sqrt(max(0.0, float(means.var(ddof=1)) - within**2 / sizes.mean()))
        if len(means) > 1
        else mean / 2
    )
    around = _around(means, "", centre=mean)
    return {
        "mean": mean,
        "low": max(around["low"], mean / 10),
        "high": around["high"],
        "between": between / mean,
        "within": within / mean,
        "quantiles": [float(value) for value in np.quantile(tokens, LEVELS)],
        "limit": limit,
        "cut": cut,
        "source": f"{len(tokens)} completions at {len(means)} problems",
    }


def _prompts(parts: Sequence[Part], first: Sequence[Array]) -> tuple[dict[str, Any], list[float]]:
    """Tokens of a prompt, characters of a token, and tokens that the template adds to a message."""
    problems, tokens = _joined(parts, first, "prompt_tokens")
    if not len(tokens):
        return {}, []
    prompts: dict[str, Any] = {"prompt_tokens": float(_by(problems, tokens).mean())}
    load = parts[0].load
    if load is None:
        return prompts, []
    names, means = np.unique(problems), _by(problems, tokens)
    known = [(load.first_characters[str(name)], mean) for name, mean in zip(names, means, strict=True)
             if str(name) in load.first_characters]  # fmt: skip
    characters, counts = np.array([row[0] for row in known]), np.array([row[1] for row in known])
    if len(known) < LEAST_PROBLEMS or not characters.std():
        return prompts, []
    slope, start = np.polyfit(characters, counts, 1)
    if slope <= 0:
        return prompts, []
    off = counts - slope * characters - start
    error = math.sqrt(float(off.var()) / len(known)) / float(characters.std()) * _t(len(known) - 1)
    prompts["characters_per_token"] = _quantity(
        1 / slope, 1 / (slope + error), 1 / max(slope - error, slope / 2), f"{len(known)} prompts"
    )
    return prompts, [max(0.0, float(start)) / 2]  # of one message, and of the answer's beginning


def _carried(parts: Sequence[Part], prompts: Mapping[str, Any], templates: Sequence[float]) -> list[Array]:
    """By problem, which share of a first attempt its second turn's prompt has, in protocols that revise one's own."""
    shares = []
    for part in parts:
        if part.load is None or "characters_per_token" not in prompts:
            continue
        formats = {facts.get("turn_format") for facts in part.facts["protocols"].values()}
        seconds = [load for load in part.load.loads if load.turn == 2 and load.prefixed and not load.pooled]
        if formats != {"chat"} or not seconds:
            continue
        table, load = part.attempts, seconds[0]
        keys = list(zip(table.column("problem").tolist(), table.column("sample").tolist(), strict=True))
        rows = {
            key: row
            for key, row, take in zip(keys, range(len(keys)), _at(table, DIRECT, 1), strict=True)
            if take
        }
        prompt, completion = table.column("prompt_tokens"), table.column("completion_tokens")
        added = load.added / prompts["characters_per_token"]["value"] + 2 * templates[0]
        by_problem: dict[int, list[tuple[float, float]]] = {}
        for row in np.flatnonzero(_at(table, load.protocol, 2)).tolist():
            if (start := rows.get(keys[row])) is not None:
                more = float(prompt[row] - prompt[start]) - added
                by_problem.setdefault(keys[row][0], []).append((more, float(completion[start])))
        ratios = [
            sum(m for m, _ in pairs) / max(1.0, sum(c for _, c in pairs)) for pairs in by_problem.values()
        ]
        if ratios:
            shares.append(np.clip(np.array(ratios), 0.0, 2.0))
    return shares


def _bytes(parts: Sequence[Part]) -> dict[str, Any]:
    """Of an attempt beside its text, in each mode, and of a token of its text."""
    problems, beside, texts, tokens = [], [], [], []
    for part in parts:
        few = part.attempts.only(np.arange(len(part.attempts))[:: max(1, len(part.attempts) // MOST_READ)])
        for attempt in few:
            whole = len(line_of(attempt))
            text = whole - len(line_of(replace(attempt, text="")))
            problems.append(attempt.problem)
            beside.append((whole - text) / len(part.modes))
            texts.append(text)
            tokens.append(max(1, attempt.completion_tokens or 0))
    names, sizes = np.array(problems), np.array(texts, float) / np.array(tokens, float).mean()
    return {
        "row_bytes": _around(_by(names, np.array(beside)), "lines of the runs"),
        "bytes_per_token": _around(
            _by(names, sizes), "texts of the runs", centre=float(np.sum(texts) / np.sum(tokens))
        ),
    }


def _other_bytes(run: Path) -> float:
    """Of a run directory for each task, beside what grows with attempts and problems."""
    info = read_info(run)
    grown = sum(
        path.stat().st_size
        for folder in ("attempts", "index", "problems")
        for path in (run / folder).glob("*")
        if path.is_file()
    )
    whole = sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
    return (whole - grown) / max(1, len(info["tasks"]))


def _speed(
    runs: Sequence[Path], parts: Sequence[Part], constants: Constants, machines: Machines
) -> tuple[dict[str, Any] | None, list[str]]:
    """The measured time by the calculated one, and why it is not known."""
    factors, notes = [], []
    for run in runs:
        own = [part for part in parts if part.run == run]
        measured, why = _measured_seconds(run, own)
        if measured is None or any(part.load is None for part in own):
            notes.append(f"{run}: its speed is not fitted ({why or 'its data is not here'})")
            continue
        work = Workload(tasks=tuple(part.load for part in own if part.load), notes=())
        counts = {part.name: len(part.attempts) for part in own}
        full = machines.speed.batch * machines.replicas
        if sum(counts.values()) < FULL * full:
            notes.append(
                f"{run}: its speed is not fitted (a run of at least {FULL * full:,} attempts keeps the engine busy "
                f"enough to tell, it has {sum(counts.values()):,})"
            )
            continue
        calculated = calculated_seconds(work, constants, machines, counts)
        factors.append(measured * machines.gpus / calculated * machines.gpu.time.value)
    if not factors:
        return None, notes
    margin = ONE_RUN if len(factors) == 1 else MANY_RUNS
    return _spread(factors, f"{len(factors)} runs", margin), notes


def _measured_seconds(run: Path, parts: Sequence[Part]) -> tuple[float | None, str]:
    """That the engine worked: of ``hf`` as its attempts say; of others from the first call to the results, loading
    left out."""
    info = read_info(run)
    if info["engine"].get("engine") == "hf":
        seconds = np.concatenate([part.attempts.column("seconds") for part in parts])
        return float(np.nansum(seconds)), ""
    calls = info.get("calls", ())
    if len(calls) != 1:
        return None, "it was made in several calls"
    try:
        begun = datetime.fromisoformat(calls[0]["at"]).timestamp()
        ended = max((run / "results.json").stat().st_mtime, attempts_path(run, parts[0].name).stat().st_mtime)
    except (OSError, KeyError, TypeError, ValueError):
        return None, "nothing says when it began and ended"
    return (ended - begun, "") if ended > begun else (None, "its files were copied")


# --- arrays ---------------------------------------------------------------------------------------------------


def _turns(attempts: Attempts) -> set[tuple[str, int]]:
    """Protocols and turns that the model wrote."""
    words = attempts.words("protocol")
    tokens = attempts.column("completion_tokens") != UNKNOWN
    pairs = zip(
        attempts.column("protocol")[tokens].tolist(), attempts.column("turn")[tokens].tolist(), strict=True
    )
    return {(words[number], turn) for number, turn in pairs}


def _at(attempts: Attempts, protocol: str, turn: int) -> Array:
    """Which are of a protocol's turn, and have their tokens counted."""
    is_of_protocol = attempts.column("protocol") == attempts.number_of("protocol", protocol)
    return np.asarray(
        is_of_protocol
        & (attempts.column("turn") == turn)
        & (attempts.column("completion_tokens") != UNKNOWN),
        dtype=bool,
    )


def _cut(attempts: Attempts) -> Array:
    number = attempts.number_of("finish", FinishReason.LENGTH.value)
    return np.asarray(attempts.column("finish") == number, dtype=bool)


def _problems(parts: Sequence[Part], chosen: Sequence[Array]) -> Array:
    """The problem of each of the chosen attempts, by its id."""
    named = [
        np.array(part.attempts.words("problem"), dtype=object)[part.attempts.column("problem")[rows]]
        for part, rows in zip(parts, chosen, strict=True)
    ]
    return np.concatenate(named).astype(str)


def _joined(parts: Sequence[Part], chosen: Sequence[Array], column: str) -> tuple[Array, Array]:
    """The problem of each of the chosen attempts, and a column of them, where it is known."""
    values = np.concatenate(
        [part.attempts.column(column)[rows] for part, rows in zip(parts, chosen, strict=True)]
    )
    known = values != UNKNOWN
    return _problems(parts, chosen)[known], values[known].astype(float)


def _by(problems: Array, values: Array) -> Array:
    """Means by problem, in the order of their names."""
    _, places = np.unique(problems, return_inverse=True)
    return np.asarray(np.bincount(places, weights=np.asarray(values, float)) / np.bincount(places))


@cache
def _t(degrees: int) -> float:
    """Student's t beyond which so much is left on both sides."""
    from scipy import special

    return float(special.stdtrit(max(1, degrees), (1 + CONFIDENCE) / 2))


def _around(
    means: Array, source: str, *, centre: float | None = None, most: float = math.inf
) -> dict[str, Any]:
    """A mean over problems with its interval; of a single problem from half of it to twice as much."""
    value = float(means.mean()) if centre is None else centre
    if len(means) < 2:
        return _quantity(value, value / 2, min(2 * value, most), source)
    half = _t(len(means) - 1) * float(means.std(ddof=1)) / math.sqrt(len(means))
    return _quantity(value, value - half, min(value + half, most), source)


def _spread(values: Sequence[float], source: str, margin: float = 1.0) -> dict[str, Any]:
    """The geometric middle of some values, and from the least to the greatest of them, with a margin."""
    if min(values) <= 0:
        return _quantity(float(np.mean(values)), 0.0, margin * max(values), source)
    value = math.exp(math.fsum(math.log(v) for v in values) / len(values))
    return _quantity(value, min(values) / margin, max(values) * margin, source)


def _quantity(value: float, low: float, high: float, source: str) -> dict[str, Any]:
    low, high = max(0.0, min(low, value)), max(high, value)
    return {"value": float(value), "low": float(low), "high": float(high), "source": source}
