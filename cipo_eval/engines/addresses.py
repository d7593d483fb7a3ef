"""Where servers are: what ``--base-url`` says, as a list of servers.

An entry is the address of a server, or ``@file`` with one address a line, which is read again when it changes. A name
that stands for several addresses stands for as many servers.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from cipo_eval.engines.options import SERVER_EXAMPLE, check_url
from cipo_eval.engines.servers import Target
from cipo_eval.errors import MissingError, UsageError, reason

LOOK_SECONDS = 1.0
"""Between two looks at a file of addresses."""
RESOLVE_SECONDS = 30.0
"""Between two looks at what names stand for."""
_MOST_BYTES = 1 << 20
"""Of a file of addresses."""

_Stamp = tuple[int, int, int]
"""Of a file: when it was changed, its size, and which file it is."""


def proxy_of(url: str) -> str | None:
    """The proxy that the environment has for an address (``HTTPS_PROXY``, ``NO_PROXY`` …). Raises ``UsageError`` for
    one that does not speak HTTP."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or ""):
        return None
    if not proxy.startswith(("http://", "https://")):
        raise UsageError(
            f"the environment's proxy for {parts.scheme} is no HTTP proxy: "
            f"set NO_PROXY={parts.hostname}, or another proxy"
        )
    return proxy


class Addresses:
    """What the entries of ``--base-url`` stand for at the moment."""

    def __init__(
        self, entries: Sequence[str], variable: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """``entries``: checked addresses, and ``@file``; ``variable``: of the key. Raises ``UsageError``,
        ``MissingError`` for a file without any."""
        self._entries, self._variable, self._clock = entries, variable, clock
        self._files = {entry: Path(entry[1:]).absolute() for entry in entries if entry.startswith("@")}
        self._read: dict[str, list[str]] = {entry: self._lines(entry) for entry in self._files}
        self._stamps = {entry: _stamp(path) for entry, path in self._files.items()}
        self._seen = dict(self._stamps)
        self._resolved: dict[str, list[str]] = {}
        self._resolved_at = float("-inf")
        self.complaint = ""
        """Why the latest contents of a file were not taken; empty: they were."""

    @property
    def may_change(self) -> bool:
        """Whether there is anything to look at again."""
        return bool(self._files) or any(_is_name(url) for url in self._urls())

    async def targets(self) -> list[Target]:
        """The servers. A file that cannot be used any more, or a name that is not known any more, stands for what it
        stood for before."""
        for entry in self._files:
            self._look(entry)
        await self._resolve()
        return list(dict.fromkeys(target for url in self._urls() for target in self._targets(url)))

    def _urls(self) -> list[str]:
        return [url for entry in self._entries for url in self._read.get(entry, [entry])]

    def _look(self, entry: str) -> None:
        """Reads a file that has changed, and has not since the look before: one that is being written is left alone."""
        stamp, before = _stamp(self._files[entry]), self._seen[entry]
        self._seen[entry] = stamp
        if stamp is None or stamp != before or stamp == self._stamps[entry]:
            return
        self._stamps[entry] = stamp
        try:
            self._read[entry] = self._lines(entry)
            self.complaint = ""
        except (UsageError, MissingError) as error:
            self.complaint = f"{error}; the servers that it listed before are used"

    def _lines(self, entry: str) -> list[str]:
        path = self._files[entry]
        try:
            with path.open("rb") as file:
                content = file.read(_MOST_BYTES + 1)
            if len(content) > _MOST_BYTES:
                raise UsageError(f"--base-url {entry}: a list of servers is not that long")
            lines = content.decode("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(f"--base-url {entry} cannot be read: {reason(error)}") from error
        urls = [
            check_url(line.strip(), f"--base-url {entry}, line {number}:", self._variable)
            for number, line in enumerate(lines, 1)
            if line.strip() and not line.lstrip().startswith("#")
        ]
        if not urls:
            raise MissingError(
                f"--base-url {entry} lists no server: write one address a line, {SERVER_EXAMPLE}"
            )
        return urls

    async def _resolve(self) -> None:
        """Looks up what names stand for: those not seen before at once, the others every so often."""
        names = [url for url in dict.fromkeys(self._urls()) if _is_name(url)]
        if self._clock() - self._resolved_at >= RESOLVE_SECONDS:
            self._resolved_at = self._clock()
        else:
            names = [url for url in names if url not in self._resolved]
        resolved = await asyncio.gather(*(_addresses(url) for url in names))
        for url, addresses in zip(names, resolved, strict=True):
            if addresses or url not in self._resolved:
                self._resolved[url] = addresses

    def _targets(self, url: str) -> list[Target]:
        addresses = self._resolved.get(url, [])
        return [Target(url, address) for address in addresses] if len(addresses) > 1 else [Target(url)]


def _is_name(url: str) -> bool:
    """Whether the host is a name that is looked up here: no number, and no proxy that looks it up itself."""
    host = urlsplit(url).hostname or ""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost" and proxy_of(url) is None
    return False


async def _addresses(url: str) -> list[str]:
    """The addresses of a name, in order, of the family that is preferred here: a machine with one of each kind is one
    server. None where the name is not known."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        entries = await asyncio.get_running_loop().getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    preferred = [str(entry[4][0]) for entry in entries if entry[0] == entries[0][0]]
    return sorted(dict.fromkeys(preferred))


def _stamp(path: Path) -> _Stamp | None:
    try:
        info = path.stat()
    except OSError:
        return None
    return info.st_mtime_ns, info.st_size, info.st_ino
