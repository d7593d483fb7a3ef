"""The ``hf`` engine: any Hugging Face causal LM checkpoint through ``transformers``, on the CPU or one GPU.

Loads the checkpoint and speaks texts; tokens are the business of ``core`` (or of ``plain``, for models whose attention
the core does not know).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.chat import Prompt
from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.engines.options import EngineContext, HFOptions
from cipo_eval.engines.prompting import Prompting, Thinking, no_room, preview
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, FinishReason, Request, derive_seed

if TYPE_CHECKING:
    from cipo_eval.engines.core.request import GenOutput, GenRequest

GPU_CACHE_SHARE = 0.6
"""Share of a GPU's free memory that keys and values may fill; the rest is for activations and logits."""
CPU_CACHE_BYTES = 1 << 30
"""Keys and values of all samples under way on a CPU."""
FEWEST_BATCH_TOKENS = 16_384
"""Planned at the least, whatever the memory says: running out of it halves the number of samples under way."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What a request to the core belongs to: whole samples, or what follows the thoughts of one."""

    request: Request
    prompt: Prompt
    room: int
    """New tokens of the whole sample."""
    number: int | None = None
    """Number of the sample that it goes on with, after its thoughts; None: the beginning of all samples."""
    thoughts: tuple[int, ...] = ()
    """Tokens of that sample so far."""
    logprobs: tuple[float, ...] | None = ()
    """Their log-probabilities; None: not all of them are the model's own."""
    seconds: float = 0.0
    """Time that the model took for them."""


class HFEngine:
    """Generates with the model of a checkpoint.

    Raises ``UsageError``/``MissingError`` for a model that is not there, has no tokenizer or does not load.
    """

    name = "hf"
    options = HFOptions
    preview = staticmethod(preview)

    @classmethod
    def make(cls, model: str, options: HFOptions, context: EngineContext) -> HFEngine:
        return cls(
            model,
            revision=options.revision,
            device=options.device,
            dtype=options.dtype,
            batch_tokens=options.batch_tokens,
            trust_remote_code=options.trust_remote_code,
            max_model_len=options.max_model_len,
            thinking=Thinking.asked(options, context),
            clock=context.clock,
        )

    def __init__(
        self,
        model: str,
        *,
        revision: str | None = None,
        device: str = "auto",
        dtype: str = "auto",
        batch_tokens: int | None = None,
        trust_remote_code: bool = False,
        max_model_len: int | None = None,
        thinking: Thinking = Thinking(),  # noqa: B008  frozen
        clock: datetime = FIXED_CLOCK,
        loaded: Any = None,
        reserve: int = 0,
    ) -> None:
        """``clock``: the time that a chat template is told which writes the date. ``loaded``: the model itself, where
        somebody has it already (the trainer); it stays where it is. ``reserve``: bytes on a GPU that are free now and
        will not be."""
        import torch
        from transformers.generation.configuration_utils import GenerationConfig

        from cipo_eval.engines.core import loop as core
        from cipo_eval.engines.core import plain
        from cipo_eval.engines.core.fuse import fuse_norms
        from cipo_eval.engines.core.models import supported

        self.device = torch_device(device) if loaded is None else loaded.device
        self.checkpoint = Checkpoint(model, revision, trust_remote_code)
        self.tokenizer = self.checkpoint.tokenizer
        lengths = [n for n in (self.checkpoint.context, max_model_len) if n]
        self.texts = Prompting(
            self.tokenizer,
            context=min(lengths, default=None),
            thinking=thinking,
            ends=self.checkpoint.ends,
            clock=clock,
        )
        # CPUs emulate bfloat16, slower and less exact
        chosen = torch.float32 if dtype == "auto" and self.device.type == "cpu" else torch_dtype(dtype)
        self.model = self._placed(self.checkpoint.load(chosen)) if loaded is None else loaded
        if loaded is None:
            fuse_norms(self.model)
        self.end_ids = self.texts.ends
        self._rows = self.model.get_input_embeddings().weight.shape[0]
        pads = (self.tokenizer.pad_token_id, *sorted(self.end_ids), 0)
        self.pad_id = next(pad for pad in pads if pad is not None and pad < self._rows)
        # A checkpoint's own sampling defaults (temperature, repetition penalty …) would be merged into ours silently.
        self.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            eos_token_id=sorted(self.end_ids) or None, pad_token_id=self.pad_id
        )
        self.batch_tokens = batch_tokens or self._plan_batch_tokens(reserve)
        self._finished = 0
        self.core: core.Core | plain.Plain
        if supported(self.model):
            self.core = core.Core(self.model, ends=self.end_ids, tokens=self.batch_tokens)
        else:
            self.core = plain.Plain(self.model, ends=self.end_ids, pad=self.pad_id, tokens=self.batch_tokens)

    def refuses_begun(self) -> str:
        """Why it does not go on with an answer that is begun: it does."""
        return ""

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            **self.checkpoint.describe(),
            **self.texts.describe(),
            "max_model_len": self.texts.context,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "generation": "core" if type(self.core).__name__ == "Core" else "model.generate",
        }

    def _placed(self, model: Any) -> Any:
        try:
            return model.to(self.device).eval()
        except RuntimeError as error:
            raise _explained(
                error, "out of memory while loading: use a smaller dtype, or --engine vllm"
            ) from error

    @property
    def under_way(self) -> int:
        return self.core.under_way[0]

    @property
    def generated(self) -> int:
        """Tokens so far, those of samples under way included."""
        return self._finished + self.core.under_way[1]

    def release(self) -> None:
        """Gives the memory of the cache back; the next requests take it again."""
        self.core.release()

    def close(self) -> None:
        import torch

        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        from cipo_eval.engines.core.finite import NotFinite

        feed = as_feed(requests)
        answers: list[GenRequest] = []
        """What samples go on with whose budget of thoughts is used up."""

        def take(wait: bool) -> list[GenRequest]:
            following = answers[:]
            answers.clear()
            return following + [
                self._generation(request, keep=feed.follow)
                for request in feed.take(wait=wait and not following)
            ]

        try:
            for sample in self.core.run(take):
                part: _Part = sample.request.tag
                self._finished += len(sample.tokens)
                if answer := self._answer(sample, part):
                    answers.append(answer)
                    continue
                number = sample.number if part.number is None else part.number
                yield part.request, part.request.samples[number], self._completion(sample, part)
        except NotFinite as error:
            problem = error.tag.request.problem
            raise UsageError(
                f"the scores of {self.checkpoint.model} are NaN or infinite for {problem.task} {problem.id}: {error}; "
                "what is judged is kept"
            ) from error
        except RuntimeError as error:
            memory = "out of memory even with one sample at a time: lower --max-tokens or use a smaller dtype"
            raise _explained(error, memory) from error

    def _generation(self, request: Request, *, keep: bool) -> GenRequest:
        """What the core is asked for: the samples of a request, or their thoughts where those have a budget."""
        from cipo_eval.engines.core.request import GenRequest

        prompt = self.texts.prompt(request)
        if (most := max(prompt.ids, default=0)) >= self._rows:
            raise UsageError(
                f"{self.checkpoint.model} has no embedding for the token "
                f"{self.tokenizer.convert_ids_to_tokens(most)!r} ({most} of {self._rows}): the tokenizer is not its own"
            )
        room = self.texts.room(prompt, request.sampling.max_tokens)
        thoughts = self.texts.thoughts(room)
        return GenRequest(
            prompt=prompt.ids,
            seeds=request.seeds,
            sampling=request.sampling,
            max_new=thoughts,
            cut=self.texts.cut(request.sampling.stop),
            keep=keep or thoughts < room,
            first=request.turn > 1,
            tag=_Part(request, prompt, room),
        )

    def _answer(self, sample: GenOutput, part: _Part) -> GenRequest | None:
        """What a sample goes on with whose budget of thoughts is used up, and that has not ended: its answer."""
        from cipo_eval.engines.core.request import GenRequest

        if (
            part.number is not None
            or sample.finish_reason is not FinishReason.LENGTH
            or len(sample.tokens) >= part.room
        ):
            return None
        closing = self.texts.closing(part.prompt, sample.tokens)
        thoughts = (*sample.tokens, *closing)[: part.room]
        request, stops = part.request, self.texts.cut(part.request.sampling.stop)

        def cut(tokens: Sequence[int]) -> tuple[int, str] | None:
            place = stops((*thoughts, *tokens)) if stops else None
            return None if place is None else (max(0, place[0] - len(thoughts)), place[1])

        return GenRequest(
            prompt=[*part.prompt.ids, *thoughts],
            seeds=(derive_seed(request.seeds[sample.number], "after thoughts"),),
            sampling=request.sampling,
            max_new=part.room - len(thoughts),
            cut=cut if stops else None,
            keep=sample.request.keep,
            first=True,
            tag=_Part(
                request,
                part.prompt,
                part.room,
                sample.number,
                thoughts,
                None if closing else sample.logprobs,
                sample.seconds,
            ),
        )

    def _completion(self, sample: GenOutput, part: _Part) -> Completion:
        if part.room <= 0:
            return no_room(part.prompt)
        return self.texts.completion(
            part.prompt,
            (*part.thoughts, *sample.tokens),
            sample.finish_reason,
            text=sample.note,  # what a stop string left
            logprobs=None if part.logprobs is None else (*part.logprobs, *sample.logprobs),
            seconds=part.seconds + sample.seconds,
        )

    def _plan_batch_tokens(self, reserve: int) -> int:
        """Tokens of one batch (prompt + completion, all rows), from the bytes that their keys and values take.

        ``reserve``: bytes of a GPU's free memory that are not for them."""
        import torch

        config = self.model.config.get_text_config()
        width = config.hidden_size
        if queries := getattr(config, "num_attention_heads", None):  # else there is a state, and no keys
            heads = getattr(config, "num_key_value_heads", None) or queries
            width = heads * (getattr(config, "head_dim", None) or config.hidden_size // queries)
        per_token = 2 * config.num_hidden_layers * width * self.model.dtype.itemsize
        room = CPU_CACHE_BYTES
        if self.device.type == "cuda":
            room = int(GPU_CACHE_SHARE * max(0, torch.cuda.mem_get_info(self.device)[0] - reserve))
        return max(FEWEST_BATCH_TOKENS, int(room // per_token))


def torch_device(name: str) -> Any:
    """Where a model runs; ``auto``: on a GPU where there is one. Raises ``UsageError`` for a name that is none,
    ``MissingError`` for a device that is not here."""
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name}: no such device; use auto, cpu, cuda or cuda:1") from error
    if device.type == "meta":
        raise UsageError("--device meta holds no weights; use auto, cpu, cuda or cuda:1")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        why = str(error).strip().splitlines()
        raise MissingError(
            f"--device {name} is not here: {why[0] if why else type(error).__name__}"
        ) from error
    return device


def torch_dtype(name: Any) -> Any:
    """The floating-point type of this name; ``auto`` as it is. Raises ``UsageError`` for any other name."""
    import torch

    dtype = getattr(torch, name, None) if isinstance(name, str) else name
    if name != "auto" and not (
        isinstance(dtype, torch.dtype) and dtype.is_floating_point and dtype.itemsize > 1
    ):
        raise UsageError(f"--dtype {name}: use auto, float32, bfloat16 or float16")
    return name if name == "auto" else dtype


def _explained(error: RuntimeError, memory: str) -> Exception:
    from cipo_eval.engines.core.models import out_of_memory

    return MissingError(memory) if out_of_memory(error) else error
