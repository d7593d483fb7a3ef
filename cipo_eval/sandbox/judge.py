"""The process that runs a task's own test code (``assert f(2) == 4``) on results that came from elsewhere.

The function under test is a stand-in here: it looks up what the program, in another sandbox, returned for these
arguments, or has the harness ask it. What the tests compare are therefore plain values, and a program finds no frame,
no object and no exit code of theirs to tamper with. Test code is data from a download, so it is confined like a
sample; it keeps no state from one program to the next.

A call is ``{"args", "kwargs"}`` or, where arguments do not cross, ``{"source", "eval"}``: an expression that the
program's side evaluates, taken from a comparison whose other side does not mention the program.

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations

import ast
import builtins
import json
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cipo_eval.sandbox import codec, protocol

Record = list[Any]
"""What came of a call, as ``sample`` writes it."""
Call = dict[str, Any]
"""A call as above: ``args`` and ``kwargs``, or ``source`` and ``eval``."""
ASK_NAME = "_cipo_eval_ask"
"""The function that rewritten tests call to have an expression evaluated by the program."""


class DiedError(BaseException):
    """The program did not live to return from this call."""


class CannotCrossError(BaseException):
    """The call's arguments are no plain values: this test has to be split otherwise."""


class ProgramError(Exception):
    """The program raised an exception that is not a built-in one."""


def serve(reader: protocol.Reader, control_out: int) -> None:
    """Judges one program after another. Raises ``ProtocolError`` when the harness is gone."""

    def ask(call: Call) -> Record:
        protocol.write(control_out, protocol.ASK, json.dumps(call).encode("ascii"))
        kind, payload = reader.read()
        if kind != protocol.COMMAND:
            raise protocol.ProtocolError("no answer to a call")
        record: Record = json.loads(payload)
        return record

    compiled: dict[str, Any] = {}
    while True:
        kind, payload = reader.read()
        if kind != protocol.JOB:
            continue
        try:
            outcomes: Any = judge(json.loads(payload), ask, compiled)
        except protocol.ProtocolError:
            raise
        except BaseException as error:  # the reference or the tests themselves are broken
            outcomes = {"broken": f"{type(error).__name__}: {error}"[:500]}
        protocol.write(control_out, protocol.END, json.dumps(outcomes).encode("ascii"))


def judge(
    job: Mapping[str, Any], ask: Callable[[Call], Record], compiled: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Runs ``job["tests"]`` until one fails; each outcome is None (passed) or ``[type, message]``, with its calls.

    ``job["results"]`` holds, by test, calls with the records that the program gave for them.
    """
    compiled = {} if compiled is None else compiled
    space = _reference_space(job, compiled)
    outcomes: list[Any] = []
    calls: list[list[Call]] = []
    refused: set[str] = set()
    for number, source in enumerate(job["tests"]):
        known = job["results"][number] if number < len(job["results"]) else []
        stand_in = _StandIn(known, ask, refused)
        how = job["split"][number] if job["split"] else "call"
        outcomes.append(_run_test(source, how, space, job["entry_point"], stand_in, compiled))
        calls.append(stand_in.calls)
        if outcomes[-1] is not None and not job["all"]:
            break
    return {"outcomes": outcomes, "calls": calls if job["live"] else []}


def _reference_space(job: Mapping[str, Any], compiled: dict[str, Any]) -> dict[str, Any]:
    """A namespace with what tests may use beside the function under test: helpers and classes of the reference."""
    space: dict[str, Any] = {"__name__": "tests", "__builtins__": builtins}
    for source in (job["preamble"], job["reference"]):
        if source:
            exec(_compiled(source, "exec", compiled), space)  # noqa: S102  trusted, and confined all the same
    return space


def _compiled(source: str, mode: str, compiled: dict[str, Any]) -> Any:
    if source not in compiled:
        if len(compiled) > 2000:
            compiled.clear()
        compiled[source] = compile(source, "<tests>", mode)
    return compiled[source]


def _run_test(
    source: str,
    how: str,
    space: dict[str, Any],
    entry_point: str,
    stand_in: _StandIn,
    compiled: dict[str, Any],
) -> list[str] | None:
    random.seed(0)  # tests that draw their inputs draw the same ones each time
    if how == "expression":
        source = split_expressions(source, {*space, entry_point})
        space[ASK_NAME] = stand_in.evaluate
    space["candidate"] = space[entry_point] = stand_in
    try:
        exec(_compiled(source, "exec", compiled), space)  # noqa: S102
    except CannotCrossError:
        return ["CannotCross", ""]
    except BaseException as error:
        if not stand_in.died:
            return [type(error).__name__, str(error)[:500]]
    return ["Died", ""] if stand_in.died else None


class _StandIn:
    """Called by tests in place of the program's function.

    ``refused`` holds, for all tests of a job, the values that did not decode. Each such value may take half a second
    (``codec.KEY_SECONDS``), and a program that returns one to every test would take that for each of them.
    """

    def __init__(self, known: Sequence[Any], ask: Callable[[Call], Record], refused: set[str]) -> None:
        self.calls: list[Call] = []
        self.died = False
        self._known: dict[str, deque[Record]] = {}
        for call, record in known:
            self._known.setdefault(json.dumps(call, sort_keys=True), deque()).append(record)
        self._ask = ask
        self._refused = refused

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            call: Call = {"args": [codec.encode(arg) for arg in args]}
            if kwargs:
                call["kwargs"] = {name: codec.encode(value) for name, value in kwargs.items()}
        except codec.CodecError:
            raise CannotCrossError from None
        if _opaque(call):
            raise CannotCrossError
        return self._value(call)

    def evaluate(self, source: str) -> Any:
        return self._value({"source": source, "eval": True})

    def _value(self, call: Call) -> Any:
        self.calls.append(call)
        if self.died:
            raise DiedError
        known = self._known.get(json.dumps(call, sort_keys=True))
        record = known.popleft() if known else self._ask(call)
        kind = record[0] if record else "d"
        if kind == "v":
            if self._refused and json.dumps(record[1]) in self._refused:
                return codec.Opaque("invalid")
            try:
                return codec.decode(record[1])
            except codec.CodecError:
                self._refused.add(json.dumps(record[1]))
                return codec.Opaque("invalid")
        if kind == "x":
            known = getattr(builtins, str(record[1]), None)
            if isinstance(known, type) and issubclass(known, Exception):
                raise known(record[2])
            raise ProgramError(f"{record[1]}: {record[2]}")
        if kind == "u":
            return codec.Opaque("value")
        self.died = True
        raise DiedError


def _opaque(data: Any) -> bool:
    """Whether a JSON form has a part that does not cross."""
    if isinstance(data, list):
        return any(map(_opaque, data))
    if isinstance(data, dict):
        return "o" in data or any(map(_opaque, data.values()))
    return False


def split_expressions(source: str, program_names: set[str]) -> str:
    """Replaces, in each ``assert left <op> right`` with one side free of the program's names, the other side by a call
    that has it evaluated by the program. Other statements stay. Raises ``CannotCrossError`` where nothing can be split.

    Only sides of ``==``: with ``abs(f(2) - 3.14) < 0.001`` the program would be told what is expected, and would be the
    judge of it.
    """
    tree = ast.parse(source)
    split = False
    for node in tree.body:
        if not isinstance(node, ast.Assert) or not isinstance(node.test, ast.Compare):
            continue
        compare = node.test
        if len(compare.comparators) != 1 or not isinstance(compare.ops[0], ast.Eq):
            continue
        sides = [compare.left, compare.comparators[0]]
        mentions = [_mentions(side, program_names) for side in sides]
        if sum(mentions) == 1:
            index = mentions.index(True)
            if isinstance(sides[index], ast.Compare | ast.BoolOp | ast.BinOp | ast.UnaryOp):
                continue
            asked = ast.Call(ast.Name(ASK_NAME, ast.Load()), [ast.Constant(ast.unparse(sides[index]))], [])
            if index:
                compare.comparators[0] = asked
            else:
                compare.left = asked
            split = True
    if not split:
        raise CannotCrossError
    return ast.unparse(ast.fix_missing_locations(tree))


def _mentions(node: ast.AST, names: set[str]) -> bool:
    return any(
        isinstance(part, ast.Name) and part.id in names and not hasattr(builtins, part.id)
        for part in ast.walk(node)
    )
