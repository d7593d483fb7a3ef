"""MBPP (Austin et al. 2021): the 378 tasks of MBPP+ (evalplus), and the 500 of the original test split.

MBPP+ is called on base and plus inputs and compared with the canonical solution. The original tasks have three asserts
each, which are run as they are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from typing import Any

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.readers.evalplus import MEMORY, build_tests
from cipo_eval.data.sources import Row
from cipo_eval.errors import UsageError
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet


def read_plus(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """The problem of an MBPP+ row that ``evalplus.prepare`` made. Its first test is public: the prompt shows its
    assert."""
    tests = build_tests(
        row, dataset="mbpp", base=row["base"], reference=row["canonical_solution"], public=(0,)
    )
    return ReadProblem(
        id=row["task_id"],
        question=row["prompt"],
        tests=tests,
        options={"entry_point": row["entry_point"], "prompt": row["prompt"]},
    )


def read_classic(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """The problem of a row of the original MBPP. Its three asserts are public: the prompt shows them."""
    code, asserts = _unix(row["code"]), [_unix(line) for line in row["test_list"]]
    entry_point = _entry_point(code, asserts)
    sources = [_with_set_up(line, _unix(row["test_setup_code"])) for line in asserts]
    tests = TestSet(
        kind=Kind.CODE,
        groups=(Group(name="base", tests=tuple(Test(source=source, public=True) for source in sources)),),
        entry_point=entry_point,
        reference=code,
        memory=MEMORY,
    )
    return ReadProblem(
        id=f"Mbpp/{row['task_id']}",
        question=_unix(row["text"]),
        tests=tests,
        shown={"asserts": "\n".join(asserts)},
        options={"entry_point": entry_point},
    )


def _unix(text: str) -> str:
    """MBPP's file has line ends of several kinds, ``\\r\\r\\n`` among them."""
    return re.sub(r"\r+\n?", "\n", text)


def _with_set_up(line: str, set_up: str) -> str:
    """An assert whose arguments some code makes first, out of classes that the program defines.

    The code goes into the very expression that is compared, because that is what the verifier has the program evaluate.
    """
    if not set_up.strip():
        return line
    statement = ast.parse(line).body[0]
    if not isinstance(statement, ast.Assert) or not isinstance(statement.test, ast.Compare):
        raise UsageError(f"cannot put its set-up code into {line[:100]!r}")
    compare = statement.test
    compare.left = ast.parse(f"exec({set_up!r}) or ({ast.unparse(compare.left)})", mode="eval").body
    return ast.unparse(statement)


def _entry_point(code: str, asserts: list[str]) -> str:
    """What the asserts call of what the reference defines: a function rather than a class that makes arguments."""
    defined: dict[str, Any] = {
        node.name: node for node in ast.parse(code).body if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }
    called = [name for name in _calls(asserts) if name in defined]
    called.sort(key=lambda name: isinstance(defined[name], ast.ClassDef))
    if not called:
        raise UsageError(f"its asserts call nothing that its solution defines ({', '.join(defined)})")
    return called[0]


def _calls(asserts: list[str]) -> Iterator[str]:
    """Names that are called in asserts, in their order, outermost first."""
    for line in asserts:
        for node in ast.walk(ast.parse(line)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                yield node.func.id
