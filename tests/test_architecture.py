"""The page on the architecture: what it names is there, and the pages beside it are linked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("**/*.md")), *sorted(ROOT.glob("*.md"))]
FOLDERS = "cipo_eval|trainer|reports|tests|examples|benchmarks|docs"
LINK = re.compile(r"\[([^\]]*)\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_is_there(page: Path) -> None:
    targets = [target for _, target in LINK.findall(page.read_text()) if "://" not in target]
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert not missing


def defines(module: Path, name: str) -> bool:
    """Whether a module's text defines a function, a class or a name at its margin."""
    pattern = rf"^\s*(?:class|def) {name}\b|^{name}\b"
    return name == module.stem or re.search(pattern, module.read_text(), re.MULTILINE) is not None


def test_names_are_defined_where_the_pages_say() -> None:
    named = [
        (page.name, name.strip("`"), page.parent / target)
        for page in PAGES
        for name, target in LINK.findall(page.read_text())
        if name.startswith("`") and target.endswith(".py") and not name.endswith(".py`")
    ]
    assert sum(page == "architecture.md" for page, _, _ in named) > 25
    assert not [(page, name) for page, name, module in named if not defines(module, name)]


def test_files_and_modules_that_pages_name_are_there() -> None:
    """Also those that are not linked: ``tests/x.py`` in a sentence, ``cipo_eval.x.name`` in a program."""
    roots = (ROOT, ROOT / "trainer", ROOT / "reports")
    packages = {package.name: package for root in roots for package in root.glob("cipo_*")}
    lost, count = [], 0
    for page in PAGES:
        if page.name == "CHANGELOG.md":  # names what is gone
            continue
        text = page.read_text()
        for path in re.findall(rf"`((?:{FOLDERS})/[\w./-]+\.\w+)", text):
            count += 1
            lost += [(page.name, path)] if not (ROOT / path).exists() else []
        for dotted in re.findall(r"\b((?:cipo_eval|cipo_trainer|cipo_reports)(?:\.[A-Za-z_]\w*)+)", text):
            first, *parts = dotted.split(".")
            place = packages[first]
            while parts and (place / parts[0]).is_dir():
                place /= parts.pop(0)
            module = place / "__init__.py"
            if parts and (place / f"{parts[0]}.py").is_file():
                module = place / f"{parts.pop(0)}.py"
            count += 1
            lost += (
                [(page.name, dotted)]
                if parts and not re.search(rf"\b{parts[0]}\b", module.read_text())
                else []
            )
    assert count > 80
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
