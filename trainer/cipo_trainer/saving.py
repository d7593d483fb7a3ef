"""Checkpoints: ordinary Hugging Face folders with the trainer's state beside the weights.

``checkpoints/step-000100/`` appears whole or not at all. The last few are kept, and the best one. A run that goes on
from one gives what it would have given without the break: everything that changes is in there, and all randomness is
made of (seed, step).

Process 0 writes. Where weights are in parts, every process writes its parts of the optimizer beside it, in the form of
``torch.distributed.checkpoint``. Any number of processes goes on from either.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from cipo_eval.engines import conversation
from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.files import UNFINISHED, Writing, unfinished, whole_folder
from cipo_trainer.distributed.world import World

STATE = "trainer_state"
PARTS = "parts"
"""Where the parts of the optimizer are, in ``STATE``; whole, it is a file."""


class Checkpoints:
    """The checkpoints of one run; the last ``keep`` stay, and the best."""

    def __init__(
        self,
        folder: Path,
        keep: int,
        chat: Chat = Chat(),  # noqa: B008  frozen
        world: World | None = None,
    ) -> None:
        """``chat``: how the model is asked, which checkpoints remember. ``world``: the processes that save together."""
        self.folder, self._keep, self._chat, self._world = folder, keep, chat, world or World()

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        names = [p.name for p in self.folder.glob("step-*") if (p / STATE / "state.json").is_file()]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint, whether it is there or not."""
        return self.folder / f"step-{step:06d}"

    def save(
        self,
        step: int,
        model: Any,
        tokenizer: Any,
        state: Mapping[str, Any],
        tensors: Any,
        best: int | None,
    ) -> Path:
        """Writes a checkpoint, and removes those that are not kept. ``tensors`` go beside the ``state``, which is JSON:
        what ``Masters.state`` gives, or a function by which every process writes its parts into a folder; ``best``: the
        step of a checkpoint that stays. Raises ``MissingError`` where the disk is full; what was there stays then."""
        final = self.path(step)
        in_parts: Callable[[Path], None] | None = tensors if callable(tensors) else None
        with ExitStack() as stack:

            def begin() -> None:
                with Writing(self.folder):
                    self.clean()
                    partial = stack.enter_context(whole_folder(final))
                    (partial / STATE).mkdir()
                    model.save_pretrained(partial)
                    tokenizer.save_pretrained(partial)
                    conversation.write(partial, self._chat)
                    if in_parts is None:
                        torch.save(tensors, partial / STATE / "optimizer.pt")
                    written = json.dumps(state, indent=1)
                    (partial / STATE / "state.json").write_text(written, encoding="utf-8")

            def end() -> None:
                with Writing(self.folder):
                    stack.close()

            self._world.first(begin)
            if in_parts is not None:
                in_parts(unfinished(final) / STATE / PARTS)
            self._world.first(end)
        self._world.first(lambda: self._prune(best))
        return final

    def load(self, step: int) -> tuple[dict[str, Any], Any]:
        """State and tensors of a step's checkpoint; in place of tensors that are in parts, their folder. Raises
        ``UsageError`` for a damaged checkpoint."""
        place = self.path(step) / STATE
        try:
            state = json.loads((place / "state.json").read_text(encoding="utf-8"))
            if (place / PARTS).is_dir():
                return state, place / PARTS
            return state, torch.load(place / "optimizer.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise self.damaged(step, error) from error

    def damaged(self, step: int, why: Exception) -> UsageError:
        """The error for a checkpoint that cannot be read."""
        return UsageError(f"{self.path(step)} is damaged ({why}); remove it to go on from the one before")

    def clean(self) -> None:
        """Removes what a killed process left half-written."""
        for path in self.folder.glob(f".*{UNFINISHED}"):
            shutil.rmtree(path, ignore_errors=True)

    def _prune(self, best: int | None) -> None:
        for step in self.steps()[: -self._keep]:
            if step != best:
                shutil.rmtree(self.path(step), ignore_errors=True)


def newest(place: str) -> str:
    """The checkpoint that ``place`` stands for: of a training run's folder its last one."""
    checkpoints = Checkpoints(Path(place) / "checkpoints", 1)
    steps = checkpoints.steps() if Path(place).is_dir() else []
    return str(checkpoints.path(steps[-1])) if steps else place
