"""The tables of a report, from the study's frames: results, differences, pass@k, breakdowns.

Those of corrections stand in ``correction_tables``, those of costs in ``cost_tables``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis import measures as m
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.judgements import LOCATION_F1
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports import published
from cipo_reports.arms import Arm
from cipo_reports.cells import (
    DAGGER,
    NONE,
    STARS,
    Cell,
    Lookup,
    Table,
    amount,
    by_columns,
    difference,
    figure_name,
    make_table,
    marked,
    missing,
    name,
    share,
    stars,
)
from cipo_reports.correction_tables import blind_spots, correction, critique, location, overview
from cipo_reports.cost_tables import cost, training
from cipo_reports.frames import AVERAGE, among, unique, whole
from cipo_reports.frontier import alternatives
from cipo_reports.methods import one_seed
from cipo_reports.study import Study
from cipo_reports.worth import worth_table

NO_CHANCE = 0.001
"""Smaller p are not written out."""


def tables(study: Study, *, with_published: bool = False) -> list[Table]:
    """All tables that the study has something for."""
    laid_out = [main(study, with_published=with_published), *_optional(study)]
    if with_published:
        laid_out.append(_published())
    return laid_out


def _optional(study: Study) -> Iterator[Table]:
    own = any(
        PROTOCOLS[protocol].own for protocol in study.protocols
    )  # corrections of the model's own attempts
    candidates = (
        *([overview(study), alternatives(study)] if own else ()),
        correction(study),
        critique(study),
        location(study),
        blind_spots(study),
        differences(study),
        passk(study),
        *categories(study),
        dates(study),
    )
    worth = [worth_table(study.worth)] if len(study.worth) else []
    for table in (*candidates, *worth, cost(study), training(study)):
        if table.rows:
            yield table


def main(study: Study, *, with_published: bool = False) -> Table:
    """Methods × tasks: the figure that stands for each task, the average, and its difference to the baseline."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    against = Lookup(study.differences, "arm", "task", "protocol", "figure")
    heads = {task: study.headline(task) for task in study.tasks}
    average = len(set(heads.values())) == 1 and len(study.tasks) > 1
    columns = ["method", *(_column(task, head) for task, head in heads.items())]
    columns += ["average"] * average + [f"Δ to {study.baseline}"] * (study.baseline is not None and average)
    rows = []
    for arm in study.names:
        row = [name(arm)]
        for task, head in heads.items():
            test = against(arm, task, *head)
            mark = stars(test["p_holm"], one_seed=one_seed(study, arm, task)) if test else ""
            row.append(share(look(arm, task, *head), stars=mark))
        if average:
            head = next(iter(heads.values()))
            row.append(share(look(arm, AVERAGE, *head)))
            if study.baseline is not None:
                alone = one_seed(study, arm, AVERAGE)
                row.append(difference(against(arm, AVERAGE, *head), one_seed=alone))
        rows.append(row)
    rows = by_columns(rows, 1) if len(rows) > 1 else rows
    if study.baseline is not None and average:  # the best difference is the best average
        rows = [[*row[:-1], replace(row[-1], mark="")] for row in rows]
    rules: tuple[int, ...] = ()
    notes = [*_legend(study), *_saturated(study, heads)]
    if average and (lacking := [task for task in study.tasks if _lacks(study, task)]):
        notes.append(f"Average: of the tasks that all methods have, without {', '.join(lacking)}.")
    if with_published:
        rules = (len(rows),)
        for method, values in published.METHODS.items():
            if not values.keys() & heads.keys():
                continue
            cells = [
                Cell(text=f"{values[task]:.1f}", value=values[task] / 100)
                if task in values
                else Cell(text=NONE)
                for task in heads
            ]
            rows.append([name(method + DAGGER), *cells, *[Cell(text=NONE)] * (len(columns) - 1 - len(cells))])
        if len(rows) > rules[0]:
            notes.append(f"{DAGGER} Published ({published.SOURCE}), not measured here.")
        else:
            rules = ()
    table = make_table(
        "main", "Main results, per cent.", columns, rows, rules=rules, notes=notes, intervals=True
    )
    return replace(table, setup=_setup(study))


def _setup(study: Study) -> str:
    """How many problems, samples and tokens there were, and how it was tested: what the caption in a paper says."""
    asked = [entry for arm in study.arms for run in arm.runs for entry in run.info["tasks"].values()]
    counted = whole(study.results)
    sizes = counted[counted["task"].isin(study.tasks)].groupby("task", sort=False)["problems"].max()
    samples = sorted({entry["samples"] for entry in asked if entry.get("samples")})
    tokens = sorted({top for entry in asked if (top := (entry.get("sampling") or {}).get("max_tokens"))})
    said = [f"n = {', '.join(f'{size} ({task})' for task, size in sizes.items())} problems"]
    said += [f"{_listed(samples)} sample{'s' * (samples != [1])} each"] * bool(samples)
    said += [f"at most {_listed(tokens)} tokens an answer"] * bool(tokens)
    said += ["95 % intervals over problems" + " and seeds" * bool(counted["seeds"].max() > 1)]
    if study.baseline is not None:
        said += [f"stars: paired tests against {study.baseline}, two-sided, Holm's correction over tasks"]
    return "; ".join(said) + "."


def _listed(numbers: Sequence[int]) -> str:
    return " or ".join(str(value) for value in numbers)


def _column(task: str, head: tuple[str, Figure]) -> str:
    return task if head[1] is f.PASS.at(1) else f"{task} {head[1].name}"


def _lacks(study: Study, task: str) -> bool:
    return any(task not in arm.tasks for arm in study.arms)


def _legend(study: Study) -> Iterator[str]:
    if len(study.arms) > 1:
        yield "Best in bold, second underlined."
    if study.baseline is not None:
        limits = ", ".join(f"{mark} p < {limit}" for limit, mark in reversed(STARS))
        yield f"Against {study.baseline}, adjusted for the number of tasks (Holm): {limits}."
    if study.results["seeds"].max() > 1:
        yield "Mean ± standard deviation between seeds."


def differences(study: Study) -> Table:
    """Each method against the baseline, figure by figure."""
    columns = [
        "method",
        "task",
        "protocol",
        "figure",
        str(study.baseline),
        "this method",
        "difference",
        "p",
        "p adjusted",
    ]
    columns += ["smallest visible"]
    rows: list[list[Cell]] = []
    rules = []
    previous = None
    for row in study.differences.to_dict("records"):
        group = (row["arm"], row["task"] if study.protocols else "")
        if group != previous and rows:
            rules.append(len(rows))
        previous = group
        cells = [name(row[key]) for key in ("arm", "task", "protocol")] + [figure_name(row["measure"])]
        change = difference(row, one_seed=one_seed(study, row["arm"], row["task"]))
        cells += [share({"value": row["first"]}), share({"value": row["second"]}), change]
        cells += [_p(row["p"]), _p(row["p_holm"]), share({"value": row["mde"]})]
        rows.append(cells)
    notes = [
        "Paired by problem. p: permutation test, or over seeds and problems where there are several seeds; adjusted "
        "over tasks (Holm). Smallest visible: the smallest true difference that would show with 80 % power.",
    ]
    caption = f"Differences to {study.baseline}, points, with 95 % intervals."
    return make_table("differences", caption, columns, rows, left=4, rules=tuple(rules), notes=notes)


def _p(value: Any) -> Cell:
    if missing(value):
        return Cell(text=NONE)
    return Cell(text=f"< {NO_CHANCE}" if value < NO_CHANCE else f"{value:.3f}", value=float(value))


def passk(study: Study) -> Table:
    """pass@k and maj@k for every k that a method has, and a user's own figures of first attempts."""
    first = whole(study.results)[whole(study.results)["protocol"] == DIRECT]
    look = Lookup(first, "arm", "task", "figure")
    figures = [
        measure
        for family in (f.PASS.name, f.MAJORITY.name)
        for measure in unique(among(first, family).sort_values("k")["measure"])
    ]
    figures += [figure for figure in study.figures if len(among(first, figure.family))]
    rows: list[list[Cell]] = []
    rules = []
    for task in [*study.tasks, AVERAGE]:
        group = [
            [name(task), name(arm), *(share(look(arm, task, x), signed=x.signed) for x in figures)]
            for arm in study.names
            if look(arm, task, f.PASS.at(1)) is not None
        ]
        if group:
            rules.append(len(rows))
            plain = [2 + i for i, figure in enumerate(figures) if figure in study.figures]
            rows += by_columns(group, 2, plain) if len(group) > 1 else group
    if len(figures) < 2:
        rows = []
    caption = "pass@k and maj@k, per cent."
    columns = ["task", "method", *(figure.label for figure in figures)]
    return make_table("passk", caption, columns, rows, left=2, rules=tuple(rules[1:]), figures=figures)


def categories(study: Study) -> Iterator[Table]:
    """A table for each column that a task is broken down by."""
    parted = study.results[study.results["column"] != ""]
    for (task, protocol, column), group in parted.groupby(["task", "protocol", "column"], sort=False):
        figure = unique(among(group, f.PASS.name, f.ACCURACY.name, LOCATION_F1.family)["measure"])[-1]
        of_figure = group[group["figure"] == figure.name]
        look = Lookup(of_figure, "arm", "group")
        sizes = of_figure.groupby("group", sort=False)["problems"].max()
        rows = []
        for value in dict.fromkeys(of_figure["group"]):
            cells = [share(look(arm, value)) for arm in study.names]
            rows.append([name(value), amount(sizes[value]), *(marked(cells) if len(cells) > 1 else cells)])
        what = figure.label if protocol == DIRECT else f"{protocol} {figure.label}"
        caption = f"{task} by {column}: {what}, per cent."
        part = "" if protocol == DIRECT else f"-{protocol}"
        columns = [str(column), "problems", *study.names]
        yield make_table(f"category-{task}-{column}{part}", caption, columns, rows)


def dates(study: Study) -> Table:
    """When the answers of each task became public, and for models whose cut-off is known whether that was before."""
    known = {
        task: entry for task in study.tasks for entry in _of_tasks(study.arms, task) if "released" in entry
    }
    cut = [
        arm
        for arm in study.arms
        if any("model_cutoff" in e for task in known for e in _of_tasks([arm], task))
    ]
    rows = []
    for task, entry in known.items():
        cells = [name(task), name(entry["released"])]
        for arm in cut:
            golds = [e["golds"] for e in _of_tasks([arm], task) if "golds" in e]
            cells.append(name(golds[0]) if golds else Cell(text=NONE))
        rows.append(cells)
    columns = ["task", "answers public", *(f"{arm.name} ({_cutoff(arm)})" for arm in cut)]
    notes = [
        "Before: the answers were public when the model's training data ends (the date in brackets), so that it may "
        "have been trained on them. After: they were not. Across: some were, or the dates are too coarse to say."
    ]
    caption = "When the answers of the tasks became public" + (", and the models' cut-offs." if cut else ".")
    return make_table("dates", caption, columns, rows, left=2 + len(cut), notes=notes if cut else ())


def _of_tasks(arms: Iterable[Arm], task: str) -> list[Mapping[str, Any]]:
    return [run.results["tasks"][task] for arm in arms for run in arm.having(task)]


def _cutoff(arm: Arm) -> str:
    cutoffs = {str(run.info["model_cutoff"]) for run in arm.runs if "model_cutoff" in run.info}
    return ", ".join(sorted(cutoffs))


def _saturated(study: Study, heads: Mapping[str, tuple[str, Figure]]) -> list[str]:
    """What readers must not overlook of tasks that a method all but solves."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    high = {
        task: [
            arm for arm in study.names if (row := look(arm, task, *head)) and (row["value"] or 0) > m.CEILING
        ]
        for task, head in heads.items()
    }
    told = "; ".join(f"{task} ({', '.join(arms)})" for task, arms in high.items() if arms)
    return [f"At the ceiling, above {m.CEILING:.0%}: {told}. Differences there say little."] if told else []


def _published() -> Table:
    rows = [
        [name(figure), *(Cell(text=NONE) if v is None else Cell(text=f"{v:.2f}", value=v) for v in values)]
        for figure, *values in published.FIGURES
    ]
    caption = f"Published figures{DAGGER}, per cent."
    notes = [f"{DAGGER} {published.SOURCE}; Qwen3-4B (mathematics), Seed-Coder-8B (code). Not measured here."]
    return make_table("published", caption, ["figure", "initial", "GRPO", "CIPO"], rows, notes=notes)
