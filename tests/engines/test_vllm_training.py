"""Trainings that generate with vLLM, the real one (its CPU build): servers that are sent the weights, and a vLLM in
each of several processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from asking import GREEDY, SAMPLED, outputs, request
from safetensors.torch import load_file
from tiny import make_checkpoint

from cipo_eval.engines.hf import HFEngine
from cipo_eval.engines.openai import OpenAIEngine
from cipo_eval.engines.options import OpenAIOptions
from cipo_eval.engines.vllm_servers import VLLMServers
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.settings import to_yaml
from cipo_trainer.config import Config
from cipo_trainer.logs import read
from cipo_trainer.presets import build
from cipo_trainer.training import train

pytest.importorskip("vllm", reason="vLLM is not installed here: `tox -e vllm` runs these")
pytestmark = pytest.mark.slow

MISMATCH = 1e-4
"""Largest difference of a token's log-probability between vLLM and the trainer, in nats, float32."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "wide", wide=True, context=256, chat=True)


class Served:
    """A server of vLLM's, as docs/several-processes.md says that one is started; as a module, since the CPU package's
    script does not start."""

    def __init__(self, checkpoint: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
        command += ["--port", str(port), "--host", "127.0.0.1", "--dtype", "float32", "--enable-scale-out"]
        command += ["--enforce-eager", "--max-num-seqs", "32", "--max-model-len", "256"]
        # samples with seeds fail in the CPU build where a prompt is read in parts
        command += ["--no-enable-chunked-prefill", "--max-num-batched-tokens", "2048"]
        self.log: list[str] = []
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, "VLLM_SERVER_DEV_MODE": "1"},
            start_new_session=True,
        )
        threading.Thread(target=lambda: self.log.extend(self.process.stdout or ()), daemon=True).start()

    def wait(self) -> Served:
        for _ in range(6000):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", int(self.url.rpartition(":")[2]))) == 0:
                    return self
            assert self.process.poll() is None, "".join(self.log[-40:])
            time.sleep(0.1)
        raise AssertionError("".join(self.log[-40:]))

    def told(self, path: str, values: dict[str, Any] | None = None) -> Any:
        body = None if values is None else json.dumps(values).encode()
        asked = urllib.request.Request(
            f"{self.url}/{path}", data=body, headers={"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as reply:
            return json.load(reply)

    def kill(self) -> None:
        """With its own processes, which would go on without it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(60)

    def close(self) -> None:
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        self.kill()


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Served]:
    served = Served(checkpoint)
    try:
        yield served.wait()
    finally:
        served.close()


def asked(output: Path, model: Path, rollout: dict[str, Any], **more: Any) -> Config:
    """A training of CIPO, with an evaluation at both ends."""
    values: dict[str, Any] = {
        "model": str(model),
        "output": str(output),
        "algorithm": "cipo",
        "steps": 2,
        "rollout": {"problems": 3, "samples": 4, "max_tokens": 12, "max_model_len": 256, **rollout},
        "correction": {"prompt_dir": "prompts", "band": [0, 1]},
        "reward": {"format": 1.0, "workers": 1},
        "optimizer": {"lr": 0.01},
        "checkpoint": {"every": 1, "keep": 9},
        "eval": {"tasks": ["arithmetic"], "limit": 4, "every": 100},
        "log": {"samples": 0},
    }
    return build({**values, **more})


def on_servers(*servers: Served) -> dict[str, Any]:
    return {"engine": "vllm_server", "servers": [server.url for server in servers]}


def test_a_training_samples_from_the_weights_that_it_sent(
    server: Served, checkpoint: Path, tmp_path: Path
) -> None:
    """What the servers sample from is what is trained, to the last digits, from the first step on and where a run goes
    on; it learns, and nothing of the weights stays behind."""
    place = tmp_path / "out"
    train(asked(place, checkpoint, on_servers(server)))
    train(asked(place, checkpoint, on_servers(server), steps=3))
    rows = [row for row in read(place / "log.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in rows] == [1, 2, 3]
    trained = [row for row in rows if row["trained_tokens"]]
    assert trained[-1]["step"] == 3
    assert sum(row["updates"] for row in trained) >= 2
    assert all(row["mismatch_max"] < MISMATCH for row in trained)
    assert not any((place / "weights").iterdir())
    assert server.told("weight_info")["weight_version"] != "default"


def test_tokens_are_the_hf_engine_s_and_other_weights_are_noticed(
    server: Served, checkpoint: Path, tmp_path: Path
) -> None:
    """Greedy tokens, log-probabilities, stop strings and prompts without room, with old weights and with new ones; then
    somebody else sends weights."""
    hf = HFEngine(str(checkpoint), device="cpu")
    engine = VLLMServers(str(checkpoint), [f"{server.url}/v1/"])
    try:
        old = {name: tensor.clone() for name, tensor in hf.model.state_dict().items()}
        stop = outputs(hf, request("abc"))["abc", 0].text[5:8]
        requests = [request("ab" * n) for n in (1, 60, 123, 300)]
        requests.append(request("abc", sampling=replace(GREEDY, stop=(stop, "\x00"))))
        for factor in (1.0, 0.7):
            new = {name: tensor * factor for name, tensor in old.items()}
            engine.send_weights(new, tmp_path / "weights")
            hf.core.update_weights(new)
            found, expected = outputs(engine, *requests), outputs(hf, *requests)
            for key, completion in expected.items():
                other = found[key]
                assert replace(other, seconds=None, logprobs=None) == replace(
                    completion, seconds=None, logprobs=None
                )
                assert other.logprobs == pytest.approx(completion.logprobs, abs=1e-5)
        sampled = [outputs(engine, request("abc", (3, 4, 2**63 - 1), SAMPLED)) for _ in range(2)]
        texts = [{key: completion.token_ids for key, completion in one.items()} for one in sampled]
        assert texts[0] == texts[1]
        assert len(set(texts[0].values())) == 3
        server.told("update_weight_version", {"new_version": "theirs"})
        with pytest.raises(MissingError, match=rf"{server.url} holds other weights .*theirs"):
            outputs(engine, request("abc"))
    finally:
        engine.close()
    with pytest.raises(UsageError, match=r"takes 256 tokens and rollout.max_model_len is 512"):
        VLLMServers(str(checkpoint), [server.url], max_model_len=512)
    with pytest.raises(MissingError, match=r"127.0.0.1:9: the server cannot be reached"):
        VLLMServers(str(checkpoint), [server.url, "http://127.0.0.1:9"])


def test_an_answer_that_is_begun_is_gone_on_with(server: Served, checkpoint: Path, tmp_path: Path) -> None:
    """As the protocol ``prefill`` asks: by a server's chat (``continue_final_message``) and by its tokens, as by the
    hf engine."""
    hf = HFEngine(str(checkpoint), device="cpu")
    tokens = VLLMServers(str(checkpoint), [server.url])
    chat = OpenAIEngine(str(checkpoint), OpenAIOptions(base_url=f"{server.url}/v1"))
    asked = [
        replace(one, messages=(*one.messages, {"role": "assistant", "content": begun}))
        for one, begun in zip(
            map(request, "abc"), ("x", "First I add. That gives", "7 \\times 6 = 42."), strict=True
        )
    ]
    try:
        assert chat.refuses_begun() == tokens.refuses_begun() == ""
        tokens.send_weights(dict(hf.model.state_dict()), tmp_path / "weights")
        expected = {key: one.text for key, one in outputs(hf, *asked).items()}
        for engine in (chat, tokens):
            assert {key: one.text for key, one in outputs(engine, *asked).items()} == expected
        plain = outputs(hf, *map(request, "abc"))
        assert all(plain[key].text != text for key, text in expected.items())
    finally:
        chat.close()
        tokens.close()


def launched(config: Config, processes: int = 2) -> tuple[int, str]:
    """Trains in several processes; the exit code and what was said."""
    config.output.parent.mkdir(parents=True, exist_ok=True)
    file = config.output.with_suffix(".yaml")
    file.write_text(to_yaml(config))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [*command, "-m", "cipo_trainer", str(file)],
        capture_output=True,
        text=True,
        timeout=500,
        env=environment,
        check=False,
    )
    return done.returncode, done.stderr


def assert_same_runs(one: Path, other: Path) -> None:
    """Attempts, verdicts, anchors and evaluations to the last digit, weights to rounding."""
    rows = [read(place / "log.jsonl") for place in (one, other)]
    assert len(rows[0]) == len(rows[1])
    for a, b in zip(*rows, strict=True):
        for name, value in b.items():
            if name.startswith(("base_", "correction_", "arithmetic")) and "entropy" not in name:
                known = isinstance(value, float)
                assert a[name] == (pytest.approx(value, rel=1e-6, nan_ok=True) if known else value), name
        assert a.get("mismatch_max", 0.0) < MISMATCH
    last = max(row["step"] for row in rows[0])
    weights = [load_file(p / "checkpoints" / f"step-{last:06d}" / "model.safetensors") for p in (one, other)]
    assert max(float((weights[0][k] - weights[1][k]).abs().max()) for k in weights[0]) < 1e-4


@pytest.mark.exhaustive  # another server, and three starts of several processes
def test_several_processes_and_servers_are_one(server: Served, checkpoint: Path, tmp_path: Path) -> None:
    """Two processes, in parts and whole, on two servers give what one process gives on one. A server that is killed is
    named, and the run goes on without it."""
    train(asked(tmp_path / "one", checkpoint, on_servers(server)))
    other = Served(checkpoint)
    try:
        both = on_servers(server, other.wait())
        for parallel in ("fsdp", "ddp"):
            code, said = launched(asked(tmp_path / parallel, checkpoint, both, parallel=parallel))
            assert code == 0, said
            assert_same_runs(tmp_path / parallel, tmp_path / "one")
        other.kill()
        code, said = launched(asked(tmp_path / "ddp", checkpoint, both, parallel="ddp", steps=3))
        assert code == 1
        assert f"the vLLM server {other.url}: the server cannot be reached" in said
        assert said.count("cipo_trainer: error") == 1
    finally:
        other.close()
    for place, parallel in (("ddp", "ddp"), ("one", "auto")):
        train(asked(tmp_path / place, checkpoint, on_servers(server), parallel=parallel, steps=3))
    assert_same_runs(tmp_path / "ddp", tmp_path / "one")


@pytest.mark.exhaustive  # three engines
def test_each_of_several_processes_has_a_vllm(checkpoint: Path, tmp_path: Path) -> None:
    rollout = {"engine": "vllm", "engine_args": {"enforce_eager": True, "max_num_seqs": 32}}
    for processes in (1, 2):
        code, said = launched(asked(tmp_path / str(processes), checkpoint, rollout), processes)
        assert code == 0, said
    assert_same_runs(tmp_path / "2", tmp_path / "1")
    refused = {"engine": "vllm", "engine_args": {"tensor_parallel_size": 2}}
    code, said = launched(asked(tmp_path / "refused", checkpoint, refused))
    assert code == 1
    assert "rollout.engine_args.tensor_parallel_size: of several processes each has a vLLM of its own" in said


@pytest.mark.exhaustive
def test_adapters_are_merged_into_what_servers_are_sent(
    server: Served, checkpoint: Path, tmp_path: Path
) -> None:
    config = asked(tmp_path / "out", checkpoint, on_servers(server), lora={"rank": 4}, steps=3)
    train(config)
    rows = [row for row in read(tmp_path / "out" / "log.jsonl") if row.get("trained_tokens")]
    assert rows[-1]["step"] > 1
    assert all(row["mismatch_max"] < MISMATCH for row in rows)


@pytest.mark.exhaustive
def test_a_server_that_dies_in_a_step_ends_the_training(
    server: Served, checkpoint: Path, tmp_path: Path
) -> None:
    """Whole checkpoints stay; the error names the server and says how to go on."""
    other = Served(checkpoint).wait()
    config = asked(tmp_path / "out", checkpoint, on_servers(server, other), steps=50)

    def watch(step: int, _measured: object) -> None:
        if step == 2:
            other.kill()

    try:
        with pytest.raises(MissingError, match=rf"{other.url}.*the same command goes on"):
            train(config, watch)
    finally:
        other.close()
    there = sorted(path.name for path in (tmp_path / "out" / "checkpoints").iterdir())
    assert there == ["step-000001", "step-000002"]
    train(asked(tmp_path / "out", checkpoint, on_servers(server), steps=4))
