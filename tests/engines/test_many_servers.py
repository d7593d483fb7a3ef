"""Several servers of one model on loopback: what comes back is the same whichever answered, whatever they do."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import SAMPLED, request
from commands import Commands, results, turns
from fast_server import FastServer, text_of
from model_server import ModelServer, drop, ended, prompt, reply, status

from cipo_eval.engines import retries
from cipo_eval.engines.feed import Feed
from cipo_eval.engines.openai import OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Completion, Failure, Request

Found = dict[tuple[str, int], Completion | Failure]


@pytest.fixture
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)


def engine_of(*servers: ModelServer | FastServer | str, **options: Any) -> OpenAIEngine:
    urls = [server if isinstance(server, str) else server.url for server in servers]
    return OpenAIEngine("tiny", OpenAIOptions(base_url=urls, **options))  # type: ignore[arg-type]


def found(engine: OpenAIEngine, *requests: Request) -> Found:
    answers = [((r.problem.id, s), c) for r, s, c in engine.generate(requests)]
    assert len(dict(answers)) == len(answers)  # none twice
    return dict(answers)


def all_of(*servers: ModelServer | FastServer | str, requests: list[Request], **options: Any) -> Found:
    engine = engine_of(*servers, **options)
    try:
        return found(engine, *requests)
    finally:
        engine.close()


def answered(said: Found) -> bool:
    return all(isinstance(completion, Completion) for completion in said.values())


def pause(seconds: float) -> Any:
    def rule(handler: Any) -> None:
        time.sleep(seconds)
        ended()(handler)

    return rule


MANY = [request(str(i)) for i in range(24)]


def test_servers_share_the_load_and_a_slow_one_gets_less() -> None:
    with ModelServer(rule=lambda _: pause(0.01)) as quick, ModelServer(rule=lambda _: pause(0.3)) as slow:
        assert answered(all_of(quick, slow, requests=MANY, concurrency=6))
        assert slow.most_at_once <= 4
        assert quick.most_at_once <= 4
        assert len(quick.bodies) > 2 * len(slow.bodies) > 0


def test_both_turns_of_a_conversation_go_to_one_server() -> None:
    with ModelServer(rule=lambda _: pause(0.01)) as a, ModelServer(rule=lambda _: pause(0.01)) as b:
        engine = engine_of(a, b, concurrency=4)
        try:
            feed = Feed(MANY)
            for r, _, completion in engine.generate(feed):
                if r.turn == 1:
                    text = getattr(completion, "text", "")
                    messages = (*r.messages, {"role": "assistant", "content": text})
                    feed.add([replace(r, turn=2, messages=(*messages, {"role": "user", "content": "Sure?"}))])
                feed.done()
        finally:
            engine.close()
        said = [{body["messages"][0]["content"]: len(body["messages"]) for body in s.bodies} for s in (a, b)]
        places = [Counter(body["messages"][0]["content"] for body in server.bodies) for server in (a, b)]
        together = sum(count == 2 for place in places for count in place.values())
        assert sum(map(len, said)) >= len(MANY)
        assert together > 0.8 * len(MANY)  # a server that had its share already is spared
        assert min(len(server.bodies) for server in (a, b)) > len(MANY) // 2


@pytest.mark.usefixtures("short_waits")
def test_one_dies_in_the_middle_and_comes_back() -> None:
    dead = threading.Event()
    with (
        ModelServer(rule=lambda _: pause(0.02)) as a,
        ModelServer(rule=lambda _: drop if dead.is_set() else pause(0.02)) as b,
    ):
        engine = engine_of(a, b, concurrency=4)
        counts: list[int] = []
        try:
            for number, (_, _, completion) in enumerate(
                engine.generate([request(str(i)) for i in range(120)])
            ):
                assert isinstance(completion, Completion)
                if number == 20:
                    dead.set()
                if number == 60:
                    counts.append(len(b.bodies))
                    dead.clear()
        finally:
            engine.close()
        assert len(b.bodies) - counts[0] > 5  # it has a share again
        [note] = engine.notes()
        assert (
            note == f"{b.url} was left for a time (the connection broke); the other servers got its requests"
        )


@pytest.mark.usefixtures("short_waits")
@pytest.mark.parametrize("fault", [status(500), status(401), status(404), status(307, {"Location": "http://10.0.0.9/"}),
                                   reply(b"{half"), drop])  # fmt: skip
def test_a_server_that_gives_nothing_costs_nothing(fault: Any) -> None:
    """Whatever it says is not held against a request while others answer; and its trials are few."""
    with ModelServer() as good, ModelServer(rule=lambda _: fault) as bad:
        assert answered(all_of(good, bad, requests=MANY, concurrency=4))
        assert len(good.bodies) >= len(MANY)
        assert len(bad.bodies) < len(MANY)


@pytest.mark.usefixtures("short_waits")
def test_a_dead_server_at_the_start_is_noted_and_one_that_lacks_the_model_is_refused() -> None:
    with ModelServer() as gone:
        dead = gone.url
    with ModelServer() as a, ModelServer(name="other") as other:
        engine = engine_of(dead, a)
        try:
            assert answered(found(engine, request("q")))
            assert any(f"{dead} was left for a time" in note for note in engine.notes())
        finally:
            engine.close()
        with pytest.raises(UsageError, match=rf"{other.url} has no model tiny"):
            engine_of(a, other)
    with pytest.raises(MissingError, match=r"gives no answer after 2 tries.*, nor does the other server"):
        engine_of(dead, dead.replace("127.0.0.1", "127.0.0.2"))


def test_retry_after_holds_back_its_server_only() -> None:
    with ModelServer() as a, ModelServer() as b:
        a.faults = [status(429, {"Retry-After": "86400"})]
        engine = engine_of(a, b, concurrency=1)
        started = time.monotonic()
        try:
            assert answered(found(engine, *MANY))
            assert time.monotonic() - started < 30
            assert len(a.bodies) == 1
            assert engine.notes() == [
                f"{a.url} asked for pauses of more than 120 seconds (Retry-After); it was asked again after 120"
            ]
        finally:
            engine.close()


@pytest.mark.usefixtures("short_waits")
def test_a_key_goes_to_named_servers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame-and-more")
    reached: list[str] = []
    with ModelServer(rule=lambda body: reached.append(prompt(body))) as elsewhere:
        moved = status(307, {"Location": elsewhere.url + "/chat/completions", "Set-Cookie": "a=b"})
        with (
            ModelServer(key="sesame-and-more", rule=lambda _: moved) as server,
            pytest.raises(UsageError, match="307"),
        ):
            all_of(server, requests=[request("q")], retries=0)
    assert reached == []


def test_servers_that_differ_are_named() -> None:
    def builds(name: str) -> Any:
        choice = {"message": {"content": "4"}, "finish_reason": "stop"}
        return reply(json.dumps({"choices": [choice], "system_fingerprint": name}).encode())

    with ModelServer(rule=lambda _: builds("fp_1")) as a, ModelServer(rule=lambda _: builds("fp_2")) as b:
        engine = engine_of(a, b, concurrency=1)
        try:
            found(engine, *MANY)
            [note] = engine.notes()
        finally:
            engine.close()
    assert "fp_1" in note
    assert "fp_2" in note


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({"max_model_len": 8192}, {"max_model_len": 4096}, "max_model_len: "),
        ({"root": "/models/step-100"}, {"root": "/models/step-200"}, "root: "),
        ({"meta": {"n_params": 7}}, {"meta": {"n_params": 8}, "root": "x"}, "n_params: "),
    ],
)
def test_servers_of_different_models_are_refused(
    one: dict[str, Any], other: dict[str, Any], said: str
) -> None:
    with ModelServer(told=one) as a, ModelServer() as silent, ModelServer(told=other) as b:
        engine_of(a, silent).close()
        with pytest.raises(UsageError, match="serve different models as tiny") as refused:
            engine_of(a, silent, b)
    assert all(part in str(refused.value) for part in (a.url, b.url, said))


def test_one_model_in_different_folders_is_one() -> None:
    with ModelServer(told={"root": "org/model"}) as a, ModelServer(told={"root": "/mnt/model/"}) as b:
        engine = engine_of(a, b)
        try:
            assert answered(found(engine, *MANY[:4]))
            assert any("differ in root of the model" in note for note in engine.notes())
        finally:
            engine.close()


@pytest.mark.usefixtures("short_waits")
def test_a_server_that_comes_back_with_another_model_is_left() -> None:
    dead = threading.Event()
    with (
        ModelServer(told={"max_model_len": 64}, rule=lambda _: pause(0.02)) as a,
        ModelServer(told={"max_model_len": 64}, rule=lambda _: drop if dead.is_set() else pause(0.02)) as b,
    ):
        engine = engine_of(a, b, concurrency=4)
        try:
            answers = engine.generate([request(str(i)) for i in range(60)])
            for number, (_, _, completion) in enumerate(answers):
                assert isinstance(completion, Completion)
                if number == 5:
                    dead.set()
                    b.told["max_model_len"] = 32
                if number == 20:
                    before = len(b.bodies)
                    dead.clear()
        finally:
            engine.close()
        assert len(b.bodies) == before


def test_a_list_of_servers_that_changes_under_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_eval.engines import fleet

    monkeypatch.setattr(fleet, "LOOK_SECONDS", 0.05)
    file = tmp_path / "servers"
    with ModelServer(rule=lambda _: pause(0.01)) as a, ModelServer(rule=lambda _: pause(0.01)) as b:
        file.write_text(f"{a.url}\n")
        engine = engine_of(f"@{file}", concurrency=2)
        before = 0
        try:
            answers = engine.generate([request(str(i)) for i in range(200)])
            for number, (_, _, completion) in enumerate(answers):
                assert isinstance(completion, Completion)
                if number == 3:
                    file.write_text(f"{b.url}\n")
                if number == 120:
                    before = len(a.bodies)
        finally:
            engine.close()
        assert len(b.bodies) > 20
        assert len(a.bodies) == before


def test_a_name_with_several_addresses_is_as_many_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    from cipo_eval.engines import addresses

    async def both(_: str) -> list[str]:
        return ["127.0.0.1", "127.0.0.2"]

    monkeypatch.setattr(addresses, "_addresses", both)
    with ModelServer() as server:  # listens on the first one only
        port = server.url.rsplit(":", 1)[1].removesuffix("/v1")
        engine = engine_of(f"http://workers.test:{port}/v1")
        try:
            assert answered(found(engine, *MANY[:4]))
            [note] = engine.notes()
        finally:
            engine.close()
    assert note.startswith(f"http://workers.test:{port}/v1 (127.0.0.2) was left")


# --- n samples in one request ----------------------------------------------------------------------------------------


SEEDS = (5, 105, 205, 305)


def test_samples_of_a_prompt_may_come_in_one_request() -> None:
    def rule(body: dict[str, Any]) -> Any:
        order = reversed(range(body.get("n", 1)))
        said = [
            {"index": i, "message": {"content": f"{body['seed'] + i}"}, "finish_reason": "stop"}
            for i in order
        ]
        if body["seed"] == 7:
            said[0]["finish_reason"] = "abort"  # the last of them
        return reply(
            json.dumps({"choices": said, "usage": {"prompt_tokens": 3, "completion_tokens": 20}}).encode()
        )

    with ModelServer(rule=rule) as server:
        said = all_of(server, requests=[request("q", SEEDS), request("r", (7, 8, 9))], samples_per_request=3)
        sizes = sorted(body.get("n", 1) for body in server.bodies)
    texts = {key: getattr(completion, "text", None) for key, completion in said.items()}
    assert texts == {("q", 0): "5", ("q", 1): "6", ("q", 2): "7", ("q", 3): "305",
                     ("r", 0): "7", ("r", 1): "8", ("r", 2): "9"}  # fmt: skip
    assert sizes == [1, 1, 3, 3]  # what was no answer is asked for alone, with its own seed
    assert {getattr(c, "completion_tokens", 0) for c in said.values()} == {None, 20}


@pytest.mark.parametrize("refuses", [True, False])
def test_a_server_that_knows_no_n_is_asked_for_one_after_the_other(refuses: bool) -> None:
    def rule(body: dict[str, Any]) -> Any:
        if refuses and "n" in body:
            return status(400, error="n must be 1")
        return ended(text=str(body["seed"]))

    with ModelServer(rule=rule) as server:
        said = all_of(
            server, requests=[request("q", SEEDS), request("r", SEEDS)], samples_per_request=4, concurrency=1
        )
    assert {key: getattr(c, "text", None) for key, c in said.items()} == {
        (name, i): str(seed) for name in "qr" for i, seed in enumerate(SEEDS)
    }


@pytest.mark.usefixtures("short_waits")
def test_another_number_than_was_asked_for_is_no_answer() -> None:
    choice = {"message": {"content": "4"}, "finish_reason": "stop"}
    for indices in ((0, 1), (0, 0, 1), (1, 2, 3), (0, 1, "2"), (0, True, 2)):
        wrong = reply(json.dumps({"choices": [{**choice, "index": i} for i in indices]}).encode())
        with ModelServer(rule=lambda _, wrong=wrong: wrong) as server:  # type: ignore[misc]
            said = all_of(server, requests=[request("q", (1, 2, 3))], samples_per_request=3, retries=0)
        assert {c.why for c in said.values() if isinstance(c, Failure)} == {
            "the reply holds another number of completions than was asked for (one try)"
        }


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_run_is_the_same_whichever_servers_answered_and_goes_on_with_others(
    cipo: Commands, tmp_path: Path
) -> None:
    def rule(body: dict[str, Any]) -> Any:
        return ended(text=f"\\boxed{{{body['seed'] % 7}}}")

    def run(folder: str, limit: int, *servers: ModelServer) -> Any:
        flags = [
            "--engine",
            "openai",
            "--model",
            "tiny",
            "--tasks",
            "arithmetic",
            "--samples",
            "2",
            "--quiet",
        ]
        flags += [part for server in servers for part in ("--base-url", server.url)]
        return cipo("run", *flags, "--limit", str(limit), "--protocol", "self", "-o", tmp_path / folder)

    with ModelServer(rule=rule) as a, ModelServer(rule=rule) as b, ModelServer(rule=rule) as c:
        assert run("one", 6, a).code == 0
        assert run("many", 3, a, b).code == 0
        assert run("many", 6, b, c).code == 0
        assert c.bodies

    def stable(folder: str) -> Any:
        kept = ("text", "seed", "prompt_hash", "verdicts", "finish_reason")
        return {
            key: {name: row[name] for name in kept}
            for key, row in turns(tmp_path / folder, "arithmetic").items()
        }

    assert _untimed(stable("one")) == _untimed(stable("many"))
    one, many = results(tmp_path / "one"), results(tmp_path / "many")
    assert one["tasks"] == many["tasks"]
    assert json.loads((tmp_path / "many" / "run.json").read_text())["engine"]["server"] == [b.url, c.url]


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if key != "seconds"}
    return value


# --- nothing stays behind --------------------------------------------------------------------------------------------


def _sockets() -> int:
    found = 0
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the look itself
            found += str(entry.readlink()).startswith("socket:")
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="looks into /proc")
def test_close_leaves_no_thread_and_no_socket() -> None:
    with FastServer(delay=0.05) as a, FastServer(delay=60) as b:
        threads, sockets = threading.active_count(), _sockets()
        engine = engine_of(a, b, concurrency=8)
        running = engine.generate(MANY)
        next(running)
        assert threading.active_count() > threads
        assert _sockets() > sockets
        engine.close()
        assert (threading.active_count(), _sockets()) == (threads, sockets)


# --- soak ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[tuple[FastServer, FastServer, FastServer]]:
    """One that will be killed, one that is slow, one that lies."""
    with (
        FastServer(delay=0.01) as killed,
        FastServer(delay=0.2) as slow,
        FastServer(delay=0.01, lies=0.5) as liar,
    ):
        yield killed, slow, liar


def soak(
    three: tuple[FastServer, FastServer, FastServer], total: int, alive: float, away: float
) -> Counter[str]:
    """So many requests while the first server is killed and started again and again: each has its own text, once."""
    killed, stop, kills = three[0], threading.Event(), 0

    def kill() -> None:
        nonlocal kills
        while not stop.wait(alive):
            killed.kill()
            kills += 1
            stop.wait(away)
            killed.start()

    killer = threading.Thread(target=kill)
    engine = engine_of(*three, concurrency=64, request_timeout=30)
    seen: set[tuple[str, int]] = set()
    counts: Counter[str] = Counter()
    killer.start()
    try:
        requests = [
            request(f"problem {i}", tuple(range(4 * i, 4 * i + 4)), SAMPLED) for i in range(total // 4)
        ]
        for asked, sample, completion in engine.generate(requests):
            assert (asked.problem.id, sample) not in seen
            seen.add((asked.problem.id, sample))
            assert isinstance(completion, Completion), completion
            assert completion.text == text_of(asked.problem.id, asked.seeds[sample])
    finally:
        stop.set()
        engine.close()
        killer.join()
    assert len(seen) == total
    counts.update(requests=total, kills=kills, notes=len(engine.notes()))
    return counts


@pytest.mark.slow
def test_a_thousand_requests_of_servers_that_die_dawdle_and_lie(
    three: tuple[FastServer, FastServer, FastServer],
) -> None:
    counts = soak(three, 1000, 0.4, 0.4)
    assert counts["kills"]


@pytest.mark.exhaustive
def test_twenty_thousand_requests_of_servers_that_die_dawdle_and_lie(
    three: tuple[FastServer, FastServer, FastServer],
) -> None:
    started = time.monotonic()
    counts = soak(three, 20_000, 3.0, 2.0)
    print(dict(counts), f"{time.monotonic() - started:.0f} s")
    assert counts["kills"] >= 3
