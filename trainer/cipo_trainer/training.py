"""A training from its configuration to its last checkpoint: what ``cipo_trainer.train``, ``python -m cipo_trainer`` and
``cipo-eval train`` share."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, MissingError, require
from cipo_eval.interrupts import Interrupts
from cipo_trainer.config import Config
from cipo_trainer.presets import load

if TYPE_CHECKING:
    from cipo_trainer.loop import Trainer, Watch

LINE_SECONDS = 10.0
"""Seconds between two lines of progress; evaluations and the last step have theirs at once."""
Say = Callable[[str], None]
"""Tells the user something, a line at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a training."""

    output: Path
    """Folder of the training."""
    steps: int
    """Steps done, with those of earlier calls."""
    checkpoint: Path
    """Folder of the last checkpoint."""
    best: Mapping[str, Any]
    """Step, figure and value of the best evaluation; empty without evaluations."""
    skipped: int
    """Updates that were not finite and changed nothing."""
    verifier_failed: int
    """Attempts that got no verdict and count as wrong."""
    not_finite: str = ""
    """What was not finite in the last of the skipped updates."""
    reward_failed: int = 0
    """Values that rewards of the user's own could not give, which count as 0."""
    reward_why: str = ""
    """The last of them, and why."""
    stopped: str = ""
    """The budget that ended it, or ``stop.figures``; empty: all its steps are done."""
    wanting: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)
    """Of ``stop.figures`` those that its last evaluation did not reach: what was wanted, and what it was."""

    @property
    def failures(self) -> list[str]:
        """What went wrong on the way, a line each."""
        lines = []
        if self.skipped:
            last = f" (the last: {self.not_finite})" if self.not_finite else ""
            lines.append(f"{self.skipped} update(s) were not finite and changed nothing{last}")
        if self.verifier_failed:
            lines.append(
                f"the verifier gave no verdict for {self.verifier_failed} attempt(s), which count as wrong"
            )
        if self.reward_failed:
            lines.append(
                f"rewards of your own gave no value {self.reward_failed} time(s), which count as 0 "
                f"(the last: {self.reward_why})"
            )
        for name, (wanted, value) in self.wanting.items():
            what = "undefined" if value is None else f"{value:.3f}"
            lines.append(f"{name} is {what} after {self.steps} steps, not {wanted:g} (stop.figures)")
        return lines

    @property
    def exit_code(self) -> int:
        """1 where there are failures, else 0."""
        return EXIT_FAILURES if self.failures else EXIT_OK

    def plain(self) -> dict[str, Any]:
        """The values that ``--json`` prints."""
        return {
            "steps": self.steps,
            "checkpoint": str(self.checkpoint),
            "best": dict(self.best),
            "skipped": self.skipped,
            "verifier_failed": self.verifier_failed,
            "reward_failed": self.reward_failed,
            "stopped": self.stopped,
        }


def configured(source: str | Path, overrides: Sequence[str] = (), init_from: str | None = None) -> Config:
    """The configuration of a file or preset with ``key=value`` over it. Raises ``UsageError``.

    ``init_from``: a checkpoint to start from, or the folder of a training, for its last one.
    """
    if init_from is not None:
        from cipo_trainer.saving import newest

        overrides = [*overrides, f"model={json.dumps(newest(init_from))}"]
    return load(source, overrides)


def train(
    config: Config, watch: Watch = lambda *_: None, say: Say = lambda _: None, *, resume: bool = True
) -> Outcome:
    """Trains in ``config.output``, from the last checkpoint that is there, until ``config.steps`` steps are done.

    ``watch`` is told of every step, ``say`` of what a user should know. ``resume`` False: a run that is there is
    refused. Raises ``UsageError`` where the folder is another process's, or holds something else or another run, and
    what ``Trainer`` raises; ``KeyboardInterrupt`` after a signal, with a checkpoint of the last whole step. In a
    process that ``torchrun`` started it trains together with the others, all of which have to call it.
    """
    require("train", "training")
    from cipo_trainer.distributed.world import joined
    from cipo_trainer.loop import Trainer

    with (
        _threads(config.threads),
        joined(config.device) as world,
        Interrupts() as interrupts,
        Trainer(config, watch, say, resume=resume, world=world) as trainer,
    ):
        if done := trainer.state.step:
            say(f"going on after step {done} of {config.steps}")
        try:
            trainer.run(interrupts)
        except KeyboardInterrupt:
            done = trainer.state.step
            say(f"interrupted: {done} steps are kept in {config.output}; the same command goes on")
            raise
        except Exception as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise MissingError(
                "out of memory (`cipo-eval train … --plan` says what takes it): lower optimizer.micro_tokens or "
                "rollout.batch_tokens, set optimizer.checkpointing=true or optimizer.moments=8bit, or train adapters "
                f"(lora.rank=16); steps up to the last checkpoint in {config.output} are kept"
            ) from error
        outcome = _outcome(trainer)
        if outcome.stopped:
            how = "are reached" if trainer.reached else "is used up"
            say(f"ended after step {outcome.steps} of {config.steps}: {outcome.stopped} {how}")
        return outcome


def _outcome(trainer: Trainer) -> Outcome:
    state = trainer.state
    return Outcome(
        output=trainer.config.output,
        steps=state.step,
        checkpoint=trainer.checkpoints.path(state.step),
        best=state.best,
        skipped=state.skipped,
        verifier_failed=state.failed,
        not_finite=state.not_finite,
        reward_failed=state.reward_failed,
        reward_why=state.reward_why,
        stopped=trainer.ended if state.step < trainer.config.steps else "",
        wanting={name: (trainer.config.stop.figures[name], value) for name, value in trainer.wanting.items()},
    )


def lines(config: Config, say: Say) -> Watch:
    """Says a line with the key figures now and then, for a log."""
    from cipo_trainer.measure import headline

    last = time.monotonic() - LINE_SECONDS

    def line(step: int, measured: Mapping[str, Any]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= LINE_SECONDS or step == config.steps or "seconds_train" not in measured:
            last = now
            say(f"step {step}/{config.steps}: {headline(measured)}")

    return line


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """As many threads of the CPU as asked for, in this block."""
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
