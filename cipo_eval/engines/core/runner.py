"""The model as the generation core calls it: prompts and single new tokens through the decoder, scores out of its head.

On a GPU a step's decoder is a CUDA graph (``graphs``).
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers.cache_utils import DynamicCache

from cipo_eval.engines.core.graphs import Graphs
from cipo_eval.engines.core.kv_cache import PACKED, KVCache
from cipo_eval.engines.core.models import Masks, head_logits, supported


class ModelRunner:
    """Runs a decoder-only Hugging Face model. Raises ``ValueError`` for a model of a family that is not known."""

    def __init__(self, model: Any) -> None:
        if not supported(model):
            raise ValueError(f"attention of {model.config.model_type} models is not known here")
        self.model = model
        self.device = model.device
        self.graphs = Graphs() if model.device.type == "cuda" else None
        self.prefilled = 0
        """Tokens of prompts that went through the model, padding included."""
        self._decoder = model.get_decoder()
        parameters = inspect.signature(self._decoder.forward).parameters
        self._cache_name = "cache" if "cache" in parameters else "past_key_values"
        self._masks = Masks(model)

    def prefill(self, ids: torch.Tensor, *, cache: DynamicCache, past: int = 0) -> torch.Tensor:
        """The decoder's output at each token of prompts, shape (prompts, tokens, width of the model); ``ids`` has shape
        (prompts, tokens), and ``past`` tokens of each prompt are in ``cache``, to which these are added."""
        self.prefilled += ids.numel()
        return self._forward(ids, cache, past)

    def decode(
        self, cache: KVCache, last: torch.Tensor, places: torch.Tensor, reach: int, most: int
    ) -> torch.Tensor:
        """The decoder's output for one more token of each row, shape (rows, width of the model).

        ``last`` and ``places``, shape (rows,): that token, and its place in the row's slot; ``reach``: how far slots
        are filled at the most; ``most``: slots for rows, to which a graph may fill up the rows."""

        def step(last: torch.Tensor, places: torch.Tensor, reach: int) -> torch.Tensor:
            mask = self._masks.at(places, reach)
            return self._forward(last[:, None], cache.at(places, reach), places[:, None], mask)[:, -1]

        if self.graphs:
            return self.graphs.run(step, last, places, reach, most)
        return step(last, places, reach)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Scores of the vocabulary, shape (…, vocab), for outputs of the decoder."""
        return head_logits(self.model, hidden)

    def _forward(
        self, ids: torch.Tensor, cache: Any, past: int | torch.Tensor, mask: Any = None
    ) -> torch.Tensor:
        positions = torch.arange(ids.shape[1], device=ids.device) + past
        config, usual = self.model.config, self.model.config._attn_implementation
        if mask is not None and usual == "sdpa":
            config._attn_implementation = PACKED
        try:
            hidden: torch.Tensor = self._decoder(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions.expand(ids.shape[0], -1),
                use_cache=True,
                **{self._cache_name: cache},
            ).last_hidden_state
        finally:
            config._attn_implementation = usual
        return hidden
