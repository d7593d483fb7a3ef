"""Runs of the protocol ``critique``: an attempt of a pool, a judgement, a correction; figures by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Commands, results, turns

from cipo_eval.records import Attempt

YAML = """
task: cipo_sums
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: sums
    description: sums
    options: {}
    columns: {question: question, gold: gold, id: id, attempt: attempt, attempt_right: said_right}
    breakdown: [size]
    sources:
      - {kind: embedded, path: sums.jsonl}
"""

CASES = [
    # (the attempt is right, label, judgement, the correction is right)
    (False, False, "[[wrong]]", True),
    (False, False, "[[wrong]]", False),
    (False, False, "[[correct]]", False),
    (False, False, "I cannot say.", True),
    (True, True, "[[correct]]", True),
    (True, True, "[[wrong]]", False),
    (True, True, "I cannot say.", True),
    (True, False, "[[wrong]]", True),  # its label says that it is wrong
]


@pytest.fixture
def task(tmp_path: Path) -> Path:
    """Eight sums, each with an attempt."""
    folder = tmp_path / "task"
    folder.mkdir()
    rows = [
        {
            "id": str(i),
            "question": f"What is {i} + 10?",
            "gold": str(i + 10),
            "attempt": f"It is \\boxed{{{i + 10 if right else 99}}}.",
            "said_right": [label],
            "size": "small" if i < 4 else "large",
        }
        for i, (right, label, _, _) in enumerate(CASES)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(YAML)
    return folder / "sums.yaml"


@pytest.fixture
def said(tmp_path: Path) -> Path:
    """What a model says: judgements and corrections, of two samples the same."""
    path = tmp_path / "said.jsonl"
    rows = []
    for i, (_, _, judgement, right) in enumerate(CASES):
        for sample in range(2):
            for turn in range(2, 6):
                text = judgement if turn % 2 == 0 else f"\\boxed{{{i + 10 if right else 98}}}"
                attempt = Attempt(
                    task="sums",
                    problem=str(i),
                    protocol="critique",
                    sample=sample,
                    turn=turn,
                    prompt_hash="",
                    seed=None,
                    text=text,
                    finish_reason="stop",
                    prompt_tokens=None,
                    completion_tokens=None,
                    seconds=None,
                    verdicts={},
                )
                rows.append(attempt.to_json())
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def run(cipo: Commands, task: Path, said: Path, folder: Path, *flags: str) -> dict[str, Any]:
    command = ("run", "--engine", "replay", "--model", said, "--tasks", task, "--mode", "both", "--quiet")
    found = cipo(*command, "-o", folder, *flags)
    assert found.code == 0, found.err
    block: dict[str, Any] = json.loads((folder / "results.json").read_text())["tasks"]["sums"]
    return block


def values(block: dict[str, Any]) -> dict[str, float]:
    return {
        name: entry["value"] for name, entry in block.items() if isinstance(entry, dict) and "value" in entry
    }


def test_figures_by_hand(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    blocks = run(cipo, task, said, tmp_path / "run", "--protocol", "critique")["protocols"]["critique"]
    found = turns(tmp_path / "run", "sums")
    assert len(found) == 3 * len(CASES)
    for (problem, _, _, turn), row in found.items():
        right, label, judgement, _ = CASES[int(problem)]
        for mode, verdict in row["verdicts"].items():
            truth = label if mode == "paper" else right
            if turn == 1:
                assert (verdict["correct"], verdict["report"]["label"]) == (right, label)
            elif turn == 2:
                assert verdict["correct"] is (judgement == ("[[correct]]" if truth else "[[wrong]]"))
    fixed, paper = (blocks[mode]["critique"] for mode in ("fixed", "paper"))
    assert fixed["counts"] == {"tp": 2, "fp": 2, "fn": 2, "tn": 2}
    assert values(fixed) == {
        "accuracy": 3 / 8,  # two caught, one trusted; an unread one is no hit
        "precision": 0.5,
        "recall": 0.5,
        "specificity": 0.25,
        "f1": 0.5,
        "always_wrong": pytest.approx(2 * 4 / (4 + 8)),
    }
    assert values(fixed["joined"]) == {"caught": 0.5, "missed": 0.5, "doubted": 0.5, "trusted": 1}
    # in paper mode the label counts, and an unread one is the opposite of the truth
    assert paper["counts"] == {"tp": 3, "fp": 2, "fn": 2, "tn": 1}
    assert values(paper)["f1"] == pytest.approx(2 * 3 / (2 * 3 + 2 + 2))
    assert values(paper)["accuracy"] == 0.5
    assert (fixed["unread"], paper["unread"]) == (2, 2)
    assert values(blocks["fixed"]["by_turn"]) == {"acc@t1": 0.5, "acc@t2": 5 / 8}
    assert {size: group["chains"] for size, group in blocks["fixed"]["breakdown"]["size"].items()} == {
        "small": 4,
        "large": 4,
    }


def test_turns_and_samples_only_add(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    """``--turns`` counts attempts; what a call does not name keeps the figures that it had."""
    folder = tmp_path / "run"
    run(cipo, task, said, folder, "--protocol", "critique")
    once = turns(folder, "sums")
    block = run(cipo, task, said, folder, "--protocol", "critique", "--turns", "3", "--samples", "2")
    more = turns(folder, "sums")
    assert once.items() <= more.items()
    assert len(more) == 5 * 2 * len(CASES)
    assert block["protocols"]["critique"]["fixed"]["chains"] == 2 * len(CASES)
    assert set(block["protocols"]["critique"]["fixed"]["by_turn"]) == {"acc@t1", "acc@t2", "acc@t3"}
    given = {
        k: {**row, "protocol": "direct", "turn": 1, "seconds": None}
        for k, row in more.items()
        if k[2:] == (0, 3)
    }
    direct = tmp_path / "direct.jsonl"
    direct.write_text(said.read_text() + "".join(json.dumps(row) + "\n" for row in given.values()))
    whole = run(cipo, task, direct, tmp_path / "all", "--protocol", "direct,critique", "--turns", "3")
    later = run(cipo, task, direct, tmp_path / "all")
    assert later["protocols"] == whole["protocols"]
    lift = whole["protocols"]["critique"]["fixed"]["lift"]
    assert lift["fresh"]["value"] == lift["revised"]["value"] == 0.5  # first attempts are its corrections


def test_rescoring_equals_scoring(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(cipo, task, said, folder, "--protocol", "critique", "--critique-form", "json")
    rows, figures = turns(folder, "sums"), results(folder)
    assert cipo("rescore", folder, "--quiet").code == 0
    assert turns(folder, "sums") == rows
    assert results(folder) == figures


def test_another_form_is_another_run(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    run(cipo, task, said, tmp_path / "run", "--protocol", "critique")
    command = ("run", "--engine", "replay", "--model", said, "--tasks", task, "--mode", "both", "--quiet")
    found = cipo(*command, "-o", tmp_path / "run", "--protocol", "critique", "--critique-form", "verdict")
    assert found.code == 2
    assert "sums.protocols.critique.form" in found.err


def test_how_it_is_shown(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(cipo, task, said, folder, "--protocol", "critique")
    lines = cipo("show", folder).out.splitlines()
    assert len(lines) == len(CASES)
    assert "w→[wrong]→r" in lines[0]
    assert "w→[?]→r" in lines[3]
    assert len(cipo("show", folder, "--transition", "r->w").out.splitlines()) == 1
    assert "says that the attempt is wrong" in cipo("show", folder, "--problem", "0").out
    table = cipo("rescore", folder).out
    assert "always" in table
    assert "F1" in table


@pytest.mark.slow
@pytest.mark.usefixtures("some_figures")
def test_comparing_judges(cipo: Commands, task: Path, said: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(said.read_text().replace("I cannot say.", "[[correct]]"))
    for name, file in (("a", said), ("b", other)):
        run(cipo, task, file, tmp_path / name, "--protocol", "critique")
    found = cipo("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert found.code == 0, found.err
    rows = {row["figure"]: row for row in found.json[0]["rows"]}
    accuracy, f1 = rows["critique judgement accuracy"], rows["critique judgement F1"]
    assert (accuracy["first"], accuracy["second"]) == (pytest.approx(3 / 8), pytest.approx(4 / 8))
    assert (f1["first"], f1["second"]) == (pytest.approx(0.5), pytest.approx(0.5))
    reported = cipo("report", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "report", "--json")
    assert reported.code == 0, reported.err
    table = pd.read_csv(tmp_path / "report" / "tables" / "critique.csv")
    assert list(table["accuracy (value)"]) == pytest.approx([3 / 8, 4 / 8])
    assert list(table["F1 (value)"]) == pytest.approx([0.5, 0.5])
    main = pd.read_csv(
        tmp_path / "report" / "tables" / "main.csv"
    )  # no first attempts: judgements stand for the task
    assert list(main["sums judgement accuracy (value)"]) == pytest.approx([3 / 8, 4 / 8])


@pytest.mark.slow
def test_what_a_prompt_has_no_room_for_is_recorded(
    cipo: Commands, task: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pool = tmp_path / "pool.jsonl"
    rows = [{"problem_id": str(i), "text": "x" * (20 if i else 9000)} for i in range(len(CASES))]
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = (
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        task,
        "--max-tokens",
        "4",
        "-o",
        tmp_path / "run",
    )
    found = cipo(*command, "--protocol", "given", "--attempts-from", pool)
    assert found.code == 0, found.err
    assert "1 prompts had no room for the whole of an earlier attempt" in found.out
    rows_of = turns(tmp_path / "run", "sums")
    left_out = {key: row["left_out"] for key, row in rows_of.items()}
    assert 7000 < left_out.pop(("0", "given", 0, 2)) < 9000
    assert not any(left_out.values())
