"""A replica as it works in its actor, without Ray around it: what it is given comes back, and what is wrong is said."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from asking import SAMPLED, request

from cipo_eval.cluster.station import Answer, Surroundings
from cipo_eval.engines.engine import OneByOneEngine
from cipo_eval.engines.options import EngineOptions
from cipo_eval.engines.ray_replica import Opening, Replica
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, FinishReason, Request


class Letters(OneByOneEngine[EngineOptions]):
    """Ends a turn only when it is told to; what it is asked may break it."""

    name = "letters"
    go = threading.Event()

    def complete(self, request: Request, seed: int) -> Completion:
        said = request.messages[0]["content"]
        errors: dict[str, Callable[[], Exception]] = {
            "usage": lambda: UsageError("no such thing"),
            "missing": lambda: MissingError("it is gone"),
            "fault": lambda: RuntimeError("CUDA error: it burns\nat line 1"),
        }
        if said in errors:
            raise errors[said]()
        self.go.wait(10)
        return Completion(
            text=f"{said}{seed}", finish_reason=FinishReason.STOP, token_ids=(1, 2), logprobs=(-1.0, -2.0)
        )


def replica(engine: str = "test_replica:Letters") -> Replica:
    here = Surroundings.here()
    return Replica(
        Opening(engine=engine, model="m", options={}, think="strip", clock=FIXED_CLOCK, surroundings=here)
    )


def until(found: Callable[[Answer], Any], made: Replica) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if (answer := made.pull()) and found(answer):
            return answer
    raise AssertionError("nothing came")


def test_it_says_what_it_is_then_what_is_finished() -> None:
    Letters.go.clear()
    made = replica()
    answer = until(lambda a: a.ready, made)
    assert answer.ready["engine"] == "letters"
    made.push([(5, (request("a", (1, 2), SAMPLED), False)), (6, (request("b", (3,), SAMPLED), True))])
    assert made.pull().finished == []  # a sign of life, though nothing is finished
    Letters.go.set()
    done: list[tuple[int, int, Any]] = []
    while len(done) < 3:
        done += made.pull().finished
    assert [(number, part, c.text) for number, part, c in done] == [(5, 0, "a1"), (5, 1, "a2"), (6, 0, "b3")]
    assert all(c.token_ids is None and c.logprobs is None for _, _, c in done)
    made.push([(7, (request("c", (4,), SAMPLED), False))])  # it waits for more, though nothing followed
    assert [(number, c.text) for number, _, c in until(lambda a: a.finished, made).finished] == [(7, "c4")]


@pytest.mark.parametrize(
    ("word", "why"),
    [("usage", "no such thing"), ("missing", "it is gone"), ("fault", "RuntimeError: CUDA error: it burns")],
)
def test_it_says_why_it_can_do_nothing_more(word: str, why: str) -> None:
    made = replica()
    made.push([(1, (request(word, (1,), SAMPLED), False))])
    broken = until(lambda a: a.broken, made).broken
    assert (broken.kind, broken.why) == (word, why)


def test_an_engine_that_is_none_is_said_at_once() -> None:
    assert until(lambda a: a.broken, replica("no.module:Here")).broken.kind == "usage"
