"""Results and samples as lm-evaluation-harness's ``EvaluationTracker`` writes them (0.4.13, ``--log_samples``).

A protocol with revisions is a task of its own, ``TASK_PROTOCOL``. A row of samples is a problem: of first attempts one
request with all its responses, of revisions one request for each chain, whose response is its last turn.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Figure
from cipo_eval.export.source import Conversation, Source, TaskSource, unicode_json, verdict_of
from cipo_eval.files import write_json, write_json_lines
from cipo_eval.turns.fewshot import FewShot
from cipo_eval.turns.protocols import DIRECT, Protocol

_FILTER = "none"


def write(source: Source, folder: Path) -> None:
    """Writes ``MODEL/results_TIME.json`` and a ``samples_TASK_TIME.jsonl`` for each task and protocol."""
    moment = datetime.fromisoformat(source.ended).replace(tzinfo=None)
    stamp = moment.isoformat(timespec="microseconds").replace(":", "-")
    name = re.sub(r"[\"<>:/|\\?*\[\]]+", "__", source.model) or "model"  # as lm-eval names the folder
    place = folder / name
    place.mkdir()
    results: dict[str, Any] = {
        key: {}
        for key in (
            "results",
            "group_subtasks",
            "configs",
            "versions",
            "n-shot",
            "higher_is_better",
            "n-samples",
            "task_hashes",
        )
    }
    for task in source.tasks:
        for protocol in task.protocols:
            known_as = task.name if protocol.name == DIRECT else f"{task.name}_{protocol.name}"
            hashes = hashlib.sha256()
            rows = _rows(task, protocol, hashes)
            write_json_lines(place / f"samples_{known_as}_{stamp}.jsonl", rows)
            _add(results, known_as, task, protocol)
            results["task_hashes"][known_as] = hashes.hexdigest()
    results |= {
        "config": {
            "model": source.engine,
            "model_args": {"pretrained": source.model},
            "gen_kwargs": {},
            "random_seed": source.info.get("seed"),
            "batch_size": None,
            "limit": None,
        },
        "git_hash": None,
        "date": moment.timestamp(),
        "pretty_env_info": json.dumps(source.info.get("environment", {})),
        "transformers_version": source.info.get("environment", {}).get("transformers"),
        "lm_eval_version": None,
        "upper_git_hash": None,
        "model_source": source.engine,
        "model_name": source.model,
        "model_name_sanitized": name,
        "system_instruction": next((t.facts.get("system_prompt") for t in source.tasks), None),
        "chat_template": None,
        "total_evaluation_time_seconds": None,
        "cipo_eval": {"version": source.version, "mode": source.mode.value},
    }
    write_json(place / f"results_{stamp}.json", unicode_json(results))


def _add(results: dict[str, Any], known_as: str, task: TaskSource, protocol: Protocol) -> None:
    """One task's entries in the results: our figures under their own names, with half of the interval over 1.96 in
    place of a standard error."""
    entry: dict[str, Any] = {"alias": known_as}
    better: dict[str, bool] = {}
    rows = [row for row in task.rows(protocol) if isinstance(row.measure, Figure)]
    for row in rows:
        entry[f"{row.measure.name},{_FILTER}"] = row.entry["value"]
        if row.interval:
            low, high = row.interval
            entry[f"{row.measure.name}_stderr,{_FILTER}"] = (high - low) / (2 * 1.96)
        else:
            entry[f"{row.measure.name}_stderr,{_FILTER}"] = "N/A"
        better[row.measure.name] = True
    attempted = max((row.problems for row in rows), default=0)
    asked = len(task.selected.selection.problems_of(protocol.name)) or attempted
    sampling = task.sampling
    shown, _ = FewShot.asked(task.facts)
    results["results"][known_as] = entry
    results["group_subtasks"][known_as] = []
    results["versions"][known_as] = task.source.version
    results["n-shot"][known_as] = shown
    results["higher_is_better"][known_as] = better
    results["n-samples"][known_as] = {"original": asked, "effective": attempted}
    results["configs"][known_as] = {
        "task": known_as,
        "dataset_path": task.facts.get("source", {}).get("repo"),
        "output_type": "generate_until",
        "repeats": task.facts.get("samples"),
        "num_fewshot": shown,
        "generation_kwargs": _arguments(sampling),
        "metadata": {
            "protocol": protocol.name,
            "data": task.facts["data"],
            "verifier": task.facts["verifier"],
        },
    }


def _arguments(sampling: Any) -> dict[str, Any]:
    """Decoding as lm-eval's ``gen_kwargs`` spell it."""
    return {
        "until": list(sampling.get("stop") or ()),
        "do_sample": bool(sampling.get("temperature")),
        "temperature": sampling.get("temperature"),
        "top_p": sampling.get("top_p"),
        "max_gen_toks": sampling.get("max_tokens"),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _rows(task: TaskSource, protocol: Protocol, hashes: Any) -> Iterator[dict[str, Any]]:
    """A row for each problem."""
    conversations = task.conversations(protocol)
    for problem, of_problem in itertools.groupby(conversations, key=lambda c: c.chain[0].problem):
        row = _row(task, protocol, problem, list(of_problem))
        hashes.update((row["doc_hash"] + row["prompt_hash"] + row["target_hash"]).encode())
        yield row


def _row(
    task: TaskSource, protocol: Protocol, problem: str, conversations: Sequence[Conversation]
) -> dict[str, Any]:
    """A problem's attempts, or the last turns of its chains."""
    lasts = [conversation.chain[-1] for conversation in conversations]
    verdicts = [verdict_of(attempt, task.source.mode) for attempt in lasts]
    doc = {"id": problem, "question": task.question(problem), **_metadata(task, problem)}
    target = task.answer(problem)
    if target:
        doc["answer"] = target
    asked = conversations[:1] if protocol.name == DIRECT else conversations
    prompts = [_prompt(conversation) for conversation in asked]
    texts, answers = [attempt.text for attempt in lasts], [verdict.extracted or "" for verdict in verdicts]
    together = protocol.name == DIRECT
    metric = (f.PASS.at(1) if together else f.ACCURACY.at(task.selected.turns(protocol.name))).name
    return {
        "doc_id": task.places.get(problem, 0),
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{i}": {"arg_0": prompt, "arg_1": _arguments(task.sampling)}
            for i, prompt in enumerate(prompts)
        },
        "resps": [texts] if together else [[text] for text in texts],
        "filtered_resps": [answers] if together else answers,
        "filter": _FILTER,
        "metrics": [metric],
        "doc_hash": _hash(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _hash(prompts[0]),
        "target_hash": _hash(target),
        metric: sum(verdict.correct for verdict in verdicts) / len(verdicts),
        "finish_reason": [attempt.finish_reason and attempt.finish_reason.value for attempt in lasts],
        **({} if together else {"attempt": _corrected(protocol, conversations)}),
    }


def _metadata(task: TaskSource, problem: str) -> dict[str, Any]:
    """Columns of the problem that neither its id nor its text is."""
    metadata = task.problems.get(problem, {}).get("metadata", {})
    return {key: value for key, value in metadata.items() if key not in ("id", "question", "answer")}


def _corrected(protocol: Protocol, conversations: Sequence[Conversation]) -> list[str | None]:
    """Of each chain the attempt that its last turn corrects, as ``cipo-eval score`` reads it."""
    chains = [conversation.chain for conversation in conversations]
    back = 3 if protocol.judges and not protocol.locates else 2
    return [chain[-back].text if len(chain) >= back else None for chain in chains]


def _prompt(conversation: Conversation) -> str:
    """What the last turn was asked: of one turn without a system prompt its text, else the messages as JSON, as lm-eval
    has them of chats."""
    messages: list[dict[str, str]] = []
    for asked, attempt in zip(conversation.asked, conversation.chain, strict=True):
        messages += asked
        if attempt is not conversation.chain[-1]:
            messages.append({"role": "assistant", "content": attempt.text})
    return messages[0]["content"] if len(messages) == 1 else json.dumps(messages, ensure_ascii=False)
