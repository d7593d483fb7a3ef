"""Starting a sandbox process: which files it may see, and bubblewrap around it where that works.

The interpreter inside is the one outside (its real executable), without site-packages except for a few libraries that
programs commonly import. A virtual environment as a whole must stay out: it holds benchmarks with their solutions.
"""

from __future__ import annotations

import functools
import json
import os
import queue
import secrets
import select
import shutil
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from pathlib import Path
from typing import Any

LIBRARIES = ("numpy", "numpy.libs", "scipy", "scipy.libs", "sympy", "mpmath", "sortedcontainers", "networkx")
"""Third-party packages that programs may import, where they are installed."""
# fmt: off
PRELOAD = (
    "abc", "array", "ast", "bisect", "cmath", "collections", "collections.abc", "contextlib", "copy",
    "csv", "dataclasses", "datetime", "decimal", "enum", "fractions", "functools", "hashlib", "heapq",
    "inspect", "io", "itertools", "json", "linecache", "math", "numbers", "operator", "os", "pprint",
    "queue", "random", "re", "statistics", "string", "struct", "sys", "textwrap", "threading", "time",
    "traceback", "types", "typing", "weakref", "zlib",
)
# fmt: on
"""Imported once, before the first program; a program's own import of them is then free."""
_MODULES = (
    "codec", "kernel", "protocol", "module_code", "standard_files", "sample", "judge", "zygote",
)  # fmt: skip
_HIDDEN = {"site-packages", "dist-packages", "test", "idlelib", "ensurepip", "__pycache__"}
LOOK_SECONDS = 0.5
"""Seconds of silence between two looks at whether a process of the sandbox is stopped (SIGSTOP)."""
STOPPED_SECONDS = 2.0
"""Seconds for which one may be stopped until the sandbox counts as broken."""
STACK = 1 << 30
"""Bytes of stack where the system allows it: judges of programming contests are as generous."""
# Runs first: a larger stack needs a new start; then the modules arrive on standard input.
_BOOT = f"""
import os, resource, sys
if len(sys.argv) < 2:
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    want = {STACK} if hard == resource.RLIM_INFINITY else min({STACK}, hard)
    if soft != resource.RLIM_INFINITY and soft < want:
        resource.setrlimit(resource.RLIMIT_STACK, (want, hard))
    os.execv(sys.executable, [sys.executable, *{["-s", "-S", "-P", "-B"]}, '-c', sys.orig_argv[-1], 'go'])
import json, types
def take(size):
    data = b''
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(3)
        data += part
    return data
config = json.loads(take(int.from_bytes(take(8), 'big')))
for name in ('cipo_eval', 'cipo_eval.sandbox'):
    sys.modules[name] = types.ModuleType(name)
for name, source in config['modules'].items():
    full = 'cipo_eval.sandbox.' + name
    module = sys.modules[full] = types.ModuleType(full)
    setattr(sys.modules['cipo_eval.sandbox'], name, module)
    exec(compile(source, name, 'exec'), module.__dict__)
control = (os.dup(0), os.dup(1))
sys.argv = ['']
sys.modules['cipo_eval.sandbox.zygote'].main(config, control)
"""


class Tier(IntEnum):
    """How well programs are confined; lower is better."""

    FULL = 1
    """Namespaces (bubblewrap), Landlock and seccomp."""
    CONTAINER = 2
    """Landlock and seccomp: what a typical container allows."""
    NAMESPACES = 3
    """Namespaces and seccomp: a kernel without Landlock."""
    UNSAFE = 4
    """Less than that: refused unless the user insists."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The layers of confinement that a sandbox process is to have."""

    bubblewrap: bool = True
    landlock: bool = True
    seccomp: bool = True

    @property
    def tier(self) -> Tier:
        if self.landlock and self.seccomp:
            return Tier.FULL if self.bubblewrap else Tier.CONTAINER
        return Tier.NAMESPACES if self.bubblewrap and self.seccomp else Tier.UNSAFE


LAYERS = {
    Tier.FULL: Layers(),
    Tier.CONTAINER: Layers(bubblewrap=False),
    Tier.NAMESPACES: Layers(landlock=False),
    Tier.UNSAFE: Layers(bubblewrap=False, landlock=False, seccomp=False),
}


@dataclass(frozen=True, slots=True)
class View:
    """Paths that a sandboxed interpreter needs."""

    readable: tuple[str, ...]
    listable: tuple[str, ...]
    """Folders whose names may be listed (imports do), not read."""
    sys_path: tuple[str, ...]
    executable: str
    libraries: tuple[str, ...]
    """Of ``readable``, third-party packages."""


@functools.cache
def view() -> View:
    """What this interpreter needs to start and to import the standard library and ``LIBRARIES``."""
    executable = os.path.realpath(getattr(sys, "_base_executable", "") or sys.executable)
    standard = Path(sysconfig.get_path("stdlib"))
    readable = [str(path) for path in sorted(standard.iterdir()) if path.name not in _HIDDEN]
    # __pycache__ holds the compiled standard library
    readable += [str(standard / "__pycache__"), executable]
    prefix = Path(sys.base_prefix)
    readable += [str(path) for path in (prefix / "lib").glob("libpython*.so*")]
    for folder in ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"):
        top = Path(folder)
        if top.is_dir():
            readable += [str(path) for path in top.iterdir() if ".so" in path.name]
            readable += [str(path) for path in top.glob("*-linux-*") if path.is_dir()]
    readable += [
        path
        for path in ("/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo", "/dev/null", "/dev/zero")
        if Path(path).exists()
    ]
    readable += [path for path in ("/dev/urandom", "/dev/random") if Path(path).exists()]
    site = [Path(folder) for folder in dict.fromkeys(sysconfig.get_path(n) for n in ("purelib", "platlib"))]
    libraries = [str(folder / name) for folder in site for name in LIBRARIES if (folder / name).exists()]
    return View(
        readable=(*readable, *libraries),
        listable=(str(standard), *map(str, site)),
        sys_path=(str(standard), str(standard / "lib-dynload"), *map(str, site)),
        executable=executable,
        libraries=tuple(libraries),
    )


# Root of the system needs no user namespace. In one it would stay root to the kernel, whose threads are not limited; so
# the zygote becomes another user, for which it keeps these capabilities until it has (``kernel.drop_privileges``).
_AS_ROOT = ["--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
_AS_ROOT += ["--cap-drop", "ALL"]
_AS_ROOT += [part for name in ("SETUID", "SETGID", "SETPCAP") for part in ("--cap-add", f"CAP_{name}")]
_AS_USER = ["--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--cap-drop", "ALL"]


@functools.cache
def bubblewrap() -> list[str] | None:
    """Command of a bubblewrap that works here, or None."""
    program = shutil.which("bwrap")
    if program is None:
        return None
    for identity in (_AS_ROOT, _AS_USER) if os.geteuid() == 0 else (_AS_USER,):
        command = _bubblewrap_command(program, identity)
        try:
            trial = [*command, view().executable, "-S", "-c", "print(7)"]
            done = subprocess.run(trial, capture_output=True, timeout=20, check=False)
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0 and done.stdout.strip() == b"7":
            return command
    return None


def _bubblewrap_command(program: str, identity: Sequence[str]) -> list[str]:
    """Namespaces of its own for everything, no capability, and of the file system only what the view holds."""
    seen = view()
    command = [program, *identity]
    command += ["--hostname", "sandbox", "--new-session", "--die-with-parent", "--clearenv"]
    for name, value in environment().items():
        command += ["--setenv", name, value]
    command += ["--dev", "/dev", "--tmpfs", "/tmp"]  # before the rest, which may lie below /tmp
    for folder in ("/lib", "/lib64", "/lib32", "/bin", "/sbin"):
        if Path(folder).is_symlink():
            command += ["--symlink", str(Path(folder).readlink()), folder]
    hidden = [folder for folder in seen.listable[1:] if folder.startswith(seen.listable[0] + os.sep)]
    command += ["--ro-bind", seen.listable[0], seen.listable[0]]
    command += [
        part for name in sorted(_HIDDEN - {"__pycache__"}) for part in _masked(seen.listable[0], name)
    ]
    for folder in seen.listable[1:]:
        command += [] if folder in hidden else ["--dir", folder]
    for path in seen.readable:
        inside = path.startswith(seen.listable[0] + os.sep) and path not in seen.libraries
        if not inside and not path.startswith("/dev/") and not _through_symlink(path):
            command += ["--ro-bind", path, path]
    command += ["--chdir", "/tmp"]
    for folder in ("/tmp", "/dev", "/"):
        command += ["--remount-ro", folder]
    return command


def _masked(standard: str, name: str) -> list[str]:
    path = Path(standard, name)
    return ["--tmpfs", str(path)] if path.is_dir() else []


def _through_symlink(path: str) -> bool:
    """Below a folder such as /lib that is a link here, and will be one there."""
    return Path("/", *Path(path).parts[1:2]).is_symlink()


def environment() -> dict[str, str]:
    """All that sandboxed processes see of an environment. A fixed hash seed: the order of sets is reproducible."""
    return {
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONUTF8": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "HOME": "/tmp",
    }


class _Starter(threading.Thread):
    """Starts processes. Bubblewrap ends with the thread that started it, and this one lives as long as the program."""

    def __init__(self) -> None:
        super().__init__(name="sandbox-starter", daemon=True)
        self.queue: queue.SimpleQueue[tuple[Future[subprocess.Popen[bytes]], tuple[Any, ...]]] = (
            queue.SimpleQueue()
        )
        self.start()

    def run(self) -> None:
        while True:
            future, arguments = self.queue.get()
            try:
                future.set_result(_start(*arguments))
            except BaseException as error:
                future.set_exception(error)


_starter = functools.cache(_Starter)
os.register_at_fork(after_in_child=_starter.cache_clear)


def start(role: str, layers: Layers, preload: Sequence[str] = ()) -> subprocess.Popen[bytes]:
    """Starts a sandbox process and gives it its modules; its HELLO frame follows on standard output.

    Raises ``OSError`` where it cannot be started.
    """
    future: Future[subprocess.Popen[bytes]] = Future()
    _starter().queue.put((future, (role, layers, preload)))
    return future.result()


def _start(role: str, layers: Layers, preload: Sequence[str]) -> subprocess.Popen[bytes]:
    seen = view()
    around = bubblewrap() if layers.bubblewrap else []
    if around is None:
        raise OSError("bubblewrap does not work here")
    command = [*around]
    command += [seen.executable, "-s", "-S", "-P", "-B", "-c", _BOOT]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
        cwd="/",
        close_fds=True,
        start_new_session=True,  # Ctrl-C is for the harness, which ends its sandboxes itself
        bufsize=0,
    )
    config: dict[str, Any] = {
        "modules": _sources(),
        "role": role,
        "preload": [*PRELOAD, *preload],
        "sys_path": seen.sys_path,
        "readable": seen.readable,
        "listable": seen.listable,
        "landlock": layers.landlock,
        "seccomp": layers.seccomp,
        "uid": 200_000 + secrets.randbelow(400_000),  # one each: threads are counted by user
    }
    body = json.dumps(config).encode("utf-8")
    assert process.stdin is not None
    try:
        _give(process, len(body).to_bytes(8, "big") + body)
    except OSError:
        process.kill()
        process.wait()
        raise
    return process


def _give(process: subprocess.Popen[bytes], body: bytes) -> None:
    """Writes to a process that may be stopped, or killed. Raises ``OSError`` where it does not read."""
    assert process.stdin is not None
    fd, left = process.stdin.fileno(), memoryview(body)
    os.set_blocking(fd, False)
    writable, looks = select.poll(), 0
    writable.register(fd, select.POLLOUT)
    while left:
        if writable.poll(LOOK_SECONDS * 1000):
            left, looks = left[os.write(fd, left) :], 0
            continue
        if process.poll() is not None:  # one below it may still hold the other end, and will not read
            raise OSError("it has ended")
        looks = looks + 1 if stopped(process.pid) else 0
        if looks * LOOK_SECONDS >= STOPPED_SECONDS:
            raise OSError("it was stopped")
    os.set_blocking(fd, True)


def stopped(pid: int) -> bool:
    """Whether a process or one of those below it is stopped (SIGSTOP)."""
    pids = [pid]
    while pids:
        pid = pids.pop()
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "tT":
                return True
            pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        except (OSError, IndexError):  # it has ended
            continue
    return False


@functools.cache
def _sources() -> dict[str, str]:
    folder = resources.files("cipo_eval.sandbox")
    return {name: (folder / f"{name}.py").read_text(encoding="utf-8") for name in _MODULES}
