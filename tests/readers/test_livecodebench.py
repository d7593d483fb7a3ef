"""LiveCodeBench: packed private tests, what must never be unpacked, and the items."""

from __future__ import annotations

import base64
import json
import pickle
import tracemalloc
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.data import tasks
from cipo_eval.data.readers import livecodebench as lcb
from cipo_eval.data.sources import read_rows
from cipo_eval.errors import UsageError
from cipo_eval.sandbox.codec import decode
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.code.testsets import Kind


def packed(value: Any, protocol: int = 4) -> str:
    return base64.b64encode(zlib.compress(pickle.dumps(value, protocol))).decode()


def raw(body: bytes) -> str:
    return base64.b64encode(zlib.compress(body)).decode()


CASES = [{"input": "1\n", "output": "2\n", "testtype": "stdin"}]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_private_tests_of_both_layouts(protocol: int) -> None:
    assert lcb.decode_private(packed(json.dumps(CASES), protocol)) == CASES
    inner = {"input_output": json.dumps({"inputs": ["1\n"], "outputs": ["2\n"], "fn_name": None})}
    assert lcb.decode_private(packed(inner, protocol)) == [{"input": "1\n", "output": "2\n"}]
    assert lcb.decode_private(json.dumps(CASES)) == CASES
    assert lcb.decode_private("") == []


def test_real_private_tests(real_data: Path) -> None:
    (row,) = read_rows(real_data / "livecodebench/encoded_private_example.jsonl")
    assert lcb.decode_private(row["private_test_cases"]) == row["decoded"]
    for row in read_rows(real_data / "livecodebench/sandboxfusion_samples_3.jsonl"):
        assert lcb.decode_private(row["test"])


class Bomb:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (Path.mkdir, (self.path,))


class Persistent(pickle.Pickler):
    def persistent_id(self, value: Any) -> Any:
        return "x" if value == "here" else None


def persistent() -> bytes:
    import io

    stream = io.BytesIO()
    Persistent(stream).dump(["here"])
    return stream.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "not base64!",
        base64.b64encode(b"not zlib").decode(),
        raw(b"not a pickle"),
        raw(pickle.dumps("[]")[:-3]),
        raw(zlib.compress(b"x")[:4]),
        raw(persistent()),
        raw(pickle.dumps(Path)),  # a class by its name
        raw(b"cos\nsystem\n(S'true'\ntR."),
        raw(b"\x80\x04\x96\xff\xff\xff\xff\xff\x00\x00\x00."),  # BYTEARRAY8 of 1 TB
        raw(b"\x80\x04X\x01\x00\x00\x00ar\xff\xff\xff\xff."),  # LONG_BINPUT: a memo of 4 billion entries
        base64.b64encode(zlib.compress(b"x" * 1000)[:-8]).decode(),
    ],
)
def test_what_is_no_packed_text_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="cannot be unpacked"):
        lcb.decode_private(text)


def test_nothing_of_a_pickle_is_ever_run(tmp_path: Path) -> None:
    for protocol in range(6):
        with pytest.raises(UsageError, match="cannot be unpacked"):
            lcb.decode_private(packed(Bomb(tmp_path / "executed"), protocol))
    assert not (tmp_path / "executed").exists()
    plain = lcb._Plain(__import__("io").BytesIO(pickle.dumps(Bomb(tmp_path / "executed"))))
    with pytest.raises(pickle.UnpicklingError, match="class"):
        plain.load()


def test_a_bomb_stops_at_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lcb, "LARGEST", 1_000_000)
    bomb = packed("[" + " " * 50_000_000 + "]")
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match="more than 1000000 bytes"):
            lcb.decode_private(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_items(real_data: Path) -> None:
    found = tasks.load_problems("livecodebench", data_dir=real_data)
    sets = {problem.id: testsets.load(problem.gold) for problem in found.problems}
    kinds = Counter(tests.kind for tests in sets.values())
    assert kinds == {Kind.STDIN: 611, Kind.CALLS: 444}
    assert all(tests.cpu_seconds == 6 for tests in sets.values())
    assert "1052 with public tests only" in found.warnings[0]
    assert found.source["coverage"] == {"with public tests only": 1052}
    private = {
        name for name, tests in sets.items() if not all(t.public for g in tests.groups for t in g.tests)
    }
    assert private == {"1873_A", "2727", "abc301_a"}
    for problem in found.problems:
        tests = sets[problem.id]
        assert set(problem.metadata) >= {"platform", "difficulty", "month", "date"}
        if tests.kind is Kind.CALLS:
            assert problem.metadata["starter_code"] in problem.prompt
            assert f"def {tests.target.removeprefix('Solution().')}(" in problem.metadata["starter_code"]
            parameters = {len(test.args) for group in tests.groups for test in group.tests}
            assert len(parameters) == 1
        else:
            assert "Read the inputs from stdin" in problem.prompt


def test_functional_arguments_are_one_json_value_a_line() -> None:
    case = {"input": '[1, 2]\n"a,b"\n12345678901234567890123', "output": "[true, null]"}
    tests = lcb.build_tests([case], [], "f")
    (test,) = tests.groups[0].tests
    assert [decode(arg) for arg in test.args] == [[1, 2], "a,b", 12345678901234567890123]
    assert decode(test.expected) == [True, None]
    assert (tests.target, tests.rule) == ("Solution().f", {"name": "functional"})


def test_large_arguments_are_not_replaced_by_their_digest() -> None:
    case = {"input": json.dumps(list(range(600_000))), "output": "1"}
    (test,) = lcb.build_tests([case], [], "f").groups[0].tests
    assert test.args == [list(range(600_000))]
