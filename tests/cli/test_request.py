"""A request is one thing, whichever way it is written: flags, ``key=value``, a file, Python."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results
from typer.main import get_command

from cipo_eval.cli import app
from cipo_eval.data.scope import Scope
from cipo_eval.data.tasks import load_problems
from cipo_eval.errors import UsageError
from cipo_eval.run import api, planning
from cipo_eval.run.request import RESCORE, RUN, SCORE, RunRequest, requested

MODEL = {"model": "m", "tasks": "arithmetic"}


def test_the_nearer_wins(tmp_path: Path) -> None:
    """Flags over ``key=value``, over the environment, over the file, over the file that it includes."""
    (tmp_path / "base.yaml").write_text("samples: 1\nlimit: 1\nseed: 1\ndata-dir: a\nturns: 9\n")
    (tmp_path / "run.yaml").write_text("include: base.yaml\nsamples: 2\nlimit: 2\nseed: 2\ndata_dir: b\n")
    asked = requested(
        tmp_path / "run.yaml",
        ["decoding.samples=3", "limit=3", "data-dir=d"],
        {"samples": 4},
        environment={"data_dir": "c"},
    )
    assert (asked.decoding.samples, asked.task.limit, asked.decoding.seed, asked.turns.turns) == (4, 3, 2, 9)
    assert asked.task.data_dir == Path("d")
    assert requested(tmp_path / "run.yaml", environment={"data_dir": "c"}).task.data_dir == Path("c")


def test_sections_and_flags_say_the_same(tmp_path: Path) -> None:
    flat = {
        **MODEL,
        "engine": "replay",
        "samples": 8,
        "stop": ["x", "y"],
        "protocol": "direct,self",
        "turns": 3,
        "mode": "both",
        "k": [1, 2],
        "output": "runs/x",
        "scope": "start=2024-09-01,difficulty=easy,hard",
        "batch_tokens": 64,
    }
    by_section: dict[str, Any] = {
        "engine": {"model": "m", "engine": "replay", "batch-tokens": 64},
        "task": {"tasks": ["arithmetic"], "scope": {"start": "2024-09-01", "difficulty": ["easy", "hard"]}},
        "decoding": {"samples": 8, "stop": ["x", "y"]},
        "turns": {"protocol": ["direct", "self"], "turns": 3},
        "scoring": {"mode": "both", "k": "2,1"},
        "output": {"output": "runs/x"},
    }
    (tmp_path / "run.yaml").write_text(json.dumps(by_section))
    asked = RunRequest.of(**flat)
    assert RunRequest.of(**by_section) == asked
    assert requested(tmp_path / "run.yaml") == asked
    overrides = [f"{key}={json.dumps(value)}" for key, value in flat.items()]
    assert requested(None, overrides) == asked
    assert RunRequest.of(**asked.model_dump(exclude_unset=True)) == asked


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sample": 3}, "did you mean samples"),
        ({"decoding": {"temprature": 1}}, "decoding.temprature"),
        ({"temperature": -1}, "--temperature -1: 0 (greedy) or more"),
        ({"temperature": float("nan")}, "--temperature nan: 0 (greedy) or more"),
        ({"top_p": 0}, "--top-p 0: above 0, at most 1"),
        ({"samples": 0}, "--samples 0: at least 1"),
        ({"samples": "many"}, "--samples many"),
        ({"k": "1,x"}, "--k 1,x: whole numbers separated by commas"),
        ({"stop": ["a", ""]}, "empty string"),
        ({"think": "<a>"}, "--think <a>: strip, keep"),
        ({"scope": "2024"}, "--scope 2024: start=DAY"),
        ({"limit": 0}, "--limit 0: a whole number from 1, or a share between 0 and 1"),
        ({"limit": 1.5}, "--limit 1.5: a whole number from 1, or a share between 0 and 1"),
        ({"limit": float("inf")}, "--limit inf"),
    ],
)
def test_what_is_wrong_is_named_by_its_flag(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        RunRequest.of(**values)
    assert message in str(refused.value)


def test_a_command_takes_its_own_fields_only(cipo: Commands, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text("temperature: 0.5\n")
    for command in (("score", "x", "--task", "arithmetic"), ("rescore", "x")):
        for setting in (("--config", tmp_path / "x.yaml"), ("decoding.temperature=0.5",)):
            outcome = cipo(*command, *setting)
            assert outcome.code == 2
            assert "unknown key" in outcome.err
    with pytest.raises(UsageError, match="unknown key"):
        api.rescore("x", temperature=0.5)


def test_every_field_is_an_option_with_its_docstring() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]  # it is a group
    for name, fields in (("run", RUN), ("score", SCORE), ("rescore", RESCORE)):
        options = [p for p in commands[name].params if p.param_type_name == "option"]
        assert all(option.help for option in options if not option.hidden)
        flags = {flag for option in options for flag in option.opts}
        assert len(flags) == sum(len(option.opts) for option in options), "a flag is there twice"
        assert len(options) >= len(fields)
    every = {
        f"{section}.{name}"
        for section, field in RunRequest.model_fields.items()
        for name in field.annotation.model_fields  # type: ignore[union-attr]  # each is a section
    }
    assert every == {*RUN, *SCORE}


def test_a_scope_changes_the_tasks_own() -> None:
    from dataclasses import replace

    problems = load_problems("arithmetic")
    rows = [
        replace(problem, metadata={"date": f"2024-0{1 + n % 6}-15", "level": "ab"[n % 2]})
        for n, problem in enumerate(problems.problems)
    ]
    spec = replace(problems.spec, scope=Scope(start="2024-03-01"))
    dated = replace(problems, problems=tuple(rows), spec=spec)

    def scope(text: str) -> Scope | None:
        return planning.scopes(RunRequest.of(scope=text).task.scope, [dated])[0]

    assert planning.scopes(None, [problems, dated]) == [None, Scope(start="2024-03-01")]
    assert scope("end=2024-05-01,level=a,b") == Scope(
        start="2024-03-01", end="2024-05-01", only={"level": ("a", "b")}
    )
    for wrong, message in (
        ("level=c", "--scope level=c"),
        ("lvel=a", "did you mean level"),
        ("end=x", "day"),
    ):
        with pytest.raises(UsageError, match=message):
            scope(wrong)
    with pytest.raises(UsageError, match="dates"):
        planning.scopes({"start": "2024-01-01"}, [problems])


def test_python_gives_what_the_command_gives(cipo: Commands, tmp_path: Path) -> None:
    problems = load_problems("arithmetic").problems[:4]
    rows = [{"problem_id": p.id, "text": f"\\boxed{{{p.gold if n else 0}}}"} for n, p in enumerate(problems)]
    file = tmp_path / "file.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cipo("score", file, "--task", "arithmetic", "limit=4", "-o", tmp_path / "a", "--quiet").code == 0
    asked = RunRequest.of(task="arithmetic", limit=9)
    scored = api.score(file, asked, limit=4, output=tmp_path / "b", verifier_workers=1)
    ran = api.evaluate(
        model=file, engine="replay", tasks="arithmetic", limit=4, output=tmp_path / "c", verifier_workers=1
    )
    assert results(tmp_path / "a") == results(tmp_path / "b") == results(tmp_path / "c")
    assert scored.exit_code == ran.exit_code == 0
    assert scored.figures["tasks"]["arithmetic"]["fixed"]["metrics"]["pass@1"]["value"] == 0.75
    assert any("4 judged" in line for line in scored.account)
    again = api.rescore(tmp_path / "c", mode="both", verifier_workers=1)
    assert set(again.figures["tasks"]["arithmetic"]) >= {"fixed", "paper"}
    assert api.score(file, asked, limit=4, verifier_workers=1).folder is None


def test_the_list_of_commands_needs_no_models_of_settings() -> None:
    """It is printed at once: what options are made of is imported by the command that has them."""
    code = (
        "import sys, cipo_eval.cli as cli\n"
        "try: cli.app(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('cipo_eval.run.request' in sys.modules or 'cipo_eval.engines.registry' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("limit", "count"), [(1, 1), (5, 5), (5.0, 5), ("7", 7), (0.1, 10), (0.07, 7), (0.071, 8), (1e-9, 1)]
)
def test_a_limit_below_one_is_a_share(limit: float | str, count: int) -> None:
    """Of each task's problems, rounded up, as the share is written; a plan only ever knows the number."""
    problems = load_problems("arithmetic")
    problems = dataclasses.replace(problems, problems=problems.problems[:100])
    request = RunRequest.of(**MODEL, limit=limit)
    [plan] = planning.plans(request, [problems], planning.decodings([problems.spec], request.decoding))
    assert type(plan.limit) is int
    assert [p.id for p in plan.selected] == [p.id for p in problems.problems[:count]]
