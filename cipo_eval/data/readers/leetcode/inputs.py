"""Further inputs for a problem whose tests are few: made from what its statement promises and from its known inputs.

As EvalPlus does, known inputs are varied by type; beside that, new ones are made within the constraints: the smallest,
the largest values, few different values (so that things coincide), random ones of several sizes, and a large one. The
same problem always gets the same inputs. What they lead to is nobody's guess: right programs say it
(``testsets.Test.confirmed``).
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence

from cipo_eval.data.readers.leetcode.comparisons import OpenError
from cipo_eval.data.readers.leetcode.constraints import Constraints
from cipo_eval.data.readers.leetcode.limits import NothingFitsError
from cipo_eval.data.readers.leetcode.making import LARGE, Maker, Plan
from cipo_eval.data.readers.leetcode.variations import Args, Variation

MAX_INPUTS = 36
"""Inputs that are made for a problem, beside a large one."""
VARIED = 12
"""How many of them are made from known inputs."""
TRIES = 12
"""Tries to make one input that keeps all promises."""

PLANS = (
    Plan((0, 1), "few", "least"),
    Plan((1, 1), "edge", "greatest"),
    Plan((1, 2), "small", "any"),
    Plan((2, 3), "few", "any"),
    Plan((3, 5), "edge", "any"),
    Plan((2, 4), "small", "greatest"),
    Plan((3, 6), "one", "any"),
    Plan((3, 6), "few", "any"),
    Plan((4, 7), "small", "any"),
    Plan((4, 8), "few", "any"),
    Plan((5, 9), "small", "any"),
    Plan((6, 10), "wide", "any"),
    Plan((6, 12), "few", "any"),
    Plan((8, 16), "small", "any"),
    Plan((15, 40), "few", "any"),
    Plan((20, 60), "wide", "any"),
)
"""Of fresh inputs, in the order in which they are tried, over and over."""


def more_inputs(
    slug: str, rules: Constraints, kinds: Sequence[str], known_inputs: Sequence[Args]
) -> list[Args]:
    """Inputs that keep all promises that are understood, none of them known; the large one last."""
    rng = random.Random(f"{slug}: more inputs")
    maker = Maker(rng, rules, kinds, known_inputs)
    variation = Variation(rng, rules, maker.kinds, known_inputs)
    seen = {json.dumps(args) for args in known_inputs}
    made: list[Args] = []

    def keep(source: Callable[[], Args | None], tries: int = TRIES) -> bool:
        for _ in range(tries):
            try:
                args = source()
            except (OpenError, NothingFitsError, IndexError, TypeError, ValueError, OverflowError):
                continue
            if args is None or (text := json.dumps(args)) in seen:
                continue
            if rules.holds(dict(zip(rules.names, args, strict=True))):
                seen.add(text)
                made.append(args)
                return True
        return False

    for _ in range(VARIED if known_inputs else 0):
        keep(variation.varied)
    at = fails = 0
    while len(made) < MAX_INPUTS and fails < 2 * len(PLANS):
        plan = PLANS[at % len(PLANS)]
        fails = 0 if keep(lambda plan=plan: maker.fresh(plan)) else fails + 1  # type: ignore[misc]
        at += 1
    made.sort(key=lambda args: len(json.dumps(args)))
    keep(lambda: maker.fresh(Plan((LARGE // 2, LARGE), "wide", "any"), large=True), 3)
    return made
