"""A real Ray cluster of three nodes, in a network namespace with nothing but its own loopback: Ray's ports are open to
every interface, and here there is none. The tests themselves are in ``on_ray.py``, which runs inside."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

INSIDE = Path(__file__).with_name("on_ray.py")
TRAINER = INSIDE.parents[1] / "trainer"
"""Its tests' makers."""
UNSHARE = ("unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", "--")
"""Also the processes are in a namespace of their own: all of them end with the first one."""


def confined(*command: str) -> list[str]:
    return [*UNSHARE, "sh", "-c", 'ip link set lo up && exec "$@"', "sh", *command]


@pytest.fixture
def short() -> Iterator[str]:
    """A folder for Ray's sockets, whose names must be short."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield folder


@pytest.mark.slow
@pytest.mark.parametrize("which", ["some", pytest.param("all", marks=pytest.mark.exhaustive)])
def test_on_a_cluster(short: str, tmp_path: Path, which: str) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cipo-eval[ray]'")
    if shutil.which("unshare") is None or subprocess.run(confined("true"), capture_output=True).returncode:
        pytest.skip(
            "no network namespace can be made here (unshare --net): Ray would listen on every interface"
        )
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        "RAY_TMPDIR": short,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": os.urandom(32).hex(),
        "HOME": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(INSIDE.parent), str(TRAINER), *filter(None, sys.path)]),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--durations", "9", "-p", "no:cacheprovider"]
    command += ["-m", "exhaustive or not exhaustive"] if which == "all" else []
    said = subprocess.run(
        confined(*command, "--basetemp", str(tmp_path / "inside"), str(INSIDE)),
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
    )
    print(said.stdout[-20_000:], said.stderr[-5_000:])
    assert said.returncode == 0
