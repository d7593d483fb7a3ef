"""``cipo-eval rescore``: judge a run's attempts anew, without a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import Show, carry_out, check_ks
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.turns.revising import Revising


def rescore(
    run: Annotated[Path, typer.Argument(help="Run directory.")],
    config: o.Config = None,  # noqa: ARG001  read by its callback
    data_dir: o.DataDir = None,
    mode: Annotated[
        o.ModeFlag | None,
        typer.Option("--mode", help="fixed, paper or both (default: the run's).", rich_help_panel=o.SCORING),
    ] = None,
    think: o.RescoreThink = None,
    harness: o.Harness = None,
    k: o.Ks = None,
    bootstrap: o.Bootstrap = 2000,
    allow_unsafe_code: o.AllowUnsafe = False,
    verifier_workers: o.Workers = None,
    verifier_timeout: o.Timeout = 10.0,
    json: o.Json = False,
    quiet: o.Quiet = False,
    breakdown: o.Breakdown = False,
) -> None:
    """Judge every stored attempt again and rewrite verdicts and results; the attempts themselves stay."""
    from cipo_eval.records import Mode
    from cipo_eval.run.decoding import MODES
    from cipo_eval.run.info import command_line
    from cipo_eval.run.runner import Run
    from cipo_eval.storage.store import RunStore, read_info
    from cipo_eval.verifiers.pool import VerifierPool

    info = read_info(run)
    plans = [
        replace(_plan(name, task, data_dir, think, harness), allow_unsafe=allow_unsafe_code)
        for name, task in info["tasks"].items()
    ]
    ks = o.whole_numbers(k, "--k")
    check_ks(ks, plans)
    modes = MODES[mode.value] if mode else tuple(Mode(m) for m in info["modes"])
    with RunStore(run) as store:
        job = Run(
            store,
            plans,
            engine=info["engine"],
            seed=info["seed"],
            modes=modes,
            command=command_line(),
            bootstrap=bootstrap,
            ks=ks,
            regrade=True,
        )
        pool = VerifierPool(verifier_workers, time_limit=verifier_timeout)
        show = Show(json=json, quiet=quiet, breakdown=breakdown)
        code = carry_out(job, pool, show, lambda *watched: job.rescore(pool, *watched))
    raise typer.Exit(code)


def _plan(
    name: str,
    task: Mapping[str, Any],
    data_dir: Path | None,
    think: str | None,
    harness: o.HarnessFlag | None,
) -> TaskPlan:
    """The task as the run had it, with the data of now (whose fingerprint must be the same)."""
    from cipo_eval.data.scope import Scope
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.records import Sampling
    from cipo_eval.run.plan import TaskPlan

    problems = load_problems(task["definition"], data_dir=data_dir)
    if problems.fingerprint != task["data"]:
        raise UsageError(
            f"{name}: the data here is not the data of the run (fingerprint {problems.fingerprint}, "
            f"the run's {task['data']}): "
            "point --data-dir at the same copy",
        )
    return TaskPlan(
        problems=problems,
        samples=task["samples"],
        sampling=Sampling(**{**task["sampling"], "stop": tuple(task["sampling"]["stop"])}),
        limit=task["limit"],
        scope=Scope.from_text(task["scope"]) if task.get("scope") else None,
        system_prompt=task["system_prompt"],
        revising=_revising(task),
        think=think or task["think"],
        harness=harness.value if harness else task["harness"],
    )


def _revising(task: Mapping[str, Any]) -> Revising:
    """What was asked for, as far as judging needs to know it: neither prompts nor pools."""
    from cipo_eval.turns.protocols import chosen
    from cipo_eval.turns.revising import Revising
    from cipo_eval.verifiers.critique import Form

    protocols: Mapping[str, Mapping[str, Any]] = task["protocols"]
    forms = [facts["form"] for facts in protocols.values() if "form" in facts]
    return Revising(
        protocols=chosen(list(protocols)),
        direct=task["direct"],
        turns=max((facts["turns"] for facts in protocols.values()), default=2),
        critique_form=Form(forms[0]) if forms else Form.ANALYSIS,
    )
