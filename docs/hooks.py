"""The site's pages that are not in this folder: the README as its front, the repository's other texts, and a reference
of the commands that is made from their options. And links: the same Markdown reads on a forge and here.

A link from a page to a file of the repository leads to that file's page where it has one, else to the forge that
``CIPO_EVAL_REPOSITORY`` names; without one it stays text. A link to nothing is left as it is: ``mkdocs build --strict``
fails.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from markdown import Markdown
from markdown.extensions import Extension
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
ELSEWHERE = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "SECURITY.md": "security.md",
    "tasks/README.md": "tasks.md",
    "benchmarks/README.md": "benchmarks.md",
    "benchmarks/RESULTS.md": "benchmark-results.md",
}
"""Texts of the repository outside ``docs/``, and the pages that they are here."""
AFTER_LINKS_ARE_REWRITTEN = 10
"""More than the priority (0) at which MkDocs resolves links."""

_COMMANDS: dict[str, str] = {}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    config.markdown_extensions.append(_Links())  # type: ignore[arg-type]  # Markdown takes extensions for their names
    _COMMANDS.update(commands())
    [reference] = [part["Reference"] for part in config.nav or [] if "Reference" in part]
    [entry] = [entry for entry in reference if "Commands" in entry]
    entry["Commands"] = [{Path(page).stem: page} if "index" not in page else page for page in _COMMANDS]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    for source, page in ELSEWHERE.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    for page, content in _COMMANDS.items():
        files.append(File.generated(config, page, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Says of which page the links are that come next."""
    _Links.page, _Links.files = page.file.src_uri, files
    _Links.repository = (config.repo_url or "").rstrip("/")
    return markdown


def commands() -> Iterator[tuple[str, str]]:
    """Pages of the commands, as Markdown: a list of them, and one page each."""
    import typer
    from typer.cli import get_docs_for_click

    from cipo_eval.cli import app

    os.environ["CIPO_EVAL_DATA"] = ""
    group = typer.main.get_command(app)
    with typer.Context(group, info_name="cipo-eval") as context:
        whole = get_docs_for_click(obj=group, ctx=context, name="cipo-eval")
    front, *parts = re.split(r"^(?=## )", whole, flags=re.MULTILINE)
    names = [re.search(r"`cipo-eval (\S+)`", part)[1] for part in parts]  # type: ignore[index]  # its heading
    for name in names:
        front = front.replace(f"* `{name}`:", f"* [`{name}`]({name}.md):")
    yield "commands/index.md", front
    for name, part in zip(names, parts, strict=True):
        yield f"commands/{name}.md", re.sub("^#(#+)", r"\1", part, flags=re.MULTILINE)


class _Links(Extension):
    page, files, repository = "", Files([]), ""

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802  # Markdown's name
        md.treeprocessors.register(_Rewritten(md), "repository", AFTER_LINKS_ARE_REWRITTEN)


class _Rewritten(Treeprocessor):
    def run(self, root: Element) -> None:
        for element in root.iter():
            for attribute in ("href", "src"):
                if target := element.get(attribute):
                    where = _led(target, _Links.page)
                    if where is None:
                        del element.attrib[attribute]
                        element.tag = "span"
                    else:
                        element.set(attribute, where)


def _led(target: str, page: str) -> str | None:
    """Where a link of a page leads here, or None where there is no such place on the site or a forge."""
    path, mark, anchor = target.partition("#")
    if not path or re.match(r"[a-z]+:|/", path):
        return target
    sources: dict[str, str] = {made: source for source, made in ELSEWHERE.items()}
    source = sources.get(page, f"docs/{page}")
    there = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    if there in ELSEWHERE:
        there = f"docs/{ELSEWHERE[there]}"
    elif there.startswith("docs/") and _Links.files.get_file_from_path(there.removeprefix("docs/")) is None:
        pass  # a folder, or nothing
    elif not there.startswith("docs/"):
        if not (ROOT / there).exists():
            return target
        return f"{_Links.repository}/blob/HEAD/{there}{mark}{anchor}" if _Links.repository else None
    return posixpath.relpath(there, posixpath.dirname(f"docs/{page}")) + mark + anchor
