"""Records of Every Eval Ever (schema 0.3.0): per task one aggregate record, and beside it a line for each conversation.

Where they lie and what links them is the schema's: ``data/COLLECTION/DEVELOPER/MODEL/UUID.json`` and
``UUID_samples.jsonl``. A figure of a protocol is one evaluation result; a conversation refers to the result that its
last verdict enters.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Figure
from cipo_eval.analysis.rows import Row
from cipo_eval.export.source import Conversation, Source, TaskSource, unicode_json, unicode_text, verdict_of
from cipo_eval.files import json_line, json_text, whole_file
from cipo_eval.records import Attempt, State
from cipo_eval.turns.protocols import DIRECT, Protocol

SCHEMA = "0.3.0"
"""Version of the schema of the records that are written."""
_OPEN = ("hf", "vllm", "lm_eval", "ray")
"""Engines that have the weights of their model."""
_FAILED = (State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR, State.FILTERED)


def write(source: Source, folder: Path) -> None:
    """Writes the records of every task."""
    model = model_id(source.model)
    developer, _, name = model.partition("/")
    for task in source.tasks:
        digest = hashlib.sha256(f"{source.identity} {task.name}".encode()).digest()
        place = Path("data", _component(task.name), _component(developer), _component(name))
        stem = str(uuid.UUID(bytes=digest[:16], version=4))
        (folder / place).mkdir(parents=True)
        samples = folder / place / f"{stem}_samples.jsonl"
        record = _aggregate(task, model)
        checksum, count = hashlib.sha256(), 0
        with whole_file(samples) as stream:
            for row in _instances(task, record["evaluation_id"], model):
                line = json_line(row)
                checksum.update(line)
                stream.write(line)
                count += 1
        if count:
            record["detailed_evaluation_results"] = {
                "format": "jsonl",
                "file_path": (place / samples.name).as_posix(),
                "hash_algorithm": "sha256",
                "checksum": checksum.hexdigest(),
                "total_rows": count,
            }
        else:
            samples.unlink()
        (folder / place / f"{stem}.json").write_bytes(json_text(record))


def model_id(model: str) -> str:
    """``developer/name``: the hub's where the model's name is one, else ``local/`` and the last part of its path."""
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", model):
        return model
    return f"local/{_component(model.rpartition('/')[2])}"


def _component(text: str) -> str:
    """A part of a path."""
    return re.sub(r"[^\w.-]+|^\.+", "_", text, flags=re.ASCII)[:100] or "_"


def _seconds(moment: str) -> str:
    """Seconds since 1970 as text."""
    return str(datetime.fromisoformat(moment).timestamp())


def _details(values: Mapping[str, Any]) -> dict[str, str]:
    """What the schema has no field for: all of it text."""
    return {
        key: unicode_text(value if isinstance(value, str) else json.dumps(value))
        for key, value in values.items()
        if value is not None
    }


def _aggregate(task: TaskSource, model: str) -> dict[str, Any]:
    """The record of a task, without what it says of its samples."""
    source = task.source
    results = [
        _result(task, protocol, row) for protocol in task.protocols for row in _figures(task, protocol)
    ]
    weights = source.engine in _OPEN
    return {
        "schema_version": SCHEMA,
        "evaluation_id": f"{task.name}/{model.replace('/', '_')}/{_seconds(source.ended)}-{source.identity}",
        "evaluation_timestamp": source.ended,
        "retrieved_timestamp": _seconds(source.ended),
        "source_metadata": {
            "source_name": "cipo-eval",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {
            "name": "cipo-eval",
            "version": source.version,
            "additional_details": _details(
                {"verifier": task.facts["verifier"], "mode": source.mode.value, "data": task.facts["data"]}
            ),
        },
        "model_info": {
            "name": source.model or model,
            "id": model,
            "developer": model.partition("/")[0],
            "inference_engine": {"name": source.engine},
            "additional_details": {
                "deployment_type": "self_deployed" if weights else "unknown",
                "model_availability": "open_weights" if weights else "unknown",
            },
        },
        "evaluation_results": results,
    }


def _figures(task: TaskSource, protocol: Protocol) -> list[Row]:
    """Figures with bounds: costs, states and flows are no scores."""
    rows = task.rows(protocol)
    return [r for r in rows if isinstance(r.measure, Figure) and (r.measure.bounded or r.measure.signed)]


def _result_id(task: TaskSource, protocol: Protocol, row: Row) -> str:
    return f"{task.name}:{protocol.name}:{row.measure.name}"


def _result(task: TaskSource, protocol: Protocol, row: Row) -> dict[str, Any]:
    """One figure."""
    of = task.facts.get("source", {})
    data: dict[str, Any] = {"dataset_name": task.name, "source_type": "other"}
    if of.get("repo"):
        data = {
            "dataset_name": task.name,
            "source_type": "hf_dataset",
            "hf_repo": str(of["repo"]),
            "samples_number": row.problems,
        }
    uncertainty: dict[str, Any] = {"num_samples": row.attempts}
    if row.interval:
        low, high = row.interval
        method = str(row.entry.get("method", "bootstrap"))
        uncertainty["confidence_interval"] = {
            "lower": low,
            "upper": high,
            "confidence_level": 0.95,
            "method": method,
        }
    measure = row.measure
    parameters = {"protocol": protocol.name, "turn": measure.turn, "k": measure.k}
    return {
        "evaluation_result_id": _result_id(task, protocol, row),
        "evaluation_name": _evaluation_name(task, protocol),
        "source_data": data,
        "evaluation_timestamp": task.source.ended,
        "metric_config": {
            "evaluation_description": f"{measure.label}: {protocol.summary}",
            "metric_id": measure.name,
            "metric_name": measure.label,
            "metric_kind": "difference" if measure.signed else measure.family,
            "metric_unit": "proportion",
            "metric_parameters": parameters,
            "lower_is_better": False,
            "score_type": "continuous",
            "min_score": -1.0 if measure.signed else 0.0,
            "max_score": 1.0,
        },
        "score_details": {"score": float(row.entry["value"]), "uncertainty": uncertainty},
        "generation_config": _generation(task, protocol),
    }


def _evaluation_name(task: TaskSource, protocol: Protocol) -> str:
    return task.name if protocol.name == DIRECT else f"{task.name}/{protocol.name}"


def _generation(task: TaskSource, protocol: Protocol) -> dict[str, Any]:
    sampling = task.sampling
    names = ("temperature", "top_p", "top_k", "max_tokens")
    arguments: dict[str, Any] = {name: sampling[name] for name in names if sampling.get(name) is not None}
    if command := task.source.command:
        arguments["execution_command"] = command
    if protocol.name != DIRECT:
        arguments["max_attempts"] = task.selected.turns(protocol.name)
        arguments["incorrect_attempt_feedback"] = protocol.summary
    return {
        "generation_args": arguments,
        "additional_details": _details({"samples": task.facts.get("samples"), "think": task.facts["think"]}),
    }


def _instances(task: TaskSource, evaluation: str, model: str) -> Iterator[dict[str, Any]]:
    """A line for each conversation."""
    for protocol in task.protocols:
        rows = {row.measure.name: row for row in _figures(task, protocol)}
        last = f.PASS.at(1) if protocol.name == DIRECT else f.ACCURACY.at(task.selected.turns(protocol.name))
        main = rows.get(last.name)
        for conversation in task.conversations(protocol):
            row = _instance(task, protocol, conversation)
            row |= {"schema_version": SCHEMA, "evaluation_id": evaluation, "model_id": model}
            if main is not None:
                row["evaluation_result_id"] = _result_id(task, protocol, main)
            yield unicode_json(row)


def _instance(task: TaskSource, protocol: Protocol, conversation: Conversation) -> dict[str, Any]:
    """One conversation: of first attempts a prompt and a text, else the messages of all turns."""
    chain, mode = conversation.chain, task.source.mode
    verdict = verdict_of(chain[-1], mode)
    statement = task.question(chain[0].problem)
    prompt = conversation.asked[0][-1]["content"]
    reference = [task.answer(chain[0].problem)] if task.answer(chain[0].problem) else []
    content = json.dumps({"raw": statement or prompt, "reference": reference}, sort_keys=True)
    row: dict[str, Any] = {
        "evaluation_name": _evaluation_name(task, protocol),
        "sample_id": chain[0].problem,
        "sample_hash": hashlib.sha256(content.encode()).hexdigest(),
        "input": {"raw": statement or prompt, "formatted": prompt, "reference": reference},
        "evaluation": {"score": float(verdict.correct), "is_correct": verdict.correct},
        "token_usage": _tokens([a for a in chain if protocol.own or a.turn > 1]),
        "error": verdict.detail or verdict.state.value if verdict.state in _FAILED else None,
        "metadata": _details(
            {
                **task.problems.get(chain[0].problem, {}).get("metadata", {}),
                "protocol": protocol.name,
                "sample": chain[0].sample,
                "states": [verdict_of(attempt, mode).state.value for attempt in chain],
                "finish_reason": chain[-1].finish_reason and chain[-1].finish_reason.value,
            }
        ),
    }
    if protocol.name == DIRECT:
        attribution = [_attribution(chain[0], 0, "output.raw", task, terminal=True)]
        single = {"interaction_type": "single_turn", "output": {"raw": [chain[0].text]}, "messages": None}
        return row | single | {"answer_attribution": attribution}
    messages: list[dict[str, Any]] = []
    attribution = []
    for asked, attempt in zip(conversation.asked, chain, strict=True):
        messages += [{"turn_idx": len(messages) + i, **message} for i, message in enumerate(asked)]
        messages.append({"turn_idx": len(messages), "role": "assistant", "content": attempt.text})
        place, terminal = len(messages) - 1, attempt is chain[-1]
        attribution.append(
            _attribution(attempt, place, f"messages[{place}].content", task, terminal=terminal)
        )
    row["evaluation"]["num_turns"] = len(chain)
    several = {"interaction_type": "multi_turn", "output": None, "messages": messages}
    return row | several | {"answer_attribution": attribution}


def _attribution(
    attempt: Attempt, place: int, where: str, task: TaskSource, *, terminal: bool
) -> dict[str, Any]:
    verdict = verdict_of(attempt, task.source.mode)
    return {
        "turn_idx": place,
        "source": where,
        "extracted_value": verdict.extracted or "",
        "extraction_method": f"cipo-eval {task.facts['verifier']} verifier",
        "is_terminal": terminal,
    }


def _tokens(generated: Sequence[Attempt]) -> dict[str, int] | None:
    """Of what the model generated itself, where all of it is known."""
    counts = [(a.prompt_tokens, a.completion_tokens) for a in generated]
    read = [prompt for prompt, completion in counts if prompt is not None and completion is not None]
    written = [completion for prompt, completion in counts if prompt is not None and completion is not None]
    if not counts or len(read) < len(counts):
        return None
    total = sum(read), sum(written)
    return {"input_tokens": total[0], "output_tokens": total[1], "total_tokens": sum(total)}
