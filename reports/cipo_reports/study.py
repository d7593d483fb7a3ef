"""The one data model of reports: every figure of every arm as a row of a tidy frame (columns: ``frames``).

``results``: arm, task, protocol, figure, and for a breakdown its column and group; value with interval and, over
seeds, standard deviation. ``differences``: what ``cipo-eval compare`` says of each arm against the baseline.
``budget``: accuracy against generated tokens. ``training``: the trainer's log. Tables, plots and the page are made of
these and of nothing else; values of single runs are those of ``results.json``, verdicts are never recomputed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Figure, Measure
from cipo_eval.analysis.judgements import JUDGEMENT_ACCURACY, LOCATION_F1
from cipo_eval.analysis.rows import withheld
from cipo_eval.errors import UsageError
from cipo_eval.metrics.bootstrap import RESAMPLES
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, place
from cipo_reports.across import Against, averages, differences
from cipo_reports.arms import Arm, baseline_of, shared_mode
from cipo_reports.curves import budget, training
from cipo_reports.fonts import not_drawable
from cipo_reports.frames import AVERAGE, BUDGET, RESULTS, RUNS, TRAINING, WORTH, frame
from cipo_reports.runs import run_rows
from cipo_reports.seeds import Tables, arm_rows, tables_of
from cipo_reports.worth import Worth, worth_rows

__all__ = ["AVERAGE", "Study", "read_study"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Arms with everything that is known about them, as frames."""

    arms: tuple[Arm, ...]
    baseline: str | None
    mode: Mode
    results: pd.DataFrame
    differences: pd.DataFrame
    budget: pd.DataFrame
    training: pd.DataFrame
    worth: pd.DataFrame = field(default_factory=lambda: frame([], WORTH))
    """What corrections are worth, where it was asked for (``worth``)."""
    runs: pd.DataFrame = field(default_factory=lambda: frame([], RUNS))
    """Figures of single runs, where an arm has several."""
    paired: bool = False
    """The i-th run of each arm began with the same weights."""
    notes: tuple[str, ...] = ()
    """What the reader must not overlook."""
    figures: tuple[Figure, ...] = ()
    """A user's own, beside the table's."""

    @property
    def names(self) -> list[str]:
        return [arm.name for arm in self.arms]

    @property
    def tasks(self) -> list[str]:
        return list(dict.fromkeys(task for arm in self.arms for task in arm.tasks))

    @property
    def protocols(self) -> list[str]:
        """Those with revisions, in the order of ``PROTOCOLS``, the variants of one by their cuts."""
        there = set(self.results["protocol"])
        return [name for name in sorted(PROTOCOLS, key=place) if name != DIRECT and name in there]

    def figure(self, figure: Measure | str, protocol: str = DIRECT, *, column: str = "") -> pd.DataFrame:
        """The rows of a figure, or of the figure of that name, of a protocol, averages included; ``column``: of a
        breakdown."""
        r, name = self.results, figure.name if isinstance(figure, Measure) else figure
        return r[(r["figure"] == name) & (r["protocol"] == protocol) & (r["column"] == column)]

    def headline(self, task: str) -> tuple[str, Figure]:
        """Protocol and figure that stand for a task: pass@1; where the model made no first attempts, what it made of
        others' (accuracy of judgements, accuracy after correcting)."""
        of_task = self.results[self.results["task"] == task]
        rows = {(row["protocol"], row["figure"]): row["measure"] for row in of_task.to_dict("records")}
        for protocol, figure in (
            (DIRECT, f.PASS.at(1)),
            ("critique", JUDGEMENT_ACCURACY),
            ("critique-step", LOCATION_F1),
            ("given", f.ACCURACY.at(2)),
        ):
            if (protocol, figure.name) in rows:
                return protocol, figure
        protocol, name = min(rows)
        return protocol, rows[protocol, name]


def read_study(
    arms: Sequence[Arm],
    *,
    baseline: str | None = None,
    mode: Mode | None = None,
    bootstrap: int = RESAMPLES,
    force: bool = False,
    paired: bool = False,
    figures: Sequence[Figure] = (),
    worth: Worth | None = None,
    remarks: Sequence[str] = (),
) -> Study:
    """``paired``: the i-th run of each arm began with the same weights. ``figures``: a user's own, beside the table's.
    ``worth``: the arms that the worth of corrections is made of, where that is asked for. ``remarks``: notes of whoever
    made the runs.

    Raises ``UsageError`` for runs that cannot be read or were asked different things (unless ``force``).
    """
    judged, base = shared_mode(arms, mode), baseline_of(arms, baseline)
    for arm in arms:
        if not arm.tasks:
            raise UsageError(f"no task of {arm.name} has results: run its command again to finish it")
    notes = [note for arm in arms for note in _failures(arm, judged)]
    notes += not_drawable([*(arm.name for arm in arms), *(task for arm in arms for task in arm.tasks)])
    rows: list[dict[str, Any]] = []
    tables: dict[tuple[str, str], Tables] = {}
    for arm in arms:
        for task in arm.tasks:
            if len(arm.having(task)) > 1:
                tables[arm.name, task] = tables_of(arm, task, judged, figures)
            of_task, said = arm_rows(arm, task, judged, tables.get((arm.name, task), {}), figures)
            rows += of_task
            notes += said
    results = frame(rows, RESULTS)
    means, over = averages(results, arms, tables)
    results = pd.concat([results, means], ignore_index=True)
    how = Against(
        mode=judged,
        tables=tables,
        over=over,
        bootstrap=bootstrap,
        force=force,
        paired=paired,
        figures=figures,
    )
    against, said = differences(arms, base, how)
    return Study(
        arms=tuple(arms),
        baseline=base,
        mode=judged,
        results=results,
        differences=against,
        budget=frame(list(budget(arms, results, judged)), BUDGET),
        training=frame(list(training(arms)), [*TRAINING, "task"]),
        worth=frame(worth_rows(arms, worth, judged), WORTH),
        runs=frame(list(run_rows(arms, judged)), RUNS),
        paired=paired,
        notes=tuple(dict.fromkeys([*notes, *said, *remarks])),
        figures=tuple(figures),
    )


def _failures(arm: Arm, mode: Mode) -> Iterator[str]:
    """Failed verifiers, replies that were withheld, and attempts that do not count."""
    for run in arm.runs:
        for task, entry in run.results["tasks"].items():
            block = entry.get(mode.value, {})
            states = block.get("states", {})
            failed = states.get("verifier_timeout", 0) + states.get("verifier_error", 0)
            if failed:
                yield f"{arm.name}, {task}: {failed} attempts could not be judged and count as wrong ({run.path.name})"
            revised = (of[mode.value] for of in entry.get("protocols", {}).values() if mode.value in of)
            if held := states.get("filtered", 0) + sum(map(withheld, revised)):
                yield f"{arm.name}, {task}: a server withheld {held} replies, which count as wrong ({run.path.name})"
            if spare := entry.get("not_asked"):
                yield f"{arm.name}, {task}: {spare} attempts were not asked for, and do not count ({run.path.name})"
            if missing := entry.get("missing_attempts"):
                yield f"{arm.name}, {task}: {missing} attempts are missing ({run.path.name})"
