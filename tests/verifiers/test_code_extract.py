"""Extraction finds the program that a careful reader would take, in every wrapping, and stays linear on hostile text.

Programs are compiled here, in the tests; ``cipo_eval.verifiers.code.extract`` itself never does.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import Part, examples, part

from cipo_eval.verifiers.code.extract import ExtractedProgram, extract_paper, extract_program
from verifiers.math_data import json_lines

PROMPT = '''import math


def helper(x):
    return x + 1


def f(x: int) -> int:
    """Doc of f.

    >>> f(1)
    2
    """
'''
F = "def f(x):\n    return 1"
SANITIZED = "import math\n" + PROMPT[PROMPT.index("def f") :] + "    return 1"
"""The function needs no helper."""


def extracted(text: str, **options: Any) -> ExtractedProgram | None:
    return extract_program(text, **{"stopped": True, "entry_point": "f", **options})


def code(text: str, **options: Any) -> str | None:
    program = extracted(text, **options)
    return program.code if program else None


def how(text: str, **options: Any) -> str | None:
    program = extracted(text, **options)
    return program.how if program else None


@lru_cache(maxsize=4096)
def tree(program: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in what models wrote
        return ast.dump(ast.parse(program))


def parses(program: str) -> bool:
    try:
        tree(program)
    except (SyntaxError, ValueError):
        return False
    return True


def fenced(*programs: str, mark: str = "python") -> str:
    return "\n\nThen:\n\n".join(f"```{mark}\n{program}\n```" for program in programs)


# --- fences ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mark", ["", "python", "py", "python3", "Python", "{.python}", "python title=a.py", "text"]
)
def test_marks_of_python_and_no_mark(mark: str) -> None:
    assert extracted(f"Sure:\n```{mark}\n{F}\n```\nDone.") == ExtractedProgram(code=F, how="fenced")


@pytest.mark.parametrize("mark", ["cpp", "bash", "json", "javascript", "pycon", "python-repl"])
def test_other_languages_are_not_the_program(mark: str) -> None:
    assert extracted(f"```{mark}\nint main() {{ return 0; }}\n```", entry_point=None) is None
    assert code(fenced(F) + f"\n```{mark}\n{F} + 1\n```") == F


@pytest.mark.parametrize(
    "text",
    [
        f"~~~python\n{F}\n~~~",
        f"`````\n{F}\n``````",
        f"```python\r\n{F}\r\n```\r\n".replace("\n    ", "\r\n    "),
        f"   ```python\n{textwrap.indent(F, '   ')}\n   ```",
        f"1. So:\n\n        ```python\n{textwrap.indent(F, ' ' * 8)}\n        ```\n2. Done.",
        f"1. ```python\n{textwrap.indent(F, '   ')}\n   ```",
        f"This is the code: ```python\n{F}\n```",
        f"```python\n```python\n{F}\n```\n```",
        f"```\nSome output\n```python\n{F}\n```",
        f"```python\n{F}```\nThis is all.",
    ],
)
def test_fences_as_models_write_them(text: str) -> None:
    assert extracted(text) == ExtractedProgram(code=F, how="fenced")


def test_a_program_in_markdown_in_a_fence() -> None:
    assert code(f"````markdown\n```python\n{F}\n```\n````") == F


def test_only_a_fence_as_long_and_bare_closes() -> None:
    inner = 'def f(x):\n    """\n```\ntext\n```\n~~~\n``` python\n    """\n    return 1'
    assert extracted(f"````\n{inner}\n````\nrest") == ExtractedProgram(code=inner, how="fenced")
    assert extracted(f"```\nx = 1\n``` so far\n{F}\n```\nrest") == ExtractedProgram(
        code=f"x = 1\n``` so far\n{F}", how="fenced"
    )
    indented = 'def f(x):\n    """\n    ```\n    text\n    ```\n    """\n    return 1'
    assert extracted(f"```python\n{indented}\n```\nrest") == ExtractedProgram(code=indented, how="fenced")


def test_an_unfinished_fence_is_used() -> None:
    for stopped in (True, False):
        assert extracted(f"```python\n{F}", stopped=stopped) == ExtractedProgram(
            code=F, how="fenced_unclosed"
        )


# Nothing that other rules look at: tags, thinking, special tokens.
program_lines = st.one_of(
    st.sampled_from(
        ["", "```", "~~~", "````python", "    x = 1", "def g():", "print(1)", '"""', "# note", "prose it is"]
    ),
    st.text(st.characters(exclude_characters="\n\r<"), max_size=20),
)
prose = st.lists(
    st.sampled_from(["", "Here it is.", "- it `reads` a number", "1. it adds", "## Part"]), max_size=3
)


@given(program_lines=st.lists(program_lines, max_size=12), prose=st.tuples(prose, prose), extra=st.integers(0, 3),
       char=st.sampled_from("`~"), stopped=st.booleans(), function=st.booleans())  # fmt: skip
def test_a_fence_gives_back_what_it_holds(
    program_lines: list[str],
    prose: tuple[list[str], list[str]],
    extra: int,
    char: str,
    stopped: bool,
    function: bool,
) -> None:
    program = "\n".join([*F.split("\n"), *program_lines])
    runs = re.findall(f"{char}+", program)
    fence = char * (max([2, *map(len, runs)]) + 1 + extra)
    text = "\n".join([*prose[0], f"{fence}python", program, fence, *prose[1]])
    given_back = extract_program(text, stopped=stopped, entry_point="f" if function else None)
    assert given_back == ExtractedProgram(code=program, how="fenced")


# --- which block ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "after",
    [
        "print(f(1))  # 1",
        "assert f(1) == 1",
        "class TestF(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(1), 1)",
        ">>> f(1)\n1",
        "# YOUR CODE HERE",
        "def f(x):\n    ...",
        'def f(x):\n    """Doc."""\n    # your code\n    pass',
        "def g(x):\n    return f(x)",
        "class A:\n    def f(self):\n        return 1",
        "return 1",
        "",
    ],
)
@pytest.mark.parametrize("mark", ["python", ""])
def test_what_follows_the_solution_does_not_replace_it(after: str, mark: str) -> None:
    assert code(fenced(F) + "\n\nNow:\n" + fenced(after, mark=mark)) == F
    assert (
        code(fenced(F) + "\n\nNow:\n" + fenced(after, mark=mark), prompt=PROMPT)
        == PROMPT.split("def f")[0] + F
    )


@pytest.mark.parametrize(
    "revised",
    ["def f(x):\n    return 2", "async def f(x):\n    return 2", "f = lambda x: 2", "class f:\n    x = 2",
     "def f(x): return 2", "@cache\ndef f(\n    x,\n):\n    return 2", "# better\ndef f[T](x: T) -> T:\n    return 2"],
)  # fmt: skip
def test_the_last_definition_counts(revised: str) -> None:
    assert code(fenced(F) + "\nWait.\n" + fenced(revised, mark="")) == revised


def test_names_are_whole_names() -> None:
    assert code(fenced(F, "def f2(x):\n    return 2", "class fx:\n    y = 1", "f = 5")) == F


def test_a_revision_that_was_cut_off_does_not_replace_a_whole_program() -> None:
    text = fenced(F) + "\nWait.\n```python\ndef f(x):\n    retu"
    assert code(text, stopped=False) == F
    assert code(text, stopped=True) == "def f(x):\n    retu"


def test_a_cut_off_text_loses_its_torn_end_but_not_its_function() -> None:
    assert code(f'```python\n{F}\n\ndef test():\n    assert f("', stopped=False) == F + "\n"
    assert code(f'{F}\n\ndef test():\n    assert f("', stopped=False) == F + "\n"
    assert code(f"```python\n{F}\n\nif f(1):\n    x = 1\nelse:\n    x =", stopped=False) == F + "\n"
    assert code("```python\ndef f(x):\n    if x", stopped=False) == "def f(x):\n    if x"


READS = "n = int(input())\nprint(n)"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        (fenced(READS) + "\nInput\n```\n3\n```\nOutput\n```\n3\n```", READS),
        (fenced("n = int(input())", READS, "print(n)"), READS),
        (fenced("print(1)\nx = input()", READS), READS),
        (fenced(READS, "# YOUR CODE HERE"), READS),
        (fenced(READS) + "\n```bash\npython a.py < input\n```", READS),
        ("Sample\n" + fenced("3 4\n1 2", mark="") + "\nCode\n" + fenced(READS, mark=""), READS),
        (fenced(READS) + "\nor\n" + fenced("for i in range(int(input())):\n    print(i)", mark=""), READS),
        (
            fenced("import sys\nsys.stdout.write(sys.stdin.read())"),
            "import sys\nsys.stdout.write(sys.stdin.read())",
        ),
        (fenced("x = 5"), "x = 5"),
    ],
)
def test_stdin_programs_read_and_write(text: str, program: str) -> None:
    assert code(text, entry_point=None) == program


def test_definitions_of_other_blocks_that_the_program_needs_come_first() -> None:
    lent = "import math\nfrom a import (b as c,\n    d)\nMOD = 7\n\n@math.cache\ndef helper(x):\n    return x % MOD"
    kept_back = "print(helper(3))\nlimit = int(input())\n\ndef unused():\n    pass"
    solution = "def f(x, limit=3):\n    return helper(x) + d"
    program = extracted(fenced(f"{lent}\n{kept_back}", solution))
    assert program == ExtractedProgram(code=f"{lent}\n{solution}", how="fenced_joined")
    assert code(fenced("def helper(x):\n    return 0", "def helper(x):\n    return x", solution, F)) == F
    revised = code(fenced("def helper(x):\n    return 0", "def helper(x):\n    return x", solution))
    assert revised == "def helper(x):\n    return x\n" + solution


# --- tags -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        f"<code>\n{F}\n</code>\n<exp>It was wrong.</exp>",
        f"<code>{F}</code>",
        f"<code>\n```python\n{F}\n```\n</code>\n<exp>\n```python\ndef f(x):\n    return 0\n```\n</exp>",
        f"<code>\n{F}\n<exp>The closing tag is missing.",
        f"<code>\n{F}",
        f"<CODE>\n{F}\n</CODE>",
        f"First <code>\ndef f(x):\n    return 0\n</code> no: <code>\n{F}\n</code>",
    ],
)
def test_tags(text: str) -> None:
    assert extracted(text) == ExtractedProgram(code=F, how="tagged")


def test_tags_in_prose_and_in_programs_are_no_program() -> None:
    assert extracted(f"Call <code>f</code> of <code>x</code>.\n{fenced(F)}") == ExtractedProgram(
        code=F, how="fenced"
    )
    html = 'print("<code>" + input() + "</code>")'
    assert code(fenced(html), entry_point=None) == html


# --- no fences ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before", ["", "Sure! Here's it (in Python:\n\n", "### Solution\nWe add one = easy.\n\n", "It:\n"]
)
@pytest.mark.parametrize(
    "after",
    ["", "\n\nThis works (really) because it's O(n).", "\n\n- it is fast\n- and short", "\n```\nEnd."],
)
def test_code_among_prose(before: str, after: str) -> None:
    program = (
        "import sys\n\n@cache\ndef f(x):\n    '''Doc\nat the margin\n    '''\n    y = [\nx,\n]\n    return y"
    )
    assert extracted(before + program + after) == ExtractedProgram(code=program, how="bare")


def test_a_bracket_that_never_closes_does_not_hide_the_function() -> None:
    assert code(f"g = (1,\n\n{F}\n\nDone (now.") == F


def test_an_indented_listing_is_dedented() -> None:
    assert code(f"The code:\n\n{textwrap.indent(F, '    ')}\n\nThat is it.") == F


def test_bare_text_ends_where_a_base_model_runs_on() -> None:
    used = f"{F.replace('1', 'memo')}\n\nmemo = {{}}\nINF = float('inf')\n\ndef g():\n    return 2"
    run_on = "\n\nassert f(1) == 3\nprint(f(int(input())))\ny = f(3)\nif __name__ == '__main__':\n    f(2)\n"
    program = code(used + run_on)
    assert program is not None
    assert program.rstrip() == used
    assert code(fenced(used + run_on)) == used + run_on  # what is fenced stays as the model wrote it
    assert code(f"{F}<|endoftext|>\ndef f(x):\n    return 0") == F


@pytest.mark.parametrize(
    "text",
    ["", " \n\t\n", "I do not know.", "The result = 5, so: it is 5.", "- a\n- b (c)", "x = 5", "```python\n```",
     "```python\n# YOUR CODE HERE\n```", "```", "<code></code>"],
)  # fmt: skip
def test_nothing_that_could_be_code(text: str) -> None:
    for entry_point in (None, "f"):
        for prompt in (None, PROMPT):
            assert extracted(text, entry_point=entry_point, prompt=prompt) is None


def test_nothing_from_inside_thinking_counts() -> None:
    zero = F.replace("1", "0")
    assert code(f"<think>{fenced(zero)}</think>{fenced(F)}") == F
    assert code(f"{fenced(F)}<think>{fenced(zero)}") == F
    assert extracted(f"<think>{fenced(zero)}") is None
    assert code(f"<think>\n{fenced(zero)}", think="keep") == zero


# --- continuing the prompt ------------------------------------------------------------------------------------------

BODY = "    if x:\n        y = helper(x)\n    # otherwise\n    else:\n        y = 0\n    return y"
WRAPPINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in a fence": lambda body: f"```python\n{body}\n```",
    "in a fence among words": lambda body: (
        f"The rest:\n```\n{body}\n```\nFor example:\n```python\nprint(f(1))\n```"
    ),
    "in a fence with a call": lambda body: f"```python\n{body}\n\nprint(f(1))\n```",
    "cut by a fence": lambda body: f"{body}\n```\n\nThis works.",
    "cut by a token": lambda body: f"{body}<|endoftext|>def run_on(x): pass",
    "runs on to a function": lambda body: (
        f"{body}\n\n\ndef test_f():\n    assert f(1) == 2\n\n\nprint(f(1))\n"
    ),
    "runs on to a comment": lambda body: f"{body}\n\n# Test\nassert f(1) == 2\n",
    "runs on to a main block": lambda body: f"{body}\n\nif __name__ == '__main__':\n    f(1)\n",
    "runs on to a class": lambda body: f"{body}\n\nclass RunOn:\n    pass\n",
    "torn": lambda body: f"{body}\n\n\ndef run_on(x):\n    y = 'a",
}
INDENTS: dict[str, Callable[[str], str]] = {
    "kept": str,
    "dropped": textwrap.dedent,
    "first line stripped": str.strip,
    "shifted": lambda body: textwrap.indent(body, "  "),
}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_continuations(wrapping: str) -> None:
    for stopped in (True, False):
        program = extracted(WRAPPINGS[wrapping](BODY), prompt=PROMPT, stopped=stopped)
        assert program == ExtractedProgram(code=PROMPT + BODY, how="completion")


@pytest.mark.parametrize("wrapping", ["as it is", "in a fence", "in a fence among words"])
@pytest.mark.parametrize("indent", INDENTS)
def test_continuations_are_indented_again(indent: str, wrapping: str) -> None:
    assert code(WRAPPINGS[wrapping](INDENTS[indent](BODY)), prompt=PROMPT) == PROMPT + BODY


def test_a_continuation_that_runs_on_to_the_same_function_again() -> None:
    assert code(f"{BODY}\n\n\ndef f(x):\n    return 0\n", prompt=PROMPT) == PROMPT + BODY


def test_strings_over_several_lines_keep_their_text() -> None:
    body = '    y = """a\n  b\nc\n    """\n    return y'
    assert code(body, prompt=PROMPT) == PROMPT + body
    assert code(fenced(body), prompt=PROMPT) == PROMPT + body
    dropped = 'y = """a\n  b\nc\n"""\nreturn y'
    kept = '    y = """a\n  b\nc\n"""\n    return y'
    assert code(fenced(dropped), prompt=PROMPT) == PROMPT + kept


def test_what_looks_like_prose_does_not_end_a_function() -> None:
    body = "    y = 1\n# note\n\n    y\n    return y"
    assert code(f"{body}\n# more\nprint(f(1))", prompt=PROMPT) == PROMPT + body
    dropped = "y = 1\n# note\n\ny\nreturn y"
    assert code(fenced(dropped), prompt=PROMPT) == PROMPT + textwrap.indent(dropped, "    ")


def test_a_prompt_that_ends_on_its_header() -> None:
    prompt = "class Solution:\n    def g(self, x: int) -> int:\n        "
    whole = "class Solution:\n    def g(self, x: int) -> int:\n        y = x\n        return y"
    for text in (
        "        y = x\n        return y",
        "y = x\n        return y",
        "```\ny = x\nreturn y\n```",
        fenced(whole),
    ):
        assert code(text, entry_point="Solution", prompt=prompt) == whole


def test_a_later_helper_that_the_continuation_uses_is_kept() -> None:
    program = extracted(
        "    return g(x)\n\n\ndef g(y):\n    return y\n\n\ndef h():\n    pass\n", prompt=PROMPT
    )
    assert program is not None
    assert program.how == "completion_joined"
    assert tree(program.code) == tree("def g(y):\n    return y\n" + PROMPT + "    return g(x)")


def test_a_function_written_anew_gets_what_stands_before_it_in_the_prompt() -> None:
    preamble = PROMPT.split("def f")[0]
    for text in (F, fenced(F), f"```python\n{F}", f"<code>{F}</code>", f"Here:\n\n{F}\n\nDone."):
        assert code(text, prompt=PROMPT) == preamble + F
    assert code(fenced(PROMPT + BODY), prompt=PROMPT) == PROMPT + BODY
    future = "from __future__ import annotations"
    assert code(fenced(f"{future}\n{F}"), prompt=PROMPT) == f"{future}\n{preamble}{F}"


# --- hostile text ---------------------------------------------------------------------------------------------------

HOSTILE = [
    "`", "```python\n", "```\n", "```python\nx = 1\n", "~~~\n", "```python\ndef f(x):\n    return 1\n```\n",
    "def f(x):\n", "    return x\n", "a", "a\n", "\n", "\r", "\0", "\ud800", "(", "()", '"', '"""', "'''",
    '"""\\"', '"\\"', "\\", "\\\n", "#", "<code>", "</code>", "<code>a</code>", "<think>", "</think>", " ",
    "\t", " \n", "x = (\n", ")\n", "from a import (\n", "if x:\n", "A = 1\n", "@a\n", "a b = ", "[for",
    "text ```python\n", "input ", "open(  ", "def f(x): :  ", "f = ", "f(x)", "import a, ",
    "```python\nimport a\n```\n", '"a" \\\n', "'\"", "<|im_end|>", "<|fim_",
]  # fmt: skip


def with_or_without_entry_point() -> Iterator[Any]:
    """Each unit in one of two ways, which its hash decides; in the other for ``-m exhaustive``."""
    for unit in HOSTILE:
        for entry_point in (None, "f"):
            here = Part(2).holds(repr(unit)) == (entry_point is None)
            marks = [pytest.mark.slow] if entry_point is None else []
            yield pytest.param(unit, entry_point, marks=marks if here else pytest.mark.exhaustive)


@pytest.mark.parametrize(("unit", "entry_point"), with_or_without_entry_point())
def test_long_runs_of_anything_are_quick(unit: str, entry_point: str | None) -> None:
    text = unit * (100_000 // len(unit))
    started = time.process_time()
    extracted(text, entry_point=entry_point, prompt=PROMPT, stopped=False)
    for rule in ("livecodebench", "humaneval", "evalplus", "debugbench"):
        extract_paper(text, rule=rule, entry_point=entry_point, prompt=PROMPT)
    assert time.process_time() - started < 15  # quadratic extraction takes minutes, a busy machine seconds


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        "```\n",
        *(
            pytest.param(unit, marks=pytest.mark.exhaustive)
            for unit in ("\r", '"""\\"', "`", "```python\n", "def f(x):\n", "a", "\0", "\ud800", "(", '"\\"')
        ),
    ],
)
def test_time_is_linear_in_the_length(unit: str) -> None:
    seconds = []
    for size in (200_000, 1_000_000):
        started = time.process_time()
        extracted(unit * (size // len(unit)), prompt=PROMPT, stopped=False)
        seconds.append(time.process_time() - started)
    assert seconds[1] < 15 * seconds[0] + 5  # linear would be 5, quadratic 25 times


def test_nothing_is_compiled_or_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("extraction must not look at code in this way")

    texts = [fenced(F), F, BODY, f"<code>{F}</code>", "```python\nprint(1)", "```python\n" + "(" * 10_000]
    expected = [extracted(text, prompt=PROMPT) for text in texts]
    with monkeypatch.context() as patch:
        for name in ("compile", "exec", "eval", "__import__"):
            patch.setattr(builtins, name, refuse)
        assert [extracted(text, prompt=PROMPT) for text in texts] == expected


FRAGMENTS = [
    "```", "```python", "~~~", "\n", "\n    ", "\n\t", "\r", "\0", "\ud800", F, "def f(x):", "class f:",
    "return x", "(", ")", '"""', "'", '"', "\\", "#", "<code>", "</code>", "<exp>", "<think>", "</think>",
    " ", "x = 1", "import a", "from a import (b", "import ,", "@a", "f = lambda", "input()", "print(1)",
    "prose", "else:", "A = 1",
]  # fmt: skip


@settings(max_examples=examples(500))
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=25).map("".join))
def test_never_raises_and_never_gives_an_empty_program(text: str) -> None:
    for entry_point, prompt in ((None, None), ("f", None), ("f", PROMPT), ("f", text)):
        for stopped in (True, False):
            program = code(text, entry_point=entry_point, prompt=prompt, stopped=stopped)
            assert program is None or program.strip()


# --- paper mode -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "text", "program"),
    [
        ("livecodebench", fenced("a", "b"), "b"),
        ("livecodebench", "x ```python\na\nb``` y", "a"),
        ("livecodebench", "```python\na\n```\nprose\n```", "prose"),
        ("livecodebench", "```python\na", None),
        ("livecodebench", "a", None),
        ("humaneval", "    return 1\n\nrun on", PROMPT + "    return 1\n\nrun on"),
        ("humaneval", fenced(F), PROMPT + fenced(F)),
        ("evalplus", F + "\nrun on", F),
        ("evalplus", "    return 1", SANITIZED),
        ("debugbench", f"<code>\n{F}\n</code><exp>e</exp>", f"\n{F}\n"),
        ("debugbench", f"<code>{fenced(F)}</code>", fenced(F)),
        ("debugbench", "```python\na\n```", "thon\na\n``"),  # missing tags are position -1 in the reference
        ("debugbench", "</code>", None),
    ],
)
def test_paper_rules(rule: str, text: str, program: str | None) -> None:
    taken = extract_paper(text, rule=rule, entry_point="f", prompt=PROMPT)
    assert taken == (None if program is None else ExtractedProgram(code=program, how=rule))


def test_an_unknown_rule_is_named() -> None:
    with pytest.raises(ValueError, match="no rule nonsense: known are livecodebench"):
        extract_paper("", rule="nonsense")


# --- real responses -------------------------------------------------------------------------------------------------


def livecodebench(data: Path) -> Iterator[tuple[str, str, str | None]]:
    """(response, what the reference took from it, entry point)"""
    for path in sorted((data / "model_outputs" / "livecodebench").glob("*.jsonl.gz")):
        for row in json_lines(path):
            for text, taken in zip(row["output_list"], row["code_list"], strict=True):
                yield text, taken, "Solution" if row["starter_code"] else None


def has_code(program: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith("#") for line in program.split("\n"))


def test_livecodebench_responses(real_data: Path) -> None:
    """Paper mode takes what the reference took; fixed mode differs only where that was no program."""
    outcome: Counter[str] = Counter()
    for text, taken, entry_point in livecodebench(real_data):
        paper = extract_paper(text, rule="livecodebench")
        assert (paper.code if paper else "") == taken
        program = code(text, entry_point=entry_point)
        stub = not has_code(taken)
        assert program == taken or stub
        outcome["none" if program is None else "better" if stub else "same"] += 1
        assert program is None or not stub or parses(program)
    assert outcome.total() == 1935
    assert outcome["better"] == 24  # a trailing "# YOUR CODE HERE" or an empty last block
    assert outcome["none"] == 165  # 161 of them empty responses


REWRAPPED: dict[str, Callable[[str], str]] = {
    "carriage returns": lambda text: text.replace("\n", "\r\n"),
    "tildes": lambda text: text.replace("```", "~~~~"),
    "no mark": lambda text: text.replace("```python", "```"),
    "other mark": lambda text: text.replace("```python", "```{.Python}"),
    "in a list item": lambda text: textwrap.indent(text, "   "),
    "unclosed": lambda text: text[: text.rindex("```")],
    "glued": lambda text: text.replace("\n```", "```").replace("```python", "\n```python"),
    "tags": lambda text: text.replace("```python", "<code>").replace("```", "</code>"),
    "tags and fence": lambda text: f"<code>\n{text}\n</code>\n<exp>Wrong.</exp>",
    "no fence": lambda text: text.replace("```python", "").replace("```", ""),
    "no opening fence": lambda text: text.partition("```python\n")[2],
}


@pytest.mark.slow
@part(10)
@pytest.mark.parametrize("wrapping", REWRAPPED)
def test_livecodebench_programs_survive_other_wrappings(real_data: Path, wrapping: str, part: Part) -> None:
    seen = 0
    for text, taken, entry_point in part.of(livecodebench(real_data), lambda answer: answer[0]):
        if text.count("```") != 2 or not has_code(taken) or not parses(taken):
            continue
        if (
            entry_point
            and "no" in wrapping.split()
            and re.search(r"^(?:if|print|[a-z]\w* =)", taken, re.MULTILINE)
        ):
            continue  # what runs on behind a class is dropped from bare text
        seen += 1
        program = code(REWRAPPED[wrapping](text), entry_point=entry_point)
        assert program is not None
        assert tree(program) == tree(taken)
    assert seen > 1500 / part.one_in
    assert seen > 1700 or not part.whole


@cache
def human_eval(data: Path) -> list[dict[str, Any]]:
    names = ("HumanEval", "HumanEvalPlus-v0.1.10")
    return [row for name in names for row in json_lines(data / "humaneval" / f"{name}.jsonl.gz")]


# Text that runs on at the margin cannot be told from a body at the margin.
CONTINUATIONS = [(wrapping, "kept") for wrapping in WRAPPINGS] + [
    (wrapping, indent)
    for wrapping in ("as it is", "in a fence", "in a fence among words")
    for indent in ("dropped", "first line stripped")
]


@part(12)
@pytest.mark.parametrize(("wrapping", "indent"), CONTINUATIONS)
def test_canonical_bodies_continue_their_prompts(
    real_data: Path, wrapping: str, indent: str, part: Part
) -> None:
    rows = human_eval(real_data)
    assert len(rows) == 328
    for row in part.of(rows, lambda row: (row["task_id"], wrapping, indent)):
        text = WRAPPINGS[wrapping](INDENTS[indent](row["canonical_solution"].strip("\n")))
        program = code(text, entry_point=row["entry_point"], prompt=row["prompt"])
        assert program is not None
        assert tree(program) == tree(row["prompt"] + row["canonical_solution"])


@pytest.mark.parametrize("wrap", [str, fenced, lambda text: f"Here it is.\n\n{text}\n\nIt works."])
def test_canonical_functions_get_their_imports_and_helpers(
    real_data: Path, wrap: Callable[[str], str]
) -> None:
    for row in human_eval(real_data):
        whole = row["prompt"] + row["canonical_solution"]
        function = whole[re.search(rf"^def {row['entry_point']}\b", whole, re.MULTILINE).start() :]
        for text in (whole, function):
            program = code(wrap(text), entry_point=row["entry_point"], prompt=row["prompt"])
            assert program is not None
            assert tree(program) == tree(whole)


def defines(program: str, name: str) -> bool:
    return any(isinstance(node, ast.FunctionDef) and node.name == name for node in ast.parse(program).body)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [True, False])
def test_recorded_solutions(real_data: Path, stopped: bool) -> None:
    """Where the recorded program compiles and defines the function, so does what is found in the raw completion."""
    problems = {row["task_id"]: row for row in human_eval(real_data)}
    problems |= {row["task_id"]: row for row in json_lines(real_data / "mbpp" / "MbppPlus-v0.2.0.jsonl.gz")}
    seen = 0
    for path in sorted((real_data / "model_outputs" / "code").glob("*.jsonl.gz")):
        for row in json_lines(path):
            problem = problems.get(row["task_id"])
            if problem is None or not parses(row["solution"]):
                continue
            entry_point = problem["entry_point"]
            raw = row.get("x_raw_completion", row["solution"])
            program = code(raw, entry_point=entry_point, prompt=problem["prompt"], stopped=stopped)
            if defines(row["solution"], entry_point):
                seen += 1
                assert program is not None
                assert defines(program, entry_point)
            else:
                assert program is None or parses(program)
    assert seen > 950


@pytest.mark.slow
def test_debugbench_programs(real_data: Path) -> None:
    """The judged programs, in the format that they were asked for in; published files hold only the programs."""
    seen = 0
    for path in sorted((real_data / "model_outputs" / "debugbench").glob("*.jsonl.gz")):
        for row in json_lines(path):
            program = row.get("fixed_code", row.get("completed_code"))
            if not re.search(r"^class Solution[(:]", program, re.MULTILINE):
                continue
            seen += 1
            text = f"<code>{program}</code>\n<exp>It was wrong.</exp>"
            taken = extract_paper(text, rule="debugbench")
            assert taken is not None
            assert taken.code == program
            assert extracted(text, entry_point="Solution") == ExtractedProgram(
                code=program.strip("\n"), how="tagged"
            )
            assert code(fenced(program), entry_point="Solution") == program
    assert seen > 1900


@pytest.mark.slow
def test_small_model_programs(real_data: Path) -> None:
    seen = 0
    for row in json_lines(
        real_data / "model_outputs" / "small_models" / "Qwen2.5-1.5B-Instruct__LiveCodeBench.jsonl.gz"
    ):
        for program in row["content"][:1]:
            if not has_code(program) or not parses(program):
                continue
            seen += 1
            for text in (
                program,
                f"Here it is.\n\n{program}\n\nIt reads the input. It runs in O(n) time.",
                fenced(program),
            ):
                taken = code(text, entry_point="Solution" if "class Solution" in program else None)
                assert taken is not None
                assert tree(taken) == tree(program)
    assert seen > 500
