"""An attempt as a line of its file: JSON in UTF-8, as people read it."""

from __future__ import annotations

import json
from typing import Any

import orjson

from cipo_eval.records import Attempt


def line_of(attempt: Attempt) -> bytes:
    """The line of an attempt, with its end."""
    values = attempt.to_json()
    try:
        return orjson.dumps(values, option=orjson.OPT_APPEND_NEWLINE)
    except (
        TypeError
    ):  # half of a surrogate pair in a text, or a number of more than 64 bits: not for UTF-8, or orjson
        return (json.dumps(values) + "\n").encode("ascii")


def attempt_of(line: bytes) -> Attempt:
    """The attempt of a line. Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what is none."""
    return Attempt.from_json(values_of(line))


def values_of(line: bytes) -> Any:
    """A line's value. Raises ``ValueError`` for what is not JSON."""
    try:
        return orjson.loads(line)
    except ValueError:  # what only Python reads: halves of surrogate pairs, NaN
        return json.loads(line)
