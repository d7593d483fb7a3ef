"""``.eval_results/*.yaml``: a run's scores in the form that a model's page on the Hugging Face hub shows, by
``huggingface_hub``'s own ``EvalResultEntry``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.rows import Row
from cipo_eval.data.definitions import load_spec
from cipo_eval.errors import CipoError, MissingError, UsageError
from cipo_eval.export.source import Source, TaskSource
from cipo_eval.turns.protocols import DIRECT, Protocol

FOLDER = ".eval_results"
"""Where the hub looks for them in a model's repository."""


def write(source: Source, folder: Path) -> None:
    """Writes a file for each task whose data set the hub has. Raises ``MissingError`` for a huggingface_hub without
    this form, ``UsageError`` where no task has a data set there."""
    try:
        from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml
    except ImportError as error:
        raise MissingError(
            "huggingface_hub knows no .eval_results: pip install -U huggingface_hub"
        ) from error
    for task in source.tasks:
        if (dataset := _dataset(task)) is None:
            source.warnings.append(f"{task.name} is left out: no data set of the hub is its source")
            continue
        entries = [
            EvalResultEntry(
                dataset_id=dataset,
                task_id=task.name,
                value=round(100 * float(row.entry["value"]), 2),
                dataset_revision=task.facts.get("source", {}).get("revision"),
                date=source.ended,
                notes=_notes(task, protocol, row),
            )
            for protocol in task.protocols
            for row in _shown(task, protocol)
        ]
        if entries:
            (folder / FOLDER).mkdir(exist_ok=True)
            text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=False)
            (folder / FOLDER / f"{task.name}.yaml").write_text(text, encoding="ascii")
    if not (folder / FOLDER).exists():
        raise UsageError(
            f"{source.run} has no task whose data set is on the hub: .eval_results name one for each score"
        )


def _dataset(task: TaskSource) -> str | None:
    """The hub's name of the task's data set: that of the run's data, else of the task's definition."""
    repo: Any = task.facts.get("source", {}).get("repo")
    if repo:
        return str(repo)
    try:
        sources = load_spec(task.facts["definition"]).own.sources
    except (CipoError, KeyError):
        return None
    return next((source.repo for source in sources if source.kind == "hub" and source.repo), None)


def _shown(task: TaskSource, protocol: Protocol) -> list[Row]:
    """pass@1 of first attempts; of a protocol the accuracy after its last turn."""
    rows = {row.measure.name: row for row in task.rows(protocol)}
    last = task.selected.turns(protocol.name) if protocol.name != DIRECT else 1
    keys = [f.PASS.at(1).name if protocol.name == DIRECT else f.ACCURACY.at(last).name]
    return [rows[key] for key in keys if key in rows]


def _notes(task: TaskSource, protocol: Protocol, row: Row) -> str:
    """The set-up in a line."""
    sampling = task.sampling
    parts = [f"{row.measure.name} in per cent"]
    if protocol.name != DIRECT:
        parts.append(f"after {task.selected.turns(protocol.name)} turns of protocol {protocol.name}")
    parts.append(f"{row.attempts} attempts at {row.problems} problems")
    parts += [f"{key} {sampling[key]}" for key in ("temperature", "top_p", "max_tokens") if key in sampling]
    return ", ".join((*parts, f"{task.source.mode.value} verdicts of cipo-eval {task.source.version}"))
