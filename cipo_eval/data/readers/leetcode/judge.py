"""LeetCode's conventions: what its judge gives every program, what it calls, and how statements write examples.

Everything here takes text apart; programs are looked at with ``ast`` and never run.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cipo_eval.sandbox.codec import decode, encode
from cipo_eval.verifiers.code.testsets import Test

_STARS = (
    *("string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics"),
    *("itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing"),
)
"""Modules whose names are there, in the order in which later ones win. LiveCodeBench's runner does the same."""

IMPORTS = (
    "".join(f"from {name} import *\n" for name in _STARS)
    + "".join(f"import {name}\n" for name in _STARS if name not in ("builtins", "typing"))
    + "sys.setrecursionlimit(50000)\n"
)

PACKAGES = """\
try:
    from sortedcontainers import SortedDict, SortedList, SortedSet
except ImportError:
    pass
"""
"""Third-party names that LeetCode has; programs that use them fail where the package is not installed."""

NODES = """\
class ListNode:
    def __init__(self, val=0, next=None):
        self.val = val
        self.next = next


class TreeNode:
    def __init__(self, val=0, left=None, right=None):
        self.val = val
        self.left = left
        self.right = right
"""
"""The verifier makes arguments of these classes, and reads results of them by their attributes."""


class UnfitError(ValueError):
    """A problem that cannot be tested with what is there; the message says why, for a coverage table."""


# --- signatures ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The method of ``Solution`` that LeetCode calls, as a right program declares it."""

    method: str
    names: tuple[str, ...]
    """Parameters without ``self``."""
    kinds: tuple[str, ...]
    """Of each parameter: "ln" linked list, "tn" tree, "[ln]" and "[tn]" lists of them, "float", "str", "" other."""
    result: str
    """The same of the result; "none" where the method works on its first argument in place."""


def signature(code: str, arguments: Sequence[str], method: str | None = None) -> Signature:
    """The signature in ``code`` that fits arguments of these names (in LeetCode's order); ``method`` if it is known.

    Statements and programs often name parameters differently, and programs have methods of their own: those that
    other methods call do not count. Raises ``UnfitError`` where nothing fits.
    """
    classes = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    body = next((node.body for node in reversed(classes) if node.name == "Solution"), [])
    methods = [node for node in body if isinstance(node, ast.FunctionDef)]
    fitting = [node for node in methods if _takes(node, len(arguments))]
    if named := [node for node in fitting if node.name == method]:
        fitting = named
    else:
        helpers = {name for node in methods for name in _called_methods(node) - {node.name}}
        fitting = [node for node in fitting if node.name not in helpers] or fitting
    if not fitting:
        raise UnfitError("no method takes these arguments")
    # stable: of equally good ones the first in the file
    best = max(fitting, key=lambda node: len({arg.arg for arg in node.args.args} & set(arguments)))
    parameters = best.args.args[1 : 1 + len(arguments)]
    return Signature(
        method=best.name,
        names=tuple(parameter.arg for parameter in parameters),
        kinds=tuple(_kind(parameter.annotation) for parameter in parameters),
        result=_result(best.returns),
    )


def _takes(node: ast.FunctionDef, count: int) -> bool:
    parameters = len(node.args.args) - 1
    return parameters - len(node.args.defaults) <= count <= parameters and not node.name.startswith("__")


def _called_methods(node: ast.FunctionDef) -> set[str]:
    return {
        part.attr
        for part in ast.walk(node)
        if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name) and part.value.id == "self"
    }


def _kind(annotation: ast.expr | None) -> str:
    """Raises ``UnfitError`` for classes that are not built here: nodes with other links, functions to call."""
    text = "" if annotation is None else ast.unparse(annotation).replace("'", "").replace('"', "")
    plain = re.sub(r"\bOptional\[(.*)\]", r"\1", text) if "Optional" in text else text
    for name, kind in (("ListNode", "ln"), ("TreeNode", "tn")):
        if plain == name:
            return kind
        if re.fullmatch(rf"[Ll]ist\[{name}\]", plain):
            return f"[{kind}]"
    if re.search(r"Node\b|Function\b", plain):
        raise UnfitError("its values are of classes that are not built here")
    return plain if plain in ("str", "float") else ""


def _result(annotation: ast.expr | None) -> str:
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "none"
    return _kind(annotation)


def encode_as(value: Any, kind: str) -> Any:
    """The sandbox codec's form of a value that a statement shows. Raises ``UnfitError`` where it is not of the kind."""
    if kind in ("ln", "tn"):
        values = [] if value is None else value
        if not isinstance(values, list):
            raise UnfitError(_UNREADABLE)
        while kind == "tn" and values and values[-1] is None:
            values = values[:-1]
        return {kind: [encode(item) for item in values]}
    if kind in ("[ln]", "[tn]"):
        if not isinstance(value, list):
            raise UnfitError(_UNREADABLE)
        return [encode_as(item, kind[1:-1]) for item in value]
    if kind == "float" and type(value) is int:  # LeetCode makes what is declared, whatever an example shows
        return float(value)
    return encode(value)


def plain_as(form: Any) -> Any:
    """What ``encode_as`` was given: lists and trees as the lists that statements write."""
    if isinstance(form, dict):
        ((tag, body),) = form.items()
        return body if tag in ("ln", "tn") else decode(form)
    return [plain_as(item) for item in form] if isinstance(form, list) else form


# --- examples --------------------------------------------------------------------------------------------

_UNREADABLE = "its examples cannot be read"
_NAME = re.compile(r"[\s,;]*([A-Za-z_]\w*)\s*=\s*")
_BITS = re.compile(r"[01]{32}(?![\d.])")
_PREFIX = re.compile(r"\s*(\d+)\s*,\s*\w+\s*=\s*\[(.*?)\]", re.DOTALL)
_JSON = json.JSONDecoder(strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """An input with its output, as a statement or a test collection writes them."""

    names: tuple[str, ...]
    values: tuple[Any, ...]
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Calls:
    """An example of a class: what is called on an instance, beginning with its constructor."""

    ops: tuple[str, ...]
    args: tuple[list[Any], ...]
    results: tuple[Any, ...]


def parse_example(text: str) -> Example | Calls:
    """``Input: nums = [1,2], k = 3 Output: 5 Explanation: …``, or the same of a class. Raises ``UnfitError``."""
    match = re.match(r"\s*Input\s*:?(.*?)\bOutput\s*:?(.*)", text.replace("\r\n", "\n"), re.DOTALL)
    if match is None:
        raise UnfitError(_UNREADABLE)
    arguments, output = match.groups()
    output = re.split(r"\n\s*(?:Explanation|Note|Constraints)\b", output)[0].strip()
    if arguments.lstrip().startswith("["):
        return _calls(arguments, output)
    names, values = parse_input(arguments)
    return Example(names=names, values=values, output=output)


def parse_input(text: str) -> tuple[tuple[str, ...], tuple[Any, ...]]:
    """``nums = [1,2], k = 3``: names and values. Raises ``UnfitError``."""
    names, values, at = [], [], 0
    while text[at:].strip(" \t\n,;"):
        match = _NAME.match(text, at)
        if match is None:
            raise UnfitError(_UNREADABLE)
        value, at = _value(text, match.end())
        names.append(match[1])
        values.append(value)
    if not names:
        raise UnfitError(_UNREADABLE)
    return tuple(names), tuple(values)


def _value(text: str, at: int) -> tuple[Any, int]:
    """A JSON value, or 32 binary digits (an unsigned integer in LeetCode's way), and where it ends."""
    if bits := _BITS.match(text, at):
        return int(bits.group(), 2), bits.end()
    try:
        return _JSON.raw_decode(text, at)
    except (ValueError, RecursionError) as error:
        raise UnfitError(_UNREADABLE) from error


def parse_output(text: str, kind: str) -> Any:
    """The value that an output shows; what follows it in prose is not read. Raises ``UnfitError``.

    Outputs are JSON in statements; test collections also write Python's form, and text without quotes.
    """
    text = text.strip()
    if not text or text.startswith(("Error:", "Execution timed out")):
        raise UnfitError(_UNREADABLE)
    try:
        value, end = _JSON.raw_decode(text)
        if not re.match(r"\s*(?:$|\n|\()", text[end:]):
            raise UnfitError(_UNREADABLE)
    except (ValueError, RecursionError):
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            if kind != "str":
                raise UnfitError(_UNREADABLE) from None
            value = text
    return text if kind == "str" and not isinstance(value, str) else value


def parse_prefix(output: str) -> list[Any] | None:
    """``5, nums = [1,1,2,2,3,_]``: what the first elements of an argument are after the call, as many as returned."""
    match = _PREFIX.match(output)
    if match is None:
        return None
    shown = [part.strip() for part in match[2].split(",") if part.strip() not in ("", "_")]
    try:
        values = [json.loads(part) for part in shown]
    except ValueError as error:
        raise UnfitError(_UNREADABLE) from error
    if len(values) != int(match[1]):
        raise UnfitError(_UNREADABLE)
    return values


def method_test(example: Example, declared: Signature, *, prefix: bool = False, public: bool = False) -> Test:
    """The test that an example is of a method. ``prefix``: of the first elements of an argument that its result counts.
    Raises ``UnfitError``, ``CodecError``."""
    if len(example.values) != len(declared.names):
        raise UnfitError("no method takes these arguments")
    values = example.values
    if set(example.names) == set(declared.names):
        by_name = dict(zip(example.names, values, strict=True))
        values = tuple(by_name[name] for name in declared.names)
    args = [encode_as(value, kind) for value, kind in zip(values, declared.kinds, strict=True)]
    if prefix:
        first = parse_prefix(example.output)
        if first is None:
            raise UnfitError("its examples cannot be read")
        return Test(args=args, expected=encode(first), public=public)
    in_place = declared.result == "none"
    kind = declared.kinds[0] if in_place else declared.result
    expected = encode_as(parse_output(example.output, kind), kind)
    return Test(args=args, expected=expected, after=0 if in_place else None, public=public)


def _calls(arguments: str, output: str) -> Calls:
    try:
        ops, end = _JSON.raw_decode(arguments.strip())
        args, _ = _JSON.raw_decode(arguments.strip()[end:].strip())
        results, _ = _JSON.raw_decode(output)
    except (ValueError, RecursionError) as error:
        raise UnfitError(_UNREADABLE) from error
    if not len(ops) == len(args) == len(results) or not all(isinstance(op, str) for op in ops):
        raise UnfitError(_UNREADABLE)
    return Calls(ops=tuple(ops), args=tuple(args), results=tuple(results))
