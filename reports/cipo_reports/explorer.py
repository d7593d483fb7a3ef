"""The attempts of a study for the page: an index that is read at once, and texts in chunks that are read after
it; each is JSON, compressed, in base64. So nothing that a model wrote is ever part of the page's markup.
"""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cipo_eval.analysis.chains import Chain, StoredChains, chains_of
from cipo_eval.analysis.selection import Selected
from cipo_eval.records import Attempt, AttemptKey, Mode, State
from cipo_eval.storage.store import read_problems
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol
from cipo_reports.arms import RunData
from cipo_reports.study import Study

CHUNK = 4_000_000
"""Characters of a chunk's texts."""
LONGEST_TEXT = 50_000
"""Longer texts are cut in their middle."""
LONGEST_ANSWER = 80
LONGEST_QUESTION = 20_000
BUDGET = 250_000_000
"""Characters of all texts together; attempts beyond are listed without their text."""
MOST_CHAINS = 200_000
"""Chains of all runs together; of more, those with the lowest numbers at each problem are listed."""
STATES = [state.value for state in State]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explorer:
    """What the page carries."""

    index: str
    chunks: tuple[str, ...]
    attempts: int
    chains: int
    left_out: int
    """Attempts without their text."""
    unlisted: int = 0
    """Chains that are not listed."""


@dataclass(slots=True)
class _Index:
    """Columns by name, one entry a chain or an attempt."""

    arms: list[str]
    tasks: list[str]
    code: list[bool]
    runs: list[str] = field(default_factory=list)
    problems: list[list[Any]] = field(default_factory=list)
    chain: dict[str, list[int]] = field(
        default_factory=lambda: {
            name: [] for name in ("arm", "run", "task", "problem", "protocol", "sample", "first")
        }
    )
    turns: list[int] = field(default_factory=list)
    """Attempts of the chains, one chain after another; ``first`` says where each begins."""
    attempt: dict[str, list[Any]] = field(
        default_factory=lambda: {name: [] for name in ("state", "right", "tokens", "answer", "judges")}
    )


def explorer(study: Study, *, budget: int = BUDGET, most: int = MOST_CHAINS) -> Explorer:
    """Every chain of every run, up to ``most``; where there are too many characters, the texts of the first ones."""
    index = _Index(arms=study.names, tasks=study.tasks, code=[_is_code(study, task) for task in study.tasks])
    texts, unlisted = _Texts(budget), 0
    share = most // max(1, sum(len(run.results["tasks"]) for arm in study.arms for run in arm.runs))
    for number, arm in enumerate(study.arms):
        for run in arm.runs:
            index.runs.append(run.path.name)
            for task in run.results["tasks"]:
                unlisted += _add(index, texts, study, number, run, task, share)
    chunks = tuple(texts.packed())
    whole = {
        "arms": index.arms,
        "tasks": index.tasks,
        "code": index.code,
        "runs": index.runs,
        "protocols": list(PROTOCOLS),
        "states": STATES,
        "problems": index.problems,
        "chain": index.chain,
        "turns": index.turns,
        "attempt": index.attempt,
        "chunks": texts.starts,
    }
    return Explorer(
        index=packed(whole),
        chunks=chunks,
        attempts=len(index.attempt["state"]),
        chains=len(index.chain["arm"]),
        left_out=texts.left_out,
        unlisted=unlisted,
    )


def packed(value: Any) -> str:
    """JSON, compressed, in base64: the same for the same value. Lone surrogates cross as escapes."""
    data = json.dumps(value, separators=(",", ":")).encode("ascii")
    return base64.b64encode(gzip.compress(data, 6, mtime=0)).decode("ascii")


def _is_code(study: Study, task: str) -> bool:
    """Whether attempts are programs, also where they stand in no fence."""
    runs = (run for arm in study.arms for run in arm.having(task))
    return any(run.info["tasks"][task].get("verifier") == "code" for run in runs)


class _Texts:
    """Texts and details of attempts, in chunks."""

    def __init__(self, budget: int) -> None:
        self.starts: list[int] = [0]
        """First attempt of each chunk, and the number of all at the end."""
        self.left_out = 0
        self._budget = budget
        self._rows: list[list[Any]] = []
        self._size = 0
        self._done: list[str] = []

    def add(self, attempt: Attempt, detail: str) -> None:
        text: str | None = cut(attempt.text, LONGEST_TEXT)
        if len(attempt.text) > self._budget:
            text = None
            self.left_out += 1
        else:
            self._budget -= len(text or "")
            self._size += len(text or "")
        self._rows.append([text, detail] if detail else [text])
        if self._size > CHUNK:
            self._flush()

    def _flush(self) -> None:
        self.starts.append(self.starts[-1] + len(self._rows))
        self._done.append(packed(self._rows))
        self._rows, self._size = [], 0

    def packed(self) -> list[str]:
        if self._rows:
            self._flush()
        return self._done


def cut(text: str, longest: int) -> str:
    """A text without its middle where it is too long."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]}\n\n[… {len(text) - 2 * half} characters left out …]\n\n{text[-half:]}"


def _add(index: _Index, texts: _Texts, study: Study, arm: int, run: RunData, task: str, most: int) -> int:
    """Adds the chains of a run at a task, at most so many, and returns how many more there are."""
    selected = run.selected(task)
    known = read_problems(run.path, task)
    places: dict[str, int] = {}
    numbers: dict[AttemptKey, int] = {}
    mode = study.mode
    groups, before = list(_chains(selected)), len(index.chain["arm"])
    for protocol, chain in _listed(groups, most):
        first = chain[0]
        if first.problem not in places:
            places[first.problem] = len(index.problems)
            index.problems.append(_problem(index.tasks.index(task), first.problem, known.get(first.problem)))
        row = {
            "arm": arm,
            "run": len(index.runs) - 1,
            "task": index.tasks.index(task),
            "problem": places[first.problem],
            "protocol": list(PROTOCOLS).index(protocol.name),
            "sample": first.sample,
            "first": len(index.turns),
        }
        for name, value in row.items():
            index.chain[name].append(value)
        for attempt in chain:
            if attempt.key not in numbers:
                numbers[attempt.key] = len(index.attempt["state"])
                _add_attempt(index, texts, attempt, protocol, mode)
            index.turns.append(numbers[attempt.key])
    return sum(len(chains) for _, chains in groups) - (len(index.chain["arm"]) - before)


def _chains(selected: Selected) -> Iterator[tuple[Protocol, StoredChains]]:
    """Chains of every protocol; first attempts alone where nothing follows them."""
    alone = chains_of(selected.first, PROTOCOLS[DIRECT])
    begins = alone.attempts.rows[alone.places[:, 0]]
    revised = np.zeros(len(begins), bool)
    for name in selected.protocols:
        chains = chains_of(selected.of(name), PROTOCOLS[name])
        chains = chains.only((chains.lengths > 1) | (not PROTOCOLS[name].own))
        revised |= np.isin(begins, chains.attempts.rows[chains.places[:, 0]])
        yield PROTOCOLS[name], chains
    yield PROTOCOLS[DIRECT], alone.only(~revised)


def _listed(groups: Sequence[tuple[Protocol, StoredChains]], most: int) -> Iterator[tuple[Protocol, Chain]]:
    """At most so many chains, of all problems as many as there is room for."""
    every = sum(len(chains) for _, chains in groups)
    for protocol, chains in groups:
        if every > most:
            room = most * len(chains) // every
            first = np.argsort(chains.turn(1, chains.attempts.column("sample")), kind="stable")[:room]
            chains = chains.only(np.sort(first))
        for chain in chains:
            yield protocol, chain


def _add_attempt(index: _Index, texts: _Texts, attempt: Attempt, protocol: Protocol, mode: Mode) -> None:
    verdict = attempt.verdicts[mode]
    answer = verdict.extracted
    row = {
        "state": STATES.index(verdict.state.value),
        "right": int(verdict.correct),
        "tokens": -1 if attempt.completion_tokens is None else attempt.completion_tokens,
        # a program is its own answer: it stands in the text
        "answer": None if answer is None or "\n" in answer else cut(answer, LONGEST_ANSWER),
        "judges": int(protocol.is_judgement(attempt.turn)),
    }
    for name, value in row.items():
        index.attempt[name].append(value)
    texts.add(attempt, _detail(verdict.report.get("failure")))


def _detail(failure: Any) -> str:
    """The first test that failed, as far as it may be shown."""
    if not isinstance(failure, dict):
        return ""
    parts = [
        f"{key}: {cut(str(failure[key]), 2000)}"
        for key in ("input", "expected", "actual", "error")
        if key in failure
    ]
    return "\n".join([f"test {failure.get('test')}: {failure.get('kind')}", *parts])


def _problem(task: int, name: str, known: dict[str, Any] | None) -> list[Any]:
    """Task, id, question, answer, and its metadata in a line."""
    if known is None:
        return [task, name, None, None, ""]
    meta = ", ".join(
        f"{key} {cut(str(value), 60)}"
        for key, value in known.get("metadata", {}).items()
        if isinstance(value, str | int | float) and "\n" not in str(value) and value != ""
    )
    answer = known.get("answer")
    question = cut(str(known.get("question", "")), LONGEST_QUESTION)
    return [task, name, question, None if answer is None else cut(str(answer), 500), meta]
