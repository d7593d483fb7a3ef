"""``compare``: like with like, the figures of each run, and what chance would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results
from made_runs import make_run

from cipo_eval.analysis import comparison
from cipo_eval.analysis.selection import selected_attempts


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    first = {f"p{i}": ["wr" if i % 3 == 0 else "ww" if i < 8 else "rr"] for i in range(12)}
    second = {f"p{i}": ["rr" if i % 2 == 0 else "ww" if i < 8 else "rw"] for i in range(12)}
    return make_run(tmp_path / "a", first), make_run(tmp_path / "b", second)


def test_figures_are_those_of_the_runs(cipo: Commands, pair: tuple[Path, Path]) -> None:
    (found,) = cipo("compare", *pair, "--json").json
    rows = {row["figure"]: row for row in found["rows"]}
    of_turns = ("acc@t2", "Δ(t1,t2)", "correction_rate", "retention", "rss")
    assert set(rows) == {"pass@1", *(f"self {name}" for name in of_turns)}
    first = rows["pass@1"]
    assert (first["first"], first["second"]) == (pytest.approx(3 / 12), pytest.approx(8 / 12))
    assert (first["mcnemar"]["gained"], first["mcnemar"]["lost"]) == (
        len(first["gained"]),
        len(first["lost"]),
    )
    assert first["difference"] == pytest.approx(5 / 12)
    assert first["ci"][0] < 5 / 12 < first["ci"][1]
    # five gained, none lost: nothing is larger than what was seen, which counts half
    assert first["p"] == pytest.approx(first["mcnemar"]["p"] / 2, abs=1e-9)
    assert first["p_holm"] == first["p"]
    assert set(first["gained"]) == {"p0", "p2", "p4", "p6", "p9"}
    assert first["lost"] == []
    assert rows["self correction_rate"]["first"] == pytest.approx(4 / 9)
    assert rows["self retention"]["second"] == pytest.approx(6 / 8)
    gain, last = rows["self Δ(t1,t2)"], rows["self acc@t2"]
    for run, before in (("first", 3 / 12), ("second", 8 / 12)):
        assert gain[run] == pytest.approx(last[run] - before)
        assert rows["self rss"][run] == pytest.approx((last[run] - before**2) / (2 * before * (1 - before)))


def test_of_large_runs_one_is_at_hand_at_a_time(
    cipo: Commands, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read again for each protocol, they have the same figures."""
    kept = cipo("compare", *pair, "--json").json
    reads: list[Path] = []

    def read(run: Path, task: str) -> Any:
        reads.append(run)
        return selected_attempts(run, task)

    assert comparison.compare_arms(pair[:1], pair[1:], read=read).to_json() == kept[0]
    assert reads == [*pair]
    monkeypatch.setattr(comparison, "KEPT", 0)
    assert comparison.compare_arms(pair[:1], pair[1:], read=read).to_json() == kept[0]
    assert reads == [*pair, *pair, *pair]


def test_pass_at_k_up_to_the_fewest_attempts(cipo: Commands, tmp_path: Path) -> None:
    """Three attempts at each problem against two."""
    first = make_run(tmp_path / "a", {f"p{i}": ["w", "r", "w"] for i in range(8)})
    second = make_run(tmp_path / "b", {f"p{i}": ["w", "w"] if i else ["r", "w"] for i in range(8)})
    (found,) = cipo("compare", first, second, "--json").json
    rows = {row["figure"]: row for row in found["rows"]}
    assert set(rows) == {"pass@1", "pass@2"}
    assert (rows["pass@2"]["first"], rows["pass@2"]["second"]) == (pytest.approx(2 / 3), pytest.approx(1 / 8))
    assert (rows["pass@1"]["mcnemar"], rows["pass@2"]["gained"]) == (None, [])


def test_votes_are_compared_where_answers_vote(cipo: Commands, tmp_path: Path) -> None:
    """Among as many attempts as all problems have: three of four at the second run's. Wrong answers that have no normal
    form (programs) cannot agree, and are not put to a vote."""
    first = make_run(
        tmp_path / "a", {f"p{i}": ["a", "a", "r"] if i < 4 else ["a", "b", "r"] for i in range(8)}
    )
    second = make_run(tmp_path / "b", {f"p{i}": ["r", "a", "r", "w"] for i in range(8)})
    programs = make_run(tmp_path / "c", {f"p{i}": ["w", "w", "r"] for i in range(8)})
    (found,) = cipo("compare", first, second, "--json").json
    rows = {row["figure"]: row for row in found["rows"]}
    assert set(rows) == {"pass@1", "pass@3", "maj@3"}
    # outvoted, and one of three that tie; without a right one two are left, without another the right ones have it
    votes = (rows["maj@3"]["first"], rows["maj@3"]["second"])
    assert votes == (pytest.approx((0 + 1 / 3) / 2), pytest.approx((1 / 2 + 1 / 2 + 1 + 1) / 4))
    (found,) = cipo("compare", programs, programs, "--json").json
    assert [row["figure"] for row in found["rows"]] == ["pass@1", "pass@3"]


def test_corrections_are_compared_with_as_many_attempts(cipo: Commands, tmp_path: Path) -> None:
    """seq@1 gain, where there are two first attempts at every problem."""
    first = make_run(tmp_path / "a", {f"p{i}": ["wr", "ww"] for i in range(8)})
    second = make_run(tmp_path / "b", {f"p{i}": ["ww", "rr"] for i in range(8)})
    (found,) = cipo("compare", first, second, "--json").json
    (row,) = [row for row in found["rows"] if row["figure"] == "self seq@1 gain"]
    assert (row["first"], row["second"]) == (pytest.approx(1 / 2 - 0), pytest.approx(1 / 2 - 1))
    fewer = make_run(tmp_path / "c", {f"p{i}": ["ww", "rr"] if i else ["ww"] for i in range(8)})
    (found,) = cipo("compare", first, fewer, "--json").json
    assert "self seq@1 gain" not in {row["figure"] for row in found["rows"]}


def test_problems_that_one_run_lacks_do_not_count(cipo: Commands, tmp_path: Path) -> None:
    """Two attempts at it, one at each of the others: McNemar's test is of the others."""
    first = make_run(tmp_path / "a", {f"p{i}": ["w"] for i in range(6)} | {"more": ["r", "r"]})
    second = make_run(tmp_path / "b", {f"p{i}": ["r"] for i in range(6)})
    (found,) = cipo("compare", first, second, "--json").json
    (row,) = found["rows"]
    assert (row["figure"], row["problems"], row["first"]) == ("pass@1", 6, 0)
    assert row["mcnemar"]["gained"] == 6


def test_a_run_compared_with_itself(cipo: Commands, pair: tuple[Path, Path]) -> None:
    (found,) = cipo("compare", pair[0], pair[0], "--json").json
    for row in found["rows"]:
        assert (row["difference"], row["p"], row["gained"], row["lost"]) == (0, 1, [], [])


def test_the_table(cipo: Commands, pair: tuple[Path, Path]) -> None:
    out = cipo("compare", *pair, "--problems", "3").out
    assert "arithmetic" in out
    assert "+41.7 [" in out
    assert "gained: " in out
    assert cipo("compare", *pair, pair[0]).out.count("A: ") == 2


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"data": "other"}, "arithmetic.data: 'd' in the first, 'other' in the second"),
        (
            {"sampling": {"temperature": 0.5}},
            "arithmetic.sampling.temperature: 1.0 in the first, 0.5 in the second",
        ),
        (
            {"protocols": {"self": {"templates": "u", "turns": 2}}},
            "arithmetic.self.templates: 't' in the first",
        ),
    ],
)
def test_runs_that_were_asked_different_things(
    cipo: Commands, pair: tuple[Path, Path], tmp_path: Path, more: dict[str, Any], named: str
) -> None:
    other = make_run(tmp_path / "c", {f"p{i}": ["rr"] for i in range(12)}, **more)
    refused = cipo("compare", pair[0], other)
    assert refused.code == 2
    assert named in refused.err
    (found,) = cipo("compare", pair[0], other, "--force", "--json").json
    assert any(named in note for note in found["notes"])


def test_problems_that_one_run_lacks_are_left_out_and_named(
    cipo: Commands, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    other = make_run(tmp_path / "c", {f"p{i}": ["rr"] for i in range(5)})
    (found,) = cipo("compare", pair[0], other, "--json").json
    assert found["rows"][0]["problems"] == 5
    assert found["notes"] == ["arithmetic: 7 problem(s) that not all of the runs attempted are left out"]


@pytest.mark.parametrize(
    ("runs", "message"), [((0,), "two run directories"), ((0, "none"), "not a run directory")]
)
def test_wrong_usage(cipo: Commands, pair: tuple[Path, Path], runs: tuple[Any, ...], message: str) -> None:
    found = cipo("compare", *(pair[r] if isinstance(r, int) else r for r in runs))
    assert found.code == 2
    assert message in found.err


def test_real_runs(cipo: Commands, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Figures of ``compare`` are those of ``results.json``."""
    command = (
        "run",
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
    for seed in ("1", "2"):
        flags = ("--samples", "2", "--seed", seed, "--protocol", "self", "-o", tmp_path / seed)
        assert cipo(*command, *flags).code == 0
    (found,) = cipo("compare", tmp_path / "1", tmp_path / "2", "--json").json
    rows = {row["figure"]: row for row in found["rows"]}
    for name, run in (("first", "1"), ("second", "2")):
        block = results(tmp_path / run)["tasks"]["arithmetic"]
        for figure in ("pass@1", "pass@2"):
            assert rows[figure][name] == block["fixed"]["metrics"][figure]["value"]
        assert rows["self acc@t2"][name] == block["protocols"]["self"]["fixed"]["by_turn"]["acc@t2"]["value"]
