"""``cipo-eval doctor``: how well programs that models write are confined here, why, and what would help; which
extras are installed."""

from __future__ import annotations

import json as json_module

import typer

from cipo_eval.cli import options as o
from cipo_eval.errors import EXIT_MISSING, EXTRAS, missing_packages


def doctor(json: o.Json = False) -> None:
    """Try every way of confining programs on this machine, exit code 3 if none holds; say which extras are here."""
    from cipo_eval.sandbox import probe
    from cipo_eval.sandbox.launch import Tier, view

    probes = [probe.probe(tier) for tier in (Tier.FULL, Tier.CONTAINER, Tier.NAMESPACES)]
    best = next((probed for probed in probes if probed.works), None)
    advice = [] if best is not None and best.tier is Tier.FULL else probe.advice()
    lacking = {name: missing_packages(name) for name in EXTRAS}
    if json:
        tiers = [{**probed.to_json(), "works": probed.works} for probed in probes]
        extras = {name: {"here": not packages, "missing": packages} for name, packages in lacking.items()}
        report = {"tier": best and int(best.tier), "tiers": tiers, "advice": advice, "extras": extras}
        typer.echo(json_module.dumps(report))
    else:
        for probed in probes:
            mark = "works" if probed.works else "does not work"
            chosen = "  <- used" if probed is best else ""
            typer.echo(f"tier {int(probed.tier)}: {mark}: {probed.detail}{chosen}")
        libraries = ", ".join(path.rpartition("/")[2] for path in view().libraries)
        typer.echo(f"programs run under {view().executable} and may import: {libraries or 'nothing'}")
        if best is None:
            typer.echo("programs cannot be confined here: code tasks are refused (or --allow-unsafe-code)")
        for sentence in advice:
            typer.echo(f"to raise it: {sentence}")
        for name, extra in EXTRAS.items():
            here = "installed" if not lacking[name] else f"not installed: pip install 'cipo-eval[{name}]'"
            typer.echo(f"extra {name} ({extra.purpose}): {here}")
    if best is None:
        raise typer.Exit(EXIT_MISSING)
