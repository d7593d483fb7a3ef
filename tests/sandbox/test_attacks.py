"""Every attack fails at every tier, as root and as another user; without the sandbox's layers they succeed."""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from parts import Part, part

from sandbox.attacks import ALL
from sandbox.drivers import Ahead, Driver, Unavailable, interpreter

TIERS = ("1", "2")
USERS = ("root", "user")
PLACES = [(user, tier) for user in USERS for tier in TIERS]
QUICK, FAST = 12, 6


def everywhere() -> list[Any]:
    """Each attack in one place, which its name decides, and one in ``QUICK`` of those on verdicts and with a control also
    in the one with the other user and the other tier; the other combinations are for ``-m exhaustive``. The fast tier
    has one attack in ``FAST``, in its one place."""
    found = []
    for name, one in ALL.items():
        number, place = divmod(zlib.crc32(name.encode()), len(PLACES))
        chosen, opposite = PLACES[place], PLACES[-1 - place]
        for user, tier in PLACES:
            here = (user, tier) == chosen
            marks: list[Any] = []
            again = number % QUICK == 1 and (one.group == "verdict" or one.control)
            there = (user, tier) == opposite and again
            if not (here or there):
                marks.append(pytest.mark.exhaustive)
            if not (here and number % FAST == 0):
                marks.append(pytest.mark.slow)
            found.append(pytest.param(user, tier, name, marks=marks, id=f"{user}-{tier}-{name}"))
    return found


@pytest.fixture(scope="session")
def suite(request: pytest.FixtureRequest) -> Iterator[dict[tuple[str, str], Ahead]]:
    """The selected attacks, under way in all combinations at once: each place has a process that attacks. (The tests of
    this module run in one process, ``TOGETHER`` in ``conftest``: another would make all attacks again.)"""
    chosen: dict[tuple[str, str], list[str]] = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.originalname == "test_attack":
            values = item.callspec.params
            if ALL[values["name"]].known:
                continue
            chosen.setdefault((values["user"], values["tier"]), []).append(values["name"])
    running = {}
    for (user, tier), names in chosen.items():
        try:
            interpreter(user)
        except Unavailable:
            continue
        running[user, tier] = Ahead(user, tier, names)
    yield running
    for one in running.values():
        one.close()


@pytest.mark.parametrize(("user", "tier", "name"), everywhere())
def test_attack(suite: dict[tuple[str, str], Ahead], user: str, tier: str, name: str) -> None:
    """Does no harm, and the next program is judged as ever (``attacks``)."""
    if ALL[name].known:
        pytest.xfail(ALL[name].known)
    if (user, tier) not in suite:
        with pytest.raises(Unavailable) as error:
            interpreter(user)
        pytest.skip(str(error.value))
    harm = suite[user, tier].result(name)["harm"]
    if harm and any("a sandbox cannot be started" in words for words in harm):
        pytest.skip(f"no tier {tier} for this user here: {harm[0]}")
    assert harm == [], ALL[name].why


def test_there_are_attacks_of_every_kind() -> None:
    groups = Counter(attack.group for attack in ALL.values())
    assert set(groups) == {"verdict", "leak", "effects", "denial"}
    assert min(groups.values()) >= 68


def run_with(
    layers: dict[str, bool], names: list[str], suite: dict[tuple[str, str], Ahead]
) -> dict[str, list[str]]:
    """Harm done where only some layers are on. The attacks of ``suite`` come first: they would see what is made here."""
    for one in suite.values():
        one.wait()
    with Driver("root" if os.geteuid() == 0 else "user", json.dumps(layers)) as driver:
        return {name: driver.attack(name)["harm"] for name in names}


@pytest.mark.slow
@part(9)
def test_attacks_succeed_without_layers(part: Part, suite: dict[tuple[str, str], Ahead]) -> None:
    """The control: what these tests look for is there to be seen."""
    every = [name for name, attack in ALL.items() if attack.control]
    assert len(every) >= 90
    names = part.of(every, str)
    harm = run_with({"bubblewrap": False, "landlock": False, "seccomp": False}, names, suite)
    unharmed = [name for name in names if not harm[name]]
    assert len(unharmed) <= len(names) // (10 if part.whole else 6), unharmed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("off", "names"),
    [
        (
            "seccomp",
            [
                "connect_udp",
                "syscall_io_uring_setup",
                "machine_code_fork",
                "dumpable",
                "daemon",
            ],
        ),
        ("landlock", ["read_passwd", "read_secret_file", "file_overwrite", "list_proc", "file_create"]),
    ],
)
def test_each_layer_matters(off: str, names: list[str], suite: dict[tuple[str, str], Ahead]) -> None:
    """With one of the two layers of a container missing, attacks that it is there for come through."""
    layers = {"bubblewrap": False, "landlock": True, "seccomp": True, off: False}
    harm = run_with(layers, names, suite)
    assert [name for name in names if not harm[name]] == []
