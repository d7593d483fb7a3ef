"""The one policy by which engines try a sample again: how often, after which waits, and what is said in the end."""

from __future__ import annotations

import asyncio
import random
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


def own_wait(attempt: int) -> float:
    """Seconds before the next try after so many others (from 0), where nobody asks for a wait: half a second, doubled
    up to a minute, and shortened by chance by up to a half, so that many requests do not come back together."""
    wait: float = FIRST_WAIT * 2 ** min(attempt, 16)
    return min(_LONGEST_OWN_WAIT, wait) * random.uniform(0.5, 1)


class Retries:
    """Tries with growing waits between them."""

    def __init__(self, further: int) -> None:
        """``further``: tries after the first."""
        self.further = further

    @property
    def tries(self) -> str:
        return f"{self.further + 1} tries" if self.further else "one try"

    async def run(
        self,
        one: Callable[[], Awaitable[T]],
        further: int | None = None,
        *,
        elsewhere: Callable[[], bool] = lambda: False,
    ) -> T:
        """The result of the first try that has one; raises the last try's ``Again``. Anything else that a try raises
        goes through. ``elsewhere``: whether the next try goes to somebody else, who need not be waited for."""
        last = self.further if further is None else further
        for attempt in range(last + 1):
            try:
                return await one()
            except Again as error:
                if attempt == last:
                    raise
                if elsewhere():
                    continue
                asked = error.after
                await asyncio.sleep(
                    own_wait(attempt) if asked is None else min(max(asked, 0.0), LONGEST_WAIT)
                )
        raise AssertionError("unreachable")
