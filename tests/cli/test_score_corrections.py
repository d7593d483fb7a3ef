"""``score`` on published corrections: RealCritic's o1-mini on MATH, each label and the figures its authors give."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns

DATA = "criticbench_like/realcritic_math.jsonl"
OUTPUTS = "model_outputs/self_correction/realcritic_o1-mini_math_{}.jsonl.gz"
GRADED_WRONGLY = {
    ("half", 1): {"245"},
    ("half", 2): {"2", "245"},
}
"""Right answers that the reference's grader fails: it does not know ``\\ `` after a comma."""


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


def labels(path: Path, column: str, ids: dict[str, str]) -> dict[str, bool]:
    return {ids[row["question"]]: row[column][0] for row in rows(path)}


@pytest.mark.parametrize(
    ("name", "attempts", "column", "mean"),
    [("half", DATA, "previous_score", 85.8), ("self", OUTPUTS.format("cot"), "score", 91.8)],
)
def test_labels_and_figures_of_realcritic(
    cipo: Commands, real_data: Path, tmp_path: Path, name: str, attempts: str, column: str, mean: float
) -> None:
    """``half``: corrections of others' solutions, half of them right; ``self``: of its own. In paper mode every label
    comes out, of what was corrected as of the correction."""
    ids = {row["question"]: str(row["idx"]) for row in rows(real_data / DATA)}
    path, given = real_data / OUTPUTS.format(name), real_data / attempts
    command = (
        "score",
        path,
        "--task",
        "realcritic_math",
        "--data-dir",
        real_data,
        "--attempts-from",
        given,
        "--quiet",
    )
    assert cipo(*command, "--mode", "both", "-o", tmp_path / "run").code == 0
    found = turns(tmp_path / "run", "realcritic_math")
    assert len(found) == 2 * 268
    wanted = {1: labels(given, column, ids), 2: labels(path, "score", ids)}
    for turn, label in wanted.items():
        verdicts = {problem: found[problem, "given", 0, turn]["verdicts"] for problem in label}
        assert {problem: verdict["paper"]["correct"] for problem, verdict in verdicts.items()} == label
        if (name, turn) in GRADED_WRONGLY:
            differing = {p for p, verdict in verdicts.items() if verdict["fixed"]["correct"] != label[p]}
            assert differing == GRADED_WRONGLY[name, turn]
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    block = results["tasks"]["realcritic_math"]["protocols"]["given"]["paper"]
    assert round(100 * block["by_turn"]["acc@t2"]["value"], 1) == mean
    pairs = [(wanted[1][p], wanted[2][p]) for p in wanted[1]]
    matrix = block["steps"][0]["matrix"]
    right, wrong = pairs.count((True, True)), pairs.count((False, True))
    assert matrix["right"]["right"] == pytest.approx(right / sum(a for a, _ in pairs))
    assert matrix["wrong"]["right"] == pytest.approx(wrong / sum(not a for a, _ in pairs))


def test_what_corrects_nothing(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    path = real_data / OUTPUTS.format("half")
    command = ("score", path, "--task", "realcritic_math", "--data-dir", real_data, "--quiet")
    found = cipo(*command, "--attempts-from", tmp_path / "none.jsonl")
    assert found.code == 2
    assert "does not exist" in found.err
