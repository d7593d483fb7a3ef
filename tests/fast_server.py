"""A loopback server of OpenAI's protocol in a process of its own: fast, may be killed, and may lie.

It says its port when it listens. What it answers follows from prompt and seed alone, so that it can be told whether a
text is the one that belongs to a sample, whichever server it came from.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import subprocess
import sys
from typing import Any

MODEL = "tiny"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"


def text_of(prompt: str, seed: int) -> str:
    """What every server says to a prompt."""
    return f"to {prompt} with {seed}: \\boxed{{{seed % 1000}}}"


def reply(body: dict[str, Any]) -> bytes:
    """A whole reply to a body, with ``n`` choices whose seeds follow each other (as vLLM draws them)."""
    prompt = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
    choices = [
        {
            "index": i,
            "message": {"role": "assistant", "content": text_of(prompt, body["seed"] + i)},
            "finish_reason": "stop",
        }
        for i in range(body.get("n", 1))
    ]
    usage = {"prompt_tokens": 8, "completion_tokens": 8 * len(choices)}
    return json.dumps({"choices": choices, "usage": usage}).encode()


def framed(content: bytes) -> bytes:
    return _HEAD % len(content) + content


LIES = ("twice", "none", "broken", "half", "status", "drop", "early")
MODELS = framed(json.dumps({"data": [{"id": MODEL, "owned_by": "vllm"}]}).encode())
CANNED = framed(reply({"messages": [{"content": "anything"}], "seed": 1}))


class Protocol(asyncio.Protocol):
    """One connection."""

    def __init__(self, delay: float, lies: float, canned: bool) -> None:
        self.delay, self.lies, self.canned = delay, lies, canned
        self.received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            head = self.received[:end].lower()
            at = head.find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self.received) < end + 4 + length:
                return
            body = self.received[end + 4 : end + 4 + length]
            self.received = self.received[end + 4 + length :]
            if head.startswith(b"get"):
                self.transport.write(MODELS)
            elif self.delay:
                asyncio.get_running_loop().call_later(self.delay, self.answer, body)
            else:
                self.answer(body)

    def answer(self, body: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.canned:
            self.transport.write(CANNED)
        elif self.lies and random.random() < self.lies:
            self.lie(json.loads(body), random.choice(LIES))
        else:
            self.transport.write(framed(reply(json.loads(body))))

    def lie(self, body: dict[str, Any], how: str) -> None:
        content = reply(body)
        if how == "twice":
            self.transport.write(framed(reply({**body, "n": 2})))
        elif how == "none":
            self.transport.write(framed(b'{"choices": []}'))
        elif how == "broken":
            self.transport.write(framed(content[: len(content) // 2]))
        elif how == "half":
            self.transport.write(_HEAD % len(content) + content[: len(content) // 2])
            self.transport.close()
        elif how == "status":
            self.transport.write(b"HTTP/1.1 503 no\r\nContent-Length: 0\r\n\r\n")
        elif how == "early":  # a whole reply, and the beginning of one that nobody asked for
            self.transport.write(framed(content) + b"HTTP/1.1 200 OK\r\n")
            self.transport.close()
        else:
            self.transport.abort()


async def serve(host: str, port: int, delay: float, lies: float, canned: bool) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: Protocol(delay, lies, canned), host, port, backlog=1024
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class FastServer:
    """``with FastServer() as server``: the process; ``kill`` and ``start`` again on the same port."""

    def __init__(self, delay: float = 0.0, lies: float = 0.0, *, canned: bool = False) -> None:
        self.flags = [f"--delay={delay}", f"--lies={lies}", *(["--canned"] if canned else [])]
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        command = [sys.executable, "-S", __file__, f"--port={self.port}", *self.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate()

    def __enter__(self) -> FastServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--lies", type=float, default=0.0)
    parser.add_argument("--canned", action="store_true")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(arguments.host, arguments.port, arguments.delay, arguments.lies, arguments.canned))
