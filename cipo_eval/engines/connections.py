"""Connections to one server, and what goes wrong on them: HTTP, and nothing of what is said over it.

aiohttp, since httpx asks every connection on each request whether it has expired (``benchmarks/server_throughput.py``).
What a server sends has limits of size and time, redirects are not followed (they would carry the key elsewhere),
cookies are not kept, and the environment gives a proxy, never a password.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from cipo_eval.engines.addresses import proxy_of
from cipo_eval.engines.retries import Again
from cipo_eval.engines.servers import Target

MOST_BYTES = 64 << 20
"""Most bytes of one reply."""
_CONNECT_SECONDS = 30.0
_KEPT_SECONDS = 4.0
"""That an idle connection is kept: less than servers do (uvicorn five), or it closes under a request."""


class Reply(NamedTuple):
    """What came back."""

    status: int
    content: bytes
    pause: float | None
    """Seconds that ``Retry-After`` asks for."""


class Connections:
    """Connections to one server, kept between requests. Made and used on one event loop."""

    def __init__(self, target: Target, key: str, seconds: float) -> None:
        """``key``: sent with each request where it is not empty; ``seconds``: that a request may take."""
        self._url, self._proxy = target.url, proxy_of(target.url)
        self._seconds = seconds
        headers = {"Accept-Encoding": "gzip, deflate"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        resolver = _Fixed(target.address) if target.address else None
        self._session = aiohttp.ClientSession(
            # how many there are is the caller's affair
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEPT_SECONDS, resolver=resolver),
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=min(seconds, _CONNECT_SECONDS)),
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self.heard = float("-inf")
        """When a reply last began."""

    async def send(self, path: str, body: bytes | None) -> Reply:
        """The reply to a body (None: to a plain GET). Raises ``Again`` where there is none, or not a whole one."""
        how: Mapping[str, str] = {} if body is None else {"Content-Type": "application/json"}
        try:
            async with self._session.request(
                "GET" if body is None else "POST",
                f"{self._url}/{path}",
                data=body,
                headers=how,
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                self.heard = time.monotonic()
                content = await _read(response)
                return Reply(response.status, content, seconds_of(response.headers.get("Retry-After")))
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError) as error:
            raise Again("the server cannot be reached", str(error), unreachable=True) from error
        except TimeoutError as error:
            raise Again(f"no answer within {self._seconds:g} seconds") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Again("the connection broke", f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        await self._session.close()


class _Fixed(AbstractResolver):
    """A name stands for one address."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            {
                "hostname": host,
                "host": self._address,
                "port": port,
                "family": socket.AF_INET6 if ":" in self._address else socket.AF_INET,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
        ]

    async def close(self) -> None:
        """It holds nothing."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MOST_BYTES:
            raise Again(f"a reply of more than {MOST_BYTES >> 20} MiB")
        parts.append(part)
    return b"".join(parts)


def seconds_of(value: str | None) -> float | None:
    """``Retry-After``: seconds or a date; None where it is neither."""
    if not value:
        return None
    try:
        if value.strip().isdigit():
            return float(value)
        return parsedate_to_datetime(value).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return None
