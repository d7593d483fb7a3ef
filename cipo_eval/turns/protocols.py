"""Who is asked again, and told what: the protocols by name, ours and those of users.

One of ours is an entry of ``PROTOCOLS`` and a template of the same name in ``prompts/``; one of a user's own is an
object of class ``Protocol`` anywhere, named ``module:object`` on the command line (docs/add-a-protocol.md). Those that
show a pool's attempt up to a cut have a variant for each cut, by its name (``prefill-50``). How turns are written:
``revising``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from cipo_eval.errors import UsageError
from cipo_eval.records import Turn
from cipo_eval.settings import named_object

DIRECT = "direct"
GIVEN = "given"
PREFILL = "prefill"
CRITIQUE, CRITIQUE_STEP = "critique", "critique-step"
"""Names of protocols that the code has to tell from the others."""
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_VARIANT = re.compile(rf"({GIVEN}|{PREFILL})(?:-(step|0|[1-9]\d?|100))?(-wait)?")
"""Where a pool's attempt is cut, in the name of a protocol, and whether "Wait" stands behind it."""
_TRAITS = ("summary", "only_wrong", "tells", "own", "judges")
"""What a run directory keeps of a protocol that is not ours: enough to read it without the module it comes from."""


Cut = int | Literal["step"] | None
"""How much of an attempt is shown: a percentage of its characters, or up to the end of its first wrong step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """Who is asked again, and told what. The wording is the template's."""

    name: str
    summary: str
    only_wrong: bool = False
    """Only attempts that the verifier found wrong are revised; a chain ends with the first right one."""
    tells: bool = False
    """The model sees what the verifier may show of its verdict (``revising.feedback``)."""
    own: bool = True
    """The first turn is the model's own; otherwise it comes from a pool."""
    judges: bool = False
    """Between an attempt and the next stands a turn in which the model judges the first of them."""
    locates: bool = False
    """A judgement names the first wrong step of an attempt of the task's own data; a chain ends with it."""

    continues: bool = False
    """The model goes on with the attempt, as if it had begun it, instead of being asked again; a chain ends there."""
    cut: Cut = None
    """How much of a pool's attempt is shown: up to the end of its first wrong step, or so many per cent of its
    characters; None: what the protocol shows by itself."""
    wait: bool = False
    """Whether " Wait" is appended to what is shown of the attempt."""

    template: str = ""
    """What is asked for, as a Jinja template (``feedback`` is filled in where it ``tells``); empty: the file of this
    name among the prompts."""

    def instruction(self, history: Sequence[Turn]) -> str | None:  # noqa: ARG002  for those that override it
        """What is asked after these turns, for protocols of users that write it themselves; None: the template says
        it. Earlier attempts are shown to the model anyway."""
        return None

    def traits(self) -> dict[str, Any]:
        """Its fields as a run directory keeps them, for a protocol that is not one of ours."""
        return {name: getattr(self, name) for name in _TRAITS}

    def attempts(self, asked: int) -> int:
        """Attempts of a whole chain where so many are asked for."""
        return 1 if self.locates else asked

    def last_turn(self, attempts: int) -> int:
        """The last turn of a chain with so many attempts."""
        if self.locates:
            return 2
        if self.continues:
            return min(attempts, 2)
        return 2 * attempts - 1 if self.judges else attempts

    def is_judgement(self, turn: int) -> bool:
        """Whether the turn with this number judges the attempt before it."""
        return self.judges and turn % 2 == 0


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(name=DIRECT, summary="independent first attempts"),
        Protocol(name="self", summary="its own attempt again, with no verdict (intrinsic self-correction)"),
        Protocol(
            name="oracle", summary="its own attempt where it failed, told that it is wrong", only_wrong=True
        ),
        Protocol(
            name="feedback",
            summary="its own attempt where it failed, with what the verifier may show",
            only_wrong=True,
            tells=True,
        ),
        Protocol(name=GIVEN, summary="an attempt from a fixed pool, with no verdict", own=False),
        Protocol(
            name=CRITIQUE,
            summary="an attempt from a fixed pool: first judged by the model, then corrected",
            own=False,
            judges=True,
        ),
        Protocol(
            name=CRITIQUE_STEP,
            summary="an attempt of the task's own data, split into steps: which is the first wrong one?",
            own=False,
            judges=True,
            locates=True,
        ),
        Protocol(
            name=PREFILL,
            summary="an attempt from a fixed pool as the beginning of its own answer, which it continues",
            own=False,
            continues=True,
            cut="step",
        ),
    )
}
"""By name; variants and those of users are added when they are named, or when a run that has them is read."""
BUILT_IN = frozenset(PROTOCOLS)


def known(name: str) -> Protocol | None:
    """The protocol of this name: one of ours, a variant of one, or a user's that was named before; None for others."""
    if name not in PROTOCOLS and (variant := _variant(name)) is not None:
        PROTOCOLS[name] = variant
    return PROTOCOLS.get(name)


def _variant(name: str) -> Protocol | None:
    parts = _VARIANT.fullmatch(name)
    if parts is None:
        return None
    base, cut, wait = parts.groups()
    if (base == GIVEN and (wait or cut == "0")) or (base == PREFILL and cut == "step"):  # as prefill itself
        return None
    whole = PROTOCOLS[base]
    shown: Cut = whole.cut if cut is None else "step" if cut == "step" else int(cut)
    where = "its first wrong step" if shown == "step" else f"{shown} % of it"
    summary = f"{whole.summary} (cut after {where}{', with Wait behind it' if wait else ''})"
    return replace(whole, name=name, summary=summary, cut=shown, wait=wait is not None)


def ours(name: str) -> bool:
    """Whether a name is that of one of our protocols or of a variant."""
    return name in BUILT_IN or _variant(name) is not None


def place(name: str) -> tuple[int, int, bool]:
    """Where a protocol stands in a list: ours in their order, with the variants of each by their cuts, then those of
    users."""
    protocol, base = PROTOCOLS[name], name
    if (parts := _VARIANT.fullmatch(name)) is not None:
        base = parts[1]
    cut = protocol.cut if isinstance(protocol.cut, int) else -1
    return list(PROTOCOLS).index(base), cut, protocol.wait


def partners(protocol: Protocol) -> tuple[str, ...]:
    """What a protocol that ``continues`` is compared with, the best first: the one that shows the same of an attempt in
    the user's message, and the one that shows all of it; none for other protocols."""
    return (f"{GIVEN}-{protocol.cut}", GIVEN) if protocol.continues else ()


def protocols_named(names: Sequence[str]) -> tuple[Protocol, ...]:
    """Protocols by name, or by ``module:object``. Raises ``UsageError`` for names that there are none of."""
    protocols = [_imported(name) if ":" in name else known(name) for name in names]
    if unknown := [name for name, protocol in zip(names, protocols, strict=True) if protocol is None]:
        raise UsageError(
            f"no protocol is named {', '.join(unknown)}: there are {', '.join(PROTOCOLS)} (--protocol; "
            "prefill-50 cuts an attempt after half of it, prefill-wait adds Wait)"
        )
    return tuple({protocol.name: protocol for protocol in protocols if protocol is not None}.values())


def _imported(name: str) -> Protocol:
    protocol = named_object(name, "--protocol")
    if not isinstance(protocol, Protocol):
        raise UsageError(f"--protocol {name} is not a Protocol (docs/add-a-protocol.md)")
    if ours(protocol.name) or not _NAME.fullmatch(protocol.name):
        raise UsageError(
            f"--protocol {name}: its name {protocol.name!r} is one of ours, or not made of letters, digits, - and _"
        )
    if protocol.continues or protocol.cut is not None or protocol.wait or protocol.locates:
        raise UsageError(
            f"--protocol {name}: continues, cut and wait are {PREFILL}'s alone, locates is {CRITIQUE_STEP}'s"
        )
    registered = PROTOCOLS.get(protocol.name)
    if registered is not None and registered.traits() != protocol.traits():
        raise UsageError(f"--protocol {name}: another protocol is named {protocol.name} already")
    PROTOCOLS[protocol.name] = protocol
    return protocol


def known_from(name: str, traits: Mapping[str, Any]) -> None:
    """Makes a protocol known that a run directory has and that is not one of ours, from what the directory keeps of it.

    Raises ``ValueError`` for what cannot be one, or is another than the one of this name that is known.
    """
    types = {field.name: field.type for field in fields(Protocol)}
    wrong = [key for key, value in traits.items() if types.get(key) != type(value).__name__]
    if wrong or set(traits) != set(_TRAITS) or ours(name) or not _NAME.fullmatch(name):
        raise ValueError(f"{name[:60]!r} is no protocol that could be known")
    if name not in PROTOCOLS:
        PROTOCOLS[name] = Protocol(name=name, **traits)
    elif PROTOCOLS[name].traits() != dict(traits):
        raise ValueError(f"another protocol is named {name} already")
