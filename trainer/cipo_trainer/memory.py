"""What a training takes of a device's memory, from its configuration alone: bytes by part, and in which phase.

A step has two phases. While it samples, the engine's weights and caches stand beside what stays (weights, masters,
moments, the reference). While it trains, the engine has given its memory back, and gradients, activations and a chunk
of logits are there. The peak is the larger one. How activations are counted is written at ``_layer``; a test compares
the sums with what a training on the CPU allocates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cipo_eval.engines.checkpoint_files import read_object
from cipo_eval.engines.hub import look_at_hub
from cipo_eval.errors import UsageError
from cipo_eval.settings import Section, read_yaml
from cipo_trainer.config import Config
from cipo_trainer.sections import config_dir
from cipo_trainer.worlds.registry import NEW, new_model

RECOMPUTED_FROM = 1_000_000_000
"""Parameters from which on activations are computed again, where the configuration does not say (``policy.LARGE``)."""
MOMENT_BYTES = {"float32": 8.0, "8bit": 2 * (1 + 4 / 256)}
"""Bytes of AdamW's moments for a trained parameter: two numbers, in 8 bits with a scale for every 256 of them."""
LOGIT_BYTES = {2: 19.0, 4: 21.0}
"""Bytes of each logit of a chunk, by the bytes of the model's type: itself, and float32 copies until its gradient."""
CONTEXT_BYTES = 1.5e9
"""Bytes of a GPU that the driver, libraries and fragmentation take: assumed, not measured."""
VLLM_SHARE = 0.9
"""vLLM's own default of gpu_memory_utilization."""
CACHE_SHARE = 0.6
"""hf: share of a GPU's free memory that keys and values may fill (``engines.hf``)."""


class Architecture(Section):
    """A decoder-only transformer, as far as its memory depends on it."""

    family: str = "llama"
    """The ``model_type`` of its ``config.json``."""
    vocab: int
    """Rows of the embedding."""
    hidden: int
    """Width of the residual stream."""
    layers: int
    heads: int
    """Query heads."""
    key_value_heads: int
    head_dim: int
    """Width of a head."""
    inner: int
    """Width of the feed-forward layers."""
    tied: bool
    """Input and output embedding are one matrix."""
    context: int | None = None
    """Tokens of the longest sequence; None: not known."""
    source: str = ""
    """Where these figures come from."""

    @property
    def normed_heads(self) -> bool:
        """Queries and keys have norms of their own."""
        return self.family in ("qwen3", "gemma3", "olmo2")

    @property
    def query(self) -> int:
        """Width of all queries."""
        return self.heads * self.head_dim

    @property
    def key_value(self) -> int:
        """Width of all keys, and of all values."""
        return self.key_value_heads * self.head_dim

    @property
    def layer_matrices(self) -> int:
        """Parameters of a layer's seven matrices."""
        return self.hidden * (2 * self.query + 2 * self.key_value) + 3 * self.hidden * self.inner

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        small = 2 * self.hidden + (2 * self.head_dim if self.normed_heads else 0)
        small += self.query + 2 * self.key_value if self.family == "qwen2" else 0  # biases
        embeddings = self.vocab * self.hidden * (1 if self.tied else 2)
        return self.layers * (self.layer_matrices + small) + embeddings + self.hidden

    @property
    def multiplied(self) -> int:
        """Parameters that every token is multiplied with: all but an input embedding of its own (not ``tied``)."""
        return self.parameters - (0 if self.tied else self.vocab * self.hidden)

    def adapters(self, rank: int) -> int:
        """Parameters of adapters on all matrices of all layers."""
        ends = [
            (self.hidden, self.query),
            (self.hidden, self.key_value),
            (self.hidden, self.key_value),
            (self.query, self.hidden),
            *[(self.hidden, self.inner)] * 3,
        ]
        return self.layers * rank * sum(a + b for a, b in ends)


def architecture_of(config: Config) -> Architecture:
    """The shape of the model that a configuration starts from.

    From the folder, the hub's cache, or the table of known models. Raises ``UsageError`` where none of them has it, and
    for a model of another kind.
    """
    if config.model.startswith(NEW):
        return _new(config)
    folder = Path(config.model)
    known = read_yaml(config_dir() / "models" / "known.yaml")
    if not folder.is_dir() and config.model in known:
        return Architecture(**known[config.model], source="trainer/configs/models/known.yaml")
    if not folder.is_dir():
        folder = _from_hub(config, known)
    if not (folder / "config.json").is_file() and (folder / "adapter_config.json").is_file():
        base = str(read_object(folder / "adapter_config.json").get("base_model_name_or_path"))
        return architecture_of(config.model_copy(update={"model": base}))
    return of_config(read_object(folder / "config.json"), str(folder))


def _from_hub(config: Config, known: Mapping[str, Any]) -> Path:
    """A folder with the configuration of a model that the hub, or its cache, has."""
    try:
        folder = look_at_hub(config.model, config.revision)
        if folder is not None:
            return folder
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(config.model, "config.json", revision=config.revision)).parent
    except Exception as error:  # the hub library raises many kinds
        raise UsageError(
            f"--plan: {config.model} is not here, and none of the known models ({', '.join(known)}): "
            "give a folder with its config.json as model="
        ) from error


def of_config(values: Mapping[str, Any], source: str) -> Architecture:
    """The shape that a ``config.json`` describes. Raises ``UsageError`` for one of another kind."""
    text: Mapping[str, Any] = values.get("text_config") or values
    if any(isinstance(n, int) and n > 1 for n in map(text.get, ("num_experts", "num_local_experts"))):
        raise UsageError(f"--plan: {source} is a mixture of experts, which is not planned here")
    try:
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        return Architecture(
            family=str(values.get("model_type", "llama")),
            vocab=text["vocab_size"],
            hidden=hidden,
            layers=text["num_hidden_layers"],
            heads=heads,
            key_value_heads=text.get("num_key_value_heads") or heads,
            head_dim=text.get("head_dim") or hidden // heads,
            inner=text.get("intermediate_size") or 4 * hidden,
            tied=bool(values.get("tie_word_embeddings", text.get("tie_word_embeddings", True))),
            context=text.get("max_position_embeddings"),
            source=f"config.json of {source}",
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError, ValidationError) as error:
        raise UsageError(
            f"--plan: config.json of {source} does not say how the model is made: {error}"
        ) from error


def _new(config: Config) -> Architecture:
    made = new_model(config)
    shape = config.shape or made.shape
    return Architecture(
        vocab=len(made.build_tokenizer()),
        hidden=shape.hidden,
        layers=shape.layers,
        heads=shape.heads,
        key_value_heads=shape.heads,
        head_dim=shape.hidden // shape.heads,
        inner=shape.inner,
        tied=True,
        source=f"the shape of {config.model}",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Bytes that each rank takes of its device, by part (weights, masters, moments, …)."""

    architecture: Architecture
    stays: Mapping[str, float]
    """What is there in both phases."""
    trains: Mapping[str, float]
    """What is there only while the weights are updated."""
    samples: Mapping[str, float]
    """What is there only while attempts are generated."""
    host: Mapping[str, float]
    """What is in the host's memory, in either phase."""

    @property
    def training(self) -> float:
        """Bytes of the device in the training phase."""
        return sum(self.stays.values()) + sum(self.trains.values())

    @property
    def sampling(self) -> float:
        """Bytes of the device in the phase that samples."""
        return sum(self.stays.values()) + sum(self.samples.values())

    @property
    def peak(self) -> float:
        """Bytes of the device in the larger phase."""
        return max(self.training, self.sampling)


def planned(config: Config, *, device_bytes: float | None, ranks: int = 1, prompt: int = 256) -> Memory:
    """What a training takes of each device.

    ``device_bytes``: of a GPU; None: of a CPU, where the model computes in float32. ``ranks``: processes; in parts
    (``parallel``) each has its share of masters, gradients and moments, and whole weights that generate. ``prompt``:
    tokens of a prompt, for the caches. Raises what ``architecture_of`` raises.
    """
    shape, options = architecture_of(config), config.optimizer
    gpu = device_bytes is not None
    width = {"float32": 4, "bfloat16": 2}.get(options.dtype, 2 if gpu else 4)
    large = gpu and shape.parameters >= RECOMPUTED_FROM
    parallel = config.parallel
    if parallel == "auto":  # as ``policy`` chooses
        whole = config.lora or config.undivided or options.moments != "float32"
        parallel = "fsdp" if large and not whole else "ddp"
    sharded = ranks > 1 and parallel == "fsdp"
    parts = ranks if sharded else 1
    trained = shape.adapters(config.lora.rank) if config.lora else shape.parameters
    apart = sharded or (width == 2 and config.lora is None)
    stays = {
        "weights": float(shape.parameters * width),
        "adapters": 4.0 * trained if config.lora else 0.0,
        "float32 masters": 4.0 * trained / parts if apart else 0.0,
        "moments of AdamW": MOMENT_BYTES[options.moments] * trained / parts,
        "reference": float(shape.parameters * width) if config.referred and config.lora is None else 0.0,
        "teacher in float32": 4.0 * trained if config.follows and width == 2 else 0.0,
        "context": CONTEXT_BYTES if gpu else 0.0,
    }
    trains = {"gradients": 4.0 * trained / parts, **_passes(config, shape, width, gpu=gpu)}
    copied = 4.0 * trained / parts if config.stream is not None and options.stream_norms else 0.0
    if sharded:
        ends = shape.vocab * shape.hidden * (1 if shape.tied else 2)
        trains["parts put together"] = float((2 * shape.layer_matrices + ends) * width)
        trains["gradients of the first stream"] = copied
    host = {} if sharded else {"gradients of the first stream": copied}
    samples: dict[str, float] = {}
    if config.algorithm != "sft":
        samples, more = _engine(config, shape, width, prompt, device_bytes, sum(stays.values()))
        host |= more
    return Memory(
        architecture=shape,
        stays={name: size for name, size in stays.items() if size},
        trains={name: size for name, size in trains.items() if size},
        samples=samples,
        host={name: size for name, size in host.items() if size},
    )


def _passes(config: Config, shape: Architecture, width: int, *, gpu: bool) -> dict[str, float]:
    """Activations and logits of a micro-batch, forward and backward."""
    options = config.optimizer
    tokens = max(options.micro_tokens, 1)
    again = options.checkpointing
    if again is None:
        again = gpu and shape.parameters >= RECOMPUTED_FROM
    layer = _layer(shape, width)
    head = 4.0 * tokens * shape.hidden * width + (
        0.0 if config.lora else float(shape.vocab * shape.hidden) * (4 if width == 4 else 6)
    )
    chunk = min(options.chunk, tokens) * shape.vocab * LOGIT_BYTES[width]
    if again:
        back = tokens * (layer + (2 * shape.inner + shape.hidden) * width)
        kept = float(shape.layers * tokens * shape.hidden * width)
        return {"activations": kept + max(0.0, back - head - chunk), "output layer": head, "logits": chunk}
    return {"activations": shape.layers * tokens * layer, "output layer": head, "logits": chunk}


def _layer(shape: Architecture, width: int) -> float:
    """Bytes that a layer keeps of a token for its backward pass.

    Two residuals with the outputs of their norms and the sum (5 hidden); queries before and after their rotation, and
    what attention gives (3 query); keys and values (one width of both); gate, up, its activation and the product
    (4 inner); norms of queries and keys keep theirs in and out. In 16 bits the norms keep a float32 of the hidden size.
    """
    kept = 5 * shape.hidden + 3 * shape.query + 2 * shape.key_value + 4 * shape.inner
    if shape.normed_heads:
        kept += 2 * (shape.query + shape.key_value)
    return float(kept * width + (4 * shape.hidden if width == 2 else 0))


def _engine(
    config: Config, shape: Architecture, width: int, prompt: int, device: float | None, stays: float
) -> tuple[dict[str, float], dict[str, float]]:
    """What the engine takes of the device and of the host."""
    rollout = config.rollout
    token = 2.0 * shape.layers * shape.key_value * width
    if rollout.engine == "vllm_server":  # its memory is other devices'
        return {}, {}
    if rollout.engine == "vllm":
        share = float(rollout.engine_args.get("gpu_memory_utilization", VLLM_SHARE))
        weights = float(shape.parameters * width)
        size = max(weights, share * (device or 0.0))
        parts = {"vLLM: weights": weights, "vLLM: keys and values": size - weights}
        return parts, {"vLLM's weights while it sleeps": weights}
    if rollout.batch_tokens:
        return {"keys and values": rollout.batch_tokens * token}, {}
    if device is None:
        return {"keys and values": float(1 << 30)}, {}
    attempts = rollout.problems * rollout.samples
    wanted = attempts * (prompt + rollout.max_tokens) * token
    return {"keys and values": min(wanted, CACHE_SHARE * max(0.0, device - stays))}, {}
