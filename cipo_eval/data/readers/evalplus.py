"""HumanEval+ and MBPP+ (evalplus): inputs in two layouts, and the test sets that both give.

The release files (``HumanEvalPlus.jsonl``, ``MbppPlus.jsonl``) hold ``base_input`` and ``plus_input``. The hub's copies
(``evalplus/humanevalplus``, ``evalplus/mbppplus``) hold one self-contained test program instead, whose literals
``inputs = [...]`` are read with ``ast``. It leaves out inputs that repeat an earlier one, and does not tell where base
ends and plus begins. ``prepare`` makes the same row of either, without repeated inputs. Expected outputs come from the
canonical solution, as in evalplus, so those of the files are not read.
"""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from cipo_eval.data.readers import argument
from cipo_eval.data.sources import Row
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

SECONDS = 4.0
"""evalplus's limit of one test: so many seconds, or ``FACTOR`` times the canonical solution's, whichever is more."""
FACTOR = 4.0
MEMORY = 4 << 30
"""Bytes of address space that a program may use, as in evalplus."""

Args = list[Any]
"""The arguments of one call."""


def prepare(row: Row) -> Row:
    """A row of either layout in one form: arguments encoded for the sandbox, ``base`` None where it is not told."""
    mbpp = "test_list" in row or str(row["task_id"]).startswith("Mbpp/")
    base: int | None
    if "base_input" in row:
        shaped = _mbpp_shape(int(str(row["task_id"]).rpartition("/")[2])) if mbpp else list
        inputs = [shaped(args) for args in [*row["base_input"], *row["plus_input"]]]
        base = len(_distinct(inputs[: len(row["base_input"])]))
        atol, entry_point = row["atol"], row["entry_point"]
    else:
        inputs, atol, entry_point = _from_program(row["test"])
        base = _MBPP_BASE.get(row["task_id"], len(row["test_list"])) if mbpp else None
        entry_point = row.get("entry_point") or entry_point
    return {
        "task_id": f"Mbpp/{row['task_id']}" if isinstance(row["task_id"], int) else row["task_id"],
        "prompt": _mbpp_prompt(row) if "test_list" in row else row["prompt"],
        "entry_point": entry_point,
        "canonical_solution": row["code"] if "code" in row else row["canonical_solution"],
        "inputs": _distinct(inputs),
        "base": base,
        "atol": atol,
    }


def _distinct(inputs: Iterable[Args]) -> list[Args]:
    """Encoded arguments of each call, the first of equal ones."""
    encoded = [[argument(value) for value in args] for args in inputs]
    return list({json.dumps(args): args for args in encoded}.values())


def build_tests(row: Row, *, dataset: str, base: int, reference: str, public: Iterable[int] = ()) -> TestSet:
    """The test set of a prepared row, in the groups ``base`` and ``plus``; its first ``base`` inputs are base inputs.

    ``dataset``: ``humaneval`` or ``mbpp``; ``reference``: the canonical solution, complete; ``public``: numbers of the
    tests that a model may see, from 0.
    """
    shown = set(public)
    tests = [Test(args=args, derive=True, public=index in shown) for index, args in enumerate(row["inputs"])]
    return TestSet(
        kind=Kind.CALLS,
        groups=(
            Group(name="base", tests=tuple(tests[:base])),
            Group(name="plus", tests=tuple(tests[base:])),
        ),
        entry_point=row["entry_point"],
        reference=reference,
        rule={
            "name": "evalplus",
            "dataset": dataset,
            "atol": row["atol"],
            "entry_point": row["entry_point"],
        },
        cpu_seconds=SECONDS,
        reference_factor=FACTOR,
        memory=MEMORY,
    )


# --- the hub's test programs -----------------------------------------------------------------------------


def _from_program(source: str) -> tuple[list[Args], float, str]:
    """Inputs, tolerance and the function's name of a test program: its literals, nothing of it is run."""
    tree = ast.parse(source)
    body = next(
        (f.body for f in tree.body if isinstance(f, ast.FunctionDef) and f.name == "check"), tree.body
    )
    (inputs,) = (
        _literal(node.value)
        for node in body
        if isinstance(node, ast.Assign) and _names(node.targets) == ["inputs"]
    )
    loop = next(node for node in body if isinstance(node, ast.For))
    called, atol = "", 0.0
    for node in ast.walk(loop):
        if isinstance(node, ast.Call) and any(isinstance(arg, ast.Starred) for arg in node.args):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            called = called or (name if name not in {"_poly", "ref_func"} else "")
        if isinstance(node, ast.Call) and _names([node.func]) == ["assertion"]:
            atol = _literal(node.args[2])
        elif isinstance(node, ast.Compare):  # HumanEval/32: ``assert _poly(…) <= 0.0001``
            atol = _literal(node.comparators[0])
    return [list(args) for args in inputs], atol, called


def _names(nodes: Sequence[ast.expr]) -> list[str]:
    return [node.id for node in nodes if isinstance(node, ast.Name)]


class _Constants(ast.NodeTransformer):
    """Values that are written as expressions: ``inf`` and ``nan``, and complex numbers as ``repr`` writes them.

    As an expression ``-2j`` has the real part -0.0, and ``(-0-2j)`` has 0.0; as the texts of numbers they do not.
    """

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return (
            ast.Constant({"inf": math.inf, "nan": math.nan}[node.id]) if node.id in ("inf", "nan") else node
        )

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        return self._number(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        return self._number(node)

    def _number(self, node: ast.expr) -> ast.AST:
        parts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
        if any(isinstance(value, complex) for value in parts):
            return ast.Constant(complex(ast.unparse(node).replace(" ", "")))
        return self.generic_visit(node)


def _literal(node: ast.expr) -> Any:
    return ast.literal_eval(_Constants().visit(node))


# --- MBPP ------------------------------------------------------------------------------------------------

_URL = re.compile(r"https?://\S+")


def _mbpp_prompt(row: Row) -> str:
    """The release's prompt: the statement without web addresses and the first assert, as a docstring."""
    return f'"""\n{_URL.sub("", row["prompt"])}\n{row["test_list"][0]}\n"""\n'


_SHAPES: Mapping[str, Sequence[int]] = {
    "t*": (
        2,
        116,
        132,
        143,
        222,
        261,
        273,
        394,
        399,
        421,
        424,
        429,
        470,
        560,
        579,
        596,
        616,
        630,
        726,
        740,
        744,
        809,
    ),
    "lt*": (63, 64, 70, 94, 120, 237, 272, 299, 400, 409, 417, 438, 473, 614, 780),
    "lt -*": (75, 413, 444, 753),
    "- t": (106, 750),
    "t -*": (250, 307, 405, 446, 617, 720, 763, 808),
    "tt*": (259, 278, 401, 445),
    "T*": (580, 615, 791),
    "dt -*": (722,),
    "ls": (115,),
    "f c": (124,),
    "c": (252,),
}
"""What JSON lost, by task: a shape for each argument, ``*`` for all that follow. From the outside in: ``t`` tuple,
``l`` list, ``d`` dictionary by its values, ``s`` set, ``T`` tuples throughout, ``f`` float, ``c`` complex, ``-`` as it
is. The facts are evalplus's (``mbpp_deserialize_inputs``)."""


def _mbpp_shape(task: int) -> Callable[[Args], Args]:
    """Gives the arguments of one call of an MBPP+ task their Python types back."""
    shapes = next((shape.split() for shape, tasks in _SHAPES.items() if task in tasks), ["-*"])
    rest = shapes[-1].rstrip("*")

    def shaped(args: Args) -> Args:
        each = [shape.rstrip("*") for shape in shapes] + [rest] * (len(args) - len(shapes))
        return [_shape(value, shape) for value, shape in zip(args, each, strict=True)]

    return shaped


def _shape(value: Any, shape: str) -> Any:
    outer, inner = shape[:1], shape[1:]
    if outer == "f":
        return float(value)
    if outer == "c":
        return complex(value)
    if outer == "d":
        return {key: _shape(item, inner) for key, item in value.items()}
    if outer in ("", "-") or not isinstance(value, list):
        return value
    if outer == "s":
        return set(value) if value else {}  # evalplus makes a dictionary of an empty one
    if outer == "T":
        return tuple(_shape(item, "T") for item in value)
    items = [_shape(item, inner) for item in value]
    return tuple(items) if outer == "t" else items


_MBPP_BASE = {3: 5, 162: 4, 223: 3, 780: 4, 799: 6}
"""Distinct base inputs of the tasks whose hub row has another number of asserts."""
