"""The ``vllm`` engine: a checkpoint through vLLM, on one or several GPUs (or its CPU build).

vLLM batches, caches prompts and spreads a model over devices; this module gives it tokens and takes tokens back, so
that texts, end tokens and stop strings are those of the ``hf`` engine.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.options import EngineContext, VLLMOptions, model_arguments
from cipo_eval.engines.prompting import Prompting, Thinking, preview
from cipo_eval.engines.pump import Pump
from cipo_eval.engines.retries import Again, Retries
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.engines.vllm_samples import UNDER_WAY, VLLMSamples, said, write_weights
from cipo_eval.errors import MissingError, UsageError, missing
from cipo_eval.records import FinishReason, Request

if TYPE_CHECKING:
    import torch

_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks of adapters that vLLM makes room for."""

_CHECKED_FORMATS = frozenset({"auto", "hf", "safetensors", "fastsafetensors", "pt"})
"""Of vLLM's ways to load: those that read the checkpoint as transformers would."""

_SPEED_ONLY = frozenset(
    {
        "tensor_parallel_size",
        "data_parallel_size",
        "gpu_memory_utilization",
        "max_num_seqs",
        "enforce_eager",
        "max_model_len",
    }
)
"""Arguments that may differ where a run goes on, or that are recorded elsewhere; others (quantization) may not."""


class VLLMEngine(VLLMSamples):
    """Raises ``UsageError``/``MissingError`` for a model that does not load, or where vLLM is missing or fails. A
    sample that vLLM ends neither by itself nor at a limit is tried once more, and then a ``Failure``."""

    name = "vllm"
    options = VLLMOptions
    preview = staticmethod(preview)

    @classmethod
    def make(cls, model: str, options: VLLMOptions, context: EngineContext) -> VLLMEngine:
        sizes = {
            "tensor_parallel_size": options.tensor_parallel,
            "data_parallel_size": options.data_parallel,
        }
        arguments: dict[str, Any] = {name: size for name, size in sizes.items() if size > 1}
        if options.max_model_len is not None:
            arguments["max_model_len"] = options.max_model_len
        return cls(
            model,
            revision=options.revision,
            dtype=options.dtype,
            trust_remote_code=options.trust_remote_code,
            thinking=Thinking.asked(options, context),
            clock=context.clock,
            arguments={**arguments, **model_arguments(options.model_args)},
        )

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        trust_remote_code: bool = False,
        thinking: Thinking = Thinking(),  # noqa: B008  frozen
        clock: datetime = FIXED_CLOCK,
        logprobs: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        """``clock``: the time that a chat template is told which writes the date. ``logprobs``: also those of the
        tokens, which the trainer wants. ``arguments``: further ones of vLLM's ``AsyncEngineArgs``
        (``tensor_parallel_size``, ``max_model_len`` …)."""
        checkpoint = Checkpoint(model, revision, trust_remote_code)
        texts = Prompting(
            checkpoint.tokenizer,
            context=checkpoint.context,
            thinking=thinking,
            ends=checkpoint.ends,
            clock=clock,
        )
        vllm = _imported()
        given = dict(arguments or {})
        if given.get("load_format", "auto") in _CHECKED_FORMATS:
            checkpoint.check_weights()  # here, since vLLM says what is wrong in another process
        self.checkpoint, self.texts, self._logprobs = checkpoint, texts, logprobs
        self._vllm = vllm
        self._ends = sorted(texts.ends)
        self._lora: Any = None
        self._count = 0
        self._retries = Retries(1)
        self._closed = False
        self._given = given
        try:
            chosen = self._arguments(dtype, self._given)
        except TypeError as error:
            raise UsageError(f"--model-args: {error}") from error
        self._pump = Pump(UNDER_WAY)
        try:
            self._engine = self._pump.call(self._start(chosen))
        except Exception as error:
            self._pump.close()
            raise MissingError(f"vLLM does not start: {said(error)}") from error
        texts.context = self._engine.model_config.max_model_len

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            **self.checkpoint.describe(),
            **self.texts.describe(),
            "dtype": str(self._engine.model_config.dtype).removeprefix("torch."),
            "max_model_len": self.texts.context,
            "arguments": {n: str(v) for n, v in sorted(self._given.items()) if n not in _SPEED_ONLY},
            "vllm": self._vllm.__version__,
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pump.call(self._stop())
            self._pump.close()

    def update_weights(self, state: Mapping[str, torch.Tensor]) -> None:
        """New values for the model's parameters, in place, under the names that its checkpoint has. Not while samples
        are under way. Raises ``RuntimeError`` for names or shapes that vLLM does not know.

        Through a file (in memory where the system has such a place): vLLM's workers are other processes.
        """
        shared = Path("/dev/shm")
        with tempfile.TemporaryDirectory(
            prefix="cipo-eval-", dir=shared if os.access(shared, os.W_OK) else None
        ) as folder:
            write_weights(state, Path(folder))
            try:
                self._pump.call(self._reload(folder))
            except Exception as error:
                raise RuntimeError(f"vLLM does not take the new weights: {said(error)}") from error

    def sleep(self) -> None:
        """Gives the cache's memory back and moves the weights to the host (argument ``enable_sleep_mode``)."""
        self._pump.call(self._engine.sleep(level=1))

    def wake(self) -> None:
        """Undoes ``sleep``."""
        self._pump.call(self._engine.wake_up())

    # --- on the loop -----------------------------------------------------------------------------------------

    async def _start(self, arguments: Any) -> Any:
        from vllm.v1.engine.async_llm import AsyncLLM

        return AsyncLLM.from_engine_args(arguments)

    async def _stop(self) -> None:
        self._engine.shutdown()
        self._engine = None  # its own finaliser fails where the interpreter ends

    async def _reload(self, folder: str) -> None:
        await self._engine.collective_rpc("reload_weights", kwargs={"weights_path": folder})
        await self._engine.reset_prefix_cache()

    async def _ask(
        self, request: Request, ids: Sequence[int], most: int, seed: int
    ) -> tuple[list[int], FinishReason, list[float] | None]:
        """Tokens, the reason that they end, and their log-probabilities if they are wanted."""
        from vllm.exceptions import VLLMClientError
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        sampling = request.sampling
        self._count += 1
        completion: Any = None
        try:
            params = SamplingParams(
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                top_k=sampling.top_k,
                min_p=sampling.min_p,
                seed=seed,
                max_tokens=most,
                stop=list(sampling.stop) or None,
                stop_token_ids=self._ends,
                detokenize=bool(sampling.stop),
                skip_special_tokens=False,  # a stop string may be one
                logprobs=0 if self._logprobs else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            async for output in self._engine.generate(
                {"prompt_token_ids": list(ids)}, params, str(self._count), lora_request=self._lora
            ):
                completion = output.outputs[0]
        except (ValueError, VLLMClientError) as error:
            raise UsageError(f"vLLM refuses the request: {said(error)}") from error
        except Exception as error:
            raise MissingError(
                f"vLLM broke off ({said(error)}); what is judged is kept, and the same command goes on from there"
            ) from error
        reason = getattr(completion, "finish_reason", None)
        if reason not in ("stop", "length"):  # abort, error, or no output at all
            raise Again(f"vLLM's finish reason {reason or 'missing'}")
        tokens = list(completion.token_ids)
        logprobs = None
        if completion.logprobs is not None:
            logprobs = [step[token].logprob for step, token in zip(completion.logprobs, tokens, strict=True)]
        return tokens, FinishReason(reason), logprobs

    # --- starting --------------------------------------------------------------------------------------------

    def _arguments(self, dtype: str, arguments: Mapping[str, Any]) -> Any:
        """vLLM's arguments; raises ``TypeError`` for one that it does not have."""
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.platforms import current_platform

        checkpoint = self.checkpoint
        given: dict[str, Any] = {
            "model": checkpoint.base,
            "tokenizer": checkpoint.tokenizer.name_or_path,
            "revision": checkpoint.revision if checkpoint.adapter is None else None,
            "dtype": dtype,
            "trust_remote_code": checkpoint.trust_remote_code,
            "enable_prefix_caching": True,
            "generation_config": "vllm",  # else what the checkpoint recommends is mixed into what was asked for
            "disable_log_stats": True,
        }
        if current_platform.is_cpu():
            if dtype == "auto":
                given["dtype"] = "float32"  # as the hf engine
            # samples with seeds fail in its CPU build where a prompt is read in parts
            most = arguments.get("max_model_len") or checkpoint.context or 2048
            given |= {"enable_chunked_prefill": False, "max_num_batched_tokens": max(most, 2048)}
        if checkpoint.adapter is not None:
            from vllm.lora.request import LoRARequest

            rank = int(checkpoint.adapter_facts.get("r") or 16)
            given |= {
                "enable_lora": True,
                "max_lora_rank": next((r for r in _RANKS if r >= rank), rank),
            }
            self._lora = LoRARequest("adapter", 1, checkpoint.adapter)
        return AsyncEngineArgs(**{**given, **arguments})


def _imported() -> Any:
    """vLLM, with its log where ours is: standard output belongs to results."""
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    try:
        import vllm
    except ImportError as error:
        raise missing("vllm", f"vLLM, which does not import ({error}),") from error
    return vllm
