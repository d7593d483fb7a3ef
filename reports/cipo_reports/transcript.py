"""Attempts as text for a terminal: a chain of turns in a line, or in full, and the problem that it answers.

What a model wrote is shown as it is, but for what would steer the terminal.
"""

from __future__ import annotations

from typing import Any

from cipo_eval.analysis.chains import Chain, attempts_of
from cipo_eval.records import Attempt, Mode
from cipo_eval.turns.protocols import PROTOCOLS

ANSWER_WIDTH = 40
"""Characters of an answer in a line."""


def _letters(chain: Chain, mode: Mode) -> str:
    return "".join("r" if attempt.verdicts[mode].correct else "w" for attempt in chain)


def in_a_line(protocol: str, chain: Chain, mode: Mode) -> str:
    """A chain of a protocol: what became of each turn, and the answers."""
    first, judges = chain[0], PROTOCOLS[protocol].is_judgement
    path = "→".join(
        f"[{a.verdicts[mode].extracted or '?'}]" if judges(a.turn) else _letters((a,), mode) for a in chain
    )
    answers = " → ".join(_answer(attempt, mode) for attempt in attempts_of(chain, PROTOCOLS[protocol]))
    return f"{first.task} {printable(first.problem)} {protocol} sample {first.sample}: {path}  {answers}"


def _answer(attempt: Attempt, mode: Mode) -> str:
    verdict = attempt.verdicts[mode]
    if verdict.extracted is None:
        return f"({verdict.state.value})"
    text = " ".join(printable(verdict.extracted).split())
    return text if len(text) <= ANSWER_WIDTH else f"{text[: ANSWER_WIDTH - 1]}…"


def question(task: str, problem: dict[str, Any]) -> str:
    """A problem as it was asked, and its answer where the run keeps one."""
    lines = [f"═══ {task} {printable(problem['id'])} ═══", printable(problem["question"])]
    if "answer" in problem:
        lines.append(f"─── expected: {printable(problem['answer'])}")
    return "\n".join(lines) + "\n"


def in_full(protocol: str, chain: Chain, mode: Mode) -> str:
    """A chain of a protocol with all that was said, verdicts and the first test that failed."""
    first, judges = chain[0], PROTOCOLS[protocol].is_judgement
    lines = [f"═══ {first.task} {printable(first.problem)} · {protocol} · sample {first.sample} ═══"]
    for attempt in chain:
        verdict = attempt.verdicts[mode]
        says = [
            verdict.state.value,
            *([f"{attempt.completion_tokens} tokens"] if attempt.completion_tokens else []),
        ]
        if attempt.finish_reason and attempt.finish_reason != "stop":
            says.append(f"ended by {attempt.finish_reason}")
        if attempt.prefix:
            says.append(f"begun for the model: {attempt.prefix} characters")
        what = " (judgement)" if judges(attempt.turn) else ""
        lines += [f"─── turn {attempt.turn}{what}: {', '.join(says)}", printable(attempt.text).rstrip("\n")]
        if verdict.extracted is not None:
            name = "says that the attempt is" if what else "answer:"
            name = "names as the first wrong step:" if what and PROTOCOLS[protocol].locates else name
            lines.append(f"─── {name} {printable(verdict.extracted)}")
        lines += _failure(verdict.report.get("failure"))
    return "\n".join(lines) + "\n"


def _failure(failure: dict[str, Any] | None) -> list[str]:
    """The first test that failed, as far as it may be shown."""
    if not failure:
        return []
    parts = [
        f"{key}: {printable(str(failure[key]))}"
        for key in ("input", "expected", "actual", "error")
        if key in failure
    ]
    return [f"─── test {failure.get('test')}: {failure.get('kind')}", *parts]


def printable(text: str) -> str:
    """A text that a model wrote, for a terminal: what would steer it is shown as an escape."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
