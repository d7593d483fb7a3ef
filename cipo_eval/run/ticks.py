"""Something done now and then while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def every(first: float, then: float, tell: Callable[[], None]) -> Iterator[None]:
    """While the block runs, calls ``tell`` in a thread: after ``first`` seconds, and then every ``then`` seconds."""
    ended = threading.Event()

    def tick() -> None:
        pause = first
        while not ended.wait(pause):
            tell()
            pause = then

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
