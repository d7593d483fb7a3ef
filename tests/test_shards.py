"""Shards: every conversation is in one of them, and merged they are the run that would have been made without them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results, turns
from fault_points import fault_points
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded_engine import sums, task_text

from cipo_eval.errors import MissingError, UsageError
from cipo_eval.files import locked
from cipo_eval.run.api import Results, evaluate
from cipo_eval.run.merge import merge
from cipo_eval.run.request import RunRequest
from cipo_eval.run.shards import Shard, split
from cipo_eval.storage.store import attempts_path, read_info

ENGINE = {"engine": "seeded_engine:Seeded", "model": "solver", "mode": "both", "verifier_workers": 1}
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


@pytest.mark.parametrize("protocol", ["direct", "self,oracle,critique", "given"])
def test_shards_merged_are_the_run(tasks: list[Path], tmp_path: Path, protocol: str) -> None:
    asked = {"tasks": [str(path) for path in tasks], "samples": 3, "protocol": protocol}
    evaluate(**ENGINE, **asked, output=tmp_path / "whole" / "run")
    lines = {}
    for count in (2, 11):
        paths = shards(count, tmp_path / f"of-{count}", **asked)
        sizes = [sum(path.read_bytes().count(b'"turn": 1') for path in p.glob("attempts/*")) for p in paths]
        if protocol != "self,oracle,critique":
            assert max(sizes) - min(sizes) <= 1
        merged = merge(paths, output=tmp_path / f"of-{count}" / "merged" / "run")
        assert not merged.warnings
        same(merged.folder, tmp_path / "whole" / "run", ["sums", "plus"])
        lines[count] = [list(turns(merged.folder, name)) for name in ("sums", "plus")]
    assert lines[2] == lines[11]
    assert lines[2][0] == sorted(
        lines[2][0], key=lambda key: (key[0], key[2], key[1] != "direct", key[1], key[3])
    )
