"""The run directory: whole lines or none, damage is named, a full disk loses nothing that was there."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Attempt, Problem, State, Verdict
from cipo_eval.storage.index import read_attempts
from cipo_eval.storage.store import (
    RunStore,
    attempts_of_task,
    attempts_path,
    read_info,
    read_problems,
)


def attempt(sample: int, text: str = "2", *, correct: bool = True) -> Attempt:
    verdict = Verdict(
        correct=correct, state=State.CORRECT if correct else State.INCORRECT, extracted="2", canonical="2"
    )
    return Attempt(
        task="t",
        problem="p",
        sample=sample,
        prompt_hash="0",
        seed=sample,
        text=text,
        finish_reason="stop",
        prompt_tokens=3,
        completion_tokens=1,
        seconds=0.5,
        verdicts={"fixed": verdict},
    )


@given(st.text(alphabet=st.characters(), max_size=200), st.integers(0, 2**63))
def test_attempts_survive_json(text: str, sample: int) -> None:
    """Any text a model or a file can hold, lone surrogates and separators included."""
    line = json.dumps(attempt(sample, text).to_json())
    assert "\n" not in line
    assert Attempt.from_json(json.loads(line)) == attempt(sample, text)


def test_what_is_appended_is_loaded_in_order(tmp_path: Path) -> None:
    attempts = [attempt(i, f"text {i}\u2028\ud800") for i in (3, 0, 7)]
    with RunStore(tmp_path / "run") as store:
        store.write_info({"schema": 1})
        for a in attempts:
            store.append(a)
    with RunStore(tmp_path / "run") as store:
        assert list(store.load("t")) == attempts
        assert store.warnings == []


@pytest.mark.slow
def test_every_torn_end_is_dropped_and_nothing_else(tmp_path: Path) -> None:
    """Cut the file after every single byte: whole lines stay, the torn one goes, the next append is clean."""
    with RunStore(tmp_path / "run") as store:
        for i in range(2):
            store.append(attempt(i))
    path = attempts_path(tmp_path / "run", "t")
    data = path.read_bytes()
    first = data.index(b"\n") + 1
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = (cut >= first) + (cut == len(data))
        with RunStore(tmp_path / "run") as store:
            assert len(store.load("t")) == whole
            assert bool(store.warnings) == (cut not in (0, first, len(data)))
            store.append(attempt(9))
            assert store.load("t")[-1].sample == 9


@pytest.mark.parametrize("damage", [b"{}\n", b"\x00\xff\n", b"[1, 2]\n", b'{"v": 2}\n', b"null\n", b"\n"])
def test_damage_in_the_middle_is_named_with_its_line(tmp_path: Path, damage: bytes) -> None:
    with RunStore(tmp_path / "run") as store:
        store.append(attempt(0))
        path = attempts_path(store.path, "t")
        with path.open("ab") as file:
            file.write(damage)
        store.append(attempt(1))
        with pytest.raises(UsageError, match=r"t\.jsonl line 2 is damaged"):
            store.load("t")
        subprocess.run(["sed", "-i", "2d", str(path)], check=True)  # what the message says
        assert [key.sample for key in store.load("t").each_key()] == [0, 1]


def test_the_last_of_equal_keys_counts(tmp_path: Path) -> None:
    """What was judged again is appended, and takes the place of what was there."""
    with RunStore(tmp_path / "run") as store:
        store.append(attempt(0, "first"))
        store.append(attempt(1))
        store.append(attempt(0, "second"))
        assert [a.text for a in store.load("t")] == ["second", "2"]
        assert list(attempts_of_task(store.path, "t")) == list(store.load("t"))


WRONG: dict[str, dict[str, Any]] = {
    "correct is false and the state is correct": {
        "verdicts": {"fixed": {"correct": False, "state": "correct"}}
    },
    "correct is true and the state is incorrect": {
        "verdicts": {"fixed": {"correct": True, "state": "incorrect"}}
    },
    "correct is 1": {"verdicts": {"fixed": {"correct": 1, "state": "correct"}}},
    "extracted is 2": {"verdicts": {"fixed": {"correct": True, "state": "correct", "extracted": 2}}},
    "verdicts holds": {"verdicts": [1]},
    "text is null": {"text": None},
    'sample is "0"': {"sample": "0"},
    "sample is true": {"sample": True},
    "sample is -1": {"sample": -1},
    "turn is 1.0": {"turn": 1.0},
    'completion_tokens is "3"': {"completion_tokens": "3"},
    "finish_reason is 1": {"finish_reason": 1},
    "reads version 1": {"v": 2},
}


@pytest.mark.parametrize("message", WRONG)
def test_an_attempt_that_contradicts_itself_is_refused_with_its_line(tmp_path: Path, message: str) -> None:
    """As a run's own and as a file to be scored: nothing of it is believed."""
    problem = Problem(task="t", id="p", index=0, question="?", prompt="?", gold="2")
    with RunStore(tmp_path / "run") as store:
        store.append(attempt(0))
        path = attempts_path(store.path, "t")
        with path.open("a") as file:
            file.write(json.dumps(attempt(1).to_json() | WRONG[message]) + "\n")
    with pytest.raises(UsageError, match=rf"t\.jsonl line 2 is damaged.*{re.escape(message)}"):
        list(read_attempts(path))
    with pytest.raises(UsageError, match=rf"t\.jsonl line 2 is damaged.*{re.escape(message)}"):
        ReplayEngine(path, [problem])


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with RunStore(tmp_path / "run"), pytest.raises(UsageError, match="another process is writing"):
        RunStore(tmp_path / "run")
    RunStore(tmp_path / "run").close()


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a run directory"):
        RunStore(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="not a folder"):
        RunStore(tmp_path / "file")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"schema": 99}', "\x00"])
def test_a_damaged_run_json_is_a_clear_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run\.json cannot be read"):
        read_info(tmp_path)
    with pytest.raises(UsageError, match=r"no run\.json"):
        read_info(tmp_path / "nowhere")


def test_replacing_keeps_everything_until_all_of_it_is_whole(tmp_path: Path) -> None:
    new: dict[str, Any] = {"schema": 1, "new": True}
    documents: dict[str, Any] = {"info": {"schema": 1, "modes": ["paper"]}, "results": lambda: new}
    with RunStore(tmp_path / "run") as store:
        store.append(attempt(0))
        store.write_info({"schema": 1})
        store.write_results({"schema": 1})

        def broken() -> Iterator[Attempt]:
            yield attempt(0, correct=False)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.replace({"other": [], "t": broken()}, **documents)
        assert [a.verdicts["fixed"].correct for a in store.load("t")] == [True]
        assert store.read_info() == store.read_results() == {"schema": 1}
        store.replace({"t": [attempt(0, correct=False)]}, **documents)
        assert (store.read_info(), store.read_results()) == (documents["info"], new)
        store.append(attempt(1))
        assert [a.verdicts["fixed"].correct for a in store.load("t")] == [False, True]
    assert sorted(p.name for p in (tmp_path / "run" / "attempts").iterdir()) == ["t.jsonl"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_keeps_every_whole_attempt(small_disk: Path) -> None:
    stored = 0

    def fill(store: RunStore) -> None:
        nonlocal stored
        for i in range(1000):
            store.append(attempt(i, "x" * 3000))
            stored = i + 1

    with RunStore(small_disk / "run") as store:
        store.write_info({"schema": 1})
        store.write_results({"schema": 1})
        with pytest.raises(MissingError, match="full; every attempt before this one is kept"):
            fill(store)
        assert 10 < stored < 1000
        assert [key.sample for key in store.load("t").each_key()] == list(range(stored))
        with pytest.raises(MissingError, match="full"):
            store.write_results({"filler": "y" * 20_000})
        assert store.read_info() == store.read_results() == {"schema": 1}
        again = list(store.load("t"))
        with pytest.raises(MissingError, match="full"):  # judged again, and no room for it
            store.replace(
                {"t": again}, info={"schema": 1, "new": True}, results=lambda: {"schema": 1, "new": True}
            )
        assert store.read_info() == store.read_results() == {"schema": 1}
        assert list(store.load("t")) == again
        assert store.warnings == []  # no torn line: the short write was taken back


def test_a_read_only_folder_is_a_clear_error(small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(MissingError, match="cannot write"):
        RunStore(small_disk / "run")


def test_a_run_that_never_began_leaves_no_folder(tmp_path: Path) -> None:
    RunStore(tmp_path / "run").close()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run" / "attempts").mkdir(parents=True)  # killed at the worst moment
    with RunStore(tmp_path / "run") as store:
        store.write_info({"schema": 1})
    assert read_info(tmp_path / "run") == {"schema": 1}


def test_reading_stops_before_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    line = json.dumps(attempt(0).to_json()) + "\n"
    path.write_text(line + line[:40])
    assert [a.sample for _raw, a in read_attempts(path)] == [0]


def test_problems_are_written_whole(tmp_path: Path) -> None:
    rows = [{"id": f"p{i}", "question": f"q{i} \ud83d", "metadata": {}} for i in range(5)]
    with RunStore(tmp_path / "run") as store:
        store.write_info({"schema": 1})
        for count in (2, 5):
            store.write_problems("t", rows[:count])
            assert list(read_problems(store.path, "t")) == [f"p{i}" for i in range(count)]
        assert read_problems(store.path, "other") == {}
    assert [p.name for p in (tmp_path / "run" / "problems").iterdir()] == ["t.jsonl"]
