"""EvalPlus's sanitizer: the same program as the reference takes from a response, in bounded time."""

from __future__ import annotations

import ast
import itertools
import time
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.data.attempt_files.layouts import fenced
from cipo_eval.data.attempt_files.lines import read_lines
from cipo_eval.verifiers.code.extract import extract_paper
from cipo_eval.verifiers.code.sanitize import MAX_LENGTH, _longest, sanitize

LINES = st.sampled_from(
    [
        "",
        "   ",
        "```python",
        "```",
        "Sure, here it is:",
        "Done",
        "def f(x):",
        "    return g(x)",
        "    return (",
        ")",
        '    """',
        "x = 1",
        "try:",
        "    pass",
        "except ValueError:",
        "if x:",
        "else:",
        "@wraps",
        "y = f'{x",
        "import os",
        "\tz = 2",
        "a = [1,",
        "# a comment \\",
    ]
)


def parses(lines: list[str]) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse("\n".join(lines))
    except SyntaxError:
        return False
    return True


@given(st.lists(LINES, min_size=1, max_size=12))
def test_the_run_is_the_one_that_trying_all_pairs_finds(lines: list[str]) -> None:
    runs = [
        lines[i : j + 1] for i, j in itertools.combinations(range(len(lines)), 2) if parses(lines[i : j + 1])
    ]
    longest = max(runs, key=lambda run: sum(bool(line.strip()) for line in run), default=lines[:1])
    if not any(line.strip() for line in longest):
        longest = lines[:1]  # nothing is longer than no line
    assert _longest(lines) == "\n".join(longest)


def test_what_the_function_needs_stays() -> None:
    text = """Here is it:
```python
from __future__ import annotations
import math
from typing import List
LIMIT = 3
other = 4
def helper(x):
    return x * LIMIT
def helper(x):
    return 0
def no_return(x):
    print(x)
@cache
def decorated(x):
    return x
class Kept:
    attribute = 1
def f(x):
    no_return(x)
    return helper(x) + Kept.attribute
print(f(3))
assert f(1) == 100
```
"""
    assert sanitize(text, "f") == (
        "import math\nfrom typing import List\nLIMIT = 3\ndef helper(x):\n    return x * LIMIT\n"
        "class Kept:\n    attribute = 1\ndef f(x):\n    no_return(x)\n    return helper(x) + Kept.attribute"
    )


def test_a_completion_goes_on_with_the_prompt() -> None:
    prompt = 'def f(x):\n    """Twice."""\n'
    found = extract_paper("    return 2 * x\n\nprint(", rule="evalplus", entry_point="f", prompt=prompt)
    assert found is not None
    assert found.code == 'def f(x):\n    """Twice."""\n    return 2 * x'


@pytest.mark.parametrize("rule", ["evalplus", "humaneval", "livecodebench"])
@pytest.mark.parametrize("program", ["def f(:", "assert f", 's = """\n```python\n"""\nprint(1)\n', "x"])
def test_a_bare_program_of_a_file_is_judged_as_it_is(rule: str, program: str) -> None:
    found = extract_paper(fenced(program), rule=rule, entry_point="f", prompt="prompt\n")
    assert found is not None
    assert found.code == program


@pytest.mark.parametrize(
    "unit",
    [
        "def f(x):\n",
        "(",
        "(\n",
        "f(" * 80 + "\n",
        "y = f'{'\n",
        "x = -",
        '"""\n',
        "words\n",
        "a b\n",
        "\0",
        "\ud800",
        "1+",
    ],
)
def test_hostile_texts_take_little_time(unit: str) -> None:
    start = time.process_time()
    sanitize(unit * (MAX_LENGTH // len(unit)), "f")
    assert time.process_time() - start < 15  # what is not linear takes minutes, a busy machine seconds


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
@pytest.mark.parametrize("name", ["humaneval", "mbpp"])
def test_real_answers_give_what_the_reference_s_sanitizer_gave(real_data: Path, name: str) -> None:
    """The programs of a published file are what the reference took from a model's answers: from an answer with each of
    them the same program comes out."""
    from cipo_eval.data.tasks import load_problems

    path = real_data / "model_outputs" / "code" / f"Meta-Llama-3-8B-Instruct__{name}.jsonl.gz"
    problems = {p.id: p for p in load_problems(name, data_dir=real_data).problems}
    rows = [line.fields for line in read_lines(path)]
    compared = 0
    for row in rows:
        program, entry_point = row["solution"], problems[row["task_id"]].options["entry_point"]
        if "\n" not in program:  # the reference takes no run of one line
            continue
        answer = f"Here is it:\n\n```python\n{program}\n```\n\nIt loops.\n```python\nprint({entry_point}(1))\n```\n"
        assert sanitize(answer, entry_point) == program.rstrip("\n")
        compared += 1
    assert compared > 0.8 * len(rows)
