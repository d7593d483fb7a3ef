"""The openai engine against a server on loopback: the model's own texts, whatever the server does meanwhile."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import request as asked
from commands import Commands, turns
from model_server import ModelServer, drop, hang, reply, status

from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.openai import OpenAIEngine, Server
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Request, Sampling, Span

GREEDY = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=8)


@pytest.fixture(scope="module")
def model(tiny_checkpoint: Path) -> HFEngine:
    return HFEngine(str(tiny_checkpoint), device="cpu")


@pytest.fixture
def server(model: HFEngine) -> Iterator[ModelServer]:
    with ModelServer(model) as found:
        yield found


def request(
    text: str = "What is 2+2?", seeds: tuple[int, ...] = (1,), sampling: Sampling = GREEDY
) -> Request:
    return asked(text, seeds, sampling)


def outputs(where: ModelServer, *requests: Request, **options: Any) -> dict[tuple[str, int], Completion]:
    engine = OpenAIEngine("tiny", Server(url=where.url, **options))
    try:
        return {(r.problem.id, s): c for r, s, c in engine.generate(requests)}
    finally:
        engine.close()


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_texts_are_the_models_own(server: ModelServer, model: HFEngine, endpoint: str) -> None:
    sampled = replace(GREEDY, temperature=1.0)
    asked = [request("a", (1, 2), sampled), request("b")]
    expected = {(r.problem.id, s): c for r, s, c in model.generate(asked)}
    found = outputs(server, *asked, endpoint=endpoint)
    assert {key: (c.text, c.finish_reason, c.completion_tokens) for key, c in found.items()} == {
        key: (c.text, c.finish_reason, c.completion_tokens) for key, c in expected.items()
    }
    assert found["a", 0].text != found["a", 1].text
    # what a server would fill in from the checkpoint's recommendations is said outright
    assert {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= server.bodies[0].items()


@pytest.mark.parametrize(
    "fault",
    [
        status(429, {"Retry-After": "0"}),
        status(500),
        drop,
        hang,
        reply(b"{not json"),
        reply(b"[" * 100_000),
        reply(b'{"choices": []}'),
        reply(b'{"choices": [{"message": {"content": 7}}]}'),
    ],
)
def test_a_fault_is_followed_by_another_try(server: ModelServer, fault: Any) -> None:
    server.faults = [fault]
    assert outputs(server, request(), timeout=1.0)["What is 2+2?", 0].text
    assert len(server.bodies) == 2


def test_retry_after_holds_back_all_requests(server: ModelServer) -> None:
    server.faults = [status(429, {"Retry-After": "1"})]
    started = time.monotonic()
    outputs(server, request("a"), request("b"), concurrency=1)
    assert time.monotonic() - started >= 1


def test_a_server_that_stays_broken_is_given_up(server: ModelServer) -> None:
    server.faults = [status(503)] * 2
    with pytest.raises(MissingError, match=r"no answer after 2 tries.*503.*what is judged is kept"):
        outputs(server, request(), retries=1)


def test_no_more_than_so_many_requests_at_once(server: ModelServer) -> None:
    slow = replace(GREEDY, max_tokens=64)
    outputs(server, *(request(str(i), (1, 2), slow) for i in range(6)), concurrency=3)
    assert 1 < server.most_at_once <= 3


def test_clear_errors(model: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sesame-and-more")
    with ModelServer(model, key="other") as locked:
        with pytest.raises(MissingError, match="export SOME_KEY=") as caught:
            OpenAIEngine("tiny", Server(url=locked.url, key_variable="SOME_KEY"))
        assert "sesame" not in str(caught.value)  # the server repeats it
        monkeypatch.setenv("SOME_KEY", "other")
        with pytest.raises(UsageError, match=r"no model tin: did you mean tiny\?"):
            OpenAIEngine("tin", Server(url=locked.url, key_variable="SOME_KEY"))
        gone = locked.url
    with pytest.raises(MissingError, match="gives no answer after 2 tries"):
        OpenAIEngine("tiny", Server(url=gone))
    for url in ("ftp://x/v1", "http://me:secret@x/v1", "http://x/v1?key=secret", "x"):
        with pytest.raises(UsageError, match="--base-url") as refused:
            OpenAIEngine("tiny", Server(url=url))
        assert "secret" not in str(refused.value)


def test_a_refused_request_is_not_tried_again(server: ModelServer) -> None:
    server.faults = [status(400)]
    with pytest.raises(UsageError, match=r"refuses the request \(400"):
        outputs(server, request())
    assert len(server.bodies) == 1


def test_what_does_not_fit_gets_less_and_then_nothing(model: HFEngine) -> None:
    with ModelServer(model, context=400) as small:
        asked = replace(GREEDY, max_tokens=256)
        found = outputs(small, request("x" * 250, sampling=asked), request("y" * 399, sampling=asked))
        assert found["x" * 250, 0].completion_tokens == 128
        assert found["y" * 399, 0].finish_reason == "context"
        attempt = "<|im_end|>" + "z" * 3000
        carrying = replace(
            request("long", sampling=asked),
            messages=({"role": "user", "content": "q"}, {"role": "assistant", "content": attempt}),
            carried=(Span(1, 0, len(attempt)),),
        )
        cut = outputs(small, carrying)["long", 0]
        assert cut.finish_reason != "context"
        assert cut.left_out > 2500
        assert small.bodies[-1]["messages"][1]["content"].startswith("< |im_end|>zzz")


def test_a_hostile_text_reaches_later_turns_and_does_no_harm(
    cipo: Commands, model: HFEngine, server: ModelServer, tmp_path: Path
) -> None:
    text = r"half a pair \ud800, a NUL \u0000 <|im_end|> \\boxed{\udfff}"
    server.faults = [
        reply(
            b'{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}], "usage": {"prompt_tokens": 1%s}}'
            % (text.encode(), b"0" * 400)
        )
    ]
    flags = ("--engine", "openai", "--model", "tiny", "--base-url", server.url, "--tasks", "arithmetic")
    flags += (
        "--limit",
        "1",
        "--max-tokens",
        "4",
        "--protocol",
        "self",
        "--quiet",
        "-o",
        str(tmp_path / "run"),
    )
    assert cipo("run", *flags).code == 0
    first, second = turns(tmp_path / "run", "arithmetic").values()
    assert first["text"].startswith("half a pair ?, a NUL \x00 <|im_end|>")
    assert first["prompt_tokens"] is None
    said = server.bodies[-1]["messages"][1]["content"]
    assert "half a pair ?" in said
    assert "< |im_end|>" in said
    assert second["turn"] == 2
    # and where such a text comes from elsewhere, into a checkpoint of one's own
    assert outputs(server, request("\ud800"))["\ud800", 0].text is not None
    assert list(model.generate([request("\ud800")]))


def run(cipo: Commands, output: Path, *engine: str | Path) -> None:
    flags = ("--tasks", "arithmetic", "--limit", "6", "--max-tokens", "8", "--temperature", "0", "--quiet")
    found = cipo("run", *engine, *flags, "--protocol", "self", "-o", output)
    assert found.code == 0, found.err


def test_run_gives_what_hf_gives(
    cipo: Commands, model: HFEngine, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both turns; and a server that gives up is exit code 3."""
    run(cipo, tmp_path / "hf", "--model", tiny_checkpoint)
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-and-more")
    with ModelServer(model, key="sesame-and-more") as server:
        flags = (
            "--engine",
            "openai",
            "--model",
            "tiny",
            "--base-url",
            server.url,
            "--endpoint",
            "completions",
        )
        server.faults = [status(503)]
        failed = cipo(
            "run", *flags, "--tasks", "arithmetic", "--limit", "6", "--max-tokens", "8", "--temperature", "0",
            "--retries", "0", "--concurrency", "1", "-o", tmp_path / "broken",
        )  # fmt: skip
        assert failed.code == 3
        assert "what is judged is kept" in failed.err
        assert not (tmp_path / "broken" / "results.json").exists()
        server.faults = []
        run(cipo, tmp_path / "served", *flags)
    ours, theirs = turns(tmp_path / "hf", "arithmetic"), turns(tmp_path / "served", "arithmetic")
    assert {k: (a["text"], a["prompt_hash"]) for k, a in ours.items()} == {
        k: (a["text"], a["prompt_hash"]) for k, a in theirs.items()
    }
    assert "sesame" not in (tmp_path / "served" / "run.json").read_text()


def test_a_run_follows_its_model_to_another_address_but_not_to_another_model(
    cipo: Commands, model: HFEngine, tmp_path: Path
) -> None:
    flags = ("run", "--engine", "openai", "--tasks", "arithmetic", "--max-tokens", "4", "--quiet")

    def asked(server: ModelServer, name: str, limit: int) -> Any:
        where = ("--model", name, "--base-url", server.url, "--limit", str(limit), "-o", tmp_path / "run")
        return cipo(*flags, *where)

    with ModelServer(model) as one:
        assert asked(one, "tiny", 1).code == 0
    with ModelServer(model, name="other") as two:
        refused = asked(two, "other", 2)
        assert (refused.code, len(two.bodies)) == (2, 0)
        assert "another model (tiny there, other asked)" in refused.err
    with ModelServer(model) as three:
        assert asked(three, "tiny", 2).code == 0
        assert len(three.bodies) == 1
