"""What the worlds' tokenizers and models have in common: special tokens, and a tiny Llama with random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cipo_eval.records import derive_seed

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast


SPECIAL = {"pad_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>"}


def fast_tokenizer(core: Tokenizer, context: int) -> PreTrainedTokenizerFast:
    """For transformers, with the special tokens; adds nothing at the ends of a text. ``context`` in tokens."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        tokenizer_object=core,
        **SPECIAL,
        clean_up_tokenization_spaces=False,
        model_max_length=context,
        padding_side="left",
    )


def tiny_llama(
    tokenizer: PreTrainedTokenizerFast, world: str, seed: int, *, hidden: int, inner: int, heads: int
) -> LlamaForCausalLM:
    """Two layers, tied embeddings, the tokenizer's vocabulary and context; float32, CPU. Weights depend on ``world``
    and ``seed`` alone.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    special = {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=inner,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(world, "weights", seed))
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)  # type: ignore[no-untyped-call]  # likewise
    return model
