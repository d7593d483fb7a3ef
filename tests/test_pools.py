"""Pools: drawn evenly and reproducibly, read as they were written, and corrected like any attempt."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns
from hypothesis import given
from hypothesis import strategies as st
from made_runs import make_run

from cipo_eval.errors import UsageError
from cipo_eval.run.pools import build_pool, read_file, write_pool
from cipo_eval.turns.pools import Pool, PoolItem

items = st.lists(
    st.builds(
        PoolItem,
        task=st.sampled_from(["a", "b"]),
        problem=st.sampled_from(["1", "2"]),
        text=st.text(),
        right=st.sampled_from([True, False, None]),
    ),
    max_size=6,
)


@given(found=items)
def test_a_pool_is_read_as_it_was_written(
    found: list[PoolItem], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("pool") / "pool.jsonl"
    pool = Pool(items=tuple(found), source={"run": "x"})
    write_pool(pool, path)
    again = read_file(path)
    assert again.items == pool.items
    assert again.fingerprint == pool.fingerprint


def test_the_fingerprint_is_of_what_is_corrected() -> None:
    one, two = (PoolItem(task="t", problem="1", text=text) for text in "ab")
    other = PoolItem(task="t", problem="2", text="a")
    base = Pool(items=(one, two, other)).fingerprint
    assert Pool(items=(other, one, two), source={"a": 1}).fingerprint == base
    assert Pool(items=(two, one, other)).fingerprint != base
    assert Pool(items=(one, two)).fingerprint != base


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Twelve problems; at the first one ten attempts, at the others two."""
    rights = {f"p{i:02}": [("r" if s % 2 else "w") for s in range(10 if i == 0 else 2)] for i in range(12)}
    folder = make_run(tmp_path / "run", rights)
    info = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**info, "engine": {"model": "m"}}))
    lines = (folder / "attempts" / "arithmetic.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "text": f"attempt {i}"} for i, line in enumerate(lines)]
    (folder / "attempts" / "arithmetic.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_attempts_are_spread_over_problems(run: Path) -> None:
    pool = build_pool(run, wrong=12, right=6, seed=1)
    wrong = Counter(item.problem for item in pool.items if item.right is False)
    assert set(wrong.values()) == {1}
    assert len(wrong) == 12
    assert sum(item.right is True for item in pool.items) == 6
    assert build_pool(run, wrong=12, right=6, seed=1).items == pool.items
    assert build_pool(run, wrong=12, right=6, seed=2).items != pool.items
    assert len(build_pool(run, wrong=16, right=0).items) == 16
    with pytest.raises(UsageError, match="16 wrong attempts and 17"):
        build_pool(run, wrong=17, right=0)


def test_damage_is_noticed(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    write_pool(build_pool(run, wrong=3, right=1), path)
    text = path.read_text()
    for damaged in (
        text.replace("attempt", "Attempt", 1),
        text[:-20],
        "".join(text.splitlines(keepends=True)[:-1]),
        text.replace('"pool": 1', '"pool": 9'),
        text.replace('"text"', '"txet"'),
    ):
        path.write_text(damaged)
        with pytest.raises(UsageError, match=r"pool|damaged|written"):
            read_file(path)


def test_a_pool_from_run_to_correction(cipo: Commands, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """A run, a pool of it, corrections by a model, more of them, and the same from a run directory."""
    short = (
        "--model",
        tiny_checkpoint,
        "--tasks",
        "arithmetic",
        "--limit",
        "6",
        "--max-tokens",
        "8",
        "--quiet",
    )
    assert cipo("run", *short, "--samples", "2", "--temperature", "1", "-o", tmp_path / "run").code == 0
    built = cipo(
        "pool", "build", tmp_path / "run", "-o", tmp_path / "pool.jsonl", "--wrong", "8", "--right", "0"
    )
    assert built.code == 0, built.err
    assert "arithmetic: 8 wrong, at 6 problems" in cipo("pool", "show", tmp_path / "pool.jsonl").out
    pool = read_file(tmp_path / "pool.jsonl")
    command = ("run", *short, "--temperature", "1", "--protocol", "given", "-o", tmp_path / "given")
    assert cipo(*command, "--attempts-from", tmp_path / "pool.jsonl").code == 0
    once = turns(tmp_path / "given", "arithmetic")
    assert len(once) == 16
    for problem in {item.problem for item in pool.items}:
        texts = [once[problem, "given", i, 1]["text"] for i in range(len(pool.of("arithmetic", problem)))]
        assert texts == [item.text for item in pool.of("arithmetic", problem)]
    assert all(
        row["parent"] == f"arithmetic|{key[0]}|given|{key[2]}|1" for key, row in once.items() if key[3] == 2
    )
    assert cipo(*command, "--attempts-from", tmp_path / "pool.jsonl", "--samples", "3").code == 0
    more = turns(tmp_path / "given", "arithmetic")
    assert len(more) == 48
    assert once.items() <= more.items()
    block = results_of(tmp_path / "given")["protocols"]["given"]["fixed"]
    assert (block["chains"], block["missing"]) == (24, 0)
    assert (block["pool"]["wrong"], block["pool"]["pass@3"]["value"]) == (8, 0)
    refused = cipo(*command, "--attempts-from", tmp_path / "run")
    assert refused.code == 2
    assert "arithmetic.protocols.given.pool" in refused.err


def test_figures_of_a_pool(tmp_path: Path) -> None:
    """Two attempts at one problem, one of them right; three corrections of each."""
    from cipo_eval.analysis.revisions import revisions
    from cipo_eval.records import Mode
    from cipo_eval.storage.index import read_attempts
    from cipo_eval.turns.protocols import PROTOCOLS

    rights = {"p": ["wr", "rr", "ww", "rw", "wr", "rr"], "q": ["ww", "", "wr", "", "ww", ""]}
    run = make_run(tmp_path / "run", rights)
    path = run / "attempts" / "arithmetic.jsonl"
    rows = [{**json.loads(line), "protocol": "given"} for line in path.read_text().splitlines()]
    for row in rows:  # an attempt of a pool is known by its text
        row["prompt_hash"] = str(row["sample"] % 2 if row["problem"] == "p" else 0)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    attempts = [a for _, a in read_attempts(path)]
    block = revisions(
        "arithmetic",
        attempts,
        PROTOCOLS["given"],
        mode=Mode.FIXED,
        turns=2,
        bootstrap=10,
    )
    assert block["chains"] == 9
    pool = block["pool"]
    assert pool["wrong"] == 2
    assert pool["pass@1"]["value"] == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert pool["pass@2"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert pool["pass@3"]["value"] == 1


def results_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text())["tasks"]["arithmetic"]
    return found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--protocol", "given"), "comes with no attempts"),
        (("--protocol", "critique"), "comes with no attempts"),
        (("--protocol", "self", "--attempts-from", "x.jsonl"), "belongs together"),
    ],
)
def test_pools_and_protocols_belong_together(
    cipo: Commands, tiny_checkpoint: Path, flags: tuple[str, ...], message: str
) -> None:
    found = cipo("run", "--model", tiny_checkpoint, "--tasks", "arithmetic", *flags)
    assert found.code == 2
    assert message in found.err


def test_published_outputs_are_a_pool(real_data: Path) -> None:
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.run.pools import read_pool

    problems = load_problems("math500", data_dir=real_data).problems
    path = real_data / "model_outputs" / "math" / "Qwen2.5-14B-Instruct__math500.jsonl.gz"
    pool = read_pool(path, problems)
    assert len(pool.items) == 500
    with pytest.raises(UsageError, match="match no problem"):
        read_pool(path, load_problems("amc23", data_dir=real_data).problems)


@pytest.mark.parametrize(
    ("file", "task"), [("realcritic_minerva_math", "minerva"), ("realcritic_olympiadbench", "olympiadbench")]
)
def test_files_of_realcritic_are_pools(real_data: Path, file: str, task: str) -> None:
    """With their labels, at the problems that the task has."""
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.run.pools import read_pool

    problems = load_problems(task, data_dir=real_data).problems
    path = real_data / "criticbench_like" / f"{file}.jsonl"
    pool = read_pool(path, problems)
    labels = [json.loads(line)["previous_score"][0] for line in path.read_text().splitlines()]
    assert Counter(item.right for item in pool.items) == Counter(labels)
