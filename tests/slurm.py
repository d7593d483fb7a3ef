"""A real SLURM of two nodes on this machine, without systemd, all of it on loopback, for as long as a test runs.

Needs root and the Debian packages ``slurm-wlm`` and ``munge``; without them the tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NODES = 2
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL")
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=slurm
SlurmctldPort={port}
SlurmctldPidFile={folder}/ctld/pid
SlurmdPidFile={folder}/d/%n.pid
StateSaveLocation={folder}/ctld
SlurmdSpoolDir={folder}/d/%n
SlurmctldLogFile={folder}/ctld/log
SlurmdLogFile={folder}/d/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SchedulerType=sched/builtin
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=batch_sched_delay=0,sched_interval=1
ReturnToService=2
KillWait=10
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES MaxTime=60 State=UP OverSubscribe=NO
"""


class Slurm:
    """A cluster that is up."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def command(self, *words: str) -> str:
        """What a command of SLURM says; it must succeed."""
        return subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout.strip()

    def states(self) -> dict[str, str]:
        """By number (of an array's task: ``17_2``), the states of all jobs that the controller remembers."""
        found = {}
        said = subprocess.run(  # it fails where there are no jobs
            ["scontrol", "show", "job", "--oneliner"], capture_output=True, text=True, timeout=60, check=False
        )
        for line in said.stdout.splitlines():
            facts = dict(word.split("=", 1) for word in line.split() if "=" in word)
            if "JobId" in facts:
                task = facts.get("ArrayTaskId")
                found[f"{facts['ArrayJobId']}_{task}" if task else facts["JobId"]] = facts["JobState"]
        return found

    def wait(self, reached: Callable[[], bool], seconds: float = 120) -> None:
        """Until something is so."""
        end = time.monotonic() + seconds
        while not reached():
            assert time.monotonic() < end, self.command("scontrol", "show", "job")
            time.sleep(0.2)

    def end_of(self, job: str, seconds: float = 120) -> str:
        """How a job ends."""
        self.wait(lambda: self.states().get(job) in ENDED, seconds)
        return self.states()[job]

    def start_now(self, job: str) -> None:
        """A job that was requeued waits two minutes otherwise."""
        self.wait(lambda: self.states().get(job) == "PENDING")
        self.command("scontrol", "update", f"jobid={job}", "starttime=now")


@contextmanager
def cluster() -> Iterator[Slurm]:
    """Starts a cluster in a folder of its own, names it in the environment, and ends it.

    The folder is none of pytest's: its daemons run as other users, and pytest closes its folders to them now and then.
    """
    with tempfile.TemporaryDirectory(prefix="cipo-slurm-") as name:
        Path(name).chmod(0o755)
        yield from _cluster(Path(name))


def _cluster(folder: Path) -> Iterator[Slurm]:
    needed = ("munged", "slurmctld", "slurmd", "sbatch", "runuser")
    paths = os.environ["PATH"] + os.pathsep + "/usr/sbin"
    if os.geteuid() != 0:
        pytest.skip("a SLURM of its own needs root")
    if lacking := [name for name in needed if shutil.which(name, path=paths) is None]:
        pytest.skip(f"there is no {lacking[0]}: apt-get install --no-install-recommends slurm-wlm munge")
    host = socket.gethostname().partition(".")[0]
    ports = _free_ports(NODES + 1)
    nodes = "\n".join(
        f"NodeName=n{i} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[i]} CPUs=2 RealMemory=2000 State=UNKNOWN"
        for i in range(1, NODES + 1)
    )
    for name, owner in (("munge", "munge"), ("ctld", "slurm"), ("d", "root")):
        (folder / name).mkdir()
        shutil.chown(folder / name, owner)
    key = folder / "munge" / "key"
    key.write_bytes(os.urandom(1024))
    key.chmod(0o400)
    shutil.chown(key, "munge")
    configuration = folder / "slurm.conf"
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder, port=ports[0], nodes=nodes))
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("SLURM_CONF", str(configuration))
        patch.setenv("PATH", paths)
        for name in [name for name in os.environ if name.startswith("SLURM_") and name != "SLURM_CONF"]:
            patch.delenv(name)
        munge = ["runuser", "-u", "munge", "--", "munged", "--foreground", f"--socket={folder}/munge/socket"]
        munge += [f"--key-file={key}", f"--pid-file={folder}/munge/pid", f"--log-file={folder}/munge/log"]
        stack.enter_context(_daemon([*munge, f"--seed-file={folder}/munge/seed"]))
        slurm = Slurm(folder)
        _until((folder / "munge" / "socket").exists)
        stack.enter_context(_daemon(["runuser", "-u", "slurm", "--", "slurmctld", "-D", "-i"]))
        for i in range(1, NODES + 1):
            stack.enter_context(_daemon(["slurmd", "-D", "-N", f"n{i}"]))
        _until(lambda: _idle() == NODES)
        try:
            yield slurm
        finally:
            subprocess.run(["scancel", "--user=root"], check=False, capture_output=True)
            with contextlib.suppress(AssertionError):  # a job outlives the daemon that started it
                slurm.wait(lambda: not slurm.command("squeue", "-h"), 10)


def _idle() -> int:
    """Nodes that wait for work."""
    said = subprocess.run(
        ["sinfo", "-h", "-t", "idle", "-o", "%D"], capture_output=True, text=True, check=False
    )
    return sum(int(line) for line in said.stdout.split() if line.isdigit())


@contextmanager
def _daemon(command: list[str]) -> Iterator[None]:
    """A process, and those that it has started in its group, ended at the end."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        yield
    finally:
        for number in (15, 9):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
                break


def _until(reached: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end, "SLURM did not come up"
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens at now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
