"""Who works at what: hands parcels of work to members that come and go, and takes back what a lost one had.

Knows nothing of Ray, so that it can be read, and tested, alone. A parcel has several parts (a request its samples); it
goes to one member as a whole, and is done when each part is. A member holds at most twice as many parts as it works at
at once: enough that it never waits for more, and little enough that what a slow or lost one holds is soon made up for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

FIRST_ROOM = 16
"""Parts that a member is given before it has shown how many it works at at once."""
MOST_LOSSES = 5
"""Members that are lost one after the other with a parcel, none of which had done a part of it, after which it counts
as what they are lost of."""

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Parcel(Generic[T]):
    """Work for one member."""

    number: int
    payload: T
    parts: set[int]
    """The parts that are not done."""
    home: Hashable = None
    """What it has in common with parcels that are better done in one place (their prompts begin alike)."""
    losses: int = 0
    """Members that were lost while they had it, since a part of it was done."""


@dataclass(slots=True, eq=False)
class _Member(Generic[T]):
    room: int
    parcels: dict[int, Parcel[T]] = field(default_factory=dict)
    parts: int = 0


class Dispatcher(Generic[T]):
    """Parcels that wait, and those that members have. For one thread."""

    def __init__(self, room: int | None = None) -> None:
        """``room``: parts that a member has at the most; None: twice as many as it works at."""
        self._room = room
        self._waiting: deque[Parcel[T]] = deque()
        self._members: dict[int, _Member[T]] = {}
        self._homes: dict[Hashable, int] = {}
        self._numbers = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._waiting and not self.under_way

    @property
    def under_way(self) -> int:
        """Parts that members have."""
        return sum(member.parts for member in self._members.values())

    @property
    def room(self) -> int:
        """Parts that members may have at the most."""
        return sum(member.room for member in self._members.values())

    def held(self, member: int) -> int:
        """Parts that one member has."""
        return self._members[member].parts

    def add(self, payload: T, parts: Iterable[int], *, home: Hashable = None, first: bool = False) -> None:
        """Work to be done; with ``first`` before all that waits."""
        self._numbers += 1
        parcel = Parcel(self._numbers, payload, set(parts), home)
        (self._waiting.appendleft if first else self._waiting.append)(parcel)

    def join(self, member: int) -> None:
        """Somebody who can work."""
        self._members[member] = _Member(self._room or FIRST_ROOM)

    def works_at(self, member: int, parts: int) -> None:
        """So many parts a member was seen to work at at once."""
        one = self._members[member]
        one.room = self._room or max(one.room, 2 * parts)

    def leave(self, member: int) -> list[Parcel[T]]:
        """A member is lost, or not wanted any more: what it had waits again, before everything else.

        Returns the parcels with which too many were lost; they wait no longer."""
        one = self._members.pop(member, None)
        given_up = []
        for parcel in reversed(one.parcels.values() if one else ()):
            parcel.losses += 1
            if parcel.losses >= MOST_LOSSES:
                given_up.append(parcel)
            else:
                self._waiting.appendleft(parcel)
        return given_up

    def assign(self) -> dict[int, list[Parcel[T]]]:
        """Gives what waits to whoever has room, and says to whom: the least loaded first, but a parcel whose home is
        a member with room goes there."""
        given: dict[int, list[Parcel[T]]] = {}
        while self._waiting:
            free = [name for name, one in self._members.items() if one.parts < one.room]
            if not free:
                break
            parcel = self._waiting.popleft()
            home = self._homes.get(parcel.home) if parcel.home is not None else None
            name = home if home in free else min(free, key=lambda n: self._members[n].parts)
            assert name is not None
            if parcel.home is not None:
                self._homes[parcel.home] = name
            one = self._members[name]
            one.parcels[parcel.number] = parcel
            one.parts += len(parcel.parts)
            given.setdefault(name, []).append(parcel)
        return given

    def done(self, member: int, number: int, part: int) -> T | None:
        """The payload of which a member has done a part; None: that part is not its own (any more)."""
        one = self._members.get(member)
        parcel = one.parcels.get(number) if one else None
        if one is None or parcel is None or part not in parcel.parts:
            return None
        parcel.parts.discard(part)
        parcel.losses = 0
        one.parts -= 1
        if not parcel.parts:
            del one.parcels[number]
        return parcel.payload

    def withdraw(self) -> None:
        """What nobody has is not wanted any more."""
        self._waiting.clear()

    def forget(self) -> None:
        """Nothing that was added is wanted any more."""
        self.withdraw()
        for one in self._members.values():
            one.parcels.clear()
            one.parts = 0
