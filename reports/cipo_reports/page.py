"""One HTML file with the whole study: it opens without a network, and what models wrote cannot act in it.

The file may run only its own script and style (a content-security policy with their hashes), load nothing, and build no
markup from strings (Trusted Types). Attempts are compressed data that the script shows as text (``explorer``).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from cipo_eval import __version__
from cipo_eval.analysis import figures as f
from cipo_eval.analysis.figure import Measure
from cipo_eval.analysis.figures import is_later_step
from cipo_eval.analysis.judgements import ALWAYS_WRONG, JUDGEMENTS, LOCATIONS
from cipo_eval.files import write_bytes
from cipo_eval.turns.protocols import DIRECT
from cipo_reports.cells import ONE_SEED, ONE_SEED_NOTE, Table, difference, share
from cipo_reports.explorer import BUDGET, explorer
from cipo_reports.frames import AVERAGE, whole
from cipo_reports.methods import one_seed
from cipo_reports.study import Study


def environment() -> jinja2.Environment:
    """Templates of this package; everything is escaped."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("cipo_reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def to_html(table: Table) -> str:
    """A table alone, as it stands in the page."""
    module: Any = environment().get_template("table.html").module
    return str(module.render(table)) + "\n"


def write_page(
    path: Path,
    study: Study,
    tables: Sequence[Table],
    figures: Sequence[tuple[str, str, Path]],
    *,
    title: str = "cipo-eval report",
    budget: int = BUDGET,
) -> dict[str, int]:
    """Writes the page; returns how many attempts and chains it has, how many texts were left out, and its bytes.

    ``figures``: name, caption and SVG file of each.
    """
    script, css = _asset("tex.js") + _asset("page.js"), _asset("page.css")
    attempts, summary = explorer(study, budget=budget), _summary(study)
    page = (
        environment()
        .get_template("page.html")
        .render(
            title=title,
            version=__version__,
            script=_Raw(script),
            css=_Raw(css),
            script_hash=_hash(script),
            css_hash=_hash(css),
            study=study,
            summary=summary,
            one_seed=ONE_SEED_NOTE if any(ONE_SEED in text for _, of in summary for _, text, _ in of) else "",
            arms=[_arm(arm) for arm in study.arms],
            tables=tables,
            parted_tables=[table for table in tables if table.name.startswith("category-")],
            figures=[(name, caption, _data_uri(svg)) for name, caption, svg in figures],
            explorer=attempts,
        )
    )
    data = page.encode("utf-8", "backslashreplace")
    write_bytes(path, data)
    return {
        "attempts": attempts.attempts,
        "chains": attempts.chains,
        "left_out": attempts.left_out,
        "bytes": len(data),
    }


class _Raw(str):
    """Our own script and style, which are not escaped."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(self)


def _asset(name: str) -> str:
    text = resources.files("cipo_reports").joinpath("templates", name).read_text(encoding="utf-8")
    if "</" in text:  # it would end its element
        raise ValueError(f"{name} must not contain a closing tag")
    return text


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _data_uri(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _arm(arm: Any) -> dict[str, Any]:
    """What a reader must know of an arm: which model, how many seeds, how it was sampled."""
    infos = [run.info for run in arm.runs]
    engines = [info["engine"] for info in infos]
    models = [str(e.get("model") or e.get("file") or e.get("engine")) for e in engines]
    sampling = [task["sampling"] for info in infos for task in info["tasks"].values() if "sampling" in task]
    samples = {task.get("samples") for info in infos for task in info["tasks"].values()} - {None}
    return {
        "name": arm.name,
        "models": list(dict.fromkeys(models)),
        "runs": [run.path.name for run in arm.runs],
        "samples": sorted(samples),
        "temperatures": sorted({s["temperature"] for s in sampling if "temperature" in s}),
    }


MAIN = (
    f.ACCURACY.name,
    f.CORRECTION_RATE.name,
    f.RETENTION.name,
    f.LIFT.family,
    *(figure.family for figure in (*LOCATIONS, *JUDGEMENTS, ALWAYS_WRONG)),
)
"""Families of figures at the top of the page of one method, beside pass@1; of steps between turns the first."""


def _is_main(measure: Measure) -> bool:
    return measure is f.PASS.at(1) or (measure.family in MAIN and not is_later_step(measure))


def _summary(study: Study) -> list[tuple[str, list[tuple[str, str, bool]]]]:
    """Of each method what it gained over the baseline, in a few figures: averages, or those of the only task. Without a
    baseline the figures themselves."""
    if study.baseline is None:
        own = [figure.name for figure in study.figures]
        r = whole(study.results)
        main = r[[_is_main(measure) or measure.name in own for measure in r["measure"]]]
        task = AVERAGE if AVERAGE in set(main["task"]) else study.tasks[0]
        rows = main[(main["task"] == task) & main["value"].notna()].to_dict("records")
        return [(study.names[0], [(_name(row), share(row).text, False) for row in rows])]
    d = study.differences
    summary = []
    for arm in study.names:
        rows = d[(d["arm"] == arm) & d["difference"].notna()]
        task = AVERAGE if AVERAGE in set(rows["task"]) else next(iter(rows["task"]), "")
        gains = []
        for row in rows[rows["task"] == task].to_dict("records"):
            clear = row["low"] is not None and (row["low"] > 0 or row["high"] < 0)
            cell = difference(row, one_seed=one_seed(study, arm, task))
            gains.append((_name(row), cell.text, bool(clear)))
        if gains:
            summary.append((arm, gains))
    return summary


def _name(row: Any) -> str:
    label = row["measure"].label
    return label if row["protocol"] == DIRECT else f"{row['protocol']}: {label}"
