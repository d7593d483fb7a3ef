"""CriticBench (Lin et al. 2024, arXiv:2402.14809): questions with a response, to be judged and corrected.

Of its fifteen sources, the mathematical ones (GSM8K, MATH, AQuA, TabMWP) and the two of code (HumanEval, MBPP) are
kept: what the rest asks (dates, trivia, common sense) no verifier here judges. Code comes with test code and without a
right program. Where the tests are plain calls and literals, none is needed; else it is that of HumanEval or MBPP, if
their data is at hand.
"""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.readers.choice import choices_in
from cipo_eval.data.readers.evalplus import MEMORY
from cipo_eval.data.sources import Row
from cipo_eval.verifiers.code.asserts import plain_asserts
from cipo_eval.verifiers.code.testsets import Group, Kind, Test, TestSet

MATH = ("GSM8K", "MATH", "AQuA", "TabMWP")
"""Mathematical sources, by the names in the column ``question_source``."""
CODE = ("HumanEval", "MBPP")
"""Sources of programs."""
CHOICE = "AQuA"
"""The source whose answers are letters of options."""
_COLUMNS = ("id", "question", "response", "answer", "response_label", "question_source", "question_type")


def prepare(row: Row) -> Row:
    """The columns that are read, and ``join``: what a row of code has in common with one of HumanEval or MBPP."""
    columns = {name: row[name] for name in _COLUMNS if name in row}
    source = row.get("question_source")
    text = row.get("question") if source == "HumanEval" else _gold(row) if source == "MBPP" else ""
    return {**columns, "join": _squeezed(str(text or ""))}


def prepare_humaneval(row: Row) -> Row:
    """The columns of a HumanEval row that are used: its prompt, to join by, and a right program."""
    return {"join": _squeezed(row["prompt"]), "reference": row["prompt"] + row["canonical_solution"]}


def prepare_mbpp(row: Row) -> Row:
    """The columns of an MBPP row that are used: its asserts, to join by, and a right program."""
    return {"join": _squeezed("\n".join(row["test_list"])), "reference": row["code"].replace("\r", "")}


def read(row: Row, companions: Mapping[str, Row]) -> ReadProblem:
    """The problem of a row that ``prepare`` made; ``companions``: rows of HumanEval or MBPP with the same code problem.
    The row's response is the carried attempt."""
    source, response = str(row["question_source"]), str(row["response"])
    common: dict[str, Any] = {
        "id": str(row["id"]),
        "repeated": True,
        "question": str(row["question"]).strip(),
        "attempt_right": row["response_label"] if isinstance(row["response_label"], bool) else None,
    }
    told = {"source": source, "type": str(row.get("question_type", ""))}
    if source in MATH:
        kind = "choice" if source == CHOICE else "math"
        choices = {"choices": choices_in(common["question"])} if kind == "choice" else {}
        return ReadProblem(
            **common,
            answer=_gold(row),
            attempt=response,
            options={"verifier": kind, **choices},
            metadata={"subset": "math", "kind": kind, **told},
        )
    if source not in CODE:
        return ReadProblem(**common, coverage="of sources other than mathematics and code are left out")
    question = common["question"]
    whole = response if "def " in response or source != "HumanEval" else f"{row['question']}{response}"
    references = [companion["reference"] for companion in companions.values()]
    tests = _tests(_gold(row), question, references)
    return ReadProblem(
        **common,
        tests=tests,
        attempt=f"```python\n{_bare(whole)}\n```",
        options={
            "verifier": "code",
            "entry_point": tests.entry_point if tests else "",
            **({"prompt": question} if source == "HumanEval" else {}),
        },
        metadata={"subset": "code", "kind": "complete" if source == "HumanEval" else "write", **told},
        coverage="" if tests else "with tests that need a right program are left out, for want of one",
    )


def _gold(row: Row) -> str:
    answer = row["answer"]
    return str(answer[0] if isinstance(answer, list | tuple) and answer else answer).strip()


def _squeezed(text: str) -> str:
    return "".join(text.split())


def _bare(program: str) -> str:
    """Without the marks that CriticBench's prompts ask for around code, and without fences."""
    text = re.sub(r"\[(?:BEGIN|DONE)\]", "", program)
    return "\n".join(line for line in text.splitlines() if not line.startswith("```")).strip("\n")


def _tests(source: str, question: str, references: Sequence[str]) -> TestSet | None:
    """The tests of a code problem. None where a right program is needed and there is none. Raises ``ValueError``."""
    tree = ast.parse(source)
    entry_point = _entry_point(tree, question)
    if references:
        return TestSet(
            kind=Kind.CODE,
            groups=(Group(name="base", tests=(Test(source=source),)),),
            entry_point=entry_point,
            reference=references[0],
            memory=MEMORY,
        )
    cases = plain_asserts(source, entry_point)
    if cases is None:
        return None
    return TestSet(
        kind=Kind.CALLS,
        groups=(
            Group(name="base", tests=tuple(Test(args=call["args"], expected=value) for call, value in cases)),
        ),
        entry_point=entry_point,
        memory=MEMORY,
    )


def _entry_point(tree: ast.Module, question: str) -> str:
    """What the tests call: what they hand to ``check``, else the first function that is no builtin and not their own.

    Raises ``ValueError`` where they call nothing.
    """
    calls = [
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    ]
    named = [(call, call.func.id) for call in calls if isinstance(call.func, ast.Name)]
    for call, name in named:
        if name == "check" and call.args and isinstance(call.args[0], ast.Name):
            return call.args[0].id
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    others = [name for _, name in named if name not in defined and not hasattr(builtins, name)]
    stubs = re.findall(r"^def (\w+)\(", question, re.M)
    if called := [name for name in others if name != "candidate"] or stubs[-1:]:
        return called[0]
    raise ValueError("its tests call nothing")
