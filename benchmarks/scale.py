"""How far one driver goes: runs of ten thousand to ten million attempts, with a simulated engine and verifier.

Each step is a process of its own: ``run`` (ask, completion, verdict, stored line, figures), ``again`` (the finished run
asked once more), ``rescore``, ``compare``, ``show`` and ``report``, and ``score`` of a file with the real verifier of
mathematics. Told are processor seconds of the process and of what it started, attempts per processor second, and the
peak memory of the process (as GNU time measures it). The last line is one JSON object.

    python benchmarks/scale.py --attempts 1000000
    python benchmarks/scale.py --attempts 200000 --steps score,score-again --samples 500
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

PR_SET_CHILD_SUBREAPER = 36
"""Of <linux/prctl.h>."""
STEPS = ("run", "again", "rescore", "compare", "show", "report", "score", "score-again")
DEFAULT = ("run", "again", "compare", "show", "rescore", "report")
FILLER = "we note that the sum of both terms can be written as a product so let us try small cases first " * 6
TASK = """
task: cipo_scale
include: _cipo_math.yaml
metadata:
  version: 1.0
  cipo:
    name: scale
    description: simulated
    options: {kind: integer}
    columns: {question: question, gold: gold, id: id}
    breakdown: [level]
    sources:
      - {kind: embedded, path: scale.jsonl}
"""


def answer(problem: int, sample: int) -> int:
    """Of a simulated attempt: right more often at some problems than at others, else one of a few wrong ones."""
    dice = (problem * 7919 + sample * 104729) % 1009
    return problem if dice < 300 + 5 * (problem % 101) else problem + 1 + dice % 3


def text(problem: int, sample: int) -> str:
    """Of a simulated attempt: no two are the same."""
    return f"Attempt {sample}. {FILLER}The answer is $\\boxed{{{answer(problem, sample)}}}$."


def make_data(folder: Path, problems: int) -> Path:
    """A task with so many problems; returns its definition."""
    (folder / "scale.yaml").write_text(TASK)
    with (folder / "scale.jsonl").open("w") as out:
        for number in range(problems):
            row = {"id": f"p{number}", "question": f"Which number is {number}?", "gold": str(number)}
            out.write(json.dumps({**row, "level": number % 5}) + "\n")
    return folder / "scale.yaml"


def make_attempts(folder: Path, problems: int, samples: int) -> Path:
    """The attempts as a file to score."""
    with (folder / "attempts.jsonl").open("w") as out:
        for sample in range(samples):
            for problem in range(problems):
                row = {"problem_id": f"p{problem}", "sample": sample, "text": text(problem, sample)}
                out.write(json.dumps({**row, "finish_reason": "stop", "completion_tokens": 150}) + "\n")
    return folder / "attempts.jsonl"


class SimulatedEngine:
    """Gives every completion at once."""

    name = "simulated"

    def describe(self) -> dict[str, Any]:
        return {"engine": self.name, "model": "simulated", "fingerprint": "0"}

    def generate(self, requests: Any) -> Iterator[tuple[Any, int, Any]]:
        from cipo_eval.engines.feed import as_feed
        from cipo_eval.records import Completion, FinishReason

        feed, stop = as_feed(requests), FinishReason.STOP
        while taken := feed.take(wait=True):
            for request in taken:
                number = request.problem.index
                for sample in request.samples:
                    yield (
                        request,
                        sample,
                        Completion(
                            text=text(number, sample),
                            finish_reason=stop,
                            prompt_tokens=20,
                            completion_tokens=150,
                            seconds=0.5,
                        ),
                    )

    def close(self) -> None:
        pass


class SimulatedVerifier:
    """Gives every verdict at once."""

    workers = 1

    def judge(self, _verifier: str, problem: Any, said: str, *_: Any) -> dict[Any, Any]:
        from cipo_eval.records import Mode, State, Verdict

        value = said[said.rindex("{") + 1 : said.rindex("}")]
        right = value == problem.gold
        return {
            Mode.FIXED: Verdict(
                correct=right,
                state=State.CORRECT if right else State.INCORRECT,
                extracted=value,
                canonical=value,
                detail="simulated",
                seconds=0.001,
            )
        }

    def submit(self, *asked: Any) -> Future[Any]:
        verdicts: Future[Any] = Future()
        verdicts.set_result(self.judge(*asked))
        return verdicts

    def close(self) -> None:
        pass


def plan(definition: Path, samples: int) -> Any:
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.records import Sampling
    from cipo_eval.run.plan import TaskPlan

    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=512)
    return TaskPlan(problems=load_problems(str(definition)), samples=samples, sampling=sampling)


def bound(store: Any, definition: Path, samples: int, engine: Any, *, again: bool = False) -> Any:
    """A run of so many samples of each problem, in a directory."""
    from cipo_eval.records import Mode
    from cipo_eval.run.runner import Run

    return Run(
        store,
        [plan(definition, samples)],
        engine=engine.describe(),
        seed=0,
        modes=[Mode.FIXED],
        command=["scale"],
        bootstrap=1000,
        regrade=again,
    )


def run(folder: Path, samples: int, *, again: bool = False) -> None:
    """Runs what is missing, with everything but the model and the verifier as it always is."""
    from cipo_eval.interrupts import Interrupts
    from cipo_eval.run.progress import Progress
    from cipo_eval.storage.store import RunStore
    from cipo_eval.verifiers.pool import VerifierPool

    engine, progress = SimulatedEngine(), Progress()
    # rescoring is what the real verifier is for
    pool: Any = VerifierPool() if again else SimulatedVerifier()
    with closing(pool), RunStore(folder / "run") as store:
        of = bound(store, folder / "scale.yaml", samples, engine, again=again)
        if again:
            of.rescore(pool, progress, Interrupts())
        else:
            of.execute(engine, pool, progress, Interrupts())
        store.write_results(of.results())


def step(name: str, folder: Path, samples: int) -> None:
    """One step, in this process."""
    from cipo_eval.cli import main

    out = str(folder / "run")
    if name in ("run", "again"):
        return run(folder, samples)
    if name == "rescore":
        return run(folder, samples, again=True)
    words = {
        "compare": ["compare", out, str(folder / "copy"), "--json", "--bootstrap", "1000"],
        "show": ["show", out, "--problem", "p3", "--limit", "3"],
        "report": ["report", out, "-o", str(folder / "report"), "--force"],
        "score": ["score", str(folder / "attempts.jsonl"), "--task", str(folder / "scale.yaml"), "-o", out],
    }
    sys.argv = ["cipo-eval", *words["score" if name == "score-again" else name]]
    main()
    return None


def process(words: Sequence[str], log: Path) -> tuple[float, int]:
    """Runs a script in a process of its own. Returns processor seconds, those of all its workers included, and its own
    peak memory in bytes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, *words], stdout=out, stderr=out)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{log.stem} ended with {process.returncode}: {log.read_text()[-2000:]}")
    with suppress(ChildProcessError):
        while True:  # workers that it left to end by themselves are ours by now
            os.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used.ru_maxrss * 1024


def adopt() -> None:
    """Makes this process the parent of what its children leave behind (Linux), so that its time can be told."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "workers that outlive their process cannot be counted")


def measured(name: str, folder: Path, attempts: int, samples: int) -> dict[str, Any]:
    """A step in a process of its own: what it took."""
    words = [__file__, "--step", name, "--folder", str(folder), "--samples", str(samples)]
    started = time.perf_counter()
    seconds, peak = process(words, folder / f"{name}.log")
    return {
        "step": name,
        "attempts": attempts,
        "cpu_seconds": round(seconds, 1),
        "attempts_per_cpu_second": round(attempts / seconds),
        "seconds": round(time.perf_counter() - started, 1),
        "peak_mb": round(peak / (1 << 20)),
    }


def plot(figures: Path, out: Path) -> None:
    """Draws processor time and memory of each step over the attempts. ``figures``: the last lines of several calls, or
    ``scale.json``."""
    import matplotlib.pyplot as plt

    steps = [
        row
        for line in figures.read_text().replace("}\n{", "}\0{").split("\0")
        for row in json.loads(line)["steps"]
    ]
    drawing, (time_axis, memory_axis) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, column, label in (
        (time_axis, "cpu_seconds", "processor seconds"),
        (memory_axis, "peak_mb", "peak memory (MB)"),
    ):
        for name, marker in zip(dict.fromkeys(row["step"] for row in steps), "osD^v<>p", strict=False):
            of = [row for row in steps if row["step"] == name]
            axis.loglog(
                [row["attempts"] for row in of], [row[column] for row in of], marker=marker, label=name
            )
        axis.set_xlabel("attempts")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    time_axis.legend(frameon=False)
    drawing.savefig(out, dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--attempts", type=int, default=100_000)
    parser.add_argument("--samples", type=int, default=100, help="of each problem")
    parser.add_argument("--steps", default=",".join(DEFAULT), help=f"of {', '.join(STEPS)}")
    parser.add_argument("--folder", type=Path, help="where the runs go (default: a temporary one)")
    parser.add_argument(
        "--plot", type=Path, nargs=2, metavar=("FIGURES", "PNG"), help="draw, and run nothing"
    )
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.plot:
        return plot(*asked.plot)
    if asked.step:
        return step(asked.step, asked.folder, asked.samples)
    problems = max(asked.attempts // asked.samples, 1)
    steps = asked.steps.split(",")
    with tempfile.TemporaryDirectory(dir=asked.folder) as temporary:
        folder = Path(temporary)
        make_data(folder, problems)
        if "score" in steps:
            make_attempts(folder, problems, asked.samples)
        rows = []
        adopt()
        for name in steps:
            if name == "compare":
                (folder / "copy").symlink_to(folder / "run")
            rows.append(measured(name, folder, problems * asked.samples, asked.samples))
            print(json.dumps(rows[-1]), flush=True)
        run_bytes = sum(f.stat().st_size for f in (folder / "run").rglob("*") if f.is_file())
        shutil.rmtree(folder / "run")
    print(json.dumps({"benchmark": "scale", "samples": asked.samples, "run_bytes": run_bytes, "steps": rows}))
    return None


if __name__ == "__main__":
    main()
