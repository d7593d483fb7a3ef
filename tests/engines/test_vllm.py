"""The vllm engine, with the real vLLM (its CPU build): tokens, texts and turns are those of the hf engine."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from asking import GREEDY, SAMPLED, outputs, request
from commands import Commands, turns
from tiny import make_adapter, make_checkpoint

from cipo_eval.engines.feed import Feed
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.openai import OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.engines.prompting import Thinking
from cipo_eval.engines.vllm import VLLMEngine
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Failure

pytest.importorskip("vllm", reason="vLLM is not installed here: `tox -e vllm` runs these")
pytestmark = pytest.mark.slow

SMALL = {"enforce_eager": True, "max_num_seqs": 32}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "wide", chat=True, context=512, wide=True)


@pytest.fixture(scope="module")
def hf(checkpoint: Path) -> HFEngine:
    return HFEngine(str(checkpoint), device="cpu")


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[VLLMEngine]:
    found = VLLMEngine(str(checkpoint), logprobs=True, arguments=SMALL)
    yield found
    found.close()
    found.close()  # twice is allowed


def test_weights_are_checked_before_vllm_starts(checkpoint: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    copy = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    state = load_file(copy / "model.safetensors")
    save_file({f"_orig_mod.{k}": v for k, v in state.items()}, copy / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match=r"unexpected \(_orig_mod\.lm_head\.weight"):
        VLLMEngine(str(copy), arguments=SMALL)


def same(theirs: VLLMEngine, ours: HFEngine, *requests: object) -> None:
    found, expected = outputs(theirs, *requests), outputs(ours, *requests)  # type: ignore[arg-type]
    assert found.keys() == expected.keys()
    for key, completion in expected.items():
        other = found[key]
        assert replace(other, seconds=None, logprobs=None) == replace(completion, seconds=None, logprobs=None)
        if other.logprobs is not None:
            assert other.logprobs == pytest.approx(completion.logprobs, abs=1e-5)


def test_greedy_tokens_and_logprobs_are_the_hf_engine_s(engine: VLLMEngine, hf: HFEngine) -> None:
    lengths = (1, 5, 50, 300, 480, 499, 508, 600)  # the last ones leave little room, or none
    same(engine, hf, *(request("ab" * (n // 2) + "c" * (n % 2)) for n in lengths))
    stop = outputs(hf, request("abc"))["abc", 0].text[5:8]
    same(engine, hf, request("abc", sampling=replace(GREEDY, stop=(stop, "\x00"))))
    begun = request("abc")  # the protocol ``prefill``
    same(engine, hf, replace(begun, messages=(*begun.messages, {"role": "assistant", "content": "It is"})))


def test_a_sample_depends_on_its_seed_alone(engine: VLLMEngine) -> None:
    together = outputs(engine, request("hello", (1, 2, 2**63 - 1), SAMPLED), request("other", (2,), SAMPLED))
    alone = outputs(engine, request("hello", (2,), SAMPLED))
    assert alone["hello", 0].token_ids == together["hello", 1].token_ids
    assert len({c.token_ids for c in together.values()}) == 4


def test_thoughts_that_are_too_long_are_ended_as_by_the_hf_engine(engine: VLLMEngine, hf: HFEngine) -> None:
    plain = hf.tokenizer.chat_template
    try:
        for one in (engine, hf):
            one.texts.thinking = Thinking(budget=6)
            one.texts.tokenizer.chat_template = plain + "{% if add_generation_prompt %}<think>\n{% endif %}"
        same(engine, hf, request("U"), request("V" * 400))
        closed = outputs(engine, request("U"))["U", 0]
        assert "</think>" in closed.text
        assert closed.logprobs is None
    finally:
        for one in (engine, hf):
            one.texts.thinking = Thinking()
            one.texts.tokenizer.chat_template = plain


def test_later_requests_join_while_others_run(engine: VLLMEngine) -> None:
    """The first finished samples are handed out while others are under way, and what follows from them is taken."""
    slow = request("slow", tuple(range(64)), replace(SAMPLED, max_tokens=200))
    feed = Feed([request("quick", sampling=replace(GREEDY, max_tokens=2)), slow])
    order = []
    for asked, _, _ in engine.generate(feed):
        order.append(asked.problem.id)
        if asked.problem.id == "quick":
            feed.add([request("follows", sampling=replace(GREEDY, max_tokens=2))])
        feed.done()
    assert len(order) == 66
    assert order.index("follows") < 65


def test_a_closed_generation_frees_the_engine(engine: VLLMEngine) -> None:
    running = engine.generate([request("x", tuple(range(40)), replace(SAMPLED, max_tokens=400))])
    next(running)
    running.close()
    assert outputs(engine, request("abc"))["abc", 0].text


@pytest.mark.parametrize("reason", ["abort", "error", None])
def test_a_sample_that_vllm_gives_up_is_tried_once_more_and_then_a_failure(
    engine: VLLMEngine, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    asked = request("abc", (1, 2), SAMPLED)
    expected = outputs(engine, asked)
    generate, calls = engine._engine.generate, []

    async def giving_up(*arguments: object, **more: object) -> AsyncIterator[object]:
        calls.append(arguments)
        async for output in generate(*arguments, **more):
            if len(calls) <= most:
                output.outputs[0].finish_reason = reason
            yield output

    monkeypatch.setattr(engine._engine, "generate", giving_up)
    most = 2
    mended = outputs(engine, asked)
    assert {k: c.token_ids for k, c in mended.items()} == {k: c.token_ids for k, c in expected.items()}
    calls.clear()
    most = 4
    failure = Failure(why=f"vLLM's finish reason {reason or 'missing'} (2 tries)")
    assert set(outputs(engine, asked).values()) == {failure}
    assert len(calls) == 4


def test_arguments_that_change_texts_are_part_of_the_identity(engine: VLLMEngine) -> None:
    assert engine.describe()["arguments"] == {}
    engine._given["quantization"] = "fp8"
    assert engine.describe()["arguments"] == {"quantization": "fp8"}
    del engine._given["quantization"]


def test_clear_errors(checkpoint: Path, engine: VLLMEngine) -> None:
    with pytest.raises(UsageError, match="nonsense"):
        VLLMEngine(str(checkpoint), arguments={"nonsense": 1})
    with pytest.raises(MissingError, match="vLLM does not start"):
        VLLMEngine(str(checkpoint), arguments={"max_model_len": 10**6})
    with pytest.raises(UsageError, match="vLLM refuses the request"):
        outputs(engine, request("abc", sampling=replace(SAMPLED, min_p=2.0)))


def test_new_weights_in_place(engine: VLLMEngine, hf: HFEngine) -> None:
    """What the trainer does between two steps; and a failed update says so."""
    old = {name: tensor.clone() for name, tensor in hf.model.state_dict().items()}
    new = {name: tensor * 0.7 for name, tensor in old.items()}
    before = outputs(engine, request("abc"))
    try:
        engine.update_weights(new)
        hf.core.update_weights(new)
        assert outputs(engine, request("abc")) != before
        same(engine, hf, request("abc"), request("hello " * 60))
    finally:
        engine.update_weights(old)
        hf.core.update_weights(old)
    same(engine, hf, request("abc"))
    with pytest.raises(RuntimeError, match="vLLM does not take the new weights"):
        engine.update_weights({"nowhere": old["lm_head.weight"]})


@pytest.mark.exhaustive  # another start of the engine
def test_an_adapter_and_a_shorter_context(checkpoint: Path, tmp_path: Path) -> None:
    adapter = str(make_adapter(checkpoint, tmp_path / "adapter"))
    theirs = VLLMEngine(adapter, arguments={**SMALL, "max_model_len": 128})
    try:
        ours = HFEngine(adapter, device="cpu", max_model_len=128)
        same(theirs, ours, request("abc"), request("x" * 110), request("x" * 200))
        assert theirs.describe()["adapter_fingerprint"] == ours.describe()["adapter_fingerprint"]
        assert theirs.describe()["max_model_len"] == 128
    finally:
        theirs.close()


@pytest.fixture
def served(checkpoint: Path) -> Iterator[str]:
    """A real server of vLLM's (``vllm serve``, started as a module: the CPU package's script does not start)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    command += ["--served-model-name", "tiny", "--port", str(port)]
    command += ["--host", "127.0.0.1", "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "32"]
    log: list[str] = []
    server = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=dict(os.environ)
    )
    threading.Thread(target=lambda: log.extend(server.stdout or ()), daemon=True).start()
    try:
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, "".join(log[-40:])
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(60)


@pytest.mark.exhaustive  # two more starts, of an engine and of a server
def test_all_engines_give_the_same_run(cipo: Commands, checkpoint: Path, tmp_path: Path, served: str) -> None:
    """hf, vllm, openai (a real server of vLLM's) and lm-eval's hf: greedy, two turns, the same task."""
    flags = ("--tasks", "arithmetic", "--limit", "8", "--temperature", "0", "--max-tokens", "12", "--quiet")
    flags += ("--protocol", "self")
    engines = {
        "hf": ("--model", checkpoint),
        "vllm": ("--model", checkpoint, "--engine", "vllm"),
        "openai": ("--model", "tiny", "--engine", "openai", "--base-url", served),
        "lm-eval": ("--model", checkpoint, "--engine", "lm-eval:hf"),
    }
    more = {
        "vllm": ("--model-args", "enforce_eager=True,max_num_seqs=32"),
        "lm-eval": ("--model-args", "device=cpu,dtype=float32,batch_size=8"),
    }
    runs = {}
    for name, chosen in engines.items():
        found = cipo("run", *chosen, *more.get(name, ()), *flags, "-o", tmp_path / name)
        assert found.code == 0, found.err
        runs[name] = {
            key: (row["text"], row["prompt_hash"], row["verdicts"]["fixed"]["state"])
            for key, row in turns(tmp_path / name, "arithmetic").items()
        }
    assert len(runs["hf"]) == 16
    assert runs["vllm"] == runs["hf"]
    # a server renders the prompt itself, so its hash is of the messages
    assert {k: v[::2] for k, v in runs["openai"].items()} == {k: v[::2] for k, v in runs["hf"].items()}
    # lm-eval does not say why a completion ended, so states may differ
    assert {k: v[:2] for k, v in runs["lm-eval"].items()} == {k: v[:2] for k, v in runs["hf"].items()}
    seeded = OpenAIEngine("tiny", OpenAIOptions(base_url=served))
    try:
        asked = request("hello", (5, 6), SAMPLED)
        one, two = outputs(seeded, asked), outputs(seeded, asked)
        assert {k: c.text for k, c in one.items()} == {k: c.text for k, c in two.items()}
        assert one["hello", 0].text != one["hello", 1].text
        long = outputs(seeded, request("x" * 490), request("x" * 600))
        assert long["x" * 600, 0].finish_reason == "context"
        assert 0 < (long["x" * 490, 0].completion_tokens or 0) <= 512 - 490
    finally:
        seeded.close()


def test_the_trainer_rolls_out_with_vllm(tmp_path: Path) -> None:
    """Weights go into vLLM after every update: what it samples from is what is trained, to the last digits."""
    from cipo_eval.interrupts import Interrupts
    from cipo_trainer.logs import read
    from cipo_trainer.loop import Trainer
    from cipo_trainer.presets import build

    model = make_checkpoint(tmp_path / "model", wide=True, context=256)
    config = build(
        {
            "model": str(model),
            "output": str(tmp_path / "out"),
            "algorithm": "cipo",
            "steps": 3,
            "rollout": {
                "problems": 2,
                "samples": 4,
                "max_tokens": 12,
                "engine": "vllm",
                "max_model_len": 256,
            },
            "correction": {"prompt_dir": "prompts"},
            "reward": {"format": 1.0},
            "optimizer": {"lr": 0.01},
            "checkpoint": {"every": 100},
            "log": {"samples": 0},
        }
    )
    config.output.mkdir()
    with Interrupts() as interrupts:
        Trainer(config).run(interrupts)
    rows = read(config.output / "log.jsonl")
    assert len(rows) == 3
    assert sum(row["updates"] for row in rows) > 0
    trained = [row for row in rows if row["trained_tokens"]]
    assert trained[-1]["step"] > 1
    assert all(row["mismatch_max"] < 1e-4 for row in trained)
