"""A Parquet dataset: a row an attempt, with typed columns, a file for each task, and its card.

Attempts are read and written in groups of rows, so that what is held does not grow with the run.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from cipo_eval.errors import MissingError
from cipo_eval.export.source import Source, TaskSource, unicode_text
from cipo_eval.records import Attempt, Mode

if TYPE_CHECKING:
    import pyarrow as pa

GROUP = 4096
"""Attempts in a group of rows."""
GROUP_CHARACTERS = 1 << 24
"""Characters of texts after which a group ends early."""

_COLUMNS = (
    ("task", "string", "the task"),
    ("problem", "string", "the problem's id"),
    ("protocol", "string", "`direct` for first attempts, else who was asked again and told what"),
    ("sample", "int32", "which sample of the problem, from 0"),
    ("turn", "int32", "which turn of its conversation, from 1"),
    ("parent", "string", "key of the attempt that this one revises: task, problem, protocol, sample, turn"),
    ("text", "string", "what the model wrote"),
    ("finish_reason", "string", "`stop`, `length`, `context`, `content_filter`, or another harness's word"),
    ("prompt_tokens", "int64", "tokens of the prompt"),
    ("completion_tokens", "int64", "tokens of the text"),
    ("seconds", "float64", "time of generation"),
    ("seed", "int64", "seed of this sample"),
    ("prompt_hash", "string", "fingerprint of the prompt"),
    ("left_out", "int64", "characters of earlier attempts that the prompt had no room for"),
)
_VERDICT = (
    ("correct", "bool", "whether the answer is right"),
    ("state", "string", "`correct`, `incorrect`, `no_answer`, `truncated`, `filtered`, `verifier_…`"),
    ("extracted", "string", "the final answer as it was read"),
    ("canonical", "string", "its normal form, by which votes are counted"),
    ("detail", "string", "what decided"),
    ("verifier_seconds", "float64", "time of the verdict"),
    ("parts", "string", "named results, as JSON"),
    ("report", "string", "what else is kept of the judgement, as JSON"),
)
_SIZES = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)
"""The hub's names for numbers of rows."""


def write(source: Source, folder: Path) -> None:
    """Writes ``data/TASK.parquet`` and ``README.md``. Raises ``MissingError`` without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingError(f"pyarrow cannot be imported ({error}): pip install pyarrow") from error
    names = [name for name, _, _ in columns(source.modes)]
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind, _ in columns(source.modes)])
    (folder / "data").mkdir()
    counts = {}
    for task in source.tasks:
        counts[task.name] = 0
        with pq.ParquetWriter(folder / "data" / f"{task.name}.parquet", schema, compression="zstd") as writer:
            for group in _groups(task):
                values = zip(*(_row(attempt, source.modes) for attempt in group), strict=True)
                arrays: dict[str, Sequence[Any]] = dict(zip(names, values, strict=True))
                writer.write_table(_table(arrays, schema))
                counts[task.name] += len(group)
    (folder / "README.md").write_text(_card(source, counts), encoding="utf-8")


def columns(modes: Sequence[Mode]) -> list[tuple[str, str, str]]:
    """Name, type and meaning of every column: those of a verdict for each mode, with its name before them."""
    of_modes = [
        (f"{mode.value}_{name}", kind, f"{meaning} (mode {mode.value})")
        for mode in modes
        for name, kind, meaning in _VERDICT
    ]
    return [*_COLUMNS, *of_modes]


def _table(arrays: dict[str, Sequence[Any]], schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    return pa.table({name: pa.array(values, schema.field(name).type) for name, values in arrays.items()})


def _groups(task: TaskSource) -> Iterator[list[Attempt]]:
    """The attempts that count, in order, so many at once."""
    attempts = iter(task.selected.attempts.latest().in_order())
    for first in attempts:
        group, characters = [first], len(first.text)
        for attempt in itertools.islice(attempts, GROUP - 1):
            group.append(attempt)
            characters += len(attempt.text)
            if characters >= GROUP_CHARACTERS:
                break
        yield group


def _row(attempt: Attempt, modes: Sequence[Mode]) -> list[Any]:
    """An attempt's values in the order of ``columns``."""
    row: list[Any] = [
        attempt.task,
        unicode_text(attempt.problem),
        attempt.protocol,
        attempt.sample,
        attempt.turn,
        _text(attempt.parent),
        unicode_text(attempt.text),
        _text(attempt.finish_reason and attempt.finish_reason.value),
        attempt.prompt_tokens,
        attempt.completion_tokens,
        attempt.seconds,
        attempt.seed,
        attempt.prompt_hash,
        attempt.left_out,
    ]
    for mode in modes:
        if (verdict := attempt.verdicts.get(mode)) is None:
            row += [None] * len(_VERDICT)
            continue
        row += [
            verdict.correct,
            verdict.state.value,
            _text(verdict.extracted),
            _text(verdict.canonical),
            unicode_text(verdict.detail),
            verdict.seconds,
            json.dumps(dict(verdict.parts)),
            json.dumps(dict(verdict.report)),
        ]
    return row


def _text(text: str | None) -> str | None:
    return None if text is None else unicode_text(text)


def _card(source: Source, counts: dict[str, int]) -> str:
    """The dataset's README: metadata that the hub reads, and what the columns mean."""
    total = sum(counts.values())
    size = next((name for most, name in _SIZES if total < most), "n>10M")
    configs = [
        {"config_name": task, "data_files": [{"split": "attempts", "path": f"data/{task}.parquet"}]}
        for task in counts
    ]
    head = {"pretty_name": f"Attempts of {source.model}", "size_categories": [size], "configs": configs}
    rows = "\n".join(f"| `{name}` | {kind} | {text} |" for name, kind, text in columns(source.modes))
    tasks = "\n".join(f"| {task} | {count} |" for task, count in counts.items())
    model = re.sub(r"[`\n]", " ", source.model)
    return (
        f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# Attempts of `{model}`\n\n"
        f"Every attempt of a run of cipo-eval {source.version}, with its verdicts.\n\n"
        f"| task | attempts |\n|---|---|\n{tasks}\n\n"
        f"| column | type | what |\n|---|---|---|\n{rows}\n\n"
        "Halves of surrogate pairs, which UTF-8 cannot hold, are U+FFFD in texts.\n"
    )
