"""A real pretrained model is trained: its chat template, three steps of CIPO, a break, and a run on its checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import Commands
from real_model import UnavailableError, smollm2

from cipo_trainer.logs import read

pytestmark = [pytest.mark.slow, pytest.mark.exhaustive]  # a hundred seconds of one core, most of them files

SYSTEM = "Answer with a number."


def test_smollm2_learns_with_its_template_goes_on_and_is_evaluated(cipo: Commands, tmp_path: Path) -> None:
    try:
        model = smollm2()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    preset = [
        "smollm2_135m_math_cipo",
        f"output={tmp_path / 'out'}",
        f"model={model}",
        f"chat={{system: {SYSTEM}}}",
        "data={task: null, where: {}, generator: arithmetic}",
        "rollout={problems: 1, samples: 2, max_tokens: 8}",
        "correction={fraction: 1.0, samples: 2, truncated: true, prompt_dir: prompts}",
        "loss.beta=0",  # half the time
        "advantage={baseline: none, scale: none}",  # so that every attempt is trained on, also where all are wrong
        "reward.truncated=-1",
        "optimizer={micro_tokens: 512, chunk: 64}",
        "eval.tasks=[]",
        "checkpoint={every: 100, keep: 1}",
        "reward.workers=1",
    ]
    first = cipo("train", *preset, "steps=2", "--json")
    assert first.code == 0, first.err
    second = cipo("train", *preset, "steps=3")
    assert second.code == 0, second.err
    assert "going on after step 2 of 3" in second.err
    log = read(tmp_path / "out" / "log.jsonl")
    assert [row["step"] for row in log] == [1, 2, 3]
    for row in log:
        assert row["base_attempts"] == row["correction_attempts"] == 2
        assert row["mismatch_max"] < 1e-3  # what is trained on is what was sampled
        assert (row["updates"], row["skipped"]) == (1, 0)
    checkpoint = tmp_path / "out" / "checkpoints" / "step-000003"
    assert json.loads((checkpoint / "cipo_chat.json").read_text()) == {"system": SYSTEM}
    assert (checkpoint / "chat_template.jinja").read_text() == (model / "chat_template.jinja").read_text()
    flags = ("--tasks", "arithmetic", "--limit", "1", "--max-tokens", "6", "--protocol", "self", "--quiet")
    run = cipo("run", "--model", checkpoint, *flags, "-o", tmp_path / "run")
    assert run.code == 0, run.err
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["tasks"]["arithmetic"]["system_prompt"] == SYSTEM
    assert "<|im_end|>" in info["engine"]["end_tokens"]
    assert (
        json.loads((tmp_path / "run" / "results.json").read_text())["tasks"]["arithmetic"]["missing_attempts"]
        == 0
    )
