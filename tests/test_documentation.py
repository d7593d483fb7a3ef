"""What the documentation tells a reader to type: commands and flags that exist, and the tutorials as they stand."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from commands import Commands

from cipo_eval.cli import app
from cipo_eval.run.request import RunRequest

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "tasks" / "README.md", *(ROOT / "docs").rglob("*.md")])
TUTORIALS = ROOT / "docs" / "tutorials"


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def typed(page: Path) -> Iterator[list[str]]:
    """Words of each command line of ``cipo-eval`` in a page's blocks of console and shell."""
    for block in re.findall(
        r"^ *```(?:console|sh|bash)?\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL
    ):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            if found := re.match(r"\s*(?:\$ )?cipo-eval (.*)", line):
                words = shlex.split(re.sub(r"\s…", " ", found[1]), comments=True)
                ends = [place for place, word in enumerate(words) if word in ("|", ">", "&&", ";", "&")]
                yield words[: ends[0]] if ends else words


def command_of(words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and what follows its name."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        assert words[0] in command.commands, f"there is no command {words[0]}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_typed_exists(page: Path) -> None:
    for words in typed(page):
        command, rest = command_of(words)
        if hasattr(command, "in_our_words"):
            rest = command.in_our_words(rest)
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)} | {
            "--help",
            "-h",
        }
        flags = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
        assert set(flags) <= known, f"cipo-eval {shlex.join(words)}"


def test_a_line_for_those_who_come_from_elsewhere_is_parsed() -> None:
    """Every one of them, whole: options, their values, what is required."""
    rows = [row for row in (ROOT / "docs" / "coming-from.md").read_text().splitlines() if row.startswith("|")]
    lines = [shlex.split(line) for row in rows for line in re.findall(r"`cipo-eval ([^`]+)`", row)]
    assert len(lines) > 40
    for words in lines:
        command, rest = command_of(words)
        flags = command.make_context(words[0], list(rest)).params
        if words[0] == "run":
            assert RunRequest.of(tasks=flags["tasks"], limit=flags["limit"]).task.tasks


def bare(text: str) -> list[str]:
    """Lines without the spaces that fit them to a terminal."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip(" ─")]


def test_the_plan_of_the_tutorial_is_what_it_prints(cipo: Commands) -> None:
    [shown] = blocks(TUTORIALS / "from-zero.md", "text")
    [words] = [words for words in typed(TUTORIALS / "from-zero.md") if words[0] == "plan"]
    printed = bare(cipo(*words).out)
    assert [line for line in printed if not line.startswith("note:")] == bare(shown)


@pytest.mark.slow
def test_the_scoring_tutorial_runs(cipo: Commands) -> None:
    page = TUTORIALS / "scoring.md"
    [written] = blocks(page, "python")
    exec(compile(written, "scoring.md", "exec"), {})  # noqa: S102  # our own page
    printed = []
    for words in typed(page):
        done = cipo(*words)
        assert done.code == 0, done.err
        warnings = [line for line in done.err.splitlines() if line.startswith("warning:")]
        assert len(warnings) == len(set(warnings)), "each is said once"
        printed += bare(done.out)
    for shown in blocks(page, "text"):
        assert [line for line in bare(shown) if line not in printed] == []
    assert Path("report/report.html").is_file()


def test_configurations_of_the_training_tutorial_are_whole(cipo: Commands) -> None:
    lines = [words for words in typed(TUTORIALS / "training.md") if words[0] == "train"]
    assert len(lines) == 5
    for words in lines:
        assert cipo(*words, "--print-config").code == 0
