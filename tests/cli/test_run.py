"""``run``, ``score`` and ``rescore`` from the outside: what is asked for is there, once, whatever the path to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, attempts, results

SHORT = ("--tasks", "arithmetic", "--limit", "6", "--max-tokens", "8", "--quiet")


@pytest.fixture
def base(cipo: Commands, tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A finished run: 6 problems, 2 samples."""
    run = tmp_path / "base"
    assert cipo("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", run).code == 0
    return run


def test_a_finished_run_is_left_as_it_is(cipo: Commands, tiny_checkpoint: Path, base: Path) -> None:
    stored, figures = (base / "attempts" / "arithmetic.jsonl").read_bytes(), results(base)
    assert cipo("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", base).code == 0
    assert (base / "attempts" / "arithmetic.jsonl").read_bytes() == stored
    assert results(base) == figures
    assert len(json.loads((base / "run.json").read_text())["calls"]) == 2


def test_more_samples_only_add_and_equal_a_run_that_asked_for_them(
    cipo: Commands, tiny_checkpoint: Path, base: Path, tmp_path: Path
) -> None:
    before = (base / "attempts" / "arithmetic.jsonl").read_bytes()
    run = ("run", "--model", tiny_checkpoint, *SHORT, "--samples", "4")
    plan = cipo(*run[:-2], "--samples", "4", "--dry-run", "--json", "-o", base).json["tasks"][0]
    assert (plan["attempts"], plan["attempts_to_generate"], plan["most_new_tokens"]) == (24, 12, 96)
    assert cipo(*run, "-o", base).code == 0
    assert (base / "attempts" / "arithmetic.jsonl").read_bytes().startswith(before)
    assert cipo(*run, "-o", tmp_path / "fresh").code == 0
    assert attempts(base, "arithmetic") == attempts(tmp_path / "fresh", "arithmetic")
    assert results(base) == results(tmp_path / "fresh")


def test_figures_are_withdrawn_while_attempts_change(
    cipo: Commands, tiny_checkpoint: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Extended and interrupted: the old figures no longer describe what is on disk."""
    from cipo_eval.engines.core.loop import Core

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    run = ("run", "--model", tiny_checkpoint, *SHORT, "--samples", "4", "-o", base)
    with monkeypatch.context() as patch:
        patch.setattr(Core, "_step", interrupted)
        assert cipo(*run).code == 130
    assert not (base / "results.json").exists()
    assert cipo(*run).code == 0
    assert results(base)["tasks"]["arithmetic"]["fixed"]["attempts"] == 24


def test_an_engine_that_fails_takes_no_finished_samples_with_it(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace
    from itertools import islice

    from cipo_eval.engines.hf import HFEngine
    from cipo_eval.errors import CipoError

    generate = HFEngine.generate

    def failing(self: HFEngine, requests: Any) -> Any:
        for request, sample, completion in islice(generate(self, requests), 5):
            yield request, sample, replace(completion, text="\\boxed{3}")  # a worker has to look at it
        raise CipoError("the server is gone")

    run = ("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(HFEngine, "generate", failing)
        found = cipo(*run)
    assert found.code == 1
    assert "the server is gone" in found.err
    kept = attempts(tmp_path / "run", "arithmetic")
    assert len(kept) == 5
    assert cipo(*run).code == 0
    assert kept.items() <= attempts(tmp_path / "run", "arithmetic").items()


def test_fewer_samples_use_the_first_ones_and_delete_nothing(
    cipo: Commands, tiny_checkpoint: Path, base: Path, tmp_path: Path
) -> None:
    run = ("run", "--model", tiny_checkpoint, *SHORT, "--samples", "1")
    assert cipo(*run, "-o", base).code == 0
    assert len(attempts(base, "arithmetic")) == 12
    assert cipo(*run, "-o", tmp_path / "fresh").code == 0
    shrunk = results(base)
    assert shrunk["tasks"]["arithmetic"].pop("not_asked") == 6
    assert shrunk == results(tmp_path / "fresh")


def test_a_larger_limit_only_adds(cipo: Commands, tiny_checkpoint: Path, base: Path) -> None:
    before = attempts(base, "arithmetic")
    larger = [*SHORT[:3], "9", *SHORT[4:]]
    assert cipo("run", "--model", tiny_checkpoint, *larger, "--samples", "2", "-o", base).code == 0
    after = attempts(base, "arithmetic")
    assert len(after) == 18
    assert before.items() <= after.items()


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (["--temperature", "0.9"], "arithmetic.sampling.temperature: 0.6 there, 0.9 asked"),
        (["--max-tokens", "9"], "arithmetic.sampling.max_tokens: 8 there, 9 asked"),
        (["--seed", "1"], "seed: 0 there, 1 asked"),
        (["--system-prompt", "Think."], "arithmetic.prompts"),
        (["--mode", "paper"], "rescore"),
        (["--think", "keep"], "arithmetic.think: 'strip' there, 'keep' asked"),
    ],
)
def test_another_configuration_is_refused_by_name(
    cipo: Commands, tiny_checkpoint: Path, base: Path, flags: list[str], name: str
) -> None:
    before = {p: p.read_bytes() for p in base.rglob("*.json*")}
    outcome = cipo("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", *flags, "-o", base)
    assert outcome.code == 2
    assert name in outcome.err
    assert "Traceback" not in outcome.err
    assert {p: p.read_bytes() for p in base.rglob("*.json*")} == before


def test_thinking_that_was_asked_for_once_is_asked_for_again(cipo: Commands, tmp_path: Path) -> None:
    """Neither a run with a switch goes on without it, nor the other way round: it is in ``run.json`` only where it was
    asked for."""
    from tiny import make_checkpoint

    model = make_checkpoint(tmp_path / "model", chat=True)
    template = model / "chat_template.jinja"
    template.write_text("{% if enable_thinking %}T{% endif %}" + template.read_text())
    run = ("run", "--model", model, *SHORT, "--samples", "1")
    for first, then in ((["--enable-thinking"], []), ([], ["--enable-thinking"])):
        folder = tmp_path / f"first{len(first)}"
        assert cipo(*run, *first, "-o", folder).code == 0
        refused = cipo(*run, *then, "-o", folder)
        assert refused.code == 2
        assert "engine.enable_thinking: " in refused.err
        assert cipo(*run, *first, "--samples", "2", "-o", folder).code == 0


def test_another_model_is_refused_and_the_same_one_elsewhere_is_not(
    cipo: Commands, tiny_checkpoint: Path, base: Path, tmp_path: Path
) -> None:
    import shutil

    from tiny import make_checkpoint

    other = make_checkpoint(tmp_path / "other", seed=1)
    outcome = cipo("run", "--model", other, *SHORT, "--samples", "2", "-o", base)
    assert outcome.code == 2
    assert f"holds attempts of another model ({tiny_checkpoint} there, {other} asked)" in outcome.err
    moved = shutil.copytree(tiny_checkpoint, tmp_path / "moved")
    assert cipo("run", "--model", moved, *SHORT, "--samples", "2", "-o", base).code == 0


def test_rescoring_gives_what_scoring_gave(cipo: Commands, base: Path) -> None:
    stored, figures = attempts(base, "arithmetic"), results(base)
    assert cipo("rescore", base, "--quiet").code == 0
    assert attempts(base, "arithmetic") == stored
    assert results(base) == figures
    assert cipo("rescore", base, "--mode", "both", "--quiet").code == 0
    both = results(base)["tasks"]["arithmetic"]
    assert set(both) == {"fixed", "paper", "disagreements", "missing_attempts"}
    assert both["fixed"] == figures["tasks"]["arithmetic"]["fixed"]
    assert cipo("rescore", base, "--mode", "fixed", "--quiet").code == 0
    assert attempts(base, "arithmetic") == stored
    assert results(base) == figures


def test_replaying_a_run_gives_its_figures(cipo: Commands, base: Path, tmp_path: Path) -> None:
    for source in (base, base / "attempts" / "arithmetic.jsonl"):
        out = tmp_path / f"replay-{source.name}"
        outcome = cipo("score", source, "--task", "arithmetic", "--limit", "6", "-o", out, "--quiet")
        assert outcome.code == 0, outcome.err
        assert results(out)["tasks"] == results(base)["tasks"]


def test_json_is_all_of_standard_output(cipo: Commands, tiny_checkpoint: Path, base: Path) -> None:
    run = ("run", "--model", tiny_checkpoint, *SHORT[:-1], "--samples", "2", "-o", base)
    outcome = cipo(*run, "--json")
    assert outcome.json["tasks"]["arithmetic"]["fixed"]["attempts"] == 12
    assert outcome.err == ""
    table = cipo(*run)
    assert "arithmetic" in table.out
    assert cipo(*run, "--quiet").out == ""


def test_a_config_file_sets_flags_and_flags_win(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(
        f"model: {tiny_checkpoint}\ntasks: [arithmetic]\nlimit: 2\nsamples: 3\nmax-tokens: 4\n"
        "quiet: true\nstop: ['x', 'y']\n"
    )
    plan = cipo("run", "--config", config, "--samples", "5", "--dry-run", "--json").json["tasks"][0]
    assert (plan["problems"], plan["samples"], plan["max_tokens"]) == (2, 5, 4)
    assert cipo("run", "--config", config, "-o", tmp_path / "run").code == 0
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["tasks"]["arithmetic"]["sampling"]["stop"] == ["x", "y"]
    config.write_text("model: x\ntasks: arithmetic\nsample: 3\n")
    outcome = cipo("run", "--config", config)
    assert outcome.code == 2
    assert "did you mean samples" in outcome.err
    config.write_text("- just\n- a list\n")
    assert cipo("run", "--config", config).code == 2
    assert cipo("run", "--config", tmp_path / "nowhere.yaml").code == 2


def test_run_json_says_what_was_run(base: Path) -> None:
    info = json.loads((base / "run.json").read_text())
    assert info["seed"] == 0
    assert info["calls"][0]["command"][0] == "cipo-eval"
    assert {"torch", "transformers", "lm_eval", "math-verify"} <= set(info["environment"])
    task = info["tasks"]["arithmetic"]
    assert task["source"]["rows"] == 200
    assert len(task["data"]) == len(task["prompts"]) == len(info["engine"]["fingerprint"]) == 16
    for row in attempts(base, "arithmetic").values():
        assert isinstance(row["seed"], int)
        assert row["completion_tokens"] <= 8


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--tasks", "math50"], 2, "did you mean"),
        (["--tasks", ","], 2, "names no task"),
        (["--tasks", "math500"], 3, "cipo-eval data pull math500"),
        (["--tasks", "arithmetic", "--k", "4", "--samples", "2"], 2, "raise --samples or lower --k"),
        (["--tasks", "arithmetic", "--k", "two"], 2, "whole numbers"),
        (["--tasks", "arithmetic", "--temperature", "-1"], 2, "0 (greedy) or more"),
        (["--tasks", "arithmetic", "--temperature", "0", "--samples", "2"], 2, "identical"),
        (["--tasks", "arithmetic", "--preset", "greedyy"], 2, "did you mean greedy"),
        (["--tasks", "arithmetic", "--samples", "0"], 2, "at least 1"),
        (["--tasks", "arithmetic", "--engine", "nothing"], 2, "nothing"),
        (["--tasks", "arithmetic", "--model", "/does/not/exist"], 2, "does not exist"),
        (["--tasks", "arithmetic", "--engine", "replay", "--model", "nowhere.jsonl"], 2, "does not exist"),
        (["--tasks", "arithmetic", "--data-dir", "nowhere"], 2, "nowhere"),
    ],
)
def test_bad_input_is_a_clear_error_with_its_exit_code(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    model = [] if "--model" in arguments else ["--model", str(tiny_checkpoint)]
    outcome = cipo("run", *model, *arguments, "-o", tmp_path / "run")
    assert outcome.code == code, outcome.err
    assert message in " ".join(outcome.err.split())
    assert "Traceback" not in outcome.err
    assert not (tmp_path / "run").exists()


def test_a_damaged_attempts_file_is_named_and_kept(cipo: Commands, tiny_checkpoint: Path, base: Path) -> None:
    path = base / "attempts" / "arithmetic.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], b"{broken\n", *lines[4:]]))
    damaged = path.read_bytes()
    run = ("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", base)
    outcome = cipo(*run)
    assert outcome.code == 2
    assert "arithmetic.jsonl line 4 is damaged" in outcome.err
    assert path.read_bytes() == damaged
    path.write_bytes(b"".join([*lines[:3], *lines[4:]]))  # as the message says
    figures = results(base)
    assert cipo(*run).code == 0
    assert results(base) == figures


def test_rescore_refuses_other_data(cipo: Commands, base: Path) -> None:
    info = json.loads((base / "run.json").read_text())
    info["tasks"]["arithmetic"]["data"] = "0" * 16
    (base / "run.json").write_text(json.dumps(info))
    outcome = cipo("rescore", base)
    assert outcome.code == 2
    assert "not the data of the run" in outcome.err


def test_an_interrupted_rescore_is_noticed(cipo: Commands, tiny_checkpoint: Path, base: Path) -> None:
    info = (base / "run.json").read_bytes()
    assert cipo("rescore", base, "--mode", "paper", "--quiet").code == 0
    (base / "run.json").write_bytes(info)  # killed between the attempts and run.json
    outcome = cipo("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", base)
    assert outcome.code == 2
    assert "rescore" in outcome.err
    assert cipo("rescore", base, "--mode", "fixed", "--quiet").code == 0
    assert cipo("run", "--model", tiny_checkpoint, *SHORT, "--samples", "2", "-o", base).code == 0


def test_prompts_that_do_not_fit_are_named_and_the_exit_code_tells(cipo: Commands, tmp_path: Path) -> None:
    from tiny import make_checkpoint

    small = make_checkpoint(tmp_path / "small", context=6)
    outcome = cipo("run", "--model", small, *SHORT[:-1], "-o", tmp_path / "run")
    assert outcome.code == 1
    assert "prompt does not fit the model's context" in outcome.err
    states = {row["verdicts"]["fixed"]["state"] for row in attempts(tmp_path / "run", "arithmetic").values()}
    assert "truncated" in states


def test_dry_run_looks_at_everything_and_touches_nothing(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run = ("run", "--tasks", "arithmetic", "-n", "8", "--dry-run", "-o", tmp_path / "run")
    outcome = cipo(*run, "--model", tiny_checkpoint)
    assert outcome.code == 0
    assert "200 problems x 8 samples = 1600 attempts" in outcome.out
    assert "llama, context 2048, no chat template" in outcome.out
    assert "is new" in outcome.out
    assert not (tmp_path / "run").exists()
    assert cipo(*run, "--model", "no-such-model").code == 3
    (tiny_checkpoint / "adapter_config.json").unlink(missing_ok=True)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    assert cipo(*run, "--model", broken).code == 2


def test_siblings_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_eval.run.folder import default_folder

    monkeypatch.chdir(tmp_path)
    for name in (
        "grpo/checkpoints/step-000080",
        "cipo/checkpoints/step-000080",
        "a/seed-0/cipo/final",
        "a/seed-1/cipo/final",
        "x/qwen",
        "y/qwen",
        "hub/models--Qwen--Qwen3-4B/snapshots/" + "0123456789" * 4,
    ):
        (tmp_path / name).mkdir(parents=True)

    def taken(model: str) -> str:
        """The folder of a model's run, which is there from now on."""
        folder = default_folder(model)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "run.json").write_text(json.dumps({"engine": {"model": model}}))
        assert default_folder(model) == folder
        return folder.as_posix()

    assert taken("grpo/checkpoints/step-000080") == "runs/grpo-step-000080"
    assert taken("cipo/checkpoints/step-000080") == "runs/cipo-step-000080"
    assert taken("a/seed-0/cipo/final") == "runs/cipo-final"
    assert taken("a/seed-1/cipo/final") == "runs/seed-1-cipo-final"
    assert (taken("x/qwen"), taken("y/qwen")) == ("runs/qwen", "runs/y-qwen")
    assert taken("hub/models--Qwen--Qwen3-4B/snapshots/" + "0123456789" * 4) == "runs/Qwen3-4B-01234567"
    assert taken("org/Qwen") == "runs/Qwen"
    assert taken("other/Qwen") == "runs/other-Qwen"
    assert default_folder("outputs.jsonl.gz").as_posix() == "runs/outputs"
    monkeypatch.chdir(tmp_path / "grpo/checkpoints/step-000080")
    assert default_folder(".").as_posix() == "runs/grpo-step-000080"


def test_another_task_joins_the_results_of_the_first(
    cipo: Commands, tiny_checkpoint: Path, base: Path, tmp_path: Path
) -> None:
    rows = [{"id": f"p{i}", "question": f"{i}+{i}=", "answer": str(2 * i)} for i in range(3)]
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = tmp_path / "own.yaml"
    own.write_text(
        "include: _cipo_math.yaml\ntask: own\nmetadata:\n  cipo:\n"
        "    columns: {question: question, gold: answer, id: id}\n"
        "    sources: [{kind: embedded, path: items.jsonl}]\n"
    )
    before = results(base)["tasks"]["arithmetic"]
    run = ("run", "--model", tiny_checkpoint, "--tasks", own, "--max-tokens", "8", "--quiet", "-o", base)
    assert cipo(*run).code == 0
    assert set(results(base)["tasks"]) == {"arithmetic", "own"}
    assert results(base)["tasks"]["arithmetic"] == before
    assert cipo("rescore", base, "--quiet").code == 0
    assert results(base)["tasks"]["arithmetic"] == before
