"""``cipo-eval show``: read a run's attempts, turn by turn."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.errors import UsageError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cipo_eval.analysis.chains import Chain, StoredChains
    from cipo_eval.analysis.selection import Selected
    from cipo_eval.records import Mode

MAX_LISTED = 50
"""Chains in a list, unless ``--limit`` says otherwise."""


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
    limit: Annotated[int, typer.Option(min=1, help="Most chains shown.")] = MAX_LISTED,
) -> None:
    """Print the attempts at a problem with their verdicts; without --problem, a line for each chain of turns."""
    import numpy as np

    from cipo_eval.analysis.selection import selected_attempts
    from cipo_eval.records import Mode, State
    from cipo_eval.storage.store import read_info, read_problems
    from cipo_reports.transcript import in_a_line, in_full, question

    info = read_info(run)
    judged = Mode(mode.value if mode else info["modes"][0])
    if judged not in info["modes"]:
        raise UsageError(f"{run} was judged in mode {', '.join(info['modes'])}, not {judged}")
    if state is not None and state not in list(State):
        raise UsageError(f"no state is named {state}: {nearest(state, [s.value for s in State])}")
    step = _step(transition) if transition else None
    tasks = [task] if task else list(info["tasks"])
    if unknown := [name for name in tasks if name not in info["tasks"]]:
        raise UsageError(f"{run} has no task {unknown[0]}: {nearest(unknown[0], info['tasks'])}")
    shown: list[tuple[str, Chain]] = []
    count, not_asked = 0, 0
    attempted: set[str] = set()
    for name in tasks:
        selected = selected_attempts(run, name, info, shards=True)
        attempted.update(selected.attempts.present("problem"))
        not_asked += selected.not_asked
        for name_of_protocol, chains in _chains(selected, protocol):
            like = chains.only(_like(chains, name_of_protocol, judged, problem, sample, state, step))
            count += len(like)
            places = np.arange(min(len(like), limit - len(shown)))
            shown += [(name_of_protocol, chain) for chain in like.only(places)]
    if problem is not None and problem not in attempted:
        raise UsageError(f"{run} has no attempts at {problem}: {nearest(problem, attempted)}")
    if problem is not None:
        for name in dict.fromkeys(chain[0].task for _, chain in shown):
            if row := read_problems(run, name).get(problem):
                typer.echo(question(name, row))
    for name, chain in shown:
        typer.echo(in_full(name, chain, judged) if problem else in_a_line(name, chain, judged))
    if count > limit:
        typer.echo(f"{count - limit} more: --limit {count} shows them", err=True)
    if not count:
        typer.echo("no attempts are like that", err=True)
    if shard := info.get("shard"):
        typer.echo(f"this is part {shard.get('index')} of {shard.get('of')} of a run", err=True)
    if not_asked:
        typer.echo(
            f"{not_asked} attempt(s) more are on disk, which the run's last calls did not ask for", err=True
        )


def _like(
    chains: StoredChains,
    protocol: str,
    mode: Mode,
    problem: str | None,
    sample: int | None,
    state: str | None,
    step: str | None,
) -> NDArray[np.bool_]:
    """Which chains are as asked for; None asks for nothing."""
    import numpy as np

    from cipo_eval.records import State
    from cipo_eval.turns.protocols import PROTOCOLS

    attempts = chains.attempts
    like = np.ones(len(chains), bool)
    if problem is not None:
        like &= chains.problem == attempts.number_of("problem", problem)
    if sample is not None:
        like &= chains.turn(1, attempts.column("sample")) == sample
    there = chains.places >= 0
    if state is not None:
        like &= (there & attempts.in_state(mode, State(state))[chains.places]).any(axis=1)
    if step is not None:
        every = slice(None, None, 2 if PROTOCOLS[protocol].judges else 1)  # judgements are no attempts
        right, there = attempts.verdicts(mode, "correct")[chains.places][:, every], there[:, every]
        before, after = (right if letter == "r" else ~right for letter in step)
        like &= (before[:, :-1] & after[:, 1:] & there[:, 1:]).any(axis=1)
    return like


def _chains(selected: Selected, only: str | None) -> Iterator[tuple[str, StoredChains]]:
    """Chains with the name of their protocol; first attempts alone where nothing follows them."""
    from cipo_eval.analysis.chains import chains_of
    from cipo_eval.turns.protocols import DIRECT, protocols_named

    names = [only] if only else list(selected.protocols) or [DIRECT]
    for protocol in protocols_named(names):
        yield protocol.name, chains_of(selected.of(protocol.name), protocol)


def _step(text: str) -> str:
    letters = re.sub(r"[^a-z]", "", text.lower())
    if not re.fullmatch("[wr]{2}", letters):
        raise UsageError(f"--transition {text}: it is w->r, r->w, w->w or r->r (w: wrong, r: right)")
    return letters
