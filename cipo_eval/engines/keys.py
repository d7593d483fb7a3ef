"""Keys of servers come from the environment. A key that is given in place of its variable's name must not be repeated
anywhere: neither in a message nor in what a run stores."""

from __future__ import annotations

import os
import re
from itertools import pairwise

from cipo_eval.errors import MissingError, UsageError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEY_BEGINS = re.compile(
    r"(sk|pk|rk|hf|gsk|xai|ghp|gho|r8|pplx|nvapi|tgp|fw|csk|esecret|Bearer)[_-]|AIza|AKIA|eyJ"
)
"""How the keys of well-known services begin."""


def check_key_variable(name: str) -> None:
    """Raises ``UsageError``, without repeating it, for what is no name of a variable or looks like a key itself."""
    if name in os.environ and _NAME.fullmatch(name):
        return
    if not _NAME.fullmatch(name) or _KEY_BEGINS.match(name) or any(map(_random, name.split("_"))):
        raise UsageError(
            "--api-key-env wants the name of an environment variable that holds the key, such as OPENAI_API_KEY; what "
            "was given looks like a key itself (it is not repeated here, and nothing was stored)"
        )


def read_key(name: str) -> str:
    """The key in a variable, empty where there is none. Raises ``MissingError`` for one that no header can carry."""
    key = os.environ.get(name, "").strip()
    if not all(" " < character <= "~" for character in key):
        raise MissingError(
            f"the key in {name} holds blanks or characters that no request can carry: export it again"
        )
    return key


def _random(word: str) -> bool:
    """Whether a part of a name looks drawn by chance: long, and of kinds of characters that change again and again."""
    kinds = ["digit" if c.isdigit() else "upper" if c.isupper() else "lower" for c in word]
    changes = sum(a != b for a, b in pairwise(kinds))
    return len(word) >= 32 or (len(word) >= 12 and changes >= 4)
