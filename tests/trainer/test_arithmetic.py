"""Arithmetic: problems, tokenizer and model."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_trainer.worlds import arithmetic

ITEMS_FILE = Path(__file__).resolve().parents[2] / "tasks" / "arithmetic.jsonl"


TOKENIZER = arithmetic.build_tokenizer()


def pairs(count: int, **more: Any) -> list[arithmetic.Pair]:
    return [arithmetic.pair_at(at, **more) for at in range(count)]


def value(expression: str) -> int:
    """The value of a chain like ``3*4+1`` or ``8-3-1``; the product, if any, comes first."""
    first, *rest = re.split(r"(?=[-+*])", expression)
    total = int(first)
    for term in rest:
        number = int(term[1:])
        total = {"+": total + number, "-": total - number, "*": total * number}[term[0]]
    return total


def test_items_are_distinct_balanced_and_right() -> None:
    rows = [json.loads(line) for line in ITEMS_FILE.read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == len({row["problem"] for row in rows}) == 200
    for row in rows:
        assert row["problem"].endswith("=")
        assert row["answer"] == str(value(row["problem"][:-1]))
        assert int(row["answer"]) >= 0
    levels = [row["level"] for row in rows]
    assert all(sorted(levels[i : i + 4]) == [1, 2, 3, 4] for i in range(0, 200, 4))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_step_of_every_working_is_true(seed: int) -> None:
    drawn = pairs(5000, seed=seed)
    for prompt, completion in drawn:
        *steps, boxed = completion.split(" ")
        assert boxed == f"\\boxed{{{value(prompt[:-1])}}}"
        assert steps
        for step in steps:
            left, right = step.split("=")
            assert value(left) == int(right), (prompt, completion)
        assert len(prompt) + len(completion) + 1 < 64
    seen = {(re.sub(r"\d+", lambda m: str(len(m[0])), prompt)) for prompt, _ in drawn}
    assert {"1+1=", "2+2=", "3+3=", "2*1=", "1-1=", "2-2=", "3-3="} <= seen


@pytest.mark.parametrize("seed", [0, 1])
def test_evaluation_items_are_held_out_of_training(seed: int) -> None:
    held_out = arithmetic.evaluation_prompts()
    trained = {prompt for prompt, _ in pairs(30000, seed=seed)}
    assert not trained & held_out
    one_digit = {f"{a}+{b}=" for a in range(10) for b in range(10)}
    assert one_digit - held_out <= trained


def test_pairs_depend_on_seed_and_position_alone() -> None:
    first = pairs(50, seed=3)
    assert first[20:30] == [arithmetic.pair_at(at, seed=3) for at in range(20, 30)]
    assert first != pairs(50, seed=4)


def test_corrections_show_an_attempt_and_its_right_working() -> None:
    """Two of three attempts have a slip in one step, and the wrong answer with it; what is learned is always right."""
    rows = [arithmetic.pair_at(at, seed=1, corrections=0.5) for at in range(2000)]
    asked = [(prompt, said) for prompt, said in rows if "<attempt>" in prompt]
    assert len(asked) == pytest.approx(1000, abs=100)
    slips = 0
    for prompt, said in asked:
        problem, rest = prompt.split("\n<attempt>\n")
        attempt, instruction = rest.split("\n</attempt>\n")
        assert instruction == "Again:"
        assert said.endswith(f"\\boxed{{{value(problem[:-1])}}}")
        slips += attempt != said
        if attempt != said:
            wrong = [
                i for i, (a, b) in enumerate(zip(attempt.split(" "), said.split(" "), strict=True)) if a != b
            ]
            assert len(wrong) == 2
            assert wrong[-1] == len(said.split(" ")) - 1
    assert slips / len(asked) == pytest.approx(2 / 3, abs=0.05)


def test_problems_are_like_the_rows_and_have_their_answers() -> None:
    held_out = arithmetic.evaluation_prompts()
    problems = [arithmetic.problem_at(at, seed=0) for at in range(500)]
    assert all(int(p.gold) == value(p.prompt[:-1]) for p in problems)
    assert not {p.prompt for p in problems} & held_out
    assert len({p.id for p in problems}) == 500


@given(st.text(st.sampled_from(arithmetic.ALPHABET)))
def test_tokenizer_round_trip(text: str) -> None:
    ids = TOKENIZER(text)["input_ids"]
    assert TOKENIZER.decode(ids) == text
    if "<" not in text:
        assert len(ids) == len(text)


@given(st.text())
def test_tokenizer_takes_any_text(text: str) -> None:
    known = "".join(c if c in arithmetic.ALPHABET else "<unk>" for c in text)
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == known


def test_checkpoint_loads_as_any_other_and_computes_the_same(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = arithmetic.build_model(TOKENIZER, 0).eval()
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    tokenizer, loaded = (kind.from_pretrained(tmp_path) for kind in (AutoTokenizer, AutoModelForCausalLM))
    text = "".join(arithmetic.ALPHABET) + "  12+3=\n é \\boxed{15}"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    assert ids.tolist() == [TOKENIZER(text)["input_ids"]]
    assert tokenizer.decode(ids[0]) == text.replace("é", "<unk>")
    assert tokenizer.chat_template is None
    with torch.no_grad():
        assert torch.equal(model(ids).logits, loaded(ids).logits)
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        expected = getattr(TOKENIZER, name)
        assert expected is not None
        assert getattr(tokenizer, name) == getattr(loaded.generation_config, name) == expected


def test_initial_weights_depend_on_the_seed_alone() -> None:
    import torch

    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = arithmetic.build_model(TOKENIZER, 0).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (arithmetic.build_model(TOKENIZER, seed).state_dict() for seed in (0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
