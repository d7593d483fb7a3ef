"""``cipo-eval train``: SFT, GRPO and its kin, and CIPO, from one configuration."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import say
from cipo_eval.cli.training_progress import of_training
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError, require
from cipo_eval.run.folder import look_at_place


def train(
    config: Annotated[
        str | None, typer.Argument(help="Configuration file, or the name of a preset (grpo, cipo, sft, …).")
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...", help="Over the configuration: model=CKPT rollout.samples=16"
        ),
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Start from these weights: a checkpoint, or the folder of a training run (its last one)."
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option(help="Go on in an existing folder, or refuse it.", rich_help_panel=o.OUTPUT)
    ] = True,
    nproc: Annotated[
        int,
        typer.Option(
            min=1, help="Processes on this machine that train together (docs/several-processes.md)."
        ),
    ] = 1,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole configuration, documented, and stop.")
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Say what it takes of a GPU's memory and about how long a step is, and stop."
        ),
    ] = False,
    gpu: Annotated[str, typer.Option(help="With --plan: the GPU, such as H100, A100 or L4.")] = "H100",
    mean_tokens: Annotated[
        float | None, typer.Option(min=1, help="With --plan: how long attempts are, where you know.")
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a model; a run that is in the output folder already goes on from its last checkpoint."""
    from cipo_trainer import training
    from cipo_trainer.presets import presets, printed

    if config is None:
        raise UsageError(f"name a configuration file or a preset: {', '.join(presets())}")
    asked = training.configured(config, overrides or (), init_from)
    if print_config:
        typer.echo(printed(asked), nl=False)
        return
    if plan:
        from cipo_eval.cli import training_plan

        figures = training_plan.plan(asked, gpu=gpu, mean_tokens=mean_tokens, ranks=nproc)
        typer.echo(json_module.dumps(figures) if json else training_plan.written(config, figures), nl=json)
        raise typer.Exit(EXIT_OK if figures["fits"] else EXIT_FAILURES)
    require("train", "training")
    look_at_place(asked.output)
    if nproc > 1:
        from cipo_trainer.distributed.launch import launch

        flags = {"--json": json, "--quiet": quiet, "--no-resume": not resume}
        start = [] if init_from is None else ["--init-from", init_from]
        shown = [flag for flag, is_set in flags.items() if is_set]
        raise typer.Exit(launch(nproc, [config, *(overrides or ()), *start, *shown]))
    messages = not (quiet or json)
    with of_training(asked, messages=messages) as watch:
        outcome = training.train(asked, watch, say if messages else lambda _: None, resume=resume)
    if json:
        typer.echo(json_module.dumps(outcome.plain()))
    elif messages:
        say(f"checkpoint: {outcome.checkpoint}   log: {asked.output / 'log.jsonl'}")
    for failure in outcome.failures:
        say(f"failed: {failure}")
    raise typer.Exit(outcome.exit_code)
