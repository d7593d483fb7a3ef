"""``show``: attempts turn by turn, filtered, and nothing that steers a terminal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Commands

from cipo_eval.records import Attempt, State, Verdict
from cipo_reports.transcript import printable


def attempt(problem: str, protocol: str, turn: int, right: bool, text: str, **more: object) -> Attempt:
    state = State.CORRECT if right else State.INCORRECT
    verdict = Verdict(correct=right, state=state, extracted=text[-1:], **more)  # type: ignore[arg-type]
    return Attempt(
        task="arithmetic",
        problem=problem,
        protocol=protocol,
        sample=0,
        turn=turn,
        prompt_hash="x",
        seed=1,
        text=text,
        finish_reason="stop",
        prompt_tokens=1,
        completion_tokens=2,
        seconds=None,
        verdicts={"fixed": verdict},
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    (folder / "attempts").mkdir(parents=True)
    tasks = {"arithmetic": {"protocols": {"self": {"turns": 3}, "oracle": {"turns": 3}}}}
    (folder / "run.json").write_text(json.dumps({"schema": 1, "modes": ["fixed"], "tasks": tasks}))
    failure = {"kind": "error", "test": 3, "public": False, "error": "Boom\x1b[2J"}
    stored = [
        attempt("p1", "direct", 1, False, "first \x1b[31mred 1", report={"failure": failure}),
        attempt("p1", "self", 2, True, "second 2"),
        attempt("p1", "oracle", 2, False, "third 3"),
        attempt("p1", "oracle", 3, False, "fourth 4"),
        attempt("p2", "direct", 1, True, "right 5"),
        attempt("p2", "self", 2, False, "broken 6"),
    ]
    lines = "".join(json.dumps(a.to_json()) + "\n" for a in stored)
    (folder / "attempts" / "arithmetic.jsonl").write_text(lines)
    return folder


def test_a_list_of_chains(cipo: Commands, run: Path) -> None:
    out = cipo("show", run).out.splitlines()
    assert [line.split(": ")[1].split("  ")[0] for line in out] == ["w→r", "r→w", "w→w→w", "r"]


@pytest.mark.parametrize(
    ("flags", "shown"),
    [
        (("--transition", "w->r"), ["w→r"]),
        (("--transition", "r→w"), ["r→w"]),
        (("--transition", "ww"), ["w→w→w"]),
        (("--protocol", "self"), ["w→r", "r→w"]),
        (("--protocol", "direct"), ["w", "r"]),
        (("--state", "correct", "--protocol", "oracle"), ["r"]),
        (("--limit", "1"), ["w→r"]),
    ],
)
def test_filters(cipo: Commands, run: Path, flags: tuple[str, ...], shown: list[str]) -> None:
    out = cipo("show", run, *flags).out.splitlines()
    assert [line.split(": ")[1].split("  ")[0] for line in out] == shown


def test_a_problem_in_full(cipo: Commands, run: Path) -> None:
    out = cipo("show", run, "--problem", "p1", "--protocol", "self").out
    assert "first \\x1b[31mred 1" in out
    assert "─── turn 2: correct, 2 tokens\nsecond 2\n─── answer: 2" in out
    assert "test 3: error\nerror: Boom\\x1b[2J" in out
    assert "\x1b" not in out
    assert "p2" not in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--problem", "p3"), "did you mean p"),
        (("--task", "arithmetik"), "did you mean arithmetic"),
        (("--transition", "x->y"), "--transition"),
        (("--state", "corect"), "did you mean correct"),
        (("--mode", "paper"), "was judged in mode fixed"),
        (("--protocol", "slef"), "no protocol"),
    ],
)
def test_what_is_not_there(cipo: Commands, run: Path, flags: tuple[str, ...], message: str) -> None:
    found = cipo("show", run, *flags)
    assert found.code == 2
    assert message in found.err


def test_nothing_steers_the_terminal() -> None:
    assert printable("a\tb\n\x1b]0;title\x07\u202e\x9b1m") == "a\tb\n\\x1b]0;title\\x07\\u202e\\x9b1m"


def test_a_problem_is_shown_as_it_was_asked(cipo: Commands, run: Path) -> None:
    (run / "problems").mkdir()
    row = {"id": "p1", "question": "How many?\x1b[2J", "answer": "2", "metadata": {}}
    (run / "problems" / "arithmetic.jsonl").write_text(json.dumps(row) + "\n")
    out = cipo("show", run, "--problem", "p1").out
    assert out.count("How many?\\x1b[2J\n─── expected: 2\n") == 1
    assert out.index("How many?") < out.index("second 2")
    assert "How many?" not in cipo("show", run).out
    (run / "problems" / "arithmetic.jsonl").write_text("{")
    damaged = cipo("show", run, "--problem", "p1")
    assert damaged.code == 2
    assert "delete it" in damaged.err
