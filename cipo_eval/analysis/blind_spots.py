"""Figures of wrong attempts that a model goes on with as its own words, beside the same attempts in the user's message:
entries of the table in ``figures``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cipo_eval.analysis.chains import Chains, FloatArray
from cipo_eval.analysis.figure import Figure
from cipo_eval.turns.protocols import Protocol

BENCH = "Self-Correction Bench, arXiv:2507.02778"


def _continues(protocol: Protocol) -> bool:
    return protocol.continues


def _in_both(chains: Chains) -> NDArray[np.bool_]:
    """Wrong attempts that were continued, and corrected beside; shape (chains,)."""
    if chains.beside is None:
        return np.zeros(len(chains), dtype=bool)
    return np.asarray(chains.revised & ~chains.state[:, 0] & ~np.isnan(chains.beside), dtype=bool)


def _beside(chains: Chains) -> FloatArray:
    """Of these, whether they were made right beside, shape (chains,)."""
    return np.zeros(len(chains)) if chains.beside is None else np.where(_in_both(chains), chains.beside, 0.0)


BLIND_SPOT = Figure(
    name="blind_spot",
    kind="amount",
    top=lambda c: _beside(c) - (_in_both(c) & c.after(2)),
    bottom=_beside,
    applies=_continues,
    compared=True,
    seeds=True,
    meaning="part of the corrections in the user's message that the model does not make in its own (blind-spot rate)",
    formula="(`external` − `internal`) / `external`",
    source=BENCH,
)
INTERNAL_GAIN = Figure(
    name="internal_gain",
    label="own − given",
    kind="difference",
    top=lambda c: (_in_both(c) & c.after(2)) - _beside(c),
    bottom=_in_both,
    applies=_continues,
    compared=True,
    seeds=True,
    meaning="difference of the two rates: `internal` − `external`",
    formula="see [prefill](protocols/prefill.md)",
)
INTERNAL = Figure(
    name="internal",
    label="own",
    top=lambda c: _in_both(c) & c.after(2),
    bottom=_in_both,
    applies=_continues,
    seeds=True,
    meaning="wrong attempts that a model made right which went on with them as its own",
    formula="P(r at 2 \\| w at 1)",
    source=BENCH,
)
EXTERNAL = Figure(
    name="external",
    label="given",
    top=_beside,
    bottom=_in_both,
    applies=_continues,
    seeds=True,
    meaning="the same attempts made right where they stand in the user's message (`given`)",
    formula="P(r at 2 \\| w at 1)",
    source=BENCH,
)
BLIND_SPOTS = (BLIND_SPOT, INTERNAL_GAIN, INTERNAL, EXTERNAL)
