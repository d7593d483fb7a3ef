"""``cipo-eval show``: read a run's attempts, turn by turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.errors import UsageError, nearest

if TYPE_CHECKING:
    from cipo_eval.analysis.chains import Chain
    from cipo_eval.analysis.selection import Selected
    from cipo_eval.records import Attempt

LISTED = 50
"""Chains in a list, unless more are asked for."""


def show(
    run: Annotated[Path, typer.Argument(help="A run directory.")],
    problem: Annotated[
        str | None, typer.Option("--problem", "-p", help="One problem, its attempts in full.")
    ] = None,
    task: Annotated[str | None, typer.Option("--task", "-t", help="One task.")] = None,
    protocol: Annotated[
        str | None, typer.Option("--protocol", help="One protocol (default: all of the run).")
    ] = None,
    sample: Annotated[int | None, typer.Option("--sample", "-n", min=0, help="One sample.")] = None,
    transition: Annotated[
        str | None,
        typer.Option(help="Chains with such a step: w->r, r->w, w->w or r->r (w: wrong, r: right)."),
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Chains with an attempt in this state (truncated, no_answer, …).")
    ] = None,
    mode: Annotated[
        o.ModeFlag | None, typer.Option("--mode", help="Whose verdicts (default: the run's first mode).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most chains shown.")] = LISTED,
) -> None:
    """Print the attempts at a problem with their verdicts; without --problem, a line for each chain of turns."""
    from cipo_eval.analysis.chains import attempts_of
    from cipo_eval.analysis.selection import selected_attempts
    from cipo_eval.records import State
    from cipo_eval.storage.store import read_info, read_problems
    from cipo_eval.turns.protocols import PROTOCOLS

    info = read_info(run)
    judged = mode.value if mode else info["modes"][0]
    if judged not in info["modes"]:
        raise UsageError(f"{run} was judged in mode {', '.join(info['modes'])}, not {judged}")
    if state is not None and state not in list(State):
        raise UsageError(f"no state is named {state}: {nearest(state, [s.value for s in State])}")
    step = _step(transition) if transition else None
    tasks = [task] if task else list(info["tasks"])
    if unknown := [name for name in tasks if name not in info["tasks"]]:
        raise UsageError(f"{run} has no task {unknown[0]}: {nearest(unknown[0], info['tasks'])}")
    found: list[tuple[str, Chain]] = []
    known: set[str] = set()
    not_asked = 0
    for name in tasks:
        selected = selected_attempts(run, name, info)
        known.update(a.problem for a in selected.attempts)
        not_asked += selected.not_asked
        found += [
            (of, chain)
            for of, chain in _chains(selected, protocol)
            if (problem is None or chain[0].problem == problem)
            and (sample is None or chain[0].sample == sample)
            and (state is None or any(a.verdicts[judged].state == state for a in chain))
            and (step is None or step in _steps(attempts_of(chain, PROTOCOLS[of]), judged))
        ]
    if problem is not None and problem not in known:
        raise UsageError(f"{run} has no attempts at {problem}: {nearest(problem, known)}")
    if problem is not None:
        for name in dict.fromkeys(chain[0].task for _, chain in found):
            if asked := read_problems(run, name).get(problem):
                typer.echo(_question(name, asked))
    for of, chain in found[:limit]:
        typer.echo(_in_full(of, chain, judged) if problem else _line(of, chain, judged))
    if len(found) > limit:
        typer.echo(f"{len(found) - limit} more: --limit {len(found)} shows them", err=True)
    if not found:
        typer.echo("no attempts are like that", err=True)
    if not_asked:
        typer.echo(
            f"{not_asked} attempt(s) more are on disk, which the run's last calls did not ask for", err=True
        )


def _chains(selected: Selected, only: str | None) -> Iterator[tuple[str, Chain]]:
    """Chains with the name of their protocol; first attempts alone where nothing follows them."""
    from cipo_eval.analysis.chains import chains_of
    from cipo_eval.turns.protocols import DIRECT, chosen

    wanted = [only] if only else list(selected.protocols) or [DIRECT]
    for protocol in chosen(wanted):
        for chain in chains_of(selected.of(protocol.name), protocol):
            yield protocol.name, chain


def _step(text: str) -> str:
    letters = re.sub(r"[^a-z]", "", text.lower())
    if not re.fullmatch("[wr]{2}", letters):
        raise UsageError(f"--transition {text}: it is w->r, r->w, w->w or r->r (w: wrong, r: right)")
    return letters


def _letters(chain: Chain, mode: str) -> str:
    return "".join("r" if attempt.verdicts[mode].correct else "w" for attempt in chain)


def _steps(chain: Chain, mode: str) -> set[str]:
    letters = _letters(chain, mode)
    return {letters[i : i + 2] for i in range(len(letters) - 1)}


def _line(protocol: str, chain: Chain, mode: str) -> str:
    from cipo_eval.analysis.chains import attempts_of
    from cipo_eval.turns.protocols import PROTOCOLS

    first, judges = chain[0], PROTOCOLS[protocol].is_judgement
    path = "→".join(
        f"[{a.verdicts[mode].extracted or '?'}]" if judges(a.turn) else _letters((a,), mode) for a in chain
    )
    answers = " → ".join(_answer(attempt, mode) for attempt in attempts_of(chain, PROTOCOLS[protocol]))
    return f"{first.task} {printable(first.problem)} {protocol} sample {first.sample}: {path}  {answers}"


def _answer(attempt: Attempt, mode: str) -> str:
    verdict = attempt.verdicts[mode]
    if verdict.extracted is None:
        return f"({verdict.state.value})"
    text = " ".join(printable(verdict.extracted).split())
    return text if len(text) <= 40 else f"{text[:39]}…"


def _question(task: str, asked: dict[str, Any]) -> str:
    """A problem as it was asked, and its answer where the run keeps one."""
    lines = [f"═══ {task} {printable(asked['id'])} ═══", printable(asked["question"])]
    if "answer" in asked:
        lines.append(f"─── expected: {printable(asked['answer'])}")
    return "\n".join(lines) + "\n"


def _in_full(protocol: str, chain: Chain, mode: str) -> str:
    from cipo_eval.turns.protocols import PROTOCOLS

    first, judges = chain[0], PROTOCOLS[protocol].is_judgement
    lines = [f"═══ {first.task} {printable(first.problem)} · {protocol} · sample {first.sample} ═══"]
    for attempt in chain:
        verdict = attempt.verdicts[mode]
        says = [
            verdict.state.value,
            *([f"{attempt.completion_tokens} tokens"] if attempt.completion_tokens else []),
        ]
        if attempt.finish_reason and attempt.finish_reason != "stop":
            says.append(f"ended by {attempt.finish_reason}")
        what = " (judgement)" if judges(attempt.turn) else ""
        lines += [f"─── turn {attempt.turn}{what}: {', '.join(says)}", printable(attempt.text).rstrip("\n")]
        if verdict.extracted is not None:
            name = "says that the attempt is" if what else "answer:"
            lines.append(f"─── {name} {printable(verdict.extracted)}")
        lines += _failure(verdict.report.get("failure"))
    return "\n".join(lines) + "\n"


def _failure(failure: dict[str, Any] | None) -> list[str]:
    """The first test that failed, as far as it may be shown."""
    if not failure:
        return []
    parts = [
        f"{key}: {printable(str(failure[key]))}"
        for key in ("input", "expected", "actual", "error")
        if key in failure
    ]
    return [f"─── test {failure.get('test')}: {failure.get('kind')}", *parts]


def printable(text: str) -> str:
    """A text that a model wrote, for a terminal: what would steer it is shown as an escape."""
    return "".join(
        char if char.isprintable() or char in "\n\t" else char.encode("unicode_escape").decode()
        for char in text
    )
