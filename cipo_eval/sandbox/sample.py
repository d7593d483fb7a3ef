"""What happens inside the process that runs one hostile program: nothing here is a secret from it, nothing is trusted.

The program gets its source, and for each test the arguments or the standard input; what is expected of it is not in
this process or any that it can reach. Results leave as one JSON line each. A program that takes over this process can
forge them, and gains by it what it would gain by returning other values.

Records (JSON arrays): ``["l"]`` the program is loaded; ``["e", type, message, traceback]`` it cannot be; then for each
test ``["v", value]``, ``["x", type, message, traceback]``, ``["u", why]`` (a value that does not cross) or, with
standard input, ``["p", stdout, stderr, exit code, alone]`` (text as Latin-1).

Sent into the sandbox as text: standard library only.
"""

from __future__ import annotations

import ast
import atexit
import builtins
import decimal
import gc
import io
import json
import linecache
import os
import random
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cipo_eval.sandbox import codec
from cipo_eval.sandbox.module_code import ModuleCode

STDOUT_LIMIT = 32 << 20
"""Bytes of standard output of one test; the file that takes it has this limit."""
STDERR_TAIL = 2000
"""Bytes of standard error of one test that are kept, its last ones."""
TEXT_LIMIT = 2000
"""Characters of a message or traceback."""
NAME = "<program>"
"""The program's file name in tracebacks."""
_len = len  # a program may replace the builtin, and what writes its results would not end


class Output:
    """The file that records leave by; ``bell``: a pipe to ring where somebody waits for each."""

    def __init__(self, fd: int, bell: int | None = None) -> None:
        self._fd, self._bell = fd, bell

    def record(self, *parts: Any) -> None:
        data = codec.to_json(parts).encode("ascii") + b"\n"
        written = os.write(self._fd, data)
        while written < _len(data):
            written += os.write(self._fd, memoryview(data)[written:])
        if self._bell is not None:
            os.write(self._bell, b"+")


def run(job: Mapping[str, Any], output: Output, commands: int | None, stdio: Sequence[int]) -> None:
    """Everything of one job. ``commands`` is a pipe of further tests (JSON lines), ``stdio`` files for 0, 1 and 2."""
    kind = job["kind"]
    if kind == "stdin":
        _run_stdin(job, output, stdio)
    elif kind == "lcb":
        _run_like_livecodebench(job, output)
    else:
        _run_calls(job, output, commands)


def _error(error: BaseException) -> tuple[str, str, str]:
    """Type, message and the part of the traceback that is the program's own."""
    name = type(error).__name__[:200]
    try:
        message = str(error)[:TEXT_LIMIT]
    except BaseException:
        message = ""
    try:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == NAME]
        lines = [f"  line {f.lineno}, in {f.name}\n    {f.line or ''}".rstrip() for f in frames[-8:]]
        text = "\n".join([*lines, f"{name}: {message[:500]}" if message else name])[-TEXT_LIMIT:]
    except BaseException:
        text = name
    return name, message, text


def _load(job: Mapping[str, Any], name: str) -> types.ModuleType:
    """Runs preamble and program in a new module. Raises whatever they raise."""
    source = job["program"]
    module = types.ModuleType(name)
    sys.modules[name] = module
    if job.get("preamble"):
        exec(compile(job["preamble"], "<preamble>", "exec", dont_inherit=True), module.__dict__)  # noqa: S102
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    exec(compile(source, NAME, "exec", dont_inherit=True), module.__dict__)  # noqa: S102  the purpose of this process
    return module


# --- calls -------------------------------------------------------------------------------------------------


def _run_calls(job: Mapping[str, Any], output: Output, commands: int | None) -> None:
    try:
        space = _load(job, "solution").__dict__
        target = compile(job["target"], "<target>", "eval") if job.get("target") else None
    except BaseException as error:
        output.record("e", *_error(error))
        return
    output.record("l")
    hooks = _node_hooks(space)
    for test in job["tests"]:
        _call((space, target, hooks), test, output)
    if commands is not None:
        with open(commands, encoding="ascii", closefd=False) as lines:
            for line in lines:
                _call((space, target, hooks), json.loads(line), output)


_Loaded = tuple[dict[str, Any], types.CodeType | None, codec.Hooks]
"""A loaded program: its namespace, the expression that gives the callable, how nodes are made."""


def _call(loaded: _Loaded, test: Mapping[str, Any], output: Output) -> None:
    """Makes one call and records what came of it; each call gets arguments of its own."""
    try:
        value = _result(loaded, test)
    except BaseException as error:
        output.record("x", *_error(error))
        return
    try:
        value = codec.encode(value)
    except BaseException as error:
        output.record(
            "u", str(error)[:TEXT_LIMIT] if isinstance(error, codec.CodecError) else type(error).__name__
        )
        return
    output.record("v", value)


def _result(loaded: _Loaded, test: Mapping[str, Any]) -> Any:
    space, target, hooks = loaded
    if "source" in test:  # statements or, with a value, an expression, in the program's own namespace
        if test.get("eval"):
            return eval(compile(test["source"], "<test>", "eval"), space)  # noqa: S307
        exec(compile(test["source"], "<test>", "exec"), space)  # noqa: S102
        return None
    args = [codec.decode(arg, hooks) for arg in test.get("args", ())]
    if test.get("ops"):
        names = test["ops"]
        thing = space[names[0]](*args[0])
        return [
            None,
            *(getattr(thing, name)(*given) for name, given in zip(names[1:], args[1:], strict=True)),
        ]
    kwargs = {name: codec.decode(value, hooks) for name, value in test.get("kwargs", {}).items()}
    if target is None:
        raise TypeError("no target")
    value = eval(target, space)(*args, **kwargs)  # noqa: S307
    if test.get("after") is not None:
        return args[test["after"]]
    return list(value) if test.get("listed") and hasattr(value, "__next__") else value


def _node_hooks(space: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """How linked lists and trees are made of their values, with the classes that the problem takes as given."""

    def linked(values: Sequence[Any]) -> Any:
        head = None
        for value in reversed(values):
            node = space["ListNode"](value)
            node.next, head = head, node
        return head

    def tree(values: Sequence[Any]) -> Any:
        if not values:
            return None
        made = [space["TreeNode"](values[0])]
        rest = iter(values[1:])
        for node in made:  # grows while it is read: level order
            for side in ("left", "right"):
                value = next(rest, None)
                if value is not None:
                    child = space["TreeNode"](value)
                    setattr(node, side, child)
                    made.append(child)
        return made[0]

    return {"ln": linked, "tn": tree}


# --- standard input ----------------------------------------------------------------------------------------


class _Clean:
    """What a program may have changed in this process, put back between two tests of the same program.

    Running the tests one after another in one process saves the price of a process for each. The harness repeats a
    test that fails here in a process of its own, so that what this misses costs time and never a verdict.
    """

    def __init__(self) -> None:
        self._builtins = dict(vars(builtins))
        self._environment = dict(_environment_data())
        self._recursion = sys.getrecursionlimit()
        self._path = list(sys.path)

    def restore(self) -> bool:
        """Whether the next test may run in this process."""
        if len(sys._current_frames()) > 1:  # threads that are still running
            return False
        sys.settrace(None)
        sys.setprofile(None)
        names = builtins.__dict__  # between these two lines there is no ``vars``, nor anything else
        names.clear()
        names.update(self._builtins)
        if _environment_data() != self._environment:
            os.environ.clear()
            os.environ.update({os.fsdecode(k): os.fsdecode(v) for k, v in self._environment.items()})
        sys.setrecursionlimit(self._recursion)
        sys.set_int_max_str_digits(0)
        sys.path[:] = self._path
        sys.modules.pop("__main__", None)
        sys.excepthook, sys.displayhook = sys.__excepthook__, sys.__displayhook__
        if signal.getsignal(signal.SIGALRM) is not signal.SIG_DFL:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        threading.stack_size(0)
        decimal.setcontext(decimal.Context())
        random.seed(0)
        gc.enable()
        if any(gc.get_count()[1:]):  # enough was made for a collection of its own
            gc.collect()
        return True


def _environment_data() -> dict[bytes, bytes]:
    """What is behind ``os.environ``: to compare that itself decodes each name and value."""
    data: dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    return data


def _run_stdin(job: Mapping[str, Any], output: Output, stdio: Sequence[int]) -> None:
    """Each test is a run of the whole program as ``__main__``, on real descriptors 0, 1 and 2."""
    source = job["program"]
    linecache.cache[NAME] = (len(source), None, source.splitlines(keepends=True), NAME)
    try:
        program = ModuleCode(source, NAME)
    except BaseException as error:
        output.record("e", *_error(error))
        return
    output.record("l")
    clean = _Clean()
    for number, test in enumerate(job["tests"]):
        exit_code = _run_program(program, test["input"], stdio)
        output.record("p", *_printed(stdio), exit_code, number == 0)
        if number + 1 < len(job["tests"]) and not clean.restore():
            return


def prepare_stdio(text: str, stdio: Sequence[int]) -> None:
    """Puts the input into the first file and empties the others."""
    data = text.encode("utf-8", "surrogateescape")
    for number, fd in enumerate(stdio):
        os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_SET)
        os.dup2(fd, number)
    at = 0
    while at < _len(data):
        at += os.pwrite(stdio[0], memoryview(data)[at:], at)


def _run_program(program: ModuleCode, text: str, stdio: Sequence[int]) -> int:
    """Runs the program to its end, as the interpreter would; returns its exit code."""
    prepare_stdio(text, stdio)
    module = types.ModuleType("__main__")
    module.__dict__.update(__builtins__=builtins, __file__="main.py", __annotations__={})
    sys.modules["__main__"] = module
    sys.argv = ["main.py"]
    sys.stdin = sys.__stdin__ = _standard(0, "r", "surrogateescape")  # type: ignore[misc]
    sys.stdout = sys.__stdout__ = _standard(1, "w", "surrogateescape")  # type: ignore[misc]
    sys.stderr = sys.__stderr__ = _standard(2, "w", "backslashreplace")  # type: ignore[misc]
    streams = [sys.stdout, sys.stderr]
    alive: Any = None  # a module's objects outlive its code: files that it has not closed are flushed last
    try:
        alive = program.run(module.__dict__)
        exit_code = 0
    except SystemExit as error:
        alive = error.__traceback__
        exit_code = _exit_code(error)
    except BaseException as error:
        alive = error.__traceback__
        sys.stderr.write("Traceback (most recent call last):\n" + _error(error)[2] + "\n")
        exit_code = 1
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()
    atexit._run_exitfuncs()
    _flush(sys.stdout, sys.stderr, *streams)
    module.__dict__.clear()
    del alive
    _flush(*streams)  # what finalizers have printed
    return exit_code


def _flush(*streams: Any) -> None:
    for stream in streams:
        try:
            stream.flush()
        except BaseException:  # closed, detached, or an object of the program's own
            continue


def _standard(fd: int, mode: str, errors: str) -> io.TextIOWrapper:
    """A standard stream as the interpreter makes it: on Unix, ends of lines are left as they are, also when reading.

    As ``open`` does it, which asks the kernel a few things more.
    """
    raw = io.FileIO(fd, mode, closefd=False)
    buffer = io.BufferedReader(raw) if mode == "r" else io.BufferedWriter(raw)
    stream = io.TextIOWrapper(buffer, encoding="utf-8", errors=errors, newline="\n")
    stream.mode = mode  # type: ignore[misc]
    return stream


def _exit_code(error: SystemExit) -> int:
    if error.code is None or isinstance(error.code, int):
        return (error.code or 0) & 0xFF
    sys.stderr.write(f"{error.code}\n")
    return 1


def _printed(stdio: Sequence[int]) -> tuple[str, str]:
    """What is in the files of standard output and, its end, of standard error."""
    tail = b""
    if size := os.lseek(stdio[2], 0, os.SEEK_END):
        tail = os.pread(stdio[2], STDERR_TAIL, max(0, size - STDERR_TAIL))
    return read_file(stdio[1]).decode("latin-1"), tail.decode("latin-1")


def read_file(fd: int) -> bytes:
    """The whole of a file, up to the limit of standard output."""
    size, parts, at = min(os.lseek(fd, 0, os.SEEK_END), STDOUT_LIMIT), [], 0
    while at < size and (part := os.pread(fd, size - at, at)):
        parts.append(part)
        at += _len(part)
    return b"".join(parts)


# --- LiveCodeBench's runner ----------------------------------------------------------------------------------

# fmt: off
_LCB_STAR = (
    "string", "re", "datetime", "collections", "heapq", "bisect", "copy", "math", "random", "statistics",
    "itertools", "functools", "operator", "io", "sys", "json", "builtins", "typing",
)
# fmt: on
LCB_PREAMBLE = (
    "".join(f"from {name} import *\n" for name in _LCB_STAR)
    + "import string, re, datetime, collections, heapq, bisect, copy, math, random, statistics, itertools, functools\n"
    + "import operator, io, sys, json\nsys.setrecursionlimit(50000)\n"
)
"""What LiveCodeBench's runner puts before a program."""


# fmt: off
_LCB_GUARDED = (
    "kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid", "fork", "forkpty", "killpg",
    "rename", "renames", "truncate", "replace", "unlink", "fchmod", "fchown", "chmod", "chown", "chroot", "lchown",
    "getcwd", "chdir",
)
# fmt: on
"""Functions of ``os`` that its runner takes away."""


def _run_like_livecodebench(job: Mapping[str, Any], output: Output) -> None:
    """Programs as LiveCodeBench's ``testing_util`` runs them, faults included (docs/sandbox.md).

    All but the imports becomes the body of a function that is called for each test: a ``global`` then means another
    variable, and descriptors are not connected to anything. While the function runs, ``sys.stdin`` is a ``StringIO``;
    what ``from sys import stdin`` has bound before is the process's own, with three methods replaced.
    """
    from unittest.mock import mock_open

    builtins.quit = None  # type: ignore[assignment]
    for name in _LCB_GUARDED:
        setattr(os, name, None)
    sys.set_int_max_str_digits(50000)
    own = sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
    source, filename = _lcb_function(job["program"]), NAME
    module = types.ModuleType("tmp_sol")
    try:
        exec(compile(source, filename, "exec", dont_inherit=True), module.__dict__)  # noqa: S102
        holder = module.__dict__["Solution"]() if "class Solution" in source else module
        function = holder.wrapped_function
    except BaseException as error:
        output.record("e", *_error(error))
        return
    output.record("l")
    real_open = builtins.open
    for test in job["tests"]:
        captured = io.StringIO()
        captured.close = lambda _: 1  # type: ignore[method-assign,misc,assignment]
        _replace_reads(own, test["input"])
        builtins.open = mock_open(read_data=test["input"])
        sys.stdin, sys.stdout = io.StringIO(test["input"]), captured
        try:
            function()
        except SystemExit:
            pass
        except BaseException as error:
            output.record("x", *_error(error))
            return
        finally:
            builtins.open, sys.stdout = real_open, sys.__stdout__
        output.record(
            "p", captured.getvalue().encode("utf-8", "surrogateescape").decode("latin-1"), "", 0, False
        )


def _replace_reads(stream: Any, text: str) -> None:
    """Whole reads ignore the position, and ``readline`` that of the other two; lines have no ends, and after the last
    comes ``StopIteration``."""
    lines = iter(text.split("\n"))
    stream.read = lambda *_: text
    stream.readline = lambda *_: next(lines)
    stream.readlines = lambda *_: text.split("\n")


def _lcb_function(source: str) -> str:
    """The program as LiveCodeBench rewrites it; as it is where it does not parse."""
    try:
        tree = ast.parse(source)
        if (
            tree.body
            and isinstance(last := tree.body[-1], ast.If)
            and ast.unparse(last.test).strip() == "__name__ == '__main__'"
        ):
            source = "\n".join([*map(ast.unparse, tree.body[:-1]), *map(ast.unparse, last.body)])
            tree = ast.parse(source)
        imports = [ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        rest = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
        function = ast.FunctionDef(
            name="wrapped_function",
            args=ast.arguments(posonlyargs=[], args=[], kwonlyargs=[], kw_defaults=[], defaults=[]),
            body=rest,
            decorator_list=[],
            lineno=-1,
        )
        return "\n".join([LCB_PREAMBLE, *imports, ast.unparse(function)])
    except Exception:
        return source
