"""``cipo-eval data``: fetch the items of tasks into the cache, and check what is there."""

from __future__ import annotations

import json as json_module
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cipo_eval.cli import options as o
from cipo_eval.errors import CipoError, MissingError

if TYPE_CHECKING:
    from cipo_eval.data.tasks import TaskPlaces, TaskSpec

app = typer.Typer(no_args_is_help=True, help="Fetch and check the items of tasks.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What a check of the items of one task came to; ``--json`` prints its fields."""

    task: str
    status: str
    """``ok``; ``other`` (intact, but not the reference items); ``failed``; ``missing``."""
    rows: int | None = None
    """Items that were read; None: none could be."""
    fingerprint: str | None = None
    """Fingerprint of the items."""
    source: dict[str, Any] = field(default_factory=dict)
    """Where they were read from."""
    detail: str = ""
    """What went wrong, or differs, in words."""


@app.command()
def pull(
    tasks: Annotated[list[str], typer.Argument(help="Names of tasks (also joined by commas), or all.")],
    force: Annotated[bool, typer.Option("--force", help="Fetch again what is already there.")] = False,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Fetch items from the Hugging Face hub (HF_ENDPOINT) into the cache (CIPO_EVAL_CACHE)."""
    from rich.console import Console

    from cipo_eval.data.tasks import pull as fetch
    from cipo_eval.data.tasks import select

    console = Console(stderr=True, quiet=quiet)
    checks: list[Check] = []
    failures: list[CipoError] = []
    specs = select(tasks)
    for spec in specs:
        try:
            with console.status(f"{spec.name} …") as status:  # the hub library shows its own progress bars

                def watch(rows: int, status: Any = status, name: str = spec.name) -> None:
                    status.update(f"{name}: {rows} rows")

                located = fetch(spec, force=force, watch=watch)
            checks.append(_check(spec, located) if located else _not_on_the_hub(spec))
            if len(specs) == 1 and checks[-1].status == "missing":
                raise MissingError(f"{spec.name} {checks[-1].detail}")
        except CipoError as error:
            if len(specs) == 1:
                raise
            failures.append(error)
            checks.append(Check(task=spec.name, status="failed", detail=str(error)))
        if not json:
            _print(console, checks[-1])
    if json:
        typer.echo(json_module.dumps([asdict(check) for check in checks], indent=2))
    if failures:
        failed = ", ".join(check.task for check in checks if check.status == "failed")
        raise type(failures[0])(f"not pulled: {failed} ({failures[0]})")


@app.command()
def check(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Names of tasks (also joined by commas); default: all.")
    ] = None,
    data_dir: o.DataDir = None,
    json: o.Json = False,
    quiet: o.Quiet = False,
) -> None:
    """Read items where they are and compare their number and fingerprint. Never touches the network."""
    from rich.console import Console

    from cipo_eval.data.tasks import fetch_hint, find, select

    console = Console(stderr=True, quiet=quiet)
    checks = []
    for spec in select(tasks or ["all"]):
        located = find(spec, data_dir)
        if located:
            checks.append(_check(spec, located))
        else:
            checks.append(Check(task=spec.name, status="missing", detail=fetch_hint(spec)))
        if not json:
            _print(console, checks[-1])
    if json:
        typer.echo(json_module.dumps([asdict(item) for item in checks], indent=2))
    for status, kind in (("failed", CipoError), ("missing", MissingError)):
        if names := [item.task for item in checks if item.status == status]:
            hint = "" if status == "failed" else f": {next(c.detail for c in checks if c.status == status)}"
            raise kind(f"{status}: {', '.join(names)}{hint}")


def _check(spec: TaskSpec, located: TaskPlaces) -> Check:
    from cipo_eval.data.tasks import read

    try:
        problems = read(spec, located)
    except CipoError as error:
        return Check(task=spec.name, status="failed", source=located.place.origin, detail=str(error))
    # a file of a pinned commit cannot have been changed; any other with unknown content may have been
    places = [located.place, *located.companions.values()]
    pinned = all(place.kind == "cache" and place.source.revision is not None for place in places)
    return Check(
        task=spec.name,
        status="ok" if problems.known else "other" if pinned else "failed",
        rows=len(problems.problems),
        fingerprint=problems.fingerprint,
        source=dict(problems.source),
        detail=" ".join(problems.warnings),
    )


def _not_on_the_hub(spec: TaskSpec) -> Check:
    from cipo_eval.data.tasks import fetch_hint, find

    if all(source.kind == "mirror" for source in spec.sources) and not find(spec, None):
        return Check(
            task=spec.name, status="missing", detail=f"is not pulled from the hub: {fetch_hint(spec)}"
        )
    return Check(task=spec.name, status="ok", rows=spec.rows, detail="has no hub source, nothing to pull")


def _print(console: Any, item: Check) -> None:
    colour = {"ok": "green", "other": "yellow"}.get(item.status, "red")
    facts = f"{item.rows} rows, fingerprint {item.fingerprint}" if item.fingerprint else ""
    where = item.source.get("path") or item.source.get("repo") or ""
    if revision := item.source.get("revision"):
        where = f"{where}@{revision[:12]}"
    parts = [part for part in (where, facts, item.detail) if part]
    console.print(f"[{colour}]{item.status:8}[/{colour}] {item.task:14} ", end="", highlight=False)
    console.print("; ".join(parts), markup=False, highlight=False, soft_wrap=True)
