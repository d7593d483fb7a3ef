"""``cipo-eval run``: generate and judge attempts at tasks with a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import engine as e
from cipo_eval.cli import options as o
from cipo_eval.cli import run_folder
from cipo_eval.cli.generate import with_options
from cipo_eval.cli.progress import phase
from cipo_eval.cli.session import Show, check_k, generate, say
from cipo_eval.errors import UsageError, nearest

if TYPE_CHECKING:
    from cipo_eval.data.tasks import ProblemSet, TaskSpec
    from cipo_eval.records import Sampling
    from cipo_eval.run.decoding import Decoding
    from cipo_eval.run.plan import TaskPlan


FROM_CHECKPOINT = "checkpoint"
"""The preset that is the model's own."""


@with_options(e.engine_flags())
def run(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="Checkpoint or LoRA adapter, folder or hub id; openai: the server's name; replay: a file or run.",
        ),
    ],
    tasks: Annotated[
        str,
        typer.Option(
            "--tasks",
            "-t",
            help="Task names, comma-separated (`cipo-eval tasks` lists them), or `.yaml` files.",
        ),
    ],
    config: o.Config = None,  # noqa: ARG001  read by its callback
    data_dir: o.DataDir = None,
    limit: o.Limit = None,
    lcb_start: o.LcbStart = None,
    lcb_end: o.LcbEnd = None,
    lcb_platform: o.LcbPlatform = None,
    lcb_difficulty: o.LcbDifficulty = None,
    samples: Annotated[
        int | None, typer.Option("--samples", "-n", help="Attempts per problem.", rich_help_panel=o.DECODING)
    ] = None,
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            help="greedy, paper or avg64: decoding per task; checkpoint: what the model recommends.",
            rich_help_panel=o.DECODING,
        ),
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="0: greedy (default 0.6).", rich_help_panel=o.DECODING)
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Nucleus (default 0.95).", rich_help_panel=o.DECODING)
    ] = None,
    top_k: Annotated[int | None, typer.Option(help="0: off (default).", rich_help_panel=o.DECODING)] = None,
    min_p: Annotated[float | None, typer.Option(help="0: off (default).", rich_help_panel=o.DECODING)] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(help="Most new tokens per attempt (default 2048).", rich_help_panel=o.DECODING),
    ] = None,
    stop: Annotated[
        list[str] | None,
        typer.Option("--stop", help="Stop string; may be repeated.", rich_help_panel=o.DECODING),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of all sampling.", rich_help_panel=o.DECODING)] = 0,
    system_prompt: Annotated[
        str | None,
        typer.Option(help="System message before each prompt.", rich_help_panel=o.DECODING),
    ] = None,
    protocol: o.Protocols = None,
    turns: o.Turns = 2,
    turn_format: o.TurnFormat = o.TurnFormatFlag.CHAT,
    prompt_dir: o.PromptDir = None,
    carry_think: o.CarryThink = False,
    attempts_from: o.AttemptsFrom = None,
    critique_form: o.CritiqueForm = o.CritiqueFormFlag.ANALYSIS,
    engine: e.EngineName = "hf",
    engine_option: e.EngineOption = None,
    mode: o.Mode = o.ModeFlag.fixed,
    think: o.ThinkFlag = "strip",
    harness: o.Harness = None,
    k: o.Ks = None,
    bootstrap: o.Bootstrap = 2000,
    allow_unsafe_code: o.AllowUnsafe = False,
    verifier_workers: o.Workers = None,
    verifier_timeout: o.Timeout = 10.0,
    output: o.Output = None,
    resume: Annotated[
        bool,
        typer.Option(help="Go on in an existing run directory, or refuse it.", rich_help_panel=o.OUTPUT),
    ] = True,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Look at model, data and folder, print what would run, and stop.",
            rich_help_panel=o.OUTPUT,
        ),
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    breakdown: o.Breakdown = False,
    **engine_flags: Any,
) -> None:
    """Generate and judge attempts; an existing run directory is resumed and only added to.

    What is missing or wrong is said before anything is loaded."""
    from cipo_eval.run.decoding import MODES, Decoding
    from cipo_eval.run.info import command_line, confinement
    from cipo_eval.run.runner import Run
    from cipo_eval.storage.store import RunStore
    from cipo_eval.verifiers.pool import VerifierPool

    decoding = Decoding(
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        max_tokens=max_tokens,
        stop=tuple(stop) if stop else None,
    )
    flags = o.TurnFlags(
        protocol=protocol,
        turns=turns,
        form=turn_format,
        critique_form=critique_form,
        prompt_dir=prompt_dir,
        carry_think=carry_think,
        think=think,
        attempts=attempts_from,
    )
    window = o.Window(start=lcb_start, end=lcb_end, platform=lcb_platform, difficulty=lcb_difficulty)
    ks = o.whole_numbers(k, "--k")
    show = Show(json=json, quiet=quiet, breakdown=breakdown)
    folder = output or run_folder.default_folder(model)
    specs = _specs(tasks)
    flags.look(specs)
    choice = e.chosen(engine, model, engine_flags, engine_option, think=think)
    decodings = _decodings(specs, decoding, preset)
    for spec, (count, _) in zip(specs, decodings, strict=True):
        check_k(ks, spec.name, count)
    run_folder.look(folder)
    if not resume and (folder / "run.json").exists():
        raise UsageError(f"{folder} holds a run already, and --no-resume was given: choose another --output")
    places = _places(specs, data_dir)
    choice.look()
    if preset == FROM_CHECKPOINT:
        decodings = _recommended(specs, decoding, choice.recommended())
    with phase("data", ", ".join(places), messages=show.messages):
        found = _problems(specs, data_dir)
    plans = [
        replace(
            plan,
            system_prompt=system_prompt,
            think=think,
            harness=harness and harness.value,
            allow_unsafe=allow_unsafe_code,
        )
        for plan in _plans(found, decodings, limit, window, flags)
    ]
    modes = MODES[mode.value]
    run_folder.check(folder, plans, seed=seed, modes=modes, engine=choice.identity())
    if dry_run:
        from cipo_eval.cli.dry_run import dry_run as look_closer

        look_closer(plans, folder, choice, as_json=json)
        return
    confined = confinement(plans)
    if show.messages:
        for line in map(_extent, plans):
            say(line)
    with RunStore(folder) as store:
        with phase("model", f"{model} ({engine})", messages=show.messages):
            every = [p for plan in plans for p in plan.all_problems]
            source = choice.make(every, clock=e.frozen_clock(folder))
        job = Run(
            store,
            plans,
            engine=source.describe(),
            seed=seed,
            modes=modes,
            command=command_line(),
            bootstrap=bootstrap,
            ks=ks,
        )
        pool = VerifierPool(verifier_workers, time_limit=verifier_timeout)
        if show.messages:
            sandbox = f", programs in a sandbox ({confined['detail']})" if confined else ""
            say(f"verifier: {pool.workers} process(es){sandbox}")
        code = generate(job, source, pool, show)
    if show.messages:
        say(f"run directory: {folder}")
    raise typer.Exit(code)


def _specs(tasks: str) -> list[TaskSpec]:
    """The definitions of the tasks that are named. Raises ``UsageError``."""
    from cipo_eval.data.tasks import load_spec

    specs = [load_spec(name) for name in o.names(tasks)]
    if not specs:
        raise UsageError("--tasks names no task; `cipo-eval tasks` lists them")
    if len({spec.name for spec in specs}) < len(specs):
        raise UsageError("two of --tasks have the same name: run them into different --output folders")
    return specs


def _decodings(
    specs: Sequence[TaskSpec], decoding: Decoding, preset: str | None
) -> list[tuple[int, Sampling]]:
    """Samples and sampling of each task. Raises ``UsageError`` for values out of range."""
    known = {FROM_CHECKPOINT, *(name for spec in specs for name in spec.presets)}
    if preset is not None and preset not in known:
        raise UsageError(f"unknown --preset {preset}: {nearest(preset, known)}")
    named = None if preset == FROM_CHECKPOINT else preset
    return [decoding.resolve(named, spec.presets) for spec in specs]


def _recommended(
    specs: Sequence[TaskSpec], decoding: Decoding, said: dict[str, object]
) -> list[tuple[int, Sampling]]:
    """The same with what the checkpoint recommends."""
    if said.get("repetition_penalty", 1.0) != 1.0:
        say(f"--preset checkpoint: its repetition_penalty {said['repetition_penalty']} is not applied")
    return _decodings(specs, decoding.recommended(said), None)


def _places(specs: Sequence[TaskSpec], data_dir: Path | None) -> list[str]:
    """Each task with where its rows are. Raises ``MissingError`` where they are not."""
    from cipo_eval.data.tasks import look

    return [f"{spec.name} ({look(spec, data_dir)})" for spec in specs]


def _problems(specs: Sequence[TaskSpec], data_dir: Path | None) -> list[ProblemSet]:
    from cipo_eval.data.tasks import load_problems

    return [load_problems(spec.path, data_dir=data_dir) for spec in specs]


def _plans(
    found: Sequence[ProblemSet],
    decodings: Sequence[tuple[int, Sampling]],
    limit: int | None,
    window: o.Window,
    flags: o.TurnFlags,
) -> list[TaskPlan]:
    from cipo_eval.run.plan import TaskPlan

    parts = zip(found, decodings, window.scopes(found), flags.revising(found), strict=True)
    return [
        TaskPlan(
            problems=problems, samples=count, sampling=sampling, limit=limit, scope=scope, revising=revising
        )
        for problems, (count, sampling), scope, revising in parts
    ]


def _extent(plan: TaskPlan) -> str:
    """How much of a task is asked for; said where that is less than ``--limit`` says."""
    selected = len(plan.selected)
    less = f" (--limit {plan.limit}: there are no more)" if plan.limit and plan.limit > selected else ""
    return f"{plan.name}: {selected} problems{less} x {plan.samples} samples"
