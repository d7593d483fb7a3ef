"""The contracts that every part of the house knows: problems, requests, completions, verdicts, attempts.

Plain frozen dataclasses with a versioned JSON form. Nothing here imports anything of ours, so that every other module
may import this one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

SCHEMA_VERSION = 1
"""Version of the JSON form of attempts, ``run.json`` and ``results.json``."""


class State(StrEnum):
    """What became of one attempt. All but ``CORRECT`` count as wrong in accuracy; each is counted separately."""

    __hash__ = str.__hash__  # that of ``Enum`` is written in Python; equal as texts they are anyway

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"
    """The model stopped by itself without a final answer."""
    TRUNCATED = "truncated"
    """The token limit came before a final answer."""
    FILTERED = "filtered"
    """A server withheld the text, or a part of it (``finish_reason`` ``content_filter``): what the model said is not
    known."""
    VERIFIER_TIMEOUT = "verifier_timeout"
    VERIFIER_ERROR = "verifier_error"


class Mode(StrEnum):
    """How answers are judged: ``FIXED`` is right, ``PAPER`` does what the reference implementation does."""

    __hash__ = str.__hash__

    FIXED = "fixed"
    PAPER = "paper"


_MODES = {mode.value: mode for mode in Mode}
"""By name: ten times as fast as ``Mode(name)``, which millions of stored attempts would call."""


class FinishReason(StrEnum):
    """Why a completion ended. A word that is none of these (in a file of another harness) is kept as it is."""

    __hash__ = str.__hash__

    STOP = "stop"
    """At an end token or a stop string."""
    LENGTH = "length"
    """At the token limit."""
    CONTEXT = "context"
    """Before its first token: the prompt left no room."""
    CONTENT_FILTER = "content_filter"
    """A server withheld it, or a part of it."""

    @classmethod
    def _missing_(cls, value: object) -> FinishReason | None:
        if not isinstance(value, str):
            return None
        foreign = str.__new__(cls, value)
        foreign._name_, foreign._value_ = "FOREIGN", value
        return foreign

    def __reduce_ex__(self, protocol: object) -> Any:
        return type(self), (self._value_,)  # by its value: Python 3.11.0 to 3.11.3 would look for its name

    @property
    def cut_off(self) -> bool:
        """Whether a limit ended the completion, so that a missing answer is one that did not fit."""
        return self in (FinishReason.LENGTH, FinishReason.CONTEXT)


def _name_reason(record: Completion | Attempt) -> None:
    """A word of a file's, or of a user's own engine, becomes the reason that it names."""
    if type(reason := record.finish_reason) is str:
        object.__setattr__(record, "finish_reason", _REASONS.get(reason) or FinishReason(reason))


_REASONS = {reason.value: reason for reason in FinishReason}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One item of a task. ``gold`` and ``options`` are for the verifier and never reach an engine."""

    task: str
    id: str
    index: int
    """Position in the data set, from 0; replayed files of other harnesses refer to it."""
    question: str
    prompt: str
    """The user turn: the question within the task's prompt template."""
    gold: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What this problem asks of its verifier (tolerance, unit, several answers, …); plain JSON values."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Columns to break results down by (subject, level, …)."""
    attempt: str | None = None
    """An attempt at it that comes with the data, to be judged or corrected (``given``, ``critique``)."""
    attempt_right: bool | None = None
    """What the data says of that attempt; never reaches an engine."""
    given_prompt: str = ""
    """The user turn before an attempt that is not the model's own; empty: ``prompt``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """Decoding parameters. ``temperature`` 0 is greedy, and then the others have no effect."""

    temperature: float
    top_p: float
    top_k: int
    """Number of most probable tokens that are drawn from; 0: all."""
    min_p: float
    max_tokens: int
    """Most new tokens of a completion."""
    stop: tuple[str, ...] = ()


class Span(NamedTuple):
    """A part of one of several messages: characters ``start`` to ``end`` (exclusive) of message number ``message``."""

    message: int
    start: int
    end: int


class Turn(NamedTuple):
    """An attempt, or a judgement of one, that later turns build on."""

    text: str
    verdicts: Mapping[Mode, Verdict]
    """By mode, the one that decides what follows first."""

    @property
    def verdict(self) -> Verdict:
        """The verdict that decides what follows."""
        return next(iter(self.verdicts.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One prompt for an engine, with one seed for each sample that is wanted."""

    problem: Problem
    messages: tuple[Mapping[str, str], ...]
    """Chat messages (``role``, ``content``). The last one is the user's, or the beginning of the assistant's answer:
    then the model goes on with it, and the completion is what follows."""
    samples: tuple[int, ...]
    """Indices of the wanted samples: a resumed run asks only for those that are missing."""
    seeds: tuple[int, ...]
    """One seed per sample; a completion depends on (model, messages, sampling, seed) only."""
    sampling: Sampling
    protocol: str = "direct"
    turn: int = 1
    history: tuple[Turn, ...] = ()
    """The turns before this one; a request with a history is for one sample."""
    carried: tuple[Span, ...] = ()
    """Earlier attempts within the messages: an engine may cut them in their middle where the context is too short."""

    @property
    def begun(self) -> str:
        """The beginning of the answer, which the model goes on with; empty where it begins the answer itself."""
        return begun(self.messages)


def begun(messages: Sequence[Mapping[str, str]]) -> str:
    """What the last of some messages has of the answer that is to come."""
    return messages[-1]["content"] if messages and messages[-1]["role"] == "assistant" else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What the model wrote for one sample of a request, and what it took."""

    text: str
    finish_reason: FinishReason | None
    """None where a replayed file does not say."""
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    """Engine time; the samples of one batch share it evenly."""
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    """Log probability of each token (natural logarithm), in the model's own distribution (temperature 1, no filter)."""
    left_out: int = 0
    """Characters of earlier attempts that the prompt had no room for."""
    prompt_hash: str | None = None
    """Fingerprint of the prompt as the model saw it; None: the engine does not know it, and messages stand for it."""

    def __post_init__(self) -> None:
        _name_reason(self)

    def __getstate__(self) -> tuple[Any, ...]:
        return _completion_values(self)

    def __setstate__(self, values: tuple[Any, ...]) -> None:
        """Written out for completions that come from other processes: what ``dataclasses`` has asks for the names of
        the fields each time, and takes twice as long."""
        for name, value in zip(_COMPLETION_FIELDS, values, strict=True):
            object.__setattr__(self, name, value)


_COMPLETION_FIELDS = tuple(of.name for of in fields(Completion))
_completion_values = attrgetter(*_COMPLETION_FIELDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A sample that an engine could not get, after all its tries: counted by name, never stored and never scored; the
    next start asks for it again."""

    why: str
    """One printable line, the same for all failures of one kind: failures are counted by it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """The final answer found in a completion. ``answer`` None: ``state`` says why there is none."""

    answer: str | None
    state: State | None = None
    how: str = ""
    """The rule that found it (``boxed``, ``answer_is``, ``last_number`` …)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grade:
    """The judgement of one (gold, answer) pair, without its context."""

    correct: bool
    canonical: str
    """Normal form of the answer: two answers that say the same have the same one (majority votes count these)."""
    method: str = ""
    """What decided: ``exact``, ``number``, ``set``, ``math_verify``, …"""
    failed: bool = False
    """The verifier could not judge: counted as ``verifier_error``, never silently as a wrong answer."""
    parts: Mapping[str, bool] = field(default_factory=dict)
    """Named results that are also reported (``base`` and ``plus``); empty where there is only the one."""
    report: Mapping[str, Any] = field(default_factory=dict)
    """What else is worth keeping of the judgement, as JSON values: outcomes by test, the first failing public test."""


class Verifier(Protocol):
    """Judges completions in two steps, so that equal (gold, answer) pairs are judged once.

    ``extract`` runs in the calling process: linear in the length of the text, and it evaluates nothing. ``grade`` runs
    in a worker process that is killed when it takes too long, so it may use whatever it needs. Both are pure.
    """

    name: str

    def extract(
        self, problem: Problem, text: str, finish_reason: FinishReason | None, mode: Mode
    ) -> Extraction: ...

    def grade(self, gold: str, answer: str, options: Mapping[str, Any], mode: Mode) -> Grade: ...

    def seconds(self, gold: str, options: Mapping[str, Any]) -> float | None:
        """Processor time after which a grading that still runs is broken; None: the pool's own limit."""
        ...

    def overdue(self, gold: str, options: Mapping[str, Any], mode: Mode) -> tuple[float, Grade] | None:
        """For a mode that follows a reference: the processor seconds after which the reference gives up, and its
        verdict then. None, also for a verifier without this method: a grading that exceeds its limit has no verdict."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the verifier says of one completion."""

    correct: bool
    state: State
    extracted: str | None = None
    canonical: str | None = None
    detail: str = ""
    seconds: float = 0.0
    parts: Mapping[str, bool] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    """As in ``Grade``; of an attempt from a pool also ``label``: whether it is right according to the pool. Never holds
    what a model may not see: the gold, or what a private test expects."""

    def with_report(self, **values: Any) -> Verdict:
        """The same verdict with these values in its report."""
        return replace(self, report={**self.report, **values})

    def to_json(self) -> dict[str, Any]:
        return {
            "correct": self.correct,
            "state": self.state,
            "extracted": self.extracted,
            "canonical": self.canonical,
            "detail": self.detail,
            "seconds": self.seconds,
            "parts": dict(self.parts),
            "report": dict(self.report),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Verdict:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what is not a verdict, or contradicts itself."""
        verdict = cls(**{**data, "state": State(data["state"])})
        types = tuple(map(type, _verdict_values(verdict)))
        if types not in _FITTING:
            _check_types(verdict, _VERDICT_TYPES)
            _FITTING.add(types)
        if verdict.correct is not (verdict.state is State.CORRECT):
            raise ValueError(
                f"correct is {str(verdict.correct).lower()} and the state is {verdict.state.value}"
            )
        return verdict


class AttemptKey(NamedTuple):
    """The identity of an attempt within a run."""

    task: str
    problem: str
    protocol: str
    sample: int
    turn: int

    def __str__(self) -> str:
        """As ``Attempt.parent`` has it."""
        return "|".join(map(str, self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One stored line: a completion with its verdict in every mode that was asked for."""

    task: str
    problem: str
    protocol: str = "direct"
    sample: int
    turn: int = 1
    parent: str | None = None
    """Key of the attempt that this one revises (protocols with several turns)."""
    prompt_hash: str
    seed: int | None
    text: str
    finish_reason: FinishReason | None
    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float | None
    verdicts: Mapping[Mode, Verdict]
    """By mode, in one or in both; empty where the run was interrupted before the verdict."""
    left_out: int = 0
    """Characters of earlier attempts that the prompt had no room for, as in ``Completion``."""
    prefix: int = 0
    """Characters at the beginning of ``text`` that the model was given to go on with, and did not write (protocol
    ``prefill``); tokens count what it wrote."""

    def __post_init__(self) -> None:
        _name_reason(self)

    @property
    def key(self) -> AttemptKey:
        return AttemptKey(self.task, self.problem, self.protocol, self.sample, self.turn)

    def to_json(self) -> dict[str, Any]:
        """Its line as JSON values; written out, since ``dataclasses.asdict`` takes ten times as long."""
        return {
            "v": SCHEMA_VERSION,
            "task": self.task,
            "problem": self.problem,
            "protocol": self.protocol,
            "sample": self.sample,
            "turn": self.turn,
            "parent": self.parent,
            "prompt_hash": self.prompt_hash,
            "seed": self.seed,
            "text": self.text,
            "finish_reason": self.finish_reason,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "seconds": self.seconds,
            "verdicts": {str(mode): verdict.to_json() for mode, verdict in self.verdicts.items()},
            "left_out": self.left_out,
            **({"prefix": self.prefix} if self.prefix else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Attempt:
        """Raises ``ValueError``, ``KeyError`` or ``TypeError`` for what is not an attempt of this version."""
        fields = dict(data)
        if fields.pop("v") != SCHEMA_VERSION:
            raise ValueError(
                f"attempt of schema version {data['v']}, this release reads version {SCHEMA_VERSION}"
            )
        if not isinstance(fields["verdicts"], dict):
            raise TypeError("verdicts holds no verdicts")
        fields["verdicts"] = {_MODES[mode]: Verdict.from_json(v) for mode, v in fields["verdicts"].items()}
        attempt = cls(**fields)
        types = tuple(map(type, _attempt_values(attempt)))
        if types not in _FITTING:
            _check_types(attempt, _ATTEMPT_TYPES)
            _FITTING.add(types)
        if not 0 <= attempt.prefix <= len(attempt.text):
            raise ValueError(f"prefix is {attempt.prefix}, and the text has {len(attempt.text)} characters")
        if attempt.sample < 0 or attempt.turn < 1:
            raise ValueError(
                f"sample is {attempt.sample} and turn {attempt.turn}: they count from 0 and from 1"
            )
        return attempt


_Types = tuple[tuple[str, tuple[type, ...]], ...]
_TEXT, _COUNT, _NONE = (str,), (int,), type(None)
_VERDICT_TYPES: _Types = (
    ("correct", (bool,)),
    ("extracted", (str, _NONE)),
    ("canonical", (str, _NONE)),
    ("detail", _TEXT),
    ("seconds", (float, int)),
    ("parts", (dict,)),
    ("report", (dict,)),
)
_ATTEMPT_TYPES: _Types = (
    *((name, _TEXT) for name in ("task", "problem", "protocol", "prompt_hash", "text")),
    *((name, _COUNT) for name in ("sample", "turn", "left_out", "prefix")),
    *((name, (int, _NONE)) for name in ("seed", "prompt_tokens", "completion_tokens")),
    ("parent", (str, _NONE)),
    ("finish_reason", (FinishReason, _NONE)),
    ("seconds", (float, int, _NONE)),
)


_verdict_values = attrgetter(*(name for name, _ in _VERDICT_TYPES))
_attempt_values = attrgetter(*(name for name, _ in _ATTEMPT_TYPES))
_FITTING: set[tuple[type, ...]] = set()
"""Types of fields that were found to fit: there are few combinations, and millions of attempts."""


def _check_types(record: Verdict | Attempt, types: _Types) -> None:
    """Raises ``TypeError`` for the first field of another type; a truth value is no number."""
    for name, kinds in types:
        if type(value := getattr(record, name)) not in kinds:
            raise TypeError(f"{name} is {json.dumps(value)[:40]}")


def fingerprint(value: Any) -> str:
    """SHA-256 (hex, 16 digits) of a value's canonical JSON: sorted keys, no spaces, UTF-8."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def derive_seed(*parts: str | int) -> int:
    """A 63-bit seed for one place in a run: the only way that seeds are made, so equal places get equal seeds."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def derive_seeds(before: Sequence[str | int], numbers: Iterable[int], after: int) -> tuple[int, ...]:
    """``derive_seed(*before, number, after)`` for each number."""
    begin, end = "\x1f".join([*map(str, before), ""]), f"\x1f{after}"
    sha256, as_number = hashlib.sha256, int.from_bytes
    return tuple([as_number(sha256(f"{begin}{n}{end}".encode()).digest()[:8], "big") >> 1 for n in numbers])
