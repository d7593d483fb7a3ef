"""A model on the hub, looked at before anything is downloaded: whether it is there, and a checkpoint.

The hub library tries again for minutes where there is no network, file by file; one question with a deadline comes
first, and after it the library is told to keep to its cache where the hub does not answer.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from cipo_eval.data.sources import is_offline
from cipo_eval.engines.checkpoint_files import check_names
from cipo_eval.errors import CipoError, MissingError, UsageError, require

DEADLINE = 6.0
"""Seconds until a hub that does not answer counts as out of reach, name resolution included."""
_PARTS = ("config.json", "adapter_config.json")


def look_at_hub(model: str, revision: str | None) -> Path | None:
    """Where the hub library's cache has the model, if only that can be used; None: the hub has it.

    Raises ``MissingError`` for a model that neither has, or that is not given to us, ``UsageError`` for a name that is
    none and for a repository that is no checkpoint.
    """
    require("data", f"{model!r}, which is no folder here: looking for it on the hub")
    cached = _cached(model, revision)
    if is_offline():
        if cached is None:
            raise _missing(model, "HF_HUB_OFFLINE is set and the hub's cache does not hold it: unset it")
        return cached
    outcome = _asked(model, revision)
    if isinstance(outcome, set):
        if "adapter_config.json" not in outcome:
            check_names(model, outcome)
        return None
    if isinstance(outcome, CipoError):
        raise outcome
    if cached is None:
        raise _missing(model, f"{outcome}: check the network, HF_ENDPOINT and the proxy")
    _keep_to_the_cache()
    return cached


def _cached(model: str, revision: str | None) -> Path | None:
    from huggingface_hub import errors, try_to_load_from_cache

    try:
        for name in _PARTS:
            path = try_to_load_from_cache(model, name, revision=revision)
            if isinstance(path, str):
                return Path(path).parent
    except errors.HFValidationError as error:
        raise UsageError(f"{model!r} is neither a local folder nor a hub id (owner/name)") from error
    return None


def _asked(model: str, revision: str | None) -> set[str] | CipoError | str:
    """Names of the repository's files; or what the hub has against it; or why there is no answer."""
    answer: list[Any] = []

    def ask() -> None:
        try:
            from huggingface_hub import HfApi

            info = HfApi(library_name="cipo-eval").model_info(model, revision=revision, timeout=DEADLINE - 1)
            answer.append({file.rfilename for file in info.siblings or ()})
        except Exception as error:
            answer.append(_explained(model, revision, error))

    # a thread, since nothing else ends a name server's silence; it is left alone at the deadline
    thread = threading.Thread(target=ask, daemon=True, name="cipo-eval-hub")
    thread.start()
    thread.join(DEADLINE)
    outcome: set[str] | CipoError | str = answer[0] if answer else f"no answer within {DEADLINE:.0f} s"
    return outcome


def _explained(model: str, revision: str | None, error: Exception) -> CipoError | str:
    """What went wrong between us and the hub: an error of ours where it answered, else a reason."""
    from huggingface_hub import constants, errors

    if isinstance(error, errors.GatedRepoError):
        return _missing(model, "it is gated: accept its terms on its page, then `hf auth login`")
    if isinstance(error, errors.RepositoryNotFoundError):
        return _missing(model, f"{constants.ENDPOINT} has no such model, or a private one (`hf auth login`)")
    if isinstance(error, errors.RevisionNotFoundError):
        return UsageError(f"{model} has no revision {revision!r} on the hub")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status is not None and status < 500:
        return _missing(model, f"{constants.ENDPOINT} answered with HTTP {status}")
    if status is not None:
        return f"{constants.ENDPOINT} answered with HTTP {status}"
    return f"{constants.ENDPOINT} is out of reach ({type(error).__name__})"


def _missing(model: str, why: str) -> MissingError:
    return MissingError(f"{model!r} is neither a local folder nor obtainable from the hub: {why}")


def _keep_to_the_cache() -> None:
    """For the rest of this process and its children."""
    from huggingface_hub import constants

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
