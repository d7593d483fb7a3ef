"""What --model may name, and what is asked of models that think: adapters, recommendations, switches, budgets."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import GREEDY, SAMPLED, outputs, request
from commands import Commands
from tiny import CHAT_TEMPLATE, make_adapter, make_checkpoint

from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.conversation import Chat
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.prompting import Prompting, Thinking
from cipo_eval.errors import MissingError, UsageError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", context=512)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter")


def test_an_adapter_is_the_base_with_its_weights(base: Path, adapter: Path) -> None:
    """Merged, it says what peft's own model says, and not what the base says."""
    import torch
    from peft import AutoPeftModelForCausalLM

    engine = HFEngine(str(adapter), device="cpu")
    found = outputs(engine, request("abc"))["abc", 0]
    assert found.token_ids is not None
    assert found.token_ids != outputs(HFEngine(str(base), device="cpu"), request("abc"))["abc", 0].token_ids
    prompt = engine.tokenizer("abc")["input_ids"]
    peft = AutoPeftModelForCausalLM.from_pretrained(str(adapter)).eval()
    with torch.no_grad():
        logits = peft(torch.tensor([[*prompt, *found.token_ids]])).logits[0, len(prompt) - 1 : -1]
    assert tuple(logits.argmax(-1).tolist()) == found.token_ids
    said = engine.describe()
    assert (said["model"], said["base"]) == (str(adapter), str(base))
    assert said["fingerprint"] == HFEngine(str(base), device="cpu").describe()["fingerprint"]


def test_another_adapter_is_another_model(base: Path, adapter: Path, tmp_path: Path) -> None:
    other = make_adapter(base, tmp_path / "other", seed=5)
    one, two = (Checkpoint(str(path)).describe() for path in (adapter, other))
    assert one["fingerprint"] == two["fingerprint"]
    assert one["adapter_fingerprint"] != two["adapter_fingerprint"]


def changed(adapter: Path, folder: Path, **facts: Any) -> str:
    copy = shutil.copytree(adapter, folder)
    path = copy / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))
    return str(copy)


def test_bad_adapters_are_clear_errors(
    adapter: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="model folder /nowhere/at/all does not exist"):
        Checkpoint(changed(adapter, tmp_path / "lost", base_model_name_or_path="/nowhere/at/all"))
    with pytest.raises(UsageError, match="names no base_model_name_or_path"):
        Checkpoint(changed(adapter, tmp_path / "none", base_model_name_or_path=None))
    torn = shutil.copytree(adapter, tmp_path / "torn")
    (torn / "adapter_config.json").write_text("[1, ")
    with pytest.raises(UsageError, match=r"adapter_config\.json"):
        Checkpoint(str(torn))
    empty = shutil.copytree(adapter, tmp_path / "empty")
    (empty / "adapter_model.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match=r"the weights of .* do not load"):
        HFEngine(str(empty), device="cpu")
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(MissingError, match=r"pip install 'cipo-eval\[lora\]'"):
        HFEngine(str(adapter), device="cpu")


def test_gguf_says_how_to_serve_it() -> None:
    with pytest.raises(UsageError, match=r"llama-server -m models/a\.gguf.*--engine openai"):
        Checkpoint("models/a.gguf")


def test_recommended_sampling_is_recorded_and_used_when_asked_for(
    base: Path, cipo: Commands, tmp_path: Path
) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    path = copy / "generation_config.json"
    said = {"do_sample": True, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05}
    path.write_text(json.dumps({**json.loads(path.read_text()), **said}))
    assert Checkpoint(str(copy)).recommended == said
    flags = ("--tasks", "arithmetic", "--limit", "1", "--max-tokens", "4", "--top-k", "5", "--quiet")
    ran = cipo("run", "--model", copy, *flags, "--preset", "checkpoint", "-o", tmp_path / "run")
    assert ran.code == 0, ran.err
    assert "repetition_penalty" in ran.err  # it is not applied
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["engine"]["recommended_sampling"] == said
    sampling = info["tasks"]["arithmetic"]["sampling"]
    assert (sampling["temperature"], sampling["top_p"], sampling["top_k"]) == (0.7, 0.8, 5)
    none = cipo("run", "--model", base, *flags, "--preset", "checkpoint", "-o", tmp_path / "other")
    assert none.code == 2
    assert "recommends no sampling" in none.err


THINKING = CHAT_TEMPLATE + (
    "{% if add_generation_prompt %}{% if enable_thinking is defined and not enable_thinking %}"
    "<think>\n\n</think>\n\n{% else %}<think>\n{% endif %}{% endif %}"
)


@pytest.fixture(scope="module")
def thinker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose template begins its thoughts, and that never ends them by itself."""
    path = make_checkpoint(
        tmp_path_factory.mktemp("thinker") / "thinker", chat=True, context=512, endless=True
    )
    (path / "chat_template.jinja").write_text(THINKING.replace("<|end|>", "\n"))  # a turn ends nowhere
    return path


def test_the_template_s_switch(thinker: Path, base: Path) -> None:
    def said(thinking: Thinking) -> str:
        return HFEngine(str(thinker), device="cpu", thinking=thinking).texts.prompt(request("U")).text

    assert said(Thinking()).endswith("<think>\n")
    assert said(Thinking(chat=Chat(enable_thinking=True))).endswith("<think>\n")
    assert said(Thinking(chat=Chat(enable_thinking=False))).endswith("</think>\n\n")
    with pytest.raises(UsageError, match="no such switch"):
        HFEngine(str(base), device="cpu", thinking=Thinking(chat=Chat(enable_thinking=True)))


@pytest.mark.parametrize("family", ["core", "plain"])
def test_a_budget_ends_thoughts(thinker: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if family == "plain":
        from cipo_eval.engines.core import models

        monkeypatch.setattr(models, "supported", lambda _: False)
    free = HFEngine(str(thinker), device="cpu")
    tight = HFEngine(str(thinker), device="cpu", thinking=Thinking(budget=8))
    asked = [request("U", (1, 2), replace(SAMPLED, max_tokens=40)), request("V", (3,))]
    before, after = outputs(free, *asked), outputs(tight, *asked)
    closing = tight.tokenizer("\n</think>\n\n")["input_ids"]
    for key, found in after.items():
        assert found.token_ids is not None
        assert before[key].token_ids is not None
        assert found.token_ids[:8] == before[key].token_ids[:8]  # its thoughts are its own
        assert found.token_ids[8 : 8 + len(closing)] == tuple(closing)
        assert found.completion_tokens == len(found.token_ids) == before[key].completion_tokens
        assert found.logprobs is None  # not all of it is the model's own
    assert after["U", 0].token_ids != after["U", 1].token_ids
    assert outputs(tight, request("V", (3,))).keys() == {("V", 0)}
    alone = outputs(tight, asked[1])["V", 0]
    assert alone.token_ids == after["V", 0].token_ids


def test_what_follows_closed_thoughts_is_what_a_longer_prompt_gives(thinker: Path) -> None:
    tight = HFEngine(str(thinker), device="cpu", thinking=Thinking(budget=8))
    found = outputs(tight, request("U"))["U", 0]
    prompt = tight.texts.prompt(request("U"))
    closing = tight.texts.closing(prompt, found.token_ids[:8])
    assert tight.texts.closing(prompt, found.token_ids) == []
    from cipo_eval.engines.core.request import GenRequest

    said = [*prompt.ids, *found.token_ids[:8], *closing]
    asks = [GenRequest(prompt=said, seeds=(0,), sampling=GREEDY, max_new=24 - 8 - len(closing))]
    [sample] = tight.core.run(lambda _: [asks.pop()] if asks else [])
    assert found.token_ids == (*found.token_ids[:8], *closing, *sample.tokens)


def test_a_budget_leaves_alone_what_has_no_thoughts(base: Path) -> None:
    free, tight = (
        outputs(HFEngine(str(base), device="cpu", thinking=thinking), request("abc"))["abc", 0]
        for thinking in (Thinking(), Thinking(budget=5))
    )
    assert (free.text, free.token_ids, free.finish_reason) == (
        tight.text,
        tight.token_ids,
        tight.finish_reason,
    )
    assert tight.logprobs == pytest.approx(free.logprobs, abs=1e-5)


def test_stop_strings_after_thoughts(thinker: Path) -> None:
    tight = HFEngine(str(thinker), device="cpu", thinking=Thinking(budget=8))
    whole = outputs(tight, request("U"))["U", 0]
    stop = whole.text[-4:-1]
    cut = outputs(tight, request("U", sampling=replace(GREEDY, stop=(stop,))))["U", 0]
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"


def test_texts_know_where_there_is_no_room(base: Path) -> None:
    texts = Prompting(Checkpoint(str(base)).tokenizer, context=16)
    assert texts.room(texts.prompt(request("x" * 12)), 100) == 4
    assert texts.room(texts.prompt(request("x" * 20)), 100) == 0
