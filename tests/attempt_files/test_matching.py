"""Rows find the problem that they are about, by whatever they say, and never another one in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.data.attempt_files.clues import clues
from cipo_eval.data.attempt_files.id_map import read_id_map
from cipo_eval.data.attempt_files.matching import (
    ALIAS,
    ALIKE,
    DOUBTFUL,
    ID,
    ID_MAP,
    PLACE,
    TEXT,
    UNKNOWN,
    Match,
    Matcher,
)
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem

QUESTIONS = [
    r"Find the sum of all integers $b > 9$ for which $17_b$ divides $97_b$ and nothing else does, in base ten.",
    "Let $ABC$ be a triangle with sides 13, 14 and 15. Find the radius of its inscribed circle as a fraction.",
    r"How many ways are there to color the vertices of a cube in red and blue such that \(4\) are red?",
]


def problems(task: str = "aime24", ids: tuple[str, ...] = ("60", "61", "62")) -> list[Problem]:
    return [
        Problem(task=task, id=name, index=i, question=QUESTIONS[i], prompt="", gold=str(70 + i))
        for i, name in enumerate(ids)
    ]


def match(rows: list[dict[str, Any]], of: list[Problem], **arguments: Any) -> list[Match]:
    return Matcher(of, **arguments).match([clues(row) for row in rows])


def places(matched: list[Match]) -> list[tuple[int, ...]]:
    return [tuple(p.index for p in m.problems) for m in matched]


@pytest.mark.parametrize(
    "text",
    [
        QUESTIONS[0],
        QUESTIONS[0].replace("$", "") + "\n",
        QUESTIONS[0].replace("$b > 9$", r"\( b \, > \, 9 \)"),
        f"Solve the problem step by step and box the answer.\n\nProblem: {QUESTIONS[0]}\n\nSolution:",
        QUESTIONS[0].replace("sum", "ｓｕｍ").replace("-", "\u2013"),
        QUESTIONS[0] + "[asy] draw((0,0)--(1,1)); [/asy]",
    ],
)
def test_copies_of_a_statement_are_the_statement(text: str) -> None:
    (matched,) = match([{"question": text}], problems())
    assert (matched.how, places([matched])) == (TEXT, [(0,)])


@pytest.mark.parametrize(
    "text",
    [
        QUESTIONS[0].replace("17", "18"),
        QUESTIONS[0].replace("sum", "product"),
        f"{QUESTIONS[0]}\n{QUESTIONS[1]}",
    ],
)
def test_another_statement_is_not(text: str) -> None:
    """One with other numbers or words, and a text with several: the same answer alone, or half, does not help."""
    (matched,) = match([{"question": text, "answer": "71"}], problems())
    assert (matched.how, matched.problems) == (UNKNOWN, ())


def test_another_wording_needs_the_answer() -> None:
    text = QUESTIONS[1].replace("Find", "Compute").replace("as a fraction", "as a reduced fraction")
    (matched,) = match([{"problem": text, "expected_answer": "71"}], problems())
    assert (matched.how, places([matched])) == (ALIKE, [(1,)])
    for answer in ({}, {"expected_answer": 72}):
        assert match([{"problem": text, **answer}], problems())[0].how == UNKNOWN


@pytest.mark.parametrize(
    ("column", "name", "ids", "index"),
    [
        ("task_id", "humaneval_2", ("HumanEval/1", "HumanEval/2", "HumanEval/3"), 1),
        ("task_id", "HUMANEVAL-002", ("HumanEval/1", "HumanEval/2", "HumanEval/3"), 1),
        ("task_id", 3, ("HumanEval/1", "HumanEval/2", "HumanEval/3"), 2),
        ("id", "HumanEval/3", ("HumanEval/1", "HumanEval/2", "HumanEval/3"), 2),
        ("problem_id", "61", ("60", "61", "62"), 1),
        ("id", "aime24-62", ("60", "61", "62"), 2),
        ("id", "AIME_2024_61", ("60", "61", "62"), 1),
        ("id", "other-61", ("60", "61", "62"), None),
        ("task_id", "Mbpp/2", ("HumanEval/1", "HumanEval/2", "HumanEval/3"), None),
        ("task_id", "HumanEval/9", ("HumanEval/1", "HumanEval/2", "HumanEval/3"), None),
    ],
)
def test_forms_of_an_id(column: str, name: Any, ids: tuple[str, ...], index: int | None) -> None:
    (matched,) = match([{column: name}], problems(ids=ids))
    assert places([matched]) == [() if index is None else (index,)]


def test_places_count_only_where_something_agrees() -> None:
    """``aime24-1`` may be a place from 0 or from 1, or in another order."""
    names = [{"id": f"aime24-{i}"} for i in range(3)]
    assert {matched.how for matched in match(names, problems())} == {DOUBTFUL}
    told = [{**names[0], "problem": QUESTIONS[0]}, names[1], names[2]]
    assert places(match(told, problems())) == [(0,), (1,), (2,)]
    assert [matched.how for matched in match(told, problems())] == [TEXT, ALIAS, ALIAS]
    from_one = [{"id": "aime24-1", "gt": "70"}, {"id": "aime24-2"}]
    assert places(match(from_one, problems())) == [(0,), (1,)]
    other_order = [{**names[0], "problem": QUESTIONS[2]}, names[1], names[2]]
    assert places(match(other_order, problems())) == [(2,), (), ()]
    other_answers = [{**row, "expected_answer": 72 - i} for i, row in enumerate(names)]
    assert places(match(other_answers, problems())) == [(), (), ()]


def test_the_place_in_the_data_set_must_not_contradict_the_answers() -> None:
    rows: list[dict[str, Any]] = [{"idx": i, "gt": str(70 + i)} for i in range(3)]
    assert [(m.how, m.contradiction) for m in match(rows, problems())] == [(PLACE, "")] * 3
    rows[2]["gt"] = "5"
    assert all(matched.contradiction for matched in match(rows, problems())), "the file has another order"


@pytest.mark.parametrize("row", [{"problem_id": "61"}, {"task_id": 61}, {"unique_id": "61"}])
def test_an_id_and_a_text_that_contradict_each_other(row: dict[str, Any], tmp_path: Path) -> None:
    for text in (QUESTIONS[0], "Is it 3 or 4 or 5 or 6, seriously, which one?"):
        (matched,) = match([{**row, "question": text}], problems())
        assert matched.contradiction
    (matched,) = match([{**row, "question": QUESTIONS[1].replace("Find", "Say")}], problems())
    assert (matched.how, matched.contradiction, places([matched])) == (ID, "", [(1,)])
    path = tmp_path / "f.jsonl"
    good = {"problem_id": "60", "text": "x"}
    path.write_text(
        "".join(json.dumps(r) + "\n" for r in ({**row, "question": QUESTIONS[0], "text": "x"}, good))
    )
    with pytest.raises(
        UsageError, match=r"1 row.s. name one problem.*line 1: the id of 61 and the text of 60"
    ):
        ReplayEngine(path, problems())
    engine = ReplayEngine(path, problems(), allow_unmatched=True)
    assert engine.counts == {"60": 1}
    assert "were left out" in engine.warnings[0]


MAPS = {
    "m.json": '{"a": "60", "b": 61}',
    "m.jsonl": '{"theirs": "a", "ours": "60"}\n{"theirs": "b", "ours": 61}\n',
    "m.csv": "theirs,ours\na,60\nb,61\n",
    "headless.csv": "a,60\nb,61\n",
}


@pytest.mark.parametrize("name", MAPS)
def test_an_id_map_says_what_ids_mean(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text(MAPS[name])
    id_map = read_id_map(tmp_path / name, problems())
    assert id_map == {"a": "60", "b": "61"}
    rows = [{"id": "b", "question": QUESTIONS[1]}, {"task_id": "a"}]
    assert [(m.how, places([m])) for m in match(rows, problems(), id_map=id_map)] == [
        (ID_MAP, [(1,)]),
        (ID_MAP, [(0,)]),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.json", '{"a": "63"}', "no problem 63"),
        ("m.json", '{"a": [1]}', "an id is a text"),
        ("m.json", "[", "is not JSON"),
        ("m.json", "[" * 100_000, "nested too deeply"),
        ("m.jsonl", '{"a": "x", "b": "60"}\n{"a": "x", "b": "61"}\n', "m.jsonl line 2: x is 60 and 61"),
        ("m.csv", "a,60,7\nb,61,7\n", "line 2 is not a pair"),
        ("m.csv", "", "maps no ids"),
        ("none.csv", None, "cannot read"),
    ],
)
def test_id_maps_that_are_wrong_say_how(tmp_path: Path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message):
        read_id_map(tmp_path / name, problems())


def test_the_id_map_is_part_of_the_file_s_identity(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    path.write_text('{"id": "a", "text": "x"}\n')
    one, other = (
        ReplayEngine(path, problems(), id_map={"a": to}).describe()["fingerprint"] for to in ("60", "61")
    )
    assert one != other


@pytest.mark.parametrize(
    ("task", "file", "rows"), [("aime24", "AIME24", 30), ("aime25", "AIME25", 30), ("amc23", "AMC23", 40)]
)
def test_real_copies_with_other_ids_and_wordings(real_data: Path, task: str, file: str, rows: int) -> None:
    """All rows find a problem, and the answers that the rows carry are those of the problems."""
    from cipo_eval.data.attempt_files.lines import read_lines
    from cipo_eval.data.attempt_files.texts import answer_key
    from cipo_eval.data.tasks import load_problems

    path = real_data / "model_outputs" / "small_models" / f"Qwen2.5-1.5B-Instruct__{file}.jsonl.gz"
    lines = [clues(line.fields) for line in read_lines(path)]
    matches = Matcher(load_problems(task, data_dir=real_data).problems).match(lines)
    assert len({p.id for m in matches for p in m.problems}) == rows == len(lines)
    for row, matched in zip(lines, matches, strict=True):
        assert answer_key(matched.problems[0].gold) in map(answer_key, row.answers)


def test_a_perturbed_copy_is_not_the_original(real_data: Path) -> None:
    """Rows of a real lm-eval log: MATH with other numbers."""
    from cipo_eval.data.tasks import load_problems

    path = real_data / "logs" / "lm_eval" / "samples_math_perturbed_full_2026-01-21T03-44-18.458309.jsonl"
    with pytest.raises(UsageError, match=r"10 row.s. match no problem"):
        ReplayEngine(path, load_problems("math500", data_dir=real_data).problems)
