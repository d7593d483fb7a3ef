"""Logs of Inspect (``.eval``), one for each task and protocol, written with ``inspect_ai`` itself.

A problem is a sample, a run's sample an epoch. A chain of turns is one conversation; the verdict of its last turn is
the score ``final``, that of each turn of several ``turn_1``, ``turn_2`` …; verdicts of a further mode have the mode
behind their name. Figures of ``results.json`` are the metrics of ``final``.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Figure
from cipo_eval.data.attempt_files.inspect_logs import OURS
from cipo_eval.errors import MissingError
from cipo_eval.export.source import Conversation, Source, TaskSource, unicode_json, unicode_text, verdict_of
from cipo_eval.records import Attempt, FinishReason, State, Verdict, fingerprint
from cipo_eval.turns.protocols import DIRECT, Protocol

if TYPE_CHECKING:
    from inspect_ai.event import ModelEvent
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.model import ChatMessage, ModelOutput, ModelUsage
    from inspect_ai.scorer import Score

_VALUES = {State.CORRECT: "C", State.NO_ANSWER: "N", State.TRUNCATED: "N"}
"""Inspect's letters; every other state is ``I``."""
_REASONS = {
    State.FILTERED: "refusal",
    State.VERIFIER_TIMEOUT: "scoring_failed",
    State.VERIFIER_ERROR: "scoring_failed",
}
_STOPS = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.CONTEXT: "model_length",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def write(source: Source, folder: Path) -> None:
    """Writes the logs. Raises ``MissingError`` where Inspect is not installed."""
    try:
        from inspect_ai.log import write_eval_log
    except ImportError as error:
        raise MissingError(f"inspect-ai cannot be imported ({error}): pip install inspect-ai") from error
    logging.getLogger("inspect_ai").setLevel(logging.ERROR)
    stamp = source.begun[:19].replace(":", "-")
    for task in source.tasks:
        for protocol in task.protocols:
            log = _log(task, protocol)
            if log.samples:
                name = f"{stamp}_{task.name}-{protocol.name}_{log.eval.eval_id}.eval"
                write_eval_log(log, str(folder / name), format="eval")


def _log(task: TaskSource, protocol: Protocol) -> EvalLog:
    """The log of one protocol at one task."""
    from inspect_ai.log import EvalConfig, EvalDataset, EvalLog, EvalResults, EvalSpec, EvalStats
    from inspect_ai.model import GenerateConfig

    source = task.source
    samples = [_sample(task, protocol, conversation) for conversation in task.conversations(protocol)]
    ids = list(dict.fromkeys(str(sample.id) for sample in samples))
    key = fingerprint([source.identity, task.name, protocol.name])
    sampling, of = task.sampling, task.facts.get("source", {})
    spec = EvalSpec(
        eval_id=key,
        run_id=source.identity,
        created=source.begun,
        task=f"cipo_eval/{task.name}"
        if protocol.name == DIRECT
        else f"cipo_eval/{task.name}_{protocol.name}",
        task_id=key,
        task_version=source.version,
        task_attribs={"protocol": protocol.name, "summary": protocol.summary},
        task_args={"protocol": protocol.name},
        dataset=EvalDataset(
            name=task.name, location=of.get("repo") or of.get("content"), samples=len(ids), sample_ids=ids
        ),
        model=f"{source.engine}/{source.model.lstrip('/')}",  # of a checkpoint in a folder, too
        model_generate_config=GenerateConfig(
            temperature=sampling.get("temperature"),
            top_p=sampling.get("top_p"),
            top_k=sampling.get("top_k") or None,
            max_tokens=sampling.get("max_tokens"),
            stop_seqs=list(sampling.get("stop") or ()) or None,
        ),
        config=EvalConfig(epochs=max((sample.epoch for sample in samples), default=1)),
        packages={"cipo-eval": source.version},
        metadata=unicode_json(
            {"command": source.command, "mode": source.mode.value, "data": task.facts["data"]}
        ),
    )
    return EvalLog(
        status="success",
        eval=spec,
        results=EvalResults(
            total_samples=len(samples),
            completed_samples=len(samples),
            scores=_scores(task, protocol, samples),
        ),
        stats=EvalStats(
            started_at=source.begun, completed_at=source.ended, model_usage=_whole_usage(samples)
        ),
        samples=samples,
    )


def _scores(task: TaskSource, protocol: Protocol, samples: Sequence[EvalSample]) -> list[Any]:
    """Our figures, and the accuracy of each turn as it is in the log."""
    from inspect_ai.log import EvalMetric, EvalScore

    rows = {row.measure.name: row for row in task.rows(protocol) if isinstance(row.measure, Figure)}
    main = f.PASS.at(1) if protocol.name == DIRECT else f.ACCURACY.at(task.selected.turns(protocol.name))
    metrics = {}
    if main.name in rows:
        metrics["accuracy"] = EvalMetric(name="accuracy", value=float(rows[main.name].entry["value"]))
    for name, row in rows.items():
        interval = {"ci95": list(row.interval)} if row.interval else None
        metrics[name] = EvalMetric(name=name, value=float(row.entry["value"]), metadata=interval)
    scorer = f"cipo_eval/{task.facts['verifier']}"
    scores = [
        EvalScore(
            name="final", scorer=scorer, scored_samples=len(samples), unscored_samples=0, metrics=metrics
        )
    ]
    names = dict.fromkeys(name for sample in samples for name in sample.scores or {} if name != "final")
    for name in names:
        right = [s.scores[name].value == "C" for s in samples if s.scores and name in s.scores]
        value = EvalMetric(name="accuracy", value=sum(right) / len(right))
        scores.append(
            EvalScore(
                name=name,
                scorer=scorer,
                scored_samples=len(right),
                unscored_samples=len(samples) - len(right),
                metrics={"accuracy": value},
            )
        )
    return scores


def _sample(task: TaskSource, protocol: Protocol, conversation: Conversation) -> EvalSample:
    """One conversation."""
    from inspect_ai.log import EvalSample

    chain, first = conversation.chain, conversation.chain[0]
    messages = _messages(task, protocol, conversation)
    opening = messages[: len(conversation.asked[0])]
    generated = [attempt for attempt in chain if protocol.own or attempt.turn > 1]
    seconds = [attempt.seconds for attempt in generated if attempt.seconds is not None]
    usage = _usage(generated)
    return EvalSample(
        id=unicode_text(first.problem),
        epoch=first.sample + 1,
        input=opening[0].text if len(opening) == 1 else opening,
        target=unicode_text(task.answer(first.problem)),
        messages=messages,
        output=_output(task, messages[-1], chain[-1]),
        events=_events(task, protocol, conversation, messages),
        scores=_sample_scores(task, protocol, chain),
        metadata=unicode_json(
            {
                "question": task.question(first.problem),
                **task.problems.get(first.problem, {}).get("metadata", {}),
                "problem_id": first.problem,
                OURS: {"protocol": protocol.name, "judges": protocol.judges},
            }
        ),
        model_usage={task.source.model: usage} if usage else {},
        total_time=sum(seconds) if seconds else None,
        uuid=fingerprint([task.source.identity, protocol.name, str(chain[-1].key)]),
        turn_count=len(chain),
    )


def _messages(task: TaskSource, protocol: Protocol, conversation: Conversation) -> list[ChatMessage]:
    """The whole conversation; texts of the model are kept letter for letter, thoughts within them included."""
    from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, ChatMessageUser, ContentText

    messages: list[ChatMessage] = []
    for asked, attempt in zip(conversation.asked, conversation.chain, strict=True):
        for message in asked:
            kind = ChatMessageSystem if message["role"] == "system" else ChatMessageUser
            messages.append(
                kind(content=unicode_text(message["content"]), source="input" if attempt.turn == 1 else None)
            )
        given = not protocol.own and attempt.turn == 1
        messages.append(
            ChatMessageAssistant(
                content=[ContentText(text=unicode_text(attempt.text))],
                source="input" if given else "generate",
                model=None if given else task.source.model,
                metadata=_told(
                    written_by="somebody else" if given else None,
                    finish_reason=attempt.finish_reason and unicode_text(attempt.finish_reason.value),
                    prompt_tokens=attempt.prompt_tokens,
                    completion_tokens=attempt.completion_tokens,
                    prefix=attempt.prefix or None,
                ),
            )
        )
    for number, entry in enumerate(messages):
        entry.id = fingerprint([protocol.name, str(conversation.chain[-1].key), number])
    return messages


def _shown(
    protocol: Protocol, conversation: Conversation, attempt: Attempt, before: Sequence[ChatMessage]
) -> list[ChatMessage]:
    """What the model was shown before an attempt: what it went on with stands at the end of it, as its own words, in
    place of the attempt that these are cut from and of the note that follows it."""
    from inspect_ai.model import ChatMessageAssistant

    if not protocol.continues:
        return list(before)
    begun = unicode_text(attempt.text[: attempt.prefix])
    key = fingerprint([protocol.name, str(attempt.key), "begun"])
    return [
        *before[: len(conversation.asked[0])],
        *([ChatMessageAssistant(id=key, content=begun, source="input")] if begun else ()),
    ]


def _told(**values: Any) -> dict[str, Any]:
    """What is known: a viewer shows a line for each, an empty one for None."""
    return {name: value for name, value in values.items() if value is not None}


def _output(task: TaskSource, message: ChatMessage, attempt: Attempt) -> ModelOutput:
    """What the model, or whoever made the attempt, gave."""
    from inspect_ai.model import ChatCompletionChoice, ModelOutput

    stop = _STOPS.get(attempt.finish_reason, "unknown") if attempt.finish_reason else "unknown"
    choice = ChatCompletionChoice(message=message, stop_reason=stop)
    return ModelOutput(
        model=task.source.model, choices=[choice], usage=_usage([attempt]), time=attempt.seconds
    )


def _events(
    task: TaskSource, protocol: Protocol, conversation: Conversation, messages: Sequence[ChatMessage]
) -> list[ModelEvent]:
    """A call of the model for each turn that it made, with what it was shown: transcripts and ``messages_df`` are made
    of these."""
    from inspect_ai.event import ModelEvent
    from inspect_ai.model import GenerateConfig

    events, place = [], -1
    for asked, attempt in zip(conversation.asked, conversation.chain, strict=True):
        place += len(asked) + 1
        if protocol.own or attempt.turn > 1:
            event = ModelEvent(
                uuid=fingerprint([protocol.name, str(conversation.chain[-1].key), attempt.turn]),
                timestamp=datetime.fromisoformat(task.source.begun),
                working_start=0.0,
                model=task.source.model,
                input=_shown(protocol, conversation, attempt, messages[:place]),
                tools=[],
                tool_choice="none",
                config=GenerateConfig(),
                output=_output(task, messages[place], attempt),
            )
            events.append(event)
    return events


def _usage(generated: Sequence[Attempt]) -> ModelUsage | None:
    """Tokens of what the model generated itself, where all of it is known."""
    from inspect_ai.model import ModelUsage

    prompt = [attempt.prompt_tokens for attempt in generated]
    completion = [attempt.completion_tokens for attempt in generated]
    read, written = sum(filter(None, prompt)), sum(filter(None, completion))
    if not generated or None in prompt or None in completion:
        return None
    return ModelUsage(input_tokens=read, output_tokens=written, total_tokens=read + written)


def _whole_usage(samples: Sequence[EvalSample]) -> dict[str, ModelUsage]:
    """Tokens of all conversations, by model, where those of each are known."""
    from inspect_ai.model import ModelUsage

    if not all(sample.model_usage for sample in samples):
        return {}
    total: dict[str, ModelUsage] = {}
    for sample in samples:
        for model, usage in sample.model_usage.items():
            total[model] = total.get(model, ModelUsage()) + usage
    return total


def _sample_scores(task: TaskSource, protocol: Protocol, chain: Sequence[Attempt]) -> dict[str, Score]:
    """By name, the verdicts of each turn and of the last."""
    source, scores = task.source, {}
    # where a step is named, what the model did is its judgement
    attempts = [a for a in chain if protocol.is_judgement(a.turn) is protocol.locates]
    for mode in source.modes:
        suffix = "" if mode is source.mode else f"_{mode.value}"
        verdicts = [verdict_of(attempt, mode) for attempt in attempts]
        scores[f"final{suffix}"] = _score(verdicts[-1])
        if protocol.name != DIRECT:
            for number, verdict in enumerate(verdicts, start=1):
                scores[f"turn_{number}{suffix}"] = _score(verdict)
    return scores


def _score(verdict: Verdict) -> Score:
    from inspect_ai.scorer import Score

    return Score(
        value=_VALUES.get(verdict.state, "I"),
        answer=None if verdict.extracted is None else unicode_text(verdict.extracted),
        explanation=unicode_text(verdict.detail) or None,
        reason=_REASONS.get(verdict.state),
        metadata=unicode_json(
            _told(state=verdict.state.value, canonical=verdict.canonical, parts=dict(verdict.parts) or None)
        ),
    )
