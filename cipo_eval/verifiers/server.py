"""The fork server of the verifier pool, and what each worker that it forks does.

The server is a clean process that has imported the mathematics once: workers forked from it carry neither the caller's
threads nor its CUDA context, and start in milliseconds. It and its workers have sessions of their own and do not heed
the signals by which a run is stopped, so a signal to the run's process group never ends a grading. All of them end
with the process that they work for: the server kills its workers when that one is gone, and each worker looks for
itself, should the server have been killed too.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cipo_eval.records import Mode

SIZE = struct.Struct("<I")
"""The header of each message on a worker's socket: the bytes that follow."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_MANY_SECONDS = 600.0
"""Beyond such a limit a grading has limits of its own (programs): the kernel's is for mathematics."""


def serve(control: int, parent: int) -> None:
    """The server: forks a worker for each socket that it is sent, until ``parent`` is gone. Never returns."""
    import gc

    for number in _SIGNALS:  # handlers, not SIG_IGN: what a worker executes (a sandbox) must not inherit them
        signal.signal(number, _ignore)
    signal.signal(signal.SIGCHLD, _ignore)  # so that the wake-up descriptor tells of it
    os.dup2(2, 1)  # the standard output is for the results of the command
    from cipo_eval.verifiers import preload  # noqa: F401

    gc.collect()
    gc.freeze()  # workers share these pages
    requests = socket.socket(fileno=control)
    ended, ended_in = socket.socketpair()
    for end in (ended, ended_in):
        end.setblocking(False)
    signal.set_wakeup_fd(ended_in.fileno(), warn_on_full_buffer=False)
    children: set[int] = set()
    waiting = select.poll()
    for descriptor in (requests.fileno(), ended.fileno(), _process(parent)):
        waiting.register(descriptor, select.POLLIN)
    try:
        while True:
            ready = {descriptor for descriptor, _ in waiting.poll()}
            if ended.fileno() in ready:
                with contextlib.suppress(BlockingIOError):
                    ended.recv(4096)
                _reap(children)
            if requests.fileno() in ready:
                data, sockets, _, _ = socket.recv_fds(requests, 1 << 16, 1)
                if not data:
                    break
                child = os.fork()
                if child == 0:
                    waiting.unregister(requests.fileno())
                    requests.close()
                    _become_worker(sockets[0], parent, json.loads(data))
                children.add(child)
                for of_worker in sockets:
                    os.close(of_worker)
            elif not ready <= {ended.fileno()}:
                break  # the process that it works for is gone
    except OSError:
        pass
    for child in children:  # even one in the middle of a C call
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os._exit(0)


def _ignore(_number: int, _frame: object) -> None:
    return


def _process(pid: int) -> int:
    """A descriptor that can be read once the process is gone."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        os._exit(0)


def _reap(children: set[int]) -> None:
    while children:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        children.discard(pid)


def _become_worker(descriptor: int, parent: int, config: Mapping[str, Any]) -> None:
    """The child: grades what its socket sends until that closes. Never returns."""
    code = 1
    try:
        os.setsid()
        os.set_inheritable(descriptor, False)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for name, value in config["variables"].items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        sys.path[:] = config["path"]
        with contextlib.suppress(OSError, KeyError):
            os.chdir(config["folder"])
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (config["memory"], config["memory"]))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()
        _work(socket.socket(fileno=descriptor))
        code = 0
    except SystemExit as stopped:  # of a verifier
        code = stopped.code if isinstance(stopped.code, int) else 1
    except OSError:  # nobody listens any more
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _die_with(parent: int) -> None:
    """Ends this worker when the process that it works for is gone; its own parent is the fork server."""
    waiting = select.poll()
    waiting.register(_process(parent), select.POLLIN)
    waiting.poll()
    os._exit(1)


def _work(calls: socket.socket) -> None:
    """Says its process id, then answers call after call: number, processor seconds so far, and a pickle of what the
    call returned, or of the words of an error."""
    _send(calls, os.getpid())
    while True:
        number, limit, packed = pickle.loads(_take(calls, SIZE.unpack(_take(calls, SIZE.size))[0]))
        _limit_processor(limit)
        try:
            call, arguments = pickle.loads(packed)  # imports what the call needs
            answer = pickle.dumps(call(*arguments))
        except Exception as failure:  # a fault of ours in grading, or a grade that cannot be sent
            answer = pickle.dumps(f"{type(failure).__name__}: {failure}"[:500])
        _send(calls, (number, time.process_time(), answer))


def grade(verifier: str, gold: str, answer: str, options: str, mode: Mode) -> tuple[Any, float]:
    """The grade of one answer, made in this process, and the wall seconds that it took; ``options`` is JSON text."""
    from cipo_eval.verifiers import get_verifier

    started = time.perf_counter()
    judged = get_verifier(verifier).grade(gold, answer, json.loads(options), mode)
    return judged, time.perf_counter() - started


def _limit_processor(limit: float) -> None:
    """The kernel's own limit, for a worker in an endless C call whose server and caller were both killed."""
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(time.process_time() + 2 * limit) + 5 if limit <= _MANY_SECONDS else hard
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def _send(calls: socket.socket, message: Any) -> None:
    data = pickle.dumps(message)
    calls.sendall(SIZE.pack(len(data)) + data)


def _take(calls: socket.socket, size: int) -> bytes:
    """So many bytes. Raises ``OSError`` where the other side is gone."""
    parts = []
    while size:
        part = calls.recv(min(size, 1 << 20))
        if not part:
            raise OSError("the pool is gone")
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
