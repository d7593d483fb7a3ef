"""Tables of corrections: what became of attempts, what judgements were worth, and what a study is asked for."""

from __future__ import annotations

from collections.abc import Sequence

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.blind_spots import BLIND_SPOT, BLIND_SPOTS
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.judgements import (
    ALWAYS_WRONG,
    CAUGHT,
    JUDGEMENT_ACCURACY,
    JUDGEMENT_F1,
    JUDGEMENT_PRECISION,
    JUDGEMENT_RECALL,
    LOCATIONS,
    MISSED,
)
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS
from cipo_reports.cells import (
    Cell,
    Lookup,
    Table,
    by_columns,
    difference,
    figure_name,
    make_table,
    marked,
    name,
    share,
)
from cipo_reports.frames import AVERAGE, among, whole
from cipo_reports.methods import one_seed
from cipo_reports.study import Study

COLUMNS: tuple[Figure, ...] = (
    f.CHANGE.at(2),
    f.INTO_RIGHT.at(2),
    f.INTO_WRONG.at(2),
    f.CORRECTION_RATE.at(2),
    f.RETENTION.at(2),
    f.LIFT,
    f.SEQUENTIAL_GAIN.at(1),
)
"""Columns of the table of corrections, between accuracies and what the same tokens give otherwise."""


def correction(study: Study) -> Table:
    """What became of attempts that were revised, and what as many tokens of fresh attempts give."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    accuracies = among(study.results, f.ACCURACY.name)
    turns = int(accuracies["turn"].max()) if len(accuracies) else 2
    accuracy = [f.ACCURACY.at(turn) for turn in (1, 2, *([turns] if turns > 2 else []))]
    shown = (*COLUMNS, *(figure for figure in study.figures if len(among(study.results, figure.family))))
    columns = ["protocol", "task", "method", *(figure.label for figure in (*accuracy, *shown)), "same tokens"]
    unmarked = (f.INTO_RIGHT.at(2), f.INTO_WRONG.at(2), *study.figures)
    plain = [3 + len(accuracy) + i for i, figure in enumerate(shown) if figure in unmarked]
    plain.append(len(columns) - 1)
    rows: list[list[Cell]] = []
    rules = []
    for protocol in study.protocols:
        for task in [*study.tasks, AVERAGE]:
            group = []
            for arm in study.names:
                if look(arm, task, protocol, f.ACCURACY.at(2)) is None:
                    continue
                cells = [share(look(arm, task, protocol, figure)) for figure in accuracy]
                for figure in shown:
                    row = look(arm, task, protocol, figure)
                    # Right attempts that are not asked again stay by construction.
                    nought = PROTOCOLS[protocol].only_wrong and figure is f.INTO_WRONG.at(2)
                    applies = figure.applies(PROTOCOLS[protocol]) and not nought
                    cells.append(share(row if applies else None, signed=figure.signed))
                # without a verifier nobody knows which one to keep
                fair = f.EQUAL_MAJORITY if protocol == "self" else f.EQUAL_PASS
                cells.append(share(look(arm, task, protocol, fair.at(1))))
                group.append([name(protocol), name(task), name(arm), *cells])
            if group:
                rules.append(len(rows))
                rows += by_columns(group, 3, plain) if len(group) > 1 else group
    notes = [
        "acc@tN: accuracy after turn N; Δ(i→c), Δ(c→i): share of attempts that went from wrong to right, from right to "
        "wrong; lift: right among revised failed attempts less right among fresh ones at the same problem; seq@1 gain: "
        "an attempt or its revision right, less pass@2.",
        "Same tokens: first attempts that cost no more tokens than a chain of turns, put to a vote (self) or with one "
        "that is right (other protocols).",
    ]
    caption = "Self-correction, per cent."
    return make_table(
        "correction",
        caption,
        columns,
        rows,
        left=3,
        rules=tuple(rules[1:]),
        notes=notes,
        figures=(*accuracy, *shown),
    )


CRITIQUE: tuple[tuple[str, Figure], ...] = (
    ("accuracy", JUDGEMENT_ACCURACY),
    ("precision", JUDGEMENT_PRECISION),
    ("recall", JUDGEMENT_RECALL),
    ("F1", JUDGEMENT_F1),
    ("always wrong", ALWAYS_WRONG),
    (CAUGHT.label, CAUGHT),
    (MISSED.label, MISSED),
)
"""Columns of the table of judgements: title, figure."""


LOCATION: tuple[tuple[str, Figure], ...] = (
    *((figure.label, figure) for figure in LOCATIONS),
    ("accuracy, right or wrong", JUDGEMENT_ACCURACY),
    ("F1, right or wrong", JUDGEMENT_F1),
)
"""Columns of the table of judgements that name a step."""


def critique(study: Study) -> Table:
    """What judgements of attempts were worth, and what became of the attempts."""
    notes = [
        "Positive: the attempt is wrong. Always wrong: F1 of saying so of every attempt. Corrected: share of wrong "
        "attempts that were right after it, of those that the judgement caught or missed.",
    ]
    caption = "Judgements of attempts, per cent."
    return _judgements(study, "critique", caption, CRITIQUE, notes, locates=False)


def location(study: Study) -> Table:
    """Whether judgements name the first wrong step of an attempt."""
    notes = [
        "Error accuracy: of attempts with a wrong step, those whose first wrong step is named. Correct accuracy: of "
        "attempts without one, those that are said to have none. Location F1: their harmonic mean (ProcessBench). "
        "Right or wrong: any step that is named says that the attempt is wrong.",
    ]
    return _judgements(study, "location", "First wrong steps, per cent.", LOCATION, notes, locates=True)


def _judgements(
    study: Study,
    key: str,
    caption: str,
    shown: Sequence[tuple[str, Figure]],
    notes: Sequence[str],
    *,
    locates: bool,
) -> Table:
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    judging = [p for p in study.protocols if PROTOCOLS[p].judges and PROTOCOLS[p].locates is locates]
    rows: list[list[Cell]] = []
    rules = []
    for protocol in judging:
        for task in [*study.tasks, AVERAGE]:
            group = [
                [name(task), name(arm), *(share(look(arm, task, protocol, figure)) for _, figure in shown)]
                for arm in study.names
                if look(arm, task, protocol, JUDGEMENT_F1) is not None
            ]
            if group:
                rules.append(len(rows))
                plain = [2 + i for i, (_, figure) in enumerate(shown) if figure is ALWAYS_WRONG]
                rows += by_columns(group, 2, plain) if len(group) > 1 else group
    columns = ["task", "method", *(title for title, _ in shown)]
    return make_table(key, caption, columns, rows, left=2, rules=tuple(rules[1:]), notes=notes)


def blind_spots(study: Study) -> Table:
    """What a model makes of the same wrong attempts as its own words and as somebody else's: a row for each cut and
    with Wait or without."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    continuing = [protocol for protocol in study.protocols if PROTOCOLS[protocol].continues]
    rows: list[list[Cell]] = []
    rules = []
    for task in [*study.tasks, AVERAGE]:
        for arm in study.names:
            group = [
                [
                    name(task),
                    name(arm),
                    name(protocol),
                    *(
                        share(look(arm, task, protocol, figure), signed=figure.signed)
                        for figure in BLIND_SPOTS
                    ),
                ]
                for protocol in continuing
                if look(arm, task, protocol, BLIND_SPOT) is not None
            ]
            if group:
                rules.append(len(rows))
                rows += group
    columns = ["task", "method", "protocol", *(figure.label for figure in BLIND_SPOTS)]
    notes = [
        "Of the pool's wrong attempts: own, made right by going on with them; given, made right where they stand in "
        "the user's message; blind spot: (given − own) / given (arXiv:2507.02778). prefill: cut after the first wrong "
        "step where it is known; prefill-N: after N per cent of the characters; -wait: with Wait behind it."
    ]
    return make_table(
        "blind_spots",
        "Errors in its own words and in the user's message, per cent.",
        columns,
        rows,
        left=3,
        rules=tuple(rules[1:]),
        notes=notes,
        figures=BLIND_SPOTS,
    )


OVERVIEW: tuple[Figure, ...] = (
    f.ACCURACY.at(2),
    f.CORRECTION_RATE.at(2),
    f.FRESH,
    f.LIFT,
    f.RETENTION.at(2),
    f.SEQUENTIAL_GAIN.at(1),
)
"""Columns of the overview that are about corrections."""


def overview(study: Study) -> Table:
    """First attempts and corrections of a method in one line: pass@k, accuracy after a correction, and what became of
    failed attempts beside the control, fresh attempts at the same problems. Under ``self``, or the first protocol with
    revisions there is."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    protocol = _main_protocol(study)
    shown: list[tuple[str, Figure]] = [(DIRECT, figure) for figure in _extremes(study)]
    shown += [(protocol, figure) for figure in OVERVIEW if protocol]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        rules.append(len(rows))
        group = []
        for arm in study.names:
            cells = [share(look(arm, task, of, figure), signed=figure.signed) for of, figure in shown]
            group.append([name(task), name(arm), *cells])
        plain = [2 + i for i, (_, figure) in enumerate(shown) if figure is f.FRESH]
        rows += by_columns(group, 2, plain) if len(group) > 1 else group
    columns = ["task", "method", *(figure.label for _, figure in shown)]
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
        figures=[figure for _, figure in shown],
    )


def _main_protocol(study: Study) -> str | None:
    return "self" if "self" in study.protocols else next(iter(study.protocols), None)


def _extremes(study: Study) -> list[Figure]:
    """pass@k of the smallest and the largest k."""
    scores = among(study.results, f.PASS.name)["k"]
    return [f.PASS.at(int(k)) for k in sorted({scores.min(), scores.max()})] if len(scores) else []


def headline(study: Study) -> Table:
    """What a study is asked for, a figure after the other: accuracy after a correction and correction_lift (under
    ``self``, or the first protocol with revisions there is), with pass@k beside; each with its difference to the
    baseline."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    against = Lookup(study.differences, "arm", "task", "protocol", "figure")
    protocol = _main_protocol(study)
    corrections = (f.ACCURACY.at(2), f.LIFT, f.RETENTION.at(2))
    shown: list[tuple[str, Figure]] = [(protocol, figure) for figure in corrections if protocol]
    shown += [(DIRECT, figure) for figure in _extremes(study)]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        for of, figure in shown:
            group = []
            for arm in study.names:
                value = share(look(arm, task, of, figure), signed=figure.signed)
                if value.value is not None:
                    alone = one_seed(study, arm, task)
                    gain = difference(against(arm, task, of, figure), one_seed=alone)
                    group.append([name(task), figure_name(figure), name(arm), value, gain])
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
