"""What ``--model`` names: a folder or hub id of weights, or a LoRA adapter on such a base; and what the files say.

Engines that load weights themselves share this: where a model's parts are, its identity, and errors that say what is
wrong with it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cipo_eval.engines.checkpoint_files import (
    TOKENIZER_FILES,
    check_adapter,
    check_config,
    check_folder,
    check_place,
    read_object,
    shown,
)
from cipo_eval.engines.hub import look_at_hub
from cipo_eval.engines.weights import embedding_rows, imported_peft, load_adapter, load_model
from cipo_eval.errors import CipoError, MissingError, UsageError
from cipo_eval.records import fingerprint

_RECOMMENDED = ("do_sample", "temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_FILE_TYPES = frozenset({".safetensors", ".bin", ".json", ".model", ".txt", ".jinja"})


def look(model: str, revision: str | None = None) -> None:
    """A quick look at what ``--model`` names, before anything heavy: that it is there, whole, and a causal LM.

    Of a folder (also an adapter's, and its base) configuration, names and sizes of files, and headers of weights; of a
    hub id whether the hub, or its cache, has such a model. Neither torch nor transformers is imported. Raises
    ``UsageError``/``MissingError``, for a hub that does not answer within seconds.
    """
    if model.lower().endswith(".gguf"):
        raise UsageError(
            f"GGUF files run behind a server: llama-server -m {model}, then "
            f"--engine openai --base-url http://127.0.0.1:8080/v1 --model {Path(model).name}"
        )
    check_place(model)
    folder = Path(model) if Path(model).is_dir() else look_at_hub(model, revision)
    if folder is None:
        return
    if (folder / "config.json").is_file() or not (folder / "adapter_config.json").is_file():
        check_folder(folder)
        return
    facts = check_adapter(folder)
    base = str(facts["base_model_name_or_path"])
    own = any((folder / name).is_file() for name in TOKENIZER_FILES)
    check_place(base)
    if Path(base).is_dir():
        check_folder(Path(base), tokenizer=not own)
    elif (cached := look_at_hub(base, facts.get("revision"))) is not None:
        check_folder(cached, tokenizer=not own)


@dataclass(frozen=True)  # no slots: its parts are cached
class Checkpoint:
    """A model that transformers can load. Raises ``UsageError``/``MissingError`` for one that is not there, has no
    tokenizer or does not load."""

    model: str
    """The model as it was asked for: a folder or a hub id."""
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        look(self.model, self.revision)

    @cached_property
    def _adapter_config(self) -> Path | None:
        from transformers.utils.peft_utils import find_adapter_config_file

        if (Path(self.model) / "config.json").is_file():  # weights, whatever else is beside them
            return None
        with _load_errors(self.model, "configuration"):
            path = find_adapter_config_file(self.model, revision=self.revision)
        return Path(path) if path else None

    @cached_property
    def adapter(self) -> str | None:
        """Folder of the adapter, where the model is one."""
        if self._adapter_config is None:
            return None
        if Path(self.model).is_dir():
            return self.model
        from huggingface_hub import snapshot_download

        with _load_errors(self.model, "adapter"):
            return snapshot_download(self.model, revision=self.revision)

    @cached_property
    def adapter_facts(self) -> dict[str, Any]:
        """``adapter_config.json``; empty where there is no adapter."""
        return {} if self._adapter_config is None else read_object(self._adapter_config)

    @cached_property
    def base(self) -> str:
        """Folder or hub id of the weights."""
        if self._adapter_config is None:
            return self.model
        return str(self.adapter_facts.get("base_model_name_or_path") or "")

    @property
    def base_revision(self) -> str | None:
        """Revision of the weights, which an adapter names."""
        return self.revision if self.adapter is None else self.adapter_facts.get("revision")

    @property
    def _common(self) -> dict[str, Any]:
        return {"revision": self.base_revision, "trust_remote_code": self.trust_remote_code}

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        with _load_errors(self.base, "configuration"):
            return AutoConfig.from_pretrained(self.base, **self._common)

    @cached_property
    def tokenizer(self) -> Any:
        """The adapter's own one where it has one. Of several chat templates it has the default only."""
        from transformers import AutoTokenizer

        own = self.adapter is not None and any((Path(self.adapter) / f).is_file() for f in TOKENIZER_FILES)
        place = self.adapter if own else self.base
        with _load_errors(str(place), "tokenizer"):
            tokenizer = AutoTokenizer.from_pretrained(place, **({} if own else self._common))
            # Llama 3's configuration asks for it: spaces before punctuation would vanish from what was said
            tokenizer.clean_up_tokenization_spaces = False
            if isinstance(tokenizer.chat_template, dict):
                tokenizer.chat_template = _default_template(str(place), tokenizer.chat_template)
            return tokenizer

    @cached_property
    def _generation(self) -> Any:
        from transformers.generation.configuration_utils import GenerationConfig

        with _load_errors(self.base, "generation_config.json"):
            try:
                return GenerationConfig.from_pretrained(self.base, revision=self._common["revision"])
            except OSError:  # there is none
                return GenerationConfig.from_model_config(self.config)

    @property
    def ends(self) -> frozenset[int]:
        """Ids of end tokens, of the generation config and of the tokenizer: fine-tuned chat models often name their
        end-of-turn token in the tokenizer only."""
        ends = self._generation.eos_token_id
        ends = [ends] if isinstance(ends, int) else ends or []
        return frozenset({*ends, self.tokenizer.eos_token_id} - {None})

    @property
    def recommended(self) -> dict[str, Any]:
        """Sampling parameters that its ``generation_config.json`` recommends."""
        defaults = self._generation.to_diff_dict()
        return {name: defaults[name] for name in _RECOMMENDED if defaults.get(name) is not None}

    @property
    def context(self) -> int | None:
        """Most tokens that it takes."""
        value = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return int(value) if value else None

    def load(self, dtype: Any) -> Any:
        """The model with its weights, those of an adapter merged into them. Raises ``UsageError`` where they are not
        all its own (``weights``), or where the tokenizer has tokens that the model lacks."""
        if self.adapter is not None:
            imported_peft(self.model)  # before minutes of loading
        model = self._loaded(dtype)
        if self.adapter is not None:
            model = self._merged(model)
        self._check_vocabulary(model.get_input_embeddings().weight.shape[0])
        return model

    def check_weights(self) -> None:
        """What ``load`` would say of names and shapes, for whoever loads weights some other way; reads none of them."""
        if self.config.model_type not in _causal_types() or getattr(self.config, "quantization_config", None):
            return
        model = self._loaded("auto", device_map="meta")
        if self.adapter is not None and importlib.util.find_spec("peft"):
            self._merged(model)

    def _loaded(self, dtype: Any, device_map: str | None = None) -> Any:
        check_config(self.base, self.config.to_dict())
        with _load_errors(self.base, "model"):
            return load_model(self.base, dtype=dtype, device_map=device_map, **self._common)

    def _check_vocabulary(self, rows: int) -> None:
        """That the model has an embedding for each token; one that was added only to fill batches may lack it."""
        tokenizer = self.tokenizer
        beyond = {token: i for token, i in tokenizer.get_vocab().items() if i >= rows}
        added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
        template = str(tokenizer.chat_template or "")
        needed = [
            token
            for token in sorted(beyond, key=beyond.__getitem__)
            if token not in added or token in template or token in (tokenizer.bos_token, tokenizer.eos_token)
        ]
        if needed:
            raise UsageError(
                f"the tokenizer of {self.model} is not its model's: {len(beyond):,} tokens are beyond the embedding, "
                f"which has {rows:,} rows ({shown(needed)})"
            )

    def _merged(self, model: Any) -> Any:
        assert self.adapter is not None
        with _load_errors(self.adapter, "adapter"):
            if rows := embedding_rows(model, self.adapter, len(self.tokenizer)):
                model.resize_token_embeddings(rows, mean_resizing=False)  # the adapter has them
            return load_adapter(model, self.adapter).merge_and_unload()

    def describe(self) -> dict[str, Any]:
        """Its identity for ``run.json``."""
        facts: dict[str, Any] = {
            "model": self.model,
            "revision": getattr(self.config, "_commit_hash", None) or self.revision,
            "fingerprint": model_fingerprint(self.base, self.config.to_dict()),
            "recommended_sampling": self.recommended,
        }
        if self.adapter is not None:
            facts["base"] = self.base
            facts["adapter_fingerprint"] = model_fingerprint(self.adapter, {})
        return facts


def model_fingerprint(model: str, config: Mapping[str, Any]) -> str:
    """Identity of a checkpoint: of a local folder every file's size and content (of large ones 32 samples).

    Whole hashes of large checkpoints take minutes; training changes nearly every block, so samples tell two apart.
    """
    import hashlib

    files: dict[str, Any] = {}
    folder = Path(model)
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.suffix not in _FILE_TYPES or not path.is_file():
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


def _causal_types() -> frozenset[str]:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    return frozenset(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def _default_template(place: str, templates: Mapping[str, str]) -> str:
    if "default" not in templates:
        raise UsageError(
            f"{place} has chat templates called {shown(sorted(templates))} and none called default: write the one that "
            "is meant to chat_template.jinja there"
        )
    return templates["default"]


@contextmanager
def _load_errors(place: str, part: str) -> Iterator[None]:
    """Says in one line what of a model did not load."""
    try:
        yield
    except CipoError:
        raise
    except Exception as error:
        raise _load_error(place, part, error) from error


def _load_error(model: str, part: str, error: Exception) -> Exception:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    message = " ".join(lines[: 2 if lines[0].endswith(":") else 1])[:300]
    why = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if isinstance(error, ImportError):
        return MissingError(f"the {part} of {model} needs a package that is not here ({why})")
    if Path(model).is_dir():
        return UsageError(f"the {part} of {model} does not load ({why})")
    return MissingError(
        f"the {part} of {model!r} is neither a local folder nor obtainable from the hub ({why})",
    )
