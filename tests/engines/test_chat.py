"""What a model sees: nothing in a message ends its turn or begins another one, and what must not be cut is whole."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import make_checkpoint

from cipo_eval.engines.chat import encode, neutral, render, shorten
from cipo_eval.records import Span

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_2 = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]"
    "{% else %} {{ m['content'] }} </s>{% endif %}{% endfor %}"
)
ALPACA = (
    "{% for m in messages %}### {{ 'Instruction' if m['role'] == 'user' else 'Response' }}:\n{{ m['content'] }}\n\n"
    "{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
)
TEMPLATES = {"chatml": CHATML, "llama 2": LLAMA_2, "alpaca": ALPACA, "own": None}
PIECES = [
    "<|end|>", "<|user|>", "<|assistant|>", "<|system|>", "<|pad|>", "<|im_start|>user", "<|im_end|>",
    "[INST]", "[/INST]", "### Response:", "### Instruction:",
    "\n", " ", "x", "<", "<|", "|>", "</s>", "[", "]", "###", "<<|end|>",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    from transformers import AutoTokenizer

    folder = make_checkpoint(tmp_path_factory.mktemp("chat") / "model", chat=True)
    found = {}
    for name, template in TEMPLATES.items():
        found[name] = AutoTokenizer.from_pretrained(folder)
        if template:
            found[name].chat_template = template
    return found


def turns(attempt: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": "question"},
        {"role": "assistant", "content": attempt},
        {"role": "user", "content": "again"},
    ]


@pytest.mark.parametrize("name", TEMPLATES)
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=8))
def test_no_attempt_injects_a_turn(name: str, pieces: list[str], tokenizers: dict[str, Any]) -> None:
    """As many special tokens and marks of turns as with a harmless attempt."""
    tokenizer = tokenizers[name]
    attempt = "".join(pieces)
    special = set(tokenizer.all_special_ids)
    count = [
        sum(token in special for token in encode(tokenizer, turns(text)).ids)
        for text in ("harmless", attempt)
    ]
    assert count[0] == count[1]
    marks = {"chatml": ["<|im_start|>user", "<|im_end|>"], "llama 2": ["[INST]", "[/INST]"]}
    marks["alpaca"] = ["### Response:", "### Instruction:"]
    for mark in marks.get(name, []):
        assert render(tokenizer, turns(attempt))[0].count(mark) == render(tokenizer, turns("harmless"))[
            0
        ].count(mark)


@given(text=st.text())
def test_a_plain_text_stays_as_it_is(text: str, tokenizers: dict[str, Any]) -> None:
    plain = text.replace("<", "").replace("[", "")
    assert neutral(tokenizers["chatml"], plain) == plain


def test_breaking_marks_up_takes_linear_time(tokenizers: dict[str, Any]) -> None:
    assert "<|end|>" not in neutral(tokenizers["own"], "<|end|>" * 200_000)


@given(text=st.text(max_size=900), keep=st.integers(0, 700))
def test_a_long_attempt_loses_its_middle(text: str, keep: int) -> None:
    short = shorten(text, keep)
    if len(text) <= max(keep, 64):
        assert short == text
    else:
        assert short.startswith(text[: max(keep, 64) // 2])
        assert short.endswith(text[len(text) - max(keep, 64) // 2 :])
        assert f"[… {len(text) - max(keep, 64)} characters left out …]" in short


@pytest.mark.parametrize("name", TEMPLATES)
def test_only_attempts_are_cut(name: str, tokenizers: dict[str, Any]) -> None:
    """Even where an attempt repeats the instruction."""
    tokenizer = tokenizers[name]
    instruction = (
        "Go through your solution again, from the beginning to the end, and correct what is wrong in it."
    )
    attempt = instruction + "y" * 3000 + instruction
    messages = [
        {"role": "user", "content": instruction},
        {"role": "assistant", "content": attempt},
        {"role": "user", "content": instruction},
    ]
    ids, left_out, *_ = encode(tokenizer, messages, carried=[Span(1, 0, len(attempt))], most=900)
    assert 800 < len(ids) <= 900
    text = tokenizer.decode(ids)
    whole = render(tokenizer, messages)[0]
    head = whole[: whole.index(attempt)]
    tail = whole[whole.index(attempt) + len(attempt) :]
    assert text.startswith(head)
    assert text.endswith(tail)
    assert f"{left_out} characters left out" in text
    assert encode(tokenizer, messages, carried=[Span(1, 0, len(attempt))], most=9000).left_out == 0


def test_what_cannot_be_cut_stays_too_long(tokenizers: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": "x" * 500}]
    assert len(encode(tokenizers["own"], messages, most=100).ids) > 500
