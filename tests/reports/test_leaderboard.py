"""``compare --leaderboard``: letters say exactly which pairs differ, ranks follow from them."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from cipo_eval.analysis.leaderboard import leaderboard, letter_display
from cipo_eval.cli import app
from cipo_eval.metrics.differences import ALPHA

PAIRS = list(itertools.combinations(range(7), 2))


@given(st.sets(st.sampled_from(PAIRS)))
def test_two_share_a_letter_exactly_where_they_do_not_differ(different: set[tuple[int, int]]) -> None:
    letters = letter_display(7, different)
    assert all(letters)
    for a, b in PAIRS:
        assert bool(set(letters[a]) & set(letters[b])) == ((a, b) not in different)


def test_ranks_and_letters_follow_from_the_pairs(made: dict[str, list[Path]]) -> None:
    runs = [path for paths in made.values() for path in paths if (path / "results.json").exists()]
    found = leaderboard(runs, force=True)
    values = [s.value for s in found.standings]
    assert values == sorted(values, reverse=True)
    assert sorted(s.run for s in found.standings) == sorted(runs)
    for place, s in enumerate(found.standings):
        assert s.best_rank <= s.rank <= s.worst_rank
        assert s.interval[0] <= s.value <= s.interval[1]
        apart = sum(p < ALPHA for pair, p in found.p_holm.items() if place in pair)
        assert s.worst_rank - s.best_rank == len(runs) - 1 - apart
    turned = leaderboard(runs[::-1], force=True)
    assert [s.value for s in turned.standings] == values
    assert [s.letters for s in turned.standings] == [s.letters for s in found.standings]


def test_a_run_beside_itself_shares_its_rank(made: dict[str, list[Path]]) -> None:
    run = next(path for path in next(iter(made.values())) if (path / "results.json").exists())
    found = leaderboard([run, run])
    assert [(s.rank, s.best_rank, s.worst_rank, s.letters) for s in found.standings] == [(1, 1, 2, "a")] * 2


def test_the_command_prints_runs_and_letters(
    made: dict[str, list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    runs = [str(paths[0]) for paths in made.values()]
    done = CliRunner().invoke(app, ["compare", *runs, "--leaderboard", "--force"])
    assert done.exit_code == 0, done.output
    assert "share a letter" in done.output
    done = CliRunner().invoke(app, ["compare", *runs, "--leaderboard", "--force", "--json"])
    assert {entry["run"] for entry in json.loads(done.output)["runs"]} == set(runs)
