"""The quick look at what --model names: it refuses what would fail later, says why, and lets everything else pass."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_server import Hub, Repo
from tiny import make_adapter, make_checkpoint

from cipo_eval.engines import hub as hub_module
from cipo_eval.engines.checkpoint import Checkpoint, look
from cipo_eval.errors import CipoError, MissingError, UsageError


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", chat=True)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter")


def sharded(base: Path, folder: Path) -> Path:
    from transformers import AutoModelForCausalLM

    copy = Path(shutil.copytree(base, folder))
    (copy / "model.safetensors").unlink()
    AutoModelForCausalLM.from_pretrained(base).save_pretrained(copy, max_shard_size="30KB")
    assert len(list(copy.glob("model-*.safetensors"))) > 1
    return copy


def old_format(base: Path, folder: Path) -> Path:
    import torch
    from safetensors.torch import load_file

    copy = Path(shutil.copytree(base, folder))
    torch.save(load_file(copy / "model.safetensors"), copy / "pytorch_model.bin")
    (copy / "model.safetensors").unlink()
    return copy


def test_whole_checkpoints_pass(base: Path, adapter: Path, tmp_path: Path) -> None:
    for folder in (base, adapter, sharded(base, tmp_path / "shards"), old_format(base, tmp_path / "old")):
        look(str(folder))
        Checkpoint(str(folder))


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def config(folder: Path, **facts: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **facts}))


Damage = Callable[[Path], object]
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 14000000000\n"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "model folder .* does not exist"),
        (lambda p: [f.unlink() for f in p.iterdir()], "it has no files at all, so no config.json"),
        (lambda p: (p / "config.json").unlink(), "it has no config.json"),
        (lambda p: (p / "config.json").rename(p / "__0_0.distcp"), "merge them into a checkpoint"),
        (lambda p: (p / "config.json").write_text("{"), "config.json of .* cannot be read"),
        (lambda p: (p / "config.json").write_text("[" * 100_000), "config.json of .* cannot be read"),
        (lambda p: (p / "config.json").write_text("[]"), "config.json of .* must hold an object"),
        (lambda p: (p / "config.json").write_bytes(b"\xff\xfe"), "config.json of .* cannot be read"),
        (lambda p: (p / "config.json").write_text("{}"), "names no model_type"),
        (lambda p: config(p, architectures="x"), "architectures is no list of names"),
        (lambda p: config(p, is_encoder_decoder=True), "encoder-decoder model"),
        (lambda p: config(p, architectures=["LlamaForSequenceClassification"]), "no causal LM"),
        (lambda p: [f.unlink() for f in p.glob("token*")], r"save it there with tokenizer\.save_pretrained"),
        (lambda p: cut(p / "tokenizer.json"), "tokenizer.json of .* cannot be read"),
        (
            lambda p: (p / "tokenizer_config.json").write_text("{"),
            "tokenizer_config.json of .* cannot be read",
        ),
        (lambda p: (p / "model.safetensors").unlink(), "has no weights"),
        (lambda p: cut(p / "model.safetensors"), "bytes where its header says .*cut off"),
        (lambda p: cut(p / "model.safetensors", 0.001), "cut off, or no safetensors file"),
        (lambda p: (p / "model.safetensors").write_bytes(b""), "the file is empty"),
        (lambda p: (p / "model.safetensors").write_bytes(b"not weights"), "cut off, or no safetensors file"),
        (lambda p: (p / "model.safetensors").write_bytes(b"\xff" * 99), "cut off, or no safetensors file"),
        (lambda p: (p / "model.safetensors").write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "header is damaged"),
        (lambda p: (p / "model.safetensors").write_bytes(POINTER), "Git LFS pointer.*git lfs pull"),
    ],
)
def test_what_is_wrong_with_a_folder(base: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    damage(copy)
    with pytest.raises(UsageError, match=message) as caught:
        look(str(copy))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: next(p.glob("model-00002*")).unlink(), r"lacks 1 of \d+ files of weights: model-00002"),
        (lambda p: cut(next(p.glob("model-00002*"))), "model-00002.*cut off"),
        (lambda p: (p / "model.safetensors.index.json").write_text('{"weight_map": 3}'), "no weight_map"),
    ],
)
def test_what_is_wrong_with_shards(base: Path, tmp_path: Path, damage: Damage, message: str) -> None:
    copy = sharded(base, tmp_path / "shards")
    damage(copy)
    with pytest.raises(UsageError, match=message):
        look(str(copy))


def test_what_is_wrong_with_an_adapter_or_its_base(base: Path, adapter: Path, tmp_path: Path) -> None:
    old = old_format(base, tmp_path / "old")
    cut(old / "pytorch_model.bin")
    with pytest.raises(UsageError, match="the file is cut off"):
        look(str(old))
    copy = Path(shutil.copytree(adapter, tmp_path / "copy"))
    facts = json.loads((copy / "adapter_config.json").read_text())
    (copy / "adapter_config.json").write_text(json.dumps({**facts, "base_model_name_or_path": str(old)}))
    with pytest.raises(UsageError, match=r"old/pytorch_model\.bin"):
        look(str(copy))
    (copy / "adapter_model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"has no weights: no adapter_model\.safetensors"):
        look(str(copy))
    with pytest.raises(UsageError, match="is a file"):
        look(str(base / "model.safetensors"))


def test_it_is_light(base: Path) -> None:
    """Neither torch nor transformers is imported, and it takes no time to speak of."""
    code = (
        "import sys, time; from cipo_eval.engines.checkpoint import look; start = time.perf_counter(); "
        f"look({str(base)!r}); print(time.perf_counter() - start, *{{'torch', 'transformers'}} & sys.modules.keys())"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    [seconds] = said.stdout.split()
    assert float(seconds) < 3


# --- the hub ------------------------------------------------------------------------------


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
        monkeypatch.setenv(name, "")
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
        yield server


def cached(folder: Path, base: Path, name: str) -> None:
    """``base`` as the hub library's cache would hold it."""
    place = folder / "hub" / f"models--{name.replace('/', '--')}"
    shutil.copytree(base, place / "snapshots" / ("0" * 40))
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("0" * 40)


def test_a_model_of_the_hub(hub: Hub) -> None:
    whole = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": b""}
    hub.repos["us/whole"] = Repo()
    sha = hub.repos["us/whole"].commit(whole)
    hub.repos["us/adapter"] = Repo()
    hub.repos["us/adapter"].commit({"adapter_config.json": b"{}", "adapter_model.safetensors": b""})
    hub.repos["us/files"] = Repo()
    hub.repos["us/files"].commit({"model.gguf": b""})
    hub.repos["us/gated"] = Repo(gated=True)
    for name, revision in (("us/whole", None), ("us/whole", sha), ("us/adapter", None)):
        look(name, revision)
    wrong: list[tuple[str, str | None, type[CipoError], str]] = [
        (
            "us/none",
            None,
            MissingError,
            "neither a local folder nor obtainable from the hub: .* has no such model",
        ),
        ("us/gated", None, MissingError, "gated: accept its terms"),
        ("us/whole", "v9", UsageError, "has no revision 'v9'"),
        ("us/files", None, UsageError, "no config.json"),
        ("a b/c", None, UsageError, "neither a local folder nor a hub id"),
    ]
    for name, revision, kind, message in wrong:
        with pytest.raises(kind, match=message):
            look(name, revision)
    assert {key.split()[0] for key in hub.requests} == {"GET"}
    assert all(count <= 2 for count in hub.requests.values())  # nothing is tried again


def test_no_network_is_one_line_within_seconds(monkeypatch: pytest.MonkeyPatch, hub: Hub) -> None:
    from huggingface_hub import constants

    hub.stop()
    with pytest.raises(MissingError, match=r"us/model.* is out of reach .*HF_ENDPOINT"):
        look("us/model")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(hub_module, "DEADLINE", 1.5)
        started = time.perf_counter()
        with pytest.raises(MissingError, match="us/model"):
            look("us/model")
        assert time.perf_counter() - started < 8  # a busy machine


def test_without_the_hub_its_cache_is_used(hub: Hub, base: Path, tmp_path: Path) -> None:
    from huggingface_hub import constants

    cached(tmp_path, base, "us/kept")
    hub.stop()
    look("us/kept")
    assert constants.HF_HUB_OFFLINE  # so that nothing else asks the hub for minutes
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(MissingError, match="HF_HUB_OFFLINE is set and the hub's cache does not hold it"):
        look("us/other")
    cut(tmp_path / "hub" / "models--us--kept" / "snapshots" / ("0" * 40) / "model.safetensors")
    with pytest.raises(UsageError, match="cut off"):
        look("us/kept")


def test_the_command_line_says_it_in_one_line(tmp_path: Path) -> None:
    """The real thing, with the address of a hub where nobody is."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"
    code = "from cipo_eval.engines.checkpoint import Checkpoint; Checkpoint('us/model')"
    environment = {**os.environ, "HF_ENDPOINT": nobody, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": ""}
    started = time.perf_counter()
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert time.perf_counter() - started < 30  # of which python takes most, on a busy machine
    assert "Retrying" not in said.stderr
    assert (
        said.stderr.strip()
        .splitlines()[-1]
        .startswith("cipo_eval.errors.MissingError: 'us/model' is neither")
    )
