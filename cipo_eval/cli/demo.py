"""``cipo-eval demo``: the whole story on a fresh machine, without hub or data: a small study from nothing to a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import say
from cipo_eval.cli.studies import carry_out, conclude
from cipo_eval.errors import EXIT_FAILURES, require
from cipo_eval.run.folder import look_at_place


def demo(
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder of models, runs and the report.")
    ] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of trainings and sampling.")] = 0,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Jobs at a time (default: one for each core).")
    ] = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Teach a tiny model to correct itself: warm start, then GRPO and CIPO at equal budget and GRPO at half of it,
    scored and compared (minutes on two cores). What is there already is not done again."""
    from cipo_trainer.study.grid import arm_folder, read_study_config, study_file, task_file

    require("train", "the demo")
    config = read_study_config(study_file("demo"), [f"seeds=[{seed}]"])
    look_at_place(output)
    speak = not quiet and not json
    if speak:
        say(
            "A tiny model learns chains of modular arithmetic from a teacher that errs, then trains on its attempts:"
        )
        say(
            "by GRPO, by CIPO, which spends half of them on corrections, and by GRPO without that half. "
            "Which corrects better, and what does it cost?"
        )
    runner = carry_out(config, output, workers=workers, messages=speak)
    if not runner.failed:
        conclude(config, output, as_json=json, quiet=quiet)
        if speak:
            task = next(iter(config.families))
            place = output / arm_folder(config, task, seed, "CIPO")
            run = place / "run-t1"
            say(f"read attempts: cipo-eval show {run} --protocol self --transition 'w->r'")
            say(
                f"ask its models yourself: cipo-eval run --tasks {output / task_file(task)} --model CHECKPOINT"
            )
            say("more seeds, more arms: cipo-eval study worth (docs/study.md)")
    raise typer.Exit(EXIT_FAILURES if runner.flawed else 0)
