r"""Answers of known verdict, by kind: how many of them our grader and math-verify judge wrongly.

From the golds of all mathematics tasks, of competitions in the data mirror and of MATH's 5,000 test problems it makes
rewritings that keep the value and changes of it, and pairs of these (``math_cases``; an oracle that knows neither
grader decides what is equal). Ours: ``extract`` and ``grade`` of ``MathVerifier`` in fixed mode on the whole response.
math-verify: its own ``parse`` of the boxed gold and of the response, and ``verify``.

    python benchmarks/metamorphic.py --workers 2
    python benchmarks/metamorphic.py --ours --show "side condition"

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from math_cases.golds import Gold, all_golds
from math_cases.responses import RESPONSES
from math_cases.suite import Case, made, sample, selected, varied

SLOW = 20.0
"""Seconds after which a peer's verdict on one case counts as a refusal."""


def ours(case: Case) -> bool:
    """Our verdict on a response."""
    from cipo_eval.records import FinishReason, Mode, Problem
    from cipo_eval.verifiers.math.verifier import MathVerifier

    verifier = MathVerifier()
    options = dict(case.options)
    problem = Problem(task="t", id="0", index=0, question="", prompt="", gold=case.gold, options=options)
    found = verifier.extract(problem, case.response, FinishReason.STOP, Mode.FIXED)
    if found.answer is None:
        return False
    return verifier.grade(case.gold, found.answer, options, Mode.FIXED).correct


def math_verify(case: Case) -> bool:
    """math-verify's verdict on the same response, as its page has it."""
    import logging

    from math_verify import parse, verify

    logging.disable(logging.ERROR)
    gold = case.gold if "$" not in case.gold else case.gold.replace("$", "")
    return bool(verify(parse(f"\\boxed{{{gold}}}"), parse(case.response)))


JUDGES = {"ours": ours, "math_verify": math_verify}


def judged(work: tuple[str, list[Case]]) -> list[tuple[bool, float]]:
    """Verdicts of one judge on some cases, each with its seconds of processor time."""
    name, cases = work
    found = []
    JUDGES[name](cases[0])  # imports and first parses are not what is measured
    for case in cases:
        started = time.process_time()
        verdict = JUDGES[name](case)
        found.append((verdict, time.process_time() - started))
    return found


def run(name: str, cases: Sequence[Case], workers: int) -> list[tuple[bool, float]]:
    """Verdicts of a judge on all cases, in order."""
    chunks = [(name, list(cases[i : i + 200])) for i in range(0, len(cases), 200)]
    if workers <= 1:
        return [pair for chunk in chunks for pair in judged(chunk)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [pair for part in pool.map(judged, chunks) for pair in part]


def generated(golds: Sequence[Gold], seed: int, workers: int) -> list[Case]:
    """All cases of all golds, in the golds' order."""
    if workers <= 1:
        return made(golds, seed=seed)
    chunks = [golds[i : i + 50] for i in range(0, len(golds), 50)]
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return [case for part in pool.map(partial(made, seed=seed), chunks) for case in part]


# --- the report ---------------------------------------------------------------------------------------------------


def row_of(case: Case) -> str:
    """The row of the table: compositions of two share one each for kept and changed values."""
    if case.composed:
        return "two of these, value kept" if case.expected else "two of these, value changed"
    return case.kind


def table(cases: Sequence[Case], verdicts: dict[str, list[bool | None]]) -> str:
    """Cases and faults by kind as a Markdown table; a peer that judged only a sample has its size behind its faults."""
    rows: dict[tuple[bool, str], list[int]] = {}
    for i, case in enumerate(cases):
        rows.setdefault((not case.expected, row_of(case)), []).append(i)
    lines = [f"| kind | cases | {' | '.join(verdicts)} |", "|---|---|" + "---|" * len(verdicts)]
    for expected in (True, False):
        title = "value kept: refused" if expected else "value changed: accepted"
        members = [i for (changed, _), found in rows.items() if changed != expected for i in found]
        lines.append(f"| **{title}** | {len(members)} | {_faults(members, cases, verdicts, bold=True)} |")
        for (changed, kind), found in sorted(
            rows.items(), key=lambda x: (x[0][1].startswith("two of"), x[0][1])
        ):
            if changed != expected:
                name = kind.replace("|", "\\|").replace("\\frac", "`\\frac`") if "`" not in kind else kind
                lines.append(f"| {name} | {len(found)} | {_faults(found, cases, verdicts)} |")
    return "\n".join(lines)


def _faults(
    found: list[int], cases: Sequence[Case], verdicts: dict[str, list[bool | None]], *, bold: bool = False
) -> str:
    cells = []
    for verdict in verdicts.values():
        seen = [i for i in found if verdict[i] is not None]
        wrong = sum(verdict[i] != cases[i].expected for i in seen)
        share = f"{wrong} ({100 * wrong / len(seen):.2f} %)" if seen else ""
        if len(seen) < len(found) and seen:
            share = f"{wrong} of {len(seen)} ({100 * wrong / len(seen):.2f} %)"
        cells.append(f"**{share}**" if bold else share)
    return " | ".join(cells)


def failures(cases: Sequence[Case], verdict: Sequence[bool | None], *, each: int = 5) -> str:
    """Cases judged wrongly, by kind, most frequent first: single kinds, then pairs whose parts do not fail alone."""
    found: dict[str, list[Case]] = {}
    for case, given in zip(cases, verdict, strict=True):
        if given is not None and given != case.expected:
            found.setdefault(case.kind, []).append(case)
    single = {kind for kind in found if " + " not in kind}
    lines, follow = [], 0
    for kind, wrong in sorted(found.items(), key=lambda item: (" + " in item[0], -len(item[1]))):
        if " + " in kind and single & set(kind.split(" + ")):
            follow += len(wrong)
            continue
        lines.append(f"## {kind}: {len(wrong)} {'refused' if wrong[0].expected else 'ACCEPTED'}")
        step = max(1, len(wrong) // each)
        for case in wrong[::step][:each]:
            options = {k: v for k, v in case.options.items() if k != "reference"}
            lines.append(json.dumps({"gold": case.gold, "answer": case.answer, "options": options,
                                     "expected": case.expected, "source": case.source},
                                     ensure_ascii=False))  # fmt: skip
            if kind in RESPONSES:
                lines.append("    " + json.dumps(case.response, ensure_ascii=False))
    lines.append(f"(and {follow} compositions of which a part fails alone)")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, default=os.environ.get("CIPO_EVAL_DATA"))
    parser.add_argument("--ours", action="store_true", help="without math-verify")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--most", type=int, default=2500, help="cases of a kind at most")
    parser.add_argument(
        "--seed", type=int, default=0, help="another number draws other cases of the same kinds"
    )
    parser.add_argument("--limit", type=int, help="only N golds, those of rare shapes first")
    parser.add_argument("--sample", type=int, help="only N cases of each kind (and 20 N of the compositions)")
    parser.add_argument(
        "--peer-sample", type=int, help="math-verify judges only N cases of each kind, 20 N compositions"
    )
    parser.add_argument(
        "--show", metavar="KIND", help="list the failures of kinds that contain this text ('' for all)"
    )
    parser.add_argument("--failures", type=Path, help="write our failures by kind to this file")
    arguments = parser.parse_args()
    if arguments.data_dir is None:
        parser.error("no data: set CIPO_EVAL_DATA or --data-dir")
    golds = all_golds(Path(arguments.data_dir))
    if arguments.limit:
        golds = varied(golds, arguments.limit)
    cases = selected(generated(golds, arguments.seed, arguments.workers), most=arguments.most)
    if arguments.sample:
        cases = sample(cases, arguments.sample, pairs=20 * arguments.sample)
    print(f"{len(cases)} cases of {len(golds)} golds", file=sys.stderr)
    started = time.perf_counter()
    mine = run("ours", cases, arguments.workers)
    print(f"ours: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    verdicts: dict[str, list[bool | None]] = {"ours": [given for given, _ in mine]}
    seconds = {"ours": sum(took for _, took in mine)}
    ratio = None
    if not arguments.ours:
        some = (
            sample(cases, arguments.peer_sample, pairs=20 * arguments.peer_sample)
            if arguments.peer_sample
            else cases
        )
        chosen = {id(case) for case in some}
        places = [i for i, case in enumerate(cases) if id(case) in chosen]
        peer = run("math_verify", [cases[i] for i in places], arguments.workers)
        given: list[bool | None] = [None] * len(cases)
        for place, (verdict, _took) in zip(places, peer, strict=True):
            given[place] = verdict
        verdicts["math-verify"] = given
        seconds["math_verify"] = sum(took for _, took in peer)
        ratio = seconds["math_verify"] / sum(mine[i][1] for i in places)
    print(table(cases, verdicts))
    if arguments.show is not None:
        shown = [i for i, case in enumerate(cases) if arguments.show in case.kind]
        print(failures([cases[i] for i in shown], [verdicts["ours"][i] for i in shown], each=50))
    if arguments.failures:
        arguments.failures.write_text(failures(cases, verdicts["ours"]) + "\n", encoding="utf-8")
    kept = [i for i, case in enumerate(cases) if case.expected]
    changed = [i for i, case in enumerate(cases) if not case.expected]
    print(
        json.dumps(
            {
                "benchmark": "metamorphic",
                "golds": len(golds),
                "seed": arguments.seed,
                "cases": len(cases),
                "value_kept": len(kept),
                "value_changed": len(changed),
                **{
                    name: {
                        "false_rejections": _share(kept, given, expected=True),
                        "false_acceptances": _share(changed, given, expected=False),
                        "cases_per_second": round(
                            sum(x is not None for x in given) / seconds[name.replace("-", "_")], 1
                        ),
                    }
                    for name, given in verdicts.items()
                },
                "time_ratio": ratio and round(ratio, 1),
                "kinds": len(Counter(row_of(case) for case in cases)),
                "python": platform.python_version(),
            }
        )
    )


def _share(places: Sequence[int], given: Sequence[bool | None], *, expected: bool) -> float:
    seen = [i for i in places if given[i] is not None]
    return round(sum(given[i] != expected for i in seen) / max(1, len(seen)), 6)


if __name__ == "__main__":
    main()
