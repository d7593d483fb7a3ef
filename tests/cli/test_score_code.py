"""``score`` on outputs of code models: which problems count, parts, and the layouts of other harnesses' files.

A verifier that judges by the length of the text stands in for the real one here: nothing is run.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results

from cipo_eval.data import tasks


@pytest.fixture(autouse=True)
def _nothing_is_run(monkeypatch: pytest.MonkeyPatch, code_cache: Path) -> None:  # noqa: ARG001
    """Every task is judged by ``length_verifier``."""
    load_spec = tasks.load_spec
    verifier = "length_verifier:LengthVerifier"
    monkeypatch.setattr(tasks, "load_spec", lambda name: replace(load_spec(name), verifier=verifier))


def replayed(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lcb(cipo: Commands, data: Path, folder: Path, *flags: str) -> Any:
    """Scores one empty answer for every problem; the number of problems is what the flags chose."""
    problems = tasks.load_problems("livecodebench", data_dir=data).problems
    path = replayed(folder / "f.jsonl", [{"question_id": p.id, "code_list": ["x"]} for p in problems])
    return cipo("score", path, "--task", "livecodebench", "--data-dir", data, "--json", *flags)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "count"),
    [
        ((), 454),
        (("--lcb-start", "2023-01-01"), 1055),
        (("--scope", "start=2025-01-01,end=2025-02-01"), 51),
        (("--lcb-start", "2023-01-01", "--scope", "platform=leetcode,codeforces"), 453),
        (("--scope", "start=2023-01-01,difficulty=easy"), 322),
    ],
)
def test_the_window_of_livecodebench(
    cipo: Commands, real_data: Path, tmp_path: Path, flags: tuple[str, ...], count: int
) -> None:
    outcome = lcb(cipo, real_data, tmp_path, *flags)
    assert outcome.code == 0, outcome.err
    block = outcome.json["tasks"]["livecodebench"]["fixed"]
    assert block["problems"] == count
    assert sum(group["problems"] for group in block["breakdown"]["month"].values()) == count
    assert "1052 with public tests only" in outcome.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--lcb-start", "2025-1-1"), "not a day"),
        (("--lcb-start", "2026-01-01", "--lcb-end", "2027-01-01"), "no problem of livecodebench"),
        (("--scope", "platform=leetcod"), "did you mean leetcode"),
    ],
)
def test_windows_that_are_wrong(
    cipo: Commands, real_data: Path, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    outcome = lcb(cipo, real_data, tmp_path, *flags)
    assert outcome.code == 2
    assert message in outcome.err


def test_the_window_needs_a_task_with_dates(cipo: Commands, tmp_path: Path) -> None:
    path = replayed(tmp_path / "f.jsonl", [{"idx": 0, "text": "x"}])
    outcome = cipo("score", path, "--task", "arithmetic", "--lcb-start", "2024-01-01")
    assert outcome.code == 2
    assert "dates" in outcome.err


@pytest.mark.slow
def test_a_window_may_grow_and_shrink_and_rescore_keeps_it(
    cipo: Commands, real_data: Path, tmp_path: Path
) -> None:
    def window(start: str) -> dict[str, Any]:
        run = ("-o", str(tmp_path / "run"), "--lcb-start", start)
        assert lcb(cipo, real_data, tmp_path, *run).code == 0
        return results(tmp_path / "run")

    small, large = window("2025-03-01"), window("2025-02-01")
    problems = [of["tasks"]["livecodebench"]["fixed"]["problems"] for of in (small, large)]
    assert 0 < problems[0] < problems[1]
    again = window("2025-03-01")
    assert again["tasks"]["livecodebench"].pop("not_asked") == problems[1] - problems[0]
    assert again == small
    assert cipo("rescore", tmp_path / "run", "--data-dir", real_data, "--quiet").code == 0
    after = results(tmp_path / "run")
    del after["tasks"]["livecodebench"]["not_asked"]
    assert after == small


@pytest.mark.slow
def test_parts_and_weak_verdicts_reach_the_results(cipo: Commands, real_data: Path, tmp_path: Path) -> None:
    problems = tasks.load_problems("humaneval", data_dir=real_data).problems
    rows = [{"task_id": p.id, "completion": "x" * (p.index % 8)} for p in problems]
    path, run = replayed(tmp_path / "f.jsonl", rows), tmp_path / "run"
    flags = ("--task", "humaneval", "--data-dir", real_data, "-o", run)
    assert cipo("score", path, *flags, "--json").code == 0
    block = results(run)["tasks"]["humaneval"]["fixed"]
    lengths = [p.index % 8 for p in problems]
    assert block["states"]["no_answer"] == lengths.count(0)
    base = sum(length > 0 and length % 2 == 0 for length in lengths) / 164
    plus = sum(length == 4 for length in lengths) / 164
    assert block["parts"]["base"]["pass@1"]["value"] == pytest.approx(base)
    assert block["parts"]["plus"]["pass@1"]["value"] == pytest.approx(plus)
    assert block["metrics"]["pass@1"]["value"] == pytest.approx(plus)
    assert "weak_integrity" not in block
    stored = [json.loads(line) for line in (run / "attempts/humaneval.jsonl").read_text().splitlines()]
    reports = [row["verdicts"]["fixed"]["report"] for row in stored]
    assert sum("outcomes" in report for report in reports) == len(reports) - lengths.count(0)
    again = cipo("score", path, *flags)
    assert "humaneval base" in again.out
    assert results(run)["tasks"]["humaneval"]["fixed"] == block, (
        "what is kept in memory is enough for the figures"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "file", "flags", "count"),
    [
        ("humaneval", "code/Qwen2.5-Coder-1.5b-base__humaneval", (), 164),
        ("mbpp", "code/Qwen2.5-Coder-1.5b-base__mbpp", ("--allow-unmatched",), 378),
        pytest.param("mbpp", "code/Meta-Llama-3-8B-Instruct__mbpp", (), 378, marks=pytest.mark.exhaustive),
        ("livecodebench", "livecodebench/o1-mini__lcb_v5", ("--lcb-start", "2023-05-01"), 880),
        ("livecodebench", "livecodebench/Qwen2.5-7B-Instruct__lcb_v6_selfrepair", (), 454),
        pytest.param(
            "debugbench",
            "debugbench/gpt-4_debug_python3",
            ("--allow-unmatched",),
            1335,
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            "debugbench",
            "debugbench/gpt-4_code_generation_python3",
            ("--allow-unmatched",),
            230,
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_real_files_find_their_problems(
    cipo: Commands, real_data: Path, task: str, file: str, flags: tuple[str, ...], count: int
) -> None:
    path = real_data / "model_outputs" / f"{file}.jsonl.gz"
    outcome = cipo("score", path, "--task", task, "--data-dir", real_data, "--json", *flags)
    assert outcome.code == 0, outcome.err
    assert outcome.json["tasks"][task]["fixed"]["problems"] == count
