"""The tables of a report, from the study's frames."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports import published
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
from cipo_reports.methods import one_seed
from cipo_reports.study import AVERAGE, Study


def tables(study: Study, *, with_published: bool = False) -> list[Table]:
    """All tables that the study has something for."""
    found = [main(study, with_published=with_published), *_optional(study)]
    if with_published:
        found.append(_published())
    return found


def _optional(study: Study) -> Iterator[Table]:
    own = any(
        PROTOCOLS[protocol].own for protocol in study.protocols
    )  # corrections of the model's own attempts
    found = (
        *([overview(study)] if own else ()),
        correction(study),
        critique(study),
        differences(study),
        passk(study),
        *categories(study),
    )
    for table in (*found, cost(study), training(study)):
        if table.rows:
            yield table


def main(study: Study, *, with_published: bool = False) -> Table:
    """Methods × tasks: the figure that stands for each task, the average, and its difference to the baseline."""
    whole = study.results[study.results["column"] == ""]
    look = Lookup(whole, "arm", "task", "protocol", "figure")
    against = Lookup(study.differences, "arm", "task", "protocol", "figure")
    heads = {task: study.headline(task) for task in study.tasks}
    average = len(set(heads.values())) == 1 and len(study.tasks) > 1
    columns = ["method", *(_column(task, head) for task, head in heads.items())]
    columns += ["average"] * average + [f"Δ to {study.baseline}"] * (study.baseline is not None and average)
    rows = []
    for arm in study.names:
        row = [name(arm)]
        for task, head in heads.items():
            found = against(arm, task, *head)
            mark = stars(found["p_holm"], one_seed=one_seed(study, arm, task)) if found else ""
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
    notes = [*_legend(study)]
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
    return make_table(
        "main", "Main results, per cent.", columns, rows, rules=rules, notes=notes, intervals=True
    )


def _column(task: str, head: tuple[str, str]) -> str:
    return task if head == (DIRECT, "pass@1") else f"{task} {head[1]}"


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


CORRECTION = (
    ("Δ(t1,t2)", "Δ(t1,t2)", True),
    ("Δ(i→c)", "Δ(i→c)", False),
    ("Δ(c→i)", "Δ(c→i)", False),
    ("correction rate", "correction_rate", False),
    ("retention", "retention", False),
    ("lift", "correction_lift", True),
    ("seq@1 gain", "seq@1 gain", True),
)
"""Columns: title, figure, whether it has a sign."""


def correction(study: Study) -> Table:
    """What became of attempts that were revised, and what as many tokens of fresh attempts give."""
    look = Lookup(study.results[study.results["column"] == ""], "arm", "task", "protocol", "figure")
    last = {
        protocol: max(
            int(match[1])
            for figure in study.results[study.results["protocol"] == protocol]["figure"]
            if (match := re.fullmatch(r"acc@t(\d+)", figure))
        )
        for protocol in study.protocols
    }
    turns = max(last.values(), default=2)
    accuracy = ["acc@t1", "acc@t2", *([f"acc@t{turns}"] if turns > 2 else [])]
    columns = ["protocol", "task", "method", *accuracy, *(title for title, _, _ in CORRECTION), "same tokens"]
    rows: list[list[Cell]] = []
    rules = []
    for protocol in study.protocols:
        for task in [*study.tasks, AVERAGE]:
            group = []
            for arm in study.names:
                if look(arm, task, protocol, "acc@t2") is None:
                    continue
                cells = [share(look(arm, task, protocol, figure)) for figure in accuracy]
                for _, figure, signed in CORRECTION:
                    # Right attempts are not asked again: they stay by construction.
                    known = not (PROTOCOLS[protocol].only_wrong and figure in ("retention", "Δ(c→i)"))
                    cells.append(share(look(arm, task, protocol, figure) if known else None, signed=signed))
                fair = (
                    "maj" if protocol == "self" else "pass"
                )  # without a verifier nobody knows which one to keep
                cells.append(share(look(arm, task, protocol, f"equal-token {fair}")))
                group.append([name(protocol), name(task), name(arm), *cells])
            if group:
                rules.append(len(rows))
                worst = 3 + len(accuracy) + 2
                rows += by_columns(group, 3, lowest=(worst,)) if len(group) > 1 else group
    notes = [
        "acc@tN: accuracy after turn N; Δ(i→c), Δ(c→i): share of attempts that went from wrong to right, from right to "
        "wrong; lift: right among revised failed attempts less right among fresh ones at the same problem; seq@1 gain: "
        "an attempt or its revision right, less pass@2.",
        "Same tokens: first attempts that cost no more tokens than a chain of turns, put to a vote (self) or with one "
        "that is right (other protocols).",
    ]
    caption = "Self-correction, per cent."
    return make_table("correction", caption, columns, rows, left=3, rules=tuple(rules[1:]), notes=notes)


CRITIQUE = (
    ("accuracy", "judgement accuracy"),
    ("precision", "judgement precision"),
    ("recall", "judgement recall"),
    ("F1", "judgement F1"),
    ("always wrong", "judgement always_wrong"),
    ("caught: corrected", "caught: corrected"),
    ("missed: corrected", "missed: corrected"),
)
"""Columns: title, figure."""


def critique(study: Study) -> Table:
    """What judgements of attempts were worth, and what became of the attempts."""
    look = Lookup(study.results[study.results["column"] == ""], "arm", "task", "protocol", "figure")
    judging = [protocol for protocol in study.protocols if PROTOCOLS[protocol].judges]
    rows: list[list[Cell]] = []
    rules = []
    for protocol in judging:
        for task in [*study.tasks, AVERAGE]:
            group = [
                [name(task), name(arm), *(share(look(arm, task, protocol, figure)) for _, figure in CRITIQUE)]
                for arm in study.names
                if look(arm, task, protocol, "judgement F1") is not None
            ]
            if group:
                rules.append(len(rows))
                rows += by_columns(group, 2) if len(group) > 1 else group
    columns = ["task", "method", *(title for title, _ in CRITIQUE)]
    notes = [
        "Positive: the attempt is wrong. Always wrong: F1 of saying so of every attempt. Corrected: share of wrong "
        "attempts that were right after it, of those that the judgement caught or missed.",
    ]
    caption = "Judgements of attempts, per cent."
    return make_table("critique", caption, columns, rows, left=2, rules=tuple(rules[1:]), notes=notes)


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
        cells = [name(row[key]) for key in ("arm", "task", "protocol")] + [name(figure_name(row["figure"]))]
        found = difference(row, one_seed=one_seed(study, row["arm"], row["task"]))
        cells += [share({"value": row["first"]}), share({"value": row["second"]}), found]
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
    return Cell(text="< 0.001" if value < 0.001 else f"{value:.3f}", value=float(value))


def passk(study: Study) -> Table:
    """pass@k and maj@k for every k that a method has."""
    whole = study.results[(study.results["column"] == "") & (study.results["protocol"] == DIRECT)]
    look = Lookup(whole, "arm", "task", "figure")
    names = sorted(
        {figure for figure in whole["figure"] if re.fullmatch(r"(pass|maj)@\d+", figure)},
        key=lambda figure: (figure.startswith("maj"), int(figure.partition("@")[2])),
    )
    rows: list[list[Cell]] = []
    rules = []
    for task in [*study.tasks, AVERAGE]:
        group = [
            [name(task), name(arm), *(share(look(arm, task, figure)) for figure in names)]
            for arm in study.names
            if look(arm, task, "pass@1") is not None
        ]
        if group:
            rules.append(len(rows))
            rows += by_columns(group, 2) if len(group) > 1 else group
    if len(names) < 2:
        rows = []
    caption = "pass@k and maj@k, per cent."
    return make_table("passk", caption, ["task", "method", *names], rows, left=2, rules=tuple(rules[1:]))


def categories(study: Study) -> Iterator[Table]:
    """A table for each column that a task is broken down by."""
    parted = study.results[study.results["column"] != ""]
    for (task, protocol, column), group in parted.groupby(["task", "protocol", "column"], sort=False):
        figures = [f for f in dict.fromkeys(group["figure"]) if f == "pass@1" or re.fullmatch(r"acc@t\d+", f)]
        figure = figures[-1]
        of_figure = group[group["figure"] == figure]
        look = Lookup(of_figure, "arm", "group")
        sizes = of_figure.groupby("group", sort=False)["problems"].max()
        rows = []
        for value in dict.fromkeys(of_figure["group"]):
            cells = [share(look(arm, value)) for arm in study.names]
            rows.append([name(value), amount(sizes[value]), *(marked(cells) if len(cells) > 1 else cells)])
        what = figure if protocol == DIRECT else f"{protocol} {figure}"
        caption = f"{task} by {column}: {what}, per cent."
        part = "" if protocol == DIRECT else f"-{protocol}"
        columns = [str(column), "problems", *study.names]
        yield make_table(f"category-{task}-{column}{part}", caption, columns, rows)


COSTS = (
    ("tokens per attempt", "tokens per attempt", 0),
    ("generated tokens", "generated tokens", 0),
    ("generation s", "generation seconds", 1),
    ("verifier s", "verifier seconds", 2),
    ("verifier failures", "verifier failures", 0),
    ("withheld", "withheld", 0),
)


def cost(study: Study) -> Table:
    """What first attempts took, and how often they were cut off; of revisions, the tokens of a chain."""
    look = Lookup(study.results[study.results["column"] == ""], "arm", "task", "protocol", "figure")
    chains = study.protocols
    withheld = bool(study.figure("withheld")["value"].astype(float).sum() > 0)
    shown = COSTS if withheld else COSTS[:-1]
    columns = ["task", "method", "attempts", "truncated %", *(title for title, _, _ in shown)]
    columns += [f"tokens of a chain, {protocol}" for protocol in chains]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        rules.append(len(rows))
        for arm in study.names:
            first = look(arm, task, DIRECT, "pass@1")
            every = [look(arm, task, DIRECT, figure) for _, figure, _ in shown]
            spent = [look(arm, task, protocol, "tokens of a chain") for protocol in chains]
            if first is None and not any(spent):
                continue
            cells = [amount(first["attempts"]) if first else Cell(text=NONE)]
            cells.append(share(look(arm, task, DIRECT, "truncated")))
            for found, (_, _, digits) in zip(every, shown, strict=True):
                cells.append(amount(found["value"], digits) if found else Cell(text=NONE))
            cells += [amount(found["value"]) if found else Cell(text=NONE) for found in spent]
            rows.append([name(task), name(arm), *cells])
    notes = [
        "Attempts over all seeds; the other figures are means of the seeds. "
        "Generation seconds as the engine shares them out.",
        *(["Withheld: replies that a server kept back, for instance by a content filter."] * withheld),
    ]
    caption = "Cost of first attempts and of chains of turns."
    return make_table("cost", caption, columns, rows, left=2, rules=tuple(rules[1:]), notes=notes)


SPENT = (
    ("steps", "", 0),
    ("problems", "drawn", 0),
    ("generated tokens", "generated_tokens", 0),
    ("processed tokens", "passed_tokens", 0),
    ("seconds", "seconds", 0),
)
"""Columns: title, figure of the trainer's log that is added up, digits."""


def training(study: Study) -> Table:
    """What each training took: its budget, by which methods are matched."""
    t = study.training[study.training["kind"] == "train"]
    several = t["data"].nunique() > 1
    columns = [*(["data"] if several else []), "method", "trainings", *(title for title, _, _ in SPENT)]
    rows: list[list[Cell]] = []
    rules = []
    for data in dict.fromkeys(t["data"]):
        rules.append(len(rows))
        for arm in study.names:
            own = t[(t["data"] == data) & (t["arm"] == arm)]
            if not len(own):
                continue
            count = own["seed"].nunique()
            sums = own.groupby("figure")["value"].sum() / count
            values = [own.groupby("seed")["step"].nunique().mean(), *(sums.get(f) for _, f, _ in SPENT[1:])]
            cells = [amount(v, digits) for v, (_, _, digits) in zip(values, SPENT, strict=True)]
            rows.append([*([name(data)] if several else []), name(arm), amount(count), *cells])
    notes = [
        "Means of the trainings. Generated: attempts, also those that dynamic sampling dropped, and corrections; "
        "processed: what went through the model in updates, prompts included. Without evaluations on the way."
    ]
    caption = "What training took."
    return make_table(
        "training", caption, columns, rows, left=1 + several, rules=tuple(rules[1:]), notes=notes
    )


def overview(study: Study) -> Table:
    """First attempts and corrections of a method in one line: pass@k, accuracy after a correction, and what became of
    failed attempts beside the control, fresh attempts at the same problems. Under ``self``, or the first protocol with
    revisions there is."""
    look = Lookup(study.results[study.results["column"] == ""], "arm", "task", "protocol", "figure")
    protocol = _main_protocol(study)
    ks = _ks(study)
    wanted = [(DIRECT, f"pass@{k}", f"pass@{k}") for k in ks]
    if protocol:
        figures = (
            ("acc@t2", "acc@t2"),
            ("correction_rate", "correction rate"),
            ("fresh", "resample"),
            ("correction_lift", "lift"),
            ("retention", "retention"),
            ("seq@1 gain", "seq@1 gain"),
        )
        wanted += [(protocol, figure, title) for figure, title in figures]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        rules.append(len(rows))
        group = []
        for arm in study.names:
            signs = {figure: figure in ("correction_lift", "seq@1 gain") for _, figure, _ in wanted}
            cells = [share(look(arm, task, of, f), signed=signs[f]) for of, f, _ in wanted]
            group.append([name(task), name(arm), *cells])
        rows += by_columns(group, 2) if len(group) > 1 else group
    columns = ["task", "method", *(title for _, _, title in wanted)]
    notes = [
        f"Corrections: {protocol}. Resample: right among fresh attempts at the problems of failed ones; lift: "
        "corrections of these less that; seq@1 gain: an attempt or its correction right, less pass@2."
    ]
    return make_table(
        "overview",
        "First attempts and corrections, per cent.",
        columns,
        rows,
        left=2,
        rules=tuple(rules[1:]),
        notes=notes,
    )


def _main_protocol(study: Study) -> str | None:
    return "self" if "self" in study.protocols else next(iter(study.protocols), None)


def _ks(study: Study) -> list[int]:
    """The smallest and the largest k of pass@k."""
    found = {int(f[5:]) for f in study.results["figure"] if re.fullmatch(r"pass@\d+", f)}
    return sorted({min(found), max(found)}) if found else []


def headline(study: Study) -> Table:
    """What a study is asked for, a figure after the other: accuracy after a correction and correction_lift (under
    ``self``, or the first protocol with revisions there is), with pass@k beside; each with its difference to the
    baseline."""
    look = Lookup(study.results[study.results["column"] == ""], "arm", "task", "protocol", "figure")
    against = Lookup(study.differences, "arm", "task", "protocol", "figure")
    protocol = _main_protocol(study)
    wanted = [(protocol, figure) for figure in ("acc@t2", "correction_lift", "retention") if protocol]
    wanted += [(DIRECT, f"pass@{k}") for k in _ks(study)]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        for of, figure in wanted:
            group = []
            for arm in study.names:
                value = share(look(arm, task, of, figure), signed=figure == "correction_lift")
                if value.value is not None:
                    found = difference(against(arm, task, of, figure), one_seed=one_seed(study, arm, task))
                    group.append([name(task), name(figure_name(figure)), name(arm), value, found])
            rules.append(len(rows))
            for row, value in zip(group, marked([row[-2] for row in group]), strict=True):
                rows.append([*row[:-2], value, row[-1]])
    columns = ["task", "figure", "method", "per cent", f"difference to {study.baseline}"]
    notes = [
        "acc@t2, lift and retention: after a correction. Differences in points, with 95 % intervals over problems and, "
        "where there are several, seeds; stars: p < 0.05, 0.01, 0.001 (over tasks adjusted, Holm). ±: deviation "
        "between seeds."
    ]
    caption = f"Corrections ({protocol}) and first attempts."
    return make_table("headline", caption, columns, rows, left=3, rules=tuple(rules[1:]), notes=notes)


def _published() -> Table:
    rows = [
        [name(figure), *(Cell(text=NONE) if v is None else Cell(text=f"{v:.2f}", value=v) for v in values)]
        for figure, *values in published.FIGURES
    ]
    caption = f"Published figures{DAGGER}, per cent."
    notes = [f"{DAGGER} {published.SOURCE}; Qwen3-4B (mathematics), Seed-Coder-8B (code). Not measured here."]
    return make_table("published", caption, ["figure", "initial", "GRPO", "CIPO"], rows, notes=notes)
