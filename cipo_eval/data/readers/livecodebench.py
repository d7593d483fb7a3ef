"""LiveCodeBench (Jain et al. 2024), code generation: contest problems with standard input, or a LeetCode method.

The hub's files have 4.5 GB, nearly all of it compressed private tests, so ``prepare`` runs when a row is read for the
first time: it stores the tests in the cache and leaves their name in the row. Private tests are base64 of zlib of a
pickle of JSON text. Pickles are programs; this one may hold a string, or a dictionary of strings, and nothing else.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import pickle
import pickletools
import zlib
from collections.abc import Mapping
from typing import Any

from cipo_eval.data.readers import ReadProblem, argument
from cipo_eval.data.readers.leetcode.judge import IMPORTS
from cipo_eval.data.sources import Row
from cipo_eval.errors import UsageError
from cipo_eval.sandbox.codec import encode
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

SECONDS = 6.0
"""Processor seconds that one test may take: the limit of LiveCodeBench's own runner."""
LARGEST = 1 << 30
"""Bytes of one problem's private tests, unpacked: more than contests have, and less than a machine's memory."""

Case = Mapping[str, Any]
"""``input``, ``output`` and, in the benchmark's own files, ``testtype``."""


def prepare(row: Row) -> Row:
    """The row with its tests stored; of their texts only how many there are is left."""
    public = _cases(json.loads(row["public_test_cases"]))
    private = decode_private(row["private_test_cases"]) or _cases(row.get("x_known_private_tests") or [])
    name = (json.loads(row.get("metadata") or "{}") or {}).get("func_name")
    columns = ("question_id", "question_title", "question_content", "starter_code", "platform", "difficulty")
    return {
        **{column: row[column] for column in columns},
        "contest_date": str(row["contest_date"])[:10],
        "tests": testsets.store(build_tests(public, private, name)),
        "public": len(public),
        "private": len(private),
    }


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:  # noqa: ARG001  a reader's signature
    """The problem of a row that ``prepare`` made: by standard input, or a method of ``Solution``."""
    return ReadProblem(
        id=row["question_id"],
        question=row["question_content"],
        tests=row["tests"],
        shown={"starter_code": row["starter_code"]},
        options={"entry_point": "Solution"} if row["starter_code"] else {},
        metadata={
            "platform": row["platform"],
            "difficulty": row["difficulty"],
            "month": row["contest_date"][:7],
            "date": row["contest_date"],
        },
        coverage="" if row["private"] else "with public tests only",
    )


def build_tests(public: list[Case], private: list[Case], function: str | None) -> TestSet:
    """The public tests, then the private ones. With ``function``: calls of that method of ``Solution``."""
    tests = []
    for number, case in enumerate([*public, *private]):
        shown = number < len(public)
        if function is None:
            tests.append(Test(input=case["input"], expected=case["output"], public=shown))
        else:
            args = [argument(json.loads(line)) for line in case["input"].split("\n")]
            tests.append(Test(args=args, expected=encode(json.loads(case["output"])), public=shown))
    return TestSet(
        kind=Kind.STDIN if function is None else Kind.CALLS,
        groups=(Group(name="tests", tests=tuple(tests)),),
        entry_point="" if function is None else "Solution",
        target="" if function is None else f"Solution().{function}",
        preamble="" if function is None else IMPORTS,
        rule={"name": "stdout" if function is None else "functional"},
        cpu_seconds=SECONDS,
    )


def _cases(cases: Any) -> list[Case]:
    """Both layouts: a list of cases, or one dictionary with ``inputs`` and ``outputs``."""
    if isinstance(cases, Mapping):
        pairs = zip(cases["inputs"], cases["outputs"], strict=True)
        return [{"input": stdin, "output": expected} for stdin, expected in pairs]
    return list(cases)


# --- private tests ---------------------------------------------------------------------------------------


def decode_private(text: str) -> list[Case]:
    """Private tests as the benchmark packs them (or as plain JSON). Raises ``UsageError`` for anything else."""
    if not text:
        return []
    if text.lstrip().startswith("["):
        return _cases(json.loads(text))
    try:
        value = _unpickle(_inflate(base64.b64decode(text, validate=True)))
        if isinstance(value, dict):
            value = value["input_output"]
        return _cases(json.loads(value))
    except (binascii.Error, zlib.error, pickle.UnpicklingError, MemoryError) as error:
        raise UsageError(f"private tests that cannot be unpacked: {error}") from error


def _inflate(packed: bytes) -> bytes:
    """Refuses what unpacks to more than ``LARGEST``: a megabyte can be made of a kilobyte."""
    stream = zlib.decompressobj()
    whole = stream.decompress(packed, LARGEST)
    if not stream.eof:
        raise zlib.error("they are cut off" if not stream.unconsumed_tail else f"more than {LARGEST} bytes")
    return whole


_OPCODES = {
    *("PROTO", "FRAME", "STOP", "MEMOIZE", "BINPUT", "MARK", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}


def _unpickle(packed: bytes) -> Any:
    """A pickled string, or dictionary of strings. Every other opcode is refused before anything is loaded: some name
    classes, others make a few bytes claim gigabytes."""
    try:
        for opcode, _argument, _place in pickletools.genops(packed):
            if opcode.name not in _OPCODES:
                raise pickle.UnpicklingError(f"a pickle with {opcode.name}")
    except ValueError as error:
        raise pickle.UnpicklingError(f"not a pickle ({error})") from error
    return _Plain(io.BytesIO(packed)).load()


class _Plain(pickle.Unpickler):
    """Has no classes and no references to anything outside."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"a pickle with the class {module}.{name}")

    def persistent_load(self, reference: Any) -> Any:
        raise pickle.UnpicklingError(f"a pickle that refers to {reference!r}")
