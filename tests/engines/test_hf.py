"""The hf engine: a sample depends on its seed and prompt, not on its batch; a bad checkpoint is a clear error."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny import make_checkpoint

from cipo_eval.engines.chat import encode
from cipo_eval.engines.hf import HFEngine, model_fingerprint, seeded_sampling
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Problem, Request, Sampling

SAMPLED = Sampling(temperature=1.0, top_p=0.95, top_k=0, min_p=0.0, max_tokens=24)
GREEDY = replace(SAMPLED, temperature=0.0)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", context=512)


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> HFEngine:
    return HFEngine(str(checkpoint), device="cpu")


def request(text: str, seeds: tuple[int, ...], sampling: Sampling = SAMPLED) -> Request:
    problem = Problem(task="t", id=text, index=0, question=text, prompt=text, gold="1")
    return Request(
        problem=problem,
        messages=({"role": "user", "content": text},),
        samples=tuple(range(len(seeds))),
        seeds=seeds,
        sampling=sampling,
    )


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


def test_out_of_memory_halves_the_batch_and_loses_nothing(
    engine: HFEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    requests = [request(f"prompt {i}", (i,)) for i in range(8)]
    expected = outputs(engine, *requests)
    generate, sizes = engine.model.generate, []

    def limited(ids: torch.Tensor, **arguments: object) -> torch.Tensor:
        sizes.append(len(ids))
        if len(ids) > 2:
            raise torch.OutOfMemoryError("more than two rows")
        return generate(ids, **arguments)

    monkeypatch.setattr(engine.model, "generate", limited)
    found = outputs(engine, *requests)
    assert sizes[:3] == [8, 4, 2]
    assert {key: c.token_ids for key, c in found.items()} == {key: c.token_ids for key, c in expected.items()}


def test_out_of_memory_with_one_sample_is_an_error(engine: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def never(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("none at all")

    monkeypatch.setattr(engine.model, "generate", never)
    with pytest.raises(MissingError, match="--max-tokens"):
        outputs(engine, request("a", (1,)))


def test_greedy_is_transformers_own_greedy(engine: HFEngine) -> None:
    import torch

    completion = outputs(engine, request("What is 2+2?", (5,), GREEDY))["What is 2+2?", 5]
    ids = torch.tensor([engine.tokenizer("What is 2+2?")["input_ids"]])
    reference = engine.model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :].tolist()
    assert list(completion.token_ids or ()) == reference


def test_draws_follow_the_models_distribution() -> None:
    """10,000 rows with the same logits: frequencies agree with softmax within five standard errors, top-p cuts."""
    import torch

    rows, logits = 10_000, torch.tensor([2.0, 1.0, 0.0, -1.0, -8.0])
    for top_p in (1.0, 0.9):
        sampling = replace(SAMPLED, top_p=top_p)
        processors = seeded_sampling(sampling, list(range(rows)), 1, 1, torch.device("cpu"))
        chosen = processors(torch.zeros(rows, 1, dtype=torch.long), logits.repeat(rows, 1)).argmax(-1)
        expected = torch.softmax(logits, -1).double().numpy()
        if top_p < 1:
            expected[3:] = 0  # 0.64 + 0.24 is below 0.9, the third makes 0.97
            expected /= expected.sum()
        frequency = np.bincount(chosen.numpy(), minlength=5) / rows
        error = np.sqrt(expected * (1 - expected) / rows)
        assert (np.abs(frequency - expected) <= 5 * error + 1e-12).all(), (top_p, frequency, expected)


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


def test_the_context_limits_tokens_and_says_so(engine: HFEngine) -> None:
    long, full = "y" * 480, "z" * 600
    found = outputs(engine, request(long, (1,), replace(GREEDY, max_tokens=100)), request(full, (1,)))
    assert found[long, 1].completion_tokens == 512 - 480
    assert found[long, 1].finish_reason == "length"
    assert found[full, 1] == Completion(text="", finish_reason="context", prompt_tokens=600)


def test_the_chat_template_is_used_where_there_is_one(tmp_path: Path) -> None:
    engine = HFEngine(str(make_checkpoint(tmp_path / "chat", chat=True)), device="cpu")
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert (
        len(encode(engine.tokenizer, messages).ids) == len("SU") + 5
    )  # three headers and two ends are one token each
    assert engine.describe()["chat_template"] is not None


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
        (lambda p: (p / "model.safetensors").write_bytes(b"not weights"), "model of .* does not load"),
        (lambda p: (p / "config.json").write_text("{"), "does not load"),
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
