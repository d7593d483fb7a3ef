"""Loading weights, all of them or none: a tensor that is missing would be random, and the model another one each time.

transformers and peft load what matches by name and shape and only warn of the rest. Here the rest is an error, unless
it is known not to change what a causal LM says.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cipo_eval.engines.checkpoint_files import shown
from cipo_eval.errors import UsageError, require

_UNUSED = re.compile(
    r"rotary_emb\.inv_freq$|(^|\.)position_ids$"  # buffers that older versions saved
    r"|\.(attn|attention)\.(masked_)?bias$"  # likewise: causal masks
    r"|(^|\.)v_head\."  # what reinforcement learning estimates values with
    r"|(^|\.)(mtp|mtp_layers|nextn)\."  # drafts of further tokens
    r"|\.([kvq]|prob)_scale$"  # of caches in 8 bits
    r"|(^|\.)(visual|vision_tower|vision_model|multi_modal_projector|audio_tower|embed_vision|embed_audio)\."
)
"""Names that a checkpoint may have beside those of its causal LM; model classes declare more of them."""
_WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module", "module")
"""What torch.compile, FSDP, activation checkpointing, Lightning and data parallelism put into names."""


def load_model(place: str, *, dtype: Any, device_map: str | None = None, **options: Any) -> Any:
    """A causal LM with all of its weights. ``device_map="meta"``: names and shapes are checked, no weights are read.

    Raises ``UsageError`` for weights that are missing, of another shape or not the model's, and what transformers
    raises. Weights that do not matter are named in a warning.
    """
    from transformers import AutoModelForCausalLM

    if device_map is not None:
        options["device_map"] = device_map
    with _silenced():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            place, dtype=dtype, output_loading_info=True, ignore_mismatched_sizes=True, **options
        )
    model, info = loaded
    tied = _tied(model, info["missing_keys"])
    missing = sorted(set(info["missing_keys"]) - tied)
    unused = {name for name in info["unexpected_keys"] if _is_unused(name, model)}
    unexpected = sorted(set(info["unexpected_keys"]) - unused)
    mismatched = [
        f"{name} {tuple(held)} for {tuple(own)}" for name, held, own in sorted(info["mismatched_keys"])
    ]
    if missing or unexpected or mismatched:
        parts = _parts(missing=missing, unexpected=unexpected, mismatched=mismatched)
        raise UsageError(
            f"the weights of {place} are not those of {type(model).__name__}: {parts}"
            + _remedy(place, unexpected, model.state_dict())
        )
    if unused:
        warnings.warn(f"{place} holds weights that are not used: {shown(sorted(unused))}", stacklevel=2)
    return model


def load_adapter(model: Any, place: str) -> Any:
    """peft's model with all weights of an adapter's folder on ``model``.

    Raises ``UsageError`` for an adapter whose weights are not all there or belong nowhere, ``MissingError`` without
    peft, and what peft raises.
    """
    peft = imported_peft(place)
    with warnings.catch_warnings():  # of what is an error here
        warnings.filterwarnings("ignore", "Found missing adapter keys")
        warnings.filterwarnings(
            "ignore", ".*copying from a non-meta parameter"
        )  # names and shapes are all it is for
        try:
            adapted = peft.PeftModel.from_pretrained(model, place)
            # again: only this call tells what did not match
            result = adapted.load_adapter(place, adapted.active_adapter)
        except KeyError as error:  # modules_to_save that are not in the file
            raise UsageError(
                f"the weights of the adapter {place} are not those of its base: {error} is missing"
            ) from error
    check_adapter_names(adapted, place, missing=result.missing_keys, unexpected=result.unexpected_keys)
    return adapted


def embedding_rows(model: Any, adapter: str, tokens: int) -> int | None:
    """Rows that the embedding must have for an adapter which holds one; None: those that it has. ``tokens``: of the
    adapter's tokenizer."""
    from peft.utils.save_and_load import load_peft_weights

    embedding = model.get_input_embeddings()
    name = next(name for name, module in model.named_modules() if module is embedding).rpartition(".")[2]
    own, width = embedding.weight.shape
    for key, tensor in load_peft_weights(adapter, device="cpu").items():
        if f".{name}." not in key:
            continue
        if "trainable_tokens" in key and tokens > own:
            return tokens
        if key.endswith(".weight") and tensor.ndim == 2 and tensor.shape[1] == width and "lora_" not in key:
            return int(tensor.shape[0]) if tensor.shape[0] != own else None
    return None


def check_adapter_names(model: Any, place: str, *, missing: Sequence[str], unexpected: Sequence[str]) -> None:
    """Refuses what peft found to be wrong with the names of an adapter's weights. Raises ``UsageError``."""
    own = f".{model.active_adapter}."  # peft's, not in files
    known = {name.replace(own, ".") for name in model.state_dict()}
    # peft saves modules_to_save of embeddings twice, and knows one of the names
    foreign = sorted({name.replace(own, ".") for name in unexpected} - known)
    lacking = sorted(name.replace(own, ".") for name in missing)
    if lacking or foreign:
        parts = _parts(missing=lacking, unexpected=foreign)
        raise UsageError(
            f"the weights of the adapter {place} are not those of its base: {parts}{_remedy(place, foreign, known)}"
        )


def imported_peft(adapter: str) -> Any:
    """The library. Raises ``MissingError`` where it is not installed."""
    require("lora", f"{adapter}, a LoRA adapter,")
    import peft

    return peft


def _tied(model: Any, missing: Iterable[str]) -> set[str]:
    """Those of the missing parameters that are others, which are not missing, under a second name."""
    missing = set(missing)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    loaded = {id(value) for name, value in parameters.items() if name not in missing}
    return {name for name in missing if id(parameters.get(name)) in loaded}


def _is_unused(name: str, model: Any) -> bool:
    if _UNUSED.search(name):
        return True
    config = model.config.get_text_config()
    layer = re.search(
        r"(?:^|\.)layers\.(\d+)\.", name
    )  # drafts of further tokens, behind the model's own layers
    return (
        layer is not None
        and bool(getattr(config, "num_nextn_predict_layers", None))
        and int(layer[1]) >= config.num_hidden_layers
    )


def _parts(**names: list[str]) -> str:
    return "; ".join(
        f"{len(names_of):,} {kind} ({shown(names_of, 2)})" for kind, names_of in names.items() if names_of
    )


def _remedy(place: str, unexpected: Sequence[str], known: Iterable[str]) -> str:
    """How names become the model's, where something that was put into them is all that is wrong."""
    change = _change(unexpected, frozenset(known))
    if change is None:
        return ""
    held = min(unexpected)
    problem = f"; there {re.sub(*change, held)} is called {held}, as training wrappers leave it"
    if not any(Path(place).glob("*.safetensors")):
        return f"{problem}: save the model inside the wrapper"
    renamed = "re.sub({!r}, {!r}, n)".format(*change)
    return (
        f"{problem}: save the model inside the wrapper, or rename: "
        f'python -c "import glob, re, safetensors.torch as s; [s.save_file({{{renamed}: t '
        f"for n, t in s.load_file(f).items()}}, f, {{'format': 'pt'}}) "
        f'for f in glob.glob({str(Path(place) / "*.safetensors")!r})]"'
    )


def _change(unexpected: Sequence[str], known: frozenset[str]) -> tuple[str, str] | None:
    """A pattern and what to put in its place, so that all unexpected names are known."""
    if not unexpected:
        return None
    there = [part for part in _WRAPPERS if any(f".{part}." in f".{name}" for name in unexpected)]
    changes = [(rf"(^|(?<=\.))({'|'.join(there)})\.", "")] if there else []
    name = min(unexpected)
    ends = (name[at + 1 :] for at, letter in enumerate(name) if letter == ".")
    changes += [(f"^{re.escape(name[: -len(end)])}", "") for end in ends if end in known]
    changes += [("^", whole[: -len(name)]) for whole in sorted(known) if whole.endswith(f".{name}")]
    return next((c for c in changes if all(re.sub(*c, name) in known for name in unexpected)), None)


@contextmanager
def _silenced() -> Iterator[None]:
    """Without transformers' progress bars and without its report, which comes in our words."""
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # type: ignore[no-untyped-call]  # likewise
    try:
        yield
    finally:
        logging.set_verbosity(before)
