"""Tables of what attempts, chains of turns and trainings took."""

from __future__ import annotations

from cipo_eval.analysis import figures as f
from cipo_eval.analysis import measures as m
from cipo_eval.analysis.figure import Measure
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.cells import NONE, Cell, Lookup, Table, amount, make_table, name, share
from cipo_reports.frames import whole
from cipo_reports.study import Study

COSTS: tuple[tuple[str, Measure, int], ...] = (
    ("tokens per attempt", m.TOKENS_PER_ATTEMPT, 0),
    ("generated tokens", m.GENERATED_TOKENS, 0),
    ("generation s", m.GENERATION_SECONDS, 1),
    ("verifier s", m.VERIFIER_SECONDS, 2),
    ("verifier failures", m.VERIFIER_FAILURES, 0),
    ("withheld", m.WITHHELD, 0),
)
"""Columns: title, what it shows, digits."""


def cost(study: Study) -> Table:
    """What first attempts took, and how often they were cut off; of revisions, the tokens of a chain."""
    look = Lookup(whole(study.results), "arm", "task", "protocol", "figure")
    chains = study.protocols
    withheld = bool(study.figure(m.WITHHELD)["value"].astype(float).sum() > 0)
    shown = COSTS if withheld else COSTS[:-1]
    columns = ["task", "method", "attempts", "truncated %", *(title for title, _, _ in shown)]
    columns += [f"tokens of a chain, {protocol}" for protocol in chains]
    rows: list[list[Cell]] = []
    rules = []
    for task in study.tasks:
        rules.append(len(rows))
        for arm in study.names:
            first = look(arm, task, DIRECT, f.PASS.at(1))
            every = [look(arm, task, DIRECT, figure) for _, figure, _ in shown]
            spent = [look(arm, task, protocol, m.CHAIN_TOKENS) for protocol in chains]
            if first is None and not any(spent):
                continue
            cells = [amount(first["attempts"]) if first else Cell(text=NONE)]
            cells.append(share(look(arm, task, DIRECT, m.TRUNCATED)))
            for row, (_, _, digits) in zip(every, shown, strict=True):
                cells.append(amount(row["value"], digits) if row else Cell(text=NONE))
            cells += [amount(row["value"]) if row else Cell(text=NONE) for row in spent]
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
