"""Puts rewritings and changes together into labelled cases, seeded and in a fixed order."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import responses
from .changes import CHANGES
from .context import Context
from .forms import FORMS
from .golds import Gold
from .hedges import HEDGES
from .oracle import UnknownError, certainly_different, same, value
from .reader import read
from .styles import STYLES
from .tree import Based, Items, Marked, Named, Node, Opaque, is_expression, names, whole
from .wrappings import WRAPPINGS
from .writer import PLAIN, Style, write

MAX_LENGTH = 300
T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    """One answer with its certain verdict."""

    kind: str
    """Of rewritings and changes; two with " + " between them where two were put together."""
    gold: str
    answer: str
    """What stands in the box."""
    response: str
    """The whole text, as a model would write it."""
    expected: bool
    source: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def composed(self) -> bool:
        return " + " in self.kind

    @property
    def shape(self) -> str:
        """Gold and answer with digits made equal: cases of one shape tell little more than one of them."""
        return "".join("0" if x.isdigit() else x for x in f"{self.kind}|{self.gold}|{self.answer}")


def chance(gold: Gold, kind: str, seed: int) -> random.Random:
    """A source of chance of its own for every gold and kind, so that no kind depends on the others."""
    return random.Random(zlib.crc32(f"{seed}/{gold.source}/{gold.index}/{kind}".encode()))


def cases_of(gold: Gold, seed: int = 0) -> Iterator[Case]:
    """All cases of one gold: every kind once, then pairs of kinds."""
    node = read(gold.gold, gold.options)
    maker = _Maker(gold, node, seed)
    yield from maker.responses()
    if isinstance(node, Opaque):
        return
    yield from maker.rewritings()
    yield from maker.changes()
    yield from maker.pairs()


class _Maker:
    def __init__(self, gold: Gold, node: Node, seed: int) -> None:
        self.gold, self.node, self.seed = gold, node, seed
        self.plain = write(node)
        self.found: dict[tuple[str, Node], Node | None] = {}
        """Changes that were looked for."""

    def context(self, kind: str) -> Context:
        return Context(self.node, self.gold.question, self.gold.options, chance(self.gold, kind, self.seed))

    def case(self, kind: str, answer: str, expected: bool, response: str | None = None) -> Iterator[Case]:
        if answer == self.gold.gold and kind not in responses.RESPONSES:
            return
        if not 0 < len(answer) <= MAX_LENGTH:
            return
        if response is None:
            response = responses.common(answer, chance(self.gold, "response" + kind, self.seed))
        yield Case(kind, self.gold.gold, answer, response, expected, self.gold.source, self.gold.options)

    # --- one kind

    def responses(self) -> Iterator[Case]:
        for kind, (make, expected) in responses.RESPONSES.items():
            context = self.context(kind)
            other = "" if expected else self.other_value(context)
            if not expected and not other:
                continue
            response = make(
                self.gold.gold.strip("$") if "$" in self.gold.gold else self.gold.gold, other, context
            )
            if response is not None and "$" not in self.gold.gold[1:-1]:
                yield from self.case(kind, self.gold.gold, expected, response)

    def rewritings(self) -> Iterator[Case]:
        for kind in FORMS:
            changed = self.form(kind)
            if changed is not None:
                yield from self.case(kind, write(changed), True)
        for kind in STYLES:
            style = self.style(kind, self.node)
            if style is not None:
                yield from self.case(kind, write(self.node, style), True)
        for kind in WRAPPINGS:
            text = self.wrapping(kind, self.plain, self.node)
            if text is not None:
                yield from self.case(kind, text, True)

    def changes(self) -> Iterator[Case]:
        for kind in CHANGES:
            changed = self.changed(kind)
            if changed is not None:
                yield from self.case(kind, write(changed), False)
        for kind in HEDGES:
            text = self.hedged(kind, self.plain)
            if text is not None:
                yield from self.case(kind, text, False)

    # --- two kinds

    def pairs(self) -> Iterator[Case]:
        context = self.context("pairs")
        rewritten: list[tuple[str, Node]] = [(k, x) for k in FORMS if (x := self.form(k)) is not None]
        changed = [(k, x) for k in CHANGES if (x := self.changed(k)) is not None]
        for expected, trees in ((True, rewritten), (False, changed)):
            for kind, tree in context.random.sample(trees, min(4, len(trees))):
                yield from self.restyled(kind, tree, expected, context)
                yield from self.wrapped(kind, tree, PLAIN, expected, context)
        yield from self.restyled("", self.node, True, context)
        hedges = context.random.sample(list(HEDGES), 3)
        for hedge in hedges:
            style = context.random.choice(list(STYLES))
            chosen = self.style(style, self.node)
            if chosen is not None and (text := self.hedged(hedge, write(self.node, chosen))) is not None:
                yield from self.case(f"{hedge} + {style}", text, False)

    def restyled(self, kind: str, tree: Node, expected: bool, context: Context) -> Iterator[Case]:
        """A tree in another style; where ``kind`` is empty, the gold in a style and then wrapped."""
        usable = [s for s in STYLES if self.style(s, tree) is not None]
        for name in context.random.sample(usable, min(2, len(usable))):
            style = self.style(name, tree)
            if style is None:
                continue
            if kind:
                yield from self.case(f"{kind} + {name}", write(tree, style), expected)
            else:
                yield from self.wrapped(name, tree, style, expected, context)

    def wrapped(
        self, kind: str, tree: Node, style: Style, expected: bool, context: Context
    ) -> Iterator[Case]:
        names = context.random.sample(list(WRAPPINGS), len(WRAPPINGS))
        made = 0
        for name in names:
            text = self.wrapping(name, write(tree, style), tree)
            if text is not None:
                yield from self.case(f"{kind} + {name}", text, expected)
                made += 1
            if made == 2:
                return

    # --- pieces

    def form(self, kind: str) -> Node | None:
        try:
            found = FORMS[kind](self.node, self.context(kind))
            if found is None or found == self.node:
                return None
            exempt = kind == "base left out" and isinstance(self.node, Based)
            return found if exempt or same(self.node, found) else None
        except UnknownError:
            return None

    def style(self, kind: str, tree: Node) -> Style | None:
        style = STYLES[kind](tree, self.context(kind))
        return style if style is not None and write(tree, style) != write(tree) else None

    def wrapping(self, kind: str, text: str, tree: Node) -> str | None:
        try:
            return WRAPPINGS[kind](text, tree, self.context(kind))
        except UnknownError:
            return None

    def changed(self, kind: str, node: Node | None = None) -> Node | None:
        key = (kind, self.node if node is None else node)
        if key not in self.found:
            self.found[key] = None if self.free_constants() else self.first_change(*key)
        return self.found[key]

    def first_change(self, kind: str, node: Node) -> Node | None:
        """The first of a kind's proposals, in an order by chance, that is certainly different from the gold."""
        context = self.context(kind)
        proposals = CHANGES[kind](node, context)
        context.random.shuffle(proposals)
        for proposal in proposals[:12]:
            try:
                if kind == "another unit" or certainly_different(self.node, proposal, self.gold.options):
                    return proposal
            except UnknownError:
                continue
        return None

    def free_constants(self) -> bool:
        """The constants of a general solution may be exchanged, scaled and negated."""
        return self.gold.options.get("units") == "skip" and any(
            x in self.gold.gold for x in ("C", "c ", "c_", "c^", "A", "B", "K")
        )

    def hedged(self, kind: str, text: str) -> str | None:
        context = self.context(kind)
        other = self.other_value(context)
        return HEDGES[kind](text, self.node, other, context) if other else None

    def other_value(self, context: Context) -> str:
        """The text of another value of the same sort, never 0 or 1, which could be read into a product or sum."""
        if not is_expression(self.node) and not isinstance(self.node, Marked):
            return "7" if isinstance(self.node, Items | Named) else "\\text{none}"
        inner = self.node.inner if isinstance(self.node, Marked) else self.node
        kinds = ["a neighbour", "a digit", "an operator", "a factor added"]
        context.random.shuffle(kinds)
        for kind in kinds:
            other = self.changed(kind, inner)
            if other is not None and (names(other) or value(other) not in (0, 1, -1)):
                return write(other)
        fallback = whole(17)
        try:
            return "17" if certainly_different(inner, fallback, self.gold.options) else ""
        except UnknownError:
            return ""


# --- selection ----------------------------------------------------------------------------------------------------


def varied(golds: Sequence[Gold], most: int) -> list[Gold]:
    """At most ``most`` golds: one of each shape (digits made equal), a second of each, and so on."""
    shapes: dict[str, list[Gold]] = {}
    for gold in golds:
        options = sorted((k, v) for k, v in gold.options.items() if k != "reference")
        shapes.setdefault("".join("0" if x.isdigit() else x for x in f"{gold.gold}|{options}"), []).append(
            gold
        )
    return _spread(list(shapes.values()), most)


def made(golds: Iterable[Gold], *, seed: int = 0) -> list[Case]:
    """All cases of some golds, in order. Another ``seed`` draws other cases of the same kinds."""
    return [case for gold in golds for case in cases_of(gold, seed)]


def suite(golds: Iterable[Gold], *, most: int = 3000, seed: int = 0) -> list[Case]:
    """The cases of some golds: ``made``, then ``selected``."""
    return selected(made(golds, seed=seed), most=most)


def selected(cases: Iterable[Case], *, most: int) -> list[Case]:
    """Cases without repetitions, of each kind at most ``most``, those of rare shapes first."""
    seen: set[tuple[str, str, str]] = set()
    by_kind: dict[str, dict[str, list[Case]]] = {}
    for case in cases:
        options = sorted((name, value) for name, value in case.options.items() if name != "reference")
        key = (case.gold, case.response, repr(options))
        if key not in seen:
            seen.add(key)
            by_kind.setdefault(case.kind, {}).setdefault(case.shape, []).append(case)
    found = []
    for kind in by_kind:
        found += _spread(list(by_kind[kind].values()), most)
    return found


def _spread(shapes: list[list[T]], most: int) -> list[T]:
    """One of each shape, then a second of each, and so on."""
    found: list[T] = []
    for turn in range(max(len(cases) for cases in shapes)):
        found += [cases[turn] for cases in shapes if turn < len(cases)]
        if len(found) >= most:
            break
    return found[:most]


def sample(cases: list[Case], each: int, *, pairs: int = 0) -> list[Case]:
    """At most ``each`` cases of every single kind, evenly over its cases, and ``pairs`` of all compositions."""
    by_kind: dict[str, list[Case]] = {}
    for case in cases:
        by_kind.setdefault("pairs" if case.composed else case.kind, []).append(case)
    found = []
    for kind, members in by_kind.items():
        wanted = pairs if kind == "pairs" else each
        step = max(1, len(members) // wanted) if wanted else len(members) + 1
        found += members[::step][:wanted]
    return found


__all__ = ["Case", "cases_of", "made", "sample", "selected", "suite", "varied"]
