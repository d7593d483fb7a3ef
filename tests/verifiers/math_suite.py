"""The metamorphic suite of ``benchmarks``, importable: it is no part of the package that is installed."""

from __future__ import annotations

import sys
from pathlib import Path

# last, so that nothing there hides a package of the same name
sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

from math_cases import (
    changes,
    forms,
    golds,
    hedges,
    oracle,
    reader,
    responses,
    styles,
    suite,
    tree,
    wrappings,
    writer,
)
from metamorphic import failures, ours, table

__all__ = [
    "changes", "failures", "forms", "golds", "hedges", "oracle", "ours", "reader", "responses", "styles",
    "suite", "table", "tree",
    "wrappings", "writer",
]  # fmt: skip
