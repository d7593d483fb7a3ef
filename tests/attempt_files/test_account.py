"""Nothing is lost: whatever a file holds, its attempts are judged or named as left out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cipo_eval.data.attempt_files.matching import DOUBTFUL, UNKNOWN
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import load_problems
from cipo_eval.engines.replay import CONTRADICTORY, ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Attempt, AttemptKey, Request, Sampling, State, Verdict
from cipo_eval.run import scoring
from cipo_eval.run.plan import TaskPlan
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.store import read_info

ARITHMETIC = load_problems("arithmetic")
SAMPLING = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=9)
IDS = [p.id for p in ARITHMETIC.problems[:6]]

ROWS = st.fixed_dictionaries(
    {
        "problem_id": st.sampled_from([*IDS, "nobody", "add1-1", "ADD1_003", "7"]),
        "text": st.one_of(st.sampled_from("abc"), st.lists(st.sampled_from("ab"), max_size=3)),
    },
    optional={
        "sample": st.integers(-3, 5),
        "question": st.sampled_from(["?", ARITHMETIC.problems[1].question]),
    },
)


def judged(key: AttemptKey) -> Attempt:
    return Attempt(
        task=key.task,
        problem=key.problem,
        sample=key.sample,
        prompt_hash="",
        seed=None,
        text="",
        finish_reason=None,
        prompt_tokens=None,
        completion_tokens=None,
        seconds=None,
        verdicts={"fixed": Verdict(correct=False, state=State.NO_ANSWER)},
    )


def written(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "f.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROWS, min_size=1, max_size=12),
    samples=st.one_of(st.none(), st.integers(1, 3)),
    limit=st.one_of(st.none(), st.integers(1, 4)),
    narrow=st.booleans(),
)
def test_rows_in_are_attempts_judged_and_attempts_left_out(
    tmp_path: Path, rows: list[dict[str, Any]], samples: int | None, limit: int | None, narrow: bool
) -> None:
    """The engine yields exactly what the account calls judged; everything else has a reason."""
    column = next(iter(ARITHMETIC.problems[0].metadata))
    value = str(ARITHMETIC.problems[0].metadata[column])
    try:
        engine = ReplayEngine(written(tmp_path, rows), ARITHMETIC.problems, allow_unmatched=True)
    except UsageError:
        assert not any(row["problem_id"] in IDS and row["text"] and "question" not in row for row in rows)
        return
    plan = TaskPlan(
        problems=ARITHMETIC,
        samples=samples or engine.samples,
        sampling=SAMPLING,
        limit=limit,
        scope=Scope(only={column: (value,)}) if narrow else None,
    )
    requests = [
        Request(
            problem=problem,
            messages=(),
            samples=tuple(range(plan.samples)),
            seeds=(0,) * plan.samples,
            sampling=SAMPLING,
        )
        for problem in plan.selected
    ]
    found = list(engine.generate(requests))
    stored = {AttemptKey("arithmetic", r.problem.id, "direct", sample, 1) for r, sample, _ in found}
    account = scoring.account(engine, plan, Attempts.of(judged(key) for key in stored))
    texts = [
        text for row in rows for text in (row["text"] if isinstance(row["text"], list) else [row["text"]])
    ]
    assert account.rows == len(rows)
    assert account.attempts == len(texts)
    assert account.empty == sum(row["text"] == [] for row in rows)
    assert len(stored) == len(found) == account.judged
    assert account.attempts == account.judged + sum(account.left_out.values())
    assert not Counter(c.text for _, _, c in found) - Counter(texts)
    if samples is None and limit is None and not narrow:
        assert set(account.left_out) <= {UNKNOWN, DOUBTFUL, CONTRADICTORY}


def test_the_console_and_the_results_name_every_reason(cipo: Commands, tmp_path: Path) -> None:
    problems = ARITHMETIC.problems
    rows: list[dict[str, Any]] = [
        {"problem_id": p.id, "text": rf"\boxed{{{p.gold}}}", "sample": number}
        for p in problems[:4]
        for number in (1, 2, 4)
    ]
    rows += [{"problem_id": "nobody", "text": "x"}, {"problem_id": problems[0].id, "text": []}]
    path = written(tmp_path, rows)
    flags = ("--allow-unmatched", "--limit", "3", "--samples", "2")
    found = cipo("score", path, "--task", "arithmetic", *flags, "-o", tmp_path / "run")
    assert found.code == 0
    assert (
        "rows: 14 in the file, 1 of them with none, with 13 attempts = 6 judged + 7 left out "
        "(1 match no problem, 3 above --samples 2, 3 beyond --limit 3)"
    ) in found.err
    assert "matched: 13 by id" in found.err
    assert results(tmp_path / "run")["tasks"]["arithmetic"]["fixed"]["attempts"] == 6
    (kept,) = read_info(tmp_path / "run")["calls"][-1]["file"]
    assert kept["attempts"] == 13 == kept["judged"] + sum(kept["left_out"].values())
    assert kept["judged"] == 6


@pytest.mark.parametrize("option", ["file", "--attempts-from", "--id-map"])
def test_a_folder_in_place_of_a_file(cipo: Commands, tmp_path: Path, option: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder if option == "file" else written(tmp_path, [{"problem_id": IDS[0], "text": "x"}])
    flags = () if option == "file" else (option, folder)
    found = cipo("score", path, "--task", "arithmetic", *flags)
    assert found.code == 2
    assert str(folder) in found.err
    assert "Traceback" not in found.err
