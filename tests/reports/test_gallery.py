"""The gallery of docs/reports.md: every picture comes from its script, and from outputs that may be shown."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))

import gallery  # noqa: E402

FREE = ("MIT", "Apache-2.0")


def test_every_picture_of_the_page_is_made() -> None:
    page = (ROOT / "docs" / "reports.md").read_text()
    shown = set(re.findall(r"\]\(reports/([a-z-]+)\.png\)", page[page.index("## Gallery") :]))
    made = {*gallery.MADE_UP, *(name for published in gallery.SHOWN for name in published.shown)}
    assert shown == made
    assert all((gallery.FOLDER / f"{name}.png").is_file() for name in made)


def test_licences_are_those_of_the_data(real_data: Path) -> None:
    known = json.loads((real_data / "MANIFEST.json").read_text())
    for published in gallery.SHOWN:
        assert published.licence in FREE
        for by_task in published.files.values():
            for file in by_task.values():
                assert known[file]["licence"].startswith(published.licence)
                assert known[file]["source"]["repo"] in published.source
                assert known[file]["source"]["commit"].startswith(published.source.rpartition(" at ")[2])
