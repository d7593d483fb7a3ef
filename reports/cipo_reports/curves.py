"""Accuracy against generated tokens, and what trainers logged: the frames ``budget`` and ``training``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cipo_eval.analysis import figures as f
from cipo_eval.analysis import measures as m
from cipo_eval.analysis.rows import logged_score
from cipo_eval.analysis.sums import chains_of_run
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.arms import Arm, training_data, training_log
from cipo_reports.frames import structure, whole

REVISE = "revise"
"""Kind of a point of the budget: an attempt with its revisions. The others are families of figures: pass@k, maj@k."""


def budget(arms: Sequence[Arm], results: pd.DataFrame, mode: Mode) -> Iterator[dict[str, Any]]:
    """Accuracy against mean generated tokens of an attempt with its revisions, and of k attempts."""
    defined = whole(results)[whole(results)["value"].notna()]
    for arm in arms:
        for task in arm.tasks:
            rows = defined[(defined["arm"] == arm.name) & (defined["task"] == task)]
            first = rows[(rows["protocol"] == DIRECT) & (rows["figure"] == m.TOKENS_PER_ATTEMPT.name)]
            tokens = float(first["value"].iloc[0]) if len(first) else 0.0
            drawn = rows[rows["family"].isin([f.PASS.name, f.MAJORITY.name]) & (rows["protocol"] == DIRECT)]
            for row in drawn.to_dict("records") if tokens else ():
                yield {
                    **{"arm": arm.name, "task": task, "protocol": DIRECT, "kind": row["family"]},
                    **{"k": int(row["k"]), "tokens": int(row["k"]) * tokens, "value": float(row["value"])},
                }
            yield from _revising(arm, task, mode, rows)


def _revising(arm: Arm, task: str, mode: Mode, rows: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """Of each protocol that revises the model's own attempts, tokens up to each turn (mean over chains and seeds)."""
    runs = [run.selected(task) for run in arm.having(task)]
    for name in runs[0].protocols:
        protocol = PROTOCOLS[name]
        if not protocol.own or not all(name in run.protocols for run in runs):
            continue
        turns = min(run.turns(name) for run in runs)
        of_runs = [chains_of_run(run, protocol, mode, turns) for run in runs]
        curves = [
            np.where(chains.asked, chains.tokens, 0).mean(axis=0).cumsum()
            for chains in of_runs
            if len(chains) and chains.tokens is not None
        ]
        if not curves or not np.mean(curves, axis=0)[0]:
            continue
        accuracy = rows[(rows["protocol"] == name) & (rows["family"] == f.ACCURACY.name)].set_index("turn")
        for turn, tokens in enumerate(np.mean(curves, axis=0), start=1):
            if turn in accuracy.index:
                yield {
                    **{"arm": arm.name, "task": task, "protocol": name, "kind": REVISE, "k": turn},
                    **{"tokens": float(tokens), "value": float(accuracy["value"][turn])},
                }


def training(arms: Sequence[Arm]) -> Iterator[dict[str, Any]]:
    """Every number that trainers logged; of evaluations with the task and the score."""
    data = training_data(folder for arm in arms for folder in arm.trainings)
    for arm in arms:
        for seed, folder in enumerate(arm.trainings):
            for row in training_log(folder):
                common = {
                    "arm": arm.name,
                    "data": data[folder],
                    "seed": seed,
                    "step": row["step"],
                    "kind": row.get("kind", "train"),
                }
                for figure, value in row.items():
                    if figure not in ("step", "kind") and isinstance(value, int | float):
                        task, score = logged_score(figure)
                        yield {
                            **common,
                            "figure": figure,
                            "value": float(value),
                            "task": task,
                            **structure(score),
                        }
