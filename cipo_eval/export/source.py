"""What every format takes from a run: the attempts that count as conversations, its figures, and what it was made with.

A run keeps a fingerprint of its prompts, not their wording. Where the task's data is at hand and gives the same
fingerprint, conversations have the prompts that the model saw; elsewhere the problem's statement stands for the first
of them, and a note for what followed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from cipo_eval import __version__
from cipo_eval.analysis.chains import Chain, chains_of
from cipo_eval.analysis.rows import Row, rows_of
from cipo_eval.analysis.selection import Selected, selected_attempts
from cipo_eval.errors import CipoError, UsageError
from cipo_eval.records import Attempt, Mode, Problem, Turn, Verdict, fingerprint
from cipo_eval.run.plan import TaskPlan
from cipo_eval.run.stored import stored_plan
from cipo_eval.storage.store import read_info, read_problems
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol
from cipo_eval.turns.revising import Revising, TurnFormat

Message = dict[str, str]
"""``role`` and ``content``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A chain of attempts with what was asked before each of them."""

    chain: Chain
    asked: tuple[tuple[Message, ...], ...]
    """By turn, the messages before its attempt that no earlier turn has."""


class Source:
    """A run directory, read for an export. Raises ``UsageError`` for what is no finished run."""

    def __init__(self, run: Path, data_dir: Path | None = None) -> None:
        self.run = run
        self.info = read_info(run)
        self.results = _results(run)
        self.mode = Mode(self.info["modes"][0])
        """Whose verdicts decide."""
        self.modes = tuple(Mode(mode) for mode in self.info["modes"])
        self.warnings: list[str] = []
        self.tasks = [
            TaskSource(run, name, self, data_dir)
            for name in self.info["tasks"]
            if name in self.results["tasks"]
        ]

    @property
    def model(self) -> str:
        """The model's name; of attempts from a file the file's."""
        engine = self.info.get("engine", {})
        return unicode_text(str(engine.get("model") or engine.get("file") or self.run.name)).rstrip("/")

    @property
    def engine(self) -> str:
        """The name of what generated."""
        return str(self.info.get("engine", {}).get("engine", "unknown"))

    @property
    def version(self) -> str:
        """The version of this package."""
        return __version__

    @property
    def begun(self) -> str:
        """When the run was begun: ISO 8601 with its offset."""
        return str(self.info.get("created") or self.ended)

    @property
    def ended(self) -> str:
        """When the last call began."""
        calls = self.info.get("calls") or [{"at": "1970-01-01T00:00:00+00:00"}]
        return str(calls[-1]["at"])

    @property
    def command(self) -> str:
        """The last command line."""
        calls = self.info.get("calls") or [{"command": []}]
        return unicode_text(" ".join(calls[-1]["command"]))

    @property
    def identity(self) -> str:
        """Sixteen hexadecimal digits that are the same for the same run: exports make their own ids of them."""
        return fingerprint([self.info.get("created"), self.run.name, sorted(self.info["tasks"])])


@dataclass(frozen=True)  # no slots: parts of it are cached
class TaskSource:
    """One task of a run."""

    run: Path
    name: str
    source: Source = field(repr=False)
    data_dir: Path | None

    @property
    def facts(self) -> Mapping[str, Any]:
        """The task's entry in ``run.json``."""
        facts: Mapping[str, Any] = self.source.info["tasks"][self.name]
        return facts

    @cached_property
    def selected(self) -> Selected:
        """The attempts that count."""
        return selected_attempts(self.run, self.name, self.source.info)

    @cached_property
    def problems(self) -> Mapping[str, Mapping[str, Any]]:
        """By id, in the order of the data: ``question``, ``answer`` (of mathematics), ``metadata``."""
        return read_problems(self.run, self.name)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """By problem, its place in the data, from 0."""
        if self.plan is not None:
            return {problem.id: problem.index for problem in self.plan.problems.problems}
        return {problem: place for place, problem in enumerate(self.problems)}

    @property
    def sampling(self) -> Mapping[str, Any]:
        """How attempts were drawn."""
        sampling: Mapping[str, Any] = self.facts["sampling"]
        return sampling

    @property
    def protocols(self) -> tuple[Protocol, ...]:
        """The protocols that the run was asked for, first attempts among them."""
        names = [
            name for name in (DIRECT, *self.selected.protocols) if name in self.selected.selection.extents
        ]
        return tuple(PROTOCOLS[name] for name in names)

    def rows(self, protocol: Protocol) -> list[Row]:
        """The figures of a protocol that have a value, of all problems."""
        every = rows_of(self.source.results["tasks"][self.name], self.source.mode)
        return [
            row for row in every if row.protocol == protocol.name and not row.column and row.value is not None
        ]

    def question(self, problem: str) -> str:
        """The statement; empty where the run does not keep it."""
        return str(self.problems.get(problem, {}).get("question") or "")

    def answer(self, problem: str) -> str:
        """The right answer where the run keeps it (of mathematics), else empty."""
        return str(self.problems.get(problem, {}).get("answer") or "")

    def conversations(self, protocol: Protocol) -> Iterator[Conversation]:
        """Chains of a protocol, ordered by problem and sample, read one after another."""
        for chain in chains_of(self.selected.of(protocol.name), protocol):
            yield Conversation(chain=chain, asked=self._asked(protocol, chain))

    # --- wording ----------------------------------------------------------------------------------------------------

    @cached_property
    def plan(self) -> TaskPlan | None:
        """The run's plan with its prompts, where the data is here and they are the run's own; None elsewhere."""
        try:
            plan = stored_plan(self.facts["definition"], self.facts, self.data_dir)
        except (CipoError, KeyError) as error:
            why = str(error)
        else:
            if fingerprint([plan.messages(p) for p in plan.problems.problems]) == self.facts["prompts"]:
                return plan
            why = "the task's prompts are not those of the run"
        self.source.warnings.append(
            f"{self.name}: conversations have the problems' statements in place of the prompts ({why})"
        )
        return None

    @cached_property
    def _by_id(self) -> Mapping[str, Problem]:
        return {p.id: p for p in self.plan.problems.problems} if self.plan else {}

    @cached_property
    def _revising(self) -> Mapping[str, Revising]:
        """By protocol, how its turns were written, where our templates are those of the run."""
        if self.plan is None:
            return {}
        known = {}
        for name, facts in self.facts["protocols"].items():
            revising = replace(
                self.plan.revising,
                turn_format=TurnFormat(facts.get("turn_format", TurnFormat.CHAT)),
                keep_think=facts.get("keep_think", False),
                think=self.facts["think"],
            )
            if revising.identity()[name]["templates"] == facts.get("templates"):
                known[name] = revising
        return known

    def _asked(self, protocol: Protocol, chain: Chain) -> tuple[tuple[Message, ...], ...]:
        """By turn, what was asked before it."""
        problem = self._by_id.get(chain[0].problem)
        if self.plan is not None and problem is not None:
            first = tuple(dict(m) for m in self.plan.messages(problem, given=not protocol.own))
        else:
            system = self.facts.get("system_prompt")
            first = (
                *([{"role": "system", "content": system}] if system else []),
                {"role": "user", "content": self.question(chain[0].problem)},
            )
        asked = [first]
        history: list[Turn] = []
        for attempt in chain[:-1]:
            history.append(Turn(attempt.text, attempt.verdicts))
            asked.append(({"role": "user", "content": self._following(protocol, first, history)},))
        return tuple(asked)

    def _following(self, protocol: Protocol, first: tuple[Message, ...], history: list[Turn]) -> str:
        """What was said after these turns; of a protocol that asks nothing, a note of what it does."""
        if (revising := self._revising.get(protocol.name)) is None or protocol.continues:
            return f"[{protocol.summary}]"
        messages, _ = revising.messages(protocol, first, history)
        return messages[-1]["content"]


def _results(run: Path) -> dict[str, Any]:
    """``results.json``. Raises ``UsageError`` where the run has none."""
    path = run / "results.json"
    try:
        results = json.loads(path.read_bytes())
        if isinstance(results["tasks"], dict):
            return dict(results)
        raise TypeError("tasks")
    except FileNotFoundError:
        raise UsageError(
            f"{run} has no results.json: attempts are missing; the command that made it goes on from there"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}): `cipo-eval rescore {run}` writes it anew"
        ) from error


def verdict_of(attempt: Attempt, mode: Mode) -> Verdict:
    """The verdict in a mode. Raises ``UsageError`` where an attempt was not judged in it."""
    if (verdict := attempt.verdicts.get(mode)) is None:
        raise UsageError(
            f"attempt {attempt.key} has no verdict in {mode} mode: `cipo-eval rescore` judges it"
        )
    return verdict


def unicode_text(text: str) -> str:
    """A text that UTF-8 can hold: a half of a surrogate pair, which a model's output may have, becomes U+FFFD. (Written
    out as an escape, its digits would be the last number of an answer, and change verdicts.)"""
    if text.isascii():
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def unicode_json(value: Any) -> Any:
    """JSON values of which every text passes through ``unicode_text``."""
    if isinstance(value, str):
        return unicode_text(value)
    if isinstance(value, Mapping):
        return {unicode_text(str(key)): unicode_json(entry) for key, entry in value.items()}
    return [unicode_json(entry) for entry in value] if isinstance(value, list | tuple) else value
