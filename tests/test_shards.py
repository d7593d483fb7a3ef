"""Shards: every conversation is in one of them, and merged they are the run that would have been made without them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results, turns
from fault_points import fault_points
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_engine import sums, task_text

from cipo_eval.errors import UsageError
from cipo_eval.files import locked
from cipo_eval.run.api import Results, evaluate
from cipo_eval.run.merge import merge
from cipo_eval.run.request import RunRequest
from cipo_eval.run.shards import Shard, split
from cipo_eval.storage.store import attempts_path, read_info

ENGINE = {
    "engine": "seeded_engine:Seeded",
    "model": "solver",
    "mode": "both",
    "verifier_workers": 1,
    "bootstrap": 100,
}
COUNTS = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=9),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30)
@given(COUNTS, st.integers(1, 13), st.randoms())
def test_every_conversation_is_in_one_shard_and_shards_are_even(
    counts: dict[str, dict[str, int]], count: int, chance: Any
) -> None:
    dealt = [
        [
            (task, problem, sample)
            for task, share in split(counts, Shard(index, count)).items()
            for problem, (start, stop) in share.samples.items()
            for sample in range(start, stop)
        ]
        for index in range(1, count + 1)
    ]
    every = [(t, p, sample) for t, of in counts.items() for p, n in of.items() for sample in range(n)]
    assert sorted(unit for shard in dealt for unit in shard) == sorted(every)
    sizes = [len(shard) for shard in dealt]
    assert max(sizes) - min(sizes) <= 1
    homes: dict[tuple[str, str], set[int]] = {}
    for index, shard in enumerate(dealt):
        for task, problem, _ in shard:
            homes.setdefault((task, problem), set()).add(index)
    assert sum(len(home) - 1 for home in homes.values()) <= count - 1  # prefixes that are read once more
    tasks = list(counts.items())
    chance.shuffle(tasks)
    for index in (1, count):
        assert split(dict(tasks), Shard(index, count)) == split(counts, Shard(index, count))


def test_the_split_is_the_same_in_every_process() -> None:
    """Shards of machines that differ in hash seed must fit together; what is frozen here must never change."""
    counts = {"b": {"p1": 3, "p2": 2}, "a": {"p1": 4}}
    code = (
        "from cipo_eval.run.shards import *\n"
        f"print({{t: dict(s.samples) for t, s in split({counts!r}, Shard(2, 3)).items()}})"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {"{'b': {'p2': (0, 2)}, 'a': {'p1': (3, 4)}}\n"}


@pytest.mark.parametrize("text", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/200000", "1/2/3", ""])
def test_shards_out_of_range_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--shard"):
        RunRequest.of(model="m", tasks="arithmetic", shard=text)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Path]:
    """Two tasks, one with attempts of somebody's."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    for name, rows, more in (
        ("sums", sums(5, pool=True), ["attempt"]),
        ("plus", sums(3, pool=True), ["attempt"]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(task_text(name, more))
    return [folder / "sums.yaml", folder / "plus.yaml"]


def shards(count: int, folder: Path, **asked: Any) -> list[Path]:
    """The run directories of all shards of a run."""
    paths = [Shard(index, count).folder(folder / "run") for index in range(1, count + 1)]
    for index, path in enumerate(paths, start=1):
        evaluate(**ENGINE, shard=f"{index}/{count}", output=path, **asked)
    return paths


def figures(run: Path) -> dict[str, Any]:
    """``results.json`` without what differs between two runs of the same: name and seconds."""
    return results(run)


def same(run: Path, other: Path, names: list[str]) -> None:
    """Both hold the same attempts, figures, problems and identity."""
    for name in names:
        assert turns(run, name) == turns(other, name)
        assert (run / "problems" / f"{name}.jsonl").read_bytes() == (
            other / "problems" / f"{name}.jsonl"
        ).read_bytes()
    assert figures(run) == figures(other)
    infos = [read_info(path) for path in (run, other)]
    for info in infos:
        del info["calls"], info["created"]
    assert infos[0] == infos[1]


@pytest.mark.parametrize(
    "protocol",
    [
        "direct",
        pytest.param("self,oracle,critique", marks=pytest.mark.slow),
        pytest.param("given", marks=pytest.mark.slow),
    ],
)
def test_shards_merged_are_the_run(tasks: list[Path], tmp_path: Path, protocol: str) -> None:
    asked = {"tasks": [str(path) for path in tasks], "samples": 3, "protocol": protocol}
    evaluate(**ENGINE, **asked, output=tmp_path / "whole" / "run")
    lines = {}
    for count in (2, 5):
        paths = shards(count, tmp_path / f"of-{count}", **asked)
        sizes = [sum(path.read_bytes().count(b'"turn":1,') for path in p.glob("attempts/*")) for p in paths]
        assert sum(sizes) > 0
        if protocol != "self,oracle,critique":
            assert max(sizes) - min(sizes) <= 1
        merged = merge(paths, output=tmp_path / f"of-{count}" / "merged" / "run", bootstrap=100)
        assert not merged.warnings
        same(merged.folder, tmp_path / "whole" / "run", ["sums", "plus"])
        lines[count] = [list(turns(merged.folder, name)) for name in ("sums", "plus")]
    assert lines[2] == lines[5]
    assert lines[2][0] == sorted(
        lines[2][0], key=lambda key: (key[0], key[2], key[1] != "direct", key[1], key[3])
    )


@pytest.fixture
def two(tasks: list[Path], tmp_path: Path) -> list[Path]:
    """Both shards of a run."""
    return shards(2, tmp_path / "two", tasks=str(tasks[0]), samples=2)


def again(paths: list[Path], tasks: list[Path], **asked: Any) -> Results:
    """The second shard once more, asked otherwise, in another directory."""
    folder = paths[1].with_name("other")
    evaluate(**{**ENGINE, "tasks": str(tasks[0]), "samples": 2, "shard": "2/2", "output": folder, **asked})
    return merge([paths[0], folder], output=paths[0].with_name("merged"))


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"seed": 1}, "seed: 0 in the first, 1 in the other"),
        ({"samples": 3}, "shard.split"),
        ({"shard": "2/3"}, "shard.of: 2 in the first, 3 in the other"),
        ({"temperature": 0.9}, "sampling.temperature: 0.6 in the first, 0.9 in the other"),
        ({"model": "another"}, "engine.fingerprint"),
        ({"mode": "fixed"}, "modes"),
        ({"shard": "1/2"}, "are both shard 1/2"),
        ({"shard": None}, "is a whole run and no shard"),
    ],
)
def test_what_is_not_of_one_run_is_not_merged(
    two: list[Path], tasks: list[Path], asked: dict[str, Any], why: str
) -> None:
    with pytest.raises(UsageError, match=re.escape(why)):
        again(two, tasks, **asked)
    assert not two[0].with_name("merged").exists()


def test_a_directory_keeps_to_its_part(two: list[Path], tasks: list[Path]) -> None:
    asked = {**ENGINE, "tasks": str(tasks[0]), "samples": 2, "output": two[0]}
    evaluate(**asked, shard="1/2")
    evaluate(**asked, shard="1/2", protocol="direct,self")  # further turns are split as the first ones are
    for other, why in (
        ({}, "holds part 1 of 2 and a whole run was asked for"),
        ({"shard": "2/2"}, "holds part 1 of 2 and part 2 of 2 was asked for"),
        ({"shard": "1/2", "samples": 3}, "of other tasks, problems or samples"),
    ):
        with pytest.raises(UsageError, match=why):
            evaluate(**{**asked, **other})


@pytest.mark.slow
def test_missing_shards_are_named_and_the_merged_run_goes_on(
    tasks: list[Path], tmp_path: Path, cipo: Commands
) -> None:
    asked = {"tasks": str(tasks[0]), "samples": 3, "protocol": "self"}
    paths = shards(3, tmp_path / "parts", **asked)
    whole = evaluate(**ENGINE, **asked, output=tmp_path / "whole" / "run").folder
    assert whole is not None
    (paths[2] / "results.json").unlink()  # broken off
    output = tmp_path / "run"
    outcome = cipo("merge", paths[0], paths[2], tmp_path / "nothing", "-o", output)
    assert outcome.code == 3
    assert "shard 2/3" in outcome.err
    assert "nothing in " in outcome.err
    assert "3/3 is not finished" in outcome.err
    assert not output.exists()
    outcome = cipo("merge", paths[0], paths[2], "--partial", "--quiet", "--bootstrap", "100", "-o", output)
    assert outcome.code == 0
    assert "not in this run: shard 2/3" in outcome.err
    assert figures(output)["tasks"]["sums"]["missing_attempts"] == 5
    evaluate(**ENGINE, **asked, output=output)
    same(output, whole, ["sums"])
    assert cipo("rescore", output, "--quiet", "--bootstrap", "100", "--verifier-workers", "1").code == 0
    same(output, whole, ["sums"])
    outcome = cipo("merge", *paths, "--partial", "-o", output)
    assert outcome.code == 2
    assert "is there already" in outcome.err


@pytest.mark.slow
def test_no_reader_takes_a_shard_for_the_run(two: list[Path], cipo: Commands) -> None:
    for command in (["compare", *two], ["report", two[0], "-o", "page"], ["pool", "build", two[0]]):
        outcome = cipo(*command, *(["--wrong", "1", "--right", "0", "-o", "p"] if "pool" in command else []))
        assert outcome.code == 2, command
        assert "cipo-eval merge" in outcome.err
    shown = cipo("show", two[1])
    assert shown.code == 0
    assert "this is part 2 of 2 of a run" in shown.err
    assert json.loads((two[0] / "results.json").read_text())["shard"]["of"] == 2


def test_a_shard_that_is_being_written_is_not_merged(two: list[Path]) -> None:
    with locked(two[1] / "run.lock", ""), pytest.raises(UsageError, match="is still being written"):
        merge(two, output=two[0].with_name("merged"))


def test_torn_and_replaced_lines(two: list[Path]) -> None:
    """A torn last line is left out, of an attempt that was judged again the last line counts."""
    path = attempts_path(two[0], "sums")
    lines = path.read_bytes().splitlines(keepends=True)
    later = lines[0].replace(b'"left_out":0', b'"left_out":7')
    path.write_bytes(b"".join([*lines, later, lines[1][:20]]))
    merged = merge(two, output=two[0].with_name("merged")).folder
    assert merged is not None
    text = attempts_path(merged, "sums").read_bytes()
    assert text.count(b"\n") == 10
    assert later in text
    assert lines[0] not in text


def test_a_merge_that_is_killed_leaves_nothing_half(two: list[Path], tmp_path: Path) -> None:
    """Whatever the moment, there is no run yet or the whole of it, and the same command makes it."""
    home = tmp_path / "home"
    with fault_points(home, tmp_path / "states") as states:
        reference = merge(two, output=home / "run").folder
    assert reference is not None
    assert len(states) > 5
    for state in states:
        if not (state / "run").exists():
            merge(two, output=state / "run")
        for name in ("attempts/sums.jsonl", "problems/sums.jsonl", "results.json"):
            assert (state / "run" / name).read_bytes() == (reference / name).read_bytes(), state
