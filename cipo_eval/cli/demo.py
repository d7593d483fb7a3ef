"""``cipo-eval demo``: the whole line on a fresh machine, without hub or data: train, generate, judge, report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import LOG_SECONDS, Show, generate, say

TASK = "arithmetic"


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for the checkpoint and the run.")
    ] = Path("runs/demo"),
    samples: Annotated[int, typer.Option("--samples", "-n", min=1, help="Attempts per problem.")] = 8,
    limit: o.Limit = None,
    seed: Annotated[int, typer.Option(help="Seed of training and sampling.")] = 0,
    max_seconds: Annotated[float, typer.Option(min=1, help="Training stops here at the latest.")] = 100.0,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a tiny arithmetic model from scratch (under two minutes on two cores), score it and write a report."""
    from cipo_eval.config import Decoding
    from cipo_eval.engines.hf import HFEngine
    from cipo_eval.plan import TaskPlan
    from cipo_eval.records import Mode
    from cipo_eval.runner import Run, command_line
    from cipo_eval.store import RunStore
    from cipo_eval.tasks import load_problems
    from cipo_eval.verifiers.pool import VerifierPool

    show = Show(json=json, quiet=quiet, breakdown=True)
    checkpoint = output / "checkpoint"
    if (checkpoint / "config.json").is_file():
        if show.messages:
            say(f"using the model trained earlier in {checkpoint}")
    else:
        _train(checkpoint, seed, max_seconds, show)
    decoding = Decoding(samples=samples, temperature=1.0, top_p=1.0, max_tokens=64)
    problems = load_problems(TASK)
    count, sampling = decoding.resolve(None, {})
    plan = TaskPlan(problems=problems, samples=count, sampling=sampling, limit=limit)
    with RunStore(output / "run") as store:
        engine = HFEngine(str(checkpoint), device="cpu")
        job = Run(
            store,
            [plan],
            engine=engine.describe(),
            seed=seed,
            modes=(Mode.FIXED,),
            command=command_line(),
        )
        code = generate(job, engine, VerifierPool(), show)
    if show.messages:
        say(f"checkpoint: {checkpoint}   run directory: {output / 'run'}")
        say(f"report: {_report(output)}")
        say(
            f"try: cipo-eval run --model {checkpoint} --tasks {TASK} --samples 16 --temperature 1 --max-tokens 64"
        )
    raise typer.Exit(code)


def _report(output: Path) -> Path:
    from cipo_reports.arms import read_arms
    from cipo_reports.report import write_report
    from cipo_reports.study import read_study

    study = read_study(read_arms([], [f"demo={output / 'run'}"]))
    return write_report(study, output / "report", title="cipo-eval demo").page


def _train(checkpoint: Path, seed: int, max_seconds: float, show: Show) -> None:
    """Trains the demo model, with a line of progress every few seconds."""
    from cipo_trainer import demo_checkpoint

    last = [time.monotonic()]

    def on_step(step: int, loss: float) -> None:
        if show.messages and time.monotonic() - last[0] >= LOG_SECONDS:
            last[0] = time.monotonic()
            say(f"  step {step}, loss {loss:.3f}")

    if show.messages:
        say(f"training a tiny arithmetic model from scratch (at most {max_seconds:.0f} s) …")
    result = demo_checkpoint(checkpoint, seed=seed, max_seconds=max_seconds, on_step=on_step)
    if show.messages:
        say(f"trained {result.steps} steps in {result.seconds:.0f} s, loss {result.loss:.3f}")
        if result.stopped_early or result.cooled_down:
            say("the time limit shortened the training: figures will differ from those of a faster machine")
