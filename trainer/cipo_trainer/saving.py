"""Checkpoints: ordinary Hugging Face folders with the trainer's state beside the weights.

``checkpoints/step-000100/`` appears whole or not at all. The last few are kept, and the best one. A run that goes on
from one gives what it would have given without the break: everything that changes is in there, and all randomness is
made of (seed, step).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cipo_eval.engines import conversation
from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.files import UNFINISHED, Writing, whole_folder

STATE = "trainer_state"


class Checkpoints:
    """The checkpoints of one run; the last ``keep`` stay, and the best."""

    def __init__(self, folder: Path, keep: int, chat: Chat = Chat()) -> None:  # noqa: B008  frozen
        """``chat``: how the model is asked, which checkpoints remember."""
        self.folder, self._keep, self._chat = folder, keep, chat

    def steps(self) -> list[int]:
        """Steps of the checkpoints that are there, ascending."""
        names = [p.name for p in self.folder.glob("step-*") if (p / STATE / "state.json").is_file()]
        return sorted(int(name.removeprefix("step-")) for name in names)

    def path(self, step: int) -> Path:
        """The folder of a step's checkpoint, whether it is there or not."""
        return self.folder / f"step-{step:06d}"

    def save(
        self, step: int, model: Any, tokenizer: Any, state: Mapping[str, Any], tensors: Any, best: int | None
    ) -> Path:
        """Writes a checkpoint, and removes those that are not kept. ``tensors`` go beside the ``state``, which is JSON;
        ``best``: the step of a checkpoint that stays. Raises ``MissingError`` where the disk is full; what was there
        stays then."""
        final = self.path(step)
        with Writing(self.folder):
            self.clean()
            with whole_folder(final) as partial:
                (partial / STATE).mkdir()
                model.save_pretrained(partial)
                tokenizer.save_pretrained(partial)
                conversation.write(partial, self._chat)
                torch.save(tensors, partial / STATE / "optimizer.pt")
                (partial / STATE / "state.json").write_text(json.dumps(state, indent=1), encoding="utf-8")
        self._prune(best)
        return final

    def load(self, step: int) -> tuple[dict[str, Any], Any]:
        """State and tensors of a step's checkpoint. Raises ``UsageError`` for a damaged checkpoint."""
        place = self.path(step) / STATE
        try:
            state = json.loads((place / "state.json").read_text(encoding="utf-8"))
            return state, torch.load(place / "optimizer.pt", map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged file
            raise UsageError(
                f"{self.path(step)} is damaged ({error}); remove it to go on from the one before"
            ) from error

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
