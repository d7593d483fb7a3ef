"""The ``hf`` engine: any Hugging Face causal LM checkpoint through ``transformers``, on the CPU or one GPU.

Loads the checkpoint and speaks texts; tokens are the business of ``core`` (or of ``plain``, for models whose attention
the core does not know).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.chat import Prompt
from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.texts import Texts, Thinking, no_room
from cipo_eval.errors import MissingError
from cipo_eval.feed import Feed, as_feed
from cipo_eval.records import Completion, Request, derive_seed

if TYPE_CHECKING:
    from cipo_eval.engines.asks import Ask, Sample

CPU_CACHE_BYTES = 1 << 30
"""Keys and values of all samples under way on a CPU."""
FEWEST_BATCH_TOKENS = 16_384
"""Planned at the least, whatever the memory says: running out of it halves the number of samples under way."""


@dataclass(frozen=True, slots=True)
class _Part:
    """What an ask of the core belongs to."""

    request: Request
    prompt: Prompt
    room: int
    """New tokens of the whole sample."""
    number: int | None = None
    """Of the sample that it goes on with, after its thoughts; None: the beginning of all samples."""
    said: tuple[int, ...] = ()
    """Tokens of that sample so far."""
    drawn: tuple[float, ...] | None = ()
    """Their log-probabilities; None: not all of them are the model's own."""
    seconds: float = 0.0


class HFEngine:
    """Generates with the model of a checkpoint.

    Raises ``UsageError``/``MissingError`` for a model that is not there, has no tokenizer or does not load.
    """

    name = "hf"

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
        loaded: Any = None,
        reserve: int = 0,
    ) -> None:
        """``loaded``: the model itself, where somebody has it already (the trainer); it stays where it is.
        ``reserve``: bytes on a GPU that are free now and will not be."""
        import torch
        from transformers.generation.configuration_utils import GenerationConfig

        from cipo_eval.engines import core, plain
        from cipo_eval.engines.fuse import fuse_norms
        from cipo_eval.engines.models import supported

        if loaded is not None:
            device = str(loaded.device)
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
        self.checkpoint = Checkpoint(model, revision, trust_remote_code)
        self.tokenizer = self.checkpoint.tokenizer
        lengths = [n for n in (self.checkpoint.context, max_model_len) if n]
        self.texts = Texts(self.tokenizer, context=min(lengths, default=None), thinking=thinking)
        # CPUs emulate bfloat16, slower and less exact
        chosen = torch.float32 if dtype == "auto" and self.device.type == "cpu" else dtype
        self.model = self.checkpoint.load(chosen).to(self.device).eval() if loaded is None else loaded
        if loaded is None:
            fuse_norms(self.model)
        self.end_ids = self.checkpoint.ends
        pad = self.tokenizer.pad_token_id
        self.pad_id = pad if pad is not None else (min(self.end_ids) if self.end_ids else 0)
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

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            **self.checkpoint.describe(),
            **self.texts.describe(),
            "max_model_len": self.texts.context,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "generation": "core" if type(self.core).__name__ == "Core" else "model.generate",
        }

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
        feed = as_feed(requests)
        again: list[Ask] = []

        def take(wait: bool) -> list[Ask]:
            found = again[:]
            again.clear()
            return found + [
                self._ask(request, keep=feed.follow) for request in feed.take(wait=wait and not found)
            ]

        try:
            for sample in self.core.run(take):
                part: _Part = sample.ask.tag
                self._finished += len(sample.tokens)
                if following := self._following(sample, part):
                    again.append(following)
                    continue
                at = sample.number if part.number is None else part.number
                yield part.request, part.request.samples[at], self._completion(sample, part)
        except RuntimeError as error:
            raise _explained(error) from error

    def _ask(self, request: Request, *, keep: bool = False) -> Ask:
        from cipo_eval.engines.asks import Ask

        prompt = self.texts.prompt(request)
        room = self.texts.room(prompt, request.sampling.max_tokens)
        thoughts = self.texts.thoughts(room)
        return Ask(
            prompt=prompt.ids,
            seeds=request.seeds,
            sampling=request.sampling,
            max_new=thoughts,
            cut=self.texts.cut(request.sampling.stop),
            keep=keep or thoughts < room,
            first=request.turn > 1,
            tag=_Part(request, prompt, room),
        )

    def _following(self, sample: Sample, part: _Part) -> Ask | None:
        """What a sample goes on with whose budget of thoughts is used up, and that has not ended: its answer."""
        from cipo_eval.engines.asks import Ask

        if part.number is not None or sample.reason != "length" or len(sample.tokens) >= part.room:
            return None
        closing = self.texts.closing(part.prompt, sample.tokens)
        said = (*sample.tokens, *closing)[: part.room]
        request, stops = part.request, self.texts.cut(part.request.sampling.stop)

        def cut(tokens: Sequence[int]) -> tuple[int, str] | None:
            found = stops((*said, *tokens)) if stops else None
            return None if found is None else (max(0, found[0] - len(said)), found[1])

        return Ask(
            prompt=[*part.prompt.ids, *said],
            seeds=(derive_seed(request.seeds[sample.number], "after thoughts"),),
            sampling=request.sampling,
            max_new=part.room - len(said),
            cut=cut if stops else None,
            keep=sample.ask.keep,
            first=True,
            tag=_Part(
                request,
                part.prompt,
                part.room,
                sample.number,
                said,
                None if closing else sample.logprobs,
                sample.seconds,
            ),
        )

    def _completion(self, sample: Sample, part: _Part) -> Completion:
        if part.room <= 0:
            return no_room(part.prompt)
        return self.texts.completion(
            part.prompt,
            (*part.said, *sample.tokens),
            sample.reason,
            text=sample.note,  # what a stop string left
            logprobs=None if part.drawn is None else (*part.drawn, *sample.logprobs),
            seconds=part.seconds + sample.seconds,
        )

    def _plan_batch_tokens(self, reserve: int) -> int:
        """Tokens of one batch (prompt + completion, all rows), from the bytes that their keys and values take.

        On a GPU they may fill 60 % of the free memory; the rest is for activations and logits.
        """
        import torch

        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        per_token = 2 * config.num_hidden_layers * heads * head_dim * self.model.dtype.itemsize
        room = CPU_CACHE_BYTES
        if self.device.type == "cuda":
            room = int(0.6 * max(0, torch.cuda.mem_get_info(self.device)[0] - reserve))
        return max(FEWEST_BATCH_TOKENS, int(room // per_token))


def _explained(error: RuntimeError) -> Exception:
    from cipo_eval.engines.models import out_of_memory

    if out_of_memory(error):
        return MissingError(
            "out of memory even with one sample at a time: lower --max-tokens or use a smaller dtype"
        )
    return error
