"""Signals raise inside the allowed regions only; outside they wait for the next one."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from cipo_eval.interrupts import SIGNALS, Interrupts


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_waits_for_the_next_allowed_region(number: signal.Signals) -> None:
    reached = []
    with Interrupts() as interrupts:
        os.kill(os.getpid(), number)
        reached.append("still here")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            reached.append("never")
        with interrupts.allowed():
            reached.append("raised once only")
        with pytest.raises(KeyboardInterrupt), interrupts.allowed():
            os.kill(os.getpid(), number)
    assert reached == ["still here", "raised once only"]


def test_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with Interrupts():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def test_other_threads_may_run_too() -> None:
    reached: list[bool] = []

    def work() -> None:
        with Interrupts() as interrupts, interrupts.allowed():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]


def test_a_held_region_is_done_whole_within_an_allowed_one() -> None:
    reached = []

    def work(interrupts: Interrupts) -> None:
        with interrupts.allowed():
            with interrupts.held():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("to its end")
            reached.append("never")

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts)
    assert reached == ["to its end"]


def test_what_an_iterable_gave_is_used_before_an_interrupt() -> None:
    used = []

    def work(interrupts: Interrupts) -> None:
        for item in interrupts.during([1, 2]):
            os.kill(os.getpid(), signal.SIGINT)
            used.append(item)

    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt):
        work(interrupts)
    assert used == [1]
