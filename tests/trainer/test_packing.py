"""Micro-batches: packed ≡ padded ≡ one sequence at a time with whole logits, for values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cipo_eval.engines.core.models import FAMILIES
from cipo_trainer import head
from cipo_trainer.packing import Packed, TrainSequence, can_pack, logprobs, micro, plan

VOCAB = 61
CPU = torch.device("cpu")


def make_model(family: str, **more: Any) -> Any:
    """A random model of a family in float64; windows of 6 tokens where it has them, a sliding and a full layer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 4,
        "max_position_embeddings": 128,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": 1,
        "pad_token_id": 0,
        **({"sliding_window": 6} if family in {"mistral", "gemma2", "gemma3_text"} else {}),
        **more,
    }
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).double()
    model.eval()
    return model


def items(*sizes: tuple[int, int], seed: int = 1) -> list[TrainSequence]:
    generator = torch.Generator().manual_seed(seed)

    def draw(count: int) -> list[int]:
        return torch.randint(2, VOCAB, (count,), generator=generator).tolist()

    return [TrainSequence(prompt=draw(p), tokens=draw(n), advantage=1.0) for p, n in sizes]


SIZES = [(3, 4), (9, 1), (1, 12), (5, 5), (14, 9)]


def one_by_one(model: Any, sequences: list[TrainSequence]) -> list[torch.Tensor]:
    """What no micro-batch can get wrong: a whole forward pass for each sequence."""
    found = []
    for item in sequences:
        ids = torch.tensor([[*item.prompt, *item.tokens]])
        logits = model(input_ids=ids, use_cache=False).logits[0].log_softmax(-1)
        first = len(item.prompt) - 1
        found.append(torch.stack([logits[first + i, token] for i, token in enumerate(item.tokens)]))
    return found


def batched(
    model: Any, sequences: list[TrainSequence], *, packed: bool, most: int, chunk: int
) -> list[torch.Tensor]:
    found: dict[int, torch.Tensor] = {}
    for places in plan(sequences, most, packed=packed):
        batch = micro(sequences, places, CPU, packed=packed)
        with Packed(model, active=packed):
            said, _ = logprobs(model, batch, chunk)
        for number, place in enumerate(batch.items):
            found[place] = said[batch.segments == number]
    return [found[i] for i in range(len(sequences))]


def gradients(model: Any, said: list[torch.Tensor]) -> list[torch.Tensor]:
    weights = [torch.linspace(0.5, 2, len(x), dtype=x.dtype) for x in said]
    total = torch.stack([(x * w).sum() for x, w in zip(said, weights, strict=True)]).sum()
    return list(torch.autograd.grad(total, [p for p in model.parameters() if p.requires_grad]))


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(
    ("packed", "most", "chunk"), [(True, 40, 1000), (True, 20, 3), (False, 60, 1000), (False, 20, 5)]
)
def test_layout_batches_and_chunks_change_nothing(family: str, packed: bool, most: int, chunk: int) -> None:
    model = make_model(family)
    sequences = items(*SIZES)
    assert can_pack(model) is (family != "gemma2")  # its attention caps scores: it is trained padded
    packed = packed and can_pack(model)
    expected = one_by_one(model, sequences)
    found = batched(model, sequences, packed=packed, most=most, chunk=chunk)
    rough = 1e4 if family.startswith("gemma") else 1.0  # its norms and caps are computed in float32
    for one, other in zip(expected, found, strict=True):
        assert torch.allclose(one, other, atol=1e-10 * rough)
    for one, other in zip(gradients(model, expected), gradients(model, found), strict=True):
        assert torch.allclose(one, other, atol=1e-9 * rough, rtol=1e-5 * rough**0.25)


def test_entropy_is_that_of_the_distribution_and_has_no_gradient() -> None:
    model = make_model("llama")
    (item,) = items((4, 6))
    batch = micro([item], [0], CPU, packed=False)
    said, entropy = logprobs(model, batch, 4)
    logits = model(input_ids=batch.ids, use_cache=False).logits[0, 3:-1]
    assert torch.allclose(entropy, torch.distributions.Categorical(logits=logits).entropy())
    assert said.requires_grad
    assert not entropy.requires_grad


def test_gradient_checkpointing_changes_nothing() -> None:
    sequences = items(*SIZES)
    plain, saving = make_model("qwen3"), make_model("qwen3")
    saving.gradient_checkpointing_enable({"use_reentrant": False})
    saving.train()
    one = gradients(plain, batched(plain, sequences, packed=True, most=64, chunk=8))
    with Packed(saving, active=True):  # also while activations are computed again
        other = gradients(saving, batched(saving, sequences, packed=True, most=64, chunk=8))
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(one, other, strict=True))


def test_never_more_logits_than_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither prompt tokens nor more than ``chunk`` completion tokens reach the output layer at once."""
    model = make_model("llama")
    seen: list[int] = []
    reduce = head._reduce
    monkeypatch.setattr(
        head, "_fused_reduce", lambda x, *rest: (seen.append(x.shape[0]), reduce(x, *rest))[1]
    )
    sequences = items(*SIZES)
    batched(model, sequences, packed=True, most=1000, chunk=7)
    assert max(seen) == 7
    assert sum(seen) == sum(len(item.tokens) for item in sequences)


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=25),
    st.integers(1, 200),
    st.booleans(),
)
def test_every_sequence_goes_once_and_no_batch_is_too_large(
    sizes: list[tuple[int, int]], most: int, packed: bool
) -> None:
    sequences = items(*sizes)
    bins = plan(sequences, most, packed=packed)
    assert sorted(i for places in bins for i in places) == list(range(len(sizes)))
    for places in bins:
        lengths = [len(sequences[i]) for i in places]
        taken = sum(lengths) if packed else max(lengths) * len(lengths)
        assert taken <= most or len(places) == 1
