"""The model that is to be run: a size by name, or what a checkpoint's files say of it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cipo_eval.engines.checkpoint_files import check_config, read_object, safetensors_header
from cipo_eval.errors import UsageError
from cipo_eval.estimate.constants import Constants, ModelShape

_SIZE = re.compile(r"(\d+(?:\.\d+)?)([bm])", re.IGNORECASE)
_BYTES = {"float32": 4.0, "float64": 8.0}
"""Of a weight, by its type; of all others 2, since quantised ones are read as such by few engines."""
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")


def shape_of(model: str, constants: Constants) -> ModelShape:
    """The shape of ``--model``. Raises ``UsageError`` for what is neither a size nor a folder of a dense model."""
    if match := _SIZE.fullmatch(model.strip()):
        return _sized(model, float(match[1]) * (1e9 if match[2].lower() == "b" else 1e6), constants)
    folder = Path(model)
    if (folder / "config.json").is_file():
        return _of_folder(folder)
    if (folder / "adapter_config.json").is_file():
        base = read_object(folder / "adapter_config.json").get("base_model_name_or_path")
        if base and (Path(str(base)) / "config.json").is_file():
            return _of_folder(Path(str(base)))
    raise UsageError(
        f"--model {model or repr(model)}: a size such as 4B or 0.5B, or the folder of a checkpoint with its config.json"
    )


def _sized(name: str, parameters: float, constants: Constants) -> ModelShape:
    """That of the model nearest in size, with as many parameters as the name says where it is another."""
    if not 1e6 <= parameters <= 1e12:
        raise UsageError(f"--model {name}: sizes go from 1M to 1000B")
    known = {key.lower(): shape for key, shape in constants.sizes.items()}
    if name.strip().lower() in known:
        return known[name.strip().lower()]
    near = min(constants.sizes.values(), key=lambda shape: abs(math.log(shape.parameters / parameters)))
    ratio = parameters / near.parameters
    layers = max(1, round(near.layers * ratio ** (1 / 3)))
    return near.model_copy(
        update={
            "parameters": parameters,
            "multiplied": near.multiplied * ratio,
            "layers": layers,
            "source": f"scaled from {near.source}",
        }
    )


def _of_folder(folder: Path) -> ModelShape:
    config = read_object(folder / "config.json")
    check_config(str(folder), config)
    text: Mapping[str, Any] = config.get("text_config") or config
    if any(isinstance(text.get(name), int) and text[name] > 1 for name in _EXPERTS):
        raise UsageError(
            f"{folder} is a mixture of experts, which the model of time does not know: give the size of what a token "
            "passes through (--model 3B), and expect its memory to be more"
        )
    try:
        hidden, layers, heads = (
            int(text[name]) for name in ("hidden_size", "num_hidden_layers", "num_attention_heads")
        )
        head_dim = int(text.get("head_dim") or hidden // heads)
        key_value_heads = int(text.get("num_key_value_heads") or heads)
        embedding = int(text["vocab_size"]) * hidden
        inner = int(text.get("intermediate_size") or 4 * hidden)
        projections = hidden * head_dim * (2 * heads + 2 * key_value_heads)
        tied = bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings", True)))
        counted = layers * (projections + 3 * hidden * inner) + embedding * (1 if tied else 2)
        parameters = _stored_parameters(folder) or counted
        return ModelShape(
            parameters=parameters,
            multiplied=parameters if tied else parameters - embedding,
            layers=layers,
            heads=heads,
            key_value_heads=key_value_heads,
            head_dim=head_dim,
            weight_bytes=_BYTES.get(str(text.get("dtype") or text.get("torch_dtype")), 2.0),
            source=f"config.json of {folder}",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise UsageError(
            f"config.json of {folder} does not say how the model is made ({type(error).__name__}: {error}): give its "
            "size, such as --model 8B"
        ) from error


def _stored_parameters(folder: Path) -> float | None:
    """As many as the headers of the weights list; None where there are none at hand."""
    files = sorted(folder.glob("*.safetensors"))
    try:
        tensors = [tensor for file in files for tensor in safetensors_header(file).values()]
        return float(sum(math.prod(tensor["shape"]) for tensor in tensors)) or None
    except (UsageError, KeyError, TypeError, json.JSONDecodeError):
        return None  # a download under way; the configuration says enough
