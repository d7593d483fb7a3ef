"""Rewards for other trainers: TRL's and verl's signatures, in threads, forks and processes that are killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cipo_eval.data.readers.mbpp import read_classic
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem
from cipo_eval.rewards import (
    code_reward,
    compute_score,
    correction_reward,
    functions,
    math_reward,
    read_tests,
    reference_answer,
)
from cipo_eval.rewards import verl as verl_file
from cipo_eval.verifiers import pool as pools
from cipo_eval.verifiers.code import testsets

RIGHT, WRONG = r"So it is \boxed{\frac{1}{2}}.", r"So it is \boxed{3}."
CODE = "```python\n{}\n```"


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """One cache, and a pool that knows it: workers look for tests where the cache was when they were started, and those
    of another test in this process may have been started with another one."""
    folder = tmp_path_factory.getbasetemp() / "rewards"
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(folder))
    with pools.VerifierPool(2) as pool:
        monkeypatch.setattr(pools, "_shared", pool)
        yield folder


# --- mathematics -------------------------------------------------------------------------------------------


def test_plain_and_chat_completions_get_the_same_rewards() -> None:
    plain = [RIGHT, WRONG, "I do not know."]
    chat = [[{"role": "assistant", "content": text}] for text in plain]
    parts = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in plain]
    tools = [
        [
            {"role": "assistant", "content": WRONG},
            {"role": "tool", "content": RIGHT},
            {"role": "assistant", "content": t},
        ]
        for t in plain
    ]
    for completions in (plain, chat, parts, tools):
        rewards = math_reward(
            completions=completions, solution=["0.5"] * 3, prompts=["?"] * 3, trainer_state=object()
        )
        assert rewards == [1.0, 0.0, 0.0]


def test_a_row_without_an_answer_has_no_reward() -> None:
    assert math_reward(completions=[RIGHT] * 3, solution=[None, "", "1/2"]) == [None, None, 1.0]
    assert code_reward(completions=["x"] * 2, tests=[None, []]) == [None, None]
    assert correction_reward(completions=[RIGHT], solution=[None], first_right=[True]) == [None]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [
        ("42", "42"),
        ("$\\frac{1}{2}$", "$\\frac{1}{2}$"),
        ("We add.\nHence \\boxed{7}. \\boxed{8}", "8"),
        ("3 + 4 = 7 apples\n#### 7", "7"),
        ("First we add.\nThe answer is 12.", "12"),
        ("  ", None),
    ],
)
def test_the_answer_of_a_solution(solution: str, answer: str | None) -> None:
    assert reference_answer(solution) == answer


def test_what_was_cut_off_has_only_the_answer_that_it_says() -> None:
    text = "We try 1, then 2 and then 42"
    options = {"completion_ids": [[1] * 8], "solution": ["42"]}
    assert math_reward(completions=[text], **options) == [1.0]
    assert math_reward(completions=[text], max_completion_length=8, **options) == [0.0]


def test_verifier_options_and_what_is_logged() -> None:
    metrics, columns = {}, {}
    rewards = math_reward(
        completions=["\\boxed{12 cm}", ""],
        solution=["12", "12"],
        verifier_options=[{"units": "skip"}, None],
        log_metric=metrics.__setitem__,
        log_extra=columns.__setitem__,
    )
    assert rewards == [1.0, 0.0]
    assert metrics == {"cipo_eval/verifier_failed": 0.0, "cipo_eval/no_answer": 0.5}
    assert columns == {"extracted": ["12 cm", ""]}


def test_a_column_of_another_length_is_refused() -> None:
    with pytest.raises(UsageError, match="solution"):
        math_reward(completions=[RIGHT] * 2, solution=["1"])
    with pytest.raises(UsageError, match="first_right"):
        correction_reward(completions=[RIGHT], solution=["1"])


# --- programs ----------------------------------------------------------------------------------------------

DOUBLE = "def double(x):\n    return 2 * x"
FORMS = [
    (["assert double(1) == 2", "assert double(-3) == -6"], {}),
    ("def check(candidate):\n    assert candidate(2) == 4\ncheck(double)", {}),
    ("def check(candidate):\n    assert candidate(2) == 4\n", {"entry_point": "double"}),
    ({"fn_name": "double", "inputs": [[1], [4]], "outputs": [2, 8]}, {}),
    (json.dumps({"fn_name": "double", "inputs": [[1], [4]], "outputs": [2, 8]}), {}),
    ([{"input": "3", "output": "6", "testtype": "functional"}], {"entry_point": "double"}),
    (
        ["for i in range(3):\n    assert sorted([double(i)]) == [i + i]"],
        {"entry_point": "double", "reference": DOUBLE},
    ),
]


def test_tests_are_kept_again_where_the_cache_was_emptied(cache: Path) -> None:
    for _ in range(2):
        assert code_reward(completions=[CODE.format(DOUBLE)], tests=["assert double(8) == 16"]) == [1.0]
        pools.shared_pool().close()  # another process of the training, say
        shutil.rmtree(cache)


@pytest.mark.parametrize(("tests", "columns"), FORMS)
def test_forms_of_tests(tests: object, columns: dict[str, str]) -> None:
    completions = [CODE.format(DOUBLE), CODE.format(DOUBLE.replace("2", "3")), "no program"]
    more = {name: [value] * 3 for name, value in columns.items()}
    assert code_reward(completions=completions, tests=[tests] * 3, **more) == [1.0, 0.0, 0.0]


def test_standard_input_and_methods() -> None:
    program = CODE.format("print(2 * int(input()))")
    pairs = {"inputs": ["1\n", ["4"]], "outputs": ["2\n", "8"]}
    cases = [{"input": "5", "output": "10", "testtype": "stdin"}]
    method = CODE.format("class Solution:\n    def add(self, a, b):\n        return a + b")
    calls = {"fn_name": "Solution.add", "inputs": [[1, 2]], "outputs": [3]}
    assert code_reward(completions=[program, program, method], tests=[pairs, cases, calls]) == [1.0] * 3


def test_a_problem_of_this_package_is_a_row() -> None:
    row = {
        "task_id": 1,
        "text": "Double.",
        "code": DOUBLE,
        "test_list": ["assert double(1) == 2"],
        "test_setup_code": "",
    }
    tests = read_classic(row, {}).tests
    assert isinstance(tests, testsets.TestSet)
    forms = [testsets.store(tests), tests.to_json(), json.dumps(tests.to_json())]
    assert code_reward(completions=[CODE.format(DOUBLE)] * 3, tests=forms) == [1.0] * 3


@pytest.mark.parametrize(
    "tests",
    [
        "assert sorted([double(1)]) == [2]",  # no literal, and no reference
        "x = (",
        {"inputs": [[1]]},
        {"inputs": [], "outputs": []},
        [1],
        [{"input": "1", "output": "1", "testtype": "functional"}],
        5,
    ],
)
def test_tests_that_cannot_be_read_are_refused(tests: object) -> None:
    with pytest.raises(UsageError):
        read_tests(tests)


# --- corrections -------------------------------------------------------------------------------------------


def test_spoiling_a_right_attempt_costs_the_risk() -> None:
    given = {"completions": [RIGHT, WRONG] * 2, "solution": ["1/2"] * 4}
    told = correction_reward(**given, first_right=[True, True, False, False], risk=0.5)
    assert told == [1.0, -0.5, 1.0, 0.0]
    assert correction_reward(**given, attempt=[RIGHT, RIGHT, WRONG, "hm"], risk=0.5) == told
    fresh = correction_reward(**given, attempt=[None] * 4)
    assert fresh == math_reward(**given)


def test_corrections_of_programs() -> None:
    tests = [FORMS[0][0]] * 2
    texts = [CODE.format(DOUBLE), CODE.format("def double(x): return x")]
    assert correction_reward(completions=texts, tests=tests, attempt=texts[:1] * 2) == [1.0, -1.0]


# --- verl --------------------------------------------------------------------------------------------------


def test_verl_loads_it_by_path_and_name() -> None:
    """As verl's ``reward.custom_reward_function`` does: a module made of a file, a function of it, called by name."""
    spec = importlib.util.spec_from_file_location("custom_module", verl_file.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    score = module.compute_score
    row = {"data_source": "math", "ground_truth": "1/2", "extra_info": {"index": 3}}
    assert score(solution_str=RIGHT, **row)["score"] == 1.0
    assert score(solution_str=WRONG, **row) == {
        "score": 0.0,
        "acc": False,
        "pred": "3",
        "verifier_failed": False,
    }


def test_scores_of_corrections_and_programs() -> None:
    assert compute_score("x", WRONG, "1/2", {"first_right": True}, risk=0.5)["score"] == -0.5
    assert compute_score("x", WRONG, "1/2", {"attempt": RIGHT})["score"] == -1.0
    assert compute_score("x", CODE.format(DOUBLE), FORMS[0][0])["score"] == 1.0
    assert compute_score("x", CODE.format(DOUBLE), FORMS[1][0], {"verifier": "code"})["score"] == 1.0
    keys = {tuple(compute_score("x", t, g)) for t, g in ((RIGHT, "1"), ("", None), (RIGHT, "1/2"))}
    assert len(keys) == 1  # verl makes a column of each


# --- processes and threads ---------------------------------------------------------------------------------


def test_threads_at_once_and_no_signals() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)]
    golds = [str(number) for number in range(40)]
    texts = [f"\\boxed{{{2 * (number // 2)}}}" for number in range(40)]

    def judge(_: int) -> list[float | None]:
        assert threading.current_thread() is not threading.main_thread()
        return math_reward(completions=texts, solution=golds)

    with ThreadPoolExecutor(8) as threads:
        for rewards in threads.map(judge, range(16)):
            assert rewards == [1.0, 0.0] * 20
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert [signal.getsignal(number) for number in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT)] == before


def test_a_verifier_that_hangs_costs_its_reward_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch ends in time, the hang is a 0 that is counted, and the next batch is judged as ever."""
    faulty = Problem(
        task="verifiers.faulty:FaultyVerifier", id="1", index=0, question="", prompt="", gold="right"
    )
    counts: dict[str, float] = {}
    batch = ["right", "hang", "wrong", "spin 100"]
    started = time.monotonic()
    with pools.VerifierPool(2, time_limit=0.3, wall_limit=0.3) as pool:
        monkeypatch.setattr(pools, "_shared", pool)
        with monkeypatch.context() as patch:
            patch.setattr(functions, "math_problem", lambda *_: faulty)
            rewards = math_reward(completions=batch, solution=["right"] * 4, log_metric=counts.__setitem__)
            corrected = correction_reward(
                completions=["hang again", "right"], solution=["right"] * 2, first_right=[True, False]
            )
            patch.setattr(verl_file, "math_problem", lambda *_: faulty)
            score = compute_score("", "hang for verl", "right")
        assert math_reward(completions=[RIGHT, WRONG], solution=["0.5"] * 2) == [1.0, 0.0]
    assert rewards == [1.0, 0.0, 0.0, 0.0]
    assert counts["cipo_eval/verifier_failed"] == 0.5
    assert corrected == [-1.0, 1.0]
    assert score == {"score": 0.0, "acc": False, "pred": "hang for verl", "verifier_failed": True}
    assert time.monotonic() - started < 120  # the verifier sleeps for ten minutes


def test_a_fork_does_not_use_its_parents_pool() -> None:
    """As loaders of data and trainers with ``fork`` do, while the parent's pool is at work (and holds its locks)."""
    assert math_reward(completions=[RIGHT], solution=["1/2"]) == [1.0]
    parents = pools.shared_pool()._pool
    with parents_lock(pools.shared_pool()):
        child = os.fork()
        if child == 0:
            rewards: list[float | None] = []
            try:
                rewards = math_reward(completions=["\\boxed{2+2}", "\\boxed{5}"], solution=["4", "4"])
                own = pools.shared_pool()._pool is not parents
            finally:
                os._exit(0 if rewards == [1.0, 0.0] and own else 1)
    deadline = time.monotonic() + 60
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.01)
    if ended == (0, 0):
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended[1:] == (0,)
    assert pools.shared_pool()._pool is parents
    assert math_reward(completions=["\\boxed{6}"], solution=["3+3"]) == [1.0]


def parents_lock(pool: pools.VerifierPool) -> threading.Lock:
    return pool._lock


CHILD = """
import os, sys, time
from cipo_eval.rewards import math_reward
assert math_reward(completions=["\\\\boxed{2+2}"] , solution=["4.0"]) == [1.0]
assert not {"torch", "transformers", "datasets", "pandas"} & set(sys.modules)
from cipo_eval.verifiers.forkserver import server
from cipo_eval.verifiers.pool import shared_pool
print(server.pid, *(member.pid for member in shared_pool()._pool._members), flush=True)
if sys.argv[1] == "stay":
    time.sleep(600)
"""


@pytest.mark.parametrize("end", ["stay", pytest.param("exit", marks=pytest.mark.slow)])
def test_no_process_stays_behind(end: str) -> None:
    """At the end of a trainer, and where it is killed."""
    child = subprocess.Popen([sys.executable, "-c", CHILD, end], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    pids = [int(word) for word in child.stdout.readline().split()]
    assert len(pids) >= 2
    if end == "stay":
        child.kill()
    child.wait()
    deadline = time.monotonic() + 60
    while any(map(runs, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(runs, pids))


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_processes_that_a_launcher_starts_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CIPO_EVAL_WORKERS", raising=False)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "100000")
    assert pools._shared_workers() == 1
    monkeypatch.setenv("CIPO_EVAL_WORKERS", "3")
    assert pools._shared_workers() == 3
