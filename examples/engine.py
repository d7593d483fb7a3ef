"""An engine of your own: it asks a program. The prompt goes to its standard input, its output is the answer.

cipo-eval run --engine engine:Shell --model my-solver --tasks arithmetic --engine-option command='./my-solver --fast'
"""

import os
import subprocess

from cipo_eval.engines.engine import OneByOneEngine
from cipo_eval.engines.options import EngineOptions
from cipo_eval.records import Completion, Failure, FinishReason, Request


class ShellOptions(EngineOptions):
    """What can be asked for with --engine-option."""

    command: str
    """What the shell runs, once for each sample; SEED of its environment is the sample's seed."""
    seconds: float = 60.0
    """Time after which it is ended, and the sample has failed."""


class Shell(OneByOneEngine[ShellOptions]):
    """Answers are what a command writes."""

    name, options = "shell", ShellOptions

    def complete(self, request: Request, seed: int) -> Completion | Failure:
        command, limit = ["sh", "-c", self.chosen.command], self.chosen.seconds
        prompt, environment = request.messages[-1]["content"], {**os.environ, "SEED": str(seed)}
        try:
            ended = subprocess.run(
                command, input=prompt, env=environment, timeout=limit, capture_output=True, text=True
            )
        except subprocess.TimeoutExpired:
            return Failure(why=f"no answer within {limit:g} seconds")
        if ended.returncode:
            return Failure(why=f"the command ended with status {ended.returncode}")
        return Completion(text=ended.stdout, finish_reason=FinishReason.STOP)
