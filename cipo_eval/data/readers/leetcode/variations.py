"""Known inputs, varied by the type of their values, as EvalPlus does."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from cipo_eval.data.readers.leetcode.constraints import Constraints
from cipo_eval.data.readers.leetcode.limits import between

Args = tuple[Any, ...]
"""An input: a value for each parameter, in order."""


def ordered(rules: Constraints, name: str, values: list[Any]) -> list[Any]:
    """Values in the order that the statement promises."""
    if name not in rules.ascending:
        return values
    up = rules.ascending[name]
    if values and isinstance(values[0], list):
        return [sorted(row, reverse=not up) for row in values]
    return sorted(values, reverse=not up)


class Variation:
    """Makes small changes to known inputs."""

    def __init__(
        self, rng: random.Random, rules: Constraints, kinds: Mapping[str, str], known_inputs: Sequence[Args]
    ) -> None:
        self.rng, self.rules, self.kinds, self.known = rng, rules, kinds, known_inputs

    def varied(self) -> Args:
        """A known input with one to three changes; it need not keep what is promised."""
        args = list(self.rng.choice(self.known))
        for _ in range(self.rng.choice((1, 1, 2, 3))):
            at = self.rng.randrange(len(args))
            args[at] = self.vary(args[at], self.rules.names[at], self.kinds[self.rules.names[at]])
        env = dict(zip(self.rules.names, args, strict=True))
        return tuple(
            ordered(self.rules, name, value) if isinstance(value, list) else value
            for name, value in env.items()
        )

    def vary(self, value: Any, name: str, kind: str) -> Any:
        """A value with one change, after its type."""
        rng = self.rng
        if isinstance(value, bool):
            return not value
        if isinstance(value, int):
            if name in self.rules.values:
                return rng.choice(self.rules.values[name])
            return rng.choice(
                (value + 1, value - 1, 2 * value, value // 2, -value, 0, 1, value + between(rng, -9, 9))
            )
        if isinstance(value, float):
            return rng.choice((value + 1, value / 2, round(value + 0.5, 2)))
        if isinstance(value, str):
            return self.vary_text(value, name)
        if not isinstance(value, list) or kind == "tn":
            return [v if v is None else self.vary(v, name, "") for v in value] if value else value
        value = list(value)
        if not value:
            return value
        at = rng.randrange(len(value))
        how = rng.randrange(7)
        if how == 0:
            del value[at]
        elif how == 1:
            value.insert(rng.randrange(len(value) + 1), value[at])
        elif how == 2:
            other = rng.randrange(len(value))
            value[at], value[other] = value[other], value[at]
        elif how == 3:
            rng.shuffle(value)
        elif how == 4:
            value.reverse()
        else:
            value[at] = self.vary(value[at], name, "")
        return value

    def vary_text(self, value: str, name: str) -> str:
        """A text with a character less, more or exchanged, reversed, or with two characters swapped."""
        rng = self.rng
        alphabet = self.rules.alphabets.get(name) or value or "a"
        if rng.random() < 0.5:
            alphabet = value or alphabet
        if not value:
            return rng.choice(alphabet)
        at, other = rng.randrange(len(value)), rng.randrange(len(value))
        how = rng.randrange(6)
        if how == 0:
            return value[:at] + value[at + 1 :]
        if how == 1:
            return value[:at] + rng.choice(alphabet) + value[at:]
        if how == 2:
            letters = list(value)
            letters[at], letters[other] = letters[other], letters[at]
            return "".join(letters)
        if how == 3:
            return value[::-1]
        return value[:at] + rng.choice(alphabet) + value[at + 1 :]
