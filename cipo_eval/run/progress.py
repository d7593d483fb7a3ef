"""How far a run is: counts of its attempts, tokens and states, which a display and ``progress.json`` read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from cipo_eval.records import Attempt, Mode, State
from cipo_eval.storage.attempts import Attempts
from cipo_eval.storage.numbers import UNKNOWN


@dataclass(slots=True)
class Progress:
    """Counts of a run, and whom to tell of them: ``changed`` after each attempt."""

    total: int = 0
    """Attempts that are wanted, as far as they are known to follow."""
    done: int = 0
    """Attempts that are on disk, those of earlier calls included."""
    tokens: int = 0
    """Tokens of the completions of these attempts."""
    judging: int = 0
    """Completions that wait for their verdict."""
    failed: int = 0
    """Samples that the engine could not get."""
    states: Counter[str] = field(default_factory=Counter)
    """Attempts that are done, by their state in the first mode (``records.State``)."""
    done_of: Counter[str] = field(default_factory=Counter)
    """``done`` by task."""
    wanted_of: Counter[str] = field(default_factory=Counter)
    """``total`` by task."""
    changed: Callable[[Progress], None] = lambda _: None
    """Called with these counts after each change."""
    stopping: Callable[[int], None] = lambda _: None
    """Called once when interrupted, with the number of verdicts that are waited for."""

    def count_stored(self, attempts: Attempts, mode: Mode) -> None:
        """Adds the attempts of a task that are on disk already, by their states in this mode."""
        self.done += len(attempts)
        for number in attempts.column("task")[:1].tolist():  # a file is of one task
            self.done_of[attempts.words("task")[number]] += len(attempts)
        tokens = attempts.column("completion_tokens")
        self.tokens += int(tokens[tokens != UNKNOWN].sum())
        for state in State:
            if count := int(attempts.in_state(mode, state).sum()):
                self.states[state.value] += count

    def count(self, attempt: Attempt) -> None:
        """Adds one attempt with its verdicts, by its state in the first mode."""
        self.done += 1
        self.done_of[attempt.task] += 1
        self.tokens += attempt.completion_tokens or 0
        self.states[next(iter(attempt.verdicts.values())).state.value] += 1
