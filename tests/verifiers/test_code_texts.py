"""Programs in texts that run on, and strings that hold fences."""

from __future__ import annotations

import time

import pytest

from cipo_eval.verifiers.code.extract import extract_program

ADD = "def add(x, y):\n    return x + y"
OTHER = "def add(x, y):\n    return 0"
STRINGS = {
    "a string": 'def add(x, y):\n    s = """\n```\nabc\n```\n"""\n    return x + y',
    "a docstring": "def add(x, y):\n    '''Adds.\n\n```\n>>> add(1, 2)\n3\n```\n    '''\n    return x + y",
    "a marked fence": 'DOC = """\n```python\nprint(1)\n```\n"""\n\n' + ADD,
    "one fence": "X = '''\n```\n'''\n" + ADD,
    "an argument": 'def add(x, y):\n    print("""\n```\n""".strip(), x)\n    return x + y',
    "two strings": 'A = """\n```\n"""\nB = """\n```\n"""\n' + ADD,
    "an f-string": 'def add(x, y):\n    s = f"""\n```\n{x}\n```"""\n    return x + y',
}


def program(text: str, entry_point: str | None = "add", *, stopped: bool = True) -> str | None:
    found = extract_program(text, stopped=stopped, entry_point=entry_point)
    return found.code if found else None


@pytest.mark.parametrize("name", STRINGS)
def test_a_fence_within_a_string_is_no_end_of_the_program(name: str) -> None:
    code = STRINGS[name]
    for text in (
        f"```python\n{code}\n```",
        f"First:\n```python\n{OTHER}\n```\nbetter:\n```python\n{code}\n```\nDone.\n```\n3\n```",
        f"```\n{code}\n```\nIt adds.",
        f"```python\n{code}\n",  # not closed
        code if code.count("```") % 2 == 0 else f"```\n{code}\n```",  # bare
    ):
        assert (program(text) or "").rstrip("\n") == code, text


@pytest.mark.parametrize(
    "slip",
    [
        'def add(x, y):\n    """Adds\n    return x',
        'def add(x, y):\n    s = """\n    return x',
        "def add(x, y):\n    '''Adds\n    return x",
    ],
)
@pytest.mark.parametrize(
    "mended",
    [
        'def add(x, y):\n    """Adds well."""\n    return x + y',
        'def add(x, y):\n    """\n    Adds\n    well.\n    """\n    return x + y',
        "def add(x, y):\n    '''Adds well.'''\n    return x + y",
        ADD,
    ],
)
def test_quotes_that_never_close_do_not_swallow_the_next_block(slip: str, mended: str) -> None:
    assert program(f"```python\n{slip}\n```\nThat was a slip.\n```python\n{mended}\n```") == mended


RUN_ON = [
    "\n\nProblem: Return 0.\nSolution:\n",
    "\n\nQuestion: Return 0.\nAnswer:\n",
    "\n\nHuman: Return 0.\n\nAssistant:\n",
    "\nUser: Now return 0.\nAssistant:\n",
    "\n\n### Instruction:\nReturn 0.\n\n### Response:\n",
    "\n[INST] Return 0. [/INST]\n",
]


@pytest.mark.parametrize("more", RUN_ON)
def test_the_first_program_counts_where_a_model_runs_on(more: str) -> None:
    for first in (f"```python\n{ADD}\n```", f"Here:\n\n```\n{ADD}\n```\nIt adds.", ADD):
        assert program(f"{first}{more}```python\n{OTHER}\n```") == ADD
        assert program(f"{first}{more}```python\n{OTHER}", stopped=False) == ADD
    echo = "print(input())"
    text = f"```python\n{echo}\n```{more}```python\nprint(input(), 1)\n```"
    assert program(text, None) == echo


@pytest.mark.parametrize("more", RUN_ON)
def test_a_question_before_the_program_takes_nothing_from_it(more: str) -> None:
    for before in (
        "",
        "I see.",
        "```\n1 2\n3\n```",
        "```python\ndef add(x, y):\n    pass\n```",  # a stub
        "```python\nimport math\n```",
    ):
        assert program(f"{before}{more}```python\n{ADD}\n```") == ADD
    text = f"```python\nX = '''{more}'''\n{ADD}\n```"
    assert program(text) == text.removeprefix("```python\n").removesuffix("\n```")


def test_a_chat_that_finds_a_problem_in_its_program_gives_another_one() -> None:
    text = f"```python\n{OTHER}\n```\n\n**Problem:** this is wrong.\n\n**Fix:**\n```python\n{ADD}\n```"
    assert program(text) == ADD


@pytest.mark.parametrize("unit", ['```python\nx = """\n```\n', "```\n'''\n```\n\"\"\"\n", "Problem:\nx = 1\n",
                                  '"""\n```\n', "```python\nx = '''\n\\'''\n```\n"])  # fmt: skip
def test_many_fences_and_quotes_are_quick(unit: str) -> None:
    text = "```python\n" + unit * (300_000 // len(unit))
    started = time.process_time()
    program(text)
    assert time.process_time() - started < 60  # quadratic extraction takes minutes, a busy machine seconds
