"""cipo-eval: a harness that measures whether a model can find and fix mistakes, its own and others'.

From Python (docs/python.md): ``load_problems``, ``evaluate``, ``score``, ``rescore`` and ``compare``, and the records
that they take and give. Each is imported when it is first asked for; ``import cipo_eval`` itself imports nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cipo_eval.analysis.comparison import Comparison
    from cipo_eval.analysis.comparison import compare_runs as compare
    from cipo_eval.data.problems import ProblemSet
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.errors import CipoError, MissingError, UsageError
    from cipo_eval.records import (
        Attempt,
        Completion,
        Extraction,
        Failure,
        Grade,
        Mode,
        Problem,
        Request,
        Sampling,
        State,
        Turn,
        Verdict,
        Verifier,
    )
    from cipo_eval.run.api import Results, evaluate, rescore, score
    from cipo_eval.run.request import RunRequest

    __version__: str

__all__ = [
    "Attempt",
    "CipoError",
    "Comparison",
    "Completion",
    "Extraction",
    "Failure",
    "Grade",
    "MissingError",
    "Mode",
    "Problem",
    "ProblemSet",
    "Request",
    "Results",
    "RunRequest",
    "Sampling",
    "State",
    "Turn",
    "UsageError",
    "Verdict",
    "Verifier",
    "compare",
    "evaluate",
    "load_problems",
    "rescore",
    "score",
]

_HOMES = {
    "analysis.comparison": {"Comparison": "Comparison", "compare": "compare_runs"},
    "data.problems": {"ProblemSet": "ProblemSet"},
    "data.tasks": {"load_problems": "load_problems"},
    "errors": {name: name for name in ("CipoError", "MissingError", "UsageError")},
    "run.api": {name: name for name in ("Results", "evaluate", "rescore", "score")},
    "run.request": {"RunRequest": "RunRequest"},
}
"""Where a public name is defined, by module, and what it is called there; names that stand nowhere here are records."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = next((module for module, names in _HOMES.items() if name in names), "records")
    value = getattr(importlib.import_module(f"{__name__}.{module}"), _HOMES.get(module, {}).get(name, name))
    globals()[name] = value
    return value


def _version() -> str:
    """That of the installed package; a tree that is not installed has none."""
    from importlib import metadata

    try:
        return metadata.version("cipo-eval")
    except metadata.PackageNotFoundError:
        return "0.0.0+unknown"


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
