"""The golds that cases are made from: all mathematics tasks, competitions in the mirror, MATH's test problems."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cipo_eval.data.tasks import load_problems
from cipo_eval.texts import last_boxed

OF_2026 = (
    "aime26",
    "hmmt25",
    "hmmt26",
    "gsm8k",
    "realcritic_college_math",
    "realcritic_gsm8k",
    "realcritic_math",
    "realcritic_minerva",
    "realcritic_olympiadbench",
    "self_correction_bench",
)
TASKS = ("math500", "aime24", "aime25", "amc23", "minerva", "olympiadbench", *OF_2026)
FILES = {
    "brumo_2025": "brumo_2025/test.jsonl",
    "cmimc_2025": "cmimc_2025/test.jsonl",
}
"""Sets of the mirror that are no tasks: question and answer only."""
MATH = "train/MATH_test_5000.jsonl.gz"


@dataclass(frozen=True)
class Gold:
    """A problem's gold answer, with the options that its task gives the verifier."""

    source: str
    index: int
    gold: str
    question: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


def own() -> list[Gold]:
    """Golds of ours, of shapes that are rare in the data sets or that they write in one way only."""
    made = [
        "\\ln 12", "\\ln 2", "3\\ln 5", "\\log_{2} 5", "\\log_{10} 250", "\\ln 45", "\\log_{3} 18",
        "2\\sqrt{15}",
        "5+\\sqrt{21}", "\\sqrt{6}-\\sqrt{2}", "\\frac{1}{\\sqrt{n}}", "\\sqrt[3]{2}", "-\\sqrt[3]{5}",
        "\\frac{1}{7}",
        "\\frac{5}{6}", "\\frac{23}{99}", "\\frac{8}{3}", "\\frac{11}{4}", "10000\\pi", "1000\\sqrt{2}",
        "2220", "3000000",
        "12000", "45000", "\\text{(C)}", "\\text{(A)}", "\\text{(B)}", "\\text{(D)}", "\\text{10:30 a.m.}",
        "\\text{7:05 p.m.}", "\\text{4:15 p.m.}", "\\text{11:50 a.m.}", "52_8", "1101_2", "2314_5",
        "\\text{even}",
        "\\text{Tuesday}", "\\text{ellipse}", "(1000,2000)", "[2,7)", "(-\\infty,4]", "(0,9)\\cup(9,36)",
        "\\{1,3,8\\}",
        "x^2-5x+6", "2^{n-1}", "n^2+n+1", "\\frac{x+2}{7}", "6-5i", "\\frac{\\sqrt{3}}{2}", "(3,-4,12)",
        "90^\\circ",
        "28\\%", "\\$18.90", "\\begin{pmatrix} 1 & 2 \\\\ 3 & 5 \\end{pmatrix}", "2^{100}", "3^{2025}",
        "\\frac{1}{2^{98}}",
        "\\cos 20^\\circ", "\\frac{7}{20}", "0.125", "x=5", "f(x)=2x+3", "12!", "\\binom{9}{4}", "11:21",
        "y=3x-4",
    ]  # fmt: skip
    measured = [
        "1.6",
        "3.83e35",
        "2.998e8",
        "0.022",
        "6.62",
        "1.24e-8",
        "84.01",
        "5.3e3",
        "7.25e-11",
        "300",
        "15000",
    ]
    several = ["1,-2", "2,5,11", "-1,0,1", "\\frac{1}{2},3", "(1,2),(3,4)"]
    asked = {
        "12": "How many apples are left?", "7": "What is the remainder when $2^{10}$ is divided by $11$?",
        "4": "Find $n$ modulo $9$.",
        "n^2+n+2": "In terms of $n$, how many regions are there?", "45": "How many minutes does the walk take?",
        "18+2\\pi": "What is the perimeter?", "-\\frac{3}{8}": "Find the slope.",
        "1\\frac{4}{5}": "Write it as a mixed number.",
        "5.4\\text{ cents}": "What does one cost, in cents?", "864\\text{ inches}^2": "What is the area?",
        "p-q": "Find $x$.",
    }  # fmt: skip
    found = [Gold("own", i, gold) for i, gold in enumerate(made)]
    found += [Gold("own_asked", i, gold, question) for i, (gold, question) in enumerate(asked.items())]
    found.append(Gold("own_unit", 0, "\\frac{41}{12}", "How far?", {"unit": "km"}))
    found += [Gold("own_measured", i, gold, options={"units": "skip"}) for i, gold in enumerate(measured)]
    found += [Gold("own_several", i, gold, options={"multiple": True}) for i, gold in enumerate(several)]
    found += [
        Gold("own_integer", i, g, options={"kind": "integer"})
        for i, g in enumerate(["27", "116", "1024", "7"])
    ]
    return found


def all_golds(data: Path) -> list[Gold]:
    """Every gold of the mirror (``data``), in a fixed order, then our own."""
    found = of_tasks(data, TASKS)
    for name, path in FILES.items():
        for index, row in enumerate(_rows(data / path)):
            text = row.get("problem") or row.get("prompt") or ""
            found.append(Gold(name, index, str(row["answer"]), str(text)))
    for index, row in enumerate(_rows(data / MATH)):
        found.append(Gold("math_test", index, last_boxed(row["solution"]) or row["answer"], row["problem"]))
    return found + own()


def of_tasks(data: Path, tasks: Iterable[str]) -> list[Gold]:
    """The golds of some tasks, with the options that each problem gives its verifier."""
    return [
        Gold(task, problem.index, problem.gold, problem.question, dict(problem.options))
        for task in tasks
        for problem in load_problems(task, data_dir=data, offline=True).problems
    ]


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    for line in raw.decode("utf-8").split("\n"):
        if line:
            yield json.loads(line)
