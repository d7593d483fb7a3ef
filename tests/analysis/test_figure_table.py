"""The table of figures: what it says of each holds, and whoever reads it finds all of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import Commands
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.analysis import figures as f
from cipo_eval.analysis.chains import Chains, Judgements
from cipo_eval.analysis.figure import Family
from cipo_eval.analysis.figures import TABLE, load
from cipo_eval.analysis.judgements import LOCATION_F1
from cipo_eval.analysis.list_figures import PAGE, WHERE, with_list
from cipo_eval.analysis.revisions import entries
from cipo_eval.analysis.rows import rows_of
from cipo_eval.errors import UsageError
from cipo_eval.records import Mode
from cipo_eval.turns.protocols import PROTOCOLS
from cipo_reports.arms import read_arms
from cipo_reports.correction_tables import correction
from cipo_reports.study import read_study

ROOT = Path(__file__).resolve().parents[2]
FIGURES = [e.at(2) if isinstance(e, Family) else e for of in TABLE.values() for e in of]


def test_the_list_in_the_docs_is_that_of_the_table() -> None:
    page = (ROOT / PAGE).read_text(encoding="utf-8")
    assert with_list(page) == page, "python -m cipo_eval.analysis.list_figures writes it anew"
    assert set(WHERE) == set(TABLE)


def test_names_are_told_apart_and_figures_are_explained() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert all(figure.meaning for figure in FIGURES)
    for entries_ in TABLE.values():
        for family in (e for e in entries_ if isinstance(e, Family)):
            assert family.at(2) is family.at(2)
            assert 2 in (family.at(2).turn, family.at(2).k)
            assert family.at(2).family == family.at(4).family


@st.composite
def chain_arrays(draw: st.DrawFn) -> Chains:
    rows = draw(st.lists(st.tuples(st.integers(0, 3), *[st.booleans()] * 5), min_size=2, max_size=20))
    problem = np.concatenate([[row[0] for row in rows]] * 4)  # so that each has four chains
    bits = np.array([row[1:] for row in rows] * 4, dtype=bool)
    asked = np.stack([np.ones(len(bits), bool), bits[:, 2]], axis=1)
    return Chains(
        problem=problem,
        right=bits[:, :2],
        asked=asked,
        same=bits[:, 3:4],
        tokens=np.ones((len(bits), 2), np.int64),
        judgements=Judgements(
            wrong=~bits[:, 0], says_wrong=bits[:, 4], says_right=~bits[:, 4], true=bits[:, 4]
        ),
        item=np.arange(len(bits)) % len(rows),
    )


@given(chains=chain_arrays())
def test_every_figure_keeps_to_its_kind(chains: Chains) -> None:
    """A share is a part of its bottom at every problem; bounded figures lie in [0, 1], differences in [−1, 1]."""
    for figure in FIGURES:
        if figure.family in ("maj@k", "equal-token maj"):  # needs answers
            continue
        ratio = figure.ratio(chains)
        assert ratio.top.shape == ratio.bottom.shape == chains.counts.shape
        if figure.kind == "share":
            assert (ratio.top <= ratio.bottom + 1e-12).all()
            assert (ratio.top >= 0).all()
        values = [v for v in (*ratio.of_problems, ratio.value) if v is not None]
        if figure.bounded:
            assert all(-1e-12 <= value <= 1 + 1e-12 for value in values), figure.name
        if figure.kind == "difference":
            assert all(abs(value) <= 1 + 1e-12 for value in values), figure.name


@given(chains=chain_arrays(), seed=st.integers(0, 9))
def test_problems_weigh_the_same_and_the_order_of_chains_does_not_matter(chains: Chains, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(chains))
    for figure in (f.ACCURACY.at(2), f.CORRECTION_RATE.at(2), f.LIFT):
        shuffled = figure.ratio(chains.only(order))
        assert shuffled.value == pytest.approx(figure.ratio(chains).value)
    expected = np.mean([chains.state[chains.problem == p, 1].mean() for p in np.unique(chains.problem)])
    assert f.ACCURACY.at(2).ratio(chains).value == pytest.approx(expected)


def test_what_is_compared() -> None:
    """Each figure that says that runs are compared by it is, under some protocol; and only such."""
    shown = {
        name: f.compared(protocol, 3) if name != "direct" else [] for name, protocol in PROTOCOLS.items()
    }
    of_turns = [f.ACCURACY, f.CHANGE, f.CORRECTION_RATE, f.RETENTION, f.RELATIVE_SCORE]
    chosen = {figure.name for figures in shown.values() for figure in figures}
    families = {family.name for family in of_turns}
    assert families <= {figure.family for figures in shown.values() for figure in figures}
    others = {figure.name for figure in FIGURES if figure.compared and figure.family not in families}
    of_first = {f.PASS.at(2).name, f.MAJORITY.at(2).name}
    assert others - chosen == {*of_first, f.SEQUENTIAL_GAIN.at(2).name}  # of which k = 1 is compared
    assert all(figure.compared for figures in shown.values() for figure in figures)
    assert LOCATION_F1 in shown["critique-step"]
    retention = f.RETENTION.at(2)
    for name, protocol in PROTOCOLS.items():
        assert (retention in shown[name]) == (
            name not in ("direct", "critique-step") and not protocol.only_wrong
        )


# --- one of a user's own, from outside the package ----------------------------------------------------------------


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "examples")


@pytest.mark.usefixtures("examples")
def test_a_users_own_figure_is_what_it_says() -> None:
    (changed,) = load(["figure:CHANGED"])
    chains = Chains(
        problem=np.array([0, 0, 1]),
        right=np.zeros((3, 2), bool),
        asked=np.ones((3, 2), bool),
        same=np.array([[True], [False], [False]]),
    )
    assert entries([changed], chains, bootstrap=10)["changed"]["value"] == 0.75


@pytest.mark.usefixtures("examples")
def test_compare_and_report_have_a_users_own_figure(cipo: Commands, runs: list[Path]) -> None:
    named = ("--figures", "figure:CHANGED,figure:LENGTH")
    done = cipo("compare", *runs, "--json", "--bootstrap", "100", *named)
    rows = {row["figure"]: row for row in done.json[0]["rows"] if row["task"] == "sums"}
    attempts = [json.loads(line) for line in (runs[0] / "attempts" / "sums.jsonl").open()]
    answers = {(a["problem"], a["protocol"], a["sample"], a["turn"]): _answer(a) for a in attempts}
    changed = [
        answer is None or answer != answers[problem, "direct", sample, 1]
        for (problem, protocol, sample, turn), answer in answers.items()
        if (protocol, turn) == ("self", 2)
    ]
    assert rows["self changed"]["first"] == pytest.approx(np.mean(changed))
    plain = {row["figure"] for row in cipo("compare", *runs, "--json", "--bootstrap", "100").json[0]["rows"]}
    assert {"self changed", "oracle changed"} == set(rows) - plain
    study = read_study(read_arms(list(map(str, runs)), []), bootstrap=100, figures=load(named[1].split(",")))
    assert "answer changed" in correction(study).columns
    ours = study.figure("changed", "self").query("task == 'sums'")["value"].tolist()
    assert ours == pytest.approx([rows["self changed"]["first"], rows["self changed"]["second"]])
    assert len(study.figure("length_of_right"))


def _answer(attempt: dict[str, Any]) -> str | None:
    verdict = attempt["verdicts"]["fixed"]
    answer: str | None = verdict.get("canonical") or verdict.get("extracted")
    return answer


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A run of each of two arms, small."""
    from cipo_reports.synthetic import ARMS, make_study

    arms = {name: ARMS[name] for name in ("GRPO", "CIPO")}
    made = make_study(tmp_path_factory.mktemp("study"), seeds=1, problems=8, samples=2, arms=arms)
    return [paths[0] for paths in made.values()]


@pytest.mark.usefixtures("examples")
def test_results_keep_a_users_own_figure_and_give_it_back(runs: list[Path]) -> None:
    from cipo_eval.analysis.revisions import revisions
    from cipo_eval.analysis.selection import selected_attempts
    from cipo_eval.analysis.summary import summarise

    own = load(["figure:CHANGED", "figure:LENGTH"])
    selected = selected_attempts(runs[0], "sums")
    first, names = list(selected.first), {a.problem: {} for a in selected.first}
    of_first = summarise("sums", first, names, mode=Mode.FIXED, bootstrap=10, figures=own)
    block = revisions(
        "sums",
        selected.of("self"),
        PROTOCOLS["self"],
        mode=Mode.FIXED,
        turns=3,
        bootstrap=10,
        first=first,
        figures=own,
    )
    assert list(of_first["figures"]) == ["length_of_right"]
    assert list(block["figures"]) == ["changed"]
    entry = json.loads(json.dumps({"fixed": of_first, "protocols": {"self": {"fixed": block}}}))
    rows = {(row.protocol, row.measure.name): row for row in rows_of(entry, Mode.FIXED, own)}
    assert rows["self", "changed"].value == block["figures"]["changed"]["value"]
    assert rows["direct", "length_of_right"].measure is own[1]
    without = {(row.protocol, row.measure.name) for row in rows_of(entry, Mode.FIXED)}
    assert without == set(rows) - {("self", "changed"), ("direct", "length_of_right")}


@pytest.mark.usefixtures("examples")
@pytest.mark.parametrize(
    ("name", "says"),
    [("figure", "figure"), ("figure:NONE", "NONE"), ("figure:np", "not a Figure"), ("nowhere:X", "nowhere")],
)
def test_what_is_no_figure_is_refused(name: str, says: str) -> None:
    with pytest.raises(UsageError, match=f"--figures.*{says}"):
        load([name])
    with pytest.raises(UsageError, match="another figure is named changed"):
        load(["figure:CHANGED", "figure:CHANGED"])
