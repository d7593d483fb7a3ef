"""The page on the architecture: what it names is there, and the pages beside it are linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("**/*.md")), *sorted(ROOT.glob("*.md"))]
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_is_there(page: Path) -> None:
    targets = [target for _, target in LINK.findall(page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def test_names_are_defined_where_the_page_says() -> None:
    page = ROOT / "docs" / "architecture.md"
    named = [
        (name.strip("`"), page.parent / target)
        for name, target in LINK.findall(page.read_text())
        if name.startswith("`") and target.endswith(".py") and not name.endswith(".py`")
    ]
    assert len(named) > 25
    lost = [
        (name, target.name)
        for name, target in named
        if name != target.stem and not re.search(rf"^\s*(?:class|def) {name}\b", target.read_text(), re.M)
    ]
    assert not lost


def test_rooms_are_those_of_the_package() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    rooms = {path.name for path in (ROOT / "cipo_eval").iterdir() if (path / "__init__.py").is_file()}
    assert {name for name in rooms if f"(../cipo_eval/{name})" in page} == rooms
    assert len(list((ROOT / "cipo_eval").glob("*.py"))) <= 8


def test_no_module_is_long() -> None:
    folders = ("cipo_eval", "trainer", "reports", "benchmarks", "tasks", "examples")
    modules = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    long = {str(p.relative_to(ROOT)): n for p in modules if (n := len(p.read_text().splitlines())) > 500}
    assert not long
    assert max(len(p.read_text().splitlines()) for p in (ROOT / "examples").glob("*.py")) <= 60


def test_no_repeated_group_is_possessive() -> None:
    """Python before 3.11.5 matches them wrongly (gh-106052): ``(…)*+``; a possessive character class is right."""
    packages = ("cipo_eval", "trainer/cipo_trainer", "reports/cipo_reports")
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for package in packages
        for path in sorted((ROOT / package).rglob("*.py"))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if re.search(r"(?<!\\)\)(?:[*+?]|\{[0-9,]+\})\+", line.partition("  #")[0])
    ]
    assert not found
