"""``cipo-eval run``: generate and judge attempts at tasks with a model."""

from __future__ import annotations

import json as json_module
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cipo_eval.cli import engine as e
from cipo_eval.cli import options as o
from cipo_eval.cli.session import Show, check_ks, generate, say
from cipo_eval.errors import UsageError

if TYPE_CHECKING:
    from cipo_eval.plan import TaskPlan


FROM_CHECKPOINT = "checkpoint"
"""The preset that is the model's own."""


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
    revision: e.Revision = None,
    device: e.Device = "auto",
    dtype: e.Dtype = "auto",
    batch_tokens: e.BatchTokens = None,
    trust_remote_code: e.TrustRemoteCode = False,
    max_model_len: e.MaxModelLen = None,
    tensor_parallel: e.Parallel = 1,
    data_parallel: e.Replicas = 1,
    model_args: e.ModelArgs = None,
    base_url: e.BaseUrl = None,
    endpoint: e.EndpointFlag = e.Endpoint.chat,
    api_key_env: e.KeyVariable = "OPENAI_API_KEY",
    concurrency: e.Concurrency = 32,
    request_timeout: e.RequestTimeout = 600.0,
    retries: e.Retries = 8,
    enable_thinking: e.EnableThinking = None,
    thinking_budget: e.ThinkingBudget = None,
    mode: o.Mode = o.ModeFlag.fixed,
    think: o.ThinkFlag = o.Think.STRIP,
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
        typer.Option("--dry-run", help="Print what would run, and stop.", rich_help_panel=o.OUTPUT),
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
    breakdown: o.Breakdown = False,
) -> None:
    """Generate and judge attempts; an existing run directory is resumed and only added to."""
    from cipo_eval.config import MODES, Decoding
    from cipo_eval.plan import TaskPlan
    from cipo_eval.run_info import command_line
    from cipo_eval.runner import Run
    from cipo_eval.store import RunStore
    from cipo_eval.tasks import load_problems
    from cipo_eval.verifiers.pool import VerifierPool

    flags_of_engine = e.EngineFlags(
        revision=revision,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        trust_remote_code=trust_remote_code,
        max_model_len=max_model_len,
        tensor_parallel=tensor_parallel,
        data_parallel=data_parallel,
        model_args=model_args,
        base_url=base_url,
        endpoint=endpoint,
        api_key_env=api_key_env,
        concurrency=concurrency,
        request_timeout=request_timeout,
        retries=retries,
        enable_thinking=enable_thinking,
        thinking_budget=thinking_budget,
    )
    flags_of_engine.check(engine)
    decoding = Decoding(
        samples=samples,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        max_tokens=max_tokens,
        stop=tuple(stop) if stop else None,
    )
    if preset == FROM_CHECKPOINT:
        said = flags_of_engine.recommended(engine, model)
        decoding, preset = decoding.recommended(said), None
        if said.get("repetition_penalty", 1.0) != 1.0:
            say(f"--preset checkpoint: its repetition_penalty {said['repetition_penalty']} is not applied")
    plans = []
    found = [load_problems(name, data_dir=data_dir) for name in o.names(tasks)]
    flags = o.TurnFlags(
        protocol=protocol,
        turns=turns,
        form=turn_format,
        critique_form=critique_form,
        prompt_dir=prompt_dir,
        think=carry_think,
        attempts=attempts_from,
    )
    window = o.Window(start=lcb_start, end=lcb_end, platform=lcb_platform, difficulty=lcb_difficulty)
    for problems, scope, revising in zip(found, window.scopes(found), flags.revising(found), strict=True):
        count, sampling = decoding.resolve(preset, problems.spec.presets)
        asked = TaskPlan(problems=problems, samples=count, sampling=sampling, limit=limit, scope=scope)
        plans.append(
            replace(
                asked,
                system_prompt=system_prompt,
                revising=revising,
                think=think.value,
                harness=harness and harness.value,
                allow_unsafe=allow_unsafe_code,
            )
        )
    if not plans:
        raise UsageError("--tasks names no task; `cipo-eval tasks` lists them")
    if len({plan.name for plan in plans}) < len(plans):
        raise UsageError("two of --tasks have the same name: run them into different --output folders")
    ks = o.whole_numbers(k, "--k")
    check_ks(ks, plans)
    show = Show(json=json, quiet=quiet, breakdown=breakdown)
    folder = output or Path("runs") / Path(model).name.removesuffix(".gz").removesuffix(".jsonl")
    if dry_run:
        _dry_run(plans, folder, json)
        return
    if not resume and (folder / "run.json").exists():
        raise UsageError(f"{folder} holds a run already, and --no-resume was given: choose another --output")
    with RunStore(folder) as store:
        every = [p for plan in plans for p in plan.all_problems]
        source = flags_of_engine.make(engine, model, every, clock=e.frozen_clock(folder))
        job = Run(
            store,
            plans,
            engine=source.describe(),
            seed=seed,
            modes=MODES[mode.value],
            command=command_line(),
            bootstrap=bootstrap,
            ks=ks,
        )
        pool = VerifierPool(verifier_workers, time_limit=verifier_timeout)
        code = generate(job, source, pool, show)
    if show.messages:
        say(f"run directory: {folder}")
    raise typer.Exit(code)


def _dry_run(plans: Sequence[TaskPlan], folder: Path, as_json: bool) -> None:
    """What would be generated: attempts that are already on disk are not counted again."""
    from cipo_eval.store import attempts_path, read_attempts

    rows = []
    for plan in plans:
        path = attempts_path(folder, plan.name)
        have = {attempt.key for _line, attempt in read_attempts(path)} if path.exists() else set()
        new = len(plan.keys() - have)
        rows.append(
            {
                "task": plan.name,
                "problems": len(plan.selected),
                "samples": plan.samples,
                "attempts": len(plan.keys()),
                "attempts_to_generate": new,
                "most_attempts_of_later_turns": plan.most_later_attempts,
                "most_new_tokens": new * plan.sampling.max_tokens,
                "temperature": plan.sampling.temperature,
                "top_p": plan.sampling.top_p,
                "max_tokens": plan.sampling.max_tokens,
            },
        )
    if as_json:
        typer.echo(json_module.dumps({"output": str(folder), "tasks": rows}))
        return
    for row in rows:
        typer.echo(
            f"{row['task']}: {row['problems']} problems x {row['samples']} samples = {row['attempts']} attempts, "
            f"{row['attempts_to_generate']} to generate, at most {row['most_new_tokens']:,} new tokens "
            f"(temperature {row['temperature']}, top_p {row['top_p']}, max_tokens {row['max_tokens']})",
        )
        if row["most_attempts_of_later_turns"]:
            typer.echo(f"  and at most {row['most_attempts_of_later_turns']} attempts of later turns")
    typer.echo(f"into {folder}")
