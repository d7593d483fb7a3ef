"""The core without its extras, here where all are installed: their imports are forbidden (tests/core_only has an
environment that lacks them)."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from cipo_eval import errors
from cipo_eval.errors import MissingError

ROOT = Path(__file__).resolve().parent.parent
NEED = {
    "cipo_eval.engines.core": "hf",
    "cipo_eval.engines.vllm": "vllm",
    "cipo_reports.card": "data",
    "cipo_trainer": "train",
}
"""Modules that cannot be imported without an extra, and those within them; of the trainer's only some."""

IMPORT_ALL = """
import importlib, json, pkgutil, sys

class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in FORBIDDEN:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Forbid())
import cipo_eval, cipo_reports, cipo_trainer
failed = {}
for package in (cipo_eval, cipo_reports, cipo_trainer):
    for found in pkgutil.walk_packages(package.__path__, package.__name__ + ".", onerror=lambda name: None):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            from cipo_eval.errors import explained_import
            failed[found.name] = [error.name, str(explained_import(error))]
from cipo_eval.errors import EXTRAS, missing_packages
print(json.dumps({"failed": failed, "missing": {name: missing_packages(name) for name in EXTRAS}}))
"""


def declared() -> dict[str, list[Requirement]]:
    """The extras of pyproject.toml."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {
        name: [Requirement(line) for line in lines]
        for name, lines in project["optional-dependencies"].items()
    }


def test_what_needs_an_extra_is_known() -> None:
    forbidden = {"datasets", *(package for extra in errors.EXTRAS.values() for package in extra.packages)}
    code = f"FORBIDDEN = {forbidden!r}\n{IMPORT_ALL}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    unforeseen = {
        module: package
        for module, (package, _) in found["failed"].items()
        if not any(module == name or module.startswith(f"{name}.") for name in NEED)
    }
    assert not unforeseen
    assert "cipo_eval.engines.core.loop" in found["failed"]  # what is forbidden is missing
    assert all("pip install 'cipo-eval[" in said for _, said in found["failed"].values())
    assert all(found["missing"].values())


def test_the_extras_are_those_of_the_package() -> None:
    written = declared()
    for name, extra in errors.EXTRAS.items():
        inner = {
            held
            for requirement in written[name]
            for held in requirement.extras
            if requirement.name == "cipo-eval"
        }
        assert inner == set(extra.holds), name
    assert {e for r in written["all"] for e in r.extras} | set(errors.EXTRAS["train"].holds) | {
        "data",
        "eight-bit",
        "vllm",
    } == set(errors.EXTRAS)


def test_the_message_names_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    errors.require("hf", "this")
    monkeypatch.setattr(errors, "_is_here", lambda package: package != "torch")
    for name in ("hf", "train", "lora"):
        with pytest.raises(
            MissingError, match=rf"^it needs .* \(torch\): pip install 'cipo-eval\[{name}\]'$"
        ):
            errors.require(name, "it")
    errors.require("data", "it")


def test_only_imports_for_want_of_an_extra_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    assert errors.explained_import(ModuleNotFoundError(name="nosuch.module")) is None
    assert errors.explained_import(ModuleNotFoundError(name="torch.nosuch")) is None, "torch is here"
    monkeypatch.setattr(errors, "_is_here", lambda _: False)
    assert "cipo-eval[hf]" in str(errors.explained_import(ModuleNotFoundError(name="torch.nn")))
