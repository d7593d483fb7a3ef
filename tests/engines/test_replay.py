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
    return f"```python program\n{program}\n```"


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
    assert found["Set/0"] == [f"`````python program\n{program}\n`````"]


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
        ([{"problem_id": "id-0", "text": None}], "line 1: a completion is not text but null"),
        ([{"problem_id": "id-0", "text": "x", "sample": "0"}], "sample is not of type int: '0'"),
        ([{"problem_id": "id-0", "text": "x", "prompt_tokens": "9"}], "prompt_tokens is not of type int"),
        ([{"problem_id": "id-0", "text": "x", "completion_tokens": True}], "completion_tokens is not of"),
        ([{"v": 1, "task": "t", "problem": "id-0", "text": "x"}], "f.jsonl line 1 is damaged .KeyError"),
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b'{"problem_id": "id-0", "text": "x"}\n{"problem_id": }\n',
            r"f.jsonl line 2 is not JSON Lines.*character 16",
        ),
        (
            b'{"problem_id": "id-0", "text": "x"}\n\xff\n',
            r"f.jsonl line 2: it is not UTF-8 text .byte 0xff at place 1",
        ),
        ("{}".encode("utf-16"), "UTF-16, not UTF-8"),
        (
            b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n",
            "line 1 is not JSON that can be read: .*nested",
        ),
        (b'{"a": ' + b"9" * 5000 + b"}\n", "f.jsonl line 1 cannot be read"),
        (b'[\n{"problem_id": "id-0", "text": "x"},\n3]', "f.jsonl row 2 is no JSON object"),
    ],
)
def test_damage_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "f.jsonl"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        replay(path)


def test_one_array_is_as_good_as_lines(tmp_path: Path) -> None:
    lines = replay(write(tmp_path / "f.jsonl", LAYOUTS["ours"]))
    for indent in (None, 1):
        (tmp_path / "f.json").write_text(json.dumps(LAYOUTS["ours"], indent=indent))
        assert replay(tmp_path / "f.json") == lines
    marked = tmp_path / "marked.jsonl"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "f.jsonl").read_bytes())
    assert replay(marked) == lines


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [((1, 2), (0, 1)), ((7, 3), (1, 0)), ((0, 0), (0, 1)), ((-5, 2.0), (0, 1)), ((None, 3), (1, 0))],
)
def test_samples_numbered_in_any_way_are_all_there(
    tmp_path: Path, labels: tuple[Any, Any], numbers: tuple[int, int]
) -> None:
    rows = [
        {"problem_id": "id-1", "text": text, "sample": label}
        for text, label in zip("ab", labels, strict=True)
    ]
    path = write(tmp_path / "f.jsonl", rows)
    found = {sample: c.text for (_, sample), c in replay(path).items()}
    assert found == dict(zip(numbers, "ab", strict=True))
    notes = ReplayEngine(path, PROBLEMS).notes()
    assert len(notes) == 1
    assert "another number" in notes[0]
    assert ("a number that was there already" in notes[0]) == (labels == (0, 0))


def test_repeated_rows_and_equal_samples_are_said_aloud(tmp_path: Path) -> None:
    same = [{"problem_id": "id-0", "text": "x"}] * 3
    notes = ReplayEngine(write(tmp_path / "f.jsonl", same), PROBLEMS).notes()
    assert any("2 row(s)" in note and "f.jsonl line 2" in note for note in notes)
    assert any("1 of 1 problems" in note and "3 equal samples" in note for note in notes)
    ten = [{"problem_id": f"id-{i}", "text": [str(i)] * 10} for i in range(3)]
    notes = ReplayEngine(write(tmp_path / "g.jsonl", ten), PROBLEMS).notes()
    assert ["3 of 3 problems" in note and "10 equal samples" in note for note in notes] == [True]
    other = [{"problem_id": "id-0", "text": ["x", "y"]}, {"problem_id": "id-1", "text": "x"}]
    assert ReplayEngine(write(tmp_path / "h.jsonl", other), PROBLEMS).notes() == []


def test_turns_of_a_run_keep_together(tmp_path: Path) -> None:
    """A run of which samples 0 and 2 are there: the chain of sample 2 stays one chain."""
    verdict = {"fixed": {"correct": False, "state": "incorrect"}}
    stored = {"v": 1, "task": "t", "problem": "id-0", "prompt_hash": "", "seed": 1, "finish_reason": None}
    stored |= {"prompt_tokens": None, "completion_tokens": None, "seconds": None, "verdicts": verdict}
    rows = [
        stored | {"protocol": protocol, "turn": turn, "sample": sample, "text": f"{protocol}{sample}"}
        for sample in (2, 0)
        for protocol, turn in (("direct", 1), ("self", 2))
        if (sample, turn) != (0, 2)
    ]
    engine = ReplayEngine(write(tmp_path / "f.jsonl", rows), PROBLEMS)
    turns: list[dict[str, Any]] = [{}, {"protocol": "self", "turn": 2}]
    asked = [
        Request(
            problem=PROBLEMS[0], messages=(), samples=(0, 1, 2), seeds=(0,) * 3, sampling=SAMPLING, **turn
        )
        for turn in turns
    ]
    found = {(r.protocol, sample): c.text for r, sample, c in engine.generate(asked)}
    assert found == {("direct", 0): "direct0", ("direct", 1): "direct2", ("self", 1): "self2"}


def test_the_fingerprint_is_of_the_content(tmp_path: Path) -> None:
    plain = ReplayEngine(write(tmp_path / "a.jsonl", LAYOUTS["ours"]), PROBLEMS).describe()["fingerprint"]
    packed = ReplayEngine(write(tmp_path / "a.jsonl.gz", LAYOUTS["ours"]), PROBLEMS).describe()["fingerprint"]
    other = ReplayEngine(write(tmp_path / "b.jsonl", LAYOUTS["ours"][:-1]), PROBLEMS).describe()[
        "fingerprint"
    ]
    assert plain == packed != other
