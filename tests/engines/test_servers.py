"""Balance, health and pauses of several servers, with a clock that the tests set; and the lists that servers come
from."""

from __future__ import annotations

import asyncio
import math
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cipo_eval.engines import addresses, retries
from cipo_eval.engines.addresses import Addresses
from cipo_eval.engines.connections import seconds_of
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.engines.servers import FAILURES_IN_A_ROW, SHARE, STEADY, Server, Servers, Target
from cipo_eval.errors import MissingError, UsageError


class Clock:
    """Stands still until it is set."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def made(n: int) -> tuple[Servers, Clock, list[Server]]:
    clock = Clock()
    servers = Servers([Target(f"http://{i}/v1") for i in range(n)], clock)
    return servers, clock, list(servers)


def leave(servers: Servers, server: Server) -> None:
    servers.failed(server, "gone", unreachable=True)


# --- balance ----------------------------------------------------------------------------------------------------------


@given(st.integers(1, 6), st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=80))
def test_the_server_with_the_fewest_requests_gets_the_next(n: int, moves: list[tuple[int, int]]) -> None:
    """Whatever comes back when: without conversations the choice is always one of the least loaded."""
    servers, _, every = made(n)
    for back, number in moves:
        least = min(server.under_way for server in every)
        server = servers.choose()
        assert server is not None
        assert server.under_way == least + 1
        if back and every[number % n].under_way:
            servers.release(every[number % n])
    assert all(server.under_way >= 0 for server in every)


@given(st.integers(2, 6), st.lists(st.integers(0, 30), min_size=1, max_size=200))
def test_a_conversation_goes_to_its_server_and_never_starves_the_others(n: int, asked: list[int]) -> None:
    servers, _, every = made(n)
    for conversation in asked:
        home = servers._homes.get(conversation)
        share = math.ceil(SHARE * (sum(s.under_way for s in every) + 1) / n)
        room = home is not None and home.under_way < share
        server = servers.choose(conversation)
        assert server is not None
        if room:
            assert server is home
        assert server.under_way <= max(share, min(s.under_way for s in every) + 1)
        servers.answered(server, conversation)


def test_what_failed_somewhere_is_asked_elsewhere_where_there_is_another() -> None:
    servers, _, (a, b) = made(2)
    assert servers.choose(avoid=[a]) is b
    assert servers.another([a])
    assert not servers.another([a, b])
    assert servers.choose(avoid=[a, b]) in (a, b)


# --- health -----------------------------------------------------------------------------------------------------------


def test_a_dead_server_is_left_tried_once_and_comes_back() -> None:
    servers, clock, (a, b) = made(2)
    leave(servers, a)
    assert all(servers.choose() is b for _ in range(50))
    assert servers.trials() == []  # not yet
    clock.now += retries.FIRST_WAIT
    assert servers.trials() == [a]
    assert servers.trials() == []  # one request
    servers.tried(a)
    servers.answered(a)
    assert servers.choose() is a


def test_the_wait_for_a_trial_grows_up_to_a_minute_and_is_forgiven_after_steady_answers() -> None:
    servers, clock, (a, _) = made(2)
    leave(servers, a)
    waits = []
    for _ in range(12):
        began = clock.now
        while not servers.trials():
            clock.now += 0.05
        waits.append(clock.now - began)
        servers.leave(a, "still gone")
        servers.tried(a)
    assert waits[0] <= 0.6
    assert max(waits) <= 60.1
    assert min(waits[8:]) >= 29.9
    for answers, least, most in ((STEADY - 1, 29.9, 60.1), (STEADY, 0.0, 0.6)):
        for _ in range(answers):
            servers.answered(a)
        began = clock.now
        leave(servers, a)
        while not servers.trials():
            clock.now += 0.05
        assert least <= clock.now - began <= most
        servers.tried(a)


def test_a_few_failures_between_answers_are_no_reason_to_leave() -> None:
    servers, _, (a, _) = made(2)
    for _ in range(10):
        for _ in range(FAILURES_IN_A_ROW - 1):
            servers.failed(a, "status 500")
        servers.answered(a)
    assert not a.left
    for _ in range(FAILURES_IN_A_ROW):
        servers.failed(a, "status 500")
    assert a.left
    assert a.left_for == "status 500"


def test_an_only_server_is_never_left_and_where_all_are_left_all_are_tried() -> None:
    servers, _, (only,) = made(1)
    for _ in range(20):
        leave(servers, only)
        assert servers.choose() is only
        servers.release(only)
    servers, _, every = made(3)
    for server in every:
        leave(servers, server)
    assert {servers.choose() for _ in range(3)} == set(every)
    assert not servers.another([])  # so that tries wait in between


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["choose", "fail", "gone", "answer", "pause", "wait"]))
    )
)
def test_a_server_is_always_chosen_or_there_is_an_end_to_the_wait(moves: list[tuple[int, str]]) -> None:
    servers, clock, every = made(3)
    for number, move in moves:
        server = every[number]
        if move == "choose":
            chosen = servers.choose()
            if chosen is None:
                assert 0 < servers.pause() <= retries.LONGEST_WAIT
                clock.now += servers.pause()
                chosen = servers.choose()
            assert chosen is not None
            assert not chosen.left or all(s.left for s in every)
            servers.release(chosen)
        elif move == "wait":
            clock.now += 1
            for due in servers.trials():
                servers.tried(due)
        elif move == "answer":
            servers.answered(server)
        elif move == "pause":
            servers.paused(server, 7.0)
        else:
            servers.failed(server, move, unreachable=move == "gone")


# --- pauses -----------------------------------------------------------------------------------------------------------


def test_a_pause_holds_for_its_server_only_and_has_an_end() -> None:
    servers, clock, (a, b) = made(2)
    servers.paused(a, 30)
    assert all(servers.choose() is b for _ in range(9))
    servers.paused(b, 10**9)
    assert servers.choose() is None
    assert servers.pause() == 30
    clock.now += 30
    assert servers.choose() is a
    servers.paused(a, 10**9)
    assert servers.pause() == retries.LONGEST_WAIT - 30
    assert b.longest_pause == 10**9


def test_nobody_waits_for_a_dead_server_while_one_that_lives_pauses() -> None:
    servers, _, (a, b) = made(2)
    leave(servers, a)
    servers.paused(b, 5)
    assert servers.choose() is None  # a sample would spend its tries on the dead one
    assert servers.pause() == 5


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("3", 3.0),
        (" 0 ", 0.0),
        ("-1", None),
        ("soon", None),
        ("²", None),
        ("", None),
        (None, None),
        ("9" * 400, math.inf),
    ],
)
def test_retry_after(value: str | None, seconds: float | None) -> None:
    assert seconds_of(value) == seconds


def test_retry_after_as_a_date() -> None:
    assert -1e10 < (seconds_of("Wed, 21 Oct 2015 07:28:00 GMT") or 0) < 0
    assert (seconds_of("Fri, 31 Dec 9999 23:59:59 GMT") or 0) > 1e10


# --- a list that changes ----------------------------------------------------------------------------------------------


def test_a_new_server_is_tried_first_and_one_that_is_gone_gets_nothing_more() -> None:
    servers, _, (a, b) = made(2)
    servers.answered(a, "conversation")
    new = Target("http://new/v1")
    assert servers.replace([b.target, new, new]) == [a]
    assert servers.choose("conversation") is b
    [trial] = servers.trials()
    assert trial.target == new
    servers.answered(trial)
    assert servers.choose() is trial


def of(*entries: str, clock: Clock | None = None) -> Addresses:
    return Addresses(OpenAIOptions(base_url=entries).base_url, "OPENAI_API_KEY", clock or Clock())  # type: ignore[arg-type]


def urls(addresses: Addresses) -> list[str]:
    return [str(target) for target in asyncio.run(addresses.targets())]


def test_entries_are_addresses_and_files_each_once(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("# two\nhttp://127.0.0.1:1/v1/\n\n  http://127.0.0.1:2/v1  \n")
    addresses = of("http://127.0.0.1:2/v1/", f"@{file}", "http://127.0.0.1:2/v1")
    assert urls(addresses) == ["http://127.0.0.1:2/v1", "http://127.0.0.1:1/v1"]
    assert addresses.may_change
    assert not of("http://127.0.0.1:2/v1").may_change


def test_a_file_is_read_again_when_it_has_changed_and_only_whole(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("http://127.0.0.1:1/v1\n")
    addresses = of(f"@{file}")
    first = urls(addresses)
    for number, bad in enumerate(("http://127.0.", "", "ftp://x\n", "http://me:sesame@x/v1\n", "\x00" * 9)):
        file.write_bytes(bad.encode())
        os.utime(file, ns=(number, number))
        assert urls(addresses) == first  # it may be in the middle of being written
        if bad == "http://127.0.":
            continue  # an address, as far as anybody can tell
        assert urls(addresses) == first
        assert str(file) in addresses.complaint
        assert "sesame" not in addresses.complaint
    file.unlink()
    assert urls(addresses) == first
    file.write_text("http://127.0.0.1:3/v1\n")
    assert urls(addresses) == first
    assert urls(addresses) == ["http://127.0.0.1:3/v1"]
    assert not addresses.complaint


def test_what_is_no_list_of_servers_is_refused_without_repeating_it(tmp_path: Path) -> None:
    file = tmp_path / "servers"
    file.write_text("# nobody yet\n")
    with pytest.raises(MissingError, match="lists no server"):
        of(f"@{file}")
    file.write_text("http://ok/v1\nhttp://me:sesame@x/v1\n")
    with pytest.raises(UsageError, match="line 2") as caught:
        of(f"@{file}")
    assert "sesame" not in str(caught.value)
    with pytest.raises(UsageError, match="there is no file"):
        OpenAIOptions(base_url=(f"@{tmp_path / 'none'}",)).look("tiny")


def test_a_name_with_several_addresses_is_as_many_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"http://many:8/v1": ["10.0.0.1", "10.0.0.2"], "http://one/v1": ["10.0.0.3"]}

    async def look_up(url: str) -> list[str]:
        return known.get(url, [])

    monkeypatch.setattr(addresses, "_addresses", look_up)
    clock = Clock()
    entries = of("http://many:8/v1", "http://one/v1", clock=clock)
    both = ["http://many:8/v1 (10.0.0.1)", "http://many:8/v1 (10.0.0.2)"]
    assert urls(entries) == [*both, "http://one/v1"]
    known["http://many:8/v1"] = ["10.0.0.2", "10.0.0.9"]
    assert urls(entries) == [*both, "http://one/v1"]
    clock.now += addresses.RESOLVE_SECONDS
    assert urls(entries) == [both[1], "http://many:8/v1 (10.0.0.9)", "http://one/v1"]
    known.clear()  # the name service is gone, the servers are not
    clock.now += addresses.RESOLVE_SECONDS
    assert len(urls(entries)) == 3


def test_a_machine_with_an_address_of_each_kind_is_one_server() -> None:
    assert len(asyncio.run(addresses._addresses("http://localhost:8/v1"))) == 1
    assert asyncio.run(addresses._addresses("http://no-such-name.invalid/v1")) == []


def test_proxies_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert addresses.proxy_of("http://far/v1") is None
    monkeypatch.setenv("http_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert addresses.proxy_of("http://far/v1") == "http://proxy:3128"
    assert addresses.proxy_of("http://127.0.0.1:8000/v1") is None
    monkeypatch.setenv("http_proxy", "socks5://proxy:1080")
    with pytest.raises(UsageError, match="no HTTP proxy"):
        addresses.proxy_of("http://far/v1")
