"""A sample under way: the tokens that it has so far, and where it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from cipo_eval.engines.core.request import GenOutput, GenRequest
from cipo_eval.engines.core.sampler import RandomStream, SamplingGroup
from cipo_eval.records import FinishReason


@dataclass(slots=True, eq=False)
class Row:
    """A sample under way. Row i of the scheduler has slot i of the cache."""

    request: GenRequest
    number: int
    """Position of its seed in ``request.seeds``."""
    stream: RandomStream
    length: int
    """Tokens whose keys and values are in the slot; the newest token is not among them."""
    seconds: float
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    taken: int = 0
    """How many of the last drawn tokens belong to the sample; the others were drawn after its end."""

    def take(self, drawn: list[int], logprobs: list[float], ends: frozenset[int]) -> GenOutput | None:
        """Adds drawn tokens, up to the sample's end; the finished sample where that is among them."""
        self.taken = min(len(drawn), self.request.max_new - len(self.tokens))
        if self.request.cut is None and self.taken == len(drawn) and ends.isdisjoint(drawn):
            self.tokens += drawn
            self.logprobs += logprobs
            return self._finished(ends) if len(self.tokens) == self.request.max_new else None
        for count, (token, logprob) in enumerate(zip(drawn, logprobs, strict=True), start=1):
            self.tokens.append(token)
            self.logprobs.append(logprob)
            if (output := self._finished(ends)) is not None:
                self.taken = count
                return output
        self.taken = len(drawn)
        return None

    def _finished(self, ends: frozenset[int]) -> GenOutput | None:
        return finished(
            self.request,
            self.number,
            self.tokens,
            self.logprobs,
            ends=ends,
            seconds=self.seconds,
            full=len(self.tokens) == self.request.max_new,
        )


def finished(
    request: GenRequest,
    number: int,
    tokens: Sequence[int],
    logprobs: Sequence[float],
    *,
    ends: frozenset[int],
    seconds: float,
    full: bool,
) -> GenOutput | None:
    """The sample with these tokens, if the last of them ends it: by ``request.cut``, as an end token, or because there
    is no room for more (``full``)."""
    length, reason, note = len(tokens), None, None
    if tokens[-1] in ends:
        reason = FinishReason.STOP
    elif full:
        reason = FinishReason.LENGTH
    if request.cut is not None and (cut := request.cut(tokens)) is not None:
        (length, note), reason = cut, FinishReason.STOP
    if reason is None:
        return None
    return GenOutput(
        request=request,
        number=number,
        tokens=tuple(tokens[:length]),
        logprobs=tuple(logprobs[:length]),
        finish_reason=reason,
        seconds=seconds,
        note=note,
    )


def sampling_groups(rows: Sequence[Row], steps: int, device: torch.device) -> list[SamplingGroup]:
    """Rows by how they are sampled, each with the next ``steps`` numbers of its stream."""
    groups = []
    for sampling in dict.fromkeys(row.request.sampling for row in rows):
        members = [i for i, row in enumerate(rows) if row.request.sampling == sampling]
        streams = [rows[i].stream for i in members]
        chosen = None if len(members) == len(rows) else members
        groups.append(SamplingGroup.of(sampling, chosen, streams, steps, device))
    return groups
