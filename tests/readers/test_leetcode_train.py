"""LeetCodeDataset's training split as rewards see it: right programs pass, others fail, orders that may vary do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cipo_eval.data.readers.leetcode_train import EXAMPLES, MAX_TESTS, read
from cipo_eval.data.sources import read_rows
from cipo_eval.records import Problem
from cipo_eval.verifiers.code import testsets
from cipo_eval.verifiers.pool import VerifierPool


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))


@pytest.mark.slow
def test_right_programs_are_rewarded_and_stubs_are_not(real_data: Path) -> None:
    rows = read_rows(real_data / "train" / "LeetCodeDataset-v0.2.0-train.jsonl.gz")[:400:50]
    with VerifierPool(2) as pool:
        for row in rows:
            item = read(row, {})
            if not isinstance(item.tests, testsets.TestSet):
                assert item.coverage
                continue
            tests = item.tests.groups[0].tests
            assert len(tests) <= MAX_TESTS + EXAMPLES
            assert [test.public for test in tests[:EXAMPLES]] == [True] * min(EXAMPLES, len(tests))
            gold = testsets.store(item.tests)
            problem = Problem(
                task="t",
                id=item.id,
                index=0,
                question=item.question,
                prompt="",
                gold=gold,
                options=item.options,
            )
            right = f"```python\n{row['prompt']}\n{row['completion']}\n```"
            assert pool.verify("code", problem, right, "stop").correct, item.id
            method = row["entry_point"].rpartition(".")[2]
            stub = f"```python\nclass Solution:\n    def {method}(self, *_, **__):\n        return 'no'\n```"
            assert not pool.verify("code", problem, stub, "stop").correct, item.id


def test_an_order_that_the_statement_leaves_open_is_not_judged(real_data: Path) -> None:
    """Two Sum, the first row: [0, 1] and [1, 0] are both right."""
    row = read_rows(real_data / "train" / "LeetCodeDataset-v0.2.0-train.jsonl.gz")[0]
    assert "in any order" in row["query"]
    tests = read(row, {}).tests
    assert isinstance(tests, testsets.TestSet)
    assert tests.rule == {"name": "leetcode", "any_order": True}
    json.dumps(tests.to_json())
