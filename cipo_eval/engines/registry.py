"""Engines by name. An engine is one class and one options model, and a built-in one a line of the table here.

A user's engine is named by the place of its class, ``package.module:Class``, and is found and used the same way: its
``options`` is its options model (none: it has no options), its ``make`` makes it (docs/add-an-engine.md).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from cipo_eval.engines.engine import Engine
from cipo_eval.engines.options import (
    EngineContext,
    EngineOptions,
    HFOptions,
    LMEvalOptions,
    OpenAIOptions,
    RayOptions,
    ReplayOptions,
    VLLMOptions,
    refuse_secrets,
)
from cipo_eval.engines.template import FIXED_CLOCK
from cipo_eval.errors import UsageError, nearest
from cipo_eval.records import Problem, Request
from cipo_eval.settings import explained, named_object
from cipo_eval.texts import STRIP


class EngineClass(Protocol):
    """What the class of an engine has besides the ``Engine`` itself.

    Optionally also ``options``, its ``EngineOptions``, and ``preview``, a class method that takes what ``make`` takes
    and the first requests, and says in a line what the engine makes of them, short of loading weights.
    """

    def make(self, model: str, options: Any, context: EngineContext) -> Engine:
        """The engine (a class method). Raises ``UsageError``, ``MissingError``."""
        ...


class _BuiltIn(NamedTuple):
    options: type[EngineOptions]
    place: str
    """``module:Class``, imported when it is used: some need seconds."""


_ENGINES = {
    "hf": _BuiltIn(HFOptions, "cipo_eval.engines.hf:HFEngine"),
    "vllm": _BuiltIn(VLLMOptions, "cipo_eval.engines.vllm:VLLMEngine"),
    "openai": _BuiltIn(OpenAIOptions, "cipo_eval.engines.openai:OpenAIEngine"),
    "lm-eval": _BuiltIn(LMEvalOptions, "cipo_eval.engines.lm_eval:LMEvalEngine"),
    "ray": _BuiltIn(RayOptions, "cipo_eval.engines.ray:RayEngine"),
    "replay": _BuiltIn(ReplayOptions, "cipo_eval.engines.replay:ReplayEngine"),
}
_WITH_VARIANTS = frozenset({"lm-eval"})
"""Engines that are asked for with a name of theirs: ``lm-eval:NAME``, one of lm-eval's model classes."""


def names() -> tuple[str, ...]:
    """The built-in engines."""
    return tuple(_ENGINES)


def options_model(engine: str) -> type[EngineOptions]:
    """The options model of an engine: cheap for a built-in one, for a user's its module is imported. Raises
    ``UsageError`` for an engine that is not known."""
    if (built_in := _built_in(engine)) is not None:
        return built_in.options
    model: type[EngineOptions] = getattr(_imported(engine), "options", EngineOptions)
    return model


def engine_class(engine: str) -> EngineClass:
    """The class of an engine. Raises ``UsageError`` for an engine that is not known."""
    built_in = _built_in(engine)
    imported: EngineClass = _imported(engine if built_in is None else built_in.place)
    return imported


def flags() -> dict[str, list[str]]:
    """Options of built-in engines by name, each with the engines that have it."""
    owners: dict[str, list[str]] = {}
    for name, built_in in _ENGINES.items():
        for option in built_in.options.model_fields:
            owners.setdefault(option, []).append(name)
    return owners


def field(engine: str, option: str) -> FieldInfo:
    """The declaration of an option of a built-in engine."""
    return _ENGINES[engine].options.model_fields[option]


def options(engine: str, values: Mapping[str, Any]) -> EngineOptions:
    """Options of an engine from values by name. Raises ``UsageError`` for an unknown engine, options that it does not
    have, and values that it does not take."""
    model = options_model(engine)
    refuse_secrets(tuple(values), "--engine-option")
    if issubclass(model, RayOptions):
        return _with_inner(engine, model, values)
    return _validated(engine, model, values)


def _with_inner(engine: str, model: type[RayOptions], values: Mapping[str, Any]) -> RayOptions:
    """Options of an engine that holds another one, whose options stand beside its own."""
    own = {name: value for name, value in values.items() if name in model.model_fields}
    outer = _validated(engine, model, own)
    assert isinstance(outer, RayOptions)
    if twice := sorted(model.model_fields.keys() & options_model(outer.inner).model_fields.keys()):
        raise UsageError(
            f"--inner {outer.inner} has options of the same name as --engine {engine}: {', '.join(twice)}"
        )
    return outer.holding(options(outer.inner, {n: value for n, value in values.items() if n not in own}))


def _validated(engine: str, model: type[EngineOptions], values: Mapping[str, Any]) -> EngineOptions:
    owners = flags()
    foreign = [
        f"--{name.replace('_', '-')} (of {', '.join(owners[name])})"
        for name in values
        if name in owners and name not in model.model_fields
    ]
    if foreign:
        raise UsageError(f"--engine {engine} has no {', '.join(foreign)}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError(f"--engine {engine}: {explained(error, model)}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """An engine with its model and its options, checked and not yet made."""

    engine: str
    model: str
    options: EngineOptions
    think: str = STRIP
    """Between which tags thoughts stand (``cipo_eval.texts.think_tags``)."""

    def look(self) -> None:
        """Checks what can be told before anything heavy is imported. Raises ``UsageError``, ``MissingError``."""
        self.options.look(self.model)

    def identity(self) -> dict[str, Any]:
        """What ``describe`` will say of the engine, as far as it can be told before the model is loaded."""
        return self.options.identity(self.model)

    def recommended(self) -> dict[str, Any]:
        """Sampling parameters that the model recommends. Raises ``UsageError`` where there is no such thing."""
        recommendation = self.options.recommended(self.model)
        if recommendation is None:
            raise UsageError(f"--preset checkpoint needs a checkpoint: --engine {self.engine} has none here")
        return recommendation

    def make(
        self,
        problems: Sequence[Problem],
        *,
        clock: datetime = FIXED_CLOCK,
        say: Callable[[str], None] = lambda _: None,
    ) -> Engine:
        """The engine, its model loaded; the arguments as in ``EngineContext``. Raises ``UsageError``,
        ``MissingError``."""
        context = replace(self._context(problems, clock), say=say)
        return engine_class(self.engine).make(self.model, self.options, context)

    def preview(self, problems: Sequence[Problem], requests: Sequence[Request]) -> str:
        """A line on what the engine makes of the model and of its first requests, short of loading weights."""
        look_closer = getattr(engine_class(self.engine), "preview", None)
        if look_closer is None:
            return f"{self.model} (what {self.engine} makes of it is not looked at)"
        return str(look_closer(self.model, self.options, self._context(problems, FIXED_CLOCK), requests))

    def _context(self, problems: Sequence[Problem], clock: datetime) -> EngineContext:
        return EngineContext(engine=self.engine, problems=problems, clock=clock, think=self.think)


def _built_in(engine: str) -> _BuiltIn | None:
    """The entry of a built-in engine; None for a user's class. Raises ``UsageError`` for an unknown name."""
    name, _, variant = engine.partition(":")
    built_in = _ENGINES.get(name)
    if built_in is None and not (name and variant):
        raise UsageError(f"unknown --engine {engine}: {nearest(name, _ENGINES)}")
    if built_in is not None and bool(variant) != (name in _WITH_VARIANTS):
        raise UsageError(
            f"--engine {engine}: write lm-eval:NAME with the name of one of lm-eval's model classes, "
            "and other engines by their names alone"
        )
    return built_in


def _imported(place: str) -> Any:
    """The class at ``package.module:Class``."""
    engine = named_object(place, "--engine")
    if not isinstance(engine, type):
        raise UsageError(f"--engine {place} is not a class")
    if not callable(getattr(engine, "make", None)):
        raise UsageError(f"--engine {place} has no class method make (docs/add-an-engine.md)")
    return engine
