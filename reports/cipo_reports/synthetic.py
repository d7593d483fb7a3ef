"""A made-up study: run directories and training logs of three arms, for the gallery, for tests and for benchmarks.

Every number in it is invented; the files are in the form that the harness and the trainer write. Attempts are short
derivations and small programs with slips, so that pages have mathematics, code and differences between turns to show.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cipo_eval.analysis.revisions import revisions
from cipo_eval.analysis.summary import summarise
from cipo_eval.records import (
    SCHEMA_VERSION,
    Attempt,
    AttemptKey,
    FinishReason,
    Mode,
    State,
    Verdict,
    fingerprint,
)
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": 512, "stop": []}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skill:
    """What an arm's model can do, as log-odds at a problem of middling difficulty."""

    right: float
    """Log-odds that a first attempt is right."""
    corrects: float
    """Log-odds that a wrong attempt is right after a revision."""
    keeps: float
    """Log-odds that a right attempt stays right after a revision."""


ARMS: Mapping[str, Skill] = {
    "warm start": Skill(right=-0.6, corrects=-1.4, keeps=1.6),
    "GRPO": Skill(right=0.6, corrects=-0.9, keeps=1.9),
    "CIPO": Skill(right=0.7, corrects=0.4, keeps=2.6),
}
TASKS: Mapping[str, float] = {"sums": 0.6, "equations": -0.3, "programs": -0.1}
"""How easy each task is, in log-odds; ``programs`` are judged by tests."""
TURNS: Mapping[str, int] = {"self": 3, "oracle": 2}


def make_study(
    folder: Path,
    *,
    seeds: int = 3,
    problems: int = 60,
    samples: int = 8,
    padding: int = 0,
    arms: Mapping[str, Skill] = ARMS,
    turns: Mapping[str, int] = TURNS,
) -> dict[str, list[Path]]:
    """Writes the runs and trainings of all arms; returns their folders by arm. ``padding``: characters that are added
    to each attempt, to make studies of any size. ``turns``: those of each protocol; none make first attempts only."""
    runs: dict[str, list[Path]] = {}
    for number, (arm, skill) in enumerate(arms.items()):
        runs[arm] = []
        for seed in range(seeds):
            rng = np.random.default_rng([number, seed])
            run = folder / f"{arm.replace(' ', '-').lower()}-{seed}"
            _write_run(run, arm, skill, rng, problems, samples, padding, turns)
            runs[arm].append(run)
            if arm != "warm start":
                runs[arm].append(_write_training(folder / f"{run.name}-training", skill, rng))
    return runs


def _write_run(
    run: Path,
    arm: str,
    skill: Skill,
    rng: np.random.Generator,
    problems: int,
    samples: int,
    padding: int,
    turns: Mapping[str, int],
) -> None:
    (run / "attempts").mkdir(parents=True)
    (run / "problems").mkdir()
    tasks, results = {}, {}
    skill_of_seed = float(rng.normal(0, 0.08))
    for task, ease in TASKS.items():
        asked = list(_problems(task, problems))
        attempts = list(_attempts(task, ease + skill_of_seed, skill, asked, samples, rng, padding, turns))
        _lines(run / "problems" / f"{task}.jsonl", asked)
        _lines(run / "attempts" / f"{task}.jsonl", (attempt.to_json() for attempt in attempts))
        metadata = {problem["id"]: problem["metadata"] for problem in asked}
        tasks[task] = _asked(task, samples, turns)
        results[task] = _results(task, attempts, metadata, turns)
    engine = {
        "engine": "hf",
        "model": f"made-up/{arm.replace(' ', '-').lower()}",
        "fingerprint": fingerprint(arm),
    }
    info = {"schema": SCHEMA_VERSION, "created": "2026-01-01T00:00:00+00:00", "engine": engine, "seed": 0}
    info |= {"modes": ["fixed"], "tasks": tasks, "calls": [], "environment": {}}
    (run / "run.json").write_text(json.dumps(info, indent=1))
    whole = {"schema": SCHEMA_VERSION, "run": run.name, "model": engine, "tasks": results}
    (run / "results.json").write_text(json.dumps(whole, indent=1))


def _lines(path: Path, rows: Any) -> None:
    with path.open("w") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def _asked(task: str, samples: int, turns: Mapping[str, int]) -> dict[str, Any]:
    """A task's entry in ``run.json``."""
    protocols = {
        name: {"templates": "made-up", "turns": last, "samples": samples, "limit": None}
        for name, last in turns.items()
    }
    same: dict[str, Any] = {
        "data": fingerprint(task),
        "prompts": "made-up",
        "verifier": "math",
        "think": "strip",
    }
    same |= {"harness": None, "scope": None, "sampling": SAMPLING, "protocols": protocols}
    return {**same, "samples": samples, "limit": None, "direct": True, "source": {"kind": "made up"}}


def _results(
    task: str,
    attempts: list[Attempt],
    metadata: Mapping[str, Mapping[str, Any]],
    turns: Mapping[str, int],
) -> dict[str, Any]:
    """A task's entry in ``results.json``, by the harness's own metrics."""
    first = [attempt for attempt in attempts if attempt.protocol == DIRECT]
    votes = task != "programs"
    block: dict[str, Any] = {
        "fixed": summarise(
            task, first, metadata, mode="fixed", bootstrap=300, breakdown=("level",), majority=votes
        )
    }
    block["protocols"] = {
        name: {
            "fixed": revisions(
                task,
                [a for a in attempts if a.protocol in (DIRECT, name)],
                PROTOCOLS[name],
                mode=Mode.FIXED,
                turns=last,
                bootstrap=300,
                first=first,
                votes=votes,
                metadata=metadata,
                breakdown=("level",),
            )
        }
        for name, last in turns.items()
    }
    return {**block, "missing_attempts": 0}


def _problems(task: str, count: int) -> Iterator[dict[str, Any]]:
    rng = np.random.default_rng(len(task))
    for number in range(count):
        a, b, level = int(rng.integers(2, 60)), int(rng.integers(2, 60)), number % 3 + 1
        question, answer = {
            "sums": (
                f"What is $\\frac{{{a}}}{{{b}}} + \\frac{{{b}}}{{{a}}}$?",
                f"\\frac{{{a * a + b * b}}}{{{a * b}}}",
            ),
            "equations": (f"Solve $x^2 = {a * a}$ for $x > 0$, and give $x + {b}$.", f"{a + b}"),
            "programs": (f"Write `f(x)`: the sum of x, {a} and {b}.", ""),
        }[task]
        shown = {"answer": answer} if answer else {}
        yield {
            "id": f"{task}-{number}",
            "question": question,
            **shown,
            "metadata": {"level": level},
            "a": a,
            "b": b,
        }


def _attempts(
    task: str,
    ease: float,
    skill: Skill,
    problems: list[dict[str, Any]],
    samples: int,
    rng: np.random.Generator,
    padding: int,
    turns: Mapping[str, int],
) -> Iterator[Attempt]:
    for problem in problems:
        hard = _difficulty(problem)
        for sample in range(samples):
            right = rng.random() < _logistic(ease - hard + skill.right)
            first = _attempt(task, problem, DIRECT, sample, 1, right, rng, padding)
            yield first
            for name, last in turns.items():
                before, was = first, right
                for turn in range(2, last + 1):
                    if PROTOCOLS[name].only_wrong and was:
                        break
                    odds = skill.keeps if was else skill.corrects - hard / 2 + (name == "oracle") * 0.4
                    was = rng.random() < _logistic(odds)
                    before = _attempt(task, problem, name, sample, turn, was, rng, padding, before)
                    yield before


def _difficulty(problem: Mapping[str, Any]) -> float:
    """The same for all arms and in every process."""
    rng = np.random.default_rng(int(fingerprint(problem["id"]), 16))
    return float(rng.normal(0, 1.3) + problem["metadata"]["level"] - 2)


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _attempt(
    task: str,
    problem: Mapping[str, Any],
    protocol: str,
    sample: int,
    turn: int,
    right: bool,
    rng: np.random.Generator,
    padding: int,
    before: Attempt | None = None,
) -> Attempt:
    kind = rng.random()
    state = State.CORRECT if right else State.INCORRECT if kind < 0.9 else State.NO_ANSWER
    finish = FinishReason.STOP
    if state is State.NO_ANSWER and kind > 0.95:
        state, finish = State.TRUNCATED, FinishReason.LENGTH
    text, answer = _text(task, problem, right, state, int(rng.integers(1, 5)))
    if padding:
        words = rng.integers(0, 5000, size=padding // 6)
        text = " ".join(f"w{word}" for word in words)[:padding] + "\n" + text
    tokens = len(text) // 3
    parent = AttemptKey(task, before.problem, before.protocol, before.sample, before.turn) if before else None
    report = {} if task != "programs" or right else {"failure": {"test": 0, "kind": "wrong", "input": "[1]"}}
    return Attempt(
        task=task,
        problem=problem["id"],
        protocol=protocol,
        sample=sample,
        turn=turn,
        parent=str(parent) if parent else None,
        prompt_hash=fingerprint(problem["id"]),
        seed=1,
        text=text,
        finish_reason=finish,
        prompt_tokens=60,
        completion_tokens=tokens,
        seconds=tokens / 900,
        verdicts={
            Mode.FIXED: Verdict(
                correct=right,
                state=state,
                extracted=answer,
                canonical=answer,
                seconds=0.002,
                report=report,
            )
        },
    )


def _text(
    task: str, problem: Mapping[str, Any], right: bool, state: State, slip: int
) -> tuple[str, str | None]:
    a, b = problem["a"], problem["b"]
    off = 0 if right else slip
    if task == "programs":
        body = f"def f(x):\n    # the sum of all three\n    total = x + {a + off}\n    return total + {b}\n"
        return f"Add the numbers one after another.\n\n```python\n{body}```\n", None
    if task == "equations":
        text = f"From $x^2 = {a * a}$ and $x > 0$ we have $x = \\sqrt{{{a * a}}} = {a + off}$.\n"
        answer = f"{a + off + b}"
    else:
        text = (
            f"Bring both over the common denominator:\n\\[\\frac{{{a}}}{{{b}}} + \\frac{{{b}}}{{{a}}} = "
            f"\\frac{{{a}^2 + {b}^2}}{{{a} \\cdot {b}}} = \\frac{{{a * a + b * b + off}}}{{{a * b}}}\\]\n"
        )
        answer = f"\\frac{{{a * a + b * b + off}}}{{{a * b}}}"
    if state is State.TRUNCATED:
        return text[: len(text) * 2 // 3], None
    if state is State.NO_ANSWER:
        return text + "I am not sure how to go on.", None
    return f"{text}So the answer is $\\boxed{{{answer}}}$.", answer


def _write_training(folder: Path, skill: Skill, rng: np.random.Generator, steps: int = 120) -> Path:
    folder.mkdir()
    corrected = skill.corrects > 0
    rows = []
    for step in range(1, steps + 1):
        at = 1 - math.exp(-step / 40)
        base = _logistic(-0.6 + (skill.right + 0.6) * at) + rng.normal(0, 0.02)
        row: dict[str, Any] = {
            "step": step,
            "kind": "train",
            "base_accuracy": base,
            "entropy": 0.6 - 0.35 * at,
        }
        row |= {
            "kl": 0.02 * at**2 + abs(rng.normal(0, 0.001)),
            "base_length": 90 + 25 * at + rng.normal(0, 2),
        }
        row |= {"base_zero_variance": 0.15 + 0.4 * at + rng.normal(0, 0.03)}
        if corrected:
            keeps = _logistic(1.2 + 1.4 * at) + rng.normal(0, 0.02)
            row |= {
                "correction_accuracy": base + 0.12 * at,
                "retention": min(1.0, keeps),
                "rho": 0.3 + 0.2 * at,
            }
            row |= {"correction_zero_variance": 0.1 + 0.3 * at, "correction_length": 70 + 20 * at}
        row |= {"drawn": 32.0, "generated_tokens": 256 * row["base_length"], "seconds": 2.0}
        row["passed_tokens"] = row["generated_tokens"] * (1.6 if corrected else 1.2)
        rows.append(row)
        if step % 20 == 0:
            solved = {"fractions/pass@1": base, "fractions/pass@4": 1 - (1 - base) ** 2}
            rows.append({"step": step, "kind": "eval", **solved})
    _lines(folder / "log.jsonl", rows)
    return folder
