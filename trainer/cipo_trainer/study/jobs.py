"""Runs the jobs of a study, some at a time, and says how far they are.

A job is a process of ``cipo-eval``. What it did stands in its own folder, what became of it in ``jobs.jsonl``, a line
per try, so any number of calls, one after the other or side by side, may share a study. A job that fails stops those
that need it, and no others. The jobs end with the process that started them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError
from cipo_eval.files import Writing, append_json_line
from cipo_eval.interrupts import Interrupts
from cipo_trainer.config import config_dir
from cipo_trainer.study.grid import CONFIGS, STUDY, Job

POLL = 0.5
"""Seconds between two looks at the jobs that run."""
GOOD = (EXIT_OK, EXIT_FAILURES)
"""Exit codes of a job that came to its end; its failures (verdicts that were not made, …) are named in its log."""
_LEDGER = "jobs.jsonl"


@dataclass(slots=True)
class Running:
    """A job under way."""

    job: Job
    process: subprocess.Popen[bytes]
    slot: int
    started: float = field(default_factory=time.monotonic)


class Ledger:
    """What became of jobs, by name."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LEDGER

    def rows(self) -> list[dict[str, Any]]:
        """A line that is torn or no row is left out: its job runs again, which is free where it was done."""
        found = []
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []:
            try:
                row = json.loads(line)
                found.append({**row, "job": str(row["job"]), "code": int(row["code"])})
            except (ValueError, KeyError, TypeError):
                continue
        return found

    def done(self, jobs: Iterable[Job]) -> dict[str, int]:
        """Jobs that came to their end, with their exit codes. Raises ``UsageError`` where one of them was asked
        something else."""
        last = {row["job"]: row for row in self.rows() if row["code"] in GOOD}
        for job in jobs:
            if job.name in last and last[job.name].get("identity") != job.identity:
                raise UsageError(
                    f"{self._path.parent} holds {job.name} of another configuration: choose another --output, or "
                    f"remove that folder and its lines in {_LEDGER}"
                )
        return {name: int(row["code"]) for name, row in last.items()}

    def add(self, job: Job, code: int, seconds: float) -> None:
        row = {"job": job.name, "code": code, "seconds": round(seconds, 1), "identity": job.identity}
        with Writing(self._path.parent):
            append_json_line(self._path, row)


Watch = Callable[[Sequence[Running], float, float], None]
"""Told now and then: jobs under way, share that is done, seconds that are left."""
TRUST = 20.0
"""Expected seconds after which what was measured counts for as much as what was expected."""


class Runner:
    """Raises ``UsageError`` for a folder that holds another study."""

    def __init__(self, folder: Path, jobs: Sequence[Job], workers: int, devices: Sequence[str] = ()) -> None:
        """``devices``: of the workers, as CUDA_VISIBLE_DEVICES has them."""
        self._folder, self._jobs, self._devices = folder, jobs, devices
        self._workers = workers
        self._ledger = Ledger(folder)
        self._spent = self._gained = 0.0
        self.done = self._ledger.done(jobs)
        """Jobs that came to their end, with their exit codes."""
        self.failed: dict[str, int] = {}
        """Those of this call that did not."""

    @property
    def flawed(self) -> dict[str, int]:
        """Jobs that failed, or came to their end with failures that their logs name; by exit code."""
        own = {job.name for job in self._jobs}
        return self.failed | {n: code for n, code in self.done.items() if code != EXIT_OK and n in own}

    def log(self, name: str) -> Path:
        """Of a job, what it said."""
        return self._folder / "logs" / f"{name.replace('/', '.')}.log"

    def run(self, interrupts: Interrupts, watch: Watch) -> None:
        """All jobs that are missing. Ctrl-C reaches them, they keep what they have, and it is raised again."""
        waiting = [job for job in self._jobs if job.name not in self.done]
        running: list[Running] = []
        try:
            while waiting or running:
                for job in self._ready(waiting, running):
                    waiting.remove(job)
                    running.append(self._start(job, {r.slot for r in running}))
                if not running:
                    break  # what is left needs jobs that failed
                with interrupts.allowed():
                    time.sleep(POLL)
                for one in [r for r in running if r.process.poll() is not None]:
                    running.remove(one)
                    self._end(one)
                watch(running, *self._progress(running, waiting))
        finally:
            for one in running:
                one.process.send_signal(signal.SIGINT)
            for one in running:
                one.process.wait()
                self._end(one)

    def _ready(self, waiting: Sequence[Job], running: Sequence[Running]) -> list[Job]:
        free = self._workers - len(running)
        return [job for job in waiting if all(need in self.done for need in job.needs)][:free]

    def _start(self, job: Job, taken: set[int]) -> Running:
        place, log = self._folder / job.name, self.log(job.name)
        with Writing(self._folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            log.parent.mkdir(exist_ok=True)
            if job.config:
                text = yaml.safe_dump(_filled(job.config, self._folder), sort_keys=False, allow_unicode=True)
                place.with_name(f"{place.name}.yaml").write_text(text, encoding="utf-8")
            file = log.open("ab")
        slot = next(i for i in range(self._workers) if i not in taken)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        command = [sys.executable, "-m", "cipo_eval", *_filled(job.arguments, self._folder)]
        with file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment,
                start_new_session=True,  # Ctrl-C reaches it once, from us
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        return Running(job=job, process=process, slot=slot)

    def _end(self, one: Running) -> None:
        code, seconds = one.process.returncode, time.monotonic() - one.started
        self._ledger.add(one.job, code, seconds)
        self._spent += seconds
        self._gained += one.job.expected
        if code in GOOD:
            self.done[one.job.name] = code
        else:
            self.failed[one.job.name] = code

    # --- how far it is ---------------------------------------------------------------------------------------

    def _progress(self, running: Sequence[Running], waiting: Sequence[Job]) -> tuple[float, float]:
        """The share that is done, and the time until the last job ends if all go on as those so far."""
        shares = {r.job.name: self.share(r.job) for r in running}
        now, spent, gained = time.monotonic(), self._spent, self._gained
        for r in running:
            spent += now - r.started
            gained += r.job.expected * shares[r.job.name]
        pace = (spent + TRUST) / (gained + TRUST)
        ends = {r.job.name: r.job.expected * (1 - shares[r.job.name]) * pace for r in running}
        free = sorted([*ends.values(), *[0.0] * (self._workers - len(running))])
        for job in waiting:
            if any(need not in self.done and need not in ends for need in job.needs):
                continue  # it needs one that failed
            start = max([free.pop(0), *(ends.get(need, 0.0) for need in job.needs)])
            ends[job.name] = start + job.expected * pace
            free = sorted([*free, ends[job.name]])
        everything = sum(job.expected for job in self._jobs)
        done = sum(job.expected * shares.get(job.name, job.name in self.done) for job in self._jobs)
        return done / max(everything, 1e-9), max(ends.values(), default=0.0)

    def share(self, job: Job) -> float:
        """Of a job under way, from what it has written."""
        place = self._folder / job.name
        if job.kind == "evaluate":
            lines = sum(_lines(path) for path in (place / "attempts").glob("*.jsonl"))
            return min(0.98, lines / job.units)
        log = place / "log.jsonl"
        return min(0.98, _last_step(log) / job.units)


def describe(job: Job, share: float) -> str:
    """For a progress line."""
    *place, _ = job.name.split("/")
    what = {"warm": "warm start", "train": "train", "evaluate": "score"}[job.kind]
    return f"{what} {' '.join(place)} {share:.0%}"


def _filled(value: Any, folder: Path) -> Any:
    """With the folders that are meant."""
    if isinstance(value, str):
        return value.replace(STUDY, str(folder)).replace(CONFIGS, str(config_dir()))
    if isinstance(value, dict):
        return {name: _filled(item, folder) for name, item in value.items()}
    return [_filled(item, folder) for item in value] if isinstance(value, list | tuple) else value


def _lines(path: Path) -> int:
    try:
        with path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))
    except OSError:
        return 0


def _last_step(path: Path) -> int:
    """Of a training's log; 0 where there is none yet."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 8192))
            lines = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue
    return 0


def _end_with_parent() -> None:
    """In the new process: a study that is killed takes its jobs along; they keep what they have."""
    from cipo_eval.sandbox import kernel

    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
