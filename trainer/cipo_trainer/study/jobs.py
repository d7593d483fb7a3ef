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
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import yaml

from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError, nearest, require
from cipo_eval.files import Writing, append_json_line, count_lines, write_text
from cipo_eval.interrupts import Interrupts, unhurried
from cipo_eval.settings import read_yaml
from cipo_eval.storage.facts import differences
from cipo_trainer.sections import config_dir
from cipo_trainer.study.grid import CONFIGS, NEWEST, STUDY, Job, StudyConfig, jobs, to_yaml, write_tasks

POLL = 0.5
"""Seconds between two looks at the jobs that run."""
GOOD = (EXIT_OK, EXIT_FAILURES)
"""Exit codes of a job that came to its end; its failures (verdicts that were not made, …) are named in its log."""
_LEDGER = "jobs.jsonl"


class Process(Protocol):
    """What carries out a job: as much of ``subprocess.Popen`` as is used."""

    @property
    def returncode(self) -> int | Any:
        """Its exit code; None while it runs."""
        ...

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        ...

    def send_signal(self, sig: int) -> None:
        """Asks it to stop."""
        ...

    def wait(self) -> int:
        """Its exit code, waiting for it."""
        ...


@dataclass(slots=True)
class Running:
    """A job under way."""

    job: Job
    process: Process
    slot: int
    started: float = field(default_factory=time.monotonic)


class Ledger:
    """``jobs.jsonl`` of a study: what became of its jobs, a line per try."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / _LEDGER

    def rows(self) -> list[dict[str, Any]]:
        """All tries, in order. A line that is torn or no row is left out: its job runs again, which is free where it
        was done."""
        tries = []
        for line in self._path.read_text(encoding="utf-8").splitlines() if self._path.is_file() else []:
            try:
                row = json.loads(line)
                tries.append({**row, "job": str(row["job"]), "code": int(row["code"])})
            except (ValueError, KeyError, TypeError):
                continue
        return tries

    def done(self, jobs: Iterable[Job]) -> dict[str, int]:
        """Jobs that came to their end, with their exit codes. Raises ``UsageError`` where one of them was asked
        something else."""
        jobs = list(jobs)
        strict = {job.name for job in jobs if job.strict}
        last = {r["job"]: r for r in self.rows() if _came_to_end(r["code"], strict=r["job"] in strict)}
        for job in jobs:
            if job.name in last and last[job.name].get("identity") != job.identity:
                raise UsageError(
                    f"{self._path.parent} holds {job.name} of another configuration{self._changes(job)}: choose "
                    f"another --output, or remove that folder and its lines in {_LEDGER}"
                )
        return {name: int(row["code"]) for name, row in last.items()}

    def _changes(self, job: Job) -> str:
        """What a training there was asked otherwise, in brackets, as far as its configuration file tells."""
        try:
            there = read_yaml(configuration(self._path.parent, job))
        except UsageError:
            return ""
        asked = filled(job.config, self._path.parent)
        changes = differences(there, asked, complete=True)
        return f" ({'; '.join(changes)})" if changes else ""

    def left_out(self, jobs: Sequence[Job]) -> set[str]:
        """Warm starts that were trained to their end and not accepted (``Job.strict``), and all jobs that need them."""
        last = {row["job"]: row["code"] for row in self.rows()}
        without: set[str] = set()
        for job in jobs:  # each stands behind those that it needs
            refused = job.strict and last.get(job.name) == EXIT_FAILURES
            if refused or not without.isdisjoint(job.needs):
                without.add(job.name)
        return without

    def add(self, job: Job, code: int, seconds: float) -> None:
        """Adds a line for a try that ended with this exit code."""
        row = {"job": job.name, "code": code, "seconds": round(seconds, 1), "identity": job.identity}
        with Writing(self._path.parent):
            append_json_line(self._path, row)


LINE_SECONDS = 10.0
"""Seconds between two lines of progress."""
Watch = Callable[[Sequence[str], float, float], None]
"""Called now and then with the jobs under way (in words), the share of the study that is done, in [0, 1], and the
seconds that are left."""
TRUST = 20.0
"""Expected seconds after which what was measured counts for as much as what was expected."""


class Runner:
    """Carries out the jobs of a study, ``workers`` at a time. Raises ``UsageError`` for a folder that holds another."""

    def __init__(self, folder: Path, jobs: Sequence[Job], workers: int, devices: Sequence[str] = ()) -> None:
        """``devices``: of the workers, as CUDA_VISIBLE_DEVICES has them."""
        self._folder, self.jobs, self._devices = folder, jobs, devices
        self.workers = workers
        self._ledger = Ledger(folder)
        self._spent = self._gained = 0.0
        self.done = self._ledger.done(jobs)
        """Jobs that came to their end, with their exit codes."""
        self.failed: dict[str, int] = {}
        """Those of this call that did not."""

    @property
    def left(self) -> list[Job]:
        """Jobs that are not done."""
        return [job for job in self.jobs if job.name not in self.done]

    @property
    def flawed(self) -> dict[str, int]:
        """Exit codes of the jobs that failed, or came to their end with failures that their logs name; by job."""
        names = {job.name for job in self.jobs}
        return self.failed | {n: code for n, code in self.done.items() if code != EXIT_OK and n in names}

    def flaws(self) -> list[str]:
        """A line for each of these jobs, with its log and the last thing that it said."""
        told = []
        for name, code in self.flawed.items():
            log = self.log(name)
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.is_file() else []
            what = "failed" if name in self.failed else "finished with failures"
            told.append(f"{what}: {name} (exit code {code}, {log}): {lines[-1] if lines else ''}")
        return told

    def log(self, name: str) -> Path:
        """The file with all that a job has said."""
        return self._folder / "logs" / f"{name.replace('/', '.')}.log"

    def run(self, interrupts: Interrupts, watch: Watch) -> None:
        """Carries out all jobs that are missing. Ctrl-C reaches them, they keep what they have, and it is raised
        again."""
        waiting = self.left
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
                under_way = [describe(one.job, self.share(one.job)) for one in running]
                watch(under_way, *self._progress(running, waiting))
        finally:
            for one in running:
                one.process.send_signal(signal.SIGINT)
            with unhurried():  # each of them writes a checkpoint
                for one in running:
                    one.process.wait()
                    self._end(one)

    def _ready(self, waiting: Sequence[Job], running: Sequence[Running]) -> list[Job]:
        free = self.workers - len(running)
        return [job for job in waiting if all(need in self.done for need in job.needs)][:free]

    def _start(self, job: Job, taken: set[int]) -> Running:
        place, log = self._folder / job.name, self.log(job.name)
        with Writing(self._folder):
            place.parent.mkdir(parents=True, exist_ok=True)
            log.parent.mkdir(exist_ok=True)
            if job.config:
                text = yaml.safe_dump(filled(job.config, self._folder), sort_keys=False, allow_unicode=True)
                write_text(configuration(self._folder, job), text)
        slot = next(i for i in range(self.workers) if i not in taken)
        environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
        if self._devices:
            environment["CUDA_VISIBLE_DEVICES"] = self._devices[slot % len(self._devices)]
        command = [sys.executable, "-m", "cipo_eval", *filled(job.arguments, self._folder)]
        return Running(job=job, process=self._launch(command, log, environment), slot=slot)

    def _launch(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Process:
        """Begins a job on this machine."""
        return launched(command, log, environment)

    def _end(self, one: Running) -> None:
        code, seconds = one.process.returncode, time.monotonic() - one.started
        self._ledger.add(one.job, code, seconds)
        self._spent += seconds
        self._gained += one.job.expected
        if _came_to_end(code, strict=one.job.strict):
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
        free = sorted([*ends.values(), *[0.0] * (self.workers - len(running))])
        for job in waiting:
            if any(need not in self.done and need not in ends for need in job.needs):
                continue  # it needs one that failed
            start = max([free.pop(0), *(ends.get(need, 0.0) for need in job.needs)])
            ends[job.name] = start + job.expected * pace
            free = sorted([*free, ends[job.name]])
        everything = sum(job.expected for job in self.jobs)
        done = sum(job.expected * shares.get(job.name, job.name in self.done) for job in self.jobs)
        return done / max(everything, 1e-9), max(ends.values(), default=0.0)

    def share(self, job: Job) -> float:
        """Of a job under way, from what it has written."""
        place = self._folder / job.name
        if job.kind == "evaluate":
            lines = sum(count_lines(path) for path in (place / "attempts").glob("*.jsonl"))
            return min(0.98, lines / job.units)
        log = place / "log.jsonl"
        return min(0.98, _last_step(log) / job.units)


def describe(job: Job, share: float) -> str:
    """A job in words for a progress line, with the share of it that is done."""
    *place, _ = job.name.split("/")
    what = {"warm": "warm start", "train": "train", "evaluate": "score"}[job.kind]
    return f"{what} {' '.join(place)} {share:.0%}"


Carrier = Callable[[Path, Sequence[Job], int | None], Runner]
"""Makes what carries out jobs in a folder, so many at a time."""


# --- a whole study -------------------------------------------------------------------------------------------


def prepared(
    config: StudyConfig,
    folder: Path,
    *,
    workers: int | None = None,
    only: Sequence[str] | None = None,
    runner: Carrier | None = None,
) -> Runner:
    """What carries out a study in a folder, which gets the study's configuration and the tasks of its families.

    ``workers``: jobs at a time; by default one for each GPU, else for each core. ``only``: names of jobs. ``runner``:
    makes one of folder, jobs and workers that carries them out elsewhere (``on_ray``). Raises ``UsageError`` for jobs
    that there are not, or that need others first, and for a folder that holds another study.
    """
    if runner is None:
        require("train", "a study")
    picked = jobs_named(jobs(config), only)
    folder = folder.resolve()
    with Writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_tasks(config, folder)
        write_text(folder / "study.yaml", to_yaml(config), shared=True)
    carrier = (runner or _here)(folder, picked, workers)
    names = {job.name for job in picked}
    before = {need for job in picked for need in job.needs} - set(carrier.done) - names
    if only and before:
        raise UsageError(f"--job: {', '.join(sorted(before))} must come before")
    return carrier


def _here(folder: Path, jobs: Sequence[Job], workers: int | None) -> Runner:
    devices = _devices()
    return Runner(folder, jobs, workers or len(devices) or _cores(), devices)


def lines(say: Callable[[str], None]) -> Watch:
    """Says a line now and then, for a log."""
    last = time.monotonic() - LINE_SECONDS

    def line(under_way: Sequence[str], share: float, left: float) -> None:
        nonlocal last
        now = time.monotonic()
        if under_way and now - last >= LINE_SECONDS:
            last = now
            say(f"  {share:4.0%}, {clock(left)} left: {', '.join(under_way)}")

    return line


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, or hours, minutes and seconds."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02}:{rest % 60:02}" if hours else f"{rest // 60}:{rest % 60:02}"


def jobs_named(every: Sequence[Job], only: Sequence[str] | None) -> list[Job]:
    """The jobs of these names, all without any. Raises ``UsageError`` for one that there is not."""
    by_name = {job.name: job for job in every}
    for name in only or ():
        if name not in by_name:
            raise UsageError(
                f"--job {name}: there is no such job; {nearest(name, by_name)} (--list shows them)"
            )
    return [by_name[name] for name in only] if only else list(every)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _devices() -> list[str]:
    """GPUs that may be seen, by the names that CUDA_VISIBLE_DEVICES has."""
    import torch

    if not torch.cuda.is_available():
        return []
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]


def _came_to_end(code: int, *, strict: bool) -> bool:
    return code == EXIT_OK if strict else code in GOOD


# --- its folders ---------------------------------------------------------------------------------------------


def configuration(folder: Path, job: Job) -> Path:
    """The configuration file of a training, beside its folder in the study."""
    place = folder / job.name
    return place.with_name(f"{place.name}.yaml")


def filled(value: Any, folder: Path) -> Any:
    """A command or a configuration with the folders that its placeholders stand for."""
    if isinstance(value, str):
        value = value.replace(STUDY, str(folder)).replace(CONFIGS, str(config_dir()))
        if value.startswith(NEWEST):
            # it needs torch, which a study that is only looked at does not
            from cipo_trainer.saving import newest

            return newest(value.removeprefix(NEWEST))
        return value
    if isinstance(value, dict):
        return {name: filled(item, folder) for name, item in value.items()}
    return [filled(item, folder) for item in value] if isinstance(value, list | tuple) else value


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


def launched(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process that says everything in a log, and ends with the thread that began it."""
    with log.open("ab") as file:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env=environment,
            start_new_session=True,  # Ctrl-C reaches it once, from us
            preexec_fn=_end_with_parent if sys.platform == "linux" else None,
        )


def _end_with_parent() -> None:
    """In the new process: a study that is killed takes its jobs along; they keep what they have."""
    from cipo_eval.sandbox import kernel

    kernel.prctl(kernel.PR_SET_PDEATHSIG, signal.SIGTERM)
