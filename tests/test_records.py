"""Why a completion ended: a closed list for what happens here, and whatever a foreign file says is read and kept."""

from __future__ import annotations

import copy
import json
import pickle
from dataclasses import replace
from typing import Any

import pytest

from cipo_eval.records import (
    Attempt,
    Completion,
    FinishReason,
    Mode,
    State,
    Verdict,
    derive_seed,
    derive_seeds,
)
from cipo_eval.storage.lines import attempt_of, line_of

LINE: dict[str, Any] = {
    "v": 1,
    "task": "t",
    "problem": "p",
    "protocol": "direct",
    "sample": 0,
    "turn": 1,
    "parent": None,
    "prompt_hash": "h",
    "seed": 1,
    "text": "x",
    "prompt_tokens": None,
    "completion_tokens": None,
    "seconds": None,
    "verdicts": {},
    "left_out": 0,
}


@pytest.mark.parametrize("word", [*FinishReason, "eos", "abort", "", "length ", None])
def test_a_finish_reason_is_stored_and_read_as_the_word_that_it_is(word: str | None) -> None:
    line = {**LINE, "finish_reason": word}
    attempt = Attempt.from_json(line)
    assert json.loads(json.dumps(attempt.to_json())) == line
    assert attempt.finish_reason == word
    assert attempt.finish_reason is None or type(attempt.finish_reason) is FinishReason
    assert pickle.loads(pickle.dumps(attempt)) == attempt
    assert Completion(text="x", finish_reason=word).finish_reason == word  # type: ignore[arg-type]


def test_only_limits_cut_a_completion_off() -> None:
    assert {reason for reason in FinishReason if reason.cut_off} == {"length", "context"}
    assert not FinishReason("max_tokens").cut_off


@pytest.mark.parametrize("word", [3, True, ["stop"], {}])
def test_a_finish_reason_that_is_no_word_is_refused(word: Any) -> None:
    with pytest.raises(TypeError, match="finish_reason"):
        Attempt.from_json({**LINE, "finish_reason": word})


def test_a_completion_that_came_from_another_process_is_the_same() -> None:
    said = Completion(
        text="4", finish_reason=FinishReason.STOP, seconds=0.5, token_ids=(1, 2), prompt_hash="x"
    )
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(said, protocol)) == said
    assert copy.deepcopy(said) == said


def test_seeds_of_many_samples_are_those_of_each() -> None:
    """Runs of earlier releases go on with the same seeds."""
    seeds = derive_seeds((7, "t", "p", "direct"), (0, 3, 12), 1)
    assert seeds == tuple(derive_seed(7, "t", "p", "direct", sample, 1) for sample in (0, 3, 12))


def test_a_line_has_the_bytes_that_it_had() -> None:
    """Compact, modes by name; a verdict read from it is found by ``Mode`` and by the name."""
    verdict = Verdict(correct=True, state=State.CORRECT, extracted="2", canonical="2")
    attempt = Attempt.from_json({**LINE, "finish_reason": None})
    line = line_of(replace(attempt, verdicts={Mode.FIXED: verdict, Mode.PAPER: verdict}))
    assert b'"verdicts":{"fixed":{"correct":true,"state":"correct",' in line
    assert b": " not in line
    assert list(attempt_of(line).verdicts) == [Mode.FIXED, Mode.PAPER]
    assert all(type(mode) is Mode for mode in attempt_of(line).verdicts)
    with pytest.raises(KeyError):
        attempt_of(line.replace(b'"paper"', b'"newspaper"'))
