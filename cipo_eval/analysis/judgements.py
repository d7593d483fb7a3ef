"""Figures of judgements: what a model said of attempts, and what became of these.

Positive: the attempt is wrong, and the judgement says so (CriticBench, arXiv:2402.14809).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.chains import Chains, Judgements
from cipo_eval.analysis.figure import Figure
from cipo_eval.metrics.ratios import harmonic
from cipo_eval.turns.protocols import Protocol

CRITICBENCH = "CriticBench, arXiv:2402.14809"
PROCESSBENCH = "ProcessBench, arXiv:2412.06559"


def _judges(protocol: Protocol) -> bool:
    return protocol.judges


def _locates(protocol: Protocol) -> bool:
    return protocol.locates


def _corrects(protocol: Protocol) -> bool:
    return protocol.judges and not protocol.locates


def _judgement(key: str, values: Callable[[Judgements], tuple[Any, Any]], **more: Any) -> Figure:
    """A figure of the first judgements; positive: the attempt is wrong."""

    def of(chains: Chains, place: int) -> NDArray[Any]:
        if chains.judgements is None:
            raise ValueError("these chains have no judgements")
        return np.asarray(values(chains.judgements)[place])

    return Figure(
        **{"name": f"judgement {key}", "key": key, "applies": _judges, "source": CRITICBENCH, **more},
        top=lambda c: of(c, 0),
        bottom=lambda c: of(c, 1),
    )


def _joined(key: str, cell: Callable[[Judgements], NDArray[np.bool_]], meaning: str) -> Figure:
    """What became of the attempts in one cell of the confusion matrix."""

    def bottom(chains: Chains) -> NDArray[np.bool_]:
        if chains.judgements is None:
            raise ValueError("these chains have no judgements")
        return cell(chains.judgements)

    return Figure(
        name=f"{key}: corrected",
        key=key,
        applies=_corrects,
        top=lambda c: bottom(c) & c.right[:, 1],
        bottom=bottom,
        meaning=meaning,
    )


CELLS: Mapping[str, Callable[[Judgements], NDArray[np.bool_]]] = {
    "tp": lambda j: j.wrong & j.says_wrong,
    "fp": lambda j: ~j.wrong & j.says_wrong,
    "fn": lambda j: j.wrong & ~j.says_wrong,
    "tn": lambda j: ~j.wrong & ~j.says_wrong,
}
"""The confusion matrix of judgements: shape (chains,) each."""
JUDGEMENT_ACCURACY = _judgement(
    "accuracy",
    lambda j: (np.where(j.wrong, j.says_wrong, j.says_right), np.ones(len(j.wrong))),
    compared=True,
    seeds=True,
    meaning="judgements that are true; one that says neither is not",
)
JUDGEMENT_F1 = _judgement(
    "f1",
    lambda j: (2 * CELLS["tp"](j), j.says_wrong.astype(int) + j.wrong),
    name="judgement F1",
    kind="score",
    compared=True,
    seeds=True,
    meaning='F1 of "the attempt is wrong"',
    formula="2·tp / (2·tp + fp + fn)",
)
JUDGEMENT_PRECISION = _judgement(
    "precision",
    lambda j: (CELLS["tp"](j), j.says_wrong),
    meaning="of attempts said to be wrong, those that are",
)
JUDGEMENT_RECALL = _judgement(
    "recall", lambda j: (CELLS["tp"](j), j.wrong), meaning="of wrong attempts, those said to be"
)
JUDGEMENTS = (
    JUDGEMENT_ACCURACY,
    JUDGEMENT_PRECISION,
    JUDGEMENT_RECALL,
    _judgement(
        "specificity",
        lambda j: (~j.wrong & j.says_right, ~j.wrong),
        meaning="of right attempts, those said to be",
    ),
    JUDGEMENT_F1,
)
LOCATED = _judgement(
    "located",
    lambda j: (j.wrong & j.true, j.wrong),
    name="error accuracy",
    applies=_locates,
    compared=True,
    seeds=True,
    source=PROCESSBENCH,
    meaning="of attempts with a wrong step, those whose first wrong step is named",
)
CLEARED = _judgement(
    "cleared",
    lambda j: (~j.wrong & j.true, ~j.wrong),
    name="correct accuracy",
    applies=_locates,
    compared=True,
    seeds=True,
    source=PROCESSBENCH,
    meaning="of attempts without a wrong step, those that are said to have none",
)
LOCATION_F1 = Figure(
    name="location F1",
    key="location_f1",
    kind="score",
    applies=_locates,
    compared=True,
    seeds=True,
    top=LOCATED.top,
    bottom=LOCATED.bottom,
    form=harmonic,
    other=(CLEARED.top, CLEARED.bottom or CLEARED.top),
    source=PROCESSBENCH,
    meaning="harmonic mean of `error accuracy` and `correct accuracy`",
    formula="2·e·c / (e + c)",
)
LOCATIONS = (LOCATED, CLEARED, LOCATION_F1)
"""The figures of judgements that name the first wrong step."""
ALWAYS_WRONG = _judgement(
    "always_wrong",
    lambda j: (2 * j.wrong, j.wrong + np.ones(len(j.wrong))),
    kind="score",
    meaning="F1 of saying so of every attempt",
)
CAUGHT = _joined("caught", CELLS["tp"], "wrong attempts whose judgement says so: right after correcting")
MISSED = _joined("missed", CELLS["fn"], "wrong attempts whose judgement does not: right after correcting")
JOINED = (
    CAUGHT,
    MISSED,
    _joined("doubted", CELLS["fp"], "right attempts said to be wrong: right after correcting"),
    _joined("trusted", CELLS["tn"], "right attempts not said to be wrong: right after correcting"),
)
