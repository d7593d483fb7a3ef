"""Servers of a training that misbehave, in vLLM's protocol; the real vLLM is in ``test_vllm_training``."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import SAMPLED, outputs, request

from cipo_eval.engines import vllm_servers
from cipo_eval.engines.vllm_servers import VLLMServers
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.records import Failure
from cipo_trainer.distributed.environment import alone
from cipo_trainer.distributed.world import Processes
from cipo_trainer.policy import Policy
from cipo_trainer.presets import build

WEIGHTS = {"a": torch.ones(3), "tied": torch.zeros(2)}


class Spoken:
    """A server that says what ``replies`` has for a path (the part before ``?``): status and value, or what gives
    them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.version = "default"
        self.replies: dict[str, tuple[int, Any] | Callable[[Any], tuple[int, Any]]] = {
            "v1/models": (200, {"data": [{"id": "m", "max_model_len": 64}]}),
            "weight_info": lambda _: (200, {"weight_version": self.version}),
            "inference/v1/generate": lambda body: (200, self.answer(body)),
            "pause": (200, {}),
            "collective_rpc": (200, {"results": [None]}),
            "reset_prefix_cache": (200, {"success": True}),
            "update_weight_version": self.renamed,
            "resume": (200, {}),
        }
        spoken = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                """Tests are silent."""

            def do_GET(self) -> None:
                self.reply(None)

            def do_POST(self) -> None:
                self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def reply(self, body: Any) -> None:
                path = self.path.strip("/").partition("?")[0]
                spoken.asked.append(path)
                found = spoken.replies[path]
                status, value = found(body) if callable(found) else found
                content = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.http.server_port}"

    def renamed(self, body: Any) -> tuple[int, Any]:
        self.version = body["new_version"]
        return 200, {"success": True}

    def answer(self, body: Any, reason: str = "length") -> dict[str, Any]:
        count = body["sampling_params"]["max_tokens"]
        choice = {
            "finish_reason": reason,
            "token_ids": [7] * count,
            "logprobs": {"content": [{"token_id": 7, "logprob": -0.5}] * count},
            "weight_versions": [{"version": self.version, "start": 0, "end": count}],
        }
        return {"choices": [choice]}

    def close(self) -> None:
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()


@pytest.fixture
def two() -> Iterator[list[Spoken]]:
    servers = [Spoken(), Spoken()]
    yield servers
    for server in servers:
        server.close()


@pytest.fixture
def engine(two: list[Spoken], tiny_checkpoint: Path, tmp_path: Path) -> Iterator[VLLMServers]:
    found = VLLMServers(str(tiny_checkpoint), [server.url for server in two])
    found.send_weights(WEIGHTS, tmp_path / "weights")
    yield found
    found.close()
    found.close()  # twice is allowed


@pytest.mark.parametrize(
    ("path", "status"), [("weight_info", 404), ("inference/v1/generate", 403), ("v1/models", 500)]
)
def test_what_a_server_lacks_is_told_at_once(
    two: list[Spoken], tiny_checkpoint: Path, path: str, status: int
) -> None:
    two[1].replies[path] = (status, {"error": "no"})
    with pytest.raises(MissingError) as raised:
        VLLMServers(str(tiny_checkpoint), [server.url for server in two])
    assert f"the vLLM server {two[1].url} refuses {path} ({status}" in str(raised.value)
    flags = ("VLLM_SERVER_DEV_MODE=1", "--enable-scale-out")
    assert all((flag in str(raised.value)) == (status != 500) for flag in flags)


def test_weights_are_whole_when_servers_load_them_and_gone_afterwards(
    two: list[Spoken], engine: VLLMServers, tmp_path: Path
) -> None:
    """Each server generates again only when all of it is done, and knows what it has."""
    from safetensors.torch import load_file

    seen: list[dict[str, torch.Tensor]] = []

    def reloaded(body: Any) -> tuple[int, Any]:
        assert body["method"] == "reload_weights"
        seen.append(load_file(Path(body["kwargs"]["weights_path"]) / "model.safetensors"))
        return 200, {"results": [None]}

    held = iter([False, False, True, True])
    for server in two:
        server.replies["collective_rpc"] = reloaded
        server.replies["reset_prefix_cache"] = lambda _: (200, {"success": next(held)})
        server.asked.clear()
    before = engine.version
    version = engine.send_weights({**WEIGHTS, "b": WEIGHTS["a"]}, tmp_path / "weights")
    assert before != version == engine.version == two[0].version == two[1].version
    assert [set(state) for state in seen] == [{"a", "tied"}] * 2  # the same memory is sent once
    for server in two:
        steps = list(dict.fromkeys(server.asked))
        assert steps == ["pause", "collective_rpc", "reset_prefix_cache", "update_weight_version", "resume"]
    assert not any((tmp_path / "weights").iterdir())


@pytest.mark.parametrize(
    ("path", "reply", "why"),
    [
        ("collective_rpc", (500, {"error": "no such file"}), r"no such file.*rollout\.weights_dir"),
        ("reset_prefix_cache", (200, {"success": False}), "cannot forget its prefix cache"),
        ("pause", (200, "what"), "the reply is not a JSON object"),
    ],
)
def test_a_server_that_does_not_take_weights_is_named(
    two: list[Spoken],
    engine: VLLMServers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    reply: tuple[int, Any],
    why: str,
) -> None:
    monkeypatch.setattr(vllm_servers, "_CACHE_TRIES", 2)
    before = engine.version
    two[1].replies[path] = reply
    with pytest.raises(MissingError, match=f"{two[1].url}.*{why}"):
        engine.send_weights(WEIGHTS, tmp_path / "weights")
    assert engine.version == before
    assert two[1].version == before
    assert not any((tmp_path / "weights").iterdir())


def test_attempts_of_a_server_that_fails_go_to_the_other(two: list[Spoken], engine: VLLMServers) -> None:
    asked = request("abc", tuple(range(12)), SAMPLED)
    two[0].replies["inference/v1/generate"] = (500, {})
    assert {len(c.token_ids or ()) for c in outputs(engine, asked).values()} == {24}
    two[1].replies["inference/v1/generate"] = lambda body: (200, two[1].answer(body, "abort"))
    failures = set(outputs(engine, request("abc", (1,), SAMPLED)).values())
    (why,) = (failure.why for failure in failures if isinstance(failure, Failure))
    assert why.startswith("the vLLM server http")
    assert why.endswith("(3 tries)")


@pytest.mark.parametrize("version", ["default", "somebody's"])
def test_no_sample_of_other_weights_is_used(two: list[Spoken], engine: VLLMServers, version: str) -> None:
    """A server that was started again, or that somebody else has sent weights."""
    two[0].version = two[1].version = version
    with pytest.raises(MissingError, match=rf"holds other weights than it was sent \(version {version}\)"):
        outputs(engine, request("abc", (1, 2), SAMPLED))


def test_a_refused_request_is_an_error(two: list[Spoken], engine: VLLMServers) -> None:
    for server in two:
        server.replies["inference/v1/generate"] = (400, {"error": "min_p"})
    with pytest.raises(UsageError, match=r"refuses the request \(400: .*min_p"):
        outputs(engine, request("abc", (1,), SAMPLED))


# --- how a training asks for them -----------------------------------------------------------------------------------


def test_a_configuration_names_servers_or_none() -> None:
    rollout = {"engine": "vllm_server", "servers": ["http://a:8000"]}
    assert build({"rollout": rollout}).loss.importance == "token"
    for wrong in ({"engine": "vllm_server"}, {"servers": ["http://a:8000"]}):
        with pytest.raises(UsageError, match="vllm_server and servers go together"):
            build({"rollout": wrong})
    with pytest.raises(UsageError, match=r"rollout\.servers must be the address"):
        VLLMServers("nowhere", ["a:8000"])


def test_a_vllm_of_one_of_several_processes_is_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It sees its own GPU, and no launcher; one that would take the others' devices is refused."""
    for name, value in {
        "RANK": "1",
        "WORLD_SIZE": "2",
        "TORCHELASTIC_RUN_ID": "x",
        "LOCAL_RANK": "1",
    }.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    for seen, expected in ((None, "1"), ("4,6", "6")):
        with monkeypatch.context() as patch:
            patch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
            if seen:
                patch.setenv("CUDA_VISIBLE_DEVICES", seen)
            with alone(1):
                assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
                assert not {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID", "LOCAL_RANK"} & os.environ.keys()
            assert os.environ.get("CUDA_VISIBLE_DEVICES") == seen
    assert dict(os.environ) == before
    rollout = {"engine": "vllm", "engine_args": {"tensor_parallel_size": 2}}
    config = build({"output": str(tmp_path / "out"), "rollout": rollout})
    with pytest.raises(UsageError, match="each has a vLLM of its own"):
        Policy(config, Processes(0, 2))
