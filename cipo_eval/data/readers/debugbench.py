"""DebugBench (Tian et al. 2024), Python: LeetCode solutions with bugs that GPT-4 put in, to be repaired.

The data has no tests: published verdicts come from LeetCode's own judge. Tests here are the statement's examples
(public), those of LeetCodeDataset for the same problem where its data is at hand, and inputs made here (``inputs``),
where all that the statement's constraints say is understood (``statements``). What made inputs lead to is what the
problem's right program returns; they count where LeetCodeDataset's right program agrees
(``verifiers.code.confirm``). Outputs of judged models are never looked at. Problems whose answer is not unique, or
whose values are of classes that the sandbox does not build, get no tests and are left out.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cipo_eval.data.readers import ReadProblem, leetcode
from cipo_eval.data.readers.leetcode import inputs, statements
from cipo_eval.data.readers.leetcode.judge import (
    IMPORTS,
    NODES,
    PACKAGES,
    Calls,
    Example,
    Signature,
    UnfitError,
    encode_as,
    method_test,
    parse_example,
    parse_input,
    parse_prefix,
    plain_as,
    signature,
)
from cipo_eval.data.sources import Row
from cipo_eval.files import cache_dir, write_bytes
from cipo_eval.records import fingerprint
from cipo_eval.sandbox.codec import CodecError, encode
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

SECONDS = 6.0
"""Processor seconds that one test may take, as in LiveCodeBench."""
PREAMBLE = IMPORTS + PACKAGES + NODES
"""What LeetCode's judge gives every program."""

_NOT_UNIQUE = re.compile(r"\breturn (?:the index to )?any\b|\brandom point\b|\bheight-balanced\b", re.I)
"""Statements that accept one of several answers; the examples show only one."""
_ANY_ORDER = re.compile(r"\breturn\b[^.]*\bin any order\b", re.I)
_ANY_ORDER_UNSAID = {"palindrome-pairs"}
"""Problems that LeetCode judges regardless of order though their statement does not say so."""
_PROMISE = re.compile(r"\bguaranteed\b|\bgenerated\b|\bassume\b")
"""Statements that promise more of inputs than their constraints list."""
_GIVEN_ONLY = {"check-if-string-is-transformable-with-substring-sort-operations"}
"""Problems without inputs made here: one of the oracles raises on some that the constraints allow."""

BOTH = "with tests of LeetCodeDataset beside the statement's examples"
EXAMPLES = "with the statement's examples only"
LEFT_OUT = "left out because "
"""What a problem's ``coverage`` says of its tests; after ``LEFT_OUT`` comes the reason."""


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:
    """A row of DebugBench (GitHub's or the hub's columns) with, as companion ``tests``, one of LeetCodeDataset."""
    statement = _unix(row["description"] if "description" in row else row["question"])
    category = row["x_category"] if "x_category" in row else row["subtype"]
    oracle = row["oracle_code"] if "oracle_code" in row else row["solution"]
    buggy = _unix(row["buggy_code"])
    examples = [_unix(text) for text in row["examples"]]
    extra = companions.get("tests")
    try:
        tests: TestSet | None = build_tests(
            row["slug"], statement, examples, _unix(oracle), extra, _unix(row["constraints"])
        )
        coverage = EXAMPLES if extra is None else BOTH
    except UnfitError as error:
        tests, coverage = None, f"{LEFT_OUT}{error}"
    digest = hashlib.sha256(buggy.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return ReadProblem(
        id=f"{row['slug']}/{category}/{digest}",
        repeated=True,
        question=_question(statement, examples, _unix(row["constraints"])),
        tests=tests,
        shown={"buggy_code": buggy.strip("\n")},
        attempt="<code>\n{}\n</code>".format(buggy.strip("\n")),
        attempt_right=False,
        options={"entry_point": tests.entry_point if tests else ""},
        metadata={
            "category": category,
            "level": row["level"],
            "tests": "examples" if extra is None else "leetcode_dataset",
            "slug": row["slug"],
        },
        coverage=coverage,
    )


def build_tests(
    slug: str,
    statement: str,
    examples: Sequence[str],
    oracle: str,
    extra: Row | None,
    promises: str,
) -> TestSet:
    """The tests of a problem. Raises ``UnfitError`` where there are none that judge rightly.

    ``slug``: LeetCode's name of the problem; ``examples``: as its statement writes them; ``oracle``: a right program;
    ``extra``: the row of LeetCodeDataset, where it is at hand; ``promises``: the lines of the statement's constraints.
    """
    rule = comparison(slug, statement)
    parsed = [parse_example(text) for text in examples]
    second = _second(extra)
    if all(isinstance(example, Calls) for example in parsed):
        tests, entry_point, target = list(_of_class(parsed)), parsed[0].ops[0], ""  # type: ignore[union-attr]
    else:
        method = [example for example in parsed if isinstance(example, Example)]
        declared = _declared(method, oracle, extra)
        tests, target = _of_method(method, declared, extra)
        entry_point = "Solution"
        tests += _further(slug, statement, promises, method, declared, tests, alone=not second)
    return TestSet(
        kind=Kind.CALLS,
        groups=(Group(name="tests", tests=tuple(tests)),),
        entry_point=entry_point,
        target=target,
        preamble=PREAMBLE,
        reference=oracle,
        rule=rule,
        cpu_seconds=SECONDS,
        confirmations=second,
    )


def comparison(slug: str, statement: str) -> dict[str, Any]:
    """How results of a LeetCode problem are compared. Raises ``UnfitError`` where several answers are right."""
    if _NOT_UNIQUE.search(statement):
        raise UnfitError("its answer is not unique")
    any_order = slug in _ANY_ORDER_UNSAID or _ANY_ORDER.search(statement) is not None
    return {"name": "leetcode", **({"any_order": True} if any_order else {})}


def _second(extra: Row | None) -> tuple[str, ...]:
    """LeetCodeDataset's own right program."""
    program = extra.get("completion") if extra else None
    return (f"{_unix(extra.get('prompt') or '')}\n{_unix(program)}\n",) if extra and program else ()


def _of_class(examples: Sequence[Any]) -> Iterator[Test]:
    """Tests of a class to design: the statement's only, LeetCodeDataset has none."""
    for example in examples:
        args = [[encode(value) for value in values] for values in example.args]
        expected = [encode(value) for value in example.results]
        yield Test(args=args, ops=list(example.ops), expected=expected, public=True)


def _declared(examples: Sequence[Example], oracle: str, extra: Row | None) -> Signature:
    entry_point = extra["entry_point"].rpartition(".")[2] if extra else None
    return signature(oracle, examples[0].names, entry_point)


def _of_method(examples: Sequence[Example], declared: Signature, extra: Row | None) -> tuple[list[Test], str]:
    """Tests of a method of ``Solution``, and how it is called."""
    prefix = parse_prefix(examples[0].output) is not None
    method = f"Solution().{declared.method}"
    # a method that returns how many first elements count is judged by those elements
    target = f"(lambda values: values[:{method}(values)])" if prefix else method
    tests = [method_test(example, declared, prefix=prefix, public=True) for example in examples]
    for case in (extra["input_output"] or ()) if extra and not prefix else ():
        try:
            names, values = parse_input(case["input"])
            tests.append(method_test(Example(names=names, values=values, output=case["output"]), declared))
        except (UnfitError, CodecError):
            continue  # generated inputs are not all well formed; the statement's are
    distinct: dict[str, Test] = {}
    for test in tests:
        distinct.setdefault(json.dumps(test.args), test)
    return list(distinct.values()), target


def _further(
    slug: str,
    statement: str,
    text: str,
    examples: Sequence[Example],
    declared: Signature,
    given_tests: Sequence[Test],
    *,
    alone: bool,
) -> list[Test]:
    """Tests on inputs that are made here. ``alone``: there is one right program only, so nobody objects to an input
    that the statement rules out: none are made where it promises more than its constraints list."""
    by_name = set(examples[0].names) == set(declared.names)
    names = declared.names if by_name else examples[0].names
    if slug in _GIVEN_ONLY:
        return []
    if not by_name:  # the promises may speak of either
        for name, other in zip(names, declared.names, strict=True):
            text = re.sub(rf"\b{re.escape(other)}\b", name, text) if other not in names else text
    known_inputs = json.dumps([list(map(plain_as, test.args)) for test in given_tests])
    made = _inputs(slug, statement, text, tuple(names), declared.kinds, known_inputs, alone)
    return [Test(args=args, after=given_tests[0].after, derive=True, confirmed=True) for args in made]


@functools.lru_cache(maxsize=512)
def _inputs(*problem: Any) -> list[list[Any]]:
    """``_make_inputs``, once for all rows of a problem, and kept in the cache: it takes seconds for all problems."""
    name = fingerprint([_generator(), *problem])
    path = cache_dir() / "inputs" / f"{name}.json.gz"
    try:
        made: list[list[Any]] = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, ValueError, zlib.error):  # not there yet, or damaged
        made = _make_inputs(*problem)
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(path, gzip.compress(json.dumps(made).encode("ascii"), compresslevel=1), shared=True)
    return made


@functools.cache
def _generator() -> str:
    """Identity of the code that makes inputs: of every module of ``leetcode``."""
    folder = Path(leetcode.__file__ or "").parent
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(folder.glob("*.py")))).hexdigest()


def _make_inputs(
    slug: str,
    statement: str,
    text: str,
    names: Sequence[str],
    kinds: Sequence[str],
    known_json: str,
    alone: bool,
) -> list[list[Any]]:
    """Made inputs in the form of tests; ``known_json``: known inputs, as JSON."""
    known_inputs = list(map(tuple, json.loads(known_json)))
    linked = {name: kind for name, kind in zip(names, kinds, strict=True) if kind in ("ln", "tn")}
    rules = statements.parse(
        text, statement, names, linked, [dict(zip(names, values, strict=True)) for values in known_inputs]
    )
    if rules.unknown or (alone and _PROMISE.search(statement)):
        return []
    forms = []
    for values in inputs.more_inputs(slug, rules, kinds, known_inputs):
        try:
            forms.append([encode_as(value, kind) for value, kind in zip(values, kinds, strict=True)])
        except (UnfitError, CodecError):
            continue
    return forms


def _question(statement: str, examples: Sequence[str], constraints: str) -> str:
    """The statement as LeetCode shows it."""
    shown = [f"Example {number}:\n{text.strip()}" for number, text in enumerate(examples, start=1)]
    return "\n\n".join([statement.strip(), *shown, f"Constraints:\n{constraints.strip()}"])


def _unix(text: str) -> str:
    return text.replace("\r\n", "\n")
