"""The command line looks alive, and what it prints is what was meant: progress by the clock, helps, pipes, lists."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from commands import Commands

from cipo_eval.cli import app, progress
from cipo_eval.cli.progress import Pace
from cipo_eval.records import Completion, Problem, Request, Sampling
from cipo_eval.run.progress import Progress
from cipo_eval.run.watched import Watched


class Slow:
    """An engine with two samples under way, ten tokens a second each."""

    name = "slow"
    under_way = 2

    def __init__(self) -> None:
        self.generated = 0

    def describe(self) -> dict[str, Any]:
        return {}

    def generate(self, requests: Any) -> Iterator[tuple[Request, int, Completion]]:
        for request in requests:
            for sample in request.samples:
                yield request, sample, Completion(text="x", finish_reason="stop", completion_tokens=100)

    def close(self) -> None:
        pass


def requests(samples: int) -> Sequence[Request]:
    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=8, stop=())
    problem = Problem(task="t", id="0", index=0, question="", prompt="", gold="", options={}, metadata={})
    numbers = tuple(range(samples))
    return [Request(problem=problem, messages=(), samples=numbers, seeds=numbers, sampling=sampling)]


def test_pace_knows_rate_and_time_left_also_before_the_first_attempt_is_finished() -> None:
    now, engine, counts = [0.0], Slow(), Progress(total=10)
    pace = Pace(counts, lambda: now[0])
    pace.engine = watched = Watched(engine)
    pace.look()
    assert pace.words() == "2 running"
    now[0], engine.generated = 5.0, 100
    pace.look()
    assert pace.tokens_per_second == 20
    assert pace.words() == "2 running, 20 tokens/s"  # nothing is finished: no word on the time left
    list(watched.generate(requests(2)))
    now[0], engine.generated, counts.done = 10.0, 200, 2
    pace.look()
    assert pace.seconds_left == pytest.approx(8 * 100 / 20)
    assert pace.words().endswith("20 tokens/s, 0:40 left")
    now[0], engine.generated = 15.0, 300  # half of what two samples need is there already
    pace.look()
    assert pace.seconds_left == pytest.approx((8 * 100 - 100) / 20)
    counts.judging = 3
    assert "3 being judged" in pace.words()


def test_a_log_gets_a_line_soon_and_then_one_a_minute(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the clock: nothing is finished all the while. (A minute is a second here.)"""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.1)
    monkeypatch.setattr(progress, "MINUTE", 1.0)
    with progress.attempts(messages=True) as (counts, pace):
        pace.engine = Watched(Slow())
        counts.total = 8
        time.sleep(3.5)
    said = capsys.readouterr().err.splitlines()
    assert 2 <= len(said) <= 4
    assert all("0/8 attempts, 2 running" in line for line in said)
    assert not [thread for thread in threading.enumerate() if thread.name == "progress"]
    with progress.attempts(messages=False) as (counts, _):
        counts.total = 8
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("samples", [1, 3])
def test_samples_that_are_all_the_same_are_noticed(samples: int) -> None:
    watched = Watched(Slow())
    list(watched.generate(requests(samples)))
    assert watched.identical == (samples > 1)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, command in getattr(group, "commands", {}).items():
        yield (*path, name), command
        yield from commands(command, (*path, name))


def test_every_word_of_every_help_is_shown(cipo: Commands, monkeypatch: pytest.MonkeyPatch) -> None:
    """Brackets too: rich takes them for its markup."""
    from typer.main import get_command

    monkeypatch.setenv("COLUMNS", "400")
    plain = re.compile(r"[\s│╭╮╰╯─]+")
    for path, command in commands(get_command(app)):
        shown = plain.sub("", cipo(*path, "--help").out)
        for parameter in command.params:
            text = (getattr(parameter, "help", None) or "").replace("\\[", "[")
            for word in text.split():
                assert word in shown, (path, parameter.name, word)


def test_a_reader_that_goes_away_ends_nothing() -> None:
    """As ``cipo-eval tasks | head -1``: exit code 0, and not a word."""
    with subprocess.Popen(
        [sys.executable, "-m", "cipo_eval", "tasks"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == (b"", 0)


@pytest.mark.slow
def test_without_a_name_there_is_a_list(cipo: Commands) -> None:
    from cipo_eval.data.tasks import task_names

    listed = cipo("study", "--list")
    assert (listed.code, listed.out.split()[0]) == (0, "ablations")
    assert {entry["task"] for entry in cipo("data", "check", "--json").json} == set(task_names())
    for command in ("study", "train"):
        outcome = cipo(command)
        assert outcome.code == 2
        assert "demo" in outcome.err


def test_more_problems_than_there_are_is_said(cipo: Commands, tmp_path: Any) -> None:
    (tmp_path / "out.jsonl").write_text('{"id": "0", "completion": "1"}\n')
    run = ("run", "--engine", "replay", "--model", tmp_path / "out.jsonl", "--tasks", "arithmetic")
    assert "there are no more" in cipo(*run, "--limit", "999999").err
    assert "there are no more" not in cipo(*run, "--limit", "200", "-o", tmp_path / "other").err
