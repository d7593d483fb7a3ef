"""Parts of a run for batch systems: which conversations belong to part i of N.

What is dealt out are conversations: (task, problem, sample) with all turns and protocols, those about a pool's attempts
under the same number included. The split is a function of what is asked for alone, the same on every machine and in
whatever order tasks are named:

- Problems of all tasks are put in the order of a fingerprint of their names. Data sets are sorted by subject, date or
  difficulty, and tasks differ in length; in this order every part gets the same mixture of them.
- The samples of a problem follow each other, and the whole sequence is cut into N contiguous pieces. An engine reads
  the prompt of a problem once for all of its samples, so that no more than the N - 1 problems at the cuts are read
  twice; single samples dealt out in turn would have every part read every prompt.
- Pieces differ by one conversation at most, also where there are fewer problems than parts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cipo_eval.errors import UsageError
from cipo_eval.records import fingerprint

MAX_SHARDS = 100_000
"""Shards that a run may have: more is a slip of the keyboard."""
Samples = tuple[int, int]
"""The first sample of a problem that a shard has, and the first one after that it does not have."""


@dataclass(frozen=True, slots=True, order=True)
class Shard:
    """Part ``index`` of ``count``; parts are numbered from 1."""

    index: int
    count: int

    @classmethod
    def of(cls, text: str) -> Shard:
        """The shard that ``i/N`` names. Raises ``ValueError`` for any other text, and for parts that there are not."""
        match = re.fullmatch(r"\s*(\d{1,9})\s*/\s*(\d{1,9})\s*", text, re.ASCII)
        if match is None:
            raise ValueError("i/N, such as 1/8")
        shard = cls(int(match[1]), int(match[2]))
        if not 1 <= shard.index <= shard.count:
            raise ValueError(f"shards are numbered from 1/{shard.count} to {shard.count}/{shard.count}")
        if shard.count > MAX_SHARDS:
            raise ValueError(f"at most {MAX_SHARDS} shards")
        return shard

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def folder(self, run: Path) -> Path:
        """The run directory of this shard beside that of the whole run: ``runs/x.shard-02-of-16``."""
        width = len(str(self.count))
        return run.with_name(f"{run.name}.shard-{self.index:0{width}}-of-{self.count}")


@dataclass(frozen=True, slots=True)
class Share:
    """What one shard has of a task."""

    shard: Shard
    split: str
    """Fingerprint of everything that was dealt out, in all tasks: shards of one split fit together."""
    samples: Mapping[str, Samples]
    """By problem; one that is not named has nothing here."""

    def of(self, problem: str) -> Samples:
        """The samples of a problem."""
        return self.samples.get(problem, (0, 0))

    def to_json(self) -> dict[str, Any]:
        """The shard as ``run.json`` keeps it: its parts, the split and the samples."""
        return {"index": self.shard.index, "of": self.shard.count, "split": self.split}


def stored_shard(info: Mapping[str, Any]) -> Shard | None:
    """The shard whose ``run.json`` this is; None: of a whole run. Raises ``UsageError`` for one that cannot be."""
    facts = info.get("shard")
    if facts is None:
        return None
    try:
        return Shard.of(f"{facts['index']}/{facts['of']}")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"a run.json names a shard that there cannot be ({facts!r:.60})") from error


def split(conversations: Mapping[str, Mapping[str, int]], shard: Shard) -> dict[str, Share]:
    """By task, what a shard has of it. ``conversations``: by task and problem, how many there are."""
    units: Sequence[tuple[str, str, str, int]] = sorted(
        (fingerprint([task, problem]), task, problem, count)
        for task, counts in conversations.items()
        for problem, count in counts.items()
        if count > 0
    )
    total = sum(count for *_, count in units)
    first, last = (total * i // shard.count for i in (shard.index - 1, shard.index))
    dealt = fingerprint(units)
    samples: dict[str, dict[str, Samples]] = {task: {} for task in conversations}
    before = 0
    for _, task, problem, count in units:
        low, high = max(first - before, 0), min(last - before, count)
        if low < high:
            samples[task][problem] = (low, high)
        before += count
    return {task: Share(shard, dealt, of_task) for task, of_task in samples.items()}
