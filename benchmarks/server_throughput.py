"""How many requests a second the ``openai`` engine gets through, beside an older tree of this project and bare clients.

The server is a process of its own with one answer to all, at once or after a while (``tests/fast_server.py``). Each
client is a process as well; what counts are answers per second of the clock and of its processor time. ``raw`` writes
bytes and looks for bytes: the server's own limit. ``aiohttp`` and ``httpx`` are the bare client libraries with the same
body, ``engine`` is this tree's engine, ``old`` that of ``--old TREE``. The last line is one JSON object.

    git worktree add /tmp/old 5da6e9e
    python benchmarks/server_throughput.py --old /tmp/old
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
CONCURRENCIES = (1, 32, 256)
DELAYS = (0.0, 0.02)
PROMPT = "What is 2+2? " * 20
BODY = {
    "model": "tiny",
    "max_tokens": 100,
    "temperature": 1.0,
    "top_p": 1.0,
    "seed": 5,
    "stream": False,
    "messages": [{"role": "user", "content": PROMPT}],
}

Counted = Callable[[], bool]
"""Counts an answer; false where enough time has passed."""


class Meter:
    """Answers between the end of a warm-up and the end of the time."""

    def __init__(self, warm_up: int, seconds: float) -> None:
        self.warm_up, self.seconds = warm_up, seconds
        self.answers = 0
        self._lock = threading.Lock()

    def __call__(self) -> bool:
        with self._lock:
            self.answers += 1
            if self.answers <= self.warm_up:
                self.started, self.started_cpu = time.perf_counter(), time.process_time()
                return True
            took = time.perf_counter() - self.started
            if took < self.seconds:
                self.told = (self.answers - self.warm_up, took, time.process_time() - self.started_cpu)
                return True
            return False

    def result(self) -> dict[str, float]:
        answers, clock, processor = self.told
        return {
            "per_second": round(answers / clock, 1),
            "per_processor_second": round(answers / processor, 1),
        }


def raw(url: str, concurrency: int, count: Counted) -> None:
    """Fixed bytes out, a fixed reply in."""
    port = int(url.split(":")[2].split("/")[0])
    body = json.dumps(BODY).encode()
    asked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    async def go() -> None:
        done = asyncio.get_running_loop().create_future()

        class Client(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                self.transport = transport
                transport.write(asked)

            def data_received(self, _: bytes) -> None:
                if count():
                    self.transport.write(asked)
                elif not done.done():
                    done.set_result(None)

        for _ in range(concurrency):
            await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
        await done

    asyncio.run(go())


async def workers(concurrency: int, count: Counted, one: Callable[[], Awaitable[bytes]]) -> None:
    """So many coroutines that ask one after the other."""

    async def work() -> None:
        while True:
            json.loads(await one())
            if not count():
                return

    await asyncio.gather(*(work() for _ in range(concurrency)))


def with_aiohttp(url: str, concurrency: int, count: Counted) -> None:
    import aiohttp

    async def go() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def one() -> bytes:
                async with session.post(f"{url}/chat/completions", json=BODY) as response:
                    return await response.read()

            await workers(concurrency, count, one)

    asyncio.run(go())


def with_httpx(per_pool: int) -> Callable[[str, int, Counted], None]:
    """httpx with so many connections a pool (0: one pool)."""

    def client(url: str, concurrency: int, count: Counted) -> None:
        from huggingface_hub import utils

        httpx: Any = utils.httpx  # type: ignore[attr-defined]
        size = per_pool or concurrency

        async def go() -> None:
            limits = httpx.Limits(max_connections=size)
            pools = [
                httpx.AsyncClient(limits=limits, timeout=600) for _ in range(max(1, concurrency // size))
            ]
            turn = itertools.cycle(pools)

            async def one() -> bytes:
                found: bytes = (await next(turn).post(f"{url}/chat/completions", json=BODY)).content
                return found

            await workers(concurrency, count, one)

        asyncio.run(go())

    return client


def with_threads(url: str, concurrency: int, count: Counted) -> None:
    """http.client, a connection and a thread for each request under way."""
    import http.client

    def work() -> None:
        connection = http.client.HTTPConnection(url.split("/")[2])
        while True:
            connection.request("POST", "/v1/chat/completions", json.dumps(BODY).encode())
            json.loads(connection.getresponse().read())
            if not count():
                return

    threads = [threading.Thread(target=work) for _ in range(concurrency)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def engine(url: str, concurrency: int, count: Counted) -> None:
    """The engine of the tree that is first on the path."""
    from cipo_eval.engines.openai import OpenAIEngine
    from cipo_eval.engines.options import OpenAIOptions
    from cipo_eval.records import Problem, Request, Sampling

    sampling = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=100)
    problem = Problem(task="t", id="p", index=0, question="", prompt=PROMPT, gold="4")
    request = Request(
        problem=problem,
        messages=({"role": "user", "content": PROMPT},),
        samples=tuple(range(200_000)),
        seeds=tuple(range(200_000)),
        sampling=sampling,
    )
    asking = OpenAIEngine("tiny", OpenAIOptions(base_url=url, concurrency=concurrency))  # type: ignore[arg-type]
    for _, _, completion in asking.generate([request]):
        assert getattr(completion, "text", ""), completion
        if not count():
            break
    asking.close()


CLIENTS: dict[str, Callable[[str, int, Counted], None]] = {
    "raw": raw,
    "aiohttp": with_aiohttp,
    "engine": engine,
    "old": engine,
    "httpx": with_httpx(0),
    "httpx, pools of 8": with_httpx(8),
    "threads": with_threads,
}


def measured(name: str, url: str, concurrency: int, seconds: float, tree: Path) -> dict[str, float]:
    """What a client in a process of its own gets through."""
    command = [sys.executable, __file__, "--child", name, "--url", url, "--concurrency", str(concurrency)]
    said = subprocess.run(
        [*command, "--seconds", str(seconds)],
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(said.stdout.splitlines()[-1])
    return found


def child(arguments: argparse.Namespace) -> None:
    meter = Meter(2 * arguments.concurrency, arguments.seconds)
    CLIENTS[arguments.child](arguments.url, arguments.concurrency, meter)
    print(json.dumps(meter.result()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--old", type=Path, help="another tree of this project, the peer")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--clients", action="store_true", help="also bare clients that were not chosen")
    parser.add_argument("--child", choices=tuple(CLIENTS), help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--concurrency", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments)
        return
    names = ["raw", "aiohttp", "engine", *(["old"] if arguments.old else [])]
    names += ["httpx", "httpx, pools of 8", "threads"] if arguments.clients else []
    sys.path.insert(0, str(ROOT / "tests"))
    from fast_server import FastServer

    found: dict[str, dict[str, float]] = {}
    for delay in DELAYS:
        with FastServer(delay, canned=True) as server:
            for concurrency in CONCURRENCIES:
                for name in names:
                    tree = arguments.old if name == "old" else ROOT
                    rate = measured(name, server.url, concurrency, arguments.seconds, tree.resolve())
                    found[f"{name}, {concurrency} at once, after {delay * 1000:g} ms"] = rate
                    clock, processor = rate["per_second"], rate["per_processor_second"]
                    print(
                        f"after {delay * 1000:2g} ms, {concurrency:3} at once, {name:18}{clock:9.1f} a second,"
                        f"{processor:9.1f} a processor second",
                        flush=True,
                    )
    print(json.dumps({"benchmark": "server_throughput", "seconds": arguments.seconds, "rates": found}))


if __name__ == "__main__":
    main()
