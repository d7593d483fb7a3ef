"""``score`` on published corrections: RealCritic's o1-mini on MATH, each label and the figures its authors give."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns
from parts import Part, part

DATA = "criticbench_like/realcritic_math.jsonl"
OUTPUTS = "model_outputs/self_correction/realcritic_o1-mini_math_{}.jsonl.gz"
GRADED_WRONGLY = {"half": ({"245"}, {"2", "245"})}
"""Right answers that the reference's grader fails, before and after: it does not know ``\\ `` after a comma."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


def labels(path: Path, column: str, ids: dict[str, str]) -> dict[str, bool]:
    return {ids[row["question"]]: row[column][0] for row in rows(path) if row["question"] in ids}


def score(cipo: Commands, data: Path, path: Path, run: Path, *flags: Any) -> Any:
    """``score --mode both`` and its figures."""
    command = ("score", path, "--task", "realcritic_math", "--data-dir", data, "--mode", "both")
    assert cipo(*command, "--quiet", "-o", run, *flags).code == 0
    return json.loads((run / "results.json").read_text())["tasks"]["realcritic_math"]


def first_ids(data: Path, one_in: int) -> dict[str, str]:
    """Ids by question, of the first problems: one in so many."""
    found = {row["question"]: str(row["idx"]) for row in rows(data / DATA)}
    return dict(list(found.items())[: len(found) // one_in])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "one_in", "mean"),
    [
        ("half", 1, 85.8),
        ("self", 4, None),
        pytest.param("self", 1, 91.8, marks=pytest.mark.exhaustive),
    ],
)
def test_labels_and_figures_of_realcritic(
    cipo: Commands, real_data: Path, tmp_path: Path, name: str, one_in: int, mean: float | None
) -> None:
    """``half``: corrections of the solutions that come with the data; ``self``: of its own, which stand in the prompts
    of the same file. In paper mode every label comes out."""
    ids = first_ids(real_data, one_in)
    path, run = real_data / OUTPUTS.format(name), tmp_path / "run"
    pool = ("--attempts-from", path) if name == "self" else ("--protocol", "given")
    limit = () if one_in == 1 else ("--limit", len(ids))
    block = score(cipo, real_data, path, run, *pool, *limit)["protocols"]["given"]["paper"]
    found = turns(run, "realcritic_math")
    assert len(found) == 2 * len(ids) == 2 * (268 // one_in)
    before = {p: found[p, "given", 0, 1]["verdicts"] for p in ids.values()}
    after = {p: found[p, "given", 0, 2]["verdicts"] for p in ids.values()}
    label = labels(path, "score", ids)
    assert {p: verdict["paper"]["correct"] for p, verdict in after.items()} == label
    if name == "half":
        labelled = labels(real_data / DATA, "previous_score", ids)
        assert {p: verdict["paper"]["correct"] for p, verdict in before.items()} == labelled
        assert {p: verdict["paper"]["report"]["label"] for p, verdict in before.items()} == labelled
        for verdicts, of, wrongly in zip(
            (before, after), (labelled, label), GRADED_WRONGLY[name], strict=True
        ):
            assert {p for p, verdict in verdicts.items() if verdict["fixed"]["correct"] != of[p]} == wrongly
    assert block["by_turn"]["acc@t2"]["value"] == pytest.approx(sum(label.values()) / len(label))
    if mean is None:
        return
    assert round(100 * block["by_turn"]["acc@t2"]["value"], 1) == mean
    counts = {"half": (132, 2, 98, 36), "self": (211, 4, 35, 18)}
    rr, rw, wr, ww = counts[name]
    matrix = block["steps"][0]["matrix"]
    assert matrix["right"] == pytest.approx({"right": rr / (rr + rw), "wrong": rw / (rr + rw)})
    assert matrix["wrong"]["right"] == pytest.approx(wr / (wr + ww))


@pytest.mark.slow
@part(4)
def test_first_attempts_of_the_same_model(
    cipo: Commands, real_data: Path, tmp_path: Path, part: Part
) -> None:
    """They are others than those that it corrects in ``self``."""
    ids = first_ids(real_data, part.one_in)
    path = real_data / OUTPUTS.format("cot")
    score(cipo, real_data, path, tmp_path / "run", "--limit", len(ids))
    found = turns(tmp_path / "run", "realcritic_math")
    verdicts = {p: found[p, "direct", 0, 1]["verdicts"]["paper"]["correct"] for p in ids.values()}
    assert verdicts == labels(path, "score", ids)


@pytest.mark.exhaustive
def test_debugbench_as_a_pool(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    """GPT-4's repairs of the programs that come with the data, by category; published verdicts are LeetCode's."""
    path = real_data / "model_outputs" / "debugbench" / "gpt-4_debug_python3.jsonl.gz"
    run = tmp_path / "run"
    command = ("score", path, "--task", "debugbench", "--data-dir", real_data, "--protocol", "given")
    found = cipo(*command, "--allow-unmatched", "--breakdown", "--limit", "250", "-o", run)
    assert found.code == 0
    block = json.loads((run / "results.json").read_text())["tasks"]["debugbench"]["protocols"]["given"][
        "fixed"
    ]
    assert block["missing"] == 0
    assert 250 <= block["chains"] <= 253  # a few rows are there twice
    assert block["by_turn"]["acc@t1"]["value"] < 0.02  # they are faulty
    assert 0.5 < block["steps"][0]["metrics"]["correction_rate"]["value"] < 0.8
    for groups in block["breakdown"].values():
        assert sum(group["chains"] for group in groups.values()) == block["chains"]
    assert set(block["breakdown"]) == {"category", "level", "tests"}
    assert "debugbench, given, by category" in found.out


def test_what_corrects_nothing(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    path = real_data / OUTPUTS.format("half")
    command = ("score", path, "--task", "realcritic_math", "--data-dir", real_data, "--quiet")
    for flags, message in (
        (("--attempts-from", tmp_path / "none.jsonl"), "does not exist"),
        (("--attempts-from", path, "--protocol", "direct"), "belongs together"),
        (("--protocol", "self"), "direct) or corrections"),
    ):
        found = cipo(*command, *flags)
        assert found.code == 2
        assert message in found.err
    bare = tmp_path / "bare.jsonl"
    bare.write_text(json.dumps({"idx": 0, "text": "\\boxed{1}"}) + "\n")
    found = cipo("score", bare, "--task", "math500", "--data-dir", real_data, "--protocol", "given")
    assert found.code == 2
    assert "comes with no attempts" in found.err
