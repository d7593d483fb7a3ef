"""Rows for supervised training that show the model's own attempts, as it makes them before the training, and what the
teacher of a family makes of them: corrections are learned of the errors that the model has.

The attempts are drawn once, from the weights that the training begins with, and kept in its folder, so that a training
that goes on shows the same ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cipo_eval.errors import MissingError, UsageError
from cipo_eval.files import Writing, read_json_lines, write_json_lines
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Failure, derive_seed
from cipo_trainer.config import Config
from cipo_trainer.problems import Draws
from cipo_trainer.rollout import first_requests
from cipo_trainer.worlds.family import Pair, draws
from cipo_trainer.worlds.registry import family

if TYPE_CHECKING:
    from cipo_trainer.policy import Policy

FILE = "own_attempts.jsonl"
"""In the folder of the training: problem and attempt, a line each."""
Attempt = tuple[str, str]
"""A problem as it is asked, and what the model wrote."""


def own_attempts(config: Config, policy: Policy) -> list[Attempt]:
    """One attempt at each of ``data.own_attempts`` problems of training, at temperature 1, from the weights as they
    are; those of the folder where it has them. Raises ``MissingError`` where the engine fails."""
    path = config.output / FILE
    if path.is_file():
        return [(line.value["problem"], line.value["attempt"]) for line in read_json_lines(path)]
    made = family(str(config.data.generator), config.data.dial)
    seed = derive_seed(config.seed, "own attempts")
    problems = [made.problem_at(at, seed=seed) for at in range(config.data.own_attempts)]
    requests = first_requests(problems, 1, config.rollout.max_tokens, config.chat, seed)
    drawn: dict[int, str] = {}
    places = {id(request): at for at, request in enumerate(requests)}
    policy.wake()
    with Interrupts() as interrupts, interrupts.allowed():
        for request, _, completion in policy.engine.generate(requests):
            if isinstance(completion, Failure):
                raise MissingError(f"the engine cannot draw the model's own attempts: {completion.why}")
            drawn[places[id(request)]] = completion.text
    policy.sleep()
    attempts = [(problem.question, drawn[at]) for at, problem in enumerate(problems)]
    with Writing(config.output):
        write_json_lines(path, [{"problem": problem, "attempt": text} for problem, text in attempts])
    return attempts


def rows_of(config: Config, attempts: list[Attempt]) -> Draws[Pair]:
    """Rows as those of the family, but that corrections are of these attempts: right ones in its share, and of those
    that are wrong in the form of one.

    Raises ``UsageError`` for a family that cannot correct a model's attempts, and where all of them are right, or
    wrong, or in no form that it knows.
    """
    made, share = family(str(config.data.generator), config.data.dial), config.data.corrections
    judged = [(attempt, made.judged(*attempt)) for attempt in attempts]
    right, wrong = ([attempt for attempt, seen in judged if seen is verdict] for verdict in (True, False))
    if not right or not wrong:
        raise UsageError(
            f"data.own_attempts: of {len(attempts)} attempts {len(right)} are right and {len(wrong)} are wrong in the "
            "form of an attempt; corrections are learned of both: begin with a model that has learned first answers"
        )

    def row(at: int) -> Pair:
        rng = draws(made.name, "own row", config.seed, at)
        if rng.random() >= share:
            return made.pair_at(at, seed=config.seed)
        shown = right if rng.random() < made.share_right else wrong
        return made.correction_of(*shown[rng.randrange(len(shown))], rng)

    identity = f"{made.fingerprint()} {share} own {config.data.own_attempts}"
    return Draws(row, config.seed, identity)
