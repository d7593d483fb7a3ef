"""Correction problems as a taskset of `verifiers` (v1), with the risk-averse reward of cipo-eval (docs/rewards.md).

Rows are JSON Lines with ``prompt``, ``solution`` and ``attempt``, the answer that is to be corrected:

    PYTHONPATH=examples eval verifiers_correction --env.taskset.data rows.jsonl -m MODEL
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import verifiers.v1 as vf

from cipo_eval.rewards import correction_reward

__all__ = ["CorrectionTaskset"]
ASK = "Look at your answer again. If it is wrong, correct it. Put the final answer in \\boxed{}."


class CorrectionData(vf.TaskData):
    """A problem with an attempt at it; neither the solution nor a verdict is shown to the model."""

    solution: str
    attempt: str


class CorrectionTask(vf.Task[CorrectionData]):
    """Rewards a right second answer; spoiling a right first one costs."""

    @vf.reward
    async def correction(self, trace: vf.Trace) -> float:
        told = await asyncio.to_thread(
            correction_reward,
            completions=[trace.last_reply],
            solution=[self.data.solution],
            attempt=[self.data.attempt],
        )
        return told[0] or 0.0


class CorrectionConfig(vf.TasksetConfig):
    """Where the rows are."""

    data: Path = Path("rows.jsonl")


class CorrectionTaskset(vf.Taskset[CorrectionTask, CorrectionConfig]):
    """One task for each row."""

    def load(self) -> Iterator[CorrectionTask]:
        for line in self.config.data.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            said = [("user", row["prompt"]), ("assistant", row["attempt"]), ("user", ASK)]
            prompt = [{"role": role, "content": content} for role, content in said]
            yield CorrectionTask(
                CorrectionData(prompt=prompt, **{k: row[k] for k in ("solution", "attempt")})
            )
