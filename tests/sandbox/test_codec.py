"""The codec: values survive it, and nothing that a hostile program writes or returns does more than fail."""

from __future__ import annotations

import datetime
import json
import math
import os
import resource
import signal
import sys
import types
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from parts import examples, mostly_slow

from cipo_eval.sandbox import codec
from cipo_eval.sandbox.lines import record

# --- values --------------------------------------------------------------------------------------------------

PLAIN = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=-(10**60), max_value=10**60),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=30),
)
HASHABLE = st.recursive(
    st.one_of(
        PLAIN,
        st.complex_numbers(allow_nan=False),
        st.binary(max_size=20),
        st.fractions(),
        st.decimals(allow_nan=False),
        st.dates(),
        st.datetimes(),
        st.times(),
        st.timedeltas(),
        st.builds(range, st.integers(-99, 99), st.integers(-99, 99), st.integers(1, 9)),
        st.sampled_from([int, str, list, dict, type, object, ValueError, KeyboardInterrupt]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=4).map(tuple), st.frozensets(inner, max_size=4)),
    max_leaves=8,
)
VALUES = st.recursive(
    st.one_of(HASHABLE, st.binary(max_size=9).map(bytearray)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.lists(inner, max_size=4).map(deque),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
    ),
    max_leaves=15,
)
BUILT_IN = (
    type(None), bool, int, float, str, complex, bytes, bytearray, list, tuple, dict, set, frozenset, deque, range,
    Decimal, Fraction, datetime.date, datetime.datetime, datetime.time, datetime.timedelta, type,
    codec.Opaque, codec.Nodes, codec.Digest,
)  # fmt: skip


def same(a: Any, b: Any) -> bool:
    """Equal, and of the same types all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, list | tuple | deque):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(same, a, b)) and all(map(same, a.values(), b.values()))
    if isinstance(a, float):
        return a == b and math.copysign(1, a) == math.copysign(1, b)
    return bool(a == b)


@pytest.mark.slow
@given(VALUES)
@settings(max_examples=examples(400))
def test_a_value_survives(value: Any) -> None:
    assert same(codec.loads(codec.dumps(value)), value)


def test_nan_survives() -> None:
    assert math.isnan(codec.loads(codec.dumps(math.nan)))


def test_the_second_of_two_equal_hours_survives() -> None:
    for moment in (datetime.datetime(2026, 10, 25, 2, 30, fold=1), datetime.time(2, 30, fold=1)):
        assert codec.loads(codec.dumps(moment)).fold == 1
        assert codec.loads(codec.dumps(moment.replace(fold=0))).fold == 0


def test_arrays_survive() -> None:
    numpy = pytest.importorskip("numpy")
    for array in (
        numpy.arange(6).reshape(2, 3),
        numpy.array([1.5, math.inf]),
        numpy.array([True]),
        numpy.array([1j]),
        numpy.array(7, dtype="uint8"),
        numpy.zeros((0, 3)),
        numpy.zeros((2, 0, 4), dtype="int32"),
    ):
        decoded = codec.loads(codec.dumps(array))
        assert (decoded.dtype, decoded.shape) == (array.dtype, array.shape)
        assert numpy.array_equal(decoded, array)


@pytest.mark.slow
@given(VALUES)
def test_equal_values_have_one_form(value: Any) -> None:
    """So that forms can be compared without decoding."""
    assert codec.dumps(codec.loads(codec.dumps(value))) == codec.dumps(value)


# --- hostile objects -----------------------------------------------------------------------------------------


def overridden(base: type) -> type:
    """A subclass all of whose special methods lie, or fail."""

    def lie(*_: Any, **__: Any) -> Any:
        raise SystemError("asked a hostile object")

    names = [
        "__iter__",
        "__len__",
        "__eq__",
        "__ne__",
        "__hash__",
        "__str__",
        "__repr__",
        "__bool__",
        "__getitem__",
        "__contains__",
        "__int__",
        "__index__",
        "__float__",
        "__complex__",
        "__format__",
        "__reduce__",
        "__reduce_ex__",
        "__getstate__",
        "__copy__",
        "__deepcopy__",
        "__sizeof__",
        "items",
        "keys",
        "values",
        "isoformat",
        "decode",
        "tolist",
        "item",
    ]
    return type("Hostile" + base.__name__, (base,), dict.fromkeys(names, lie))


@pytest.mark.parametrize(
    "value",
    [
        5,
        1.5,
        "text",
        [1, [2]],
        (1, 2),
        {"a": 1},
        {1, 2},
        frozenset({3}),
        2j,
        deque([1]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_subclass_crosses_as_its_base(value: Any) -> None:
    """Whatever it says about itself: what it holds is what arrives. (Complex numbers are asked for their parts.)"""
    kind = overridden(type(value))
    if isinstance(value, set | frozenset):
        kind.__hash__ = type(value).__hash__  # type: ignore[method-assign, assignment]
    assert same(codec.loads(codec.dumps(kind(value))), value)
    assert same(codec.loads(codec.dumps([kind(value)])), [value])


class _Liar:
    """Says it is something else."""

    def __init__(self, kind: type) -> None:
        object.__setattr__(self, "kind", kind)

    @property
    def __class__(self) -> type:  # type: ignore[override]
        return self.kind  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize("kind", [int, str, float, list, tuple, dict, set, frozenset, complex, deque])
def test_a_lie_about_the_class_does_not_cross(kind: type) -> None:
    try:
        form = codec.dumps(_Liar(kind))
    except (TypeError, AttributeError, codec.CodecError):
        return  # the sample says that its value does not cross
    assert isinstance(
        codec.loads(form), codec.Opaque | int | float | str | list | tuple | dict | set | frozenset
    )


def _nested(levels: int, make: Callable[[Any], Any]) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = make(value)
    return value


def test_what_contains_itself_does_not_cross() -> None:
    loops: list[Any] = [[], {}, deque()]
    loops[0].append(loops[0])
    loops[1][1] = loops[1]
    loops[2].append((loops[2],))
    for value in loops:
        with pytest.raises(codec.CodecError):
            codec.encode(value)


@pytest.mark.parametrize("make", [lambda v: [v], lambda v: (v,), lambda v: {1: v}, lambda v: deque([v])])
def test_what_is_too_deep_does_not_cross(make: Callable[[Any], Any]) -> None:
    assert codec.loads(codec.dumps(_nested(codec.MAX_DEPTH // 2, make))) == _nested(
        codec.MAX_DEPTH // 2, make
    )
    with pytest.raises((codec.CodecError, RecursionError)):
        codec.encode(_nested(100_000, make))


def test_large_values_cross_as_digests() -> None:
    large = [*range(codec.MAX_NODES + 1)]
    digest = codec.loads(codec.dumps(large))
    assert isinstance(digest, codec.Digest)
    assert digest == codec.loads(codec.dumps(large[:]))
    assert digest != codec.loads(codec.dumps([*large[:-1], 0]))
    assert digest != codec.loads(codec.dumps(tuple(large)))
    assert len(codec.dumps("x" * (codec.MAX_TEXT + 1))) < 100
    assert codec.loads(codec.dumps("x" * (codec.MAX_TEXT + 1))) != "x" * (codec.MAX_TEXT + 1)


def test_a_list_without_end_does_not_cross() -> None:
    node = types.SimpleNamespace
    kind = type("ListNode", (node,), {})
    loop = kind(val=1, next=None)
    loop.next = loop
    with pytest.raises(codec.CodecError):
        codec.encode(loop)
    tree = type("TreeNode", (node,), {})(val=1, left=None, right=None)
    tree.left = tree.right = tree
    with pytest.raises(codec.CodecError):
        codec.encode(tree)


# --- hostile forms -------------------------------------------------------------------------------------------

TAGS = st.sampled_from([*codec._DECODERS, "ln", "tn", "", "__class__", "x" * 50])
JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), st.text(max_size=20),
        st.sampled_from(["0x1f", "nan", "inf", "sNaN", "1e999999", "int8", "<U9", "object", "date", "2020-01-01", "int"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text(max_size=5), inner, max_size=3),
        st.builds(lambda tag, body: {tag: body}, TAGS, inner),
        st.builds(lambda tag, body: {tag: body}, TAGS, st.lists(inner, max_size=3)),
    ),
    max_leaves=12,
)  # fmt: skip


def harmless(value: Any) -> None:
    """Built of built-in objects only."""
    kind = type(value)
    if kind.__module__ == "numpy":
        assert kind.__name__ == "ndarray"
        return
    assert kind in BUILT_IN or (kind is type(type) and value.__module__ == "builtins")
    if kind in (list, tuple, set, frozenset, deque, codec.Nodes):
        for item in value:
            harmless(item)
    elif kind is dict:
        for key, item in value.items():
            harmless(key)
            harmless(item)


def decoded(text: str | bytes) -> None:
    """Decodes: to something harmless, or with the one error that there is."""
    try:
        value = codec.loads(text)
    except codec.CodecError:
        return
    harmless(value)


@pytest.mark.slow
@given(JSON)
@settings(max_examples=examples(600))
@example({"T": "type"})
@example({"T": "__build_class__"})
@example({"T": "__loader__"})
@example({"D": "sNaN"})
@example({"s": [{"D": "sNaN"}]})
@example({"dt": ["date", "2020-01-01", 1]})
@example({"a": ["object", {"a": ["object", {"a": []}]}]})
@example({"F": [1, 0]})
@example({"F": ["1/3"]})
@example({"r": ["1", 2.5]})
@example({"c": ["nan", "1"]})
@example({"td": [10**12]})
@example({"td": [1e308]})
@example({"i": "1_0"})
@example({"d": ["ab", "cd"]})
@example({"d": [{"a": ["int64", [1, 96]]}]})  # found by fuzzing
def test_any_json_decodes_or_fails_properly(data: Any) -> None:
    decoded(json.dumps(data))


@pytest.mark.slow
@given(VALUES, st.data())
@settings(max_examples=examples(300))
def test_damaged_forms_decode_or_fail_properly(value: Any, data: st.DataObject) -> None:
    text = codec.dumps(value)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(text)))
        end = data.draw(st.integers(at, min(len(text), at + 6)))
        text = (
            text[:at]
            + data.draw(st.sampled_from(['"', "[", "]", "{", "}", ",", ":", "0", "e9", '{"t":', ""]))
            + text[end:]
        )
    decoded(text)


@given(st.binary(max_size=200))
def test_any_bytes_decode_or_fail_properly(text: bytes) -> None:
    decoded(text)


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"t":[' * 50_000, "9" * 5000, "-" + "9" * 5000, "1" * 21, "NaN", "-Infinity", "\ud800", "", '"\x00']
    + [b"\xff\xfe", b"\x00" * 40, '{"i":"' + "f" * 2_000_000 + '"}', '{"D":"' + "9" * 20_000 + '"}', "1e400"],
)  # fmt: skip
def test_extreme_texts_decode_or_fail_properly(text: str | bytes) -> None:
    decoded(text)


P61 = (1 << 61) - 1
BOMBS = {
    "colliding ints": {"s": [{"i": hex(P61 * k)} for k in range(5, 60_000)]},
    "colliding keys": {"d": [[{"i": hex(P61 * k)}, 0] for k in range(5, 60_000)]},
    "colliding complex": {"z": [{"c": [float(1_000_003 * k), float(-k)]} for k in range(60_000)]},
    "a fraction of a text": {"F": ["1e99999999"]},
    "a fraction of long integers": {"F": [{"i": "0x" + "f3" * 490_000}, {"i": "0x" + "d7" * 480_000}]},
    "an array of a long text": {"a": ["<U1", ["x" * 300_000, *[""] * 20_000]]},
    "an array of a range": {"a": ["int64", {"r": [0, 10**10, 1]}]},
    "an array of structures": {"a": ["int8,(40000,40000)int8", [1, 2]]},
    "an array of arrays": {"a": ["object", [{"a": ["object", [1] * 9]}] * 9]},
    "a long range": {"r": [0, 10**12, 1]},
}
"""Texts that would cost their reader more than their writer."""


@pytest.mark.slow
@pytest.mark.parametrize("name", mostly_slow(BOMBS, 3))
def test_decoding_is_bounded(name: str) -> None:
    """In time and memory, and so is walking through what comes out. A fork bears the consequences."""
    text = json.dumps(BOMBS[name])
    pid = os.fork()
    if pid == 0:
        here = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
        resource.setrlimit(resource.RLIMIT_AS, (here + (1 << 30),) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (12, 12))
        signal.alarm(180)  # a machine that has much else to do
        code = 1
        try:
            value = codec.loads(text)
            code = 0 if not isinstance(value, range) or len(value) <= 10**7 else 2
        except codec.CodecError as error:
            code = 3 if "MemoryError" in str(error) else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- records -------------------------------------------------------------------------------------------------

KINDS = {"l": 1, "e": 4, "v": 2, "x": 4, "u": 2, "p": 5}


def recorded(line: bytes) -> None:
    """A record in the form that everybody relies on, whatever was written."""
    entry = record(line)
    assert KINDS[entry[0]] == len(entry)
    if entry[0] in "exu":
        for text in entry[1:]:
            text.encode("utf-8")
            assert len(text) <= 10_000
    if entry[0] == "p":
        assert (entry[1] + entry[2]).encode("latin-1") is not None
        assert len(entry[2]) <= 2000
        assert type(entry[3]) is int
        assert 0 <= entry[3] < 256


@pytest.mark.slow
@given(st.lists(JSON, max_size=6))
@settings(max_examples=examples(300))
def test_any_list_is_a_record(parts: list[Any]) -> None:
    recorded(json.dumps(parts).encode())


@pytest.mark.slow
@given(st.sampled_from(sorted(KINDS)), st.lists(st.one_of(JSON, st.text(max_size=5)), max_size=5))
@settings(max_examples=examples(300))
def test_any_parts_of_a_kind_are_a_record(kind: str, parts: list[Any]) -> None:
    recorded(json.dumps([kind, *parts]).encode())


@given(st.binary(max_size=60))
def test_any_bytes_are_a_record(line: bytes) -> None:
    recorded(line)


@pytest.mark.parametrize(
    "line",
    [
        b'["x","' + b"w" * 10_000_000 + b'","",""]',
        b'["u","' + b"\\ud800" * 1000 + b'"]',
        b'["v",[' + b"[]," * 6_000_000 + b"[]]]",
        b'["p","","' + b"w" * 3_000_000 + b'",0,true]',
        b'["p","","",256,true]',
        b'["p","","",true,true]',
        b'["p","\\u0100","",0,true]',
        b'["' + b"v" * 100,
        b"[" * 1_000_000,
        b'["v",' + b"9" * 1_000_000 + b"]",
    ],
    ids=range(10),
)
def test_extreme_lines_are_records(line: bytes) -> None:
    recorded(line)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, pytest.param(120, marks=pytest.mark.exhaustive)])
def test_fuzzing_finds_nothing(seconds: int) -> None:
    """By atheris, which looks for inputs that reach new code (``fuzz_codec``)."""
    import subprocess
    from pathlib import Path

    pytest.importorskip("atheris", reason="atheris is not installed (x86-64 Linux: pip install atheris)")
    script = Path(__file__).with_name("fuzz_codec.py")
    done = subprocess.run(
        [sys.executable, str(script), f"-max_total_time={seconds}", "-rss_limit_mb=3000", "-timeout=20"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
