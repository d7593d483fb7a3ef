"""Sections of a training's configuration that leave its steps alone: evaluations, budgets, checkpoints, logs."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from cipo_eval.analysis.figures import FRESH, LIFT, REVISED
from cipo_eval.engines.conversation import Chat
from cipo_trainer.sections import Beside, Section


class Evaluation(Section):
    """Evaluation by the harness during training."""

    tasks: list[str] = []
    """Tasks of the harness that are held out; empty: no evaluation."""
    every: int = Field(default=50, ge=1)
    """Steps between two evaluations; there is one at the start and at the end too."""
    samples: int = Field(default=1, ge=1)
    limit: int | None = Field(default=None, ge=1)
    temperature: float = Field(default=1.0, ge=0)
    max_tokens: int | None = Field(default=None, ge=1)
    """Most new tokens of an answer; by default rollout.max_tokens."""
    protocol: list[str] = ["direct"]
    """Protocols of the harness: ``self`` tells whether it corrects itself."""
    turn_format: Literal["inline", "chat"] = "inline"
    """How a protocol shows the earlier answer, as in ``correction``."""
    prompt_dir: Beside = None
    """Folder of own templates, as in ``correction``."""
    chat: Chat | None = None
    """In place of ``chat``, where evaluations are to ask otherwise than the training; a difference is said."""
    engine: dict[str, Any] = {}
    """Another engine than the training's own, with its options, as the section engine of `cipo-eval run` has them:
    ``{engine: ray, inner: hf, replicas: 4}``. It gets a checkpoint of the weights, in ``output``."""


class Stop(Section):
    """When a training ends before its ``steps``: after the step that reaches the first of the budgets, or when it is as
    good as wanted."""

    generated_tokens: int | None = Field(default=None, ge=1)
    """Tokens that were generated for it, discarded ones too."""
    processed_tokens: int | None = Field(default=None, ge=1)
    """Tokens that went through the model in training, prompts included."""
    attempts: int | None = Field(default=None, ge=1)
    """Attempts and corrections that were generated, discarded ones too."""
    hours: float | None = Field(default=None, gt=0)
    """Hours of its steps, those of earlier calls included; evaluations do not count."""
    figures: dict[str, float] = {}
    """Figures of the evaluations, by their names in the log (``chains/self/retention``), and how large they have to be:
    a training ends after the first evaluation in which all of them are. One that does its ``steps`` without that has
    failed (exit code 1)."""

    @property
    def beside_others(self) -> str | None:
        """The first of ``figures`` that compares an attempt with others at its problem, if one does."""
        others = {figure.name for figure in (LIFT, REVISED, FRESH)}
        return next((name for name in self.figures if name.rpartition("/")[2] in others), None)


class Saving(Section):
    """When checkpoints are written, and which stay."""

    every: int = Field(default=50, ge=1)
    """Steps between two checkpoints; also at the end, and after Ctrl-C."""
    keep: int = Field(default=2, ge=1)
    """The last ones that are kept with their trainer state; the best one by the first evaluation task too."""
    asynchronous: bool = False
    """Steps go on while one is written; takes a copy of weights and optimizer in the host's memory."""


class Logging(Section):
    """Logs beside log.jsonl, which is always written."""

    tensorboard: bool = False
    """Event files in ``output``."""
    wandb: str | None = None
    """Project of Weights & Biases that the run is logged to."""
    trackio: str | None = None
    """Project of Trackio that the run is logged to."""
    mlflow: str | None = None
    """Experiment of MLflow that the run is logged to."""
    samples: int = Field(default=1, ge=0)
    """Attempts of each stream that are written out per step, in samples.jsonl."""
