"""One program's tests, judged: what passed, what failed first, and what of it a model may be told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cipo_eval.records import Grade
from cipo_eval.sandbox.box import Outcome
from cipo_eval.sandbox.worker import End, Reason
from cipo_eval.verifiers.code.prepare import flat
from cipo_eval.verifiers.code.testsets import Kind, Test, TestSet

SHOWN = 400
"""Characters of a value in a report."""
PASSED, WRONG, ERROR, TIMEOUT, CRASH = "p", "w", "e", "t", "c"
"""Outcome of a test, one letter each: passed, wrong result, exception, time limit, ended otherwise (memory, signal, too
much output). Tests after the first failure are not run."""
_NAMES = {WRONG: "wrong_answer", ERROR: "error", TIMEOUT: "timeout", CRASH: "crash"}


@dataclass(slots=True)
class Judgement:
    """Collects outcomes in the order of a test set's tests."""

    tests: TestSet
    outcomes: list[str] = field(default_factory=list)
    """One of the letters above for each test that was run, in order."""
    failure: dict[str, Any] = field(default_factory=dict)
    """The first failure as reported: its kind, the test's number from 0, and the error; values if it is public."""
    seconds: float = 0.0
    """Processor seconds of the program."""
    weak: bool = False
    """Whether the program shared its process with test code, which it might have tampered with."""

    @property
    def unfinished(self) -> bool:
        """Whether all went well, and tests are left: the program ended."""
        return not self.failure and len(self.outcomes) < len(flat(self.tests))

    @property
    def under_way(self) -> Test:
        """The test that has no outcome yet."""
        return flat(self.tests)[len(self.outcomes)]

    def passed(self) -> None:
        """Counts a test that passed."""
        self.outcomes.append(PASSED)

    def failed(self, what: str, error: str = "", *, actual: str | None = None) -> None:
        """Counts the test under way as failed; ``what``: one of the letters above.

        ``error``: the program's own text; ``actual``: what it returned or printed.
        """
        test = self.under_way
        self.outcomes.append(what)
        self.failure = {"kind": _NAMES[what], "test": len(self.outcomes) - 1, "public": test.public}
        if error:
            self.failure["error"] = error[-2000:]
        if test.public:
            self.failure |= _shown(self.tests, test)
            if actual is not None:
                self.failure["actual"] = short(actual)

    def grade(self, tier: int) -> Grade:
        """The verdict on the program so far."""
        parts = {}
        at, good = 0, True
        for group in self.tests.groups:
            inside = self.outcomes[at : at + len(group.tests)]
            good = good and inside == [PASSED] * len(group.tests)
            parts[group.name] = good
            at += len(group.tests)
        report: dict[str, Any] = {
            "outcomes": run_lengths(self.outcomes),
            "tests": at,
            "cpu_seconds": round(self.seconds, 4),
            "sandbox": tier,
        }
        if self.failure:
            report["failure"] = self.failure
        if self.weak:
            report["integrity"] = "weak"
        return Grade(
            correct=good,
            canonical="",  # two programs are the same answer only if they are the same text
            method=self.failure.get("kind", "passed"),
            parts=parts if len(parts) > 1 else {},
            report=report,
        )


def run_lengths(outcomes: Sequence[str]) -> str:
    """``pppw`` as ``3p1w``: there can be a thousand tests."""
    text, at = "", 0
    while at < len(outcomes):
        end = at
        while end < len(outcomes) and outcomes[end] == outcomes[at]:
            end += 1
        text += f"{end - at}{outcomes[at]}"
        at = end
    return text


def what_ended(end: End) -> tuple[str, str]:
    """Outcome and words for a program that did not live to give a result."""
    if end.reason in (Reason.CPU, Reason.WALL):
        return TIMEOUT, "time limit exceeded"
    if end.reason is Reason.OUTPUT:
        return CRASH, "output limit exceeded"
    return (
        CRASH,
        f"the process ended (exit code {end.status})" if end.status >= 0 else f"signal {-end.status}",
    )


def error_text(outcome: Outcome) -> str:
    """What a program raised, with the lines of its own that led there."""
    return outcome.traceback or outcome.error or ""


def _shown(tests: TestSet, test: Test) -> Mapping[str, Any]:
    """A public test in a form that a model can be shown."""
    if tests.kind is Kind.STDIN:
        return {"input": short(test.input), "expected": short(test.expected)}
    if tests.kind is Kind.CODE:
        return {"input": short(test.source)}
    shown: dict[str, Any] = {"input": short(", ".join(map(plain, test.args)))}
    if test.ops:
        shown = {"input": short(", ".join(test.ops) + "; " + ", ".join(map(plain, test.args)))}
    if not test.derive:
        shown["expected"] = short(plain(test.expected))
    return shown


def plain(value: Any) -> str:
    """A value in the codec's form as Python writes it."""
    from cipo_eval.sandbox import codec

    try:
        return repr(codec.decode(value))
    except (codec.CodecError, ValueError):
        return "?"


def short(text: Any) -> str:
    """A long text without its middle."""
    text = str(text)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]} … {text[-SHOWN // 2 :]}"
