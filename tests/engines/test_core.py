"""The generation core: what a sample is depends on prompt, sampling and seed; the cache changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import mostly_slow
from scipy import stats

from cipo_eval.engines.core.loop import Core
from cipo_eval.engines.core.models import FAMILIES, supported
from cipo_eval.engines.core.plain import Plain
from cipo_eval.engines.core.request import GenOutput, GenRequest
from cipo_eval.engines.core.sampler import RandomStream, filtered, sample_tokens
from cipo_eval.records import Sampling

GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=0)
SAMPLED = replace(GREEDY, temperature=1.0)
VOCAB, END = 97, 1
SLIDING = {"mistral", "gemma2", "gemma3_text"}


def make_model(family: str, **more: Any) -> Any:
    """A random model of a family, confident enough that its choices differ; windows of 12 tokens where it has them."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
        "bos_token_id": None,
        "eos_token_id": END,
        "pad_token_id": 0,
        **({"sliding_window": 12} if family in SLIDING else {}),
        **more,
    }
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes)).eval()


@pytest.fixture(scope="module")
def model() -> Any:
    return make_model("llama")


def run(core: Core | Plain, asks: Iterable[GenRequest]) -> dict[tuple[int, int], GenOutput]:
    """By position of the ask, and of the seed."""
    asks = list(asks)
    feed = [asks]
    found = {}
    for sample in core.run(lambda _wait: feed.pop() if feed else []):
        key = asks.index(sample.request), sample.number
        assert key not in found
        found[key] = sample
    assert len(found) == sum(len(ask.seeds) for ask in asks)
    return found


def prompts(*lengths: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(2, VOCAB, (length,), generator=generator).tolist() for length in lengths]


def without_cache(model: Any, prompt: Sequence[int], count: int, end: int | None = END) -> list[int]:
    ids = list(prompt)
    with torch.inference_mode():
        for _ in range(count):
            ids.append(int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
            if ids[-1] == end:
                break
    return ids[len(prompt) :]


def taught(model: Any, sample: GenOutput) -> list[float]:
    """Log-probabilities of a sample's tokens, all at once."""
    ids = torch.tensor([[*sample.request.prompt, *sample.tokens]])
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0].float().log_softmax(-1)
    first = len(sample.request.prompt) - 1
    return [float(logits[first + i, token]) for i, token in enumerate(sample.tokens)]


@pytest.mark.parametrize("family", mostly_slow([*sorted(FAMILIES), "qwen2 sliding"], 3))
def test_greedy_is_a_loop_without_a_cache(family: str) -> None:
    """Prompts of one token to several windows, more samples than slots, some of them longer than others."""
    name, _, sliding = family.partition(" ")
    more = {"use_sliding_window": True, "sliding_window": 12, "max_window_layers": 1} if sliding else {}
    model = make_model(name, **more)
    core = Core(model, ends=[END], tokens=800, rows=3)
    asks = [
        GenRequest(prompt=prompt, seeds=[1, 2], sampling=GREEDY, max_new=6 + 4 * i)
        for i, prompt in enumerate(prompts(1, 5, 17, 30, 3, 64))
    ]
    found = run(core, asks)
    assert core.width == 3
    expected = [without_cache(model, ask.prompt, ask.max_new) for ask in asks]
    for (at, _), sample in found.items():
        assert list(sample.tokens) == expected[at]
        assert sample.logprobs == pytest.approx(taught(model, sample), abs=1e-5)
        assert sample.finish_reason == ("stop" if sample.tokens[-1] == END else "length")


def test_other_families_are_known_to_be_unknown() -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("gpt2", n_embd=32, n_layer=2, n_head=4, vocab_size=VOCAB, n_positions=64)
    model = AutoModelForCausalLM.from_config(config).eval()
    assert not supported(model)
    with pytest.raises(ValueError, match="gpt2"):
        Core(model, ends=[END], tokens=100)
    plain = Plain(model, ends=[END], pad=0, tokens=10_000)
    asks = [GenRequest(prompt=p, seeds=[1, 2], sampling=GREEDY, max_new=9) for p in prompts(4, 9)]
    for sample in run(plain, asks).values():
        assert list(sample.tokens) == without_cache(model, sample.request.prompt, 9)
        assert sample.logprobs == pytest.approx(taught(model, sample), abs=1e-4)


def test_the_core_draws_what_model_generate_draws(model: Any) -> None:
    sampling = replace(SAMPLED, top_p=0.9, top_k=20, min_p=0.01)
    asks = [GenRequest(prompt=p, seeds=range(5), sampling=sampling, max_new=12) for p in prompts(4, 9, 20)]
    core = run(Core(model, ends=[END], tokens=4000, rows=4), asks)
    plain = run(Plain(model, ends=[END], pad=0, tokens=4000), asks)
    assert {key: s.tokens for key, s in core.items()} == {key: s.tokens for key, s in plain.items()}
    for key, sample in core.items():
        assert sample.logprobs == pytest.approx(plain[key].logprobs, abs=1e-4)


mixes = st.lists(
    st.tuples(
        st.integers(1, 40),  # length of the prompt
        st.sampled_from([1, 2, 7, 64]),  # samples
        st.integers(0, 12),  # new tokens
        st.sampled_from([0.0, 0.7, 1.0]),
        st.booleans(),  # ends at every token below 20
    ),
    min_size=1,
    max_size=4,
)


@pytest.mark.slow
@settings(max_examples=10)
@given(mix=mixes, rows=st.integers(1, 9), order=st.randoms(use_true_random=False))
def test_samples_do_not_depend_on_what_runs_beside_them(model: Any, mix: Any, rows: int, order: Any) -> None:
    """Any mix of lengths and samples, in any order, in any number of slots, equals each prompt alone."""

    def cut(tokens: Sequence[int]) -> tuple[int, str] | None:
        return (len(tokens) - 1, "cut") if tokens[-1] < 20 else None

    asks = [
        GenRequest(
            prompt=prompt,
            seeds=range(100 * i, 100 * i + count),
            sampling=replace(SAMPLED, temperature=temperature),
            max_new=new,
            cut=cut if cuts else None,
            first=order.random() < 0.5,
        )
        for i, (prompt, (_, count, new, temperature, cuts)) in enumerate(
            zip(prompts(*(length for length, *_ in mix)), mix, strict=True)
        )
    ]
    shuffled = list(asks)
    order.shuffle(shuffled)
    together = run(Core(model, ends=[END], tokens=10_000, rows=rows), shuffled)
    for (at, number), sample in together.items():
        assert sample.note == (
            "cut"
            if sample.request.cut and sample.finish_reason == "stop" and END not in sample.tokens
            else None
        )
        assert len(sample.tokens) <= max(0, sample.request.max_new)
        if number < 2:
            seed = shuffled[at].seeds[number]
            alone = run(Core(model, ends=[END], tokens=10_000, rows=1), [replace(shuffled[at], seeds=[seed])])
            assert alone[0, 0].tokens == sample.tokens
            assert alone[0, 0].logprobs == pytest.approx(sample.logprobs, abs=1e-4)


def test_a_prompt_goes_through_the_model_once(model: Any) -> None:
    core = Core(model, ends=[END], tokens=100_000, rows=5)
    (prompt,) = prompts(40)
    run(core, [GenRequest(prompt=prompt, seeds=range(23), sampling=SAMPLED, max_new=9)])
    assert core.prefilled - 1 == 40  # one for the sizes of the cache


def test_a_conversation_keeps_its_prefix(model: Any) -> None:
    """The next turn comes while others are under way; of its prompt only what is new goes through the model."""
    core = Core(model, ends=[], tokens=100_000, rows=4)
    first, other, said = prompts(40, 40, 7)
    asks = [
        GenRequest(prompt=p, seeds=[1, 2], sampling=SAMPLED, max_new=20, keep=True) for p in (first, other)
    ]
    waiting, found = [asks], {}

    def follow(sample: GenOutput) -> GenRequest:
        prompt = [*sample.request.prompt, *sample.tokens, *said]
        return GenRequest(prompt=prompt, seeds=[sample.number], sampling=SAMPLED, max_new=6, first=True)

    for sample in core.run(lambda _wait: waiting.pop() if waiting else []):
        if sample.request in asks:
            waiting.append([follow(sample)])
        else:
            found[tuple(sample.request.prompt)] = sample
    # of each second turn: the last token of the first (it was never fed), and what was said
    assert core.prefilled - 1 == 40 + 40 + 4 * (1 + len(said))
    assert len(found) == 4
    for prompt, sample in found.items():
        alone = run(
            Core(model, ends=[], tokens=100_000, rows=1), [replace(sample.request, prompt=list(prompt))]
        )
        assert alone[0, 0].tokens == sample.tokens
        assert sample.logprobs == pytest.approx(taught(model, sample), abs=1e-5)


def test_prompts_that_begin_alike(model: Any) -> None:
    """As under a system prompt: the first ones go through the model side by side, later ones from what they share."""
    head, *tails = prompts(30, *range(1, 13))
    core = Core(model, ends=[END], tokens=100_000, rows=4)
    asks = [GenRequest(prompt=[*head, *tail], seeds=[1, 2], sampling=GREEDY, max_new=6) for tail in tails]
    for sample in run(core, asks).values():
        assert list(sample.tokens) == without_cache(model, sample.request.prompt, 6)
        assert sample.logprobs == pytest.approx(taught(model, sample), abs=1e-5)
    assert core.prefilled < sum(len(ask.prompt) for ask in asks) / 2


def test_longer_samples_get_longer_slots(model: Any) -> None:
    """A prompt that comes later and does not fit waits until the slots can be made anew."""
    core = Core(model, ends=[], tokens=1000, rows=8)
    short, long = prompts(10, 150)
    asks = [
        GenRequest(prompt=short, seeds=[1, 2, 3], sampling=GREEDY, max_new=20),
        GenRequest(prompt=long, seeds=[4], sampling=GREEDY, max_new=60),
    ]
    waiting = [[asks[1]], [asks[0]]]
    found = list(core.run(lambda _wait: waiting.pop() if waiting else []))
    assert [len(s.tokens) for s in found] == [20, 20, 20, 60]
    assert list(found[-1].tokens) == without_cache(model, long, 60, None)
    assert core.width == 3  # 1000 tokens, a quarter for prompts, 256 in a slot


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Core, Plain])
def test_out_of_memory_halves_the_slots_and_loses_nothing(
    model: Any, kind: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = [GenRequest(prompt=p, seeds=range(6), sampling=SAMPLED, max_new=9) for p in prompts(4, 9, 20)]
    more = {"pad": 0} if kind is Plain else {}
    expected = run(kind(model, ends=[END], tokens=10_000, **more), asks)
    decoder, sizes = model.get_decoder(), []
    forward = decoder.forward

    def limited(*args: Any, **kwargs: Any) -> Any:
        rows = kwargs["input_ids"].shape[0]
        sizes.append(rows)
        if rows > 3:
            raise torch.OutOfMemoryError("more than three rows")
        return forward(*args, **kwargs)

    # a signature of its own: the core looks at what the decoder calls its cache
    monkeypatch.setattr(decoder, "forward", functools.wraps(forward)(limited))
    found = run(kind(model, ends=[END], tokens=10_000, **more), asks)
    assert max(sizes) > 3
    assert {key: s.tokens for key, s in found.items()} == {key: s.tokens for key, s in expected.items()}

    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("none")

    monkeypatch.setattr(decoder, "forward", functools.wraps(forward)(never))
    with pytest.raises(torch.OutOfMemoryError):
        run(kind(model, ends=[END], tokens=10_000, **more), asks)


@pytest.mark.parametrize("burst", [2, 7, 50])
def test_looking_seldom_changes_nothing(model: Any, burst: int) -> None:
    """Several steps between two looks, as on a GPU: ends, stops, conversations and refills are what they are."""

    def stops(tokens: Sequence[int]) -> tuple[int, str] | None:
        return (len(tokens) - 1, "note") if tokens[-1] % 9 == 4 else None

    asks = [
        GenRequest(
            prompt=p,
            seeds=range(5),
            sampling=(SAMPLED, GREEDY)[i % 2],
            max_new=3 + 9 * i,
            cut=(None, stops)[i // 2 % 2],
            keep=True,
        )
        for i, p in enumerate(prompts(4, 19, 33, 7, 25))
    ]
    often = run(Core(model, ends=[END], tokens=1500), asks)
    seldom = run(Core(model, ends=[END], tokens=1500, burst=burst), asks)
    assert often.keys() == seldom.keys()
    for key, sample in often.items():
        other = seldom[key]
        assert (sample.tokens, sample.finish_reason, sample.note) == (
            other.tokens,
            other.finish_reason,
            other.note,
        )
        assert sample.logprobs == pytest.approx(other.logprobs, abs=1e-5)


def test_new_weights_are_used_at_once() -> None:
    model, other = make_model("llama"), make_model("llama")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(1.1)
    core = Core(model, ends=[END], tokens=4000)
    ask = GenRequest(prompt=prompts(9)[0], seeds=[1], sampling=GREEDY, max_new=20)
    before = run(core, [ask])[0, 0]
    core.update_weights(other.state_dict())
    after = run(core, [ask])[0, 0]
    assert after.logprobs != before.logprobs
    assert list(after.tokens) == without_cache(other, ask.prompt, 20)


# --- drawing -------------------------------------------------------------------------------------------------


def test_streams_are_those_of_their_seeds() -> None:
    stream = RandomStream(7)
    expected = np.random.Generator(np.random.Philox(key=7)).random(500)
    assert [stream.next() for _ in range(500)] == expected.tolist()


@pytest.mark.parametrize(
    "sampling",
    [
        SAMPLED,
        replace(SAMPLED, temperature=0.6, top_p=0.95),
        replace(SAMPLED, top_k=5),
        replace(SAMPLED, temperature=1.5, top_p=0.7, top_k=40, min_p=0.02),
    ],
)
@pytest.mark.parametrize(
    "vocab", [5, pytest.param(300, marks=pytest.mark.slow), pytest.param(1000, marks=pytest.mark.exhaustive)]
)
def test_draws_follow_the_distribution(sampling: Sampling, vocab: int) -> None:
    """χ² of 20,000 draws against the exact probabilities; nothing that is filtered out is drawn."""
    count = 20_000
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(vocab)) * 2
    exact = filtered(logits / sampling.temperature, sampling).softmax(-1)[0].double().numpy()
    numbers = np.random.default_rng(3).random(count).tolist()
    drawn, said = sample_tokens(logits.expand(count, -1), sampling, numbers)
    counts = np.bincount(drawn.numpy(), minlength=vocab)
    assert not counts[exact == 0].any()
    assert said.numpy() == pytest.approx(logits.log_softmax(-1)[0, drawn].numpy(), abs=1e-5)
    expected = exact * count
    likely = expected >= 5
    seen = np.append(counts[likely], counts[~likely].sum())
    wanted = np.append(expected[likely], expected[~likely].sum())
    keep = wanted > 0
    assert stats.chisquare(seen[keep], wanted[keep] * seen[keep].sum() / wanted[keep].sum()).pvalue > 1e-4


@given(seed=st.integers(0, 10**6), vocab=st.integers(2, 700), number=st.floats(0, 1, exclude_max=True))
def test_a_draw_is_where_the_cumulative_probability_passes_it(seed: int, vocab: int, number: float) -> None:
    logits = torch.randn(1, vocab, generator=torch.Generator().manual_seed(seed)) * 3
    drawn = int(sample_tokens(logits, SAMPLED, [number])[0])
    cumulative = logits[0].double().softmax(-1).cumsum(-1)
    assert (float(cumulative[drawn - 1]) if drawn else 0.0) <= number + 1e-5
    assert number <= float(cumulative[drawn]) + 1e-5


@given(
    seed=st.integers(0, 10**6),
    top_p=st.floats(0.05, 0.999),
    top_k=st.integers(0, 50),
    min_p=st.sampled_from([0.0, 0.05, 0.3]),
    scale=st.sampled_from([0.1, 1.0, 5.0]),
)
def test_filters_are_those_of_transformers(
    seed: int, top_p: float, top_k: int, min_p: float, scale: float
) -> None:
    """A nucleus within the first candidates, and a flat distribution that needs all of them."""
    from transformers.generation import logits_process as lp

    scores = torch.randn(3, 400, generator=torch.Generator().manual_seed(seed)) * scale
    expected = scores
    for warper in (
        *([lp.TopKLogitsWarper(top_k)] if top_k else []),
        lp.TopPLogitsWarper(top_p),
        *([lp.MinPLogitsWarper(min_p)] if min_p else []),
    ):
        expected = warper(None, expected)
    found = filtered(scores, replace(SAMPLED, top_p=top_p, top_k=top_k, min_p=min_p))
    differing = (found.isinf() != expected.isinf()).sum(-1)
    assert int(differing.max()) <= 1  # the edge of a nucleus is a sum, which may round otherwise
    assert bool((~found.isinf()).any(-1).all())
