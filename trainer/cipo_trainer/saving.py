"""Checkpoints: ordinary Hugging Face folders with the trainer's state beside the weights.

``checkpoints/step-000100/`` appears whole or not at all. The last few are kept, and the best one. A run that goes on
from one gives what it would have given without the break: everything that changes is in there, and all randomness is
made of (seed, step).

Process 0 writes. Where weights are in parts, every process writes its parts of the optimizer beside it, in the form of
``torch.distributed.checkpoint``. Any number of processes goes on from either.

A checkpoint may be written while the training goes on: what changes is copied into the host's memory, and a thread
writes the copy. The one before stays until the new one is whole.
"""

from __future__ import annotations

import copy
import io
import json
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch

from cipo_eval.engines import conversation
from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.files import UNFINISHED, Writing, unfinished, whole_folder
from cipo_trainer.config import Config
from cipo_trainer.distributed.world import World

STATE = "trainer_state"
"""The folder within a checkpoint that holds what is not the model: ``state.json``, and the optimizer's tensors."""
PARTS = "parts"
"""The folder within ``STATE`` of the optimizer's parts; a whole optimizer is the file ``optimizer.pt``."""


InParts = Callable[[Path], "Future[None] | None"]
"""Has every process write its parts into a folder; the future of what is not written yet."""


class Checkpoints:
    """The checkpoints of one run; the last ``keep`` stay, and the best."""

    def __init__(
        self,
        folder: Path,
        keep: int,
        chat: Chat = Chat(),  # noqa: B008  frozen
        world: World | None = None,
        *,
        asynchronous: bool = False,
    ) -> None:
        """``chat``: how the model is asked, which checkpoints remember. ``world``: the processes that save together.
        ``asynchronous``: a thread writes a copy."""
        self.folder, self._keep, self._chat, self._world = folder, keep, chat, world or World()
        self._thread = ThreadPoolExecutor(1, "checkpoint") if asynchronous else None
        self._begun = False
        """Whether a checkpoint may be unfinished, in any process."""
        self._written: Future[None] | None = None
        """This process's part in it."""

    @classmethod
    def of(cls, config: Config, world: World) -> Checkpoints:
        """The checkpoints of the training that a configuration describes."""
        options, folder = config.checkpoint, config.output / "checkpoints"
        return cls(folder, options.keep, config.chat, world, asynchronous=options.asynchronous)

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
        step of a checkpoint that stays. Raises ``MissingError`` where the disk is full; what was there stays then.

        Where it is asynchronous, the checkpoint is whole after ``finish``, or the next ``save``, which raise for it."""
        self.finish()
        final = self.path(step)
        in_parts: InParts | None = tensors if callable(tensors) else None
        with ExitStack() as stack:
            write: list[Callable[[], None]] = []  # what may be done while others train

            def begin() -> None:
                with Writing(self.folder):
                    self.clean()
                    partial = stack.enter_context(whole_folder(final))
                    (partial / STATE).mkdir()
                    tokenizer.save_pretrained(partial)
                    conversation.write(partial, self._chat)
                    written = json.dumps(state, indent=1)
                    (partial / STATE / "state.json").write_text(written, encoding="utf-8")
                    there = None if in_parts is not None else tensors
                    write.append(_writing(partial, model, there, copied=self._thread is not None))
                    if self._thread is None:
                        write[0]()

            def end() -> None:
                with Writing(self.folder):
                    stack.close()
                    self._prune(best)

            def end_later(stack: ExitStack, parts: Future[None] | None) -> None:
                with Writing(self.folder), stack:
                    write[0]()
                    if parts is not None:
                        parts.result()
                with Writing(self.folder):
                    self._prune(best)

            self._world.first(begin)
            parts = in_parts(unfinished(final) / STATE / PARTS) if in_parts is not None else None
            if self._thread is None:
                self._world.first(end)
                return final
            self._begun, self._written = True, parts
            if write:
                self._written = self._thread.submit(end_later, stack.pop_all(), parts)
        return final

    def finish(self) -> None:
        """Waits for what is being written. All processes have to call it. Raises what ``save`` raises."""
        if self._begun:
            self._begun = False
            self._world.together(self._wait)

    def close(self) -> None:
        """Lets what is being written come to its end, whatever that is; of this process alone."""
        if self._thread is not None:
            self._thread.shutdown()

    def _wait(self) -> None:
        written, self._written = self._written, None
        if written is not None:
            written.result()

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


def _writing(folder: Path, model: Any, tensors: Any, *, copied: bool) -> Callable[[], None]:
    """Writes weights, and the optimizer if it is whole; ``copied``: as they are now, whenever that is done."""
    weights: dict[str, torch.Tensor] | None = None
    if copied:
        copies: dict[int, torch.Tensor] = {}  # tied weights stay so
        weights = {name: _copied(tensor, copies) for name, tensor in model.state_dict().items()}
        tensors = _copied(tensors, copies)
        model = copy.copy(
            model
        )  # its parts are the same, but what is written of them is what it refers to now
        model.config = copy.deepcopy(model.config)

    def write() -> None:
        if tensors is not None:
            torch.save(tensors, folder / STATE / "optimizer.pt")
        model.save_pretrained(folder, state_dict=weights)

    return write


def _copied(value: Any, copies: dict[int, Any]) -> Any:
    """The same with copies of all tensors in the host's memory, one for each that there is."""
    if isinstance(value, torch.Tensor) and type(value) not in (torch.Tensor, torch.nn.Parameter):
        held = io.BytesIO()  # one of torchao's, which copies as it is written and read
        torch.save(value, held)
        held.seek(0)
        return torch.load(held, map_location="cpu", weights_only=True)
    if isinstance(value, torch.Tensor):
        made = copies.get(value.data_ptr())
        if made is None or made.shape != value.shape or made.dtype != value.dtype:
            made = copies[value.data_ptr()] = value.detach().to("cpu", copy=True)
        return made
    if isinstance(value, dict):
        return {key: _copied(item, copies) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(item, copies) for item in value)
    return value


def newest(place: str) -> str:
    """The checkpoint that ``place`` stands for: of a training run's folder its last one."""
    checkpoints = Checkpoints(Path(place) / "checkpoints", 1)
    steps = checkpoints.steps() if Path(place).is_dir() else []
    return str(checkpoints.path(steps[-1])) if steps else place
