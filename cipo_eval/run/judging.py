"""Verdicts under way: what stands between an engine that generates and a store that keeps.

Verdicts are pulled, never called back: worker processes judge, and whoever holds the ``Judging`` takes the attempts
that are judged by now, in its own thread. A run does so after every completion, and while its engine waits for requests
(``Feed.settle``): the engine works in the same thread, since libraries keep settings by thread and signals reach the
main one only.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from dataclasses import replace
from typing import NamedTuple

from cipo_eval.records import Attempt, AttemptKey, Completion, Mode, Problem, Request, Verdict, fingerprint
from cipo_eval.run.plan import TaskPlan
from cipo_eval.turns.protocols import DIRECT, PROTOCOLS, Protocol
from cipo_eval.verifiers import critique
from cipo_eval.verifiers.pool import VerifierPool

IN_FLIGHT = 4096
"""Completions waiting for their verdict before generation pauses."""
PROMPTS = 8192
"""Requests whose prompts' fingerprints are remembered: the samples of many come mixed where many replicas generate."""

Verdicts = Future[dict[Mode, Verdict]]
"""The verdict of each mode, once it is there."""


class Generated(NamedTuple):
    """A completion that waits for its verdict."""

    request: Request
    sample: int
    completion: Completion
    label: bool | None = None
    """Whether it is right according to the pool that it comes from."""


class _Known(NamedTuple):
    """A completion that was judged at once."""

    generated: Generated
    verdicts: Mapping[Mode, Verdict]


class Judging:
    """Completions that wait for their verdicts, and those that have them. For one thread."""

    def __init__(self, plans: Sequence[TaskPlan], pool: VerifierPool, modes: Sequence[Mode]) -> None:
        self._plans = {plan.name: plan for plan in plans}
        self.pool, self._modes = pool, tuple(modes)
        self._waiting: dict[Verdicts, Generated] = {}
        self._finished: deque[Verdicts | _Known] = deque()
        self._known = 0
        """How many of them were judged at once."""
        self._without: list[Generated] = []
        """Those that will have none."""
        self._some = threading.Event()
        self._prompts: dict[int, tuple[Request, str]] = {}
        """By identity, the requests that came last, each with its prompt's fingerprint."""

    @property
    def open(self) -> int:
        """Completions that were submitted and whose verdict was not taken."""
        return len(self._waiting) + self._known

    @property
    def ready(self) -> int:
        """How many of the open completions have their verdict."""
        return len(self._finished)

    @property
    def full(self) -> bool:
        """Whether generating should pause."""
        return len(self._waiting) >= IN_FLIGHT

    def submit(self, generated: Generated) -> None:
        """Hands one completion to the verifiers; of one that went on with a text, both together."""
        if begun := generated.request.begun:
            said = generated.completion
            generated = generated._replace(completion=replace(said, text=begun + said.text))
        verdicts = self._verdicts(generated.request, generated.completion)
        if not isinstance(verdicts, Future):
            self._known += 1
            self._finished.append(_Known(generated, verdicts))
            return
        self._waiting[verdicts] = generated
        if verdicts.done():
            self._finished.append(verdicts)
        else:
            verdicts.add_done_callback(self._done)

    def wait(self, seconds: float) -> None:
        """Returns when there is an attempt to take, at the latest after so many seconds."""
        if seconds > 0 and not self._finished:
            self._some.wait(seconds)

    def judged(self) -> Iterator[tuple[Generated, Attempt]]:
        """Takes the attempts that are judged by now; does not wait. Raises what went wrong in judging one."""
        self._some.clear()
        while self._finished:
            verdicts = self._finished.popleft()
            if isinstance(verdicts, _Known):
                self._known -= 1
                yield verdicts.generated, self._attempt(*verdicts)
                continue
            generated = self._waiting.pop(verdicts)
            try:
                attempt = self._attempt(generated, verdicts.result())
            except CancelledError:  # the pool was closed
                self._without.append(generated)
                continue
            except BaseException:
                self._without.append(generated)
                raise
            yield generated, attempt

    def without_verdict(self) -> Iterator[Attempt]:
        """Takes everything that still waits, without a verdict where none is there: the next start judges it, and need
        not generate it again. What came with a pool is there anyway, and left out."""
        for known in self._finished:
            if isinstance(known, _Known):
                yield self._attempt(*known)
        for generated in [*self._without, *self._waiting.values()]:
            if generated.request.messages:
                yield self._attempt(generated, {})
        self._without.clear()
        self._waiting.clear()
        self._finished.clear()
        self._known = 0

    def _attempt(self, generated: Generated, verdicts: Mapping[Mode, Verdict]) -> Attempt:
        # an attempt that nobody was asked for here is known by its text
        request = generated.request
        prompt = self._prompt(request) if request.messages else fingerprint(generated.completion.text)
        return attempt_of(generated, prompt, verdicts)

    def _prompt(self, request: Request) -> str:
        """The fingerprint of a request's prompt."""
        known = self._prompts.get(id(request))
        if known is None:
            if len(self._prompts) >= PROMPTS:
                self._prompts.clear()
            known = self._prompts[id(request)] = request, fingerprint(list(request.messages))
        return known[1]

    def _done(self, verdicts: Verdicts) -> None:
        """In whichever thread that is."""
        self._finished.append(verdicts)
        self._some.set()

    def _verdicts(self, request: Request, completion: Completion) -> Verdicts | dict[Mode, Verdict]:
        plan, protocol = self._plans[request.problem.task], PROTOCOLS[request.protocol]
        if not protocol.is_judgement(request.turn):
            if protocol.locates:
                return labels(request.problem, self._modes)
            verifier = plan.problems.spec.verifier
            text, finish_reason = completion.text, completion.finish_reason
            return self.pool.judge(verifier, request.problem, text, finish_reason, self._modes)
        # reading a judgement takes no time: no worker is needed
        return judgement(completion, request.history[-1].verdicts, plan, protocol)


def attempt_of(generated: Generated, prompt: str, verdicts: Mapping[Mode, Verdict]) -> Attempt:
    """What is stored of a completion that was judged. ``prompt``: the fingerprint of what it answers."""
    request, sample, completion, label = generated
    parent = None
    if request.turn > 1:
        before = DIRECT if request.turn == 2 and PROTOCOLS[request.protocol].own else request.protocol
        key = AttemptKey(request.problem.task, request.problem.id, before, sample, request.turn - 1)
        parent = str(key)
    return Attempt(
        task=request.problem.task,
        problem=request.problem.id,
        protocol=request.protocol,
        sample=sample,
        turn=request.turn,
        parent=parent,
        prompt_hash=completion.prompt_hash or prompt,
        seed=_seed(request, sample) if request.messages else None,
        text=completion.text,
        finish_reason=completion.finish_reason,
        prompt_tokens=completion.prompt_tokens,
        completion_tokens=completion.completion_tokens,
        seconds=completion.seconds,
        verdicts={mode: labelled(verdict, label) for mode, verdict in verdicts.items()},
        left_out=completion.left_out,
        prefix=len(request.begun),
    )


def _seed(request: Request, sample: int) -> int | None:
    """That of one of its samples, most of which follow one another."""
    samples = request.samples
    at = sample - samples[0]
    if not (0 <= at < len(samples) and samples[at] == sample):
        if sample not in samples:
            return None
        at = samples.index(sample)
    return request.seeds[at]


def judgement(
    said: Completion | Attempt, response: Mapping[Mode, Verdict], plan: TaskPlan, protocol: Protocol
) -> dict[Mode, Verdict]:
    """The verdict on a judgement, in each mode in which there is one on the ``response`` that it is about."""
    text, ended, form = said.text, said.finish_reason, plan.revising.critique_form
    verdicts = {}
    for mode, verdict in response.items():
        if protocol.locates:
            verdicts[mode] = critique.step_verdict(text, ended, mode, verdict, plan.think)
        else:
            verdicts[mode] = critique.verdict(text, ended, form, mode, verdict, plan.think)
    return verdicts


def labels(problem: Problem, modes: Iterable[Mode]) -> dict[Mode, Verdict]:
    """In each mode, the verdict on the attempt that comes with a problem, where the data says which of its steps is
    wrong: no verifier knows better."""
    return dict.fromkeys(modes, critique.labelled_response(problem))


def labelled(verdict: Verdict, label: bool | None) -> Verdict:
    """A verdict with what a pool says of the attempt."""
    return verdict.with_report(label=label) if label is not None else verdict
