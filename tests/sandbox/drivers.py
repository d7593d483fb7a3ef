"""Runs the attacks as root and as another user, at each tier, in processes of their own, ahead of the tests that ask."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
USER = 54321
"""Neither root nor anybody that a system has."""
HANG_SECONDS = 120.0


class Unavailable(Exception):  # noqa: N818
    """Why attacks cannot be run in some way here."""


def interpreter(user: str) -> list[str]:
    """The command of a Python that this user may run. Raises ``Unavailable``."""
    if user == "root":
        if os.geteuid() != 0:
            raise Unavailable("not root here")
        return [sys.executable]
    if os.geteuid() != 0:
        return [sys.executable]
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise Unavailable("setpriv (util-linux) is not installed")
    become = [setpriv, f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--inh-caps=-all"]
    # It starts even where that user may not read it: setpriv has its capabilities until then.
    check = "import os, sys; sys.exit(sys.version_info < (3, 11) or not os.access(sys.executable, os.X_OK))"
    for python in (sys.executable, "/usr/bin/python3"):
        if (
            subprocess.run([*become, python, "-S", "-c", check], capture_output=True, check=False).returncode
            == 0
        ):
            return [*become, python]
    raise Unavailable("another user may not run this interpreter, and there is no other of 3.11 or later")


@functools.cache
def packages() -> Path:
    """A copy of what is needed, which every user may read."""
    folder = Path(tempfile.mkdtemp(prefix="cipo-eval-attacks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    shutil.copytree(
        ROOT / "cipo_eval/sandbox", folder / "cipo_eval/sandbox", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("__init__.py", "errors.py"):
        shutil.copy(ROOT / "cipo_eval" / name, folder / "cipo_eval")
    shutil.copytree(
        ROOT / "tests/sandbox/attacks",
        folder / "sandbox/attacks",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (folder / "sandbox/__init__.py").touch()
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


class Driver:
    """One process that attacks one sandbox. A context manager; not for several threads."""

    def __init__(self, user: str, layers: str) -> None:
        self._command = [*interpreter(user), "-m", "sandbox.attacks.ours", layers]
        self._environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        self._environment["PYTHONPATH"] = str(packages()) if user != "root" else f"{ROOT}/tests:{ROOT}"
        self.hello: dict[str, Any] = {}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Driver:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def attack(self, name: str) -> dict[str, Any]:
        """What one attack did: ``harm``, a list of words, and ``seconds``."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self._environment,
                cwd="/",
            )
            self.hello = self._line("the driver does not start")
            if "harm" in self.hello:
                return self.hello
        assert self._process.stdin is not None
        self._process.stdin.write(name + "\n")
        self._process.stdin.flush()
        return self._line("the harness is dead")

    def _line(self, problem: str) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        alarm = threading.Timer(HANG_SECONDS, self._process.kill)
        alarm.start()
        line = self._process.stdout.readline()
        alarm.cancel()
        if line:
            return dict(json.loads(line))
        self._process.kill()
        _, errors = self._process.communicate()
        self._process = None
        return {"harm": [f"{problem}: {errors[-2000:]}"], "seconds": 0.0}

    def close(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None


class Ahead:
    """A driver that works through a list in a thread while tests look at its results one by one."""

    def __init__(self, user: str, layers: str, names: list[str]) -> None:
        self._driver = Driver(user, layers)
        self._results: dict[str, Future[dict[str, Any]]] = {name: Future() for name in names}
        self._stop = False
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        for name, future in self._results.items():
            if self._stop:
                break
            try:
                future.set_result(self._driver.attack(name))
            except BaseException as error:
                future.set_exception(error)
        self._driver.close()

    def result(self, name: str) -> dict[str, Any]:
        return self._results[name].result(600)

    def wait(self) -> None:
        """Until it has worked through its list."""
        self._thread.join()

    def close(self) -> None:
        self._stop = True
        self.wait()
