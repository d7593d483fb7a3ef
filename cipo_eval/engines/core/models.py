"""What the generation core must know of transformers' models, and of the devices that they are on."""

from __future__ import annotations

import inspect
from typing import Any

import torch

FAMILIES = frozenset({"gemma", "gemma2", "gemma3_text", "llama", "mistral", "qwen2", "qwen3"})
"""``model_type`` of models whose attention is known here, each tested against a loop without a cache."""

SINGLY = frozenset({"rwkv"})
"""``model_type`` of models that transformers decodes wrongly in batches: rows take up each other's states."""


class Masks:
    """What a model's new tokens see, by kind of layer."""

    def __init__(self, model: Any) -> None:
        self._model = model
        config = model.config.get_text_config()
        types = set(getattr(config, "layer_types", None) or ())
        slides = not types or "sliding_attention" in types
        self._window = getattr(config, "sliding_window", None) if slides else None
        self._types = types if len(types) > 1 else set()

    def at(self, places: torch.Tensor, reach: int) -> Any:
        """What each row's new token sees: shape (rows, 1, 1, reach), by kind of layer where there are several."""
        kept = torch.arange(reach, device=places.device)
        seen = (kept <= places[:, None])[:, None, None]
        near = seen
        if self._window is not None:
            near = seen & (kept > places[:, None] - self._window)[:, None, None]
        if self._model.config._attn_implementation == "eager":  # it adds what others choose by
            low = torch.finfo(self._model.dtype).min
            seen, near = (
                torch.zeros(mask.shape, dtype=self._model.dtype, device=mask.device).masked_fill(~mask, low)
                for mask in (seen, near)
            )
        if self._types:
            return {name: near if name == "sliding_attention" else seen for name in self._types}
        return near


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """What a causal language model makes of its decoder's output: scores of the vocabulary, shape (…, vocab)."""
    logits: torch.Tensor = model.get_output_embeddings()(hidden)
    if cap := getattr(model.config.get_text_config(), "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


def supported(model: Any) -> bool:
    """Whether the core knows a model's attention."""
    return model.config.model_type in FAMILIES


def recurrent(model: Any) -> bool:
    """Whether a model carries a state from token to token, or takes no attention mask: what is filled up on the left
    changes what it says."""
    types = getattr(model.config.get_text_config(), "layer_types", None) or ()
    return (
        bool(getattr(model, "_is_stateful", False))
        or any("attention" not in name or name == "linear_attention" for name in types)
        or "attention_mask" not in inspect.signature(model.forward).parameters
    )


def out_of_memory(error: RuntimeError) -> bool:
    """Whether this is what a device, or the system, says when there is no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def release(device: torch.device) -> None:
    """Gives memory back that nothing refers to."""
    import gc

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
