"""A correction stands beside the attempt that it corrects, or the file is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.data.tasks import ProblemSet, load_problems
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem
from cipo_eval.run.scoring import open_file
from cipo_eval.turns.pools import Pool, PoolItem

PROBLEMS = [
    Problem(task="t", id=f"id-{i}", index=i, question=f"What is {i}?", prompt="", gold="g") for i in range(2)
]
POOL = Pool(
    items=tuple(
        PoolItem(task="t", problem=f"id-{i}", text=f"first {i} {n}", right=None)
        for i in range(2)
        for n in range(3)
    )
)


def numbers(path: Path, rows: list[dict[str, Any]], pool: Pool = POOL) -> dict[str, int]:
    """By text, the number that each correction gets: its remainder says which of the three attempts it corrects."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = ReplayEngine(path, PROBLEMS, turn=("given", 2))
    engine.pair(pool)
    return {
        engine._file.completion(attempt).text: int(engine._numbers[attempt])
        for held in engine._held.values()
        for attempt in held.tolist()
    }


def row(text: str, **other: Any) -> dict[str, Any]:
    return {"problem_id": "id-0", "text": text, **other}


def test_what_a_row_carries_decides(tmp_path: Path) -> None:
    """Whatever the order and the numbers; a second correction of one attempt comes a round later."""
    rows = [
        row("c2", attempt="first 0 2", sample=1),
        row("c0", attempt="first 0  0"),
        row("again", attempt="first 0 2", sample=9),
        row("c1", attempt="first 0 1\n"),
    ]
    assert numbers(tmp_path / "f.jsonl", rows) == {"c2": 2, "c0": 0, "again": 5, "c1": 1}


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((0, 1, 2), (0, 1, 2)),
        ((2, 0, 1), (2, 0, 1)),
        ((0, 2, None), (0, 2, 1)),
        ((1, 2, 3), (0, 1, 2)),
        ((2, 5, 2), (2, 5, 8)),
        ((None, None, None), (0, 1, 2)),
    ],
)
def test_else_the_number_does(tmp_path: Path, labels: tuple[Any, ...], expected: tuple[int, ...]) -> None:
    """A gap stays a gap: the attempt there was not corrected."""
    found = numbers(tmp_path / "f.jsonl", [row(f"c{i}", sample=label) for i, label in enumerate(labels)])
    assert found == {f"c{i}": number for i, number in enumerate(expected)}


def test_another_attempt_is_refused_with_counts_and_the_flag(tmp_path: Path) -> None:
    rows = [row("a", attempt="first 0 0"), row("b", attempt="somebody else's"), row("c")]
    with pytest.raises(
        UsageError, match=r"1 of the 2 attempts .* --attempts-from .*f.jsonl takes what its rows"
    ):
        numbers(tmp_path / "f.jsonl", rows)


def test_problems_that_the_pool_does_not_have_are_left_out(tmp_path: Path) -> None:
    pool = Pool(items=POOL.items[3:])
    path = tmp_path / "f.jsonl"
    path.write_text(json.dumps(row("a")) + "\n" + json.dumps({**row("b"), "problem_id": "id-1"}) + "\n")
    engine = ReplayEngine(path, PROBLEMS, turn=("given", 2))
    engine.pair(pool)
    assert engine.counts == {"id-1": 1}
    assert sum(engine._left_out.values()) == 1


def half(real_data: Path) -> list[dict[str, Any]]:
    path = real_data / "model_outputs" / "self_correction" / "realcritic_o1-mini_math_half.jsonl.gz"
    with gzip.open(path, "rt") as file:
        return [json.loads(line) for line in file]


def opened(path: Path, problems: ProblemSet, pool: Path | None = None) -> tuple[ReplayEngine, Pool]:
    engine, revising = open_file(
        path, problems, protocol="given", pool=pool, id_map=None, allow_unmatched=False
    )
    assert revising.pool is not None
    return engine, revising.pool


def test_realcritic_is_paired_with_what_its_prompts_show(real_data: Path, tmp_path: Path) -> None:
    """As it is, with the task's own attempts; where half of the prompts show other ones, with those, and it is said."""
    problems = load_problems("realcritic_math", data_dir=real_data)
    rows = half(real_data)
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine, pool = opened(path, problems)
    assert engine.warnings == []
    assert {item.text for item in pool.items} == {p.attempt for p in problems.problems}
    assert sum(item.right is True for item in pool.items) == 134
    shown = {}
    for number, row in enumerate(rows):
        said = row["message"][1]
        if number % 2:
            said["content"] = (
                said["content"].partition("## Student Solution")[0] + f"## Student Solution\nNo. {number}"
            )
        shown[row["critic"][0]] = said["content"].partition("## Student Solution\n")[2]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine, pool = opened(path, problems)
    assert "134 of 268 attempts" in engine.warnings[0]
    for place, found in engine._numbered.items():
        for number, held in found.items():
            said = engine._file.completion(held).text
            assert pool.of(place.task, place.problem)[number].text == shown[said]
    assert opened(path, problems, pool=path)[1].fingerprint == pool.fingerprint
    with pytest.raises(UsageError, match=r"134 of the 268 attempts"):
        opened(path, problems, pool=real_data / "criticbench_like" / "realcritic_math.jsonl")


def test_repairs_of_livecodebench_carry_what_they_repair(real_data: Path) -> None:
    problems = load_problems("livecodebench", data_dir=real_data)
    name = "Qwen2.5-7B-Instruct__lcb_v6_selfrepair.jsonl.gz"
    engine, pool = opened(real_data / "model_outputs" / "livecodebench" / name, problems)
    assert engine.carrying == (1055, 1055)
    assert len(pool.items) == 1055
