"""The process that runs tests on results that came from elsewhere: what a program may not make it pay."""

from __future__ import annotations

import pytest

from cipo_eval.sandbox import codec, judge

COLLIDING = {"s": [{"i": f"{k * ((1 << 61) - 1):x}"} for k in range(2, 20_000)]}


def test_a_value_that_does_not_decode_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each test: it takes ``KEY_SECONDS`` each time, and the judge has a deadline. Other values of the same
    program are judged as ever."""
    monkeypatch.setattr(codec, "KEY_SECONDS", 0.0)
    tried = []
    decode = codec.decode
    monkeypatch.setattr(codec, "decode", lambda data: (tried.append(data), decode(data))[1])
    call = {"args": [3]}
    values = [COLLIDING] * 4 + [5, COLLIDING]
    job = {
        "reference": "",
        "preamble": "",
        "entry_point": "f",
        "tests": ["assert f(3) == 5"] * len(values),
        "results": [[[call, ["v", value]]] for value in values],
        "split": [],
        "live": False,
        "all": True,
    }

    def ask(_call: judge.Call) -> judge.Record:
        raise AssertionError("all calls have their records")

    outcomes = judge.judge(job, ask)["outcomes"]
    assert [outcome is None for outcome in outcomes] == [value == 5 for value in values]
    assert tried == [COLLIDING, 5]
