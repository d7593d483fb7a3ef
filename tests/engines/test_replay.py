"""Replay: every layout gives the same completions, rows find their problems, hostile files are clear errors."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Completion, Problem, Request, Sampling

PROBLEMS = [
    Problem(task="t", id=f"id-{i}", index=i, question=f"What is\n {i} + {i}?", prompt="", gold=str(2 * i))
    for i in range(3)
]
SAMPLING = Sampling(temperature=0, top_p=1, top_k=0, min_p=0, max_tokens=9)


def write(path: Path, rows: Sequence[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def replay(path: Path, **arguments: Any) -> dict[tuple[str, int], Completion]:
    engine = ReplayEngine(path, PROBLEMS, **arguments)
    requests = [
        Request(problem=p, messages=(), samples=tuple(range(5)), seeds=tuple(range(5)), sampling=SAMPLING)
        for p in PROBLEMS
    ]
    return {(request.problem.id, sample): c for request, sample, c in engine.generate(requests)}


LAYOUTS = {
    "ours": [{"problem_id": f"id-{i}", "text": f"{t}{i}"} for i in range(3) for t in "ab"],
    "ours, shuffled, with sample numbers": [
        {"problem_id": f"id-{i}", "sample": s, "text": f"{'ab'[s]}{i}"} for s in (1, 0) for i in (2, 0, 1)
    ],
    "question only": [
        {"question": f"What is {i} +  {i}?", "response": [f"a{i}", f"b{i}"]} for i in (1, 2, 0)
    ],
    "qwen": [
        {"idx": i, "question": f"What is {i} + {i}?", "code": [f"a{i}", f"b{i}"], "score": [True]}
        for i in range(3)
    ],
    "evalchemy": [
        {
            "id": 60 + i,
            "problem": f"What is {i} + {i}?",
            "model_outputs": [f"a{i}", f"b{i}"],
            "model_answers": ["", ""],
        }
        for i in range(3)
    ],
    "lm-eval": [
        {
            "doc_id": i,
            "doc": {"question": f"What is\n {i} + {i}?"},
            "resps": [[f"a{i}", f"b{i}"]],
            "filtered_resps": [f"a{i}"],
        }
        for i in range(3)
    ],
    "index only": [{"idx": i, "completion": [f"a{i}", f"b{i}"]} for i in range(3)],
}


CODE = [
    Problem(
        task="c",
        id=f"Set/{i}",
        index=i,
        question="Repair it.",
        prompt="",
        gold="g",
        metadata={"slug": slug, "buggy_code": buggy},
    )
    for i, (slug, buggy) in enumerate([("one", "a = 1"), ("two", "b\n  c"), ("two", "b\nc"), ("two", "b\nc")])
]


def programs(path: Path, **arguments: Any) -> dict[str, list[str]]:
    engine = ReplayEngine(path, CODE, **arguments)
    request = [
        Request(problem=p, messages=(), samples=tuple(range(3)), seeds=(0, 0, 0), sampling=SAMPLING)
        for p in CODE
    ]
    found: dict[str, list[str]] = {p.id: [] for p in CODE}
    for asked, _sample, completion in engine.generate(request):
        found[asked.problem.id].append(completion.text)
    return found


def fenced(program: str) -> str:
    return f"```python\n{program}\n```"


@pytest.mark.parametrize(
    ("row", "text"),
    [
        ({"task_id": "Set/1", "solution": "x"}, fenced("x")),
        ({"task_id": 1, "solution": "x"}, fenced("x")),
        ({"task_id": "Set/1", "completion": "x"}, "x"),
        ({"question_id": "Set/1", "code_list": ["x"], "output_list": ["prose"]}, fenced("x")),
        ({"question_id": "Set/1", "output_list": ["prose"]}, "prose"),
        ({"slug": "two", "buggy_code": "\nb\n  c\n", "fixed_code": "x"}, "<code>\nx\n</code>"),
    ],
)
def test_layouts_of_code_harnesses(tmp_path: Path, row: dict[str, Any], text: str) -> None:
    found = programs(write(tmp_path / "f.jsonl", [row]))
    assert found == {"Set/0": [], "Set/1": [text], "Set/2": [], "Set/3": []}


def test_a_program_with_fences_inside_stays_whole(tmp_path: Path) -> None:
    program = 's = """\n```python\nx\n````\n"""'
    found = programs(write(tmp_path / "f.jsonl", [{"task_id": "Set/0", "solution": program}]))
    assert found["Set/0"] == [f"`````python\n{program}\n`````"]


def test_rows_of_equal_problems_are_spread_over_them(tmp_path: Path) -> None:
    """DebugBench has some programs twice; its code generation files name only the problem."""
    same = [{"slug": "two", "buggy_code": "b\r\nc", "fixed_code": str(n)} for n in range(3)]
    found = programs(write(tmp_path / "f.jsonl", same))
    assert {name: len(texts) for name, texts in found.items()} == {
        "Set/0": 0,
        "Set/1": 0,
        "Set/2": 2,
        "Set/3": 1,
    }
    slugs = [{"slug": "two", "completed_code": str(n)} for n in range(3)]
    found = programs(write(tmp_path / "g.jsonl", slugs))
    assert [len(found[f"Set/{n}"]) for n in range(4)] == [0, 1, 1, 1]


def test_rows_of_other_problems_are_unmatched(tmp_path: Path) -> None:
    rows = [
        {"task_id": "Other/1", "solution": "x"},
        {"question_id": "9", "code_list": ["x"]},
        {"slug": "three", "buggy_code": "b", "fixed_code": "x"},
        {"slug": "two", "buggy_code": "something else", "fixed_code": "x"},
    ]
    for row in rows:
        with pytest.raises(UsageError, match="match no problem"):
            programs(write(tmp_path / "f.jsonl", [row]))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", ["file.jsonl", "file.jsonl.gz"])
def test_every_layout_gives_the_same_completions(tmp_path: Path, layout: str, name: str) -> None:
    found = replay(write(tmp_path / name, LAYOUTS[layout]))
    assert {key: c.text for key, c in found.items()} == {
        (f"id-{i}", s): f"{'ab'[s]}{i}" for i in range(3) for s in range(2)
    }


def test_what_a_row_says_of_its_end_is_kept(tmp_path: Path) -> None:
    row = {
        "problem_id": "id-0",
        "text": "x",
        "finish_reason": "length",
        "prompt_tokens": 3,
        "completion_tokens": 9,
    }
    found = replay(write(tmp_path / "f.jsonl", [row]))
    assert found["id-0", 0] == Completion(
        text="x", finish_reason="length", prompt_tokens=3, completion_tokens=9
    )


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"problem_id": "id-9", "text": "x"}], "1 row.* match no problem of t .first: f.jsonl line 1"),
        ([{"idx": 0, "question": "Something else?", "code": ["x"]}], "match no problem"),
        ([{"text": "x"}], "names no problem"),
        ([{"problem_id": "id-0"}], "holds no completion"),
        ([{"problem_id": "id-0", "text": 5}], "not text"),
        ([{"problem_id": "id-0", "text": "x", "finish_reason": 1}], "finish_reason is not of type str"),
        ([{"problem_id": "id-0", "text": "x", "sample": 0}] * 2, "two attempts with sample number 0"),
        ([[1, 2]], "not JSON Lines"),
        ([], "holds no attempts"),
    ],
)
def test_files_that_are_wrong_say_how(tmp_path: Path, rows: list[Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        replay(write(tmp_path / "f.jsonl", rows))


@pytest.mark.parametrize("content", [b"\x80\x81 not json\n", b'{"a":\n', b"\x1f\x8b\x00broken gzip"])
def test_damaged_files_are_clear_errors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ("f.jsonl.gz" if content.startswith(b"\x1f") else "f.jsonl")
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot read|not JSON Lines"):
        replay(path)
    with pytest.raises(UsageError, match="does not exist"):
        replay(tmp_path / "nowhere.jsonl")


def test_a_cut_gzip_file_is_a_clear_error(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl.gz", LAYOUTS["ours"])
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(UsageError, match="cannot read"):
        replay(path)


def test_unmatched_rows_are_left_out_only_when_asked(tmp_path: Path) -> None:
    path = write(tmp_path / "f.jsonl", [*LAYOUTS["ours"], {"problem_id": "id-9", "text": "x"}])
    with pytest.raises(UsageError, match="--allow-unmatched"):
        ReplayEngine(path, PROBLEMS)
    engine = ReplayEngine(path, PROBLEMS, allow_unmatched=True)
    assert engine.samples == 2
    assert "1 row(s)" in engine.warnings[0]


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    plain = ReplayEngine(write(tmp_path / "a.jsonl", LAYOUTS["ours"]), PROBLEMS).describe()["fingerprint"]
    packed = ReplayEngine(write(tmp_path / "a.jsonl.gz", LAYOUTS["ours"]), PROBLEMS).describe()["fingerprint"]
    other = ReplayEngine(write(tmp_path / "b.jsonl", LAYOUTS["ours"][:-1]), PROBLEMS).describe()[
        "fingerprint"
    ]
    assert plain == packed != other
