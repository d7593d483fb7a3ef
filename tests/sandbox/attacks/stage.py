"""What attacks aim at, and whether they hit it: files, secrets, listeners, a process, seen from outside.

Standard library only. Leaves the process that uses it the reaper of orphans, so that nothing that was started can hide.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType

from . import Attack, Report

_SHARED = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/", "/root", "/dev")
HARNESS_MEMORY = 600 << 20
"""Bytes by which a harness may grow through one program."""


class Stage:
    """A folder, secrets, listeners and a victim, all for one run of many attacks. A context manager."""

    def __init__(
        self, *, human_eval: str = "/nowhere", tasks: str = "/nowhere", source: str = "/nowhere"
    ) -> None:
        token = random.SystemRandom().getrandbits(40)
        self.expected = random.SystemRandom().getrandbits(59) | 1 << 58
        self.secrets = {
            kind: f"SECRET-{kind.upper()}-{token}"
            for kind in ("file", "home", "cache", "environment", "argument")
        }
        self.folder = Path(tempfile.mkdtemp(prefix="stage-"))
        self.folder.chmod(0o777)
        self.home, self.cache = self.folder / "home", self.folder / "cache"
        self._lists = {"human_eval": human_eval, "tasks": tasks, "source": source}
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # orphans below this process become its children
        self.threads = 600
        """More of one program are harm."""
        self.gib = 3
        """Gigabytes that attacks on memory ask for."""
        self.memory = f"SECRET-IN-MEMORY-{token}"
        self._build()

    def _build(self) -> None:
        for folder in (self.home, self.cache):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        for path, secret in (
            (self.folder / "secret.txt", self.secrets["file"]),
            (self.home / ".netrc", self.secrets["home"]),
            (self.cache / "tests.json", f'{{"expected": "{self.secrets["cache"]}"}}'),
        ):
            path.write_text(secret + "\n")
            path.chmod(0o644)
        self.precious = self.folder / "precious.txt"
        self.precious.write_text("precious\n")
        self.precious.chmod(0o666)
        self._sockets = {
            "tcp": socket.create_server(("127.0.0.1", 0)),
            "udp": socket.socket(socket.AF_INET, socket.SOCK_DGRAM),
            "unix": socket.socket(socket.AF_UNIX),
            "abstract": socket.socket(socket.AF_UNIX),
            "datagram": socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM),
        }
        self._sockets["udp"].bind(("127.0.0.1", 0))
        self._sockets["unix"].bind(str(self.folder / "unix"))
        self._sockets["abstract"].bind(f"\0stage-{os.getpid()}")
        self._sockets["datagram"].bind(str(self.folder / "datagram"))
        for name in ("unix", "datagram"):
            (self.folder / name).chmod(0o777)
        for name in ("unix", "abstract"):
            self._sockets[name].listen()
        for listener in self._sockets.values():
            listener.setblocking(False)
        code = f"import time; secret = {self.secrets['argument']!r}; time.sleep(1e6)"
        nothing = subprocess.DEVNULL  # it may live longer than whoever reads what we write
        self.victim = subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdin=nothing, stdout=nothing, stderr=nothing
        )
        self._state = self._files()

    def __enter__(self) -> Stage:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tear_down()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _tear_down(self) -> None:
        self.victim.kill()
        self.victim.wait()
        for listener in self._sockets.values():
            listener.close()
        for name in ("unix", "datagram"):
            (self.folder / name).unlink(missing_ok=True)

    def environment(self) -> dict[str, str]:
        """What the harness has in its environment."""
        return {
            "OPENAI_API_KEY": self.secrets["environment"],
            "CIPO_EVAL_CACHE": str(self.cache),
            "HOME": str(self.home),
        }

    def fill(self, program: str) -> str:
        """A program with the stage's values."""
        values = {
            "FOLDER": str(self.folder),
            "SECRET": str(self.folder / "secret.txt"),
            "PRECIOUS": str(self.precious),
            "HOME": str(self.home),
            "CACHE": str(self.cache),
            "UNIX": str(self.folder / "unix"),
            "DATAGRAM": str(self.folder / "datagram"),
            "ABSTRACT": f"stage-{os.getpid()}",
            "PORT": self._sockets["tcp"].getsockname()[1],
            "UDP": self._sockets["udp"].getsockname()[1],
            "VICTIM": self.victim.pid,
            "HARNESS": os.getpid(),
            "EXPECTED": self.expected,
            "THREADS": self.threads,
            "GIB": self.gib,
            **{name.upper(): path for name, path in self._lists.items()},
        }
        for name, value in values.items():
            program = program.replace(f"@{name}@", repr(value))
        return program

    # --- what has happened ----------------------------------------------------------------------------------

    def harm(self, attack: Attack, report: Report) -> list[str]:
        """What the attack did, in words; and all is put right again."""
        harm = list(report.problems)
        if report.passed:
            harm.append("judged right")
        if "HARM" in report.text:
            harm.append(report.text[report.text.index("HARM") :][:160])
        harm += [
            f"learnt the {kind} secret" for kind, secret in self.secrets.items() if secret in report.text
        ]
        if self.memory in report.text:
            harm.append("learnt the secret in memory")
        if str(self.expected) in report.text and not report.passed:
            harm.append("learnt the expected value")
        if report.seconds > attack.seconds:
            harm.append(f"took {report.seconds:.1f} s")
        special = attack.harm(report)
        return [*harm, *([special] if special else []), *self._effects()]

    def _effects(self) -> list[str]:
        harm = []
        if (state := self._files()) != self._state:
            harm.append(f"files changed: {sorted(set(state) ^ set(self._state))}")
        for folder in _SHARED:
            for name in ("cipo-attack", "left", "cipo-attack-link"):
                path = Path(folder, name)
                with contextlib.suppress(OSError):
                    if path.is_symlink() or path.exists():
                        path.unlink()
                        harm.append(f"made {path}")
        for name, listener in self._sockets.items():
            with contextlib.suppress(OSError):
                listener.recv(9) if listener.type == socket.SOCK_DGRAM else listener.accept()
                harm.append(f"reached the {name} listener")
        if (end := self.victim.poll()) is not None:
            harm.append(f"the victim is dead ({end})")
        else:
            with contextlib.suppress(OSError):
                what = Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()[0]
                if what in "Tt":
                    harm.append("the victim is stopped")
        harm += self._ipc()
        if harm:
            self._tear_down()
            for path in self.folder.iterdir():
                path.unlink() if path.is_symlink() or not path.is_dir() else shutil.rmtree(path)
            self._build()
        return harm

    def _ipc(self) -> list[str]:
        harm = []
        for kind in ("shm", "msg", "sem"):
            with contextlib.suppress(OSError):
                for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]:
                    key, number = line.split()[:2]
                    if int(key) == 0xC1B0:
                        libc = ctypes.CDLL(None)
                        {"shm": libc.shmctl, "msg": libc.msgctl, "sem": lambda n, *_: libc.semctl(n, 0, 0)}[
                            kind
                        ](int(number), 0, None)
                        harm.append(f"made a System V {kind}")
        return harm

    def _files(self) -> frozenset[tuple[object, ...]]:
        entries = []
        for top, folders, files in os.walk(self.folder):
            for name in (*folders, *files):
                path = Path(top, name)
                status = path.lstat()
                content = path.read_bytes() if path.is_file() else b""
                changed = status.st_mtime_ns if path.is_file() else 0
                marks = tuple(os.listxattr(path)) if path.is_file() else ()
                entries.append(
                    (str(path), status.st_mode, status.st_uid, status.st_nlink, changed, content, marks)
                )
        return frozenset(entries)


def descendants(pid: int) -> dict[int, str]:
    """Processes below one, with their states; threads of zombies and the like included."""
    parents: dict[int, list[tuple[int, str]]] = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                state, parent = Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()[:2]
                parents.setdefault(int(parent), []).append((int(name), state))
    states: dict[int, str] = {}
    queue = [pid]
    while queue:
        for child, state in parents.get(queue.pop(), ()):
            states[child] = state
            queue.append(child)
    return states


def leftovers(before: set[int], patience: float = 1.0) -> list[str]:
    """Processes below this one that were not there before; they are killed."""
    end = time.monotonic() + patience
    while True:
        new = {pid for pid, state in descendants(os.getpid()).items() if pid not in before and state != "Z"}
        if not new or time.monotonic() > end:
            break
        time.sleep(0.02)
    for pid in new:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    return [f"{len(new)} processes are left"] if new else []


def peak_memory() -> int:
    """The most that this process has ever used, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
