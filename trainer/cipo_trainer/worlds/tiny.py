"""What the families' tokenizers and models have in common: special tokens, and a tiny Llama with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from cipo_eval.records import derive_seed
from cipo_trainer.config import Shape

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


def word_tokenizer(words: Mapping[str, int], pieces: str, *, context: int) -> PreTrainedTokenizerFast:
    """A token for each word; ``pieces``: a pattern that each word of a text matches, the rest is dropped."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers

    core = Tokenizer(models.WordLevel(dict(words), unk_token=SPECIAL["unk_token"]))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pieces), behavior="removed", invert=True)
    return fast_tokenizer(core, context)


def tiny_llama(tokenizer: PreTrainedTokenizerFast, world: str, seed: int, shape: Shape) -> LlamaForCausalLM:
    """Tied embeddings, the tokenizer's vocabulary and context; float32, CPU. Weights depend on ``world``, ``seed`` and
    ``shape`` alone.
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
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads,
        max_position_embeddings=tokenizer.model_max_length,
        tie_word_embeddings=True,
        **special,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(world, "weights", seed))
        model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(**special)  # type: ignore[no-untyped-call]  # likewise
    return model
