"""The fork server from outside: one process for all pools, started when the first worker is needed.

Workers do not depend on it once they run. Where it has died, it is started anew.
"""

from __future__ import annotations

import atexit
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

_PASSED_ON = ("CIPO_EVAL_CACHE", "XDG_CACHE_HOME", "HOME", "CIPO_EVAL_SANDBOX_TIER")
"""Variables that workers follow as they are now; the fork server keeps those of its own start."""
_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from cipo_eval.verifiers.server import serve; "
    "serve(int(sys.argv[2]), int(sys.argv[3]))"
)


class ForkServer:
    """The process that forks workers; started when the first one is needed, and again where it has died."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._next = 0.0

    def start_worker(self, end: socket.socket, memory_limit: int) -> None:
        """Has a worker forked that serves the socket ``end`` and may use ``memory_limit`` bytes of address space. It
        sends its process id first; where it could not be forked, the socket closes. Raises ``OSError`` without a
        server."""
        config = {
            "variables": {name: os.environ.get(name) for name in _PASSED_ON},
            "path": sys.path,
            "folder": _folder(),
            "memory": memory_limit,
        }
        with self._lock:
            self._ensure()
            assert self._control is not None
            socket.send_fds(self._control, [json.dumps(config).encode()], [end.fileno()])

    def ensure(self) -> None:
        """Starts the server unless it runs. Raises ``OSError`` where it cannot be started, and for half a second after
        a start: a server that dies at once must not be started over and over."""
        with self._lock:
            self._ensure()

    def _ensure(self) -> None:
        if self._process is not None and self._process.poll() is None:
            return
        now = time.monotonic()
        if now < self._next:
            raise BlockingIOError("the fork server died a moment ago")
        self._next = now + 0.5
        self._forget()
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control.setblocking(False)
        arguments = [json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    @property
    def pid(self) -> int | None:
        """The server's process id, if one was started."""
        process = self._process
        return process.pid if process else None

    def kill(self) -> None:
        """Ends the server; workers that it has forked go on."""
        with self._lock:
            if self._process is not None:
                self._process.kill()
                self._process.wait()

    def leave(self) -> None:
        """In a fork of the process: gives up the server, which is the parent's, without ending it."""
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        if self._control is not None:
            self._control.close()
        self._process = self._control = None


server = ForkServer()
"""The one fork server of this process; a fork of the process leaves it and gets its own."""
os.register_at_fork(after_in_child=server.leave)
atexit.register(server.kill)  # one that is stopped would not notice our end


def _folder() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was deleted
        return "/"
