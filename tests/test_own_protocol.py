"""A protocol of a user's own, from outside the package: run, and read by commands that do not know its module."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, turns

from cipo_eval.errors import UsageError
from cipo_eval.storage.store import read_info
from cipo_eval.turns import protocols

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """The examples are found, and forgotten again."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(protocols, "PROTOCOLS", protocols.PROTOCOLS)
    known = dict(protocols.PROTOCOLS)
    yield
    protocols.PROTOCOLS.clear()
    protocols.PROTOCOLS.update(known)


@pytest.mark.slow
@pytest.mark.usefixtures("examples")
def test_a_run_with_it_reads_without_its_module(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    run, named = tmp_path / "run", "direct,protocol:SUBSTITUTE,protocol:COUNTDOWN"
    command = (
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        "arithmetic",
        "--limit",
        "3",
        "--max-tokens",
        "8",
    )
    assert cipo(*command, "--turns", "3", "--protocol", named, "--quiet", "-o", run).code == 0
    stored = turns(run, "arithmetic")
    assert len([key for key in stored if key[1] == "substitute"]) == 3 * 2
    assert set(json.loads((run / "results.json").read_text())["tasks"]["arithmetic"]["protocols"]) == {
        "substitute",
        "countdown_again",
    }
    elsewhere = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p and p != str(EXAMPLES))}
    code = (  # in one process, which imports what they need once
        "import json, sys\n"
        "from cipo_eval.cli import main\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    try: main(arguments)\n"
        "    except SystemExit as stopped: assert not stopped.code\n"
        "    print('-- end')"
    )
    calls = [["show", run], ["compare", run, run, "--json"], ["rescore", run, "--json"]]
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(calls, default=str)],
        env=elsewhere,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *said, _ = done.stdout.split("-- end")
    assert len(said) == 3
    assert all("substitute" in text for text in said)


@pytest.mark.usefixtures("examples")
def test_what_it_asks_is_part_of_what_a_run_is(
    cipo: Commands, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    run = tmp_path / "run"
    command = (
        "run",
        "--model",
        tiny_checkpoint,
        "--tasks",
        "arithmetic",
        "--limit",
        "1",
        "--max-tokens",
        "4",
    )
    assert cipo(*command, "--protocol", "protocol:SUBSTITUTE", "--quiet", "-o", run).code == 0
    import protocol

    other = protocols.Protocol(
        name="substitute", summary=protocol.SUBSTITUTE.summary, template="Something else is asked."
    )
    monkeypatch.setattr(protocol, "SUBSTITUTE", other)
    again = cipo(*command, "--protocol", "protocol:SUBSTITUTE", "-o", run)
    assert again.code == 2
    assert "another configuration" in again.err


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("nowhere:IT", "there is no nowhere:IT"),
        ("os:sep", "is not a Protocol"),
        ("cipo_eval.turns.protocols:nothing", "there is no"),
    ],
)
def test_what_is_none_is_refused(name: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        protocols.protocols_named([name])


def test_traits_of_a_damaged_run_make_nothing_known(tmp_path: Path) -> None:
    traits = {"summary": "", "only_wrong": False, "tells": False, "own": True, "judges": "yes"}
    with pytest.raises(ValueError, match="no protocol"):
        protocols.known_from("mine", traits)
    with pytest.raises(ValueError, match="no protocol"):
        protocols.known_from("self", {**traits, "judges": False})
    facts = {"schema": 1, "tasks": {"t": {"protocols": {"mine": {"traits": traits}}}}}
    (tmp_path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(UsageError, match="cannot be read"):
        read_info(tmp_path)
    assert "mine" not in protocols.PROTOCOLS
