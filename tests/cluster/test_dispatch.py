"""Who has which work, whatever happens to those that have it: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from cipo_eval.cluster.dispatch import FIRST_ROOM, MOST_LOSSES, Dispatcher


@pytest.mark.parametrize("seed", range(20))
def test_every_part_is_done_once_while_members_come_and_go(seed: int) -> None:
    chance = random.Random(seed)
    work: Dispatcher[int] = Dispatcher()
    wanted = {parcel: chance.randint(1, 40) for parcel in range(60)}
    for parcel, parts in wanted.items():
        work.add(parcel, range(parts), home=parcel % 7 if chance.random() < 0.5 else None)
    done: Counter[tuple[int, int]] = Counter()
    has: dict[int, list[tuple[int, int, int]]] = {}
    names = 0
    while not work.idle:
        if len(has) < 3 or (len(has) < 6 and chance.random() < 0.1):
            names += 1
            has[names] = []
            work.join(names)
        if chance.random() < 0.05:
            has.pop(gone := chance.choice(list(has)))
            assert work.leave(gone) == []
        for name, parcels in work.assign().items():
            has[name] += [
                (parcel.number, part, parcel.payload) for parcel in parcels for part in parcel.parts
            ]
        for name, parts_there in has.items():
            assert work.held(name) == len(parts_there)
            work.works_at(name, len(parts_there))
            chance.shuffle(parts_there)
            for _ in range(min(len(parts_there), chance.randint(0, 9))):
                number, part, payload = parts_there.pop()
                assert work.done(name, number, part) == payload
                assert work.done(name, number, part) is None  # an answer that comes twice
                done[payload, part] += 1
    assert done == Counter((parcel, part) for parcel, parts in wanted.items() for part in range(parts))


def test_a_member_has_little_more_than_it_works_at() -> None:
    work: Dispatcher[str] = Dispatcher()
    for i in range(1000):
        work.add(str(i), (0,))
    work.join(1)
    work.join(2)
    given = work.assign()
    assert {name: len(parcels) for name, parcels in given.items()} == {1: FIRST_ROOM, 2: FIRST_ROOM}
    work.works_at(1, FIRST_ROOM)  # it works at all that it has
    assert len(work.assign()[1]) == FIRST_ROOM
    work.works_at(1, FIRST_ROOM)  # and now at half of it: no more comes
    assert work.assign() == {}


def test_a_request_stays_whole_and_what_follows_goes_where_it_began() -> None:
    work: Dispatcher[str] = Dispatcher(room=4)
    work.join(1)
    work.join(2)
    work.add("a", range(32), home="problem a")
    work.add("b", range(3), home="problem b")
    first = work.assign()
    assert {name: [p.payload for p in parcels] for name, parcels in first.items()} == {1: ["a"], 2: ["b"]}
    work.add("b, turn 2", (0,), home="problem b", first=True)
    work.add("c, turn 2", (0,), home="problem c", first=True)
    assert [p.payload for p in work.assign()[2]] == ["c, turn 2"]  # the other one is full
    for part in range(32):
        assert work.done(1, 1, part) == "a"
    assert work.done(2, 2, 0) == "b"
    assert [p.payload for p in work.assign()[2]] == ["b, turn 2"]  # though 1 has nothing to do


def test_what_members_are_lost_of_is_given_up() -> None:
    work: Dispatcher[str] = Dispatcher()
    work.add("poison", (0, 1))
    for name in range(MOST_LOSSES):
        work.join(name)
        ((parcel,),) = work.assign().values()
        if name == 0:
            assert work.done(name, parcel.number, 1) == "poison"  # a part was done: it is not that
        given_up = work.leave(name)
        assert [p.parts for p in given_up] == ([{0}] if name == MOST_LOSSES - 1 else [])
    assert work.idle
