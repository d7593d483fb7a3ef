"""The connection to a Ray cluster: one a process, shared by all that works there.

Ray is imported here and nowhere else. Whoever can reach a cluster's ports can run programs on it: Ray asks nobody who
he is (docs/ray.md).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from typing import Any

from cipo_eval.errors import MissingError, UsageError, require

LOCAL = "local"
"""An address: a cluster of this machine alone, for as long as the connection."""
LOCAL_STORE_BYTES = 128 << 20
"""Shared memory of such a cluster's objects: what goes through it is text."""


def ray() -> Any:
    """The library. Raises ``MissingError`` where it is not installed."""
    os.environ.setdefault(
        "RAY_USAGE_STATS_ENABLED", "0"
    )  # before the import, or it reports what it is used for
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # nothing starts a cluster by itself
    require("ray", "a Ray cluster")
    import ray

    return ray


class Connection:
    """A context manager; several may be open at once, to one address, and the last one closes it."""

    _lock = threading.Lock()
    _open = 0
    _ours = False
    """Whether it was made here, and not by whoever called us."""
    _address: str | None = None

    def __init__(self, address: str) -> None:
        """``address``: ``auto``, ``local``, or host and port. Raises ``MissingError`` where no cluster is,
        ``UsageError`` where this process is connected to another one."""
        library = ray()
        self._closed = False
        with Connection._lock:
            if not Connection._open:
                Connection._ours = not library.is_initialized()
                if Connection._ours:
                    _connect(library, address)
                Connection._address = address
            elif address != Connection._address:
                raise UsageError(f"--address {address}: this process works at {Connection._address} already")
            Connection._open += 1

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Safe to call twice."""
        with Connection._lock:
            if self._closed:
                return
            self._closed = True
            Connection._open -= 1
            if not Connection._open and Connection._ours:
                ray().shutdown()


def _connect(library: Any, address: str) -> None:
    own = {"include_dashboard": False, "object_store_memory": LOCAL_STORE_BYTES} if address == LOCAL else {}
    handler = signal.getsignal(signal.SIGTERM)
    try:
        library.init(
            address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False, **own
        )
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, library.exceptions.RayError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise MissingError(
            f"--address {address}: no Ray cluster answers there ({said[0][:200]}); `ray start --head` starts one, "
            "--address local does without"
        ) from error
    finally:
        if threading.current_thread() is threading.main_thread():
            with contextlib.suppress(TypeError, ValueError):  # Ray puts its own there, which exits at once
                signal.signal(signal.SIGTERM, handler)


def nodes() -> dict[str, dict[str, float]]:
    """The nodes that are there now, by id, each with its resources (``CPU``, ``GPU``)."""
    return {node["NodeID"]: dict(node["Resources"]) for node in ray().nodes() if node["Alive"]}
