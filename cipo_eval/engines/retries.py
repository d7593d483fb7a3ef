"""The one policy by which engines try a sample again: how often, after which waits, and what is said in the end."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

LONGEST_WAIT = 120.0
"""Seconds between two tries, whatever a server asks for."""
FIRST_WAIT = 0.5
_LONGEST_OWN_WAIT = 60.0

T = TypeVar("T")


class Again(Exception):  # noqa: N818  not an error yet
    """No usable answer, and worth another try; after all tries, why there is none."""

    def __init__(
        self,
        why: str,
        said: str = "",
        *,
        after: float | None = None,
        unreachable: bool = False,
        in_form: bool = False,
    ) -> None:
        """``why``: one line without anything of the single sample. ``said``: the other side's own words. ``after``:
        seconds that it asks to be left alone. ``unreachable``: nobody is there. ``in_form``: it answered as it should,
        only not with something that counts."""
        super().__init__(f"{why}: {said}" if said else why)
        self.why, self.said, self.after = why, said, after
        self.unreachable, self.in_form = unreachable, in_form


class Retries:
    """Tries with growing waits between them: half a second, doubled up to a minute, each shortened by chance by up to
    a half, so that many requests do not come back together. A wait that the other side asks for holds for all."""

    def __init__(self, further: int) -> None:
        """``further``: tries after the first."""
        self.further = further
        self._not_before = 0.0

    @property
    def tries(self) -> str:
        return f"{self.further + 1} tries" if self.further else "one try"

    async def run(self, one: Callable[[], Awaitable[T]], further: int | None = None) -> T:
        """The result of the first try that has one; raises the last try's ``Again``. Anything else that a try raises
        goes through."""
        last = self.further if further is None else further
        for attempt in range(last + 1):
            if (pause := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            try:
                return await one()
            except Again as error:
                if attempt == last:
                    raise
                wait = min(_LONGEST_OWN_WAIT, FIRST_WAIT * 2**attempt) * random.uniform(0.5, 1)
                if error.after is not None:  # meant for all that is sent
                    wait = min(max(error.after, 0.0), LONGEST_WAIT)
                    self._not_before = max(self._not_before, time.monotonic() + wait)
                await asyncio.sleep(wait)
        raise AssertionError("unreachable")
