"""What ``--model`` names: a folder or hub id of weights, or a LoRA adapter on such a base; and what the files say.

Engines that load weights themselves share this: where a model's parts are, its identity, and errors that say what is
wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cipo_eval.engines.files import TOKENIZER_FILES, check_adapter, check_folder, check_place
from cipo_eval.engines.hub import look_at_hub
from cipo_eval.errors import MissingError, UsageError
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
    """As asked for: a folder or a hub id."""
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        look(self.model, self.revision)

    @cached_property
    def _adapter_config(self) -> Path | None:
        from transformers.utils.peft_utils import find_adapter_config_file

        if (Path(self.model) / "config.json").is_file():  # weights, whatever else is beside them
            return None
        try:
            found = find_adapter_config_file(self.model, revision=self.revision)
        except Exception as error:
            raise _load_error(self.model, "configuration", error) from error
        return Path(found) if found else None

    @cached_property
    def adapter(self) -> str | None:
        """Folder of the adapter, where the model is one."""
        if self._adapter_config is None:
            return None
        if Path(self.model).is_dir():
            return self.model
        from huggingface_hub import snapshot_download

        try:
            return snapshot_download(self.model, revision=self.revision)
        except Exception as error:
            raise _load_error(self.model, "adapter", error) from error

    @cached_property
    def adapter_facts(self) -> dict[str, Any]:
        """``adapter_config.json``; empty where there is no adapter."""
        import json

        if self._adapter_config is None:
            return {}
        try:
            found = json.loads(self._adapter_config.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"adapter_config.json of {self.model} cannot be read: {error}") from error
        if not isinstance(found, dict):
            raise UsageError(f"adapter_config.json of {self.model} must hold an object")
        return found

    @cached_property
    def base(self) -> str:
        """Folder or hub id of the weights."""
        if self._adapter_config is None:
            return self.model
        return str(self.adapter_facts.get("base_model_name_or_path") or "")

    @property
    def _common(self) -> dict[str, Any]:
        revision = self.revision if self.adapter is None else self.adapter_facts.get("revision")
        return {"revision": revision, "trust_remote_code": self.trust_remote_code}

    @cached_property
    def config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.base, **self._common)
        except Exception as error:
            raise _load_error(self.base, "configuration", error) from error

    @cached_property
    def tokenizer(self) -> Any:
        """The adapter's own one where it has one."""
        from transformers import AutoTokenizer

        own = self.adapter is not None and any((Path(self.adapter) / f).is_file() for f in TOKENIZER_FILES)
        place = self.adapter if own else self.base
        try:
            return AutoTokenizer.from_pretrained(place, **({} if own else self._common))
        except Exception as error:
            raise _load_error(str(place), "tokenizer", error) from error

    @cached_property
    def _generation(self) -> Any:
        from transformers.generation.configuration_utils import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self.base, revision=self._common["revision"])
        except OSError:  # there is none
            return GenerationConfig.from_model_config(self.config)
        except Exception as error:
            raise _load_error(self.base, "generation_config.json", error) from error

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
        said = self._generation.to_diff_dict()
        return {name: said[name] for name in _RECOMMENDED if said.get(name) is not None}

    @property
    def context(self) -> int | None:
        """Most tokens that it takes."""
        value = getattr(self.config.get_text_config(), "max_position_embeddings", None)
        return int(value) if value else None

    def load(self, dtype: Any) -> Any:
        """The model with its weights, those of an adapter merged into them."""
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        try:
            model: Any = AutoModelForCausalLM.from_pretrained(self.base, dtype=dtype, **self._common)
        except Exception as error:
            raise _load_error(self.base, "model", error) from error
        if self.adapter is None:
            return model
        try:
            from peft import PeftModel
        except ImportError as error:
            raise MissingError(
                f"{self.model} is a LoRA adapter: pip install 'cipo-eval[lora]' to load it"
            ) from error
        try:
            if model.get_input_embeddings().num_embeddings < len(self.tokenizer):
                model.resize_token_embeddings(len(self.tokenizer))
            return PeftModel.from_pretrained(model, self.adapter).merge_and_unload()
        except Exception as error:
            raise _load_error(self.adapter, "adapter", error) from error

    def describe(self) -> dict[str, Any]:
        """Its identity for ``run.json``."""
        found: dict[str, Any] = {
            "model": self.model,
            "revision": getattr(self.config, "_commit_hash", None) or self.revision,
            "fingerprint": model_fingerprint(self.base, self.config.to_dict()),
            "recommended_sampling": self.recommended,
        }
        if self.adapter is not None:
            found["base"] = self.base
            found["adapter_fingerprint"] = model_fingerprint(self.adapter, {})
        return found


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


def _load_error(model: str, part: str, error: Exception) -> Exception:
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    if Path(model).is_dir():
        return UsageError(f"the {part} of {model} does not load ({type(error).__name__}: {first})")
    return MissingError(
        f"the {part} of {model!r} is neither a local folder nor obtainable from the hub "
        f"({type(error).__name__}: {first})",
    )
