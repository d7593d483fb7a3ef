"""``cipo-eval train``: SFT, GRPO and its kin, and CIPO, from one configuration."""

from __future__ import annotations

import json as json_module
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.cli.session import LOG_SECONDS, say
from cipo_eval.errors import EXIT_FAILURES, MissingError, UsageError
from cipo_eval.run.folder import look_at_place

if TYPE_CHECKING:
    from cipo_trainer.config import Config


_EARLY = {"train.lock", "new", ".new.partial", "config.yaml", ".config.yaml.new", ".train.json.new"}
"""What a process that is killed before ``train.json`` leaves behind."""


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
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print the whole configuration, documented, and stop.")
    ] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Train a model; a run that is in the output folder already goes on from its last checkpoint."""
    from cipo_eval.settings import to_yaml
    from cipo_trainer.presets import load, presets

    if config is None:
        raise UsageError(f"name a configuration file or a preset: {', '.join(presets())}")
    given = list(overrides or ())
    if init_from is not None:
        from cipo_trainer.saving import newest

        given.append(f"model={json_module.dumps(newest(init_from))}")
    asked = load(config, given)
    if print_config:
        typer.echo(to_yaml(asked), nl=False)
        return
    raise typer.Exit(_train(asked, resume=resume, as_json=json, messages=not (quiet or json)))


def _train(config: Config, *, resume: bool, as_json: bool, messages: bool) -> int:
    from filelock import FileLock, Timeout

    from cipo_eval.files import Writing
    from cipo_eval.interrupts import Interrupts
    from cipo_trainer.loop import Trainer

    look_at_place(config.output)
    known = _known(config, resume)
    with Writing(config.output):
        config.output.mkdir(parents=True, exist_ok=True)
        lock = FileLock(config.output / "train.lock", timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise UsageError(
                f"another process trains in {config.output}: wait for it, or choose another output="
            ) from None
    with lock, Interrupts() as interrupts, _threads(config.threads), _progress(config, messages) as watch:
        trainer = Trainer(config, watch)
        done = trainer.resume()
        _bind(config, known, trainer.problems.identity)
        if messages and done:
            say(f"going on after step {done} of {config.steps}")
        try:
            trainer.run(interrupts)
        except KeyboardInterrupt:
            if messages:
                say(
                    f"interrupted: {trainer.state.step} steps are kept in {config.output}; the same command goes on"
                )
            raise
        except Exception as error:
            if type(error).__name__ != "OutOfMemoryError":
                raise
            raise MissingError(
                "out of memory: lower optimizer.micro_tokens or rollout.batch_tokens, set "
                "optimizer.checkpointing=true, or train adapters (lora.rank=16); steps up to the last "
                f"checkpoint in {config.output} are kept"
            ) from error
    last = trainer.checkpoints.path(trainer.state.step)
    found = {
        "steps": trainer.state.step,
        "checkpoint": str(last),
        "best": trainer.state.best,
        "skipped": trainer.state.skipped,
        "verifier_failed": trainer.state.failed,
    }
    if as_json:
        typer.echo(json_module.dumps(found))
    elif messages:
        say(f"checkpoint: {last}   log: {config.output / 'log.jsonl'}")
    if trainer.state.skipped:
        say(f"failed: {trainer.state.skipped} update(s) were not finite and changed nothing")
    if trainer.state.failed:
        say(
            f"failed: the verifier gave no verdict for {trainer.state.failed} attempt(s), which count as wrong"
        )
    return EXIT_FAILURES if trainer.state.skipped or trainer.state.failed else 0


def _known(config: Config, resume: bool) -> dict[str, Any] | None:
    """What the folder says of the run that is in it, checked against what is asked for now."""
    from cipo_trainer.loop import check_same

    place = config.output / "train.json"
    if not place.is_file():
        others = {p.name for p in config.output.iterdir()} - _EARLY if config.output.is_dir() else set()
        if others:
            raise UsageError(
                f"{config.output} is not empty and holds no training run: choose another output="
            )
        return None
    if not resume:
        raise UsageError(
            f"{config.output} holds a run already, and --no-resume was given: choose another output="
        )
    try:
        known: dict[str, Any] = json_module.loads(place.read_text(encoding="utf-8"))
        check_same(config, known["config"])
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{place} is damaged ({error})") from error
    return known


def _bind(config: Config, known: Mapping[str, Any] | None, data: str) -> None:
    """Writes, or checks, what the run is; the whole configuration beside it."""
    import platform

    from cipo_eval import __version__
    from cipo_eval.files import Writing
    from cipo_eval.settings import to_yaml

    if known is not None and known["data"] != data:
        raise UsageError(
            f"{config.output} holds a run on other data than is there now: choose another output="
        )
    facts = {
        "version": __version__,
        "python": platform.python_version(),
        "data": data,
        "config": config.model_dump(mode="json"),
    }
    with Writing(config.output):
        for name, text in (
            ("config.yaml", to_yaml(config)),
            ("train.json", json_module.dumps(facts, indent=1)),
        ):
            new = config.output / f".{name}.new"
            new.write_text(text, encoding="utf-8")
            new.replace(config.output / name)


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _progress(config: Config, messages: bool) -> Iterator[Any]:
    """A bar with the key figures on a terminal, a line every few seconds in a log."""
    from cipo_trainer.measure import headline

    if not messages:
        yield lambda *_: None
        return
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            MofNCompleteColumn(),
            BarColumn(bar_width=20),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        with Progress(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=config.steps)

            def show(step: int, measured: Mapping[str, Any]) -> None:
                if "seconds_train" not in measured:
                    bar.console.print(f"step {step}: {headline(measured)}")
                bar.update(task, completed=step, description=headline(measured))

            yield show
        return
    last = [0.0]

    def line(step: int, measured: Mapping[str, Any]) -> None:
        now = time.monotonic()
        if now - last[0] >= LOG_SECONDS or step == config.steps or "seconds_train" not in measured:
            last[0] = now
            say(f"step {step}/{config.steps}: {headline(measured)}")

    yield line
