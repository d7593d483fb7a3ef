"""What the families of synthetic problems have in common: a dial, problems that are held out by a hash, tasks, models.

A family is a frozen set of fields, its *dial*. From the dial, a seed and a position come problems and rows for
training, from the dial alone the items that evaluate it: ``write_task`` makes an ordinary task of the harness of them.
Which problems are held out is decided by a hash of their text, so no training stream can meet one, however long it is.
"""

from __future__ import annotations

import json
import random
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import yaml
from pydantic import BaseModel, ConfigDict

from cipo_eval.errors import UsageError
from cipo_eval.files import write_bytes
from cipo_eval.records import Problem, derive_seed
from cipo_trainer.config import Shape
from cipo_trainer.worlds.tiny import tiny_llama

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

Pair = tuple[str, str]
"""A prompt, and the completion that is to be learned."""

EVALUATION_ITEMS = 1000
"""Problems of a family's task, unless the family says otherwise."""
HELD_OUT = 10
"""One problem in so many is held out."""
DRAWS = 1000
"""Most draws until something is as wanted: a chance of 1 in 10^45 to need more for a problem that is not held out."""


class Family(BaseModel):
    """Base of the families. Fields are the dial; what is below is what the trainer and the harness ask."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: ClassVar[str]
    """The family's name, which is its task's too."""
    summary: ClassVar[str]
    """A line that says what its task is."""
    verifier: ClassVar[str] = "math"
    """The harness's verifier that judges attempts."""
    items: ClassVar[int] = EVALUATION_ITEMS
    """Problems of its task."""
    shape: ClassVar[Shape] = Shape()
    """Shape of a new model, unless a configuration has another."""

    @abstractmethod
    def problem_at(self, position: int, *, seed: int) -> Problem:
        """The problem for reinforcement learning at a position of an endless stream."""

    @abstractmethod
    def pair_at(self, position: int, *, seed: int, corrections: float = 0.0) -> Pair:
        """The row for supervised training at a position; ``corrections``: share of rows whose prompt also shows an
        attempt, in the form of the ``self`` protocol, inline, with the short templates of ``trainer/configs/prompts``.
        """

    @property
    def share_right(self) -> float:
        """Of rows for corrections, the share whose attempt is right."""
        return 0.5

    def judged(self, problem: str, attempt: str) -> bool | None:  # noqa: ARG002  for families that can
        """Whether a model's attempt at a problem has no error; None where it is in no form that the family knows.
        Raises ``UsageError`` for a family that does not read attempts."""
        raise UsageError(f"data.own_attempts: {self.name} does not correct a model's attempts")

    def correction_of(self, problem: str, attempt: str, rng: random.Random) -> Pair:
        """The row for supervised training that shows a model's attempt, one that ``judged`` knows."""
        raise NotImplementedError

    @abstractmethod
    def build_tokenizer(self) -> PreTrainedTokenizerFast:
        """A tokenizer with a token for each of the family's words or characters."""

    def build_model(
        self, tokenizer: PreTrainedTokenizerFast, seed: int, shape: Shape | None = None
    ) -> LlamaForCausalLM:
        """A small Llama with random weights that depend on ``seed`` and ``shape`` alone (float32, CPU)."""
        return tiny_llama(tokenizer, self.name, seed, shape or self.shape)

    @abstractmethod
    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows of the task: distinct problems of the held-out side, always the same."""

    @abstractmethod
    def definition(self) -> dict[str, Any]:
        """What its task's definition has beside what all have; ``cipo`` is its section of the metadata."""

    def fingerprint(self) -> str:
        """What identifies the dial, as part of a training's data."""
        return " ".join([self.name, *(f"{k}={v}" for k, v in self.model_dump(exclude_defaults=True).items())])

    def is_held_out(self, text: str) -> bool:
        """Whether a problem belongs to the evaluation side."""
        return derive_seed(self.name, "split", text) % HELD_OUT == 0

    def write_task(
        self, folder: Path, *, name: str | None = None, limit: int | None = None, breakdown: bool = True
    ) -> Path:
        """Writes the task of this dial, a definition and its items, and returns the definition's path. The bytes are
        the same on every call; ``name``: of the task, by default the family's; ``limit``: only so many items;
        ``breakdown``: with figures by kinds of problems, where the family has some.
        """
        name = name or self.name
        folder.mkdir(parents=True, exist_ok=True)
        specific = self.definition()
        cipo = dict(specific.pop("cipo"))
        if not breakdown:
            cipo.pop("breakdown", None)
        head = {
            "name": name,
            "description": self.summary,
            "licence": "Apache-2.0",
            "homepage": "",
            # programs have no answer that could be voted on
            "metrics": ["pass@k", "avg@n", *([] if self.verifier == "code" else ["maj@k"])],
            "presets": {},
            "verifier": self.verifier,
            "sources": [{"kind": "embedded", "path": f"{name}.jsonl"}],
        }
        top = {"task": f"cipo_{name}", "doc_to_text": "{{question}}", **specific}
        definition = {**top, "metadata": {"version": 1.0, "cipo": {**head, **cipo}}}
        self.write_items(folder / f"{name}.jsonl", limit=limit)
        path = folder / f"cipo_{name}.yaml"
        text = yaml.safe_dump(definition, sort_keys=False, allow_unicode=True)
        write_bytes(path, text.encode(), shared=True)
        return path

    def write_items(self, path: Path, *, limit: int | None = None) -> None:
        """Writes the evaluation items as JSON lines; the bytes are the same on every call."""
        lines = [
            json.dumps(row) + "\n" for _, row in zip(range(limit or self.items), self.rows(), strict=False)
        ]
        write_bytes(path, "".join(lines).encode(), shared=True)


def vocabulary(special: Mapping[str, str], *groups: Sequence[str]) -> dict[str, int]:
    """Numbers for words, special tokens first. Raises ``ValueError`` for a word that comes twice."""
    words = [*special.values(), *(word for group in groups for word in group)]
    if len(set(words)) != len(words):
        raise ValueError("a word comes twice")
    return {word: number for number, word in enumerate(words)}


def draws(*place: str | int) -> random.Random:
    """A generator of random numbers for one place; the same for the same place."""
    return random.Random(derive_seed(*place))
