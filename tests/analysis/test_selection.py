"""Which attempts count: after any sequence of asks, every reader has the figures of what was asked last."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import Commands

from cipo_eval.analysis.selection import Extent, selected_attempts
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import ProblemSet, load_problems
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion, Mode, Request, Sampling
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.progress import Progress
from cipo_eval.run.runner import Run
from cipo_eval.storage.store import RunStore
from cipo_eval.turns.pools import own_pool
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, protocols_named
from cipo_eval.turns.revising import Revising
from cipo_eval.verifiers.pool import VerifierPool

YAML = """
task: cipo_sums
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: sums
    description: sums
    options: {}
    columns: {question: question, gold: gold, id: id, attempt: attempt}
    breakdown: [date]
    sources:
      - {kind: embedded, path: sums.jsonl}
"""
DAYS = 6
NAN = pytest.approx(float("nan"), nan_ok=True)
"""What a CSV has in place of a figure that is undefined."""


def right(model: str, problem: str, protocol: str, sample: int, turn: int) -> bool:
    """Whether a model's attempt is right: a coin that depends on the problem."""
    digest = hashlib.sha256(f"{model} {problem} {protocol} {sample} {turn}".encode()).digest()
    return digest[0] < 60 + 20 * int(problem)


class Coin:
    """An engine whose attempts are right where ``right`` says so."""

    name = "coin"

    def __init__(self, model: str) -> None:
        self.model = model

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, "model": self.model, "fingerprint": self.model}

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)
        while taken := feed.take(wait=True):
            for request in taken:
                for sample in request.samples:
                    problem = request.problem
                    good = right(self.model, problem.id, request.protocol, sample, request.turn)
                    text = f"\\boxed{{{problem.gold if good else 'w' + str(sample % 2)}}}"
                    yield request, sample, Completion(text=text, finish_reason="stop", completion_tokens=7)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def sums(tmp_path_factory: pytest.TempPathFactory) -> ProblemSet:
    """Six sums, one a day, each with a wrong and a right attempt of somebody in turn."""
    folder = tmp_path_factory.mktemp("task")
    rows = [
        {
            "id": str(i),
            "question": f"What is {i} + 10?",
            "gold": str(i + 10),
            "attempt": f"\\boxed{{{i + 10 if i % 2 else 99}}}",
            "date": f"2025-01-{i + 1:02}",
        }
        for i in range(DAYS)
    ]
    (folder / "sums.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "sums.yaml").write_text(YAML)
    return load_problems(folder / "sums.yaml")


@pytest.fixture(scope="module")
def pool() -> Iterator[VerifierPool]:
    with VerifierPool(2) as found:
        yield found


@dataclass(frozen=True)
class Ask:
    """What one call asks for."""

    protocols: tuple[str, ...]
    extent: Extent

    @classmethod
    def drawn(cls, rng: random.Random) -> Ask:
        names = [DIRECT, "self", "oracle", "given"]
        start, end = sorted(rng.sample(range(1, DAYS + 2), 2))
        scope = Scope(start=f"2025-01-{start:02}", end=f"2025-01-{end:02}")
        return cls(
            tuple(rng.sample(names, rng.randint(1, 3))),
            Extent(
                samples=rng.randint(1, 4),
                limit=rng.choice([None, 1, 2, 4, 99]),
                scope=rng.choice([None, None, scope]),
                turns=rng.randint(2, 3),
            ),
        )


def ask(run: Path, model: str, sums: ProblemSet, pool: VerifierPool, asked: Ask) -> dict[str, Any]:
    """One call, as ``cipo-eval run`` makes it."""
    extent = asked.extent
    plan = TaskPlan(
        problems=sums,
        samples=extent.samples,
        sampling=Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=9),
        limit=extent.limit,
        scope=extent.scope,
        revising=Revising(
            protocols=tuple(p for p in protocols_named(asked.protocols) if p.name != DIRECT),
            direct=DIRECT in asked.protocols,
            pool=own_pool(sums.problems),
            turns=extent.turns,
        ),
    )
    engine = Coin(model)
    with RunStore(run) as store:
        job = Run(
            store, [plan], engine=engine.describe(), seed=0, modes=(Mode.FIXED,), command=[], bootstrap=50
        )
        job.execute(engine, pool, Progress())
        results = job.results()
        store.write_results(results)
    return dict(results["tasks"]["sums"])


def asked_problems(extent: Extent) -> list[str]:
    days = {str(i): f"2025-01-{i + 1:02}" for i in range(DAYS)}
    scope = extent.scope or Scope()
    return [p for p, day in days.items() if scope.admits_metadata({"date": day})][: extent.limit]


def expected(model: str, last: dict[str, Extent]) -> dict[tuple[str, str], float | None]:
    """By protocol and figure, from the coin alone: an oracle that shares nothing with the code under test."""

    def mean(values: list[float]) -> float | None:
        return sum(values) / len(values) if values else None

    def first(problem: str, sample: int) -> bool:
        return right(model, problem, DIRECT, sample, 1)

    found: dict[tuple[str, str], float | None] = {}
    for name, extent in last.items():
        problems, samples = asked_problems(extent), range(extent.samples)
        if name == DIRECT:
            found[name, "pass@1"] = mean([mean([first(p, s) for s in samples]) or 0.0 for p in problems])
            continue
        own = PROTOCOLS[name].own
        lasts, tops, bottoms, lift, counted = [], [], [], [], []
        for p in problems:
            for s in samples:
                turns = [first(p, s) if own else bool(int(p) % 2)]
                for turn in range(2, extent.turns + 1):
                    over = PROTOCOLS[name].only_wrong and turns[-1]
                    turns.append(True if over else right(model, p, name, s, turn))
                lasts.append(turns[-1])
                tops.append(not turns[0] and turns[1])
                bottoms.append(not turns[0])
                fresh = extent if own else last.get(DIRECT)
                others: list[bool] = []
                if fresh is not None and p in asked_problems(fresh):
                    others = [first(p, o) for o in range(fresh.samples) if not own or o != s]
                if not turns[0] and others:
                    counted.append(1)
                    lift.append(turns[1] - sum(others) / len(others))
        found[name, f"acc@t{extent.turns}"] = mean(lasts)
        found[name, "correction_rate"] = sum(tops) / sum(bottoms) if sum(bottoms) else None
        found[name, "correction_lift"] = sum(lift) / sum(counted) if counted else None
    return found


def in_results(block: dict[str, Any]) -> dict[tuple[str, str], float | None]:
    found = {}
    if "fixed" in block:
        found[DIRECT, "pass@1"] = block["fixed"]["metrics"]["pass@1"]["value"]
    for name, modes in block.get("protocols", {}).items():
        of = modes["fixed"]
        found[name, f"acc@t{of['turns']}"] = of["by_turn"][f"acc@t{of['turns']}"]["value"]
        found[name, "correction_rate"] = of["steps"][0]["metrics"]["correction_rate"]["value"]
        found[name, "correction_lift"] = of["lift"].get("correction_lift", {}).get("value")
    return found


def close(value: float | None, *, none: Any = None) -> Any:
    return none if value is None else pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2, 3))])
def test_all_readers_have_the_figures_of_what_was_asked_last(
    cipo: Commands, sums: ProblemSet, pool: VerifierPool, tmp_path: Path, seed: int
) -> None:
    """Random sequences of asks: samples, limit, window, protocols with their own extents, grown and shrunk."""
    from cipo_reports.arms import read_arms
    from cipo_reports.report import write_frames
    from cipo_reports.study import read_study

    rng = random.Random(seed)
    last: dict[str, Extent] = {}
    runs = {model: tmp_path / model for model in ("a", "b")}
    for step in range(4):
        asked = Ask.drawn(rng)
        blocks = {model: ask(run, model, sums, pool, asked) for model, run in runs.items()}
        own = any(PROTOCOLS[name].own for name in asked.protocols)
        last |= dict.fromkeys([*asked.protocols, *([DIRECT] if own else [])], asked.extent)
        wanted = {model: expected(model, last) for model in runs}
        for model, block in blocks.items():
            assert block["missing_attempts"] == 0
            assert in_results(block) == {key: close(value) for key, value in wanted[model].items()}
            on_disk = (runs[model] / "attempts" / "sums.jsonl").read_text().count("\n")
            selected = selected_attempts(runs[model], "sums")
            assert len(selected.attempts) + block.get("not_asked", 0) == on_disk
        # the other readers, at the end and once on the way
        if step not in (1, 3):
            continue
        compared = cipo("compare", *runs.values(), "--json", "--bootstrap", "100")
        assert compared.code == 0, compared.err
        rows = compared.json[0]["rows"]
        assert rows
        for row in rows:
            protocol, _, figure = f"direct {row['figure']}".removeprefix("direct ").rpartition(" ")
            key = (protocol or DIRECT, figure)
            if key in wanted["a"]:
                assert (row["first"], row["second"]) == (close(wanted["a"][key]), close(wanted["b"][key])), (
                    key
                )
        study = read_study(read_arms([str(run) for run in runs.values()], []), bootstrap=50)
        write_frames(study, tmp_path)
        frame = pd.read_csv(tmp_path / "results.csv", keep_default_na=False, na_values=[""])
        frame = frame[frame["column"].isna()]
        for model in runs:
            of = {(r.protocol, r.figure): r.value for r in frame[frame["arm"] == model].itertuples()}
            for key, value in wanted[model].items():
                assert of.get(key, float("nan")) == close(value, none=NAN), key
        if study.differences.size:
            for r in pd.read_csv(tmp_path / "differences.csv").itertuples():
                key = (r.protocol, r.figure)
                if key in wanted["a"]:
                    assert r.first == close(wanted["a"][key], none=NAN), key
                    assert r.second == close(wanted["b"][key], none=NAN), key


def test_shrunk_runs_compare_by_the_attempts_that_were_asked_for(
    cipo: Commands, sums: ProblemSet, pool: VerifierPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Run a is right in samples 2 and 3 only, run b in 0 and 1 only; both are then asked for two samples."""

    def rights(model: str, _problem: str, _protocol: str, sample: int, _turn: int) -> bool:
        return (sample >= 2) == (model == "a")

    monkeypatch.setattr(f"{__name__}.right", rights)
    for samples in (4, 2):
        for model in ("a", "b"):
            ask(tmp_path / model, model, sums, pool, Ask((DIRECT,), Extent(samples=samples)))
    row = cipo("compare", tmp_path / "a", tmp_path / "b", "--json").json[0]["rows"][0]
    assert (row["first"], row["second"], row["difference"]) == (0.0, 1.0, 1.0)
    shown = cipo("show", tmp_path / "a")
    assert "sample 1" in shown.out
    assert "sample 2" not in shown.out
    assert f"{2 * DAYS} attempt(s) more are on disk" in shown.err
    built = cipo(
        "pool", "build", tmp_path / "a", "-o", tmp_path / "pool.jsonl", "--right", "1", "--wrong", "0"
    )
    assert "has 0 right attempts" in built.err


def test_what_has_no_verdict_that_holds_is_judged_and_not_generated(
    sums: ProblemSet, pool: VerifierPool, tmp_path: Path
) -> None:
    """Of an interrupted run, and what a harness that was being killed called its verifier's error."""
    whole, run = tmp_path / "whole", tmp_path / "run"
    asked = Ask(("self", "oracle"), Extent(samples=3, turns=3))
    ask(whole, "a", sums, pool, asked)
    lines = (whole / "attempts" / "sums.jsonl").read_text().splitlines()
    ask(run, "a", sums, pool, Ask((DIRECT,), Extent(samples=1, limit=1)))
    spoiled = []
    for number, line in enumerate(lines):
        row = json.loads(line)
        if number % 3 == 0:
            row["verdicts"] = {}
        elif number % 3 == 1:
            row["verdicts"]["fixed"] |= {"correct": False, "state": "verifier_error"}
        spoiled.append(json.dumps(row) + "\n")
    (run / "attempts" / "sums.jsonl").write_text("".join(spoiled))
    (run / "results.json").unlink()
    assert len(selected_attempts(run, "sums").every) == len(lines) - len(lines[::3])

    class Nothing(Coin):
        def generate(self, _requests: Any) -> Any:
            raise AssertionError("nothing is to be generated")

    original: Callable[..., Any] = Coin.generate
    Coin.generate = Nothing.generate  # type: ignore[method-assign]
    try:
        block = ask(run, "a", sums, pool, asked)
    finally:
        Coin.generate = original  # type: ignore[method-assign]
    assert in_results(block) == in_results(json.loads((whole / "results.json").read_text())["tasks"]["sums"])
    state = {a.key: a.verdicts["fixed"].state for a in selected_attempts(run, "sums").attempts}
    assert state == {a.key: a.verdicts["fixed"].state for a in selected_attempts(whole, "sums").attempts}


def test_runs_that_do_not_say_which_problems_are_the_first_are_refused(
    sums: ProblemSet, pool: VerifierPool, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    ask(run, "a", sums, pool, Ask((DIRECT,), Extent(samples=1)))
    ask(run, "a", sums, pool, Ask((DIRECT,), Extent(samples=1, limit=2)))
    assert {a.problem for a in selected_attempts(run, "sums").attempts} == {"0", "1"}
    (run / "problems" / "sums.jsonl").unlink()
    with pytest.raises(UsageError, match="does not say which are the first"):
        selected_attempts(run, "sums")


def test_other_extents_of_a_run_are_read() -> None:
    """Of runs of earlier versions: the scope stands at the task, protocols have none of their own."""
    scope = Scope(start="2025-01-01")
    facts = {"turns": 3, "samples": 2, "limit": 5}
    assert Extent.of(facts, scope.to_text()) == Extent(samples=2, limit=5, scope=scope, turns=3)
    extent = Extent(samples=2, limit=None, scope=None, turns=2)
    assert Extent.of(extent.to_json(), scope.to_text()) == extent
    assert replace(extent, scope=scope) == Extent.of(replace(extent, scope=scope).to_json(), None)
