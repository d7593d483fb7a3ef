"""Whatever is wrong with what a command is given, it says so in one line and exits with 2 or 3: no traceback."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, Outcome
from made_runs import make_run
from parts import mostly_slow

DEEP = "[" * 100_000
RIGHTS = {"0": ["wr", "rr"], "1": ["ww", "rr"]}


def refused(outcome: Outcome) -> str:
    """Its message; fails unless it is one, with the exit code of wrong or missing input."""
    assert outcome.code in (2, 3), (outcome.code, outcome.out, outcome.err)
    said = outcome.err.strip().splitlines()
    assert "Traceback" not in outcome.err
    errors = [
        line for line in said if line.startswith("cipo-eval: error:") or "Error" in line
    ]  # in the box of click
    assert len(errors) == 1, outcome.err
    assert len(said) <= 6, outcome.err
    assert len(outcome.err) < 2000
    return outcome.err


def edit(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    info = json.loads((run / "run.json").read_text())
    found = change(info)
    (run / "run.json").write_text(json.dumps(info if found is None else found))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def task(info: dict[str, Any], **values: Any) -> None:
    info["tasks"]["arithmetic"].update(values)


DAMAGED_RUN_JSON: dict[str, Callable[[Path], Any]] = {
    "another schema": lambda run: edit(run, lambda info: {**info, "schema": 2}),
    "schema as text": lambda run: edit(run, lambda info: {**info, "schema": "1"}),
    "no schema": lambda run: edit(run, lambda info: {"modes": info["modes"]}),
    "a list": lambda run: edit(run, lambda info: [info]),
    "a number": lambda run: edit(run, lambda info: 7),
    "null": lambda run: (run / "run.json").write_text("null"),
    "no modes": lambda run: edit(run, lambda info: {"schema": 1, "tasks": info["tasks"]}),
    "no tasks": lambda run: edit(run, lambda info: {"schema": 1, "modes": ["fixed"]}),
    "modes of numbers": lambda run: edit(run, lambda info: info.update(modes=[1])),
    "tasks as a list": lambda run: edit(run, lambda info: info.update(tasks=["arithmetic"])),
    "a task as text": lambda run: edit(run, lambda info: info.update(tasks={"arithmetic": "x"})),
    "a task outside": lambda run: edit(run, lambda info: info.update(tasks={"../../x": {}})),
    "samples as text": lambda run: edit(run, lambda info: task(info, samples="9")),
    "protocols as a list": lambda run: edit(run, lambda info: task(info, protocols=["self"])),
    "an unknown protocol": lambda run: edit(run, lambda info: task(info, protocols={"selfish": {}})),
    "nested deeply": lambda run: (run / "run.json").write_text(DEEP),
    "not text": lambda run: (run / "run.json").write_bytes(b"\xff\xfe\x00"),
    "a folder": lambda run: replace_by_folder(run / "run.json"),
    "nothing": lambda run: (run / "run.json").write_text(""),
}
DAMAGED_ATTEMPTS: dict[str, Callable[[Path], Any]] = {
    "nested deeply": lambda path: path.write_text(DEEP + "\n"),
    "a list": lambda path: path.write_text("[1]\n"),
    "a number": lambda path: path.write_text("3\n"),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\n"),
    "a folder": replace_by_folder,
    "verdicts as a list": lambda path: path.write_text(
        json.dumps({**json.loads(path.read_text().splitlines()[0]), "verdicts": [1]}) + "\n"
    ),
}


@pytest.fixture
def made(tmp_path: Path) -> Path:
    return make_run(tmp_path / "made", RIGHTS)


def readers(run: Path, checkpoint: Path) -> dict[str, tuple[str | Path, ...]]:
    """Every command that reads a run, by name."""
    model = ("run", "--model", checkpoint, "--tasks", "arithmetic", "--limit", "2")
    return {
        "show": ("show", run),
        "compare": ("compare", run, run),
        "report": ("report", run, "-o", run.parent / "report"),
        "rescore": ("rescore", run),
        "pool build": ("pool", "build", run, "-o", run.parent / "pool.jsonl", "--wrong", "1", "--right", "1"),
        "run": (*model, "-o", run),
        "dry run": (*model, "-o", run, "--dry-run"),
        "score": ("score", run, "--task", "arithmetic"),
        "attempts-from": (*model, "--protocol", "given", "--attempts-from", run, "-o", run.parent / "new"),
    }


@pytest.mark.parametrize("what", mostly_slow(DAMAGED_RUN_JSON, 4))
def test_a_damaged_run_json(cipo: Commands, made: Path, tiny_checkpoint: Path, what: str) -> None:
    DAMAGED_RUN_JSON[what](made)
    for name, command in readers(made, tiny_checkpoint).items():
        if name in ("score", "attempts-from") and what != "nested deeply":
            continue  # they need the attempts only
        assert refused(cipo(*command)), name


@pytest.mark.parametrize("what", mostly_slow(DAMAGED_ATTEMPTS, 3))
def test_damaged_attempts(cipo: Commands, made: Path, tiny_checkpoint: Path, what: str) -> None:
    DAMAGED_ATTEMPTS[what](made / "attempts" / "arithmetic.jsonl")
    for command in readers(made, tiny_checkpoint).values():
        refused(cipo(*command))


@pytest.mark.parametrize("what", ["nowhere", "a file", "an empty folder"])
def test_something_that_is_no_run(cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "a file":
        place.write_text("x\n")
    elif what == "an empty folder":
        place.mkdir()
    for name, command in readers(place, tiny_checkpoint).items():
        if name in ("run", "dry run") and what != "a file":
            continue  # begins one there
        refused(cipo(*command))


CONFIGS: dict[str, bytes] = {
    "not text": b"\xff\xfe\x00model: x",
    "nested deeply": DEEP[:1000].encode(),
    "a list": b"- tasks\n",
    "half": b"tasks: [arithmetic\n",
    "a word": b"arithmetic\n",
    "nothing": b"",
    "an unknown key": b"sample: 3\n",
    "an object": b"!!python/object/apply:os.system ['true']\n",
    "a mapping for a number": b"samples: {a: 1}\n",
    "a list for a number": b"samples: [1, 2]\n",
    "a word for a number": b"samples: many\n",
    "a mapping for a name": b"tasks: {a: 1}\n",
    "a list of mappings": b"protocol: [{self: 1}]\n",
    "a word for a switch": b"allow-unsafe-code: perhaps\n",
    "a number for a key": b"3: 4\n",
    "a mapping for texts": b"stop: {a: 1}\n",
    "a control character": b"tasks: \x01\n",
    "a task that is nested deeply": b"tasks: deep.yaml\n",
}


@pytest.mark.parametrize("what", mostly_slow(CONFIGS, 3, always_slow=("nested deeply",)))
def test_a_wrong_config(cipo: Commands, made: Path, tmp_path: Path, what: str) -> None:
    """Of ``run``, ``score``, ``rescore``, ``train`` and ``study``."""
    file = tmp_path / "config.yaml"
    file.write_bytes(CONFIGS[what])
    (tmp_path / "deep.yaml").write_text(DEEP)
    model = ("run", "--model", tmp_path / "nowhere", "--config", file)
    commands: list[tuple[str | Path, ...]] = [
        ("train", file),
        ("study", file),
        (*model, "--tasks", "arithmetic"),
        model,
        ("score", made, "--task", "arithmetic", "--config", file),
        ("rescore", made, "--config", file),
    ]
    of_run = "allow" in what or "switch" in what or "number" in what or "protocol" in what or "texts" in what
    for command in commands:
        if what == "nothing" and command[0] in ("score", "rescore", "train", "study"):
            continue
        if of_run and command[0] != "run":
            continue
        refused(cipo(*command))


def test_lists_and_numbers_in_a_config_are_what_the_flags_take(cipo: Commands, tmp_path: Path) -> None:
    (tmp_path / "run.yaml").write_text(
        "tasks: [arithmetic]\nprotocol: [direct, self]\nk: [1, 2]\nsamples: 2\nlimit: 3\nstop: ['x', 'y']\n"
        "data-dir: .\nmodel: m.jsonl\nengine: replay\n"
    )
    (tmp_path / "m.jsonl").write_text("")
    said = refused(cipo("run", "--config", tmp_path / "run.yaml", "--dry-run"))
    assert "m.jsonl" in said  # it came as far as the model
    (tmp_path / "one.yaml").write_text("stop: x\nlcb-start: 2024-09-01\nmodel: m.jsonl\ntasks: arithmetic\n")
    assert "dates" in refused(cipo("run", "--config", tmp_path / "one.yaml", "--engine", "replay"))


@pytest.mark.parametrize("what", ["below a file", "too long", "not writable", "a file"])
def test_an_output_that_cannot_be(
    cipo: Commands, made: Path, tiny_checkpoint: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "file").write_text("x")
    place = {
        "below a file": tmp_path / "file" / "below",
        "too long": tmp_path / ("x" * 300),
        "not writable": Path("/proc/x"),
        "a file": tmp_path / "file",
    }[what]
    model = ("run", "--model", tiny_checkpoint, "--tasks", "arithmetic", "--limit", "1")
    commands: list[tuple[str | Path, ...]] = [
        (*model, "-o", place),
        (*model, "-o", place, "--dry-run"),
        ("score", made, "--task", "arithmetic", "-o", place),
        ("report", made, "-o", place),
        ("study", "demo", "-o", place),
        ("demo", "-o", place),
        ("train", "sft", f"output={place}", "steps=1"),
        ("pool", "build", made, "-o", place / "pool.jsonl", "--wrong", "1", "--right", "1"),
    ]
    for command in commands:
        refused(cipo(*command))
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--tasks", "arithmetics"], "did you mean arithmetic"),
        (["--tasks", "nowhere.yaml"], "no task definition"),
        (["--protocol", "selfish"], "no protocol is named"),
        (["--protocol", ","], "names none"),
        (["--preset", "papers"], "did you mean paper"),
        (["--engine", "vllm"], "pip install 'cipo-eval[vllm]'"),
        (["--engine", "openai"], "--base-url"),
        (["--engine", "openai", "--base-url", "localhost:8000"], "--base-url"),
        (["--engine", "openai", "--base-url", "http://user:key@host/v1"], "--base-url"),
        (["--engine", "replay", "--model", "nowhere.jsonl"], "does not exist"),
        (["--device", "gpu"], "unknown --device"),
        (["--dtype", "bf16"], "did you mean bfloat16"),
        (["--model", "nowhere/at/all"], "does not exist"),
        (["--samples", "2", "--temperature", "0"], "identical"),
        (["--samples", "2", "--top-k", "1"], "identical"),
        (["--attempts-from", "nowhere.jsonl", "--protocol", "given"], "does not exist"),
        (["--prompt-dir", "nowhere"], "is not a folder"),
        (["--data-dir", "nowhere"], "is not a folder"),
        (["--limit", "0"], "a whole number from 1, or a share"),
    ],
)
def test_a_wrong_flag_is_told_before_anything_heavy(
    cipo: Commands, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], said: str
) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "vllm" else installed(name))
    defaults = {"--tasks": "arithmetic", "--model": str(tiny_checkpoint)}
    given = [part for flag, value in defaults.items() if flag not in flags for part in (flag, value)]
    outcome = cipo("run", *given, *flags)
    assert said in " ".join(refused(outcome).split())
    assert cipo("run", *given, *flags, "--dry-run").code == outcome.code
