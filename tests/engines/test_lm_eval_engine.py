"""The bridge to lm-eval's model classes: the hf engine's greedy texts, samples that differ, clear errors."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import GREEDY, SAMPLED, outputs, request
from commands import Commands, turns
from model_server import ANSWER, ModelServer, choices, ended, prompt, status
from tiny import make_checkpoint

from cipo_eval.engines import lm_eval
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.lm_eval import LMEvalEngine
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Failure

CPU = {"device": "cpu", "dtype": "float32", "batch_size": 8}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", chat=True, context=512)


@pytest.fixture(scope="module")
def bridge(checkpoint: Path) -> LMEvalEngine:
    return LMEvalEngine("hf", str(checkpoint), CPU)


def test_greedy_is_the_hf_engine_s(checkpoint: Path, bridge: LMEvalEngine) -> None:
    asked = [request(text) for text in ("a", "What is 2+2?", "x" * 495, "y" * 600)]
    asked.append(request("z", sampling=replace(GREEDY, stop=("e", "a"))))
    ours, theirs = outputs(HFEngine(str(checkpoint), device="cpu"), *asked), outputs(bridge, *asked)
    assert {k: c.text for k, c in theirs.items()} == {k: c.text for k, c in ours.items()}
    assert {k: c.prompt_tokens for k, c in theirs.items()} == {k: c.prompt_tokens for k, c in ours.items()}
    assert theirs["y" * 600, 0].finish_reason == "context"


def test_samples_of_a_prompt_differ_and_the_same_call_gives_them_again(bridge: LMEvalEngine) -> None:
    asked = request("hello", (1, 2, 3, 4), SAMPLED)
    found = outputs(bridge, asked)
    assert len({c.text for c in found.values()}) == 4
    assert outputs(bridge, asked) == found
    assert outputs(bridge, request("hello", (5, 6, 7, 8), SAMPLED)) != found


def test_turns_chunks_and_resume(
    cipo: Commands, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both turns are those of the hf engine; where the class breaks off, finished chunks are kept."""
    monkeypatch.setattr(lm_eval, "CHUNK", 2)
    flags = ("--tasks", "arithmetic", "--limit", "5", "--max-tokens", "8", "--temperature", "0", "--quiet")
    flags += ("--protocol", "self", "--model", str(checkpoint))
    bridge = ("--engine", "lm-eval:hf", "--model-args", "device=cpu,dtype=float32,batch_size=4")
    assert cipo("run", *flags, "-o", tmp_path / "hf").code == 0
    generate = lm_eval.LMEvalEngine._chunk
    calls: list[int] = []

    def failing(self: LMEvalEngine, places: Any) -> Any:
        calls.append(len(places))
        if len(calls) == 2:
            monkeypatch.setattr(self.lm, "generate_until", lambda *_, **__: 1 / 0)
        return generate(self, places)

    with monkeypatch.context() as patch:
        patch.setattr(LMEvalEngine, "_chunk", failing)
        broken = cipo("run", *flags, *bridge, "-o", tmp_path / "bridge")
    assert broken.code == 3
    assert "broke off (ZeroDivisionError" in broken.err
    assert len(turns(tmp_path / "bridge", "arithmetic")) >= 2
    assert cipo("run", *flags, *bridge, "-o", tmp_path / "bridge").code == 0
    ours, theirs = turns(tmp_path / "hf", "arithmetic"), turns(tmp_path / "bridge", "arithmetic")
    assert {k: a["text"] for k, a in theirs.items()} == {k: a["text"] for k, a in ours.items()}


def test_a_class_behind_a_server_takes_every_sample_s_seed(checkpoint: Path) -> None:
    with ModelServer(HFEngine(str(checkpoint), device="cpu")) as server:
        arguments = {"base_url": server.url + "/chat/completions", "tokenizer_backend": "None"}
        engine = LMEvalEngine("local-chat-completions", "tiny", arguments)
        asked = request("hello <|end|>", (11, 12), SAMPLED)
        found = outputs(engine, asked)
        assert sorted(body["seed"] for body in server.bodies) == [11, 12]
        assert found["hello <|end|>", 0].text != found["hello <|end|>", 1].text
        assert engine.describe()["seeds"] == "by sample"
        server.faults = [status(500)] * 99
        with pytest.raises(MissingError, match="broke off"):
            outputs(engine, asked)


@pytest.mark.parametrize("concurrent", [1, 4])
def test_what_a_server_s_class_has_no_text_for_is_a_failure(concurrent: int) -> None:
    """The class itself turns null into an empty answer; ends are those of the openai engine."""
    ends = {"stop": "stop", "length": "length", "content_filter": "content_filter"}
    replies = {
        **{reason: ended(reason) for reason in [*ends, "error", "abort", "tool_calls"]},
        "missing": ended(None),
        "null": ended("abort", None),
        "empty": ended("stop", ""),
        "none": choices({"index": 0, "finish_reason": "error"}),
    }
    with ModelServer(rule=lambda body: replies[prompt(body)]) as server:
        arguments = {"base_url": server.url + "/chat/completions", "tokenizer_backend": "None"}
        engine = LMEvalEngine(
            "local-chat-completions", "tiny", {**arguments, "num_concurrent": concurrent, "max_retries": 1}
        )
        found = {r.problem.id: c for r, _, c in engine.generate([request(name) for name in replies])}
        tries = Counter(prompt(body) for body in server.bodies)
    texts = {name: c for name, c in found.items() if isinstance(c, Completion)}
    assert {name: (c.text, c.finish_reason) for name, c in texts.items()} == {
        **{name: (ANSWER, reason) for name, reason in ends.items()},
        "empty": ("", "stop"),
    }
    why = "lm-eval's local-chat-completions has no text for it (2 tries)"
    assert {c.why for c in found.values() if isinstance(c, Failure)} == {why}
    assert {name for name, count in tries.items() if count == 2} == found.keys() - texts.keys()


def test_clear_errors(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no model class hff: did you mean hf"):
        LMEvalEngine("hff", str(checkpoint), {})
    with pytest.raises(UsageError, match="does not take these --model-args"):
        LMEvalEngine("hf", str(checkpoint), {"nonsense": 1})
    with pytest.raises(MissingError, match="does not start"):
        LMEvalEngine("hf", str(tmp_path / "nowhere"), CPU)


@pytest.mark.parametrize("name", ["api_key", "token", "hf_token", "auth_token", "header"])
@pytest.mark.parametrize("engine", ["lm-eval:hf", "vllm"])
def test_keys_are_not_stored(
    cipo: Commands, checkpoint: Path, tmp_path: Path, engine: str, name: str
) -> None:
    flags = ("--model", checkpoint, "--tasks", "arithmetic", "--engine", engine)
    found = cipo("run", *flags, "--model-args", f"{name}=sesame", "-o", tmp_path / "run")
    assert found.code == 2
    assert "stored with the run" in found.err
    assert "sesame" not in found.err
    assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--engine", "hf", "--base-url", "http://x/v1"), "--engine hf has no --base-url (of openai)"),
        (("--engine", "openai", "--tensor-parallel", "2"), "has no --tensor-parallel (of vllm)"),
        (("--engine", "lm-eval"), "write lm-eval:NAME"),
        (("--engine", "hf:x"), "write lm-eval:NAME"),
        (("--engine", "vlm"), "did you mean vllm?"),
        (("--engine", "lm-eval:hf", "--model-args", "a=1,b"), "--model-args b: write KEY=VALUE"),
    ],
)
def test_flags_of_other_engines_are_refused(
    cipo: Commands, checkpoint: Path, flags: tuple[str, ...], message: str
) -> None:
    found = cipo("run", "--model", checkpoint, "--tasks", "arithmetic", *flags)
    assert found.code == 2
    assert message in found.err
