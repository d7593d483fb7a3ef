"""Test code that says no more than data would: ``assert f(2) == 4``, alone or within ``def check(candidate)``.

Such tests need no judge: each is a call and the literal that it must equal. The source is only taken apart, never run;
whatever else stands in it leaves it to the judge.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

from cipo_eval.sandbox import codec

Case = tuple[dict[str, Any], Any]
"""A call and the expected value, both in the codec's form."""


def plain_asserts(source: str, entry_point: str) -> list[Case] | None:
    """The calls of a test in order; None where it is more than asserts that a call equals a literal."""
    try:
        body = ast.parse(source).body
        names = {entry_point, "candidate"}
        if check := next((node for node in body if isinstance(node, ast.FunctionDef)), None):
            if not _only_calls(check, body, names):
                return None
            body = check.body
        return [_case(node, names) for node in body if not _says_nothing(node)] or None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _only_calls(check: ast.FunctionDef, body: Sequence[ast.stmt], names: set[str]) -> bool:
    """Whether the module defines ``check`` and calls it with the function, and nothing that matters besides."""
    calls = [node.value for node in body if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)]
    rest = [node for node in body if node is not check and not _says_nothing(node)]
    return (
        check.name == "check"
        and [argument.arg for argument in check.args.args] == ["candidate"]
        and len(calls) == len(rest) == 1
        and isinstance(calls[0].func, ast.Name)
        and calls[0].func.id == "check"
        and [
            argument.id
            for argument in calls[0].args
            if isinstance(argument, ast.Name) and argument.id in names
        ]
        == [ast.unparse(argument) for argument in calls[0].args]
    )


def _says_nothing(node: ast.stmt) -> bool:
    """Docstrings, ``pass``, metadata, and asserts of ``True`` that some tests carry."""
    if isinstance(node, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id == "METADATA" for target in node.targets)
    if isinstance(node, ast.Assert):
        return isinstance(node.test, ast.Constant) and node.test.value is True
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _case(node: ast.stmt, names: set[str]) -> Case:
    """Raises ``ValueError`` for any other statement."""
    if not isinstance(node, ast.Assert) or not isinstance(node.test, ast.Compare):
        raise ValueError("no assert of a comparison")
    call, operators = node.test.left, node.test.ops
    if (
        len(operators) != 1
        or not isinstance(operators[0], ast.Eq)
        or not isinstance(call, ast.Call)
        or not isinstance(call.func, ast.Name)
        or call.func.id not in names
        or call.keywords
    ):
        raise ValueError("not: call == literal")
    made = {"args": [codec.encode(ast.literal_eval(argument)) for argument in call.args]}
    return made, codec.encode(ast.literal_eval(node.test.comparators[0]))
