"""What the files of a checkpoint say before anything heavy is imported: that it is there, whole, and a causal LM.

Reads configurations and the headers of weights, never weights: well under a second for the largest checkpoints. Files
are hostile input: sizes that they state are checked before anything of that size is read.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cipo_eval.errors import UsageError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
)
"""A checkpoint with none of these has no tokenizer; transformers would not say so."""
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""In the order in which transformers looks for them."""
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_WEIGHT_TYPES = (".safetensors", ".bin", ".pt", ".pth")
_MOST_HEADER = 100_000_000
"""Bytes of a safetensors header at the most; the format's own limit."""
_POINTER = b"version https://git-lfs"
_OTHER_HEADS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMaskedLM",
    "ForMultipleChoice",
    "RewardModel",
)
"""Ends of architecture names whose models write no text."""


def check_place(model: str) -> None:
    """Raises ``UsageError`` for a name that can only be a folder's and is none."""
    folder = Path(model)
    if folder.is_file():
        raise UsageError(f"{model} is a file: --model takes the folder of a checkpoint, or a hub id")
    if not folder.is_dir() and (
        not model or folder.is_absolute() or model.startswith((".", "~")) or model.count("/") > 1
    ):
        raise UsageError(f"model folder {model or repr(model)} does not exist")


def check_folder(folder: Path, *, tokenizer: bool = True) -> None:
    """Checks a checkpoint's folder: configuration, tokenizer (unless it comes from elsewhere), weights.

    Raises ``UsageError`` for what is not there, not whole, or no causal LM.
    """
    names = [path.name for path in folder.iterdir()]
    check_names(str(folder), names, tokenizer=tokenizer)
    check_config(str(folder), read_object(folder / "config.json"))
    _check_texts(folder)
    for name in WEIGHTS:
        if (folder / name).is_file():
            if name.endswith(".index.json"):
                _check_shards(folder / name)
            else:
                check_weights(folder / name)
            return


def check_adapter(folder: Path) -> dict[str, Any]:
    """Checks an adapter's folder: its weights are whole and it names a base. Returns its configuration."""
    facts = read_object(folder / "adapter_config.json")
    if not facts.get("base_model_name_or_path"):
        raise UsageError(f"adapter_config.json of {folder} names no base_model_name_or_path")
    weights = [folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()]
    if not weights:
        raise UsageError(f"the adapter {folder} has no weights: no {' or '.join(ADAPTER_WEIGHTS)}")
    check_weights(weights[0])
    _check_texts(folder)
    return facts


def check_names(model: str, names: Iterable[str], *, tokenizer: bool = True) -> None:
    """Checks, by names alone, that there are files of each kind that a checkpoint has."""
    names = set(names)
    if "config.json" not in names:
        raise UsageError(f"{model} is not a Hugging Face checkpoint: it has {_seen(names)}no config.json")
    if tokenizer and names.isdisjoint(TOKENIZER_FILES):
        raise UsageError(f"{model} has no tokenizer: save it there with tokenizer.save_pretrained({model!r})")
    if not any(name.endswith(_WEIGHT_TYPES) for name in names) and names.isdisjoint(WEIGHTS):
        raise UsageError(f"{model} has no weights: no {WEIGHTS[0]}, no {WEIGHTS[1]}")


def check_config(model: str, config: Mapping[str, Any]) -> None:
    """Checks that a ``config.json`` is one of a causal LM, as far as one sees without transformers."""
    architectures = config.get("architectures") or []
    if not isinstance(architectures, list) or not all(isinstance(name, str) for name in architectures):
        raise UsageError(f"config.json of {model}: architectures is no list of names")
    if not isinstance(config.get("model_type"), str) and not config.get("auto_map"):
        raise UsageError(f"config.json of {model} names no model_type: it says nothing of what model this is")
    if config.get("is_encoder_decoder"):
        raise UsageError(
            f"{model} is an encoder-decoder model ({config.get('model_type')}): only causal LMs are evaluated"
        )
    if architectures and all(name.endswith(_OTHER_HEADS) for name in architectures):
        raise UsageError(f"{model} is no causal LM: its config.json says {', '.join(architectures)}")


def check_weights(path: Path) -> None:
    """Checks that a file of weights is whole, as far as its size and its ends say. Raises ``UsageError``."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(len(_POINTER))
    if start == _POINTER:
        raise UsageError(f"{path} is a Git LFS pointer, not the weights: git lfs pull, in its repository")
    if not size:
        raise UsageError(f"the weights of {path} do not load: the file is empty")
    if path.suffix != ".safetensors":
        if start.startswith(b"PK") and not zipfile.is_zipfile(path):
            raise UsageError(f"the weights of {path} do not load: the file is cut off")
        return
    safetensors_header(path)


def safetensors_header(path: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors, by name; its size must be what that adds up to.

    Raises ``UsageError`` for a file that is no safetensors file or not whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(_MOST_HEADER, size - 8):
            raise UsageError(f"the weights of {path} do not load: it is cut off, or no safetensors file")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            end = max((int(tensor["data_offsets"][1]) for tensor in header.values()), default=0)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                f"the weights of {path} do not load: its header is damaged, or it is no safetensors file"
            ) from error
    if size != 8 + length + end:
        raise UsageError(
            f"the weights of {path} do not load: it has {size:,} bytes where its header says {8 + length + end:,}"
            + (" (cut off while it was copied or written?)" if size < 8 + length + end else "")
        )
    return dict(header)


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that must hold an object. Raises ``UsageError`` for one that does not."""
    place = f"{path.name} of {path.parent}"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{place} cannot be read ({type(error).__name__}: {_line(error)})") from error
    if not isinstance(value, dict):
        raise UsageError(f"{place} must hold an object")
    return value


def shown(names: Iterable[str], most: int = 3) -> str:
    """The first of some names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(name[:120] for name in names[:most]) + more


def _check_shards(index: Path) -> None:
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(v, str) for v in places.values()):
        raise UsageError(f"{index} has no weight_map of tensors and their files")
    files = sorted(set(places.values()))
    if missing := [name for name in files if not (index.parent / name).is_file()]:
        raise UsageError(
            f"{index.parent} lacks {len(missing)} of {len(files)} files of weights: {shown(missing)}"
        )
    for name in files:
        check_weights(index.parent / name)


def _check_texts(folder: Path) -> None:
    """Small files that are read later: whole, and with a chat template that can be chosen."""
    for name in ("generation_config.json", "tokenizer_config.json"):
        if (folder / name).is_file():
            read_object(folder / name)
    if (folder / "tokenizer.json").is_file():  # too large to parse it for this
        with (folder / "tokenizer.json").open("rb") as file:
            file.seek(max(0, (folder / "tokenizer.json").stat().st_size - 64))
            if not file.read().rstrip().endswith(b"}"):
                raise UsageError(f"tokenizer.json of {folder} cannot be read: it is cut off, or not JSON")


def _seen(names: set[str]) -> str:
    """What a folder without a configuration may be instead."""
    if not names:
        return "no files at all, so "
    if any(name.endswith(".distcp") or name == ".metadata" for name in names):
        return "shards of a training run (merge them into a checkpoint first), "
    return ""


def _line(error: BaseException) -> str:
    return next(iter(str(error).strip().splitlines()), "")[:200]
