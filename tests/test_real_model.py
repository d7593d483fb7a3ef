"""A real pretrained model from end to end: its template, tokenizer, ends, lengths, and three protocols."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from asking import GREEDY, outputs, request
from commands import Commands, turns
from real_model import UnavailableError, smollm2

from cipo_eval.engines.hf import HFEngine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model() -> Path:
    try:
        return smollm2()
    except UnavailableError as reason:
        pytest.skip(str(reason))


def test_a_question_is_answered_in_english_and_ends_where_it_is_told(model: Path) -> None:
    engine = HFEngine(str(model), device="cpu")
    question = request("What is the capital of France?")
    assert engine.texts.prompt(question).text == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert [engine.tokenizer.convert_ids_to_tokens(end) for end in engine.end_ids] == ["<|im_end|>"]
    whole, other = outputs(engine, question, request("What is 15 + 27?")).values()
    assert whole.text == "The capital of France is Paris."
    assert (whole.finish_reason, whole.completion_tokens) == ("stop", 8)
    assert "15 + 27" in other.text
    for changes, text, reason in (
        ({"stop": (" Paris",)}, "The capital of France is", "stop"),
        ({"stop": ("France is Paris.<|im_end|>",)}, "The capital of ", "stop"),
        ({"max_tokens": 3}, "The capital of", "length"),
    ):
        cut = outputs(engine, replace(question, sampling=replace(GREEDY, **changes)))[
            "What is the capital of France?", 0
        ]
        assert (cut.text, cut.finish_reason) == (text, reason)
        assert cut.token_ids == whole.token_ids[: cut.completion_tokens]  # type: ignore[index]


@pytest.mark.exhaustive
def test_three_protocols(cipo: Commands, model: Path) -> None:
    run = (
        "run",
        "--model",
        model,
        "--tasks",
        "arithmetic",
        "--limit",
        "2",
        "--max-tokens",
        "12",
        "-o",
        "run",
        "--quiet",
    )
    thinking = cipo(*run, "--enable-thinking")
    assert (thinking.code, Path("run").exists()) == (2, False)
    assert "no enable_thinking" in thinking.err
    assert cipo(*run, "--protocol", "direct,self,oracle").code == 0
    rows = turns(Path("run"), "arithmetic")
    assert {protocol for _, protocol, _, _ in rows} >= {"direct", "self"}
    for (problem, protocol, sample, _), row in rows.items():
        first = rows[problem, "direct", sample, 1]
        assert row["finish_reason"] in ("stop", "length")
        assert (row["completion_tokens"] == 12) or row["finish_reason"] == "stop"
        letters = sum(letter.isascii() and letter.isprintable() for letter in row["text"].replace("\n", " "))
        assert letters > 0.9 * len(row["text"]) > 0
        assert "<|im" not in row["text"]
        if protocol != "direct":  # the attempt is in the prompt
            assert row["prompt_tokens"] > first["prompt_tokens"] + first["completion_tokens"]
        assert protocol != "oracle" or not first["verdicts"]["fixed"]["correct"]
    assert json.loads(Path("run/results.json").read_text())["tasks"]["arithmetic"]["missing_attempts"] == 0
