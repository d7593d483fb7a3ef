"""``paper`` mode of LiveCodeBench: what its runner makes of programs, and what ``fixed`` mode makes of them.

The verdicts of the runner were had from the runner: ``lcb_runner/evaluation/testing_util.py`` as lighteval 0.13
carries it (``lighteval/tasks/tasks/lcb/codegen_metrics.py``), Python 3.11, each program in a process of its own. All
programs of two published runs were compared as well (o1-mini on v5 and Qwen2.5-7B on v6, 1,935 programs on their public
tests): one differs, which takes as long as the limit. Where the modes differ, ``fixed`` is what an interpreter does.

How it works: the imports are moved to the front, after ``from math import *`` and seventeen more; the rest becomes the
body of a function, called once per test with ``sys.stdin`` a ``StringIO`` and ``builtins.open`` a mock. What
``from sys import stdin`` gives is another object: its ``read``, ``readline`` and ``readlines`` are patched, each on its
own, and nothing else of it works.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from parts import Part

from cipo_eval.data.readers.livecodebench import build_tests
from cipo_eval.records import Mode
from cipo_eval.verifiers.code import testsets
from verifiers.code_tools import Court, court


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path))


@pytest.fixture(scope="module")
def judges() -> Iterator[Court]:
    with court() as found:
        yield found


def verdicts(judges: Court, program: str, cases: list[tuple[str, str]], method: str | None) -> str:
    """``fixed``, ``paper``, ``both`` or ``neither``: the modes in which a program is right."""
    tests = build_tests([], [{"input": given, "output": wanted} for given, wanted in cases], method)
    gold = testsets.store(tests)
    right = [mode.value for mode in (Mode.FIXED, Mode.PAPER) if judges.grade(gold, program, mode).correct]
    return {0: "neither", 1: right[0] if right else "", 2: "both"}[len(right)]


INPUTS = ("3\n1 2 3\n", "2\n10 -4\n")
"""Two numbers of numbers; their sums are both 6."""


def the_sum(line: str) -> str:
    return f"print(sum(map(int, {line}.split())))"


# --- standard input ------------------------------------------------------------------------------------------

READING = {
    "both": {
        "input": "input()\n" + the_sum("input()"),
        "sys.stdin.read": "import sys\nprint(sum(map(int, sys.stdin.read().split()[1:])))",
        "sys.stdin.readline": "import sys\nsys.stdin.readline()\n" + the_sum("sys.stdin.readline()"),
        "sys.stdin.readlines": "import sys\n" + the_sum("sys.stdin.readlines()[1]"),
        "for line in sys.stdin": "import sys\nlines = [x for x in sys.stdin]\n" + the_sum("lines[1]"),
        "for line after input": "import sys\ninput()\nfor x in sys.stdin: " + the_sum("x"),
        "next(sys.stdin)": "import sys\nnext(sys.stdin)\n" + the_sum("next(sys.stdin)"),
        "read after readline": "import sys\nsys.stdin.readline()\n" + the_sum("sys.stdin.read()"),
        "read after input": "import sys\ninput()\n" + the_sum("sys.stdin.read()"),
        "readlines after input": "import sys\ninput()\n" + the_sum("sys.stdin.readlines()[0]"),
        "read twice": "import sys\nsys.stdin.read()\nprint(6 + len(sys.stdin.read()))",
        "readline keeps its end": "import sys\nprint(4 + len(sys.stdin.readline()))",
        "readline at the end": "import sys\nn = 4\nwhile sys.stdin.readline(): n += 1\nprint(n)",
        "EOFError": "n = 4\ntry:\n    while True:\n        input()\n        n += 1\nexcept EOFError: print(n)",
        "input = sys.stdin.readline": "import sys\ninput = sys.stdin.readline\ninput()\n"
        + the_sum("input()"),
        "fileinput": "import fileinput\nlines = list(fileinput.input())\n" + the_sum("lines[1]"),
        "input within a class": "class R:\n    def __init__(self): self.n = input()\nR()\n"
        + the_sum("input()"),
        "early readline": "from sys import stdin\nstdin.readline()\n" + the_sum("stdin.readline()"),
        "early read": "from sys import stdin\nprint(sum(map(int, stdin.read().split()[1:])))",
        "early readlines": "from sys import stdin\n" + the_sum("stdin.readlines()[1]"),
        "early input is readline": "from sys import stdin\ninput = stdin.readline\ninput()\n"
        + the_sum("input()"),
        "imported within a function": "def f():\n    from sys import stdin\n    stdin.readline()\n    "
        + the_sum("stdin.read()")
        + "\nf()",
        "a thread that is joined": "import threading\ndef f():\n    input()\n    "
        + the_sum("input()")
        + "\nt = threading.Thread(target=f)\nt.start()\nt.join()",
    },
    "fixed": {
        "sys.stdin.buffer": "import sys\nprint(sum(map(int, sys.stdin.buffer.read().split()[1:])))",
        "buffer readline": "import sys\nread = sys.stdin.buffer.readline\nread()\n" + the_sum("read()"),
        "os.read": "import os\nprint(sum(map(int, os.read(0, 10**6).split()[1:])))",
        "open(0)": "print(sum(map(int, open(0).read().split()[1:])))",
        "lines of open(0)": the_sum("list(open(0))[1]"),
        "with open(0)": "with open(0) as file:\n    file.readline()\n    " + the_sum("file.read()"),
        "io.open(0)": "import io\nprint(sum(map(int, io.open(0).read().split()[1:])))",
        "early iteration": "from sys import stdin\nlines = list(stdin)\n" + the_sum("lines[1]"),
        "early buffer": "from sys import stdin\nprint(sum(map(int, stdin.buffer.read().split()[1:])))",
        "early read after readline": "from sys import stdin\nstdin.readline()\n" + the_sum("stdin.read()"),
        "early readline past the end": "from sys import stdin\n" + 4 * "stdin.readline()\n" + "print(6)",
        "early readline keeps its end": "from sys import stdin\nprint(4 + len(stdin.readline()))",
    },
    "paper": {
        "stdin without an import": "stdin.readline()\n" + the_sum("stdin.readline()"),
        "early input and stdin apart": "from sys import stdin\nstdin.readline()\nprint(6 if len(input()) == 1 else 0)",
        "early iteration finds nothing": "from sys import stdin\nprint(6 + len(list(stdin)))",
    },
}
RUNNING = {
    "both": {
        "sys.exit": "import sys\nprint(6)\nsys.exit()",
        "exit": "print(6)\nexit()",
        "a guarded main": "def main(): print(6)\nif __name__ == '__main__':\n    main()",
        "a global of a function": "def f():\n    global n\n    n = 6\nf()\nprint(n)",
        "a global at the top": "global n\nn = 0\ndef f():\n    global n\n    n += 6\nf()\nprint(n)",
        "a list of the module": "memo = [3]\ndef f(): memo[0] *= 2\nf()\nprint(memo[0])",
        "recursion": "def f(n): return n if n < 7 else f(n - 1)\nprint(f(9))",
        "deep recursion": "import sys\nsys.setrecursionlimit(10**6)\n"
        "def f(n): return 6 if n == 0 else f(n - 1)\nprint(f(20000))",
        "sys.stdout.write": "import sys\nsys.stdout.write('6\\n')\nsys.stdout.flush()",
        "print to stderr": "import sys\nprint('noise', file=sys.stderr)\nprint(6)",
        "asyncio": "import asyncio\nasync def main(): print(6)\nasyncio.run(main())",
        "class variables": "class A:\n    b = 3\n    c = b * 2\nprint(A.c)",
        "dataclass": "from dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\nprint(P(6).x)",
        "numpy": "import numpy as np\nprint(np.arange(4).sum())",
        "mutable default": "def f(x=[]):\n    x.append(1)\n    return 5 + len(x)\nprint(f())",
        "class Solution in a comment": "# class Solution\nprint(6)",
        "blank lines at the end": "print(6)\nprint()",
        "another form of the number": "print('+6.00')",
    },
    "fixed": {
        "a global that is assigned above": "n = 0\ndef f():\n    global n\n    n += 6\nf()\nprint(n)",
        "from __future__": "from __future__ import annotations\nprint(6)",
        "stdout imported by name": "from sys import stdout\nstdout.write('6')",
        "sys.stdout.buffer": "import sys\nsys.stdout.buffer.write(b'6\\n')",
        "os.write": "import os\nos.write(1, b'6\\n')",
        "os._exit": "import os, sys\nprint(6)\nsys.stdout.flush()\nos._exit(0)",
        "quit": "print(6)\nquit()",
        "atexit": "import atexit\natexit.register(print, 6)",
        "a thread that is not joined": "import threading, time\ndef f():\n    time.sleep(0.2)\n    print(6)\n"
        "threading.Thread(target=f).start()",
        "class Solution": "class Solution:\n    def f(self): return 6\nprint(Solution().f())",
        "names in exec": "exec('n = 6')\nprint(n)",
        "names of globals()": "n = 6\nprint(globals()['n'])",
        "a builtin that is assigned later": "print(max(6, 1))\nmax = 1",
        "main guarded the other way round": "if '__main__' == __name__:\n    print(6)",
        "main guarded before other code": "if __name__ == '__main__':\n    print(6)\nn = 1",
        "closing stdout": "import sys\nprint(6)\nsys.stdout.close()",
    },
    "paper": {
        "math without an import": "print(comb(4, 2))",
        "collections without an import": "d = defaultdict(int)\nd[1] += 6\nprint(d[1])",
        "types without an import": "def f(x: List[int]) -> int: return 6\nprint(f([]))",
        "an exit code": "import sys\nprint(6)\nsys.exit(1)",
        "a return at the top": "print(6)\nreturn",
        "an import below its use": "print(math.floor(6.5))\nimport math",
        "nonlocal at the top": "n = 5\ndef f():\n    nonlocal n\n    n += 1\nf()\nprint(n)",
        "pow is math's": "print(6 if isinstance(pow(2, 3), float) else 7)\nfrom math import pow",
        "module name": "print(6 if __name__ == 'tmp_sol' else 7)",
    },
    "neither": {
        "syntax error": "print(6",
        "nothing": "",
        "an exception after the answer": "print(6)\nraise ValueError",
        "KeyboardInterrupt": "print(6)\nraise KeyboardInterrupt",
        "another number": "print(6.0000001)",
        "another case of a word": "print('SIX')",
        "a blank line within": "print()\nprint()\nprint(6, 6)",
        "a prompt": "input('?')\nprint(6)",
    },
}


@pytest.mark.parametrize(
    ("name", "modes"),
    [
        pytest.param(name, modes, marks=() if Part(3).holds(name) else pytest.mark.slow)
        for table in (READING, RUNNING)
        for modes, programs in table.items()
        for name in programs
    ],
)
def test_programs_with_standard_input(name: str, modes: str, judges: Court) -> None:
    program = next(table[modes][name] for table in (READING, RUNNING) if name in table.get(modes, {}))
    assert verdicts(judges, program, [(text, "6\n") for text in INPUTS], None) == modes


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("6 ", "6\n\n", True),
        ("1 2\\n3", " 1 2 \n 3 ", True),
        ("1  2", "1 2", True),  # as numbers
        ("a  b", "a b", False),
        ("1\\n\\n2", "1\n2", False),
        ("1.50", "1.5", True),
        ("1e0", "1", True),
        ("6_0", "60", True),  # Python's way to write sixty
        ("٦", "6", True),  # so is this
        ("nan", "nan", True),  # as text
        ("NaN", "nan", False),
        ("inf", "Infinity", True),
        ("0.1", "0.10000000000000001", False),
        ("100000000000000000001", "100000000000000000002", False),
        ("yes", "YES", False),
        ("", "", True),
        ("", "\n", True),
    ],
)
def test_what_counts_as_the_same_output(printed: str, expected: str, same: bool, judges: Court) -> None:
    found = verdicts(judges, f"print('{printed}')", [("", expected)], None)
    assert found == ("both" if same else "neither")


# --- LeetCode's methods ----------------------------------------------------------------------------------------


def method(body: str, imports: str = "") -> str:
    return f"{imports}class Solution:\n    def f(self, x):\n        {body}\n"


METHODS = {
    "both": {
        "a method": (method("return [6]"), "[6]"),
        "a tuple": (method("return (1, 2)"), "[1, 2]"),
        "True for 1": (method("return True"), "true"),
        "static": ("class Solution:\n    @staticmethod\n    def f(x): return 6", "6"),
        "types without an import": ("class Solution:\n    def f(self, x: List[int]) -> int: return 6", "6"),
        "cached": ("class Solution:\n    @cache\n    def f(self, x): return 6", "6"),
        "the last class": ("class Solution: pass\nclass Solution:\n    def f(self, x): return 6", "6"),
        "prints": (method("print('noise'); return 6"), "6"),
        "numpy's number": (method("return np.int64(6)", "import numpy as np\n"), "6"),
        "a defaultdict": (method("d = defaultdict(int); d['a'] = 1; return d"), '{"a": 1}'),
        "a subclass of list": (method("return T([1])", "class T(list): pass\n"), "[1]"),
        "an integer for a float": (method("return 6"), "6.0"),
        "infinity": (method("return inf"), "Infinity"),
        "counting in the class": (
            "class Solution:\n    n = [0]\n    def f(self, x):\n        self.n[0] += 1\n        return 5 + self.n[0]",
            "6 7",
        ),
    },
    "fixed": {
        "a float's last digit": (method("return 6.000001"), "6.0"),
        "tuples within": (method("return [(1, 2)]"), "[[1, 2]]"),
        "from __future__": (method("return 6", "from __future__ import annotations\n"), "6"),
        "an instance for each test": (
            "class Solution:\n    def __init__(self): self.n = 5\n    def f(self, x):\n        self.n += 1\n"
            "        return self.n",
            "6",
        ),
        "Solution by assignment": ("class S:\n    def f(self, x): return 6\nSolution = S", "6"),
    },
    "paper": {
        "a function": ("def f(x): return 6", "6"),
        "an instance for all tests": (
            "class Solution:\n    def __init__(self): self.n = 5\n    def f(self, x):\n        self.n += 1\n"
            "        return self.n",
            "6 7",
        ),
    },
    "neither": {
        "another method": ("class Solution:\n    def g(self, x): return 6", "6"),
        "a function beside the class": ("class Solution: pass\ndef f(x): return 6", "6"),
        "a constructor with arguments": (
            "class Solution:\n    def __init__(self, a): pass\n    def f(self, x): return 6",
            "6",
        ),
        "an exit": (method("exit()"), "null"),
        "input at the top": ("n = input()\n" + method("return 6"), "6"),
        "a set": (method("return {1, 2}"), "[1, 2]"),
        "a generator": (method("yield 1"), "[1]"),
        "bytes": (method("return b'a'"), '"a"'),
        "nothing for an empty list": (method("return None"), "[]"),
        "numpy's array": (method("return np.array([1, 2])", "import numpy as np\n"), "[1, 2]"),
        "not a number": (method("return nan"), "NaN"),
        "other keys": (method("return {1: 2}"), '{"1": 2}'),
    },
}


@pytest.mark.parametrize(("name", "modes"), [(name, modes) for modes in METHODS for name in METHODS[modes]])
def test_programs_with_a_method(name: str, modes: str, judges: Court) -> None:
    program, expected = METHODS[modes][name]
    wanted = [expected] * 2 if expected[0] in '"[{' or " " not in expected else expected.split()
    assert verdicts(judges, program, [("1", wanted[0]), ("2", wanted[1])], "f") == modes


def test_an_object_that_equals_everything_is_wrong_in_both_modes(judges: Court) -> None:
    """The one way in which ``paper`` is not like the runner, which such programs deceive."""
    program = method("return Yes()", "class Yes:\n    def __eq__(self, other): return True\n")
    assert verdicts(judges, program, [("1", "6")], "f") == "neither"
