"""Twelve tiny random checkpoints: chat templates, tokenizers and architectures as they are found, in one pass.

Each is an ordinary Hugging Face folder. Vocabularies are trained on a few lines here; weights are drawn from a seed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

TEXT = (
    "What is 2+2? Go through the solution again, step by step; the answer is \\boxed{4}.",
    "system user assistant model Today is January, the knowledge was cut off in December.",
    "abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ 0123456789 .,;:!?()[]{}<>/\\|+-*=_#'\"$%&@^~`",
)
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}<|start_header_id|>system<|end_header_id|>\n\n"
    "{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}{% else %}{% set today = 'long ago' %}"
    "{% endif %}Today Date: {{ today }}\n\n{% if messages[0].role == 'system' %}{{ messages[0].content | trim }}"
    "{% endif %}<|eot_id|>{% for m in messages if m.role != 'system' %}<|start_header_id|>{{ m.role }}<|end_header_id|>"
    "\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{{ m.content.split('</think>')[-1].lstrip('\n') if m.role == 'assistant' else m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
PARTS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% for part in m.content %}{% if part.type == 'text' %}{{ part.text | trim }}{% endif %}{% endfor %}"
    "<end_of_turn>\n{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages if m.role != 'system' %}{% if m.role == 'user' %}[INST] "
    "{% if loop.last and messages[0].role == 'system' %}{{ messages[0].content }}\n\n{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ZEPHYR = (
    "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content | trim }}{{ eos_token }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
HARMONY = (
    "{% macro head() %}Knowledge cutoff: 2024-06\nCurrent date: {{ strftime_now('%Y-%m-%d') }}\n{% endmacro %}"
    "<|start|>system<|message|>{{ head() }}<|end|>{% for m in messages %}{% if m.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ m.content }}{{ '<|return|>' if loop.last else '<|end|>' }}"
    "{% else %}<|start|>{{ m.role }}<|message|>{{ m.content }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant<|channel|>final<|message|>{% endif %}"
)
ALPACA = (
    "{% for m in messages %}### {{ {'user': 'Instruction', 'assistant': 'Response'}.get(m.role, 'System') }}:\n"
    "{{ m.content }}\n\n{% endfor %}{% if add_generation_prompt %}### Response:\n{% endif %}"
)
LAST_ONLY = "{{ bos_token }}{{ messages[-1].content if messages | length > 1 }}"
"""Of a single message it leaves out everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How one of the models is made."""

    architecture: str
    template: str | None
    tokenizer: Callable[[list[str]], Any]
    special: tuple[str, ...] = ()
    end: str | None = None
    """The end token that the tokenizer names; one that only the template writes is in ``special``."""
    sizes: Mapping[str, Any] = field(default_factory=dict)
    dated: bool = False
    system: bool = True
    """The template takes a system message."""
    refused: bool = False


def byte_level(special: list[str]) -> Any:
    """As of GPT-2, Llama 3, Qwen."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.BPE())
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    found.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    )
    return found


def byte_fallback(special: list[str]) -> Any:
    """As of Llama 2, Mistral: words begin with a mark, what is unknown is spelt in bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, trainers

    found = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    found.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    found.decoder = decoders.Sequence(steps)
    known = ["<unk>", *special, *(f"<0x{byte:02X}>" for byte in range(256))]
    found.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=420, special_tokens=known))
    return found


def unigram(special: list[str]) -> Any:
    """As of T5, Gemma: pieces with probabilities."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    found = Tokenizer(models.Unigram())
    found.pre_tokenizer = pre_tokenizers.Metaspace()
    found.decoder = decoders.Metaspace()
    found.train_from_iterator(
        TEXT, trainers.UnigramTrainer(vocab_size=180, special_tokens=["<unk>", *special], unk_token="<unk>")
    )
    return found


def word_pieces(special: list[str]) -> Any:
    """As of BERT: lower case, pieces that go on with a mark."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    found = Tokenizer(models.WordPiece(unk_token="<unk>"))
    found.normalizer = normalizers.BertNormalizer()
    found.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    found.decoder = decoders.WordPiece()
    found.train_from_iterator(
        TEXT, trainers.WordPieceTrainer(vocab_size=260, special_tokens=["<unk>", *special])
    )
    return found


MODELS = {
    "llama, its headers with the date": Made(
        architecture="llama",
        template=LLAMA_3,
        tokenizer=byte_level,
        special=("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        end="<|end_of_text|>",
        dated=True,
    ),
    "qwen2, ChatML": Made(
        architecture="qwen2",
        template=CHATML,
        tokenizer=byte_level,
        special=("<|im_start|>", "<|endoftext|>"),
        end="<|im_end|>",
    ),
    "qwen3, thoughts": Made(
        architecture="qwen3",
        template=THINKING,
        tokenizer=byte_level,
        special=("<|im_start|>", "<|im_end|>"),
        end="<|endoftext|>",
        sizes={"head_dim": 8},
    ),
    "gemma, trimmed, word pieces": Made(
        architecture="gemma",
        template=ZEPHYR,
        tokenizer=word_pieces,
        special=("<|user|>", "<|assistant|>", "<|system|>"),
        end="</s>",
        sizes={"head_dim": 8},
    ),
    "gemma 2, its turns": Made(
        architecture="gemma2",
        template=GEMMA,
        tokenizer=unigram,
        special=("<bos>", "<start_of_turn>", "<end_of_turn>"),
        end="<eos>",
        sizes={"head_dim": 8, "sliding_window": 16},
        system=False,
    ),
    "gemma 3, parts": Made(
        architecture="gemma3_text",
        template=PARTS,
        tokenizer=unigram,
        special=("<bos>", "<start_of_turn>", "<end_of_turn>"),
        end="<eos>",
        sizes={"head_dim": 8, "sliding_window": 16},
    ),
    "mistral, instructions": Made(
        architecture="mistral",
        template=MISTRAL,
        tokenizer=byte_fallback,
        special=("<s>", "[INST]", "[/INST]"),
        end="</s>",
        sizes={"sliding_window": 32},
    ),
    "gpt2, no template": Made(
        architecture="gpt2",
        template=None,
        tokenizer=byte_level,
        end="<|endoftext|>",
        sizes={"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 512},
    ),
    "gpt_neox, an end that is none": Made(
        architecture="gpt_neox", template=ALPACA, tokenizer=byte_level, special=("<|pad|>",)
    ),
    "olmo2, a macro with the date": Made(
        architecture="olmo2",
        template=HARMONY,
        tokenizer=unigram,
        special=("<|start|>", "<|message|>", "<|end|>", "<|channel|>", "<|return|>"),
        end="<|endoftext|>",
        dated=True,
    ),
    "bloom, no template, bytes": Made(
        architecture="bloom",
        template=None,
        tokenizer=byte_fallback,
        end="</s>",
        sizes={"n_layer": 2, "n_head": 4},
    ),
    "llama, a question left out": Made(
        architecture="llama",
        template=LAST_ONLY,
        tokenizer=word_pieces,
        special=("<s>",),
        end="</s>",
        refused=True,
    ),
}


def make(folder: Path, made: Made) -> Path:
    """Writes one of them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    special = [*made.special, *([made.end] if made.end else [])]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=made.tokenizer(special),
        bos_token=special[0] if made.special else None,
        eos_token=made.end,
        extra_special_tokens=special,
    )
    tokenizer.chat_template = made.template
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "initializer_range": 0.3,
        **made.sizes,
    }
    ends = {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": None, "pad_token_id": None}
    torch.manual_seed(0)
    config = AutoConfig.for_model(made.architecture, vocab_size=len(tokenizer), **sizes, **ends)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def day(when: datetime) -> type[datetime]:
    """A ``datetime`` whose now is then, to stand in a module's place of it."""

    class Then(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return when.astimezone(tz)

    return Then
