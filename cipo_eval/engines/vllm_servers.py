"""vLLM servers on other devices, with the weights of a training: ``rollout.engine=vllm_server``.

Tokens go in and tokens come out (vLLM's ``/inference/v1/generate``), so that texts, ends and seeds are those of the
other engines. Weights go through a folder that the servers see too: it is written once, and each server reloads its
model from it in place (``/collective_rpc``), forgets its prefix cache, and is told the version of its weights. Every
sample then names the version that drew it, and one of another version is never trained on: a server that was started
again, or that somebody else sends weights to, is noticed with its first sample.

A server has to be started with ``--enable-scale-out`` and ``VLLM_SERVER_DEV_MODE=1``, which has routes that no key
guards: it belongs into a network that is trusted, and to one training.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.connections import Connections, Reply
from cipo_eval.engines.keys import read_key
from cipo_eval.engines.options import check_url
from cipo_eval.engines.prompting import Prompting, Thinking
from cipo_eval.engines.pump import Pump
from cipo_eval.engines.retries import Again, Retries
from cipo_eval.engines.server_replies import json_object, printable_line
from cipo_eval.engines.servers import Server, Servers, Target
from cipo_eval.engines.vllm_samples import UNDER_WAY, VLLMSamples, write_weights
from cipo_eval.errors import MissingError, UsageError
from cipo_eval.files import Writing
from cipo_eval.records import FinishReason, Request

if TYPE_CHECKING:
    import torch

KEY = "VLLM_API_KEY"
"""Environment variable with the servers' key, where they have one; vLLM reads the same one."""
STARTED = "VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --enable-scale-out"
"""How a server is started, as far as this needs it."""
GOES_ON = "the same command goes on from the last checkpoint"
_FURTHER = 2
"""Tries of a sample after the first."""
_CACHE_TRIES = 50
"""Looks at whether a prefix cache can be forgotten, 0.1 s apart: what was broken off may still hold blocks of it."""


class VLLMServers(VLLMSamples):
    """Raises ``UsageError``/``MissingError`` for a checkpoint that is not there, and for a server that cannot be
    reached, lacks what this needs, or serves a model of a shorter context than is asked for."""

    name = "vllm_server"

    def __init__(
        self,
        model: str,
        servers: Sequence[str],
        *,
        revision: str | None = None,
        trust_remote_code: bool = False,
        thinking: Thinking = Thinking(),  # noqa: B008  frozen
        max_model_len: int | None = None,
        seconds: float = 3600.0,
        first: int = 0,
    ) -> None:
        """``model``: the checkpoint whose tokenizer the servers' model has. ``servers``: addresses, with or without
        ``/v1``. ``seconds``: that a sample, or a reload, may take. ``first``: number of the server that is asked first:
        of several processes each begins with another."""
        urls = [check_url(url, "rollout.servers", KEY).removesuffix("/v1") for url in servers]
        if not urls:
            raise UsageError(
                "rollout.engine=vllm_server needs rollout.servers, such as [http://127.0.0.1:8000]"
            )
        checkpoint = Checkpoint(model, revision, trust_remote_code)
        at = first % len(urls)
        self.checkpoint = checkpoint
        self._servers = Servers(Target(url) for url in [*urls[at:], *urls[:at]])
        self._connections: dict[Server, Connections] = {}
        self._seconds = seconds
        self._key = read_key(KEY)
        self._retries = Retries(_FURTHER)
        self._closed = False
        self.version = ""
        """Of the weights that samples are to be drawn with."""
        self._pump = Pump(UNDER_WAY)
        try:
            lengths = self._pump.call(self._open())
            longest = min([*lengths, *([max_model_len] if max_model_len else [])])
            if max_model_len and longest < max_model_len:
                raise UsageError(
                    f"a server of rollout.servers takes {longest} tokens and rollout.max_model_len is "
                    f"{max_model_len}: start it with --max-model-len {max_model_len}"
                )
            self.texts = Prompting(
                checkpoint.tokenizer, context=longest, thinking=thinking, ends=checkpoint.ends
            )
        except BaseException:
            self.close()
            raise
        self._ends = sorted(self.texts.ends)

    def describe(self) -> dict[str, Any]:
        return {
            "engine": self.name,
            **self.checkpoint.describe(),
            **self.texts.describe(),
            "max_model_len": self.texts.context,
        }

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._pump.close(self._disconnect())

    def send_weights(self, state: Mapping[str, torch.Tensor], folder: Path) -> str:
        """Gives all servers new weights, under the names that the model's checkpoint has, and returns their version,
        which is set as ``version``. What is under way there is broken off.

        ``folder``: one that the servers see under the same path; what is written into it is gone afterwards. Raises
        ``MissingError`` for a server that does not take them.
        """
        version = uuid.uuid4().hex
        place = folder.resolve() / version
        try:
            with Writing(folder):  # nobody looks for it before it is written
                place.mkdir(parents=True)
                write_weights(state, place)
            self._pump.call(self._send(place, version))
        finally:
            shutil.rmtree(place, ignore_errors=True)
        self.version = version
        return version

    # --- on the loop -----------------------------------------------------------------------------------------

    async def _open(self) -> list[int]:
        """Connects to all servers. Returns the longest prompts with completion that they take."""
        for server in self._servers:
            self._connections[server] = Connections(server.target, self._key, self._seconds)
        return await asyncio.gather(*(self._look(server) for server in self._servers))

    async def _look(self, server: Server) -> int:
        """Raises ``MissingError`` for a server that is not there, or not started as it must be."""
        listed = await self._told(server, "v1/models")
        await self._told(server, "weight_info")
        one = {"token_ids": [0], "sampling_params": {"max_tokens": 1, "detokenize": False}}
        await self._told(server, "inference/v1/generate", one)
        data = listed.get("data")
        lengths = [entry.get("max_model_len") for entry in data] if isinstance(data, list) else []
        if not lengths or not isinstance(lengths[0], int):
            raise MissingError(
                f"{server} of rollout.servers does not say what its model takes: is it vLLM's?"
            )
        return lengths[0]

    async def _told(self, server: Server, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What a server answers to what it has to understand. Raises ``MissingError`` where it does not."""
        try:
            reply = await self._reply(server, path, body)
            if reply.status == 200:
                return json_object(reply.content)
        except Again as error:
            raise MissingError(f"the vLLM server {server}: {error}; {GOES_ON}") from error
        how = f": it has to be started with {STARTED}" if reply.status in (403, 404, 405) else ""
        text = printable_line(reply.content.decode("utf-8", "replace"))
        raise MissingError(f"the vLLM server {server} refuses {path} ({reply.status}: {text}){how}")

    async def _reply(self, server: Server, path: str, body: Mapping[str, Any] | None) -> Reply:
        content = None if body is None else json.dumps(body).encode()
        return await self._connections[server].send(path, content)

    async def _send(self, place: Path, version: str) -> None:
        results = await asyncio.gather(
            *(self._reload(server, place, version) for server in self._servers), return_exceptions=True
        )
        for result in results:  # after all: the folder is theirs until then
            if isinstance(result, BaseException):
                raise result

    async def _reload(self, server: Server, place: Path, version: str) -> None:
        """One server's new weights. Until all of it is done it generates nothing."""
        await self._told(server, "pause?mode=abort", {})
        try:
            body = {"method": "reload_weights", "kwargs": {"weights_path": str(place)}}
            await self._told(server, "collective_rpc", body)
        except MissingError as error:
            raise MissingError(
                f"{error} (new weights were in {place.parent}, which the server has to see under the same path: "
                "rollout.weights_dir)"
            ) from error
        for _ in range(_CACHE_TRIES):
            if (await self._told(server, "reset_prefix_cache", {})).get("success"):
                break
            await asyncio.sleep(0.1)
        else:
            raise MissingError(
                f"the vLLM server {server} cannot forget its prefix cache: it is in use; {GOES_ON}"
            )
        await self._told(server, "update_weight_version", {"new_version": version})
        await self._told(server, "resume", {})
        self._servers.answered(server)

    async def _disconnect(self) -> None:
        for connections in self._connections.values():
            await connections.close()

    async def _ask(
        self, request: Request, ids: Sequence[int], most: int, seed: int
    ) -> tuple[list[int], FinishReason, list[float] | None]:
        sampling = request.sampling
        params = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "top_k": sampling.top_k,
            "min_p": sampling.min_p,
            "repetition_penalty": 1.0,  # else what the checkpoint recommends is mixed in
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "seed": seed,
            "max_tokens": most,
            "stop": list(sampling.stop),
            "stop_token_ids": self._ends,
            "detokenize": bool(sampling.stop),
            "skip_special_tokens": False,
            "logprobs": 0,
        }
        server = self._servers.choose()
        assert server is not None  # none of them ever asks for a pause here
        body = {"token_ids": list(ids), "sampling_params": params}
        try:
            answer = self._read(server, await self._replied(server, body), most)
        except Again as error:
            self._servers.failed(server, error.why, unreachable=error.unreachable)  # others get its attempts
            raise Again(f"the vLLM server {server}: {error.why}", error.said) from error
        finally:
            self._servers.release(server)
        self._servers.answered(server)
        return answer

    async def _replied(self, server: Server, body: Mapping[str, Any]) -> dict[str, Any]:
        reply = await self._reply(server, "inference/v1/generate", body)
        if reply.status == 200:
            return json_object(reply.content)
        text = printable_line(reply.content.decode("utf-8", "replace"))
        if reply.status in (400, 422):
            raise UsageError(f"the vLLM server {server} refuses the request ({reply.status}: {text})")
        raise Again(f"status {reply.status}", text)

    def _read(
        self, server: Server, reply: Mapping[str, Any], most: int
    ) -> tuple[list[int], FinishReason, list[float]]:
        """One sample of a reply. Raises ``Again`` for one that is not whole, ``MissingError`` for one of other
        weights."""
        try:
            (choice,) = reply["choices"]
            reason = choice["finish_reason"]
            tokens = [int(token) for token in choice["token_ids"]]
            logprobs = [float(step["logprob"]) for step in choice["logprobs"]["content"]]
            versions = {str(span["version"]) for span in choice["weight_versions"] or ()}
        except (KeyError, TypeError, ValueError) as error:
            raise Again(f"no whole answer ({error!r})") from error
        if reason not in ("stop", "length") or not 0 < len(tokens) == len(logprobs) <= most:
            raise Again(f"no whole answer (finish reason {reason})")
        if versions != {self.version}:
            raise MissingError(
                f"the vLLM server {server} holds other weights than it was sent (version "
                f"{printable_line(', '.join(sorted(versions)))}): it was started again, or somebody else sends it "
                f"weights; {GOES_ON}"
            )
        return tokens, FinishReason(reason), logprobs
