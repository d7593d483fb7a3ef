"""The openai engine against a server on loopback: the model's own texts, whatever the server does meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import request as asked
from commands import Commands, results, turns
from model_server import ModelServer, drop, ended, hang, prompt, reply, status

from cipo_eval.engines.adaptations import Adaptations
from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.keys import check_key_variable
from cipo_eval.engines.openai import OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
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
    engine = OpenAIEngine("tiny", OpenAIOptions(base_url=where.url, **options))
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
    assert outputs(server, request(), request_timeout=1.0)["What is 2+2?", 0].text
    assert len(server.bodies) == 2


def test_retry_after_holds_back_all_requests(server: ModelServer) -> None:
    server.faults = [status(429, {"Retry-After": "1"})]
    started = time.monotonic()
    outputs(server, request("a"), request("b"), concurrency=1)
    assert time.monotonic() - started >= 1


def test_no_more_than_so_many_requests_at_once(server: ModelServer) -> None:
    slow = replace(GREEDY, max_tokens=64)
    outputs(server, *(request(str(i), (1, 2), slow) for i in range(6)), concurrency=3)
    assert 1 < server.most_at_once <= 3


def test_clear_errors(model: HFEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sesame-and-more")
    with ModelServer(model, key="other") as locked:
        with pytest.raises(MissingError, match="export SOME_KEY=") as caught:
            OpenAIEngine("tiny", OpenAIOptions(base_url=locked.url, api_key_env="SOME_KEY"))
        assert "sesame" not in str(caught.value)  # the server repeats it
        monkeypatch.setenv("SOME_KEY", "other")
        with pytest.raises(UsageError, match=r"no model tin: did you mean tiny\?"):
            OpenAIEngine("tin", OpenAIOptions(base_url=locked.url, api_key_env="SOME_KEY"))
        gone = locked.url
    with pytest.raises(MissingError, match="gives no answer after 2 tries"):
        OpenAIEngine("tiny", OpenAIOptions(base_url=gone))
    for url in ("ftp://x/v1", "http://me:secret@x/v1", "http://x/v1?key=secret", "x"):
        with pytest.raises(UsageError, match="--base-url") as refused:
            OpenAIEngine("tiny", OpenAIOptions(base_url=url))
        assert "secret" not in str(refused.value)


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
    """Both turns; and a server that is gone is exit code 3."""
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
        run(cipo, tmp_path / "served", *flags)
    ours, theirs = turns(tmp_path / "hf", "arithmetic"), turns(tmp_path / "served", "arithmetic")
    said = ("text", "finish_reason", "prompt_tokens", "completion_tokens")
    assert {k: [a[name] for name in said] for k, a in ours.items()} == {
        k: [a[name] for name in said] for k, a in theirs.items()
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


def test_what_a_server_did_not_give_is_named_and_asked_for_again(cipo: Commands, tmp_path: Path) -> None:
    """Each end becomes what the table says: a verdict, a state, or a failure that the next start mends."""
    seen: dict[str, int] = {}
    ends = ["stop", "length", "content_filter", "error", None, "tool_calls", "abort"]

    def rule(body: dict[str, Any]) -> Any:
        return ended(ends[seen.setdefault(prompt(body), len(seen)) % len(ends)])

    def run(server: ModelServer, folder: str) -> Any:
        flags = ("--engine", "openai", "--model", "tiny", "--tasks", "arithmetic", "--limit", "14")
        flags += ("--retries", "1", "--quiet", "--base-url", server.url)
        return cipo("run", *flags, "-o", tmp_path / folder)

    with ModelServer(rule=rule) as server:
        disturbed = run(server, "run")
    assert disturbed.code == 1
    for reason in ("error", "missing", "tool_calls", "abort"):
        assert f"2 sample(s) could not be had: finish reason {reason} (2 tries)" in disturbed.err
    assert "2 attempt(s): filtered" in disturbed.err
    stored = turns(tmp_path / "run", "arithmetic")
    assert Counter(row["finish_reason"] for row in stored.values()) == {
        "stop": 2,
        "length": 2,
        "content_filter": 2,
    }
    assert {row["verdicts"]["fixed"]["state"] for row in stored.values()} >= {"filtered"}
    answering = {k: v for k, v in seen.items() if ends[v % len(ends)] in ("length", "content_filter")}
    with ModelServer(rule=lambda body: ended(ends[answering.get(prompt(body), 0) % len(ends)])) as server:
        again = run(server, "run")
        asked_again = len(server.bodies)
        undisturbed = run(server, "other")
    assert asked_again == 8
    assert "finish reason" not in again.err
    assert again.code == undisturbed.code == 1  # two are withheld, for good
    assert turns(tmp_path / "run", "arithmetic") == turns(tmp_path / "other", "arithmetic")
    assert results(tmp_path / "run") == results(tmp_path / "other")


def test_a_refusal_that_comes_after_another_request_was_mended_mends_its_own() -> None:
    """Both were sent with a seed; the first one was answered without it before the second was refused."""
    made, text = Adaptations(), '{"detail": [{"loc": ["body", "seed"]}]}'
    first, second = ({"model": "m", "seed": seed, "temperature": 1.0} for seed in (1, 2))
    without = made.after_refusal(first, text)
    assert without == {"model": "m", "temperature": 1.0}
    made.answered(without, first)
    assert made.after_refusal(second, text) == without
    assert made.after_refusal(without, text) is None  # it was answered as it is: this is about something else


def test_what_a_server_does_not_take_is_in_run_json(cipo: Commands, tmp_path: Path) -> None:
    def rule(body: dict[str, Any]) -> Any:
        return status(422, error={"detail": [{"loc": ["body", "seed"]}]}) if "seed" in body else None

    with ModelServer(rule=rule) as server:
        flags = ("--engine", "openai", "--model", "tiny", "--tasks", "arithmetic", "--limit", "2")
        done = cipo("run", *flags, "--base-url", server.url, "--quiet", "-o", tmp_path / "run")
    assert done.code == 0, done.err
    assert "warning: the server refuses seed" in done.err
    assert "the server refuses seed" in (tmp_path / "run" / "run.json").read_text()


@pytest.mark.parametrize(
    "key",
    [
        "sk-proj-4f9aB7sesame",
        "sk_live_sesame0123",
        "hf_abcdefghijSESAME",
        "gsk_sesame",
        "AIzaSysesame",
        "a8Kd93jfQ02xZp71sesame",
        "0123456789abcdef0123456789sesame",
        "two words sesame",
        "",
    ],
)
def test_a_key_in_place_of_its_variable_s_name_is_refused_and_not_repeated(
    cipo: Commands, tmp_path: Path, key: str
) -> None:
    flags = (
        "--engine",
        "openai",
        "--model",
        "tiny",
        "--tasks",
        "arithmetic",
        "--base-url",
        "http://127.0.0.1:9/v1",
    )
    refused = cipo("run", *flags, "--api-key-env", key, "-o", tmp_path / "run")
    assert refused.code == 2
    assert "looks like a key" in refused.err
    assert "sesame" not in (refused.err + refused.out).lower()
    assert not (tmp_path / "run").exists()
    with pytest.raises(UsageError, match="looks like a key"):
        OpenAIEngine("tiny", OpenAIOptions(base_url="http://127.0.0.1:9/v1", api_key_env=key))


@pytest.mark.parametrize(
    "name", ["OPENAI_API_KEY", "MY_KEY_2", "together_api_key", "AZURE_OPENAI_API_KEY_EU_WEST1"]
)
def test_names_of_variables_are_names_whether_set_or_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_key_variable(name)
    monkeypatch.setenv("sk_1a2B3c4D5e6F7g", "x")
    check_key_variable("sk_1a2B3c4D5e6F7g")


def test_a_key_that_no_header_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("ses\name", "sésame", "ses ame"):
        monkeypatch.setenv("SOME_KEY", key)
        with pytest.raises(MissingError, match="the key in SOME_KEY") as caught:
            OpenAIEngine("tiny", OpenAIOptions(base_url="http://127.0.0.1:9/v1", api_key_env="SOME_KEY"))
        assert key not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "number"),
    [
        (status(503, {"Retry-After": "100"}), signal.SIGINT),
        pytest.param(lambda _: time.sleep(30), signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param(status(503, {"Retry-After": "100"}), signal.SIGTERM, marks=pytest.mark.exhaustive),
        pytest.param(lambda _: time.sleep(30), signal.SIGINT, marks=pytest.mark.exhaustive),
    ],
)
def test_a_signal_ends_a_run_that_waits_for_its_server(
    cipo: Commands, tmp_path: Path, fault: Any, number: signal.Signals
) -> None:
    """Within seconds, in a wait between two tries and in a request; what was judged is kept, the rest asked again."""
    first: list[str] = []

    def rule(body: dict[str, Any]) -> Any:
        first.append(prompt(body))
        return None if prompt(body) == first[0] else fault

    flags = ("run", "--engine", "openai", "--model", "tiny", "--tasks", "arithmetic", "--limit", "4")
    flags += ("-o", str(tmp_path / "run"), "--base-url")
    stored = tmp_path / "run" / "attempts" / "arithmetic.jsonl"
    with ModelServer(rule=rule) as server:
        process = subprocess.Popen(
            [sys.executable, "-m", "cipo_eval", *flags, server.url],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
        )
        # The first refusal can come before the other questions are asked: then they wait with it.
        while not (len(server.bodies) >= 2 and stored.exists() and stored.read_bytes().endswith(b"\n")):
            assert process.poll() is None, process.communicate()[1]
            time.sleep(0.02)
        started = time.monotonic()
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        took = time.monotonic() - started
        assert took < 10, took  # 5 on a machine that has nothing else to do
    assert process.returncode == 128 + number, said
    assert b"cipo_eval/engines" not in said
    assert b"Task was destroyed" not in said
    assert len(turns(tmp_path / "run", "arithmetic")) == 1
    with ModelServer() as server:
        assert cipo(*flags, server.url, "--quiet").code == 0
        assert len(server.bodies) == 3
