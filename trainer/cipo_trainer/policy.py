"""The model that is trained, and everything that knows how it is held: engine, adapters, reference, checkpoints.

With the ``hf`` engine there is one model: what trains is what generates. ``vllm`` has a copy of its own, and servers
have theirs: they get the weights after every update. Of several processes each has its policy; where the weights that
train are in parts (``distributed.sharding``), a whole model beside them generates.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.core.fuse import Fused, fuse_norms
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.prompting import Thinking, tokenizer_for
from cipo_eval.engines.weights import check_adapter_names
from cipo_eval.errors import UsageError, require
from cipo_eval.files import whole_folder
from cipo_trainer.config import Config
from cipo_trainer.distributed.environment import alone
from cipo_trainer.distributed.sharding import Sharded
from cipo_trainer.distributed.world import World
from cipo_trainer.worlds.registry import NEW, new_model

LARGE = 1_000_000_000
"""Parameters from which on activations are computed again in the backward pass, unless told otherwise."""


MOMENTS = 8
"""Bytes per parameter that the optimizer takes from its first step on."""


class Policy:
    """The model that is trained, with its tokenizer, its engine and, where the loss has a KL term, its reference.

    Raises ``UsageError``/``MissingError`` for a model that is not there or does not load, and for what several
    processes cannot do.
    """

    def __init__(self, config: Config, world: World | None = None) -> None:
        from transformers.utils import logging

        world = world or World()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        self.config = config
        self.world = world
        _check_engine(config, world)
        place = world.told(self._new) if config.model.startswith(NEW) else config.model
        self.device = world.device(config.device)
        self.checkpoint = Checkpoint(place, config.revision, config.trust_remote_code)
        if self.checkpoint.adapter is not None and config.lora:
            raise UsageError(
                f"{config.model} is an adapter: without lora its weights are merged and trained whole; for new "
                "adapters merge it first"
            )
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}.get(config.optimizer.dtype)
        dtype = dtype or (torch.float32 if self.device.type == "cpu" else torch.bfloat16)
        base = self.checkpoint.load(dtype).to(self.device).eval()
        self._generation = base.generation_config
        self.tokenizer = tokenizer_for(self.checkpoint.tokenizer, config.chat)
        self.model: Any = self._adapted(base) if config.lora else base
        self.model.eval()  # new adapters come in training mode: dropout must not be sampled with
        self.model.config.use_cache = True
        large = self.device.type == "cuda" and sum(p.numel() for p in base.parameters()) >= LARGE
        divided = _in_parts(config, world, large=large)
        if divided:
            self.model = self.checkpoint.load(torch.float32).eval()
            base.requires_grad_(False)
        heavy = config.optimizer.checkpointing
        if heavy is None:
            heavy = large
        if heavy:
            # the newer name; transformers before 5.20 has the older one only
            enable = getattr(self.model, "activation_checkpointing_enable", None)
            (enable or self.model.gradient_checkpointing_enable)({"use_reentrant": False})
            if config.lora:
                self.model.enable_input_require_grads()
        fuse_norms(base)
        compiled = config.optimizer.compile
        if compiled is None:
            compiled = self.device.type == "cuda" and not config.lora and not heavy and not divided
        if divided:
            fuse_norms(self.model)
        if compiled:
            compile_layers(self.model if divided else base)
        self.sharded = Sharded(base, self.model) if divided else None
        """What there is beside ``model`` where that is in parts; else None."""
        self.reference: Any = None
        if config.referred and not config.lora:
            source = Checkpoint(config.reference) if config.reference else self.checkpoint
            self.reference = source.load(dtype).to(self.device).eval().requires_grad_(False)
        self._base = base
        self._trained = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        self._parts = world.size if divided else 1
        self._engine: Any = None
        self._asleep = False
        self._stale = True
        """Whether an engine with weights of its own has others than these."""

    @property
    def engine(self) -> Any:
        """What generates; made when it is first needed. It has the weights as they are after ``wake``."""
        if self._engine is None:
            self._engine = self._made()
        return self._engine

    def _made(self) -> Any:
        options = self.config.rollout
        if options.engine == "hf":
            return HFEngine(
                self.checkpoint.model,
                **self._given,
                loaded=self._base,
                batch_tokens=options.batch_tokens,
                max_model_len=options.max_model_len,
                reserve=MOMENTS * self._trained // self._parts,
            )
        # an adapter is merged in what it is sent
        given = {**self._given, "revision": self.checkpoint.base_revision}
        if options.engine == "vllm_server":
            from cipo_eval.engines.vllm_servers import VLLMServers

            return VLLMServers(
                self.checkpoint.base,
                options.servers,
                max_model_len=options.max_model_len,
                seconds=options.server_timeout,
                first=self.world.rank,
                **given,
            )
        from cipo_eval.engines.vllm import VLLMEngine

        arguments = dict(options.engine_args)
        if options.max_model_len:
            arguments["max_model_len"] = options.max_model_len
        if self._sleeps:
            arguments["enable_sleep_mode"] = True
        with alone(self.device.index):
            return VLLMEngine(self.checkpoint.base, logprobs=True, arguments=arguments, **given)

    @property
    def _shown(self) -> Any:
        """The whole model, with the values of the last update."""
        return self.sharded.shown if self.sharded else self.model

    @property
    def _given(self) -> dict[str, Any]:
        """What both engines are told of the checkpoint, and of how it is asked."""
        config = self.config
        return {
            "revision": config.revision,
            "trust_remote_code": config.trust_remote_code,
            "thinking": Thinking(chat=config.chat),
        }

    @property
    def _sleeps(self) -> bool:
        options = self.config.rollout
        return options.sleep and options.engine == "vllm" and self.device.type == "cuda"

    def wake(self) -> None:
        """Makes the engine ready to generate with the weights as they are. All processes have to call it."""
        if self.config.rollout.engine == "hf" or not (self._asleep or self._stale):
            return
        self.world.together(self._wake)
        if self.config.rollout.engine == "vllm_server":
            folder = self.config.rollout.weights_dir or self.config.output / "weights"
            self._engine.version = self.world.told(lambda: self._engine.send_weights(self.weights(), folder))
        self._asleep = self._stale = False

    def _wake(self) -> None:
        engine = self.engine
        if self._asleep:
            engine.wake()
        if self.config.rollout.engine == "vllm":
            engine.update_weights(self.weights())

    def sleep(self) -> None:
        """Has the engine give back its memory, which the training passes need."""
        if self._sleeps:
            self._engine.sleep()
            self._asleep = self._stale = True
        elif self.config.rollout.engine == "hf" and self.device.type == "cuda":
            self._engine.release()

    def changed(self) -> None:
        """Tells the engine that the weights have new values."""
        if self.sharded:
            self.sharded.show()
        self._stale = True

    @torch.no_grad()
    def weights(self) -> dict[str, torch.Tensor]:
        """All weights under the names that the checkpoint has, adapters added to what they adapt."""
        if not self.config.lora:
            return dict(self._shown.state_dict())
        from peft.tuners.lora import LoraLayer

        state = {
            name.replace(".base_layer.", "."): tensor
            for name, tensor in self._base.state_dict().items()
            if ".lora_" not in name
        }
        for name, layer in self._base.named_modules():
            if isinstance(layer, LoraLayer):
                for adapter in layer.active_adapters:
                    key = f"{name}.weight"
                    added = layer.get_delta_weight(adapter).to(state[key].dtype)
                    state[key] = (state[key].to(added.device) + added).cpu()  # no second copy of all on a GPU
        return state

    @contextmanager
    def saved(self) -> Iterator[tuple[Any, Any]]:
        """The model and tokenizer as they are written: with the generation defaults that the checkpoint came with."""
        ours = self._base.generation_config
        self._base.generation_config = self._generation
        try:
            yield self._shown, self.tokenizer
        finally:
            self._base.generation_config = ours

    def load(self, folder: Path) -> None:
        """Loads the weights of a checkpoint of this run. Raises ``UsageError`` for those of another model."""
        from safetensors.torch import load_file

        state: dict[str, torch.Tensor] = {}
        for path in sorted(folder.glob("*.safetensors")):
            state |= load_file(str(path))
        if self.config.lora:
            from peft import set_peft_model_state_dict

            loaded: Any = set_peft_model_state_dict(self.model, state)
            missing = [name for name in loaded.missing_keys if "lora_" in name]
            check_adapter_names(self.model, str(folder), missing=missing, unexpected=loaded.unexpected_keys)
        else:
            missing, unexpected = self._shown.load_state_dict(state, strict=False)
            tied = set(getattr(self._shown, "_tied_weights_keys", None) or ())
            if unexpected or not set(missing) <= tied:
                raise UsageError(f"{folder} holds the weights of another model")
            self._shown.tie_weights()
        if self.sharded:
            self.sharded.take()

    def close(self) -> None:
        """Ends the engine."""
        if self._engine is not None:
            self._engine.close()

    def _adapted(self, base: Any) -> Any:
        require("lora", "lora")
        from peft import LoraConfig, get_peft_model

        options = self.config.lora
        assert options is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            return get_peft_model(
                base,
                LoraConfig(
                    r=options.rank,
                    lora_alpha=options.alpha,
                    lora_dropout=options.dropout,
                    target_modules=options.targets,
                    task_type="CAUSAL_LM",
                ),
            )

    def _new(self) -> str:
        """Writes a model with random weights; the same for the same seed."""
        made = new_model(self.config)
        folder = self.config.output / "new"
        if not folder.is_dir():
            tokenizer = made.build_tokenizer()
            with whole_folder(folder) as partial:
                made.build_model(tokenizer, self.config.seed, self.config.shape).save_pretrained(partial)
                tokenizer.save_pretrained(partial)
        return str(folder)


def _check_engine(config: Config, world: World) -> None:
    """Raises ``UsageError`` where several processes cannot generate as they are asked to."""
    options = config.rollout
    if world.size == 1 or options.engine != "vllm":
        return
    for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
        if options.engine_args.get(name, 1) != 1:
            raise UsageError(
                f"rollout.engine_args.{name}: of several processes each has a vLLM of its own, on its own device; for "
                "a model that generates on several devices start servers and use rollout.engine=vllm_server"
            )


def _in_parts(config: Config, world: World, *, large: bool) -> bool:
    """Whether each process trains a part of the weights. Raises ``UsageError`` for what is not divided."""
    if world.size == 1 or config.parallel == "ddp":
        return False
    if config.parallel == "auto":
        return large and not (config.lora or config.undivided) and config.optimizer.moments == "float32"
    if config.lora:
        raise UsageError("parallel: adapters are small and whole in every process: use ddp")
    if config.optimizer.moments != "float32":
        raise UsageError("parallel: moments of 8 bit are whole in every process: use ddp, or float32")
    return True


def compile_layers(model: Any) -> None:
    """Has a model's layers compiled for training passes; generation, with its caches and graphs, uses them as they are.
    All layers share one compilation."""
    for layer in model.get_decoder().layers:
        layer.forward = _Compiled(layer)


class _Compiled:
    def __init__(self, layer: Any) -> None:
        self._plain = layer.forward
        self._fast = Fused(layer.forward)
        self._layer = layer

    def __call__(self, hidden: torch.Tensor, *arguments: Any, **more: Any) -> Any:
        if not self._layer.training:
            return self._plain(hidden, *arguments, **more)
        return self._fast(hidden, *arguments, **more)
