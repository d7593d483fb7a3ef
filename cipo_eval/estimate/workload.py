"""What a run asks for: how many attempts at each task, protocol and turn, and what their prompts are made of.

Tasks, protocols, scopes and samples are planned by the code that plans a run (``run.planning``), so that attempts are
those of the run. Where a task's data is not at hand, as many problems without a text stand in for it as the constants
or its definition state.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cipo_eval.data.definitions import fetch_hint
from cipo_eval.data.tasks import ProblemSet, TaskSpec, load_problems, look
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Mode, Problem, Sampling, State, Turn, Verdict
from cipo_eval.run import planning
from cipo_eval.run.decoding import FROM_CHECKPOINT
from cipo_eval.turns.protocols import DIRECT, Protocol
from cipo_eval.turns.revising import TurnFormat

if TYPE_CHECKING:
    from cipo_eval.estimate.constants import Constants
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.request import RunRequest

WRITTEN = 24
"""Problems whose later prompts are written out, to see how long they are."""
_WRONG = Turn("", {Mode.FIXED: Verdict(correct=False, state=State.INCORRECT)})
"""Stands for an earlier attempt in a prompt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """The attempts of one protocol's turn at a task."""

    protocol: str
    turn: int
    most: int
    """Attempts, if no chain ends early."""
    conditional: bool
    """Only what is wrong is asked again."""
    alike: int
    """Requests that have the same prompt."""
    messages: int
    added: float
    """Characters of the prompt beside the first prompt and earlier attempts."""
    shown: tuple[str, ...]
    """Earlier turns whose texts the prompt has, by protocol and turn."""
    pooled: bool
    """The prompt has an attempt from a pool."""
    judges: bool
    """It is a judgement of an attempt."""
    prefixed: bool
    """The prompt begins with that of the turn before, and with what it wrote."""

    @property
    def name(self) -> str:
        """By which lengths are known."""
        return f"{self.protocol} {self.turn}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLoad:
    """A task of the run."""

    task: str
    kind: str
    """``math`` or ``code``: how it is judged."""
    problems: int
    samples: int
    sampling: Sampling
    here: bool
    """Its data is at hand."""
    first_characters: Mapping[str, float]
    """By problem, of its first prompt; empty where the data is not at hand."""
    pool_attempts: int
    """Attempts of a pool, which are stored and judged as turn 1."""
    pool_characters: float
    """Mean of such an attempt's."""
    modes: int
    """Ways of judging, of which each verdict is stored."""
    loads: tuple[Load, ...]

    @property
    def characters(self) -> float:
        """Mean of a first prompt's; 0 where the data is not at hand."""
        return _mean(list(self.first_characters.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """All tasks, and what a reader should know of them."""

    tasks: tuple[TaskLoad, ...]
    notes: tuple[str, ...]


def workload(request: RunRequest, constants: Constants) -> Workload:
    """What a request asks for. Raises ``UsageError`` for what the run would refuse, ``MissingError`` where nothing says
    how many problems a task has."""
    specs = planning.read_specs(request.task.tasks)
    planning.protocols_of(request.turns, specs)
    if request.decoding.preset == FROM_CHECKPOINT:
        raise UsageError(
            "--preset checkpoint: name --temperature and --max-tokens instead, no checkpoint is read here"
        )
    sampled_by = planning.decodings(specs, request.decoding)
    sets, notes = [], []
    for spec in specs:
        problems, note = _problems(spec, request, constants)
        sets.append(problems)
        notes += [note] if note else []
    plans = planning.plans(request, sets, sampled_by)
    tasks = [task_load(plan, len(request.scoring.mode.modes)) for plan in plans]
    return Workload(tasks=tuple(tasks), notes=tuple(notes))


def _problems(spec: TaskSpec, request: RunRequest, constants: Constants) -> tuple[ProblemSet, str]:
    """The problems of a task, or as many without a text, and a note on that."""
    try:
        look(spec, request.task.data_dir)
        return load_problems(spec.path, data_dir=request.task.data_dir, offline=True), ""
    except MissingError as error:
        figures = constants.tasks.get(spec.name)
        count = (figures and figures.problems) or (spec.rows if spec.scope is None else None)
        if count is None or (request.task.scope and spec.scope is not None):
            raise MissingError(
                f"nothing says how many problems of {spec.name} count: {fetch_hint(spec)}"
            ) from error
        attempt = "" if figures and figures.with_attempts else None
        problems = tuple(
            Problem(
                task=spec.name,
                id=str(i),
                index=i,
                question="",
                prompt="",
                gold="",
                options={},
                attempt=attempt,
            )
            for i in range(count)
        )
        stand_in = ProblemSet(spec=replace(spec, scope=None), problems=problems, fingerprint="", source={})
        note = f"{spec.name}: its data is not here; {count:,} problems are what is stated of it ({fetch_hint(spec)})"
        return stand_in, note


def task_load(plan: TaskPlan, modes: int) -> TaskLoad:
    """What a plan asks for; ``modes``: ways of judging."""
    problems = plan.selected
    here = bool(plan.problems.fingerprint)
    pooled = [item for problem in problems for _, item in plan.given(problem)]
    by_name = {protocol.name: protocol for protocol in plan.revising.protocols}
    loads = tuple(
        _load(plan, by_name.get(name), turn, most, problems)
        for (name, turn), most in plan.most_by_turn.items()
    )
    codes = [p for p in problems if (p.options.get("verifier") or plan.problems.spec.verifier) == "code"]
    return TaskLoad(
        task=plan.name,
        kind="code" if len(codes) * 2 > len(problems) else "math",
        problems=len(problems),
        samples=plan.samples,
        sampling=plan.sampling,
        here=here,
        first_characters={p.id: _characters(plan.messages(p)) for p in problems} if here else {},
        pool_attempts=len(pooled),
        pool_characters=_mean([len(item.text) for item in pooled]) if here else 0.0,
        modes=modes,
        loads=loads,
    )


def _load(
    plan: TaskPlan, protocol: Protocol | None, turn: int, most: int, problems: Sequence[Problem]
) -> Load:
    revising = plan.revising
    own = protocol is None or protocol.own
    messages, added = len(plan.messages(problems[0])) if problems else 1, 0.0
    if protocol is not None and problems:
        history = [_WRONG] * (turn - 1)
        few = problems[:: max(1, len(problems) // WRITTEN)][:WRITTEN]
        written = [revising.messages(protocol, plan.messages(p, given=not own), history)[0] for p in few]
        messages = len(written[0])
        added = _mean([_characters(w) for w in written]) - _mean([_characters(plan.messages(p)) for p in few])
    turns = range(1, turn)
    if (
        revising.turn_format is TurnFormat.INLINE
    ):  # of several turns the last, and with a judgement what it judges
        seen = 2 if protocol is not None and protocol.is_judgement(turn - 1) else 1
        turns = range(max(1, turn - seen), turn)
    name = DIRECT if protocol is None else protocol.name
    return Load(
        protocol=name,
        turn=turn,
        most=most,
        conditional=protocol is not None and protocol.only_wrong,
        alike=plan.samples if turn == 1 or (turn == 2 and not own) else 1,
        messages=messages,
        added=added,
        shown=tuple(f"{DIRECT if own and t == 1 else name} {t}" for t in turns if own or t > 1),
        pooled=not own and 1 in turns,
        judges=protocol is not None and protocol.is_judgement(turn),
        prefixed=turn > 1 and revising.turn_format is TurnFormat.CHAT,
    )


def _characters(messages: Sequence[Mapping[str, str]]) -> float:
    return float(sum(len(message["content"]) for message in messages))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
