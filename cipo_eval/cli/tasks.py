"""``cipo-eval tasks``: which tasks there are, and where their items are or how to get them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import typer

from cipo_eval.cli import options as o

if TYPE_CHECKING:
    from cipo_eval.data.tasks import TaskSpec


def tasks(data_dir: o.DataDir = None, json: o.Json = False) -> None:
    """List the tasks: items, when their answers became public, licence, verifier, and where the data is or which
    command gets it; and the groups that stand for several."""
    import json as json_module

    from cipo_eval.data.tasks import load_spec, task_names

    entries = [_entry(load_spec(name), data_dir) for name in task_names()]
    if json:
        typer.echo(json_module.dumps(entries, indent=2))
    else:
        _print(entries)


def _print(entries: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from cipo_eval.data.tasks import GROUPS

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    least = {"data": len("without plus"), "released": len("2025-02")}
    for name in ("task", "items", "released", "licence", "verifier", "data"):
        justify: Literal["left", "right"] = "right" if name == "items" else "left"
        table.add_column(name, justify=justify, no_wrap=name == "task", min_width=least.get(name))
    for entry in entries:
        table.add_row(
            entry["task"],
            str(entry["items"] or "?"),
            _month(entry["released"]),
            entry["licence"],
            entry["verifier"],
            _data(entry),
        )
    console.print(table)
    console.print("Groups, as --tasks takes them (or patterns, such as 'aime*'; all):")
    for name, members in GROUPS.items():
        console.print(f"  {name}: {', '.join(members)}", highlight=False)
    missing = [
        entry["task"]
        for entry in entries
        if entry["get"] and not (entry["data"] and all(entry["companions"].values()))
    ]
    if missing:
        command = f"cipo-eval data pull {'all' if len(missing) > 3 else ' '.join(missing)}"
        console.print(f"To get what is not here: {command}  (or --data-dir, CIPO_EVAL_DATA)", highlight=False)


def _month(released: str | None) -> str:
    """When golds became public, for a narrow column: the month of a date, or the months of a span on two lines."""
    return "\n".join(part[:7] for part in (released or "-").split(".."))


def _data(entry: dict[str, Any]) -> str:
    """Where the items are; and what a task can also use, where that is not here."""
    if not entry["data"]:
        return "[yellow]not here[/yellow]"
    lacks = [name for name, kind in entry["companions"].items() if not kind]
    return f"{entry['data']}[yellow], without {', '.join(lacks)}[/yellow]" if lacks else str(entry["data"])


def _entry(spec: TaskSpec, data_dir: Path | None) -> dict[str, Any]:
    from cipo_eval.data.tasks import GROUPS, fetch_command, find

    located = find(spec, data_dir)
    companions = {
        feed.name: located.companions[feed.name].kind if located and feed.name in located.companions else None
        for feed in spec.companions
    }
    return {
        "task": spec.name,
        "groups": [group for group, members in GROUPS.items() if spec.name in members],
        "lm_eval_task": spec.lm_eval_name,
        "description": spec.description,
        "items": spec.rows,
        "released": spec.released or None,
        "licence": spec.licence,
        "homepage": spec.homepage,
        "verifier": spec.verifier,
        "metrics": list(spec.metrics),
        "presets": sorted(spec.presets),
        "fingerprint": spec.fingerprint,
        "data": located.place.kind if located else None,
        "companions": companions,
        "path": str(located.place.path) if located else None,
        "get": fetch_command(spec),
    }
