"""Tiny random checkpoints, saved as ordinary Hugging Face folders: any text goes in, bytes come out."""

from __future__ import annotations

from pathlib import Path

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def make_checkpoint(
    path: Path,
    *,
    chat: bool = False,
    context: int = 2048,
    seed: int = 0,
    wide: bool = False,
    endless: bool = False,
) -> Path:
    """A random Llama of about 20,000 parameters (``wide``: with heads that vLLM knows, 300,000) with a byte-level
    tokenizer (``wide``: of ASCII only, since servers hold half characters back). ``endless``: it has no end token."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    if wide:
        letters = [letter for letter in letters if letter.isascii() or letter in "ĠĊ"]  # space and line break
    special = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    vocabulary = {token: i for i, token in enumerate(special + letters)}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token=None if endless else "<|end|>",
        pad_token="<|pad|>",
        extra_special_tokens=["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"],
    )
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=128 if wide else 32,
        intermediate_size=256 if wide else 64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        eos_token_id=None if endless else 1,
        pad_token_id=0,
        bos_token_id=None,
        initializer_range=0.15 if wide else 0.3,  # confident enough that greedy and sampled outputs differ
    )
    model = LlamaForCausalLM(config)
    path.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def make_adapter(base: Path, path: Path, *, seed: int = 3) -> Path:
    """A LoRA adapter of rank 4 with random weights on a checkpoint."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    config = LoraConfig(
        r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False
    )
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(str(base)), config)
    model.save_pretrained(str(path))
    return path
