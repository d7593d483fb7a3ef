"""What rows of training data say of the right answer, in the forms that public data sets have it in.

Mathematics: a bare answer, one in a box, or a whole solution that ends with it. Programs: asserts, standard input and
output, or arguments and results of a function.
"""

from __future__ import annotations

import ast
import builtins
import functools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.data.readers import argument
from cipo_eval.data.readers.livecodebench import build_tests
from cipo_eval.errors import UsageError
from cipo_eval.sandbox.codec import encode
from cipo_eval.texts import last_boxed
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.asserts import plain_asserts
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet
from cipo_eval.verifiers.math.extract import final_answer

LONGEST_ANSWER = 200
"""Characters of a line that is taken for a bare answer; what is longer is taken for a solution that ends with one."""
_REMEMBERED = 20_000
"""Rows whose gold is kept as it was read: a batch asks for each one as often as it has completions."""
_GSM8K = re.compile(r"####\s*(.+?)\s*$")
_STORED = re.compile(r"tests:[0-9a-f]{16}")


@functools.lru_cache(maxsize=_REMEMBERED)
def reference_answer(solution: str) -> str | None:
    r"""The answer in a data set's column ``solution``: the last ``\boxed{…}``, what follows GSM8K's ``####``, a text
    of one line as it is, and of a longer solution the answer that it ends with. None where there is none."""
    text = solution.strip()
    boxed = last_boxed(text)
    if boxed is not None and boxed.strip():
        return boxed.strip()
    if marked := _GSM8K.search(text):
        return marked[1]
    if "\n" not in text and len(text) <= LONGEST_ANSWER:
        return text or None
    final = final_answer(text, stopped=True)
    return (final[0].strip() or None) if final else None


def read_tests(tests: Any, entry_point: str | None = None, reference: str | None = None) -> TestSet:
    """The test set that a row's column ``tests`` describes; data can be checked with it before a training begins.

    ``tests``: asserts or other test code (a text, or a list of texts); ``{"inputs": […], "outputs": […]}`` with, for
    calls, ``"fn_name"``; LiveCodeBench's list of ``{"input": …, "output": …}``; a test set of this package
    (``TestSet.to_json``, or the ``gold`` of a loaded problem); or one of these as JSON text. ``entry_point``: the
    function that is called, ``Solution.name`` for a method; asserts and ``fn_name`` tell it themselves.
    ``reference``: a right program; test code that is more than asserts of a call and a literal needs it.
    Raises ``UsageError`` for anything else.
    """
    if isinstance(tests, str):
        if _STORED.fullmatch(tests):
            return testsets.load(tests)
        tests = _from_json(tests)
    try:
        if isinstance(tests, Mapping):
            return _of_mapping(tests, entry_point)
        if isinstance(tests, Sequence) and tests:
            if all(isinstance(test, Mapping) for test in tests):
                return _of_cases(tests, entry_point)
            if all(isinstance(test, str) for test in tests):
                return _of_asserts(tests, entry_point, reference)
    except (KeyError, TypeError, ValueError, SyntaxError) as error:
        raise UsageError(f"tests that cannot be read: {type(error).__name__}: {error}") from error
    raise UsageError(f"tests of a form that is not known (docs/rewards.md): {str(tests)[:80]!r}")


def stored_tests(tests: str, entry_point: str | None, reference: str | None) -> tuple[str, str | None]:
    """The ``gold`` of a row of programs, and the name that a program must define. ``tests``: that of ``read_tests``, as
    text. Keeps them in the cache, where the verifier finds them."""
    stored = _stored(tests, entry_point, reference)
    if not testsets.exists(stored[0]):  # the cache was emptied, or is another one now
        _stored.cache_clear()
        stored = _stored(tests, entry_point, reference)
    return stored


@functools.lru_cache(maxsize=_REMEMBERED)
def _stored(tests: str, entry_point: str | None, reference: str | None) -> tuple[str, str | None]:
    known = read_tests(tests, entry_point, reference)
    return tests if _STORED.fullmatch(tests) else testsets.store(known), known.entry_point or None


def _from_json(text: str) -> Any:
    """Values of JSON text; text that is none is test code."""
    try:
        value = json.loads(text)
    except ValueError:
        return [text]
    return value if isinstance(value, Mapping | list) else [text]


def _of_mapping(tests: Mapping[str, Any], entry_point: str | None) -> TestSet:
    if "kind" in tests:
        return TestSet.from_json(tests)
    inputs, outputs, function = tests["inputs"], tests["outputs"], tests.get("fn_name") or entry_point
    if function is None:
        cases: list[Mapping[str, Any]] = [
            {"input": _lines(given), "output": _lines(expected)}
            for given, expected in zip(inputs, outputs, strict=True)
        ]
        return _filled(build_tests([], list(cases), None))
    every = tuple(
        Test(args=[argument(value) for value in arguments], expected=encode(expected))
        for arguments, expected in zip(inputs, outputs, strict=True)
    )
    return _filled(_calls(every, function, {"name": "functional"}))


def _of_cases(cases: Sequence[Mapping[str, Any]], entry_point: str | None) -> TestSet:
    """LiveCodeBench's: of a call, each line of the input is an argument as JSON."""
    if entry_point is None and any(case.get("testtype") == "functional" for case in cases):
        raise UsageError("tests of testtype functional need the column entry_point")
    if entry_point is None:
        return build_tests([], list(cases), None)
    every = tuple(
        Test(
            args=[argument(json.loads(line)) for line in case["input"].split("\n")],
            expected=encode(json.loads(case["output"])),
        )
        for case in cases
    )
    return _calls(every, entry_point, {"name": "functional"})


def _of_asserts(sources: Sequence[str], entry_point: str | None, reference: str | None) -> TestSet:
    function = entry_point or _called(sources, reference)
    sources = [_with_its_call(source, function) for source in sources]
    cases = [plain_asserts(source, function) for source in sources]
    if all(cases):
        every = tuple(Test(**call, expected=expected) for case in cases for call, expected in case or ())
        return _calls(every, function, {"name": "equal"})
    if reference is None:
        raise UsageError(
            "test code that is more than asserts of a call and a literal needs a right program, in the column reference"
        )
    return TestSet(
        kind=Kind.CODE,
        groups=(Group(name="tests", tests=tuple(Test(source=source) for source in sources)),),
        entry_point=function,
        reference=reference,
    )


def _with_its_call(source: str, function: str) -> str:
    """HumanEval's column ``test`` defines ``check(candidate)`` and leaves its call to who runs it."""
    body = ast.parse(source).body
    defines = any(isinstance(node, ast.FunctionDef) and node.name == "check" for node in body)
    return f"{source}\ncheck({function})\n" if defines and not _checked(body) else source


def _checked(body: Sequence[ast.stmt]) -> list[str]:
    """The functions that test code hands to its ``check``."""
    return [
        node.value.args[0].id
        for node in body
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id == "check"
        and node.value.args
        and isinstance(node.value.args[0], ast.Name)
    ]


def _called(sources: Sequence[str], reference: str | None) -> str:
    """The function under test: what is handed to ``check``, or the first that the tests call and that neither they nor
    Python define."""
    trees = [ast.parse(source) for source in sources]
    every = [node for tree in trees for node in ast.walk(tree)]
    own = {node.name for node in every if isinstance(node, ast.FunctionDef)}
    own |= {node.arg for node in every if isinstance(node, ast.arg)}
    defined = {
        node.name
        for node in ast.parse(reference or "").body
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    names = [name for tree in trees for name in _checked(tree.body)]
    names += [
        node.func.id for node in every if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    for name in names:
        if (name in defined) if defined else (name not in own and not hasattr(builtins, name)):
            return name
    raise UsageError("these tests call no function by its name: give it in the column entry_point")


def _calls(tests: tuple[Test, ...], function: str, rule: Mapping[str, Any]) -> TestSet:
    owner, _, method = function.rpartition(".")
    return TestSet(
        kind=Kind.CALLS,
        groups=(Group(name="tests", tests=tests),),
        entry_point=owner or function,
        target=f"{owner}().{method}" if owner else "",
        rule=rule,
    )


def _filled(tests: TestSet) -> TestSet:
    if not tests.groups[0].tests:
        raise UsageError("a row without tests")
    return tests


def _lines(text: str | Sequence[str]) -> str:
    """Some data sets have a text's lines as a list."""
    return text if isinstance(text, str) else "\n".join(text)
