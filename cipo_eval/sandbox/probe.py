"""Which confinement works here, tried and not assumed; and what would raise it (``cipo-eval doctor``)."""

from __future__ import annotations

import functools
import os
import platform
import shutil
from dataclasses import dataclass
from typing import Any

from cipo_eval.errors import MissingError
from cipo_eval.sandbox import kernel
from cipo_eval.sandbox.launch import LAYERS, Layers, Tier, bubblewrap
from cipo_eval.sandbox.worker import Job, SandboxError, Worker

TIER_VARIABLE = "CIPO_EVAL_SANDBOX_TIER"
"""Asks for a tier (1, 2 or 3) instead of the best one, to compare or to test."""
_MEMORY = 512 << 20
# Each function must raise OSError or MemoryError in a sandbox that holds; its name says what got through otherwise.
_ATTACKS = f"""
import os, signal, socket
def reads_files(): return open('/etc/passwd').read(1)
def reads_processes(): return open('/proc/self/environ').read(1)
def writes_files(): return os.open('/tmp/cipo-eval-probe', os.O_CREAT | os.O_WRONLY)
def forks():
    if os.fork() == 0: os._exit(0)
def executes(): os.execv('/bin/true', ['true'])
def connects(): socket.socket().connect(('127.0.0.1', 9))
def signals(): os.kill(os.getppid(), 0)
def eats_memory(): return bytearray({_MEMORY})
def all_of_them():
    through = [name for name in os.environ if name not in
               ('PATH LANG LC_CTYPE PYTHONHASHSEED PYTHONUTF8 OPENBLAS_NUM_THREADS OMP_NUM_THREADS HOME PWD').split()]
    through = ['sees the environment'] if through else []
    for attack in (reads_files, reads_processes, writes_files, forks, executes, connects, signals, eats_memory):
        try: attack()
        except (OSError, MemoryError): continue
        through.append(attack.__name__)
    return through
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What was found out about one tier."""

    tier: Tier
    works: bool
    detail: str
    """Why it does not work, or the layers that hold."""
    landlock: int = 0
    """Version of Landlock's interface."""

    def to_json(self) -> dict[str, Any]:
        """For ``run.json`` and reports."""
        return {"tier": int(self.tier), "landlock": self.landlock, "detail": self.detail}


@functools.cache
def probe(tier: Tier) -> Probe:
    """Starts a sandbox of a tier and attacks it. Never raises for what it finds.

    One that breaks down is tried once again: somebody may have killed it, and the answer is for good.
    """
    try:
        try:
            through, version = _try(tier)
        except (MissingError, SandboxError):
            through, version = _try(tier)
    except (OSError, MissingError, SandboxError) as error:
        return Probe(tier=tier, works=False, detail=str(error))
    if through:
        return Probe(tier=tier, works=False, detail=f"a program {', '.join(through)} all the same")
    layers = [
        name
        for name, on in (
            ("bubblewrap", LAYERS[tier].bubblewrap),
            (f"Landlock {version}", LAYERS[tier].landlock),
            ("seccomp", LAYERS[tier].seccomp),
        )
        if on
    ]
    return Probe(tier=tier, works=True, detail=" + ".join(layers) or "limits only", landlock=version)


def _try(tier: Tier) -> tuple[list[str], int]:
    """Attacks that got through a new sandbox, and its version of Landlock."""
    kernel.architecture()
    with Worker(LAYERS[tier]) as worker:
        worker.doubts = True
        worker.ensure()
        through = _attack(worker) if tier is not Tier.UNSAFE else []
        return through, int(worker.hello.get("landlock") or 0)


def _attack(worker: Worker) -> list[str]:
    """Names of the attacks that got through; a sandbox that breaks down under them holds, but is of no use."""
    job = Job(program=_ATTACKS, kind="calls", target="all_of_them", tests=[{}], memory=_MEMORY)
    records, _ = worker.collect(job)
    if len(records) != 2 or records[1][0] != "v":
        raise SandboxError(f"the probe did not run: {records[-1:]}")
    return [str(name).replace("_", " ") for name in records[1][1]]


def choose(*, allow_unsafe: bool = False) -> Probe:
    """The best tier that works here, or the one that ``CIPO_EVAL_SANDBOX_TIER`` asks for.

    Raises ``MissingError`` where less than tier 3 is left, unless ``allow_unsafe``.
    """
    asked = os.environ.get(TIER_VARIABLE, "")
    if asked:
        if asked not in {"1", "2", "3"}:
            raise MissingError(f"{TIER_VARIABLE}={asked}: 1, 2 or 3")
        tried = probe(Tier(int(asked)))
        if not tried.works:
            raise MissingError(
                f"{TIER_VARIABLE}={asked} asks for a sandbox that does not work: {tried.detail}"
            )
        return tried
    for tier in (Tier.FULL, Tier.CONTAINER, Tier.NAMESPACES):
        tried = probe(tier)
        if tried.works:
            return tried
    if allow_unsafe and probe(Tier.UNSAFE).works:
        return probe(Tier.UNSAFE)
    raise MissingError(
        f"programs that models wrote cannot be confined here ({tried.detail}): `cipo-eval doctor` says what would "
        "help; --allow-unsafe-code runs them all the same, with your rights and your files"
    )


def layers(*, allow_unsafe: bool = False) -> Layers:
    """The layers of the tier that ``choose`` gives, for a ``Worker``. Raises as ``choose`` does."""
    return LAYERS[choose(allow_unsafe=allow_unsafe).tier]


def advice() -> list[str]:
    """How to come to a better tier here, a sentence each."""
    if platform.system() != "Linux":
        return [
            f"No sandbox on {platform.system()}: run cipo-eval in a Linux container (tier 2 is usual there)."
        ]
    sentences = []
    if kernel.landlock_version() == 0:
        sentences.append(
            "Landlock: needs Linux 5.13 or later with `landlock` among the kernel's `lsm=` modules."
        )
    if shutil.which("bwrap") is None:
        sentences.append("bubblewrap is not installed: `apt-get install bubblewrap` (Debian, Ubuntu).")
    elif bubblewrap() is None:
        sentences.append(
            "bubblewrap is installed, but may not make namespaces: in a container, allow user namespaces (Docker: "
            "`--security-opt seccomp=unconfined --security-opt apparmor=unconfined`); on Ubuntu, `sysctl "
            "kernel.apparmor_restrict_unprivileged_userns=0`; on Debian, `kernel.unprivileged_userns_clone=1`."
        )
    return sentences
