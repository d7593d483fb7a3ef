"""Training problems, and rows for supervised training: from a task, a file, the hub or a generator.

What is drawn depends on (seed, position) only, so a run that goes on needs to know nothing but its position.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Generic, TypeVar

from cipo_eval.data.definitions import BOXED, Columns
from cipo_eval.data.sources import Row, Source, read_rows
from cipo_eval.data.tasks import build, load_problems, load_spec
from cipo_eval.engines.chat import render
from cipo_eval.engines.conversation import Chat
from cipo_eval.engines.prompting import setting_of
from cipo_eval.errors import UsageError
from cipo_eval.records import Problem, derive_seed, fingerprint
from cipo_eval.texts import last_boxed
from cipo_trainer.config import Config, Data
from cipo_trainer.packing import TrainSequence
from cipo_trainer.presets import definition
from cipo_trainer.sections import config_dir
from cipo_trainer.worlds.family import Pair
from cipo_trainer.worlds.registry import family

T = TypeVar("T")


class Draws(Generic[T]):
    """An endless stream: a list in a new order every epoch, or what a generator makes for a position."""

    def __init__(
        self, items: Sequence[T] | Callable[[int], T], seed: int, identity: str, verifier: str = ""
    ) -> None:
        self._items, self._seed = items, seed
        self.identity = identity
        """Fingerprint of what is drawn from."""
        self.verifier = verifier
        """The harness's verifier that judges attempts at it."""
        self.warnings: tuple[str, ...] = ()
        """What a user must hear of the data."""
        self._order = lru_cache(maxsize=2)(self._shuffled)

    def take(self, position: int, count: int) -> list[T]:
        """The items at ``position`` and after it."""
        return [self._at(at) for at in range(position, position + count)]

    def _at(self, position: int) -> T:
        if not isinstance(self._items, Sequence):
            return self._items(position)
        epoch, place = divmod(position, len(self._items))
        return self._items[self._order(epoch)[place]]

    def _shuffled(self, epoch: int) -> list[int]:
        order = list(range(len(self._items)))  # type: ignore[arg-type]  # a sequence
        random.Random(derive_seed(self._seed, "order", epoch)).shuffle(order)
        return order


def problems(config: Config) -> Draws[Problem]:
    """What reinforcement learning draws its problems from.

    Raises ``UsageError``/``MissingError`` for data that is not there, damaged, or without a wanted problem.
    """
    data = config.data
    if data.generator:
        made = family(data.generator, data.dial)
        return Draws(
            lambda at: made.problem_at(at, seed=config.seed), config.seed, made.fingerprint(), made.verifier
        )
    if data.task:
        loaded = load_problems(definition(data.task), data_dir=data.dir)
        chosen = [p for p in loaded.problems if _wanted(data, p.metadata)]
        identity, verifier, warnings = loaded.fingerprint, loaded.spec.verifier, loaded.warnings
    else:
        assert data.path is not None
        rows = [row for row in read_rows(data.path.expanduser()) if _wanted(data, row)]
        (chosen, identity, verifier), warnings = _from_rows(data, rows), ()
    chosen = chosen[: data.limit]
    if not chosen:
        raise UsageError("data: no problem is left of it (data.where)")
    if config.reward.allow_unsafe_code:
        chosen = [replace(p, options={**p.options, "allow_unsafe": True}) for p in chosen]
    draws = Draws(chosen, config.seed, fingerprint([identity, data.where, data.limit]), verifier)
    draws.warnings = warnings
    return draws


def rows(config: Config) -> Draws[Pair]:
    """What supervised training draws its pairs of prompt and completion from. Raises as ``problems`` does."""
    data = config.data
    if data.generator:
        made, share = family(data.generator, data.dial), data.corrections
        return Draws(
            lambda at: made.pair_at(at, seed=config.seed, corrections=share),
            config.seed,
            f"{made.fingerprint()} {share}",
        )
    assert data.path is not None
    chosen = [row for row in read_rows(data.path.expanduser()) if _wanted(data, row)][: data.limit]
    if not chosen:
        raise UsageError("data: no row is left of it (data.where)")
    spec_rows, _, _ = _from_rows(data, chosen, golds=False)
    pairs = [
        (problem.prompt, _column(row, data.completion, f"row {i + 1}"))
        for i, (problem, row) in enumerate(zip(spec_rows, chosen, strict=True))
    ]
    return Draws(pairs, config.seed, fingerprint(pairs))


def encoded(tokenizer: Any, pairs: Sequence[Pair], chat: Chat = Chat()) -> list[TrainSequence]:  # noqa: B008  frozen
    """Rows of supervised training as they are trained: the prompt's tokens are those that a generation from it begins
    with, and the end token is learned. Raises ``UsageError`` for a tokenizer that has none."""
    if tokenizer.eos_token_id is None:
        raise UsageError("the tokenizer has no end token: the model could not learn to stop")
    prompts, special = zip(
        *(render(tokenizer, chat.messages(p), setting_of(chat)) for p, _ in pairs), strict=True
    )
    before = tokenizer(list(prompts), add_special_tokens=special[0])["input_ids"]
    after = tokenizer([completion for _, completion in pairs], add_special_tokens=False)["input_ids"]
    end = tokenizer.eos_token_id
    return [
        TrainSequence(prompt=p, tokens=[*c, end], advantage=1.0) for p, c in zip(before, after, strict=True)
    ]


def _from_rows(data: Data, rows: Sequence[Row], *, golds: bool = True) -> tuple[list[Problem], str, str]:
    """As a task with these columns would read them."""
    spec = load_spec(config_dir() / "data" / "any_math.yaml")
    columns = Columns(question=tuple(data.question), gold=tuple(data.answer))
    if not golds:
        columns, rows = replace(columns, gold=("gold",)), [{**row, "gold": "none"} for row in rows]
    spec = replace(spec, columns=columns, template=data.prompt, own=replace(spec.own, keep=columns.names()))
    loaded = build(spec, rows, Source(kind="file"), {"path": str(data.path)})
    return list(loaded.problems), loaded.fingerprint, spec.verifier


def _column(row: Mapping[str, Any], names: Iterable[str], where: str) -> str:
    for name in names:
        value = row.get(name.removeprefix(BOXED))
        if isinstance(value, str) and value:
            return (last_boxed(value) or "") if name.startswith(BOXED) else value
    raise UsageError(f"data.completion: {where} has none of the columns {', '.join(names)}")


def _wanted(data: Data, values: Mapping[str, Any]) -> bool:
    return all(
        str(values.get(column)) in ([str(v) for v in value] if isinstance(value, list) else [str(value)])
        for column, value in data.where.items()
    )
