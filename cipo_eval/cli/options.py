"""Flags that commands share, written once; and the YAML file that sets them by the same names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.errors import UsageError, nearest, reason

if TYPE_CHECKING:
    from cipo_eval.data.scope import Scope
    from cipo_eval.data.tasks import ProblemSet, TaskSpec
    from cipo_eval.turns.protocols import Protocol
    from cipo_eval.turns.revising import Revising


class ModeFlag(StrEnum):
    """Verifier modes."""

    fixed = "fixed"
    paper = "paper"
    both = "both"


class TurnFormatFlag(StrEnum):
    """How an earlier attempt is shown to the model."""

    CHAT = "chat"
    INLINE = "inline"


class CritiqueFormFlag(StrEnum):
    """How a judgement is asked for."""

    ANALYSIS = "analysis"
    JSON = "json"
    VERDICT = "verdict"


class HarnessFlag(StrEnum):
    """Versions of the reference grader; they differ in a few rules (docs/math-verifier.md)."""

    QWEN = "qwen"
    SKYTHOUGHT = "skythought"


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Makes a YAML file's values the defaults of this command's flags, so that flags given on the line win."""
    if path is None:
        return None
    import yaml

    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"cannot read --config {path}: {reason(error)}") from error
    if not isinstance(values, dict):
        raise UsageError(f"--config {path} must hold flag names and values, such as `samples: 8`")
    known = {p.name: p for p in context.command.params if p.name and p.name != "config"}
    defaults: dict[str, Any] = {}
    for key, value in values.items():
        name = str(key).replace("-", "_")
        if name not in known:
            raise UsageError(f"--config {path}: unknown key {key}: {nearest(name, known)}")
        found = [_flag_value(path, key, part) for part in (value if isinstance(value, list) else [value])]
        if getattr(known[name], "multiple", False):
            defaults[name] = found
        else:
            defaults[name] = ",".join(map(str, found)) if isinstance(value, list) else found[0]
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _flag_value(path: Path, key: Any, value: Any) -> bool | str | None:
    """One value of a configuration file, as it would be written on the command line."""
    if isinstance(value, dict | list | set | bytes):
        raise UsageError(f"--config {path}: {key} takes a word, a number or a list of them")
    return value if isinstance(value, bool) or value is None else str(value)


SCOPE, DECODING, TURNS, SCORING = "Scope", "Decoding", "Turns", "Scoring"
ENGINE, OUTPUT = "Engine", "Output"

Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        help="YAML file with the same names as the flags; flags win.",
        is_eager=True,
        callback=_read_config,
        rich_help_panel=SCOPE,
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        envvar="CIPO_EVAL_DATA",
        help="Local mirror of the data sets.",
        rich_help_panel=SCOPE,
    ),
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="Only the first N problems of each task.", rich_help_panel=SCOPE),
]
LcbStart = Annotated[
    str | None,
    typer.Option(
        "--lcb-start",
        help="LiveCodeBench: first day that counts (default 2024-08-01).",
        rich_help_panel=SCOPE,
    ),
]
LcbEnd = Annotated[
    str | None,
    typer.Option(
        "--lcb-end",
        help="LiveCodeBench: first day that no longer counts (default 2025-05-01).",
        rich_help_panel=SCOPE,
    ),
]
LcbPlatform = Annotated[
    str | None,
    typer.Option(
        "--lcb-platform",
        help="LiveCodeBench: leetcode, atcoder, codeforces, comma-separated.",
        rich_help_panel=SCOPE,
    ),
]
LcbDifficulty = Annotated[
    str | None,
    typer.Option(
        "--lcb-difficulty",
        help="LiveCodeBench: easy, medium, hard, comma-separated.",
        rich_help_panel=SCOPE,
    ),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Run directory.", rich_help_panel=OUTPUT)]
Json = Annotated[
    bool,
    typer.Option("--json", help="Results as JSON on standard output, nothing else.", rich_help_panel=OUTPUT),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, no table.", rich_help_panel=OUTPUT)]
Breakdown = Annotated[
    bool,
    typer.Option("--breakdown", help="Also tables by subject, level, …", rich_help_panel=OUTPUT),
]
Mode = Annotated[
    ModeFlag,
    typer.Option(
        "--mode",
        help="fixed: right; paper: as the reference grader; both: with a list of disagreements.",
        rich_help_panel=SCORING,
    ),
]


def check_think(value: str | None) -> str | None:
    """The value as it was given. Raises ``UsageError`` for what is no value of ``--think``."""
    from cipo_eval.texts import think_tags

    try:
        if value is not None:
            think_tags(value)
    except ValueError as error:
        raise UsageError(f"--think {value}: {error}") from error
    return value


ThinkFlag = Annotated[
    str,
    typer.Option(
        "--think",
        help="strip: answers inside thoughts do not count, in any of the known tags; keep: they do; '<plan> </plan>': "
        "strip, with these two tags in place of the known ones.",
        callback=check_think,
        rich_help_panel=SCORING,
    ),
]
RescoreThink = Annotated[
    str | None,
    typer.Option(
        "--think",
        help="strip, keep, or the two tags of thoughts (default: the run's).",
        callback=check_think,
        rich_help_panel=SCORING,
    ),
]
Harness = Annotated[
    HarnessFlag | None,
    typer.Option(
        "--harness",
        help="Fork of the Qwen2.5-Math harness that paper mode follows (default: by task).",
        rich_help_panel=SCORING,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--verifier-workers", min=1, help="Verifier processes (default: cores).", rich_help_panel=SCORING
    ),
]
Timeout = Annotated[
    float,
    typer.Option(
        "--verifier-timeout",
        min=0.1,
        help="Processor seconds that one answer may take.",
        rich_help_panel=SCORING,
    ),
]
AllowUnsafe = Annotated[
    bool,
    typer.Option(
        "--allow-unsafe-code",
        help="Run models' programs even where they cannot be confined (`cipo-eval doctor`). Stamped on the results.",
        rich_help_panel=SCORING,
    ),
]
Bootstrap = Annotated[
    int,
    typer.Option(
        "--bootstrap",
        min=100,
        help="Resamples of problems for intervals (tests draw 9,999, or these if more).",
        rich_help_panel=SCORING,
    ),
]
Ks = Annotated[
    str | None,
    typer.Option(
        "--k", help="The k of pass@k, comma-separated (default: 1,2,4,…,n).", rich_help_panel=SCORING
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The flags that choose problems of tasks with a window of dates (LiveCodeBench)."""

    start: str | None
    end: str | None
    platform: str | None
    difficulty: str | None

    def scopes(self, problem_sets: Sequence[ProblemSet]) -> list[Scope | None]:
        """What counts of each task: the flags, and the task's own scope where they are silent.

        Raises ``UsageError`` where no task has a scope that the flags could change, or nothing is left of one.
        """
        if self != NO_WINDOW and not any(problems.spec.scope for problems in problem_sets):
            raise UsageError(
                "--lcb-start, --lcb-end, --lcb-platform and --lcb-difficulty need a task with dates"
            )
        return [self._scope(problems) for problems in problem_sets]

    def _scope(self, problems: ProblemSet) -> Scope | None:
        scope = problems.spec.scope
        if scope is None:
            return None
        only = dict(scope.only)
        for column, flag in (("platform", self.platform), ("difficulty", self.difficulty)):
            if flag is None:
                continue
            known = {str(p.metadata.get(column)) for p in problems.problems}
            if unknown := [name for name in names(flag) if name not in known]:
                raise UsageError(f"--lcb-{column} {unknown[0]}: {nearest(unknown[0], known)}")
            only[column] = tuple(names(flag))
        found = replace(scope, start=self.start or scope.start, end=self.end or scope.end, only=only)
        if not any(found.admits(p) for p in problems.problems):
            raise UsageError(f"no problem of {problems.spec.name} is in {found.to_text()}")
        return found


NO_WINDOW = Window(start=None, end=None, platform=None, difficulty=None)


def names(value: str) -> list[str]:
    """The parts of a comma-separated flag, without repeats."""
    return list(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))


def whole_numbers(value: str | None, flag: str) -> tuple[int, ...] | None:
    """The numbers of a comma-separated flag."""
    if value is None:
        return None
    try:
        return tuple(sorted({int(part) for part in names(value)}))
    except ValueError:
        raise UsageError(f"{flag} {value}: whole numbers separated by commas") from None


# --- turns -------------------------------------------------------------------------------------------------

Protocols = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="direct, self, oracle, feedback, given, critique: comma-separated; they share their first turn "
        "(docs/protocols.md). Default: the task's, mostly direct.",
        rich_help_panel=TURNS,
    ),
]
Turns = Annotated[
    int,
    typer.Option(
        "--turns", min=2, max=100, help="Attempts of a chain, the first included.", rich_help_panel=TURNS
    ),
]
CritiqueForm = Annotated[
    CritiqueFormFlag,
    typer.Option(
        "--critique-form",
        help="How --protocol critique asks: analysis, then [\\[correct]] or [\\[wrong]]; json; verdict alone.",
        rich_help_panel=TURNS,
    ),
]
TurnFormat = Annotated[
    TurnFormatFlag,
    typer.Option(
        "--turn-format",
        help="chat: attempts as the assistant's messages; inline: one prompt with the problem and the last attempt.",
        rich_help_panel=TURNS,
    ),
]
PromptDir = Annotated[
    Path | None,
    typer.Option("--prompt-dir", help="Folder of templates in place of ours.", rich_help_panel=TURNS),
]
AttemptsFrom = Annotated[
    Path | None,
    typer.Option(
        "--attempts-from",
        help="For given and critique: a pool, a run, or a file of attempts (docs/pools.md). Default: those that come "
        "with the task's data.",
        rich_help_panel=TURNS,
    ),
]
CarryThink = Annotated[
    bool,
    typer.Option(
        "--carry-think", help="Later turns see the thoughts of earlier attempts.", rich_help_panel=TURNS
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnFlags:
    """The flags of turns."""

    protocol: str | None
    turns: int
    form: TurnFormatFlag
    critique_form: CritiqueFormFlag
    prompt_dir: Path | None
    carry_think: bool
    attempts: Path | None
    think: str = "strip"

    def look(self, specs: Sequence[TaskSpec]) -> list[tuple[Protocol, ...]]:
        """The protocols of each task; what can be told before its items are read. Raises ``UsageError``."""
        from cipo_eval.turns.protocols import DIRECT, chosen
        from cipo_eval.turns.revising import Prompts

        if self.protocol is not None and not names(self.protocol):
            raise UsageError("--protocol names none")
        asked = [
            chosen(names(self.protocol) if self.protocol else spec.protocols or (DIRECT,)) for spec in specs
        ]
        others = any(not p.own for protocols in asked for p in protocols)
        if self.attempts is not None and not others:
            raise UsageError("--attempts-from belongs together with --protocol given or critique")
        if self.attempts is not None and not self.attempts.exists():
            raise UsageError(f"--attempts-from {self.attempts} does not exist")
        if self.prompt_dir:
            Prompts(self.prompt_dir)
        return asked

    def revising(self, problem_sets: Sequence[ProblemSet]) -> list[Revising]:
        """What they ask for of each task. Raises ``UsageError``."""
        from cipo_eval.run.pools import read_pool
        from cipo_eval.turns.pools import own_pool
        from cipo_eval.turns.protocols import DIRECT
        from cipo_eval.turns.revising import Prompts, Revising, TurnFormat
        from cipo_eval.verifiers.critique import Form

        asked = self.look([of_task.spec for of_task in problem_sets])
        prompts = Prompts(self.prompt_dir) if self.prompt_dir else None
        every = [problem for of_task in problem_sets for problem in of_task.problems]
        pool = read_pool(self.attempts, every) if self.attempts else None
        found = []
        for of_task, protocols in zip(problem_sets, asked, strict=True):
            own = pool or own_pool(of_task.problems)
            if own is None and any(not p.own for p in protocols):
                raise UsageError(
                    f"the data of {of_task.spec.name} comes with no attempts to correct: name some with "
                    "--attempts-from (docs/pools.md)"
                )
            found.append(
                Revising(
                    protocols=tuple(p for p in protocols if p.name != DIRECT),
                    direct=any(p.name == DIRECT for p in protocols),
                    pool=own if any(not p.own for p in protocols) else None,
                    turns=self.turns,
                    turn_format=TurnFormat(self.form.value),
                    critique_form=Form(self.critique_form.value),
                    keep_think=self.carry_think,
                    think="strip" if self.think == "keep" else self.think,
                    prompts=prompts,
                )
            )
        return found
