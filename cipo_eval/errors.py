"""The errors that users meet, each with its exit code.

Everything foreseeable (a wrong flag, missing data, a full disk) raises a ``CipoError`` whose message says what is
wrong and what to do about it; the command line prints it without a traceback and exits with ``exit_code``. Anything
else that escapes is a bug in cipo-eval and shows its traceback.

Exit codes: 0 done, 1 the run finished with failures that it names, 2 wrong usage or input, 3 something needed is
missing; 130, 143, 129: ended by SIGINT, SIGTERM, SIGHUP (everything so far is kept).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

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
