"""The ``hf`` engine: any Hugging Face causal LM checkpoint through ``transformers``, on the CPU or one GPU.

Batches are planned by tokens (prompt plus room for the completion), longest prompts first, so that memory runs out at
the start if ever; then the batch halves and the run goes on. Each sample draws from a random stream of its own seed, so
it does not depend on what shares its batch (beyond floating-point effects of padding).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.chat import Prompt, encode
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.feed import Feed, as_feed
from cipo_eval.records import Completion, Request, Sampling, fingerprint

if TYPE_CHECKING:
    import torch

CPU_CACHE_BYTES = 1 << 30
"""Keys and values of one batch on a CPU."""
FEWEST_BATCH_TOKENS = 16_384
"""Planned at the least, whatever the memory says: running out of it halves the batch."""
MAX_ROWS = 512
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
"""A checkpoint with none of these has no tokenizer; transformers would not say so."""


@dataclass(frozen=True, slots=True)
class _Row:
    """One sample to generate."""

    request: Request
    sample: int
    seed: int
    prompt: list[int]
    left_out: int
    max_new: int


class HFEngine:
    """Generates with ``model.generate``.

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
        }

    def close(self) -> None:
        import torch

        self.model = None
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def generate(self, requests: Feed | Sequence[Request]) -> Iterator[tuple[Request, int, Completion]]:
        feed = as_feed(requests)
        rows: list[_Row] = []
        limit = MAX_ROWS
        while (taken := feed.take(wait=not rows)) or rows:
            for request in taken:
                prompt, left_out = self._prompt(request)
                room = self._room(len(prompt), request.sampling.max_tokens)
                if not prompt or room <= 0:
                    nothing = Completion(
                        text="", finish_reason="context", prompt_tokens=len(prompt), left_out=left_out
                    )
                    yield from ((request, sample, nothing) for sample in request.samples)
                    continue
                rows += [
                    _Row(request, s, seed, prompt, left_out, room)
                    for s, seed in zip(request.samples, request.seeds, strict=True)
                ]
            if taken:
                rows.sort(key=lambda row: (repr(row.request.sampling), -row.max_new, -len(row.prompt)))
            if not rows:
                continue
            count = self._batch_size(rows, limit)
            try:
                completions = self._generate_batch(rows[:count])
            except RuntimeError as error:
                if not _out_of_memory(error) or count == 1:
                    raise _explained(error) from error
                limit = count // 2
                self._free_memory()
                continue
            yield from (
                (row.request, row.sample, c) for row, c in zip(rows[:count], completions, strict=True)
            )
            rows = rows[count:]

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
        """New tokens that fit. Where the context is the limit: a multiple of 64, so that rows can share batches."""
        left = self.context - prompt_tokens if self.context else max_tokens
        if left >= max_tokens:
            return max_tokens
        return left // 64 * 64 if left >= 64 else left

    def _batch_size(self, rows: Sequence[_Row], limit: int) -> int:
        """Rows from the front that share sampling parameters and room, within the token budget; at least one."""
        first = rows[0]
        width = len(first.prompt) + first.max_new
        most = max(1, min(limit, self.batch_tokens // width))
        count = 1
        while (
            count < min(most, len(rows))
            and rows[count].request.sampling == first.request.sampling
            and rows[count].max_new == first.max_new
        ):
            count += 1
        return count

    def _generate_batch(self, rows: Sequence[_Row]) -> list[Completion]:
        import torch
        from transformers.generation.configuration_utils import GenerationConfig

        started = time.perf_counter()
        sampling, max_new = rows[0].request.sampling, rows[0].max_new
        width = max(len(row.prompt) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(rows):  # left padding: every prompt ends where its completion begins
            ids[i, width - len(row.prompt) :] = torch.tensor(row.prompt)
            mask[i, width - len(row.prompt) :] = 1
        with torch.inference_mode():
            output = self.model.generate(
                ids.to(self.device),
                attention_mask=mask.to(self.device),
                generation_config=GenerationConfig(  # type: ignore[no-untyped-call]  # as above
                    max_new_tokens=max_new, do_sample=False, use_cache=True
                ),
                logits_processor=seeded_sampling(
                    sampling, [row.seed for row in rows], width, max_new, self.device
                ),
                **(
                    {"stop_strings": list(sampling.stop), "tokenizer": self.tokenizer}
                    if sampling.stop
                    else {}
                ),
            )
        generated = output[:, width:].tolist()
        seconds = (time.perf_counter() - started) / len(rows)
        return [self._completion(row, tokens, seconds) for row, tokens in zip(rows, generated, strict=True)]

    def _completion(self, row: _Row, tokens: list[int], seconds: float) -> Completion:
        """Cuts a row of the batch at its end token or stop string."""
        end = next((i for i, token in enumerate(tokens) if token in self.end_ids), None)
        if end is not None:
            tokens = tokens[: end + 1]
        reason = "stop" if end is not None else "length"
        text = self.tokenizer.decode(tokens, skip_special_tokens=True)
        cut = min((at for s in row.request.sampling.stop if (at := text.find(s)) >= 0), default=None)
        if cut is not None:
            text, reason = text[:cut], "stop"
            tokens = tokens[: _tokens_covering(self.tokenizer, tokens, cut)]
        return Completion(
            text=text,
            finish_reason=reason,
            prompt_tokens=len(row.prompt),
            completion_tokens=len(tokens),
            seconds=seconds,
            token_ids=tuple(tokens),
            left_out=row.left_out,
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

    def _free_memory(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def seeded_sampling(
    sampling: Sampling, seeds: Sequence[int], width: int, max_new: int, device: torch.device
) -> Any:
    """Logits processors that turn greedy decoding into sampling with one random stream per row.

    Temperature and top-k/top-p/min-p filters are those of transformers. The last processor draws by inversion: row i
    at step t takes the token at which the cumulative probability passes u[i, t], the t-th number of the row's stream
    (Philox, keyed by the row's seed), and leaves only that token possible. At temperature 0 there is none of this.
    """
    import numpy as np
    import torch
    from transformers.generation import logits_process as lp

    processors = lp.LogitsProcessorList()
    if sampling.temperature == 0:
        return processors
    uniforms = torch.from_numpy(
        np.stack([np.random.Generator(np.random.Philox(key=seed)).random(max_new) for seed in seeds]),
    ).to(device)

    class Draw(lp.LogitsProcessor):
        """Inverse-CDF sampling of one token per row from that row's stream."""

        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            cumulative = torch.softmax(scores.float(), dim=-1).cumsum(
                dim=-1, dtype=torch.float64
            )  # (rows, vocab)
            step = input_ids.shape[1] - width
            threshold = uniforms[:, step : step + 1] * cumulative[:, -1:]
            token = torch.searchsorted(cumulative, threshold, right=True).clamp(max=scores.shape[-1] - 1)
            return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    if sampling.temperature != 1:
        processors.append(lp.TemperatureLogitsWarper(sampling.temperature))
    if sampling.top_k > 0:
        processors.append(lp.TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        processors.append(lp.TopPLogitsWarper(sampling.top_p))
    if sampling.min_p > 0:
        processors.append(lp.MinPLogitsWarper(sampling.min_p))
    processors.append(Draw())
    return processors


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


def _tokens_covering(tokenizer: Any, tokens: list[int], characters: int) -> int:
    """The smallest number of leading tokens whose text has at least ``characters`` characters."""
    low, high = 0, len(tokens)
    while low < high:
        middle = (low + high) // 2
        if len(tokenizer.decode(tokens[:middle], skip_special_tokens=True)) >= characters:
            high = middle
        else:
            low = middle + 1
    return low


def _out_of_memory(error: RuntimeError) -> bool:
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _explained(error: RuntimeError) -> Exception:
    if _out_of_memory(error):
        return MissingError(
            "out of memory even with one sample at a time: lower --max-tokens or use a smaller dtype"
        )
    return error
