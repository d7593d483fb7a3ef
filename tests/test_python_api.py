"""What the root package gives to notebooks: lazily, with types; and docs/python.md, which is run as it stands."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_checkpoint

import cipo_eval

PAGE = Path(__file__).resolve().parent.parent / "docs" / "python.md"


def declared() -> dict[str, tuple[str, str]]:
    """Public name: module and name there, as type checkers see them."""
    tree = ast.parse(Path(cipo_eval.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    return {
        alias.asname or alias.name: (str(node.module), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


def test_importing_the_package_imports_nothing_else() -> None:
    code = "import sys, cipo_eval; dir(cipo_eval); print([m for m in sys.modules if m.startswith('cipo_')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['cipo_eval']"


def test_each_name_is_what_its_type_says() -> None:
    assert declared().keys() == set(cipo_eval.__all__)
    for name, (module, attribute) in declared().items():
        assert getattr(cipo_eval, name) is getattr(importlib.import_module(module), attribute)
        assert getattr(cipo_eval, name).__doc__, name


def test_other_names_are_not_there() -> None:
    with pytest.raises(AttributeError, match="no attribute 'evaluates'"):
        _ = cipo_eval.evaluates
    assert set(cipo_eval.__all__) <= set(dir(cipo_eval))


@pytest.mark.slow
def test_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))
    make_checkpoint(tmp_path / "CKPT")
    names: dict[str, object] = {}
    snippets = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(snippets) == 9
    for number, snippet in enumerate(snippets, start=1):
        exec(compile(snippet, f"{PAGE.name}, snippet {number}", "exec"), names)  # noqa: S102  our own page
    printed = capsys.readouterr().out
    assert printed.startswith("arithmetic 200 894c0f4a2ee569a7\n")
    assert "unknown task 'arithmetik': did you mean arithmetic" in printed
    assert (tmp_path / "runs" / "first" / "results.json").is_file()
