"""``cipo-eval score``: judge outputs that were generated anywhere."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import Show, check_ks, generate, say


def score(
    file: Annotated[
        Path, typer.Argument(help="JSON Lines of attempts (layouts: docs/replay.md), or a run directory.")
    ],
    task: Annotated[str, typer.Option("--task", "-t", help="The task that the attempts answer.")],
    config: o.Config = None,  # noqa: ARG001  read by its callback
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    lcb_start: o.LcbStart = None,
    lcb_end: o.LcbEnd = None,
    lcb_platform: o.LcbPlatform = None,
    lcb_difficulty: o.LcbDifficulty = None,
    samples: Annotated[
        int | None,
        typer.Option(
            "--samples", "-n", min=1, help="Attempts per problem (default: all).", rich_help_panel=o.SCOPE
        ),
    ] = None,
    allow_unmatched: Annotated[
        bool,
        typer.Option(
            "--allow-unmatched", help="Leave out rows that match no problem.", rich_help_panel=o.SCOPE
        ),
    ] = False,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol",
            help="given: the file corrects attempts, of --attempts-from or those that come with the task's data.",
            rich_help_panel=o.TURNS,
        ),
    ] = None,
    id_map: Annotated[
        Path | None,
        typer.Option(
            "--id-map",
            help="What the file's ids mean: JSON, JSON Lines or CSV of file id and problem id (docs/replay.md).",
            rich_help_panel=o.SCOPE,
        ),
    ] = None,
    attempts_from: Annotated[
        Path | None,
        typer.Option(
            "--attempts-from",
            help="The file corrects these attempts: a pool, a run, or a file, also itself (docs/pools.md).",
            rich_help_panel=o.TURNS,
        ),
    ] = None,
    mode: o.Mode = o.ModeFlag.fixed,
    think: o.ThinkFlag = "strip",
    harness: o.Harness = None,
    k: o.Ks = None,
    bootstrap: o.Bootstrap = 2000,
    seed: Annotated[
        int, typer.Option(help="Recorded; scoring draws nothing.", rich_help_panel=o.SCORING)
    ] = 0,
    allow_unsafe_code: o.AllowUnsafe = False,
    verifier_workers: o.Workers = None,
    verifier_timeout: o.Timeout = 10.0,
    output: o.Output = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
    breakdown: o.Breakdown = False,
) -> None:
    """Judge attempts from a file. Without --output only the figures remain."""
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.run.decoding import MODES, Decoding
    from cipo_eval.run.info import command_line
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.scoring import Scoring, open_file
    from cipo_eval.storage.store import RunStore
    from cipo_eval.verifiers.pool import VerifierPool

    problems = load_problems(task, data_dir=data_dir)
    window = o.Window(start=lcb_start, end=lcb_end, platform=lcb_platform, difficulty=lcb_difficulty)
    (scope,) = window.scopes([problems])
    source, revising = open_file(
        file, problems, protocol=protocol, pool=attempts_from, id_map=id_map, allow_unmatched=allow_unmatched
    )
    pool_of = revising.pool
    most = source.samples if pool_of is None else pool_of.samples(problems.spec.name, source.counts)
    count, sampling = Decoding(samples=samples or most).resolve(None, {})
    plan = TaskPlan(
        problems=problems,
        samples=count,
        sampling=sampling,
        limit=limit,
        scope=scope,
        revising=revising,
        available=source.counts if pool_of else None,
        think=think,
        harness=harness and harness.value,
        allow_unsafe=allow_unsafe_code,
    )
    ks = o.whole_numbers(k, "--k")
    check_ks(ks, [plan])
    with ExitStack() as stack:
        folder = output or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cipo-eval-")), file.name
        )
        store = stack.enter_context(RunStore(folder))
        job = Scoring(
            store,
            [plan],
            source=source,
            engine=source.describe(),
            seed=seed,
            modes=MODES[mode.value],
            command=command_line(),
            bootstrap=bootstrap,
            ks=ks,
        )
        job.warnings += source.notes()
        pool = VerifierPool(verifier_workers, time_limit=verifier_timeout)
        code = generate(job, source, pool, Show(json=json, quiet=quiet, breakdown=breakdown))
        lines = job.record()
    for line in lines if not quiet else ():
        say(line)
    if output and not quiet and not json:
        say(f"run directory: {output}")
    raise typer.Exit(code)
