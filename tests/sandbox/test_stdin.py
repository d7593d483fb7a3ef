"""Programs that read standard input behave as in a real interpreter, test after test of one process.

Each style runs on several inputs in one series (which shares a process as long as all goes well) and, input by input,
in a real subprocess of the same interpreter: standard output and exit code must be the same to the byte.
"""

from __future__ import annotations

import dis
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cipo_eval.sandbox import probe
from cipo_eval.sandbox.box import Lane, Outcome, Series
from cipo_eval.sandbox.launch import environment
from cipo_eval.sandbox.module_code import ModuleCode
from cipo_eval.sandbox.worker import Job

INPUTS = ["3\n1 2 3\n", "2\n10 -4\n", "1\n7", "4\r\n1 1 1 1\r\n"]

STYLES = {
    "input": "n = int(input())\nprint(sum(map(int, input().split())))",
    "read": "import sys\ndata = sys.stdin.read().split()\nprint(sum(map(int, data[1:])))",
    "readline": "import sys\nn = int(sys.stdin.readline())\nprint(n, sys.stdin.readline().strip())",
    "readline then read": "import sys\nn = sys.stdin.readline()\nprint(repr(n), repr(sys.stdin.read()))",
    "iteration": "import sys\nfor line in sys.stdin:\n    print(line.rstrip()[::-1])",
    "readlines": "import sys\nprint([line.strip() for line in sys.stdin.readlines()])",
    "buffer read": "import sys\nprint(len(sys.stdin.buffer.read().split()))",
    "buffer readline": "import sys\nread = sys.stdin.buffer.readline\nprint(int(read()), read().split())",
    "buffer iteration": "import sys\nprint([line for line in sys.stdin.buffer])",
    "open 0": "print(open(0).read().split())",
    "open 0 binary": "print(open(0, 'rb').read().split())",
    "os.read": "import os\nprint(os.read(0, 100000).split())",
    "fstat buffer": "import io, os\ndata = io.BytesIO(os.read(0, 1 << 16))\ninput = lambda: data.readline().decode()\n"
    "print(int(input()), input().split())",
    "input is readline": "import sys\ninput = sys.stdin.readline\nprint(int(input()), input().split())",
    "fileinput": "import fileinput\nprint([line.strip() for line in fileinput.input()])",
    "stdout write": "import sys\nsys.stdout.write(input() + '\\n')\nsys.stdout.flush()",
    "stdout buffer": "import sys\nprint('a')\nsys.stdout.flush()\nsys.stdout.buffer.write(input().encode() + b'\\n')",
    "os.write": "import os\nprint('first', flush=True)\nos.write(1, b'second\\n')",
    "print options": "import sys\nprint(1, 2, sep='-', end='!')\nprint('no', file=sys.stderr)\nprint(*input())",
    "global at top": "global total\ntotal = 0\ndef add():\n    global total\n    total += int(input())\n"
    "add()\nprint(total)",
    "future import": "from __future__ import annotations\ndef f(x: undefined): return x\nprint(f(input()))",
    "main guard": "def main():\n    print(int(input()) * 2)\nif __name__ == '__main__':\n    main()",
    "sys.exit": "import sys\nprint(input())\nsys.exit()",
    "sys.exit code": "import sys\nprint(input())\nsys.exit(3)",
    "sys.exit message": "import sys\nprint(input())\nsys.exit('bad')",
    "exit": "print(input())\nexit()",
    "os._exit": "import os, sys\nprint(input())\nsys.stdout.flush()\nos._exit(0)",
    "uncaught": "print(input())\nraise ValueError('no')",
    "end of file": "lines = []\ntry:\n    while True:\n        lines.append(input())\n"
    "except EOFError:\n    print(lines)",
    "thread": "import sys, threading\nthreading.stack_size(64 << 20)\nsys.setrecursionlimit(1 << 20)\n"
    "def deep(n): return 0 if n == 0 else 1 + deep(n - 1)\ndef main(): print(deep(20000), input())\n"
    "t = threading.Thread(target=main)\nt.start()\nt.join()",
    "thread not joined": "import threading, time\ndef later():\n    time.sleep(0.05)\n    print('late')\n"
    "threading.Thread(target=later).start()\nprint(input())",
    "/dev/stdin": "a = open('/dev/stdin').read().split()\nprint(a)",
    "/dev/fd/0 binary": "print(open('/dev/fd/0', 'rb').readlines())",
    "/proc/self/fd/0": "print(open('/proc/self/fd/0').readline())",
    "os.open /dev/stdin": "import os\nprint(os.read(os.open('/dev/stdin', os.O_RDONLY), 99), os.path.exists('/dev/stdin'))",
    "pathlib /dev/stdin": "from pathlib import Path\nprint(Path('/dev/stdin').read_text())",
    "fileinput /dev/stdin": "import fileinput\nprint(list(fileinput.input('/dev/stdin')))",
    "stdin is /dev/stdin": "import sys\nsys.stdin = open('/dev/stdin')\nprint(input())",
    "numpy /dev/stdin": "import numpy as np\nprint(np.loadtxt('/dev/stdin', skiprows=1, ndmin=1))",
    "/dev/stdout": "print('a', flush=True)\nopen('/dev/stdout', 'w').write('b')\nprint('c')",
    "/dev/stdout closed last": "file = open('/dev/stdout', 'w')\nfile.write('b')\nprint('a')",
    "/dev/stdout closed last, loop": "file = open('/dev/stdout', 'w')\nfor i in range(3): file.write('b')\nprint('a')",
    "/dev/stdout and exit": "file = open('/dev/fd/1', 'a')\nfor i in range(3): file.write('b')\nprint('a')\nexit()",
    "/dev/stderr": "open('/dev/stderr', 'w').write('no')\nprint(1)",
    "/dev/null": "with open('/dev/null', 'w') as file: file.write('x')\nprint(repr(open('/dev/null').read()))",
    "own opener": "import os\nprint(open('/dev/stdin', opener=lambda path, flags: os.dup(0)).read())",
    "open in a class": "class R:\n    open = open\nprint(R().open('/dev/stdin').read())",
    "/dev/fd/77": "try: open('/dev/fd/77')\nexcept OSError: print('none')",
    "asyncio": "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    print(input())\nasyncio.run(main())",
    "atexit": "import atexit\natexit.register(print, 'bye')\nprint(input())",
    "recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
    "print(f(50000), input())",
    "random": "import random\nrandom.seed(5)\nprint(random.randint(0, 10**9), input())",
    "dataclass and pickle": "import pickle\nfrom dataclasses import dataclass\n@dataclass\nclass P:\n    x: int\n"
    "print(pickle.loads(pickle.dumps(P(int(input())))))",
    "own stdout": "import io, sys\nclass Fast(io.StringIO):\n    def flush(self):\n"
    "        import os; os.write(1, self.getvalue().encode()); self.truncate(0); self.seek(0)\n"
    "sys.stdout = Fast()\nprint(input())",
    "unicode": "print('größer ☃', input())",
    "nothing printed": "input()",
    "decimal": "from decimal import *\ngetcontext().prec = 50\nprint(Decimal(int(input())) / 7)",
    "heap and counter": "from collections import *\nfrom heapq import *\nh = list(map(int, open(0).read().split()))\n"
    "heapify(h)\nprint(heappop(h), Counter(h).most_common(1))",
    "numpy": "import sys\nimport numpy as np\nprint(np.array(sys.stdin.read().split(), dtype=np.int64).sum())",
}

LOOPS = {
    "names of its own": "n = 0\nfor i in range(5): n += i\nprint(n, i)",
    "functions see them": "def f(): return n\nn = 0\nfor i in range(5): n += f() + 1\nprint(f())",
    "functions change them": "n = 0\ndef f():\n    global n\n    n += 1\nfor i in range(5): f()\nprint(n)",
    "functions before a value": "def f():\n    try: return late\n    except NameError: return 0\n"
    "for i in range(2): print(f())\nlate = 1\nprint(f())",
    "no value": "for i in range(2):\n    try: print(late)\n    except NameError: late = i",
    "a builtin before it is another's name": "for i in range(2): print(max(i, 1))\nmax = 5\nprint(max)",
    "deleted": "for i in range(2): x = i\ndel x\ntry: x\nexcept NameError: print('none')",
    "class bodies": "n = 1\nfor i in range(2):\n    class A:\n        n = n + i\n        m = n\nprint(A.n, A.m, n)",
    "comprehensions": "a = [1, 2]\nk = 3\nfor i in range(2): a += [x * k for x in a if (last := x) or i]\nprint(a, last)",
    "names of functions": "def f(): pass\nclass A:\n    def g(self): pass\nfor i in range(1): pass\n"
    "print(f.__qualname__, A.__qualname__, A.g.__qualname__, f.__module__)",
    "pickle": "import pickle\nclass A: pass\nfor i in range(1): a = pickle.loads(pickle.dumps(A()))\nprint(type(a) is A)",
    "globals": "n = 1\nfor i in range(3): n += globals()['n']\nprint(n, sorted(k for k in vars() if k[0] != '_'))",
    "eval": "n = 1\nfor i in range(3): n += eval('n')\nexec('n += 1')\nprint(n)",
    "import *": "from math import *\nfor i in range(2): print(floor(pi * i), e)\ne = 3\nprint(e)",
    "import * below": "n = 0\nfor i in range(3): n += i\nfrom math import *\nfor pi in range(3): n += pi\nprint(n, pi)",
    "import * in a block": "if True:\n    from math import *\nfor i in range(2): print(floor(pi))",
    "from __future__": "from __future__ import annotations\nfor i in range(2):\n    def f(x: nothing): return i\nprint(f(1))",
    "annotations": "n: int = 0\nfor i in range(3): n += i\nprint(n, __annotations__)",
    "global at the top": "global n\nn = 0\nfor i in range(3): n += i\ndef f(): return n\nprint(f())",
    "docstring": "'words'\nfor i in range(1): print(__doc__, __name__)",
    "return at the top": "for i in range(3): print(i)\nreturn",
    "yield at the top": "for i in range(3): yield i",
    "a syntax error": "for i in range(3) print(i)",
    "star in a function": "def f():\n    from math import *\nfor i in range(3): print(i)",
    "an exception": "a = [1]\nfor i in range(3): print(a[i])",
    "exit": "import sys\nfor i in range(3):\n    print(i)\n    if i: sys.exit(i)",
    "StopIteration": "it = iter([1])\nwhile True: print(next(it))",
    "finalizers": "class A:\n    def __del__(self): print('gone')\na = A()\nfor i in range(2): b = a\nprint('end')",
    "try and else": "for i in range(3):\n    try: x = 1 // i\n    except ZeroDivisionError as error: print(error)\n"
    "    else: print(x)\ntry: error\nexcept NameError: print('none')",
    "match": "for p in [(1, 2), {'a': 3}, [4, 5, 6]]:\n    match p:\n        case {'a': v}: print(v)\n"
    "        case [v, *rest]: print(v, rest)",
    "with and walrus": "import io\nwith io.StringIO('a\\nb') as file:\n    while line := file.readline(): print(line)\n",
    "threads": "import threading\nn = 0\ndef f():\n    for i in range(3): done.append(n)\ndone = []\n"
    "for i in range(3):\n    n += 1\n    t = threading.Thread(target=f)\n    t.start()\n    t.join()\nprint(done)",
    "lambda and default": "fs = []\nfor i in range(3): fs.append((lambda: i, lambda i=i: i))\n"
    "print([f() for f, _ in fs], [g() for _, g in fs])",
    "recursion": "import sys\nsys.setrecursionlimit(10**6)\ndef f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
    "for i in range(2): print(f(20000))",
    "sys.modules": "import sys\nfor i in range(2): n = i\nprint(sys.modules['__main__'].n)",
}
"""Programs with loops at the top, which run as a function's body where nobody can tell."""

LEAKS = {
    "builtins": "import builtins\nn = input()\nprint(len(n), builtins.sum([1]))\nbuiltins.len = lambda _: 99\n"
    "builtins.sum = None",
    "recursion limit": "import sys\nprint(sys.getrecursionlimit())\nsys.setrecursionlimit(12345)",
    "random state": "import random\nprint(random.random())",
    "decimal context": "import decimal\nprint(decimal.getcontext().prec)\ndecimal.getcontext().prec = 3",
    "environment": "import os\nprint(os.environ.get('LEAK'))\nos.environ['LEAK'] = '1'",
    "path": "import sys\nprint('/leak' in sys.path)\nsys.path.append('/leak')",
    "global": "print(globals().get('leak'))\nleak = 1",
    "alarm": "import signal\nprint(signal.getsignal(signal.SIGALRM))\nsignal.signal(signal.SIGALRM, lambda *_: None)",
    "trace": "import sys\nprint(sys.gettrace())\nsys.settrace(lambda *_: None)",
    "closed descriptors": "import os\nprint(input(), flush=True)\nfor fd in (0, 1, 2): os.close(fd)",
    "closed streams": "import sys\nprint(input())\nsys.stdin.close()\nsys.stdout.close()",
    "daemon thread": "import threading, time\nprint(threading.active_count())\n"
    "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
}
"""Each leaves something behind that the next test could see."""


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    lane = Lane(probe.choose().tier)
    yield lane
    lane.close()


def series(lane: Lane, program: str, inputs: list[str], wanted: list[tuple[bytes, int]]) -> list[Outcome]:
    """Outcomes of one series, whose tests count as right where they match what is wanted."""
    job = Job(
        program=program, kind="stdin", tests=[{"input": text} for text in inputs], cpu=(10.0,), memory=4 << 30
    )
    runs = Series(job, lambda at, o: (o.stdout, o.exit_code) == wanted[at], all_tests=True)
    runs.run(lane.sample(program))
    return runs.outcomes


def real(program: str, text: str, folder: Path) -> tuple[bytes, int]:
    """Standard output and exit code of a real run."""
    path = folder / "main.py"
    path.write_text(program, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-B", str(path)],
        input=text.encode(),
        capture_output=True,
        check=False,
        env={**environment(), "PATH": "/usr/bin:/bin"},
        timeout=60,
    )
    return done.stdout, done.returncode


@pytest.mark.parametrize("style", STYLES)
def test_a_program_does_what_it_does_in_a_real_process(style: str, lane: Lane, tmp_path: Path) -> None:
    program = STYLES[style]
    wanted = [real(program, text, tmp_path) for text in INPUTS]
    outcomes = series(lane, program, INPUTS, wanted)
    if style == "random":  # seeded by the program
        assert len({outcome.stdout.split()[0] for outcome in outcomes}) == 1
    assert [(outcome.stdout, outcome.exit_code) for outcome in outcomes] == wanted


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_at_the_top_means_what_it_means_in_a_module(loop: str, lane: Lane, tmp_path: Path) -> None:
    program = LOOPS[loop]
    wanted = real(program, "", tmp_path)
    outcomes = series(lane, program, ["", ""], [wanted] * 2)
    assert [(outcome.stdout, outcome.exit_code or 0) for outcome in outcomes] in (
        [wanted] * 2,
        [(b"", 0)],  # it cannot be compiled, which is told in another way
    )
    assert (wanted[0] or outcomes[0].error or "") != b""


def test_a_loop_at_the_top_is_as_quick_as_in_a_function() -> None:
    """By the instructions that it is made of: a clock would tell of the machine."""
    program = "from math import *\nn = 0\nfor i in range(9):\n    n += [i][0]\ndef f(): return i\nprint(n, len(str(f())), e)\n"
    code = ModuleCode(program, "<program>")
    assert code._body is not None
    assert not any(i.opname in ("LOAD_NAME", "STORE_NAME") for i in dis.get_instructions(code._body))
    loaded = {i.argval for i in dis.get_instructions(code._body) if i.opname == "LOAD_GLOBAL"}
    assert {"n", "i"} & loaded == set()
    assert "e" in loaded


@pytest.mark.parametrize("digits", [4300, 4301, 100_000])
def test_integers_may_have_many_digits(digits: int, lane: Lane) -> None:
    program = "n = int(input())\nprint(n + 1)"
    outcomes = series(lane, program, ["9" * digits] * 2, [(b"1" + b"0" * digits + b"\n", 0)] * 2)
    assert [len(outcome.stdout) for outcome in outcomes] == [digits + 2] * 2
    limited = "import sys\nprint(len(str(10 ** 5000)))\nsys.set_int_max_str_digits(4300)"
    assert [o.stdout for o in series(lane, limited, ["", ""], [(b"5001\n", 0)] * 2)] == [b"5001\n"] * 2


@pytest.mark.parametrize("leak", LEAKS)
def test_no_test_sees_what_the_one_before_left(leak: str, lane: Lane) -> None:
    program = LEAKS[leak]
    alone = series(lane, program, INPUTS[:1], [(b"", 0)])[0]
    together = series(lane, program, INPUTS[:1] * 3, [(alone.stdout, alone.exit_code or 0)] * 3)
    assert [(o.stdout, o.exit_code) for o in together] == [(alone.stdout, alone.exit_code)] * 3
    assert (
        sum(o.seconds for o in (alone, *together)) < 5
    )  # none of what is left keeps the process from its end


def test_tests_of_a_plain_program_share_a_process(lane: Lane) -> None:
    """Else each would cost a process: the reason for all the cleaning up."""
    program = "print(int(input()) + 1)"
    job = Job(program=program, kind="stdin", tests=[{"input": f"{i}\n"} for i in range(40)])
    records, end = lane.sample(program).collect(job)
    assert [record[1] for record in records[1:]] == [f"{i + 1}\n" for i in range(40)]
    assert end.status == 0


def test_a_wrong_answer_ends_the_series(lane: Lane) -> None:
    job = Job(program="print(input())", kind="stdin", tests=[{"input": f"{i}\n"} for i in range(9)])
    runs = Series(job, lambda at, outcome: at < 4)
    runs.run(lane.sample(job.program))
    assert [outcome.stdout for outcome in runs.outcomes] == [b"0\n", b"1\n", b"2\n", b"3\n", b"4\n"]
