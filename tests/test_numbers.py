"""Columns of attempts say what the attempts say, whether they come from memory, from a file or from its index."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cipo_eval.analysis.chains import chains_of
from cipo_eval.analysis.selection import Extent, Selection
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, AttemptKey, State, Verdict
from cipo_eval.storage import index, numbers
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.store import RunStore, attempts_of_task, attempts_path
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS

STATES = st.sampled_from([State.CORRECT, State.INCORRECT, State.NO_ANSWER, State.VERIFIER_ERROR])
KEYS = st.builds(
    AttemptKey,
    st.just("t"),
    st.sampled_from(["p10", "p9", "p9 "]),
    st.sampled_from(["direct", "self", "oracle", "given", "critique"]),
    st.integers(0, 3),
    st.integers(1, 4),
)


@st.composite
def attempts(draw: st.DrawFn) -> Attempt:
    key = draw(KEYS)
    verdicts = {}
    for mode in draw(st.sampled_from([(), ("fixed",), ("fixed", "paper")])):
        state = draw(STATES)
        verdicts[mode] = Verdict(
            correct=state is State.CORRECT,
            state=state,
            extracted=draw(st.sampled_from([None, "1", "wrong"])),
            canonical=draw(st.sampled_from([None, "1", "2"])),
            parts=draw(st.sampled_from([{}, {"base": True}, {"base": True, "plus": False}])),
            report=draw(st.sampled_from([{}, {"label": True}, {"integrity": "weak", "other": [1]}])),
        )
    return Attempt(
        task=key.task,
        problem=key.problem,
        protocol=key.protocol,
        sample=key.sample,
        turn=key.turn,
        prompt_hash=draw(st.sampled_from(["a", "b"])),
        seed=None,
        text=draw(st.text(max_size=5)),
        finish_reason=draw(st.sampled_from([None, "stop", "elsewhere"])),
        prompt_tokens=draw(st.none() | st.integers(0, 9)),
        completion_tokens=draw(st.none() | st.integers(0, 9)),
        seconds=draw(st.none() | st.floats(0, 9)),
        verdicts=verdicts,
    )


def columns(of: Attempts) -> list[list[object]]:
    """All that they say, with words in place of numbers (which depend on what was read first)."""
    named = {
        name: [None if number < 0 else of.words(name)[number] for number in of.column(name).tolist()]
        for name in ("task", "problem", "protocol", "finish")
    }
    plain = [of.column(name).tolist() for name in ("sample", "turn", "prompt", "prompt_tokens", "left_out")]
    verdicts = [
        of.verdicts(mode, name).tolist()
        for mode in ("fixed", "paper")
        for name in ("state", "correct", "label", "said", "seconds")
    ]
    return [*named.values(), *plain, *verdicts]


@settings(max_examples=40)
@given(st.lists(attempts(), max_size=30))
def test_the_latest_of_each_key_counts_at_the_place_of_the_first(some: list[Attempt]) -> None:
    latest = Attempts.of(some).latest()
    assert list(latest) == list({a.key: a for a in some}.values())
    assert list(latest.each_key()) == list(dict.fromkeys(a.key for a in some))
    assert list(latest.in_order()) == sorted(latest, key=lambda a: a.key)


def by_hand(some: Sequence[Attempt], name: str) -> list[tuple[Attempt, ...]]:
    by_key = {a.key: a for a in some}
    start = DIRECT if PROTOCOLS[name].own else name
    chains = []
    for key, first in sorted(by_key.items()):
        if (key.protocol, key.turn) != (start, 1):
            continue
        chain = [first]
        while follows := by_key.get(key._replace(protocol=name, turn=len(chain) + 1)):
            chain.append(follows)
        chains.append(tuple(chain))
    return chains


@settings(max_examples=60)
@given(st.lists(attempts(), max_size=40), st.sampled_from(["direct", "self", "oracle", "given", "critique"]))
def test_chains_are_what_following_each_attempt_by_hand_gives(some: list[Attempt], name: str) -> None:
    assert list(chains_of(some, PROTOCOLS[name])) == by_hand(some, name)


@settings(max_examples=60)
@given(
    st.lists(attempts(), max_size=30),
    st.dictionaries(
        st.sampled_from(["direct", "self", "given", "critique"]),
        st.builds(
            Extent,
            samples=st.none() | st.integers(0, 3),
            limit=st.none() | st.integers(1, 2),
            turns=st.integers(1, 3),
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_what_counts_is_the_same_one_by_one_and_all_at_once(
    some: list[Attempt], extents: dict[str, Extent], known: bool
) -> None:
    problems = {"p10": {}, "p9": {}} if known else {}
    selection = Selection(task="t", extents=extents, problems=problems, pooled={"given": {"p9": 2}})
    every = Attempts.of(some)
    assert selection.wanted(every).tolist() == [selection.wants(a.key) for a in some]
    for name in extents:
        assert selection.part_of(every, name).tolist() == [selection.belongs(a.key, name) for a in some]


@settings(max_examples=40)
@given(st.lists(attempts(), max_size=30))
def test_rows_are_the_same_however_they_are_packed(some: list[Attempt]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numbers, "WAITING", 3)
        patch.setattr(numbers, "CHUNK", 8)
        small = Attempts.of(some)
    whole = Attempts.of(some)
    assert columns(small) == columns(whole)
    assert len(small.numbers.packed()[0]) <= 1 + len(some) // 4 + 3


# --- the index ----------------------------------------------------------------------------------------------------


def made(number: int, text: str = "text") -> Attempt:
    state = State.CORRECT if number % 3 else State.INCORRECT
    verdict = Verdict(correct=state is State.CORRECT, state=state, extracted=str(number % 5))
    return Attempt(
        task="t",
        problem=f"p{number % 4}",
        sample=number // 4,
        prompt_hash="0",
        seed=number,
        text=f"{text} {number}",
        finish_reason="stop",
        prompt_tokens=number,
        completion_tokens=None,
        seconds=0.5,
        verdicts={"fixed": verdict},
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run with an index, and in it one attempt that was judged again."""
    monkeypatch.setattr(index, "LEAST_ROWS", 5)
    with RunStore(tmp_path / "run") as store:
        store.write_info({"schema": 1})
        store.load("t")
        store.extend([made(number) for number in range(20)])
        store.append(replace(made(3), text="judged again"))
    assert index.index_path(attempts_path(tmp_path / "run", "t")).is_file()
    return tmp_path / "run"


def without_index(run: Path) -> list[Attempt]:
    lines = attempts_path(run, "t").read_text().splitlines()
    return list({(a := Attempt.from_json(json.loads(line))).key: a for line in lines}.values())


def agree(run: Path) -> None:
    stored, expected = attempts_of_task(run, "t"), without_index(run)
    assert list(stored) == expected
    assert columns(stored) == columns(Attempts.of(expected))


def test_an_index_says_what_the_file_says(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agree(run)
    with monkeypatch.context() as patch:  # the file is not read again
        patch.setattr(index, "read_json_lines", lambda *_, **__: iter(()))
        assert len(attempts_of_task(run, "t")) == 20


def test_what_was_appended_is_added_to_an_index(run: Path) -> None:
    before = index.index_path(attempts_path(run, "t")).read_bytes()
    with attempts_path(run, "t").open("a") as out:
        out.write(json.dumps(made(99).to_json()) + "\n" + '{"torn')
    stored = attempts_of_task(run, "t")
    assert [a.sample for a in stored if a.problem == "p3"][-1] == 24
    assert index.index_path(attempts_path(run, "t")).read_bytes() != before
    assert list(attempts_of_task(run, "t")) == list(stored)


@pytest.mark.parametrize("how", ["another text", "a line less", "other lines", "nothing"])
def test_an_index_of_another_file_is_not_believed(run: Path, how: str) -> None:
    path = attempts_path(run, "t")
    lines = path.read_text().splitlines(keepends=True)
    if how == "another text":  # as long as before
        changed = [lines[0].replace("text 0", "TEXT 0"), *lines[1:]]
    elif how == "a line less":
        changed = lines[1:]
    elif how == "other lines":
        changed = lines[::-1] + lines
    else:
        changed = []
    path.write_text("".join(changed))
    agree(run)


@pytest.mark.parametrize("how", ["cut", "noise", "another release", "another kind of columns", "empty"])
def test_a_damaged_index_is_made_again(run: Path, how: str) -> None:
    path = index.index_path(attempts_path(run, "t"))
    whole = path.read_bytes()
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "noise":
        path.write_bytes(os.urandom(len(whole)))
    elif how == "empty":
        path.write_bytes(b"")
    else:
        with np.load(path) as stored:
            arrays = {name: stored[name] for name in stored.files}
        facts = json.loads(arrays["facts"].tobytes())
        if how == "another release":
            facts["version"] = 0
        else:
            arrays["rows 0"] = np.zeros(len(arrays["rows 0"]))
        arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        np.savez(path, **arrays)
    agree(run)


def test_judged_again_while_the_run_is_open(run: Path) -> None:
    with RunStore(run) as store:
        assert len(store.load("t")) == 20
        store.append(replace(made(7), text="once more"))
        assert [a.text for a in store.load("t") if a.key == made(7).key] == ["once more"]
        store.replace(
            {"t": iter(store.load("t"))}, info={"schema": 1}, results=lambda: {"n": len(store.load("t"))}
        )
        assert store.path.joinpath("results.json").read_text() == '{\n "n": 20\n}\n'
        assert len(list(store.load("t"))) == 20
    assert len(attempts_path(run, "t").read_bytes().splitlines()) == 20
    agree(run)


def test_a_run_that_was_changed_while_it_is_read_is_said(run: Path) -> None:
    stored = attempts_of_task(run, "t")
    attempts_path(run, "t").write_text("x" * 100_000)
    with pytest.raises(UsageError, match="was changed while it was read"):
        list(stored)


@pytest.mark.parametrize(
    "change",
    [
        {"sample": 1 << 40},
        {"turn": 1 << 20},
        {"left_out": -(1 << 40)},
        {"prompt_tokens": 1 << 33},
        {"seconds": 10**400},
    ],
)
def test_a_number_that_no_column_holds_is_a_damaged_line(tmp_path: Path, change: dict[str, int]) -> None:
    lines = [json.dumps(made(0).to_json()), json.dumps({**made(1).to_json(), **change})]
    (tmp_path / "attempts").mkdir()
    attempts_path(tmp_path, "t").write_text("\n".join(lines) + "\n")
    with pytest.raises(UsageError, match="line 2 is damaged"):
        attempts_of_task(tmp_path, "t")
