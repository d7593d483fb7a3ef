"""The ``hf`` engine: any Hugging Face causal LM checkpoint through ``transformers``, on the CPU or one GPU.

Loads the checkpoint and speaks texts; tokens are the business of ``core`` (or of ``plain``, for models whose attention
the core does not know).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.chat import Prompt, encode
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.feed import Feed, as_feed
from cipo_eval.records import Completion, Request, fingerprint

if TYPE_CHECKING:
    import torch

    from cipo_eval.engines.core import Ask, Sample

CPU_CACHE_BYTES = 1 << 30
"""Keys and values of all samples under way on a CPU."""
FEWEST_BATCH_TOKENS = 16_384
"""Planned at the least, whatever the memory says: running out of it halves the number of samples under way."""
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
"""A checkpoint with none of these has no tokenizer; transformers would not say so."""


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
    ) -> None:
        import torch
        from transformers.generation.configuration_utils import GenerationConfig

        from cipo_eval.engines import core, plain

        self.model_name = model
        self.revision = revision
        self.device = torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
        )
        self.tokenizer, self.model = _load(model, revision, dtype, self.device, trust_remote_code)
        ends = self.model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        # Both: fine-tuned chat models often name their end-of-turn token in the tokenizer only.
        self.end_ids = frozenset({*ends, self.tokenizer.eos_token_id} - {None})
        pad = self.tokenizer.pad_token_id
        self.pad_id = pad if pad is not None else (min(self.end_ids) if self.end_ids else 0)
        # A checkpoint's own sampling defaults (temperature, repetition penalty …) would be merged into ours silently.
        self.model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
            eos_token_id=sorted(self.end_ids) or None, pad_token_id=self.pad_id
        )
        self.context = _context_length(self.model.config)
        self.batch_tokens = batch_tokens or self._plan_batch_tokens()
        self.core: core.Core | plain.Plain
        if core.supported(self.model):
            self.core = core.Core(self.model, ends=self.end_ids, tokens=self.batch_tokens)
        else:
            self.core = plain.Plain(self.model, ends=self.end_ids, pad=self.pad_id, tokens=self.batch_tokens)

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            "model": self.model_name,
            "revision": getattr(self.model.config, "_commit_hash", None) or self.revision,
            "fingerprint": model_fingerprint(self.model_name, self.model.config.to_dict()),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "chat_template": fingerprint(self.tokenizer.chat_template)
            if self.tokenizer.chat_template
            else None,
            "generation": "core" if type(self.core).__name__ == "Core" else "model.generate",
        }

    def close(self) -> None:
        import torch

        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)

        def take(wait: bool) -> list[Ask]:
            return [self._ask(request, keep=feed.follow) for request in feed.take(wait=wait)]

        try:
            for sample in self.core.run(take):
                request, _ = sample.ask.tag
                yield request, request.samples[sample.number], self._completion(sample)
        except RuntimeError as error:
            raise _explained(error) from error

    def _ask(self, request: Request, *, keep: bool = False) -> Ask:
        from cipo_eval.engines.core import Ask

        prompt, left_out = self._prompt(request)
        stop = request.sampling.stop
        return Ask(
            prompt=prompt,
            seeds=request.seeds,
            sampling=request.sampling,
            max_new=self._room(len(prompt), request.sampling.max_tokens) if prompt else 0,
            cut=_Stops(self.tokenizer, stop) if stop else None,
            keep=keep,
            first=request.turn > 1,
            tag=(request, left_out),
        )

    def _prompt(self, request: Request) -> Prompt:
        """Where its tokens leave less room than wanted, carried attempts lose their middle, and nothing else."""
        wanted = min(request.sampling.max_tokens, (self.context or 0) // 4)
        return encode(
            self.tokenizer,
            request.messages,
            carried=request.carried,
            most=self.context - wanted if self.context else None,
        )

    def _room(self, prompt_tokens: int, max_tokens: int) -> int:
        """New tokens that fit."""
        return min(max_tokens, self.context - prompt_tokens) if self.context else max_tokens

    def _completion(self, sample: Sample) -> Completion:
        _, left_out = sample.ask.tag
        if sample.ask.max_new <= 0:
            return Completion(
                text="", finish_reason="context", prompt_tokens=len(sample.ask.prompt), left_out=left_out
            )
        text: str | None = sample.note  # what a stop string left
        if text is None:
            text = self.tokenizer.decode(sample.tokens, skip_special_tokens=True)
        return Completion(
            text=text,
            finish_reason=sample.reason,
            prompt_tokens=len(sample.ask.prompt),
            completion_tokens=len(sample.tokens),
            seconds=sample.seconds,
            token_ids=sample.tokens,
            logprobs=sample.logprobs,
            left_out=left_out,
        )

    def _plan_batch_tokens(self) -> int:
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
            room = int(0.6 * torch.cuda.mem_get_info(self.device)[0])
        return max(FEWEST_BATCH_TOKENS, int(room // per_token))


class _Stops:
    """Where a sample is to end for its stop strings."""

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        self._tokenizer, self._stops = tokenizer, stops
        # the end of a text that may hold the whole of one that has just been completed: a token has a character or
        # more, or is a part of one (at most four)
        self._tail = 4 * max(map(len, stops)) + 8

    def __call__(self, tokens: Sequence[int]) -> tuple[int, str] | None:
        """How many tokens stay, and the text before the first stop string; None while there is none."""
        tail = self._tokenizer.decode(tokens[-self._tail :], skip_special_tokens=True)
        if not any(stop in tail for stop in self._stops):
            return None
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        cut = min((at for stop in self._stops if (at := text.find(stop)) >= 0), default=None)
        if cut is None:
            return None
        return _tokens_covering(self._tokenizer, tokens, text[:cut]), text[:cut]


def model_fingerprint(model: str, config: Mapping[str, Any]) -> str:
    """Identity of a checkpoint: of a local folder every file's size and content (of large ones 32 samples).

    Whole hashes of large checkpoints take minutes; training changes nearly every block, so samples tell two apart.
    """
    import hashlib

    files: dict[str, Any] = {}
    folder = Path(model)
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (
                path.suffix not in {".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"}
                or not path.is_file()
            ):
                continue
            size, digest = path.stat().st_size, hashlib.sha256()
            with path.open("rb") as file:
                if size <= 32 << 20:
                    digest.update(file.read())
                else:
                    for i in range(32):
                        file.seek(i * (size - (64 << 10)) // 31)
                        digest.update(file.read(64 << 10))
            files[path.name] = [size, digest.hexdigest()]
        return fingerprint(files)
    return fingerprint({"model": model, "config": {k: str(v) for k, v in config.items()}})


def _load(
    model: str, revision: str | None, dtype: str, device: torch.device, trust_remote_code: bool
) -> tuple[Any, Any]:
    """Tokenizer and model, or an error that says what is wrong with the checkpoint."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # as above
    folder = Path(model)
    local = folder.is_dir()
    if not local and (folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1):
        raise UsageError(f"model folder {model} does not exist")
    if local and not (folder / "config.json").is_file():
        raise UsageError(f"{model} is not a Hugging Face checkpoint: it has no config.json")
    if local and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise UsageError(f"{model} has no tokenizer: save it there with tokenizer.save_pretrained({model!r})")
    common: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
    try:
        tokenizer = AutoTokenizer.from_pretrained(model, **common)
    except Exception as error:
        raise _load_error(model, local, "tokenizer", error) from error
    chosen: Any = dtype
    if dtype == "auto" and device.type == "cpu":
        chosen = torch.float32  # CPUs emulate bfloat16, slower and less exact
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(model, dtype=chosen, **common)
    except Exception as error:
        raise _load_error(model, local, "model", error) from error
    return tokenizer, loaded.to(device).eval()


def _load_error(model: str, local: bool, part: str, error: Exception) -> Exception:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    if local:
        return UsageError(f"the {part} of {model} does not load ({type(error).__name__}: {first})")
    return MissingError(
        f"the {part} of {model!r} is neither a local folder nor obtainable from the hub "
        f"({type(error).__name__}: {first})",
    )


def _context_length(config: Any) -> int | None:
    value = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(value) if value else None


def _tokens_covering(tokenizer: Any, tokens: Sequence[int], text: str) -> int:
    """The smallest number of leading tokens whose text begins with this one: half a character does not."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if tokenizer.decode(tokens[:middle], skip_special_tokens=True).startswith(text):
            high = middle
        else:
            low = middle + 1
    return low


def _explained(error: RuntimeError) -> Exception:
    from cipo_eval.engines.core import out_of_memory

    if out_of_memory(error):
        return MissingError(
            "out of memory even with one sample at a time: lower --max-tokens or use a smaller dtype"
        )
    return error
