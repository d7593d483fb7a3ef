"""GSM8K (Cobbe et al. 2021): the gold is what follows ``####`` in the worked answer, without thousands separators."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from cipo_eval.data.readers import ReadProblem
from cipo_eval.data.sources import Row


def read(row: Row, _companions: Mapping[str, Row]) -> ReadProblem:
    """A row of GSM8K. It has no id: a hash of the question stands for it, which no two rows share."""
    name = hashlib.sha256(row["question"].encode()).hexdigest()[:12]
    gold = row["answer"].rpartition("####")[2].strip().replace(",", "")
    return ReadProblem(id=name, question=row["question"], answer=gold)
