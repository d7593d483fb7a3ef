"""Hostile programs, each with what it is after; none may do harm (docs/sandbox.md).

``ALL`` holds them by name. A program defines ``f``, of which ``f(3)`` should be a number that it cannot know; to return
that number, to reach one of the secrets that are laid out for it, to change anything outside or to outlast its limits
is harm (``stage`` looks at all of it after each attack). What cannot be seen from outside the program reports itself,
by returning a text that contains ``HARM``.

Standard library only: the suite also runs as another user, with another interpreter, and against other harnesses
(``benchmarks/attacks.py``).
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class Report:
    """What a harness says about one program."""

    passed: bool = False
    """Judged right."""
    text: str = ""
    """All that came back."""
    words: str = ""
    """Of it, what the program says about itself: errors, tracebacks, standard error."""
    answers: int = 0
    """Tests with a result."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)
    """What went wrong in the harness itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """One hostile program. ``@NAME@`` in it stands for a value of the stage."""

    name: str
    group: str
    """``verdict``, ``leak``, ``effects`` or ``denial``."""
    why: str
    """What it does, and what would be lost."""
    program: str
    before: str = ""
    """A program that is run first; ``@EXPECTED@`` in it is the right answer."""
    kind: str = "calls"
    cpu: float = 0.2
    seconds: float = 10.0
    """Within which all must be over."""
    memory: int = 256 << 20
    live: bool = False
    """Called in a conversation, with a large argument."""
    harm: Callable[[Report], str | None] = lambda report: None
    """Beyond what counts as harm in every attack."""
    peers: bool = True
    """Means something to other harnesses."""
    control: bool = False
    """Succeeds, harmlessly, where nothing confines it."""
    known: str = ""
    """A hole that is known and open."""


ALL: dict[str, Attack] = {}


def attack(name: str, why: str, program: str, **more: object) -> None:
    """Registers one."""
    assert name not in ALL, name
    group = sys._getframe(1).f_globals["__name__"].rpartition(".")[2]  # the module that it is in
    ALL[name] = Attack(name=name, group=group, why=why, program=program, **more)  # type: ignore[arg-type]


from . import denial, effects, leak, verdict  # noqa: E402, F401  they register theirs
