"""Engines by name: options are declared once and reach the engine, and a class from outside the package is one too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from typer.testing import CliRunner

from cipo_eval.cli import app
from cipo_eval.cli.engine import engine_flags
from cipo_eval.engines import registry
from cipo_eval.engines.options import RayOptions
from cipo_eval.errors import UsageError

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RUN = ("run", "--model", "mine", "--tasks", "arithmetic", "--limit", "2")
NEEDED: dict[str, dict[str, Any]] = {"openai": {"base_url": "http://127.0.0.1:9/v1"}}


def full(name: str) -> str:
    return "lm-eval:hf" if name == "lm-eval" else name


def test_every_option_of_every_engine_is_a_documented_flag() -> None:
    flags = {flag.name: flag for flag in engine_flags()}
    said = " ".join(CliRunner().invoke(app, ["run", "--help"], env={"COLUMNS": "200"}).output.split())
    for name in registry.names():
        for option, field in registry.options_model(full(name)).model_fields.items():
            assert field.description, option
            default = field.get_default(call_default_factory=True)
            unset = None if default in ((), {}) else default
            assert flags[option].default == unset  # the same for all engines that have it
            assert f"--{option.replace('_', '-')}" in said


@pytest.mark.parametrize("name", registry.names())
def test_an_option_of_another_engine_is_refused_by_its_flag(name: str) -> None:
    taken = set(registry.options_model(full(name)).model_fields)
    if name == "ray":  # the inner engine's stand beside its own
        taken |= registry.options_model("hf").model_fields.keys()
    for option, owners in registry.flags().items():
        if option in taken:
            continue
        with pytest.raises(UsageError, match=f"has no --{option.replace('_', '-')} .of {', '.join(owners)}"):
            registry.options(full(name), {**NEEDED.get(name, {}), option: 1})


@pytest.mark.parametrize("name", registry.names())
def test_the_class_of_an_engine_has_its_options_model(name: str) -> None:
    assert registry.engine_class(full(name)).options is registry.options_model(full(name))  # type: ignore[attr-defined]


def test_options_of_an_inner_engine_stand_beside_those_of_ray() -> None:
    values = {"replicas": 3, "inner": "openai", "base_url": "http://127.0.0.1:9/v1", "concurrency": 7}
    options = registry.options("ray", values)
    assert isinstance(options, RayOptions)
    assert options.replicas == 3
    assert options.inner_options == registry.options(
        "openai", {"base_url": values["base_url"], "concurrency": 7}
    )
    vllm = registry.options("ray", {"inner": "vllm", "tensor_parallel": 2, "data_parallel": 2})
    assert isinstance(vllm, RayOptions)
    assert vllm.needs == {"CPU": 1, "GPU": 4}
    for wrong, message in (
        ({"inner": "ray"}, "--inner ray"),
        ({"inner": "opnai"}, "did you mean openai"),
        ({"inner": "openai"}, "needs --base-url"),
        ({"inner": "vllm", "device": "cpu"}, "--engine vllm has no --device"),
        ({"dtype": "bf16"}, "unknown --dtype"),
        ({"replicas": 0}, "greater than or equal to 1"),
    ):
        with pytest.raises(UsageError, match=message):
            registry.options("ray", wrong)


def test_options_are_known_without_what_engines_need() -> None:
    code = (
        "import sys; from cipo_eval.cli.engine import engine_flags; engine_flags(); "
        "print({'torch', 'transformers', 'vllm', 'huggingface_hub', 'lm_eval', 'ray'} & sys.modules.keys())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("opnai", "unknown --engine opnai: did you mean openai"),
        ("hf:x", "write lm-eval:NAME"),
        ("lm-eval", "write lm-eval:NAME"),
        ("no.such.module:Class", "there is no no.such.module:Class"),
        ("json:Nothing", "there is no json:Nothing"),
        ("json:dumps", "is not a class"),
        ("json:JSONEncoder", "has no class method make"),
    ],
)
def test_what_is_no_engine_is_refused(engine: str, message: str) -> None:
    for look in (registry.options_model, registry.engine_class):
        with pytest.raises(UsageError, match=message):
            look(engine)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ("dtype=bf16", "unknown --dtype"),
        ("max_model_len=1", "greater than or equal to 2"),
        ("sise=1", "no such key"),
        ("concurrency=2", "has no --concurrency"),
        ("dtype", "key=value"),
        ("hf_token=sesame", "keys go into the environment"),
    ],
)
def test_engine_option_refuses_what_the_flag_refuses(cipo: Commands, pair: str, message: str) -> None:
    outcome = cipo(*RUN, "--engine-option", pair)
    assert outcome.code == 2
    assert message in " ".join(outcome.err.split())
    assert "sesame" not in outcome.err


def test_an_engine_of_a_users_own(cipo: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From outside the package: its options, its failures, and a run that goes on with it."""
    monkeypatch.syspath_prepend(EXAMPLES)
    own = (*RUN, "--engine", "engine:Shell", "--samples", "2", "--quiet", "-o", tmp_path / "run")
    assert "Field required" in cipo(*own).err
    assert "no such key; did you mean command" in cipo(*own, "--engine-option", "comand=cat").err
    assert "has no --dtype" in cipo(*own, "--dtype", "float16", "--engine-option", "command=cat").err
    answering = "command=cat >/dev/null; printf 'The answer is %d.' $((SEED % 2))"
    assert cipo(*own, "--engine-option", "command=exit 3").code == 1
    assert "status 3" in cipo(*own, "--engine-option", "command=exit 3").err
    assert cipo(*own, "--engine-option", answering).code == 2  # another identity than the run's
    fresh = (*own[:-1], tmp_path / "other", "--engine-option", answering)
    assert "is not looked at" in cipo(*fresh[:-2], "--engine-option", answering, "--dry-run").out
    assert cipo(*fresh).code == 0
    assert cipo(*fresh).code == 0  # goes on
    rows = [json.loads(line) for line in (tmp_path / "other/attempts/arithmetic.jsonl").open()]
    assert [row["text"] for row in rows] == [f"The answer is {row['seed'] % 2}." for row in rows]
    assert json.loads((tmp_path / "other/run.json").read_text())["engine"]["options"]["seconds"] == 60


def test_it_may_be_in_the_working_directory(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text((EXAMPLES / "engine.py").read_text())
    code = (
        "import sys; from cipo_eval.cli import main; sys.path[:] = [place for place in sys.path if place]; "
        f"main({[*RUN]!r} + sys.argv[1:])"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "--engine",
        "beside:Shell",
        "--engine-option",
        "command=cat",
        "--dry-run",
    ]
    said = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ})
    assert said.returncode == 0, said.stderr
    assert "beside:Shell" in said.stdout
