"""Reports with a few of their figures: each takes a second to draw and one to three to save."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

SOME_FIGURES = frozenset({"accuracy", "transitions-given", "transitions-self", "training", "along"})
"""A chart of dots, flows, small panels and lines: what a report of the commits' tests has."""


@contextmanager
def some_of_figures(*, only: bool) -> Iterator[None]:
    """While the block runs a report has ``SOME_FIGURES`` alone, where ``only`` says so."""
    from cipo_reports import report

    made = report.figures
    with pytest.MonkeyPatch.context() as patch:
        if only:
            patch.setattr(report, "figures", lambda study: (f for f in made(study) if f[0] in SOME_FIGURES))
        yield
