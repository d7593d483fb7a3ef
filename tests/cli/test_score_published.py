"""``score`` on published outputs of evalplus in paper mode: its verdicts, item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns
from parts import Part, part

from cipo_eval.data.attempt_files.lines import read_lines

LIMIT = 60


def as_it_is(row: dict[str, Any]) -> dict[str, Any]:
    return row


def in_a_chat(row: dict[str, Any]) -> dict[str, Any]:
    """The program within an answer, with an example behind it that would fail."""
    answer = (
        f"Here is it:\n\n```python\n{row['solution']}\n```\n\nFor example:\n```python\nassert not 1\n```\n"
    )
    return {"task_id": row["task_id"], "text": answer}


@pytest.mark.slow
@pytest.mark.usefixtures("code_cache")
@part(15)
@pytest.mark.parametrize(
    ("task", "form"), [("mbpp", as_it_is), ("mbpp", in_a_chat), ("humaneval", in_a_chat)]
)
def test_evalplus_verdicts(
    cipo: Commands, real_data: Path, tmp_path: Path, task: str, form: Any, part: Part
) -> None:
    """Programs of a file, and answers with the same programs."""
    path = real_data / "model_outputs" / "code" / f"Meta-Llama-3-8B-Instruct__{task}.jsonl.gz"
    rows = {line.fields["task_id"]: line.fields for line in read_lines(path)}
    made = tmp_path / "f.jsonl"
    made.write_text("".join(json.dumps(form(row)) + "\n" for row in rows.values()))
    limit = LIMIT // part.one_in
    flags = ("--mode", "paper", "--limit", str(limit), "--quiet", "--allow-unmatched", "-o", tmp_path / "run")
    assert cipo("score", made, "--task", task, "--data-dir", real_data, *flags).code == 0
    found = turns(tmp_path / "run", task)
    assert len(found) == limit
    for (problem, *_), stored in found.items():
        parts, row = stored["verdicts"]["paper"]["parts"], rows[problem]
        base = row["base_status"] == "pass"
        assert parts.get("base", False) == base, problem
        assert parts.get("plus", False) == (base and row["plus_status"] == "pass"), problem
