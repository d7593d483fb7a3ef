"""Judging is pulled: whatever the verifiers' threads do, attempts are taken, kept and followed in one thread."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from commands import Commands, turns

from cipo_eval.interrupts import Interrupts
from cipo_eval.records import (
    Attempt,
    Completion,
    FinishReason,
    Mode,
    Problem,
    Request,
    Sampling,
    State,
    Verdict,
    fingerprint,
)
from cipo_eval.run import judging
from cipo_eval.run.rescore import judged_again
from cipo_eval.run.runner import Run
from cipo_eval.storage.attempts import Attempts
from cipo_eval.verifiers.pool import VerifierPool

FOLLOWED = (
    "--protocol",
    "direct,self",
    "--samples",
    "3",
    "--limit",
    "4",
    "--max-tokens",
    "8",
    "--engine",
    "hf",
)


def test_attempts_are_kept_by_the_thread_that_generates(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Also with room for one verdict at a time: generating pauses, and nothing is lost or doubled."""
    monkeypatch.setattr(judging, "IN_FLIGHT", 1)
    threads, keep = set(), Run._keep

    def kept(run: Run, attempt: Any) -> None:
        threads.add(threading.current_thread())
        keep(run, attempt)

    monkeypatch.setattr(Run, "_keep", kept)
    command = ("run", "--model", tiny_checkpoint, "--tasks", "arithmetic", *FOLLOWED, "-o", tmp_path / "run")
    assert cipo(*command, "--quiet").code == 0
    stored = turns(tmp_path / "run", "arithmetic")
    assert len(stored) == 4 * 3 * 2
    assert all(attempt["verdicts"] for attempt in stored.values())
    assert threads == {threading.main_thread()}


def test_each_attempt_has_the_seed_and_prompt_of_its_own_request(monkeypatch: Any) -> None:
    """However the samples of several requests come mixed, and whichever of a request are left."""
    monkeypatch.setattr(judging, "PROMPTS", 2)
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=8)
    problem = Problem(task="sums", id="p", index=0, question="?", prompt="?", gold="2")
    requests = [
        Request(
            problem=problem,
            messages=({"role": "user", "content": f"{number}?"},),
            samples=samples,
            seeds=tuple(100 * number + sample for sample in samples),
            sampling=sampling,
        )
        for number, samples in enumerate([(0, 1, 2), (5, 7, 9), (4, 3)])
    ]
    verdict = Verdict(correct=False, state=State.NO_ANSWER)
    pool: Any = SimpleNamespace(judge=lambda *_: {Mode.FIXED: verdict})
    plan: Any = SimpleNamespace(name="sums", problems=SimpleNamespace(spec=SimpleNamespace(verifier="math")))
    under_way = judging.Judging([plan], pool, [Mode.FIXED])
    for place in range(3):
        for request in requests:
            for sample in request.samples[place : place + 1]:
                said = Completion(text="", finish_reason=FinishReason.STOP)
                under_way.submit(judging.Generated(request, sample, said))
    judged = list(under_way.judged())
    assert len(judged) == 8
    for generated, attempt in judged:
        number = requests.index(generated.request)
        assert attempt.seed == 100 * number + attempt.sample
        assert attempt.prompt_hash == fingerprint([{"role": "user", "content": f"{number}?"}])


def test_what_is_judged_at_once_is_kept_with_its_verdict() -> None:
    """Also where nobody came to take it any more: an interrupted run judges nothing twice."""
    problem = Problem(
        task="sums", id="p", index=0, question="1+1?", prompt="1+1?", gold="2", options={"kind": "integer"}
    )
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=8)
    request = Request(
        problem=problem,
        messages=({"role": "user", "content": "1+1?"},),
        samples=(0, 1),
        seeds=(0, 1),
        sampling=sampling,
    )
    plan: Any = SimpleNamespace(name="sums", problems=SimpleNamespace(spec=SimpleNamespace(verifier="math")))
    with VerifierPool(1) as pool:
        under_way = judging.Judging([plan], pool, [Mode.FIXED])
        for sample, reason in enumerate((FinishReason.STOP, FinishReason.CONTENT_FILTER)):
            completion = Completion(text="\\boxed{2}", finish_reason=reason)
            under_way.submit(judging.Generated(request, sample, completion))
        assert under_way.ready <= 1 < under_way.open == 2
        under_way.wait(0)
        kept = {attempt.sample: attempt.verdicts for attempt in under_way.without_verdict()}
        assert not under_way.open
        assert not under_way.ready
    assert kept[0] == {}
    assert kept[1]["fixed"].state == "filtered"


def test_judging_again_can_be_interrupted_where_every_verdict_is_known() -> None:
    """Nothing is waited for then: a signal comes through all the same."""
    problem = Problem(
        task="sums", id="p", index=0, question="1+1?", prompt="1+1?", gold="2", options={"kind": "integer"}
    )
    plan: Any = SimpleNamespace(
        name="sums",
        all_problems=[problem],
        problems=SimpleNamespace(spec=SimpleNamespace(verifier="math")),
    )
    withheld = Attempt(
        task="sums", problem="p", sample=0, prompt_hash="", seed=0, text="", finish_reason=FinishReason.CONTENT_FILTER,
        prompt_tokens=1, completion_tokens=1, seconds=0.0, verdicts={},
    )  # fmt: skip
    stored, interrupts = Attempts.of([withheld]), Interrupts()
    with VerifierPool(1) as pool:
        ((_, judged),) = judged_again(plan, stored, pool, [Mode.FIXED], interrupts, stored)
        assert judged.verdicts["fixed"].state == "filtered"
        interrupts._receive(signal.SIGINT, None)  # outside of a region that may be interrupted
        with pytest.raises(KeyboardInterrupt):
            list(judged_again(plan, stored, pool, [Mode.FIXED], interrupts, stored))
