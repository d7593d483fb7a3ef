"""Answers per second and agreement: our math verifier against plain math-verify and lm-eval's Minerva path.

Judges the real outputs in ``model_outputs/math`` of the data mirror (``--data-dir``, ``CIPO_EVAL_DATA``), all methods
on the same (gold, response) pairs, in one run, one after the other; single processes by processor time, the pool by
the clock:

- ``math_verify``: ``parse`` of gold and response and ``verify``, single process, its own time limits on
- ``lm_eval_minerva``: ``process_results`` of lm-eval's ``minerva_math`` task, single process
- ``ours_single``: ``extract`` and ``grade`` in this process, without the pool
- ``ours_pool``: the whole path as a run takes it: worker processes, time limits, memo

"Fast-path share": the pairs that our verifier decides without math-verify. Ratios are against ``math_verify``. The last
line is one JSON object.

    python benchmarks/math_verifier.py --workers 2
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

from cipo_eval.data.tasks import load_problems
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.records import Mode, Problem, Request, Sampling
from cipo_eval.verifiers.math.verifier import MathVerifier, warm_up
from cipo_eval.verifiers.pool import VerifierPool

TASKS = {"minerva_math": "minerva"}
"""Names in file names that are not those of our tasks."""
FALLBACK = "math_verify"
"""``Grade.method`` of a pair that the fast path left undecided begins with this."""

Pair = tuple[Problem, str, bool]


def pairs(data: Path, limit: int | None) -> list[Pair]:
    """(problem, response, published verdict) of every stored output."""
    import gzip

    found: list[Pair] = []
    for path in sorted((data / "model_outputs" / "math").glob("*.jsonl.gz")):
        name = path.name.split("__")[1].removesuffix(".jsonl.gz")
        problems = load_problems(TASKS.get(name, name), data_dir=data).problems
        with gzip.open(path, "rt", encoding="utf-8") as file:
            published = [json.loads(line)["score"][0] for line in file]
        engine = ReplayEngine(path, problems)
        sampling = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=1)
        requests = [
            Request(problem=p, messages=(), samples=(0,), seeds=(0,), sampling=sampling) for p in problems
        ]
        found += [
            (r.problem, c.text, published[r.problem.index]) for r, _sample, c in engine.generate(requests)
        ]
    return found[:limit]


def timed(judge: Callable[[Problem, str], bool], work: list[Pair]) -> tuple[list[bool], list[float]]:
    """Verdict and seconds of processor time for each pair."""
    verdicts, seconds = [], []
    for problem, text, _published in work:
        started = time.process_time()
        verdicts.append(judge(problem, text))
        seconds.append(time.process_time() - started)
    return verdicts, seconds


def by_math_verify(problem: Problem, text: str) -> bool:
    from math_verify import parse, verify

    return bool(verify(parse(f"\\boxed{{{problem.gold}}}"), parse(text)))


def by_lm_eval(problem: Problem, text: str) -> bool:
    from lm_eval.tasks.minerva_math.utils import normalize_final_answer, process_results

    doc = {"solution": f"\\boxed{{{problem.gold}}}", "answer": normalize_final_answer(problem.gold)}
    return any(process_results(doc, [text]).values())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CIPO_EVAL_DATA"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--limit", type=int, help="only the first N pairs")
    parser.add_argument("--every", type=int, default=1, help="only every N-th pair, of all files")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("no data: set CIPO_EVAL_DATA or --data-dir")
    work = pairs(Path(arguments.data_dir), arguments.limit)[:: arguments.every]

    verifier, methods = MathVerifier(), []

    def by_us(problem: Problem, text: str) -> bool:
        found = verifier.extract(problem, text, None, Mode.FIXED)
        if found.answer is None:
            methods.append("no answer")
            return False
        grade = verifier.grade(problem.gold, found.answer, problem.options, Mode.FIXED)
        methods.append(grade.method)
        return grade.correct

    warm_up()
    for method in (by_math_verify, by_lm_eval):  # imports and first parses are not what is measured
        timed(method, work[:5])

    verdicts: dict[str, list[bool]] = {"published": [published for *_, published in work]}
    seconds: dict[str, list[float]] = {}
    verdicts["ours_single"], seconds["ours_single"] = timed(by_us, work)
    with VerifierPool(arguments.workers) as pool:
        pool.verify("math", work[0][0], "\\boxed{warm \\frac{1}{x}}")
        started = time.perf_counter()
        futures = [
            pool.submit("math", problem, text, None, (Mode.FIXED,)) for problem, text, _published in work
        ]
        verdicts["ours_pool"] = [future.result()[Mode.FIXED].correct for future in futures]
        pool_seconds = time.perf_counter() - started
    verdicts["math_verify"], seconds["math_verify"] = timed(by_math_verify, work)
    verdicts["lm_eval_minerva"], seconds["lm_eval_minerva"] = timed(by_lm_eval, work)

    fast = [i for i, method in enumerate(methods) if not method.startswith(FALLBACK)]
    totals = {name: sum(values) for name, values in seconds.items()} | {"ours_pool": pool_seconds}
    on_fast = {name: sum(values[i] for i in fast) for name, values in seconds.items()}
    report(work, verdicts, totals, len(fast))
    print(
        json.dumps(
            {
                "benchmark": "math_verifier",
                "pairs": len(work),
                "workers": arguments.workers,
                "answers_per_second": {name: round(len(work) / value, 1) for name, value in totals.items()},
                "fast_path_share": round(len(fast) / len(work), 4),
                "ratio_fast_path_single_process": round(on_fast["math_verify"] / on_fast["ours_single"], 2),
                "ratio_overall_single_process": round(totals["math_verify"] / totals["ours_single"], 2),
                "ratio_overall_pool": round(totals["math_verify"] / totals["ours_pool"], 2),
                "ratio_overall_pool_to_lm_eval": round(totals["lm_eval_minerva"] / totals["ours_pool"], 2),
                "agreement_with_published": {
                    name: round(agreement(values, verdicts["published"]), 4)
                    for name, values in verdicts.items()
                    if name != "published"
                },
                "python": platform.python_version(),
                "cores": os.cpu_count(),
            }
        )
    )


def agreement(one: list[bool], other: list[bool]) -> float:
    return sum(a == b for a, b in zip(one, other, strict=True)) / len(one)


def report(work: list[Pair], verdicts: dict[str, list[bool]], totals: dict[str, float], fast: int) -> None:
    """Speed and pairwise agreement as two small tables."""
    print(f"{len(work)} pairs, {fast} decided by the fast path ({100 * fast / len(work):.1f} %)\n")
    for name, value in totals.items():
        print(f"{name:18}{len(work) / value:10.1f} answers/s")
    names = list(verdicts)
    print(
        "\nagreement, % of pairs".ljust(20) + "".join(f"{name:>17}" for name in names) + f"{'accuracy %':>17}"
    )
    for name in names:
        row = "".join(f"{100 * agreement(verdicts[name], verdicts[other]):17.2f}" for other in names)
        print(f"{name:20}{row}{100 * sum(verdicts[name]) / len(work):17.2f}")


if __name__ == "__main__":
    main()
