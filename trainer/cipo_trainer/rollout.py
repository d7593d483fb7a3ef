"""Attempts from the current policy, judged while others are generated.

Sampling is from the model's own distribution (temperature 1, no filter): the log-probabilities that are trained on are
those of the distribution that was sampled from. The tokens that were sampled are the ones that are trained on; texts
are for the verifier only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import MissingError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import (
    Completion,
    Failure,
    FinishReason,
    Mode,
    Problem,
    Request,
    Sampling,
    State,
    Verdict,
    derive_seed,
)
from cipo_eval.verifiers.pool import VerifierPool

FAILED = frozenset({State.VERIFIER_TIMEOUT, State.VERIFIER_ERROR})
"""States of an attempt that got no verdict; it counts as wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A judged attempt, or a judged correction of one."""

    problem: Problem
    number: int
    """Number of the sample within its group, from 0."""
    prompt: tuple[int, ...]
    """Token ids of the prompt."""
    tokens: tuple[int, ...]
    """Token ids as they were sampled, the end token included."""
    logprobs: tuple[float, ...]
    """Log-probability of each token in nats, as the engine saw it when it sampled."""
    text: str
    finish_reason: FinishReason | None
    verdict: Verdict

    @property
    def correct(self) -> bool:
        """Whether the verifier found it right."""
        return self.verdict.correct

    @property
    def truncated(self) -> bool:
        """Whether it was cut off: ended by anything but the model's own end token or stop."""
        return self.finish_reason != "stop"

    @property
    def failed(self) -> bool:
        """Whether the verifier gave no verdict; such a sample counts as wrong."""
        return self.verdict.state in FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Samples of one prompt, whose rewards are compared with each other."""

    samples: tuple[Sample, ...]
    anchor: Sample | None = None
    """The attempt that they correct; None in the base stream."""

    @property
    def accuracy(self) -> float:
        """Share of right samples, in [0, 1]."""
        return sum(s.correct for s in self.samples) / len(self.samples)

    @property
    def decided(self) -> bool:
        """Whether all are right or all are wrong, so that their advantages are 0."""
        return self.accuracy in (0.0, 1.0)


Judge = Callable[[Request, str], Verdict]
"""The verdict on what was said to a request."""


def sampling(max_tokens: int) -> Sampling:
    """Sampling parameters for the model's own distribution: temperature 1, no filter."""
    return Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=max_tokens)


def first_requests(
    problems: Sequence[Problem], samples: int, max_tokens: int, chat: Chat, *place: str | int
) -> list[Request]:
    """The requests for attempts at the problems of a batch, ``samples`` of at most ``max_tokens`` tokens at each.

    ``place``: seed and step, of which, with the problem, the samples' seeds are made. A problem that a batch has twice
    gets two groups with seeds of their own.
    """
    seen: dict[tuple[str, str], int] = {}
    requests = []
    for problem in problems:
        key = problem.task, problem.id
        again = seen[key] = seen.get(key, -1) + 1
        more = ("again", again) if again else ()
        requests.append(
            Request(
                problem=problem,
                messages=chat.messages(problem.prompt),
                samples=tuple(range(samples)),
                seeds=tuple(derive_seed(*place, problem.id, n, *more) for n in range(samples)),
                sampling=sampling(max_tokens),
            )
        )
    return requests


def roll_out(
    engine: Any,
    pool: VerifierPool,
    verifier: str,
    requests: Sequence[Request],
    anchors: Sequence[Sample] | None = None,
    *,
    interrupts: Interrupts,
    judge: Judge | None = None,
) -> tuple[list[Group], float]:
    """Generates and judges. Returns a group for each request, in their order, and the seconds that verdicts were waited
    for after the last sample.

    ``engine``: ``hf`` or ``vllm`` with log-probabilities. ``judge``: gives the verdicts in place of the verifier. A
    verdict that fails costs its own sample's reward only.
    """
    futures: dict[tuple[int, int], tuple[Completion, Future[dict[Mode, Verdict]]]] = {}
    places = {id(request): at for at, request in enumerate(requests)}
    completions = iter(engine.generate(requests))
    while True:
        with interrupts.allowed():
            arrived = next(completions, None)
        if arrived is None:
            break
        request, number, completion = arrived
        if isinstance(completion, Failure):  # a step without it would train on another mixture
            raise MissingError(
                f"the engine cannot roll out: {completion.why}; the same command goes on from the last checkpoint"
            )
        answer = completion.text, completion.finish_reason
        if judge is None:
            judged = pool.submit(verifier, request.problem, *answer, (Mode.FIXED,))
        else:
            judged = Future()
            judged.set_result({Mode.FIXED: judge(request, completion.text)})
        futures[places[id(request)], number] = completion, judged
    generated = time.perf_counter()
    groups = []
    with interrupts.allowed():
        for at, request in enumerate(requests):
            prompt = tuple(engine.texts.prompt(request).ids)
            samples = tuple(
                _sample(request.problem, number, prompt, *futures[at, number]) for number in request.samples
            )
            groups.append(Group(samples=samples, anchor=anchors[at] if anchors else None))
    return groups, time.perf_counter() - generated


def _sample(
    problem: Problem,
    number: int,
    prompt: tuple[int, ...],
    completion: Completion,
    judged: Future[dict[Mode, Verdict]],
) -> Sample:
    return Sample(
        problem=problem,
        number=number,
        prompt=prompt,
        tokens=completion.token_ids or (),
        logprobs=completion.logprobs or (),
        text=completion.text,
        finish_reason=completion.finish_reason,
        verdict=judged.result()[Mode.FIXED],
    )
