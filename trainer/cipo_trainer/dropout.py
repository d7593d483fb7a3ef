"""Training passes without the base model's dropout.

The loss compares log-probabilities of a training pass with those of the sampler, of the policy before the update and of
the reference, none of which drop anything. With dropout on, the ratios and the KL term measure its noise: at learning
rate 0 they would not be 1 and 0 (huggingface/trl#3500, #3234). ``lora.dropout`` is asked for and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

_ADAPTERS = "lora_dropout"


@contextmanager
def training(model: Any) -> Iterator[None]:
    """Has the model in training mode, its dropouts at 0; afterwards in evaluation mode, its dropouts as they were."""
    rates = list(_dropouts(model))
    for holder, name, _ in rates:
        setattr(holder, name, 0.0)
    model.train()
    try:
        yield
    finally:
        model.eval()
        for holder, name, value in rates:
            setattr(holder, name, value)


def _dropouts(model: nn.Module) -> Iterator[tuple[Any, str, float]]:
    """Holder, attribute and value of each rate above 0: of dropout modules, of modules that keep the rate for a
    functional dropout (``attention_dropout``, ``layerdrop``), and of the configurations that some read while they run.
    """
    configs: dict[int, Any] = {}
    for name, module in model.named_modules():
        if _ADAPTERS in name:
            continue
        if isinstance(module, _DropoutNd) and module.p:
            yield module, "p", module.p
        yield from _rates(module)
        for config in _with_parts(getattr(module, "config", None)):
            configs[id(config)] = config
    for config in configs.values():
        yield from _rates(config)


def _rates(holder: Any) -> Iterator[tuple[Any, str, float]]:
    for name, value in list(vars(holder).items()):
        if isinstance(value, float) and value > 0 and "drop" in name.lower():
            yield holder, name, value


def _with_parts(config: Any) -> list[Any]:
    """A configuration and those within it, such as ``text_config``."""
    if not hasattr(config, "to_dict"):
        return []
    return [config, *(part for part in vars(config).values() if hasattr(part, "to_dict"))]
