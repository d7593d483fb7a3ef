"""Readers: what a row of a code benchmark asks, and the tests that it comes with.

A task definition names its reader as ``reader: module:function``, in place of ``columns``: a function of one row and of
the companion rows that belong to it, which gives a ``ReadProblem``. Anybody's module will do. Readers only take data
apart (``json``, ``ast.literal_eval``); none of them ever runs what a data set holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.data.sources import Row, Transform
from cipo_eval.errors import UsageError
from cipo_eval.sandbox.codec import encode
from cipo_eval.settings import named_object
from cipo_eval.verifiers.code.testsets import TestSet


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProblem:
    """What a reader makes of a row."""

    id: str
    """The problem's name within its task."""
    repeated: bool = False
    """Several rows may have this id (a data set may hold the same problem twice): the later ones get a number."""
    question: str
    """The problem itself; replayed files are matched by it, and the prompt's template shows it."""
    tests: TestSet | str | None = None
    """The tests, or the reference that ``testsets.store`` gave for them."""
    answer: str = ""
    """The gold of a problem that is not judged by tests. An item with neither is left out."""
    attempt: str | None = None
    """An attempt at it, to be judged or corrected."""
    attempt_right: bool | None = None
    """What the data says of that attempt."""
    shown: Mapping[str, str] = field(default_factory=dict)
    """Further fields for the prompt's template, such as a program to repair. Part of the content's fingerprint."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the verifier must know beside the tests; plain JSON values."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Columns to break results down by."""
    coverage: str = ""
    """Where the tests fall short, or why there are none, in words; items are counted by it."""


def argument(value: Any) -> Any:
    """An argument of a test in the codec's form, however large: digests, which it makes of large values, are for
    results. Plain JSON without objects is its own form."""
    encoded = encode(value)
    return value if isinstance(encoded, dict) and "h" in encoded else encoded


MOVED = {
    "cipo_trainer.programs": "cipo_trainer.worlds.programs",
    "cipo_eval.readers": "cipo_eval.data.readers",
}
"""Modules that task definitions of version 0.1.0 name, and where they are now: tasks that studies wrote still read."""

Reader = Callable[[Row, Mapping[str, Row]], ReadProblem]
"""What makes a problem of a row and, by name of the companion source, its row with the same key (where there is
one)."""


def reader(name: str) -> Reader:
    """The reader that a definition names, ``module:function``. Raises ``UsageError`` where there is none."""
    function: Reader = _function(name)
    return function


def transform(name: str) -> Transform:
    """The ``prepare`` function that a definition names: row to row, applied once, before rows are cached. Raises
    ``UsageError`` where there is none."""
    function: Transform = _function(name)
    return function


def _function(name: str) -> Any:
    """Raises ``UsageError`` where there is no such function."""
    module, _, attribute = name.partition(":")
    module = MOVED.get(module) or module.replace("cipo_eval.readers.", "cipo_eval.data.readers.")
    function = named_object(f"{module}:{attribute}", "reader")
    if not callable(function):
        raise UsageError(f"reader: {name} is not a function")
    return function
