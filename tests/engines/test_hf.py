"""The hf engine: a sample depends on its seed and prompt, not on its batch; a bad checkpoint is a clear error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from asking import GREEDY, SAMPLED
from asking import request as asked
from tiny import make_checkpoint

from cipo_eval.engines.chat import encode
from cipo_eval.engines.checkpoint import model_fingerprint
from cipo_eval.engines.hf import HFEngine
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Request, Sampling, fingerprint


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", context=512)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> HFEngine:
    return HFEngine(str(checkpoint), device="cpu")


def request(text: str, seeds: tuple[int, ...], sampling: Sampling = SAMPLED) -> Request:
    return asked(text, seeds, sampling)


def outputs(engine: HFEngine, *requests: Request) -> dict[tuple[str, int], Completion]:
    return {(r.problem.id, seed_of(r, s)): c for r, s, c in engine.generate(requests)}


def seed_of(r: Request, sample: int) -> int:
    return r.seeds[r.samples.index(sample)]


def test_a_sample_depends_on_its_seed_not_on_its_batch(engine: HFEngine) -> None:
    together = outputs(
        engine, request("What is 2+2?", (1, 2, 3)), request("A much longer prompt " * 5, (1, 9))
    )
    for (text, seed), completion in together.items():
        alone = outputs(engine, request(text, (seed,)))
        assert alone[text, seed].token_ids == completion.token_ids
    assert together["What is 2+2?", 1].text != together["What is 2+2?", 2].text


def test_small_batches_give_what_one_large_batch_gives(checkpoint: Path, engine: HFEngine) -> None:
    requests = [request(f"prompt {'x' * i}", (i, i + 100)) for i in range(6)]
    small = HFEngine(str(checkpoint), device="cpu", batch_tokens=80)
    whole, parts = outputs(engine, *requests), outputs(small, *requests)
    assert {key: c.token_ids for key, c in whole.items()} == {key: c.token_ids for key, c in parts.items()}


@pytest.mark.slow
def test_out_of_memory_with_one_sample_is_an_error(engine: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def never(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("none at all")

    monkeypatch.setattr(engine.model.get_decoder(), "forward", never)
    with pytest.raises(MissingError, match="--max-tokens"):
        outputs(engine, request("a", (1,)))


def test_greedy_is_transformers_own_greedy(engine: HFEngine) -> None:
    import torch

    completion = outputs(engine, request("What is 2+2?", (5,), GREEDY))["What is 2+2?", 5]
    ids = torch.tensor([engine.tokenizer("What is 2+2?")["input_ids"]])
    reference = engine.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(completion.token_ids or ()) == reference


def test_stop_strings_cut_text_and_tokens(engine: HFEngine) -> None:
    free = outputs(engine, request("abc", (3,)))["abc", 3]
    stop = free.text[5:7]
    first = free.text.index(stop)
    cut = outputs(engine, request("abc", (3,), replace(SAMPLED, stop=(stop,))))["abc", 3]
    assert cut.text == free.text[:first]
    assert cut.finish_reason == "stop"
    assert cut.completion_tokens is not None
    assert free.completion_tokens is not None
    assert cut.completion_tokens <= free.completion_tokens
    assert cut.logprobs == free.logprobs[: cut.completion_tokens]  # type: ignore[index]


def test_a_special_token_is_a_stop_string_too(tmp_path: Path) -> None:
    """Also one that is no end token; the stored text has no special tokens."""
    endless = HFEngine(str(make_checkpoint(tmp_path / "endless", endless=True)), device="cpu")
    asked = request("abc", tuple(range(60)), replace(SAMPLED, max_tokens=48))
    free = outputs(endless, asked)
    raw = {key: endless.tokenizer.decode(completion.token_ids) for key, completion in free.items()}
    counts = {
        mark: sum(mark in text for text in raw.values()) for mark in endless.tokenizer.all_special_tokens
    }
    mark = max(counts, key=lambda mark: counts[mark])
    assert 2 < counts[mark] < 60
    cut = outputs(endless, replace(asked, sampling=replace(asked.sampling, stop=("never", mark))))
    for key, completion in cut.items():
        before, found, _ = raw[key].partition(mark)
        assert endless.tokenizer.decode(completion.token_ids) == before
        assert completion.finish_reason == ("stop" if found else "length")
        assert completion.text == endless.tokenizer.decode(completion.token_ids, skip_special_tokens=True)


def test_stop_strings_within_characters_of_several_bytes(engine: HFEngine) -> None:
    """The tiny model's tokens are bytes: a stop string is complete when its last byte is there."""
    text = "aé€𝄞 the end"
    tokens = engine.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert len(tokens) == len(text.encode())
    for stop in ("é", "€", "𝄞", "𝄞 the", "a"):
        cut = engine.texts.cut(("never", stop))
        assert cut is not None
        found = next((at, end) for at in range(1, len(tokens) + 1) if (end := cut(tokens[:at])))
        assert found[0] == len(text[: text.index(stop) + len(stop)].encode())
        assert found[1] == (len(text[: text.index(stop)].encode()), text[: text.index(stop)])


def test_models_of_other_families_are_generated_with_too(tmp_path: Path, checkpoint: Path) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": len(tokenizer), "n_positions": 256}
    torch.manual_seed(0)
    config = AutoConfig.for_model("gpt2", eos_token_id=1, bos_token_id=None, initializer_range=0.3, **sizes)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    other = HFEngine(str(tmp_path / "gpt2"), device="cpu")
    assert other.describe()["generation"] == "model.generate"
    free = outputs(other, request("abc", (3, 4)), request("a longer one", (3,)))
    assert free["abc", 3].token_ids == outputs(other, request("abc", (3,)))["abc", 3].token_ids
    stop = free["abc", 3].text[5:7]
    cut = outputs(other, request("abc", (3,), replace(SAMPLED, stop=(stop,))))["abc", 3]
    assert cut.text == free["abc", 3].text[: free["abc", 3].text.index(stop)]


def test_the_context_limits_tokens_and_says_so(engine: HFEngine) -> None:
    long, full = "y" * 480, "z" * 600
    found = outputs(engine, request(long, (1,), replace(GREEDY, max_tokens=100)), request(full, (1,)))
    assert found[long, 1].completion_tokens == 512 - 480
    assert found[long, 1].finish_reason == "length"
    assert found[full, 1] == Completion(
        text="", finish_reason="context", prompt_tokens=600, prompt_hash=fingerprint(full)
    )


def test_the_chat_template_is_used_where_there_is_one(tmp_path: Path) -> None:
    engine = HFEngine(str(make_checkpoint(tmp_path / "chat", chat=True)), device="cpu")
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert (
        len(encode(engine.tokenizer, messages).ids) == len("SU") + 5
    )  # three headers and two ends are one token each
    assert engine.describe()["chat_template"] is not None
    assert engine.describe()["generation"] == "core"


def test_a_template_that_takes_no_system_message_is_a_clear_error(tmp_path: Path) -> None:
    engine = HFEngine(str(make_checkpoint(tmp_path / "chat", chat=True)), device="cpu")
    engine.tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UsageError, match=r"System role not supported; some take no --system-prompt"):
        encode(engine.tokenizer, [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}])


def test_end_tokens_of_model_and_tokenizer_both_end_a_completion(checkpoint: Path, tmp_path: Path) -> None:
    import json

    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text())
    (copy / "generation_config.json").write_text(json.dumps(settings | {"eos_token_id": 7}))
    assert HFEngine(str(copy), device="cpu").end_ids == {7, 1}


def test_a_checkpoints_own_sampling_defaults_do_not_leak_in(
    checkpoint: Path, engine: HFEngine, tmp_path: Path
) -> None:
    import json

    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text())
    settings |= {"repetition_penalty": 5.0, "temperature": 0.1, "do_sample": True, "top_k": 1}
    (copy / "generation_config.json").write_text(json.dumps(settings))
    changed = outputs(HFEngine(str(copy), device="cpu"), request("abc", (1,)))
    assert changed["abc", 1].token_ids == outputs(engine, request("abc", (1,)))["abc", 1].token_ids


def test_one_changed_weight_changes_the_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    assert model_fingerprint(str(copy), {}) == model_fingerprint(str(checkpoint), {})
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert model_fingerprint(str(copy), {}) != model_fingerprint(str(checkpoint), {})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: shutil.rmtree(p), "does not exist"),
        (lambda p: (p / "config.json").unlink(), "no config.json"),
        (lambda p: [f.unlink() for f in p.glob("token*")], r"save it there with tokenizer\.save_pretrained"),
        (lambda p: (p / "model.safetensors").write_bytes(b"not weights"), "weights of .* do not load"),
        (lambda p: (p / "config.json").write_text("{"), "cannot be read"),
    ],
)
def test_bad_checkpoints_are_clear_errors(
    checkpoint: Path, tmp_path: Path, damage: object, message: str
) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    damage(copy)  # type: ignore[operator]
    with pytest.raises(UsageError, match=message):
        HFEngine(str(copy), device="cpu")


def test_an_unreachable_hub_model_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingError, match="neither a local folder nor obtainable"):
        HFEngine("nobody/nothing-of-this-name", device="cpu")
