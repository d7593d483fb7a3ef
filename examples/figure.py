"""Figures of one's own: how often a model changes its answer when it is asked again, and how long right answers are.

PYTHONPATH=examples cipo-eval compare runs/a runs/b --figures figure:CHANGED
PYTHONPATH=examples cipo-eval report runs/a runs/b --figures figure:CHANGED,figure:LENGTH
"""

import numpy as np

from cipo_eval.analysis.chains import Chains
from cipo_eval.analysis.figure import Figure
from cipo_eval.turns.protocols import DIRECT


def changed(chains: Chains) -> np.ndarray:
    """Whether the first revision has another answer than the attempt, shape (chains,)."""
    return chains.revised & ~chains.same[:, 0]


CHANGED = Figure(
    name="changed",
    label="answer changed",
    top=changed,
    bottom=lambda chains: chains.revised,
    compared=True,
    meaning="revisions with another answer",
)
LENGTH = Figure(
    name="length_of_right",
    label="thousand tokens of a right attempt",
    kind="amount",
    top=lambda chains: np.where(chains.right[:, 0], chains.tokens[:, 0], 0) / 1000,
    bottom=lambda chains: chains.right[:, 0],
    applies=lambda protocol: protocol.name == DIRECT,
)
