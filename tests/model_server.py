"""A loopback server of OpenAI's protocol, around a real tiny model or with one answer to all, that can misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cipo_eval.records import Problem, Request, Sampling

Fault = Callable[["Handler"], None]

ANSWER = "so it is \\boxed{4}"
"""What a server without a model says."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128  # a shorter one turns connections away where the machine is busy


class ModelServer:
    """``with ModelServer(engine) as server``: each request first meets the next of ``faults``, if there is one, then
    what ``rule`` has for its body."""

    def __init__(
        self,
        engine: Any = None,
        *,
        key: str | None = None,
        context: int | None = None,
        name: str = "tiny",
        owner: str = "vllm",
        told: dict[str, Any] | None = None,
        rule: Callable[[dict[str, Any]], Fault | None] = lambda _: None,
    ) -> None:
        self.engine, self.key, self.context, self.name = engine, key, context, name
        self.owned_by, self.rule = owner, rule
        self.told = told or {}
        """Of the model, in the list of models."""
        self.faults: list[Fault] = []
        self.bodies: list[dict[str, Any]] = []
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.model_lock = threading.Lock()
        server = self

        class Bound(Handler):
            owner = server

        self._http = _Http(("127.0.0.1", 0), Bound)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1"

    def __enter__(self) -> ModelServer:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class Handler(BaseHTTPRequestHandler):
    owner: ModelServer
    counted = False
    """Whether this is one of the requests that are being answered."""

    def log_message(self, *_: Any) -> None:
        """Tests are silent."""

    def send(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        self._answered()  # whoever has the answer may ask again at once
        self.send_response(status)
        for name, text in (headers or {}).items():
            self.send_header(name, text)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def chat(self) -> bool:
        return self.path.endswith("/chat/completions")

    def do_GET(self) -> None:
        if self._allowed():
            model = {"id": self.owner.name, "owned_by": self.owner.owned_by, **self.owner.told}
            self.send(200, {"data": [model]})

    def do_POST(self) -> None:
        owner = self.owner
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if not self._allowed():
            return
        with owner.lock:
            owner.bodies.append(body)
            fault = owner.faults.pop(0) if owner.faults else owner.rule(body)
            owner.at_once += 1
            owner.most_at_once = max(owner.most_at_once, owner.at_once)
            self.counted = True
        try:
            if fault:
                fault(self)
            elif owner.engine is None:
                ended()(self)
            else:
                self._complete(body)
        finally:
            self._answered()

    def _answered(self) -> None:
        if self.counted:
            self.counted = False
            with self.owner.lock:
                self.owner.at_once -= 1

    def _allowed(self) -> bool:
        key = self.owner.key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self.send(401, {"error": f"bad key: {self.headers.get('Authorization')}"})
        return False

    def _complete(self, body: dict[str, Any]) -> None:
        chat = "messages" in body
        messages = body["messages"] if chat else [{"role": "user", "content": body["prompt"]}]
        length = sum(len(m["content"]) for m in messages)
        if self.owner.context and length + body["max_tokens"] > self.owner.context:
            self.send(400, {"error": {"message": f"maximum context length is {self.owner.context} tokens"}})
            return
        sampling = Sampling(
            temperature=body["temperature"],
            top_p=body["top_p"],
            top_k=0,
            min_p=0.0,
            max_tokens=body["max_tokens"],
        )
        problem = Problem(task="t", id="", index=0, question="", prompt="", gold="")
        request = Request(
            problem=problem,
            messages=tuple(messages),
            samples=(0,),
            seeds=(body["seed"],),
            sampling=replace(sampling, stop=tuple(body.get("stop", ()))),
        )
        with self.owner.model_lock:
            [(_, _, found)] = list(self.owner.engine.generate([request]))
        text = {"message": {"role": "assistant", "content": found.text}} if chat else {"text": found.text}
        usage = {"prompt_tokens": found.prompt_tokens, "completion_tokens": found.completion_tokens}
        self.send(
            200, {"choices": [{"index": 0, **text, "finish_reason": found.finish_reason}], "usage": usage}
        )


def prompt(body: dict[str, Any]) -> str:
    """The last thing that is said to the model."""
    return str(body["messages"][-1]["content"] if "messages" in body else body["prompt"])


def status(code: int, headers: dict[str, str] | None = None, error: Any = "not now") -> Fault:
    return lambda handler: handler.send(code, {"error": error}, headers)


def reply(body: bytes) -> Fault:
    return lambda handler: handler.send(200, body)


def ended(reason: Any = "stop", text: str | None = ANSWER, **more: Any) -> Fault:
    """A completion that ended for this reason, in the form of the endpoint that is asked; ``more``: of the message."""

    def send(handler: Handler) -> None:
        message = {"role": "assistant", "content": text, **more}
        said = {"message": message} if handler.chat else {"text": text or ""}
        handler.send(200, {"choices": [{"index": 0, **said, "finish_reason": reason}]})

    return send


def choices(*of: dict[str, Any], usage: Any = None) -> Fault:
    return lambda handler: handler.send(200, {"choices": list(of), "usage": usage})


def broken(head: bytes, body: bytes = b"") -> Fault:
    """A reply of status 200 that ends before it is whole."""

    def send(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + body)
        handler.close_connection = True

    return send


def drop(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def hang(handler: Handler) -> None:
    time.sleep(1.5)
    handler.send(200, {})
