"""The feed of requests: ends when everything is done, and not before."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from cipo_eval.engines import feed as feeds
from cipo_eval.engines.feed import Feed, as_feed
from cipo_eval.records import Problem, Request, Sampling


def request(*samples: int) -> Request:
    problem = Problem(task="t", id="1", index=0, question="?", prompt="?", gold="1")
    sampling = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=1)
    return Request(problem=problem, messages=(), samples=samples, seeds=samples, sampling=sampling)


def test_a_list_of_requests_is_a_feed_that_ends() -> None:
    requests = [request(0, 1), request(2)]
    feed = as_feed(requests)
    assert feed.take(wait=True) == requests
    assert feed.take(wait=True) == []


def test_a_reader_waits_for_what_follows() -> None:
    feed = Feed([request(0)])
    taken = [feed.take(wait=True)]

    def later() -> None:
        time.sleep(0.05)
        feed.add([request(1)])
        feed.done()
        time.sleep(0.05)
        feed.done()

    thread = threading.Thread(target=later)
    thread.start()
    while found := feed.take(wait=True):
        taken.append(found)
    thread.join()
    assert taken == [[request(0)], [request(1)]]
    assert feed.open == 0


def test_without_waiting_there_is_what_there_is() -> None:
    feed = Feed([request(0)])
    assert feed.take(wait=False) == [request(0)]
    assert feed.take(wait=False) == []


def test_an_end_wakes_who_waits() -> None:
    feed = Feed([request(0)])
    feed.take(wait=True)
    threading.Timer(0.05, feed.end).start()
    assert feed.take(wait=True) == []


def test_a_look_takes_in_what_is_there_also_while_samples_are_under_way() -> None:
    """What follows from a verdict does not wait for the next completion."""
    feed = Feed([request(0), request(1)])
    feed.take(wait=True)
    feed.settle = lambda seconds: feed.add([request(2)]) if seconds == 0 else None
    assert feed.take(wait=False) == [request(2)]


@pytest.mark.parametrize("ahead", [8, 30])
@pytest.mark.parametrize("follow", [True, False])
def test_requests_are_made_as_they_are_taken(
    monkeypatch: pytest.MonkeyPatch, follow: bool, ahead: int
) -> None:
    """Never many more than an engine has room for; all of them in the end, and what follows comes first."""
    monkeypatch.setattr(feeds, "AHEAD", 8)
    made: list[int] = []

    def requests() -> Iterator[Request]:
        for number in range(20):
            made.append(number)
            yield request(3 * number, 3 * number + 1, 3 * number + 2)

    feed = Feed(requests(), follow=follow, samples=60)
    feed.ahead = ahead
    taken: list[Request] = []
    under_way = 0
    while feed.open:
        new = feed.take(wait=not under_way)
        taken += new
        under_way += sum(len(of.samples) for of in new)
        assert min(feed.open, ahead - 8) <= under_way <= ahead + 3
        assert len(made) * 3 <= 60 - feed.open + ahead + 3
        feed.done()
        under_way -= 1
    assert [of.samples[0] for of in taken] == list(range(0, 60, 3))
    assert feed.take(wait=True) == []
