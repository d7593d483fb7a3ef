"""The tests of code problems: what a program is run on, and what must come out.

A ``TestSet`` is plain data. It stays in a file of the cache, named by its contents, and a ``Problem`` refers to it
by that name (``gold``): the tests of one LiveCodeBench problem can have 50 MB. Sandboxed programs see a test's input,
never the rest of it.
"""

from __future__ import annotations

import functools
import gzip
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from cipo_eval.errors import MissingError
from cipo_eval.files import cache_dir, write_bytes
from cipo_eval.records import fingerprint

_REFERENCE = re.compile(r"tests:([0-9a-f]{16})")


class Kind(StrEnum):
    """How a program is run on a test."""

    CALLS = "calls"
    """A function, method or class of the program is called with given arguments."""
    CODE = "code"
    """Test source (``assert f(1) == 2``) that calls the program's function itself."""
    STDIN = "stdin"
    """The program reads standard input and writes standard output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Test:
    """One test. Values are in the sandbox codec's JSON form (``sandbox.codec.encode``)."""

    __test__ = False  # not a test class, whatever pytest thinks

    args: list[Any] = field(default_factory=list)
    """``calls``: positional arguments. With ``ops``: a list of arguments for each."""
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    ops: list[str] = field(default_factory=list)
    """``calls`` of a design class: the class's name, then the methods to call on its instance."""
    after: int | None = None
    """``calls``: the result is this argument after the call (position), for functions that work in place."""
    input: str = ""
    """``stdin``: the standard input."""
    source: str = ""
    """``code``: statements that raise where the program is wrong; they see ``candidate`` and the entry point's name."""
    expected: Any = None
    """What ``calls`` must return, or ``stdin`` must print. Meaningless with ``derive``."""
    derive: bool = False
    """``calls``: expected is what the reference program returns."""
    confirmed: bool = False
    """With ``derive``: an input that somebody made up. It counts where the reference and all ``confirmations`` give the
    same for it, and soon (``verifiers.code.prepare``)."""
    public: bool = False
    """May be shown to a model (``feedback``). ``expected`` of other tests never leaves the verifier."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Tests that are reported together, such as ``base`` and ``plus``."""

    name: str
    tests: tuple[Test, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """The tests of one problem. A part named after a group passes where it and all groups before it do."""

    __test__ = False

    kind: Kind
    groups: tuple[Group, ...]
    entry_point: str = ""
    """Name that the program must define. Not for ``stdin``."""
    target: str = ""
    """``calls``: the expression that gives the callable, evaluated for each call: ``f``, ``Solution().f``; without it
    the entry point. Not with ``ops``."""
    preamble: str = ""
    """Source that runs before the program in its namespace: imports and classes that the problem takes as given."""
    reference: str | None = None
    """A right program, complete (``derive``, tests of ``code``). Never shown to a sandboxed program."""
    confirmations: tuple[str, ...] = ()
    """Further right programs, complete, of other people than the reference."""
    rule: Mapping[str, Any] = field(default_factory=lambda: {"name": "equal"})
    """How results are compared: ``name`` (``verifiers.code.outputs.RULES``) and its options."""
    cpu_seconds: float = 6.0
    """Processor time that one test may take, at least."""
    reference_factor: float = 0.0
    """Times the reference's own time, where that is more (with ``derive``)."""
    memory: int = 4 << 30
    """Bytes of address space that a program may use."""

    def to_json(self) -> dict[str, Any]:
        """Without what has its default: test sets are large."""
        whole: dict[str, Any] = {item.name: getattr(self, item.name) for item in fields(self)}
        whole["groups"] = [
            {"name": group.name, "tests": [_short(test) for test in group.tests]} for group in self.groups
        ]
        whole["confirmations"] = list(self.confirmations)
        if not self.confirmations:
            del whole["confirmations"]
        return whole

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> TestSet:
        """The test set that ``to_json`` gave; raises ``KeyError`` or ``TypeError`` for anything else."""
        groups = tuple(
            Group(name=group["name"], tests=tuple(Test(**test) for test in group["tests"]))
            for group in body["groups"]
        )
        confirmations = tuple(body.get("confirmations", ()))
        return cls(**{**body, "kind": Kind(body["kind"]), "groups": groups, "confirmations": confirmations})


_DEFAULTS = asdict(Test())


def _short(test: Test) -> dict[str, Any]:
    fields = {name: getattr(test, name) for name in _DEFAULTS}
    return {
        name: value
        for name, value in fields.items()
        if type(value) is not type(_DEFAULTS[name]) or value != _DEFAULTS[name]
    }


# --- the store ---------------------------------------------------------------------------------------------


def store(tests: TestSet) -> str:
    """Keeps a test set in the cache and returns the reference to it, for ``Problem.gold``.

    The name is the fingerprint of the contents: storing the same tests again is free, and safe with any number of
    processes. Raises ``MissingError`` where the cache cannot be written.
    """
    body = tests.to_json()
    name = fingerprint(body)
    path = _path(name)
    if not path.is_file():
        text = json.dumps(body, separators=(",", ":")).encode("ascii")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, gzip.compress(text, compresslevel=1), shared=True)
        except OSError as error:
            raise MissingError(
                f"cannot keep tests in {path.parent} ({error.strerror}): set CIPO_EVAL_CACHE to another folder"
            ) from error
    return f"tests:{name}"


def exists(reference: str) -> bool:
    """Whether the cache has the test set of this reference (not whether it is intact)."""
    match = _REFERENCE.fullmatch(reference)
    return match is not None and _path(match[1]).is_file()


@functools.lru_cache(maxsize=64)
def load(reference: str) -> TestSet:
    """The test set that ``store`` gave this reference for. Raises ``MissingError`` where it is gone or damaged."""
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise MissingError(f"{reference[:80]!r} does not refer to tests")
    path = _path(match[1])
    try:
        body = json.loads(gzip.decompress(path.read_bytes()))
        if fingerprint(body) != match[1]:
            raise ValueError("other contents than its name says")
        return TestSet.from_json(body)
    except (OSError, EOFError, ValueError, KeyError, TypeError, zlib.error) as error:
        path.unlink(missing_ok=True)  # the task's loader writes it again
        raise MissingError(f"the tests {path} are gone or damaged ({error}): load the task again") from error


def _path(name: str) -> Path:
    return cache_dir() / "tests" / f"{name}.json.gz"
