"""The functions that lm-evaluation-harness calls for the tasks beside this file.

``load`` gives lm-eval the items that cipo-eval itself would use (mirror, cache, package or hub; same fingerprint, same
prompts), ``process_results`` judges with cipo-eval's verifier. lm-eval imports this file by its path under a made-up
module name, so nothing here depends on being a module of a package.

``lm_eval --metadata '{"mode": "paper"}'`` judges as the reference does; ``"data_dir"`` in it names a mirror;
``"scope": {"start": …, "end": …, "only": {column: [values]}}`` chooses problems of a task that has a window of dates.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.data import tasks
from cipo_eval.data.examples import documents
from cipo_eval.data.scope import Scope
from cipo_eval.records import Mode, State

if TYPE_CHECKING:
    from datasets import DatasetDict

logger = logging.getLogger(__name__)


def _admit_accuracy_of_texts() -> None:
    """lm-eval 0.5 knows ``acc`` as a figure of likelihoods, and refuses a task that generates one of this name, whoever
    computes it. 0.4 knows no kinds of figures."""
    import lm_eval.api.metrics  # noqa: F401  which registers them
    from lm_eval.api.registry import metric_registry

    kinds = getattr(metric_registry.get("acc"), "output_type", None)
    if isinstance(kinds, set):
        kinds.add("generate_until")


_admit_accuracy_of_texts()


def load(
    cipo: Mapping[str, Any],
    mode: str = "fixed",
    data_dir: str | None = None,
    scope: Mapping[str, Any] | None = None,
    **_: Any,
) -> DatasetDict:
    """The task's items as lm-eval's ``test`` split. ``cipo`` is that section of the YAML's metadata.

    lm-eval does not say which YAML it is: the one named after the task, beside this file or else among ours.
    """
    from datasets import Dataset, DatasetDict

    beside = Path(__file__).parent / f"{tasks.PREFIX}{cipo['name']}.yaml"
    found = tasks.load_problems(beside if beside.is_file() else cipo["name"], data_dir=data_dir)
    for warning in found.warnings:
        logger.warning(warning)
    counts = Scope.of(scope) if scope else found.spec.scope or Scope()
    problems = [problem for problem in found.problems if counts.admits(problem)]
    judged = {"verifier": found.spec.verifier, "mode": Mode(mode).value}
    columns = [*found.spec.breakdown, *(name for problem in problems for name in problem.metadata)]
    empty = dict.fromkeys(columns)
    rows = [{**empty, **tasks.as_document(problem), **judged} for problem in problems]
    return DatasetDict({"test": Dataset.from_list(rows)})


def math_examples() -> list[dict[str, str]]:
    """The examples that may stand before a problem of mathematics, as documents whose target is a worked solution."""
    return documents(tasks.task_dir() / "examples_math.jsonl")


def gsm8k_examples() -> list[dict[str, str]]:
    """As ``math_examples``, of word problems."""
    return documents(tasks.task_dir() / "examples_gsm8k.jsonl")


def process_results(doc: Mapping[str, Any], results: Sequence[Any]) -> dict[str, float]:
    """Shares of a document's samples: ``acc`` right, ``no_answer``, ``verifier_failed`` (timeout or error); and of
    each part that the problem's tests have, such as ``base`` and ``plus``.

    ``results`` holds one text; or, where a filter keeps all ``repeats``, one list of texts (lm-eval 0.4) or all texts
    (0.5). lm-eval drops finish reasons: a text cut off before an explicit answer is read for its last number here, and
    ``truncated`` in cipo-eval.
    """
    from cipo_eval.verifiers.pool import shared_pool

    texts = results[0] if isinstance(results[0], list | tuple) else results
    problem, mode = tasks.from_document(doc), Mode(doc["mode"])
    verdicts = [shared_pool().verify(doc["verifier"], problem, text, None, mode) for text in texts]

    def share(*which: State) -> float:
        return sum(verdict.state in which for verdict in verdicts) / len(verdicts)

    return {
        "acc": share(State.CORRECT),
        "no_answer": share(State.NO_ANSWER, State.TRUNCATED),
        "verifier_failed": share(State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR),
        **{
            part: sum(verdict.parts.get(part, verdict.correct) for verdict in verdicts) / len(verdicts)
            for part in json.loads(doc["options"]).get("parts", [])
        },
    }
