"""The command line: one file per command, each thin; heavy imports happen inside commands: --help is instant."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import Annotated, NoReturn

import typer

from cipo_eval import interrupts
from cipo_eval.cli import (
    aliases,
    compare,
    data,
    demo,
    doctor,
    export,
    generate,
    init,
    merge,
    plan,
    pool,
    report,
    report_options,
    rescore,
    run,
    score,
    show,
    status,
    study,
    study_options,
    tasks,
    train,
)
from cipo_eval.errors import CipoError, explained_import

app = typer.Typer(
    name="cipo-eval",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done; 1 finished with failures that are named; 2 wrong usage or input; 3 something needed is "
    "missing; 130, 143, 129 interrupted by Ctrl-C, SIGTERM, SIGHUP, everything so far kept.",
)


def _version(value: bool) -> None:
    if value:
        from cipo_eval import __version__

        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Can this model find and fix its own mistakes, and does training for it help?"""


generate.add(app, run.run, run.parameters, rewritten=aliases.rewritten)
generate.add(app, score.score, score.parameters, rewritten=aliases.rewritten)
generate.add(app, rescore.rescore, rescore.parameters, rewritten=aliases.rewritten)
generate.add(app, merge.merge, merge.parameters)
generate.add(app, plan.plan, plan.parameters, rewritten=aliases.rewritten)
generate.add(app, status.status)
generate.add(app, show.show)
generate.add(app, compare.compare)
generate.add(app, report.report, report_options.parameters)
generate.add(app, export.export)
generate.add(app, train.train)
generate.add(app, study.study, study_options.parameters)
for command in (demo.demo, init.init, tasks.tasks, doctor.doctor):
    generate.add(app, command)
app.add_typer(data.app, name="data")
app.add_typer(pool.app, name="pool")


def main(arguments: list[str] | None = None) -> None:
    """Runs a command and exits with its code; foreseeable errors are one message without a traceback."""
    for library in ("TRANSFORMERS", "DATASETS", "HF_HUB"):  # what matters of their warnings is our error
        os.environ.setdefault(f"{library}_VERBOSITY", "error")
    with _patient("stdout"), _patient("stderr"):
        interrupts.run(lambda: _carry_out(arguments))


def _carry_out(arguments: list[str] | None) -> None:
    try:
        app(arguments)  # exits by itself: 2 for wrong flags, 130 for Ctrl-C
    except CipoError as error:
        _end(error)
    except ModuleNotFoundError as error:
        if (missing := explained_import(error)) is None:
            raise
        _end(missing)


def _end(error: CipoError) -> NoReturn:
    typer.echo(f"cipo-eval: error: {error}", err=True)
    sys.exit(error.exit_code)


class _Patient(io.FileIO):
    """A stream whose reader may go away (``cipo-eval tasks | head -1``): what is written after that is lost, and the
    command ends as it would have."""

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]  # whatever io's buffers hand over
        except BrokenPipeError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


@contextlib.contextmanager
def _patient(name: str) -> Iterator[None]:
    """``sys.stdout`` or ``sys.stderr`` as a ``_Patient``, where it is the process's own and a pipe."""
    stream = getattr(sys, name)
    if stream is None or stream is not getattr(sys, f"__{name}__") or stream.isatty():
        yield
        return
    stream.flush()
    raw = io.BufferedWriter(_Patient(os.dup(stream.fileno()), "w"))
    patient = io.TextIOWrapper(
        raw, encoding=stream.encoding, errors=stream.errors, line_buffering=name == "stderr"
    )
    setattr(sys, name, patient)
    try:
        yield
    finally:
        patient.flush()
        setattr(sys, name, stream)
