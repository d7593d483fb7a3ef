"""By problem, the sums that a figure is made of: what two runs, or several seeds of one, are paired by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cipo_eval.analysis.chains import Chains, FloatArray, chains_of, first_attempts
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.selection import Selected
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import DIRECT, Protocol

Sums = Mapping[str, FloatArray]
"""By name of the problem, what is above and what is below the line, shape (parts,): of most figures two, of those with
another form as many as that takes (``metrics.ratios.Ratio.sums``)."""


def chains_of_run(
    selected: Selected, protocol: Protocol, mode: Mode, turns: int, *, votes: bool = False
) -> Chains:
    """The complete chains of a protocol among the attempts of a run that count; of ``direct``, the first attempts
    (``votes``: with how their answers divide)."""
    if protocol.name == DIRECT:
        return first_attempts(selected.first, mode, votes=votes)
    stored = chains_of(selected.of(protocol.name), protocol)
    complete = stored.complete(protocol, mode, turns)
    first, beside = selected.fresh(protocol.name), selected.beside(protocol.name)
    return Chains.of(complete, protocol, mode, turns, first=first, beside=beside)


def sums_of(figure: Figure, chains: Chains) -> Sums:
    """A figure's sums at each problem that has chains."""
    table = np.stack(figure.ratio(chains).sums, axis=1)
    return dict(zip(chains.problems, table, strict=True))


def aligned(tables: Sequence[Sums]) -> tuple[list[str], FloatArray]:
    """The problems that all tables have, in order, and their sums: shape (tables, problems, parts)."""
    problems = sorted(set.intersection(*(set(table) for table in tables))) if tables else []
    if not problems:
        return [], np.zeros((len(tables), 0, 2))
    return problems, np.array([[table[problem] for problem in problems] for table in tables])
