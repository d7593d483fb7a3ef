"""Rows of logs of Inspect (``.eval``), made by anybody: a zip archive with a JSON file for each sample.

A sample is a conversation: what the model said last before each further message of the user is an attempt, the first
one at the problem, each later one a correction of the one before. Messages of the sample's input are context; one
that Inspect marks as input although it comes later is somebody's attempt, which the next one corrects.

Inspect compresses with Zstandard, which Python reads from 3.14 on; before that it takes ``zipfile-zstd``, which Inspect
brings along.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from cipo_eval.errors import MissingError, UsageError, reason

SUFFIX = ".eval"
TURN = "inspect_turn"
"""The column of a row that says its protocol and turn."""
OURS = "cipo_eval"
"""In the metadata of samples that we wrote: the protocol, and whether it ``judges``."""
MOST_BYTES = 1 << 30
"""Most bytes of one sample after decompression."""
_ZSTANDARD = 93
_ENDS = {"max_tokens": "length", "model_length": "length"}
_CALLED = ("problem_id", "unique_id", "question_id")
"""Metadata of samples that may name the problem."""


def read_rows(path: Path, digest: Callable[[bytes], None] = lambda _: None) -> Iterator[dict[str, Any]]:
    """A row for each attempt, in the order of the archive; ``digest`` is given every byte of the file.

    Raises ``UsageError`` for what is no such log, ``MissingError`` where it is packed in a way that Python here does
    not know.
    """
    try:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest(block)
        with zipfile.ZipFile(path) as archive:
            members = [m for m in archive.infolist() if _is_sample(m.filename)]
            if any(m.compress_type == _ZSTANDARD for m in members):
                _know_zstandard(path)
            if not members:
                raise UsageError(f"{path} holds no samples of Inspect")
            for member in members:
                yield from _attempts(_sample(path, archive, member))
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} is no log of Inspect ({error})") from error


def _is_sample(name: str) -> bool:
    return name.startswith("samples/") and name.endswith(".json")


def _know_zstandard(path: Path) -> None:
    if sys.version_info >= (3, 14):
        return
    with suppress(ImportError):
        import zipfile_zstd  # noqa: F401  adds Zstandard to zipfile

        return
    raise MissingError(f"{path} is packed with Zstandard: pip install zipfile-zstd")


def _sample(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> dict[str, Any]:
    """One sample as it stands in the archive."""
    where = f"{path.name} {member.filename}"
    try:
        with archive.open(member) as stream:
            text = stream.read(MOST_BYTES + 1)
        if len(text) > MOST_BYTES:
            raise UsageError(f"{where} has more than {MOST_BYTES} bytes")
        sample = json.loads(text)
    except UsageError:
        raise
    except Exception as error:  # whatever the packer's library says of damage
        raise UsageError(f"{where} cannot be read ({reason(error)})") from error
    if not isinstance(sample, dict) or not isinstance(sample.get("messages"), list):
        raise UsageError(f"{where} is no sample of Inspect: it has no messages")
    return sample


def _attempts(sample: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The rows of one sample."""
    messages = [m for m in sample["messages"] if isinstance(m, dict)]
    attachments = sample.get("attachments")
    texts = attachments if isinstance(attachments, dict) else {}
    given = sample.get("input")
    context = len(given) if isinstance(given, list) else 0
    about = _about(sample, texts)
    turns = [message for place, message in _turns(messages) if place >= context]
    if _judges(sample.get("metadata")):
        turns = turns[::2]  # judgements stand between attempts
    before = None
    for number, message in enumerate(turns, start=1):
        text = _text(message, texts)
        if message.get("source") != "input":
            row = {**about, "text": text, **_end(message, sample, last=message is turns[-1])}
            row[TURN] = ["direct", 1] if number == 1 else ["given", number]
            if before is not None:
                row["attempt"] = before
            yield row
        before = text


def _judges(metadata: Any) -> bool:
    """Whether a log that we wrote says that every second turn is a judgement."""
    ours = metadata.get(OURS) if isinstance(metadata, dict) else None
    return isinstance(ours, dict) and ours.get("judges") is True


def _turns(messages: list[dict[str, Any]]) -> Iterator[tuple[int, dict[str, Any]]]:
    """What the assistant said last before each further message of the user, and at the end, with its place."""
    last: tuple[int, dict[str, Any]] | None = None
    for place, message in enumerate(messages):
        if message.get("role") == "assistant" and not message.get("tool_calls"):
            last = place, message
        elif message.get("role") == "user" and last is not None:
            yield last
            last = None
    if last is not None:
        yield last


def _about(sample: Mapping[str, Any], texts: Mapping[str, Any]) -> dict[str, Any]:
    """What says which problem a sample is about."""
    given, target = sample.get("input"), sample.get("target")
    prompts = (
        [m for m in given if isinstance(m, dict) and m.get("role") == "user"]
        if isinstance(given, list)
        else []
    )
    row: dict[str, Any] = {"id": sample.get("id")}
    if prompts or isinstance(given, str):
        row["prompt"] = _text(prompts[-1] if prompts else {"content": given}, texts)
    if isinstance(target, list) and len(target) == 1:
        target = target[0]
    if isinstance(target, str) and target.strip():
        row["target"] = target
    if isinstance(epoch := sample.get("epoch"), int) and epoch >= 1:
        row["sample"] = epoch - 1
    metadata = sample.get("metadata")
    for name in _CALLED:
        if isinstance(metadata, dict) and isinstance(metadata.get(name), str | int):
            row[name] = metadata[name]
    if isinstance(metadata, dict) and isinstance(metadata.get("question"), str):
        row["question"] = metadata["question"]
    return row


def _text(message: Mapping[str, Any], texts: Mapping[str, Any]) -> str:
    """The text of a message, without reasoning that Inspect took out of it, images, and calls of tools."""
    content = message.get("content")
    parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
    said = [p.get("text") for p in parts if isinstance(p, dict) and p.get("type") == "text"]
    return "".join(_attached(part, texts) for part in said if isinstance(part, str))


def _attached(text: str, texts: Mapping[str, Any]) -> str:
    """A text that stands elsewhere in the sample."""
    attachment = texts.get(text.removeprefix("attachment://")) if text.startswith("attachment://") else None
    return attachment if isinstance(attachment, str) else text


def _end(message: Mapping[str, Any], sample: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    """How an attempt ended and its tokens, as far as the log says it of this attempt."""
    metadata = message.get("metadata")
    if isinstance(metadata, dict) and "finish_reason" in metadata:
        kinds = (("finish_reason", str), ("prompt_tokens", int), ("completion_tokens", int))
        return {name: v for name, kind in kinds if type(v := metadata.get(name)) is kind}
    output = sample.get("output")
    choices = output.get("choices") if isinstance(output, dict) else None
    if last and isinstance(choices, list) and choices and isinstance(choices[0], dict):
        stop = choices[0].get("stop_reason")
        if isinstance(stop, str) and stop != "unknown":
            return {"finish_reason": _ENDS.get(stop, stop)}
    return {}
