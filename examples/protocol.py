"""A protocol of one's own: the model sees its answer again and is asked to put it back into the problem.

PYTHONPATH=examples cipo-eval run --model CKPT --tasks math500 --protocol direct,protocol:SUBSTITUTE
PYTHONPATH=examples cipo-eval run --model CKPT --tasks math500 --protocol protocol:COUNTDOWN --turns 4
"""

from collections.abc import Sequence

from cipo_eval.records import Turn
from cipo_eval.turns.protocols import Protocol

SUBSTITUTE = Protocol(
    name="substitute",
    summary="its own attempt again, with the request to put the answer back into the problem",
    template="Put your answer back into the problem and see whether everything that was asked holds. "
    "Then write out the solution once more, changed or not, with the final answer in the form that was asked for.",
)


class Countdown(Protocol):
    """What is asked may also depend on the turns so far."""

    def instruction(self, history: Sequence[Turn]) -> str:
        return f"You have gone through this {len(history)} time(s). Check it again and give the final answer."


COUNTDOWN = Countdown(name="countdown_again", summary="asked again and again, told how often")
