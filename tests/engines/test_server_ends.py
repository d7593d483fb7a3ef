"""What a server may answer with: an answer, a withheld one, or none, which is tried again and then named."""

from __future__ import annotations

import contextlib
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from asking import GREEDY, SAMPLED, request
from model_server import (
    ANSWER,
    Handler,
    ModelServer,
    broken,
    choices,
    drop,
    ended,
    hang,
    prompt,
    reply,
    status,
)

from cipo_eval.engines import connections, retries
from cipo_eval.engines.feed import Feed
from cipo_eval.engines.openai import FAILED_IN_A_ROW, OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Failure, Request

Found = dict[tuple[str, int], Completion | Failure]

STOP = ["stop", "eos", "eos_token", "stop_sequence", "STOP", "end_turn"]
LENGTH = ["length", "max_tokens", "MAX_TOKENS", "model_length"]
FILTERED = ["content_filter", "SAFETY", "refusal"]
NONE: dict[Any, str] = {
    "error": "error",
    "abort": "abort",
    "tool_calls": "tool_calls",
    "function_call": "function_call",
    "never_heard_of": "never_heard_of",
    "a whole\nsentence": "unknown",
    7: "unknown",
    None: "missing",
}
"""Ends that are no answer, with the name that each gets."""


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.001)


def found(server: ModelServer, *requests: Request, notes: list[str] | None = None, **options: Any) -> Found:
    engine = OpenAIEngine("tiny", OpenAIOptions(base_url=server.url, **{"retries": 1, **options}))
    try:
        return {(r.problem.id, s): c for r, s, c in engine.generate(requests)}
    finally:
        if notes is not None:
            notes += engine.notes()
        engine.close()


def one(fault: Any, **options: Any) -> Completion | Failure:
    """What becomes of a sample whose every try meets this."""
    with ModelServer(rule=lambda body: fault if prompt(body) == "q" else None) as server:
        return found(server, request("q"), **options)["q", 0]


def why(fault: Any, **options: Any) -> str:
    said = one(fault, **options)
    assert isinstance(said, Failure), said
    return said.why


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("endpoint", ["chat", "completions"])
def test_every_end_is_an_answer_or_withheld_or_tried_again_and_named(endpoint: str, n: int) -> None:
    """The table of ``docs/engines.md``: each end under a prompt of its own."""
    expected: dict[Any, str] = {
        **dict.fromkeys(STOP, "stop"),
        **dict.fromkeys(LENGTH, "length"),
        **dict.fromkeys(FILTERED, "content_filter"),
        **NONE,
    }
    reasons = {str(reason): reason for reason in expected}
    with ModelServer(rule=lambda body: ended(reasons[prompt(body)])) as server:
        said = found(server, *(request(name, tuple(range(n))) for name in reasons), endpoint=endpoint)
    assert len(said) == n * len(expected)
    tries = Counter(prompt(body) for body in server.bodies)
    for name, reason in reasons.items():
        answered = reason not in NONE
        assert tries[name] == (n if answered else 2 * n), name
        for sample in range(n):
            completion = said[name, sample]
            if answered:
                assert isinstance(completion, Completion), name
                assert (completion.text, completion.finish_reason) == (ANSWER, expected[reason])
            else:
                assert completion == Failure(why=f"finish reason {NONE[reason]} (2 tries)")


def garbage(handler: Handler) -> None:
    """What is no HTTP."""
    handler.wfile.write(bytes(range(256)) * 20 + b"\r\n\r\n")
    handler.close_connection = True


def trickle(handler: Handler) -> None:
    """A body that comes byte by byte, and never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
    with contextlib.suppress(OSError):  # nobody listens any more
        for _ in range(60):
            handler.wfile.write(b" ")
            time.sleep(0.01)
    handler.close_connection = True


CHOICE = {"index": 0, "message": {"content": ANSWER}, "finish_reason": "stop"}
WHOLE = json.dumps({"choices": [CHOICE]}).encode()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (choices(), "the reply holds no completion"),
        (choices(CHOICE, {**CHOICE, "index": 1}), "several completions where one was asked for"),
        (choices({"finish_reason": "stop"}), "no text"),
        (choices({"message": {}, "finish_reason": "stop"}), "no text"),
        (choices({"message": {"content": 7}, "finish_reason": "stop"}), "not a text"),
        (ended(tool_calls=[{"function": {}}]), "finish reason tool_calls"),
        (ended(text=[{"type": "image_url"}]), "a part that is not a text"),  # type: ignore[arg-type]
        (reply(b'{"error": {"message": "sesame", "code": 502}}'), "an error in place of a completion (502)"),
        (
            reply(b'{"error": "sesame", "choices": [%s]}' % json.dumps(CHOICE).encode()),
            "an error in place of a completion",
        ),
        (
            reply(b'{"object": "error", "message": "sesame", "type": "server_error"}'),
            "completion (500 server_error)",
        ),
        (reply(b"<html><body>sesame</body></html>"), "the reply is not JSON"),
        (reply(b'data: {"choices": [{"delta": {"content": "sesame"}}]}\n\n'), "the reply is not JSON"),
        (reply(b"[]"), "the reply is not a JSON object"),
        (reply(b"x" * 4000), "more than 0 MiB"),
        (status(500), "status 500"),
        (status(429, {"Retry-After": "0"}, {"code": "insufficient_quota"}), "status 429 insufficient_quota"),
        (drop, "the connection broke"),
        (broken(b"Content-Length: 9999", WHOLE), "the connection broke"),
        (broken(b"Transfer-Encoding: chunked", b'8\r\n{"choice\r\n8\r\ns": '), "the connection broke"),
        (broken(b"Content-Encoding: gzip", WHOLE), "the connection broke"),
        (broken(b"Content-Encoding: gzip", gzip.compress(b" " * (1 << 24))), "more than 0 MiB"),
        (broken(b"\r\n".join([b"X: y"] * 100_000)), "the connection broke"),
        (broken(b"X: " + b"y" * 1_000_000), "the connection broke"),
        (broken(b"Content-Length: -3", WHOLE), "the connection broke"),
        (broken(b"Content-Length: 3\r\nContent-Length: 4", WHOLE), "the connection broke"),
        (broken(b"Transfer-Encoding: chunked", b"ffffffffffffffff\r\n{}"), "the connection broke"),
        (garbage, "the connection broke"),
        (hang, "no answer within 0.2 seconds"),
        (trickle, "no answer within 0.2 seconds"),
    ],
)
def test_a_reply_that_is_no_completion_is_a_failure_with_a_name(
    fault: Any, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_BYTES", 2000)
    said = why(fault, request_timeout=0.2 if fault in (hang, trickle) else 30.0)
    assert expected in said
    assert "sesame" not in said  # nothing of the single sample: failures are counted by this line
    assert "(2 tries)" in said


THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("message", "reason", "text"),
    [
        ({"content": ""}, "stop", ""),
        ({"content": None}, "stop", ""),
        ({"content": "4", "reasoning_content": "hm"}, "stop", "<think>\nhm\n</think>\n\n4"),
        ({"content": "4", "reasoning": "hm"}, "stop", "<think>\nhm\n</think>\n\n4"),
        ({"content": None, "reasoning_content": "hm"}, "stop", "<think>\nhm\n</think>\n\n"),
        ({"content": None, "reasoning_content": "hm"}, "length", "<think>\nhm"),
        ({"content": "", "reasoning": "hm"}, "length", "<think>\nhm"),
        ({"content": None, "refusal": "I will not"}, "stop", "I will not"),
        ({"content": [{"type": "text", "text": "it is "}, {"type": "text", "text": "4"}]}, "stop", "it is 4"),
        ({"content": ["it is ", {"type": "output_text", "text": "4"}]}, "stop", "it is 4"),
        ({"content": [THINKING, {"type": "text", "text": "4"}]}, "stop", "<think>\nhm\n</think>\n\n4"),
        ({"content": [{"type": "thinking", "thinking": "hm"}]}, "length", "<think>\nhm"),
        (
            {"content": [{"type": "reasoning", "text": "hm"}, {"type": "text", "text": "4"}]},
            "stop",
            "<think>\nhm\n</think>\n\n4",
        ),
        (
            {"content": [{"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "4"}]},
            "stop",
            "4",
        ),
        ({"content": None, "tool_calls": [], "function_call": None, "role": "assistant"}, "length", ""),
    ],
)
def test_a_text_may_come_in_parts_and_its_thoughts_apart(
    message: dict[str, Any], reason: str, text: str
) -> None:
    said = one(choices({"message": message, "finish_reason": reason}))
    assert isinstance(said, Completion)
    assert (said.text, said.finish_reason) == (text, reason)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (None, None)),
        ([3], (None, None)),
        ({"prompt_tokens": 3, "completion_tokens": 9}, (3, 9)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (None, None)),
        ({"prompt_tokens": -1, "completion_tokens": 10**9}, (None, None)),
        ({"prompt_tokens": 10**300, "completion_tokens": True}, (None, None)),
        ({"prompt_tokens": "3", "completion_tokens": 9.5}, (None, None)),
    ],
)
def test_counts_of_tokens_that_cannot_be_are_not_believed(usage: Any, expected: Any) -> None:
    said = one(choices(CHOICE, usage=usage))
    assert isinstance(said, Completion)
    assert (said.prompt_tokens, said.completion_tokens) == expected


@pytest.mark.parametrize("code", ["content_filter", "data_inspection_failed"])
def test_a_prompt_that_a_filter_stops_is_withheld_too(code: str) -> None:
    said = one(status(400, error={"code": code, "message": "no"}))
    assert isinstance(said, Completion)
    assert (said.text, said.finish_reason) == ("", "content_filter")


def test_thoughts_up_to_the_limit_are_a_truncated_answer() -> None:
    error = "Could not finish the message because max_tokens or model output limit was reached."
    said = one(status(400, error={"message": error}))
    assert isinstance(said, Completion)
    assert (said.text, said.finish_reason) == ("", "length")


# --- one request, or the server ---------------------------------------------------------------------------------------


def poisoned(*prompts: str, fault: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda body: fault if prompt(body) in prompts else None


@pytest.mark.parametrize("fault", [status(500), status(400), status(403), drop, ended("error")])
@pytest.mark.parametrize("concurrency", [1, 4])
def test_a_poisoned_prompt_costs_itself_only(fault: Any, concurrency: int) -> None:
    """Wherever it stands, and where it is all that is left to ask for."""
    for prompts in (["bad", *"abc"], [*"abc", "bad"], ["bad"]):
        with ModelServer(rule=poisoned("bad", fault=fault)) as server:
            said = found(server, *(request(p, (1, 2)) for p in prompts), concurrency=concurrency)
        failed = {key for key, completion in said.items() if isinstance(completion, Failure)}
        assert failed == {("bad", 0), ("bad", 1)}
        assert len(said) == 2 * len(prompts)


def test_many_poisoned_prompts_in_a_row_do_not_end_the_run_while_the_server_answers_others() -> None:
    bad = [f"bad{i}" for i in range(2 * FAILED_IN_A_ROW)]
    with ModelServer(rule=poisoned(*bad, fault=status(500))) as server:
        said = found(server, *map(request, bad), retries=0, concurrency=1)
    assert {c.why for c in said.values() if isinstance(c, Failure)} == {"status 500 (one try)"}
    assert len(said) == len(bad)
    assert [prompt(body) for body in server.bodies].count("Hello") == 2


def test_a_server_that_answers_nothing_any_more_ends_the_run() -> None:
    prompts = [str(i) for i in range(3 * FAILED_IN_A_ROW)]
    with ModelServer(rule=lambda _: status(503)) as server:
        few = found(server, *map(request, prompts[: FAILED_IN_A_ROW - 1]))
        assert {c.why for c in few.values() if isinstance(c, Failure)} == {"status 503 (2 tries)"}
        with pytest.raises(MissingError, match=r"gives no answer.*503.*what is judged is kept"):
            found(server, *map(request, prompts), concurrency=1, retries=0)
        assert len(server.bodies) < 3 * len(prompts)


def test_a_server_that_is_gone_ends_the_run_at_once() -> None:
    with ModelServer() as server:
        engine = OpenAIEngine("tiny", OpenAIOptions(base_url=server.url, retries=1))
    try:
        with pytest.raises(
            MissingError, match=r"gives no answer after 2 tries \(the server cannot be reached"
        ):
            list(engine.generate([request("q")]))
    finally:
        engine.close()


@pytest.mark.parametrize(("code", "error"), [(400, UsageError), (404, UsageError), (403, MissingError)])
def test_a_server_that_refuses_every_request_ends_the_run(code: int, error: type[Exception]) -> None:
    with ModelServer(rule=lambda _: status(code)) as server, pytest.raises(error, match=str(code)):
        found(server, request("q"))


# --- an interruption --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [status(503, {"Retry-After": "100"}), lambda _: time.sleep(8)])
def test_an_interruption_ends_waits_and_requests_at_once(fault: Any) -> None:
    """In the generator, as Ctrl-C is raised there; and where the engine is closed with the generator left open."""
    for interrupt in (True, False):
        with ModelServer(rule=lambda body: None if prompt(body) == "quick" else fault) as server:
            engine = OpenAIEngine("tiny", OpenAIOptions(base_url=server.url))
            feed = Feed([request("slow", (1, 2)), request("quick")])
            running = engine.generate(feed)
            next(running)
            started = time.monotonic()
            if interrupt:
                with pytest.raises(KeyboardInterrupt):
                    running.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
            engine.close()
            assert time.monotonic() - started < 2
            engine.close()


# --- what servers do not take -----------------------------------------------------------------------------------------


def refusing(*names: str, error: Callable[[str], Any]) -> Callable[[dict[str, Any]], Any]:
    """A server that refuses requests with one of these fields, in its own words."""

    def rule(body: dict[str, Any]) -> Any:
        wrong = next((name for name in names if name in body), None)
        return status(400, error=error(wrong)) if wrong else None

    return rule


WORDS: dict[str, Callable[[str], Any]] = {
    "openai": lambda n: {
        "message": f"Unsupported parameter: '{n}' is not supported with this model.",
        "param": n,
    },
    "gemini": lambda n: {"message": f'Invalid JSON payload received. Unknown name "{n}": Cannot find field.'},
    "mistral": lambda n: {"detail": [{"type": "extra_forbidden", "loc": ["body", n], "input": 1}]},
    "plain": lambda n: f"Unrecognized request argument supplied: {n}",
}


@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_a_refused_seed_and_neutral_values_are_left_out_and_noted(words: Callable[[str], Any]) -> None:
    notes: list[str] = []
    with ModelServer(rule=refusing("seed", "top_p", "repetition_penalty", error=words)) as server:
        said = found(server, request("a", (1, 2)), request("b"), notes=notes, concurrency=1)
    assert {type(c) for c in said.values()} == {Completion}
    assert len(server.bodies) == 3 + 3  # what was learnt from the first is not asked again
    assert len(notes) == 3
    assert any("refuses seed: samples are drawn without one" in note for note in notes)
    assert any("refuses top_p: left out, since 1.0 changes nothing" in note for note in notes)


def test_temperature_and_top_p_together() -> None:
    def rule(body: dict[str, Any]) -> Any:
        both = "`temperature` and `top_p` cannot both be specified for this model. Please use only one."
        return status(400, error={"message": both}) if {"temperature", "top_p"} <= body.keys() else None

    with ModelServer(rule=rule) as server:
        assert isinstance(found(server, request("greedy"))["greedy", 0], Completion)
        assert server.bodies[-1]["temperature"] == 0
        with pytest.raises(UsageError, match=r"--top-p \(0.95\) and --temperature \(0.6\)"):
            found(server, request("q", sampling=replace(SAMPLED, temperature=0.6)))
        found(server, request("q", sampling=replace(SAMPLED, temperature=0.6, top_p=1.0)))
        assert server.bodies[-1]["temperature"] == 0.6


@pytest.mark.parametrize(
    ("name", "values", "flag"),
    [
        ("temperature", {"temperature": 0.5}, r"--temperature \(0.5\)"),
        ("top_p", {"temperature": 0.5, "top_p": 0.9}, r"--top-p \(0.9\)"),
        ("stop", {"stop": ("\n",)}, "--stop"),
        ("min_p", {"temperature": 0.5, "min_p": 0.1}, r"--min-p \(0.1\)"),
        ("top_k", {"temperature": 0.5, "top_k": 7}, r"--top-k \(7\)"),
    ],
)
def test_what_changes_sampling_is_an_error_that_names_the_flag(
    name: str, values: dict[str, Any], flag: str
) -> None:
    """Also where a neutral value of it was left out before."""
    with ModelServer(rule=refusing(name, error=WORDS["openai"]), owner="someone") as server:
        with pytest.raises(UsageError, match=flag):
            found(server, request("q", sampling=replace(SAMPLED, **values)))
        first = request("a", sampling=replace(SAMPLED, temperature=1.0, top_p=1.0))
        with pytest.raises(UsageError, match=flag):
            found(server, first, request("q", sampling=replace(SAMPLED, **values)), concurrency=1)


def test_a_reasoning_model_of_openai_s() -> None:
    """``max_completion_tokens``, no stop, temperature 1 only."""

    def rule(body: dict[str, Any]) -> Any:
        if "max_tokens" in body:
            return status(
                400, error=WORDS["openai"]("max_tokens")["message"] + " Use 'max_completion_tokens' instead."
            )
        if "temperature" in body:
            return status(400, error=WORDS["openai"]("temperature"))
        return None

    notes: list[str] = []
    with ModelServer(rule=rule, owner="system") as server:
        asked = request("q", sampling=replace(SAMPLED, temperature=1.0, top_p=1.0))
        assert isinstance(found(server, asked, notes=notes)["q", 0], Completion)
        assert server.bodies[-1]["max_completion_tokens"] == asked.sampling.max_tokens
        with pytest.raises(UsageError, match="--temperature"):
            found(server, request("q", sampling=GREEDY))
    assert len(notes) == 2


@pytest.mark.parametrize("prompts", [("a", "bad", "b"), ("bad", "a", "b")])
def test_a_refusal_that_repeats_the_request_teaches_nothing(prompts: tuple[str, ...]) -> None:
    """Whether something was answered before it or not: a plain request tells what the server does not take."""
    notes: list[str] = []

    def rule(body: dict[str, Any]) -> Any:
        return status(400, error=f"no: {json.dumps(body)}") if prompt(body) == "bad" else None

    with ModelServer(rule=rule) as server:
        said = found(server, *map(request, prompts), concurrency=1, notes=notes)
    assert {name: type(said[name, 0]) for name in prompts} == {
        "a": Completion,
        "bad": Failure,
        "b": Completion,
    }
    assert notes == []
