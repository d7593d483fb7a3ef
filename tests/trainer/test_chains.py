"""Chains modulo 13: right answers, a teacher that errs as it says, corrections that keep what was right, no leakage."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from commands import Commands

from cipo_trainer import chains
from cipo_trainer.chains import Teacher, corrected, is_held_out, pair_at, problem_at, solve
from cipo_trainer.worlds import WORLDS

ITEMS_FILE = Path(__file__).resolve().parents[2] / "tasks" / "chains.jsonl"


def parsed(text: str) -> tuple[int, tuple[str, ...]]:
    start, *operations, equals = text.split(" ")
    assert equals == "="
    return int(start), tuple(operations)


def by_hand(text: str) -> list[int]:
    """Without the module's own arithmetic."""
    start, operations = parsed(text)
    values = []
    for operation in operations:
        number = int(operation[1:])
        start = (start + number if operation.startswith("+") else start * number) % 13
        values.append(start)
    return values


def test_items_file_is_what_the_generator_writes_and_right(tmp_path: Path) -> None:
    chains.write_items(tmp_path / "items.jsonl")
    assert (tmp_path / "items.jsonl").read_bytes() == ITEMS_FILE.read_bytes()
    rows = [json.loads(line) for line in ITEMS_FILE.read_text().splitlines()]
    assert len(rows) == len({row["id"] for row in rows}) == len({row["problem"] for row in rows}) == 1000
    for row in rows:
        assert row["answer"] == str(by_hand(row["problem"])[-1])
        assert is_held_out(row["problem"])
    assert {row["hard"] for row in rows} == {"0", "1", "2 or more"}


@pytest.mark.parametrize("seed", [0, 1])
def test_no_stream_meets_a_held_out_problem(seed: int) -> None:
    asked = [problem_at(at, seed=seed) for at in range(2000)]
    rows = [pair_at(at, seed=seed, corrections=0.5) for at in range(2000)]
    texts = [p.prompt for p in asked] + [prompt.split("\n")[0] for prompt, _ in rows]
    assert not any(is_held_out(text) for text in texts)
    assert all(int(p.gold) == by_hand(p.prompt)[-1] for p in asked)
    assert len({p.id for p in asked}) == 2000
    share = sum(is_held_out(f"{seed} {at}") for at in range(20_000)) / 20_000
    assert share == pytest.approx(0.1, abs=0.01)


def test_positions_alone_decide() -> None:
    first = [pair_at(at, seed=3, corrections=0.5) for at in range(40)]
    assert first[20:30] == [pair_at(at, seed=3, corrections=0.5) for at in range(20, 30)]
    assert first != [pair_at(at, seed=4, corrections=0.5) for at in range(40)]


@pytest.mark.parametrize("systematic", [0.0, 0.9])
def test_the_teacher_errs_as_it_says(systematic: float) -> None:
    teacher = Teacher(systematic=systematic)
    entries = [(operation, value) for operation in chains.OPERATIONS for value in range(13)]
    hard = [entry for entry in entries if teacher.entry(*entry)[0] < teacher.easy]
    assert len(hard) / len(entries) == pytest.approx(0.1, abs=0.05)
    assert all(teacher.entry(*entry)[0] <= 0.15 for entry in hard)
    rng = random.Random(0)
    for operation, value in hard[:5]:
        q, wrong = teacher.entry(operation, value)
        right = chains.apply(operation, value)
        assert wrong != right
        drawn = [teacher.step(operation, value, rng) for _ in range(4000)]
        # any value may come by a slip, the right one and the usual one too
        assert drawn.count(right) / 4000 == pytest.approx(q + (1 - q) * (1 - systematic) / 13, abs=0.03)
        usual = (1 - q) * (systematic + (1 - systematic) / 13)
        assert drawn.count(wrong) / 4000 == pytest.approx(usual, abs=0.03)
        assert wrong not in [teacher.step(operation, value, rng, seen=wrong) for _ in range(200)]


def test_a_correction_keeps_what_is_right_and_changes_the_first_wrong_step() -> None:
    teacher, rng = Teacher(), random.Random(1)
    better = worse = 0
    for at in range(3000):
        text = problem_at(at, seed=5).prompt
        start, operations = parsed(text)
        attempt, right = teacher.attempt(start, operations, rng), by_hand(text)
        found = corrected(teacher, start, operations, attempt, rng)
        assert len(found) == 10
        values = [start, *attempt]
        wrong = [i for i, op in enumerate(operations) if attempt[i] != chains.apply(op, values[i])]
        if not wrong:
            assert found == attempt == right
            continue
        first = wrong[0]
        assert found[:first] == attempt[:first] == right[:first]
        assert found[first] != attempt[first]
        if attempt[-1] != right[-1]:
            better += found[-1] == right[-1]
            worse += teacher.attempt(start, operations, rng)[-1] == right[-1]
    assert better > 1.5 * worse > 0  # correcting beats trying again: what the warm start is to learn


def test_rows_show_right_and_wrong_attempts() -> None:
    rows = [pair_at(at, seed=1, corrections=0.5) for at in range(3000)]
    asked = [(prompt, said) for prompt, said in rows if "<attempt>" in prompt]
    assert len(asked) == pytest.approx(1500, abs=120)
    copied = 0
    for prompt, said in asked:
        problem, rest = prompt.split("\n<attempt>\n")
        attempt, instruction = rest.split("\n</attempt>\n")
        assert instruction == "Again:"
        *way, answer = map(str, solve(*parsed(problem)))
        right = " ".join([*way, f"\\boxed{{{answer}}}"])
        copied += attempt == right
        assert (attempt == right) <= (said == attempt)
    assert copied / len(asked) == pytest.approx(0.35, abs=0.05)


def test_the_tokenizer_has_a_token_for_every_word() -> None:
    tokenizer = chains.build_tokenizer()
    for at in range(200):
        prompt, said = pair_at(at, seed=2, corrections=0.5)
        for text in (prompt, said):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids
            assert tokenizer.decode(ids).split() == text.split()
        assert len(tokenizer(said, add_special_tokens=False)["input_ids"]) == 10


@pytest.mark.parametrize("name", list(WORLDS))
def test_worlds_are_made_alike(name: str) -> None:
    """Problems, rows, tokenizer and model fit each other: a row is within the model's context and vocabulary."""
    made = WORLDS[name]
    tokenizer = made.build_tokenizer()
    model = made.build_model(tokenizer, seed=0)
    assert model.config.vocab_size == len(tokenizer)
    assert model.num_parameters() < 500_000
    for at in range(100):
        prompt, said = made.pair_at(at, seed=0, corrections=0.5)
        ids = [i for text in (prompt, said) for i in tokenizer(text)["input_ids"]]
        assert len(ids) < model.config.max_position_embeddings
        assert tokenizer.unk_token_id not in ids
        assert made.problem_at(at, seed=0).task == name


@pytest.mark.slow
def test_a_warm_start_is_trained_and_scored(cipo: Commands, tmp_path: Path) -> None:
    """A few steps: it has learned to write ten values, and the harness reads its answers."""
    small = (
        "steps=150",
        "optimizer.warmup=10",
        "eval.tasks=[]",
        "checkpoint.every=150",
        "optimizer.batch=32",
    )
    trained = cipo("train", "chains_sft", f"output={tmp_path / 'sft'}", *small, "--quiet")
    assert trained.code == 0, trained.err
    checkpoint = tmp_path / "sft" / "checkpoints" / "step-000150"
    prompts = Path(__file__).resolve().parents[2] / "trainer" / "configs" / "prompts"
    done = cipo(
        "run", "--model", checkpoint, "--tasks", "chains", "--limit", "20", "--samples", "2", "--temperature", "1",
        "--max-tokens", "24", "--protocol", "self", "--turn-format", "inline", "--prompt-dir", prompts,
        "-o", tmp_path / "run", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    states = done.json["tasks"]["chains"]["fixed"]["states"]
    assert states["correct"] + states["incorrect"] >= 36
