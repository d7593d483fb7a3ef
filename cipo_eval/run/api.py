"""Runs from Python: evaluate a model, score a file, judge a run anew; the commands of the same names call these.

    from cipo_eval.run.api import evaluate, score

    results = evaluate(model="runs/grpo/checkpoints/step-000080", tasks="math500", samples=8)
    results.figures["tasks"]["math500"]["fixed"]["metrics"]["accuracy"]["value"]

What is asked for is a ``RunRequest``, or its fields by name. Results are returned, and stored in the run directory.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cipo_eval import tracking
from cipo_eval.analysis.figures import load
from cipo_eval.errors import EXIT_FAILURES, EXIT_OK, UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Mode
from cipo_eval.run import folder as folders
from cipo_eval.run import planning
from cipo_eval.run.as_trained import as_trained
from cipo_eval.run.decoding import FROM_CHECKPOINT, Decoding
from cipo_eval.run.info import confinement
from cipo_eval.run.progress import Progress
from cipo_eval.run.request import RESCORE, RUN, SCORE, RunRequest, sectioned, validated
from cipo_eval.run.runner import Run
from cipo_eval.run.shards import Shard, stored_shard
from cipo_eval.run.status import begin, kept_up
from cipo_eval.run.stored import stored_plan
from cipo_eval.run.watched import Watched
from cipo_eval.settings import merged
from cipo_eval.storage.store import RunStore, read_info
from cipo_eval.verifiers.pool import VerifierPool

if TYPE_CHECKING:
    from cipo_eval.data.scope import Scope
    from cipo_eval.data.tasks import ProblemSet
    from cipo_eval.engines.engine import Engine
    from cipo_eval.engines.registry import EngineChoice
    from cipo_eval.run.plan import TaskPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """What a run, a scoring or a rescoring came to."""

    folder: Path | None
    """The run directory; None where a scored file was asked for none."""
    figures: dict[str, Any]
    """The contents of ``results.json``."""
    failures: list[str] = field(default_factory=list)
    """What failed, a line each; nothing of it counts as a wrong answer."""
    warnings: list[str] = field(default_factory=list)
    """What a reader of the figures should know, a line each."""
    account: list[str] = field(default_factory=list)
    """What became of the rows of a scored file, for people."""

    @property
    def exit_code(self) -> int:
        """The exit code of a command that had these results: 0, or 1 where something failed."""
        return EXIT_FAILURES if self.failures else EXIT_OK


class Watch(Protocol):
    """Who is told how a run goes on; ``Silence`` listens to nothing."""

    @property
    def command(self) -> Sequence[str]:
        """The words of the call, as ``run.json`` records it."""
        ...

    def say(self, text: str) -> None:
        """Hears a line on what is about to be done."""
        ...

    def warn(self, text: str) -> None:
        """Hears a line on what is done otherwise than one might expect."""
        ...

    def phase(self, name: str, what: str) -> AbstractContextManager[None]:
        """A context around a step that may take long: its short name, and what it does in words."""
        ...

    def attempts(self, engine: Watched | None) -> AbstractContextManager[Progress]:
        """A context around generating and judging, whose counts it gives; ``engine``: the one that works, where one
        does."""
        ...

    def interrupted(self, run: Run, progress: Progress) -> None:
        """Called after an interruption, before it is raised again."""
        ...


class Silence:
    """A ``Watch`` that listens to nothing."""

    command: Sequence[str] = ("cipo_eval",)

    def say(self, text: str) -> None:
        """Does nothing."""

    def warn(self, text: str) -> None:
        """Does nothing."""

    def phase(self, name: str, what: str) -> AbstractContextManager[None]:
        """Does nothing."""
        del name, what
        return contextlib.nullcontext()

    def attempts(self, engine: Watched | None) -> AbstractContextManager[Progress]:
        """Gives counts that nobody reads."""
        del engine
        return contextlib.nullcontext(Progress())

    def interrupted(self, run: Run, progress: Progress) -> None:
        """Does nothing."""


def evaluate(request: RunRequest | None = None, *, watch: Watch | None = None, **values: Any) -> Results:
    """Generates and judges attempts at tasks; an existing run directory is resumed and only added to.

    ``values``: fields of the request by flag or section (``RunRequest.of``), over those of ``request``. What is
    missing or wrong raises ``UsageError`` or ``MissingError`` before anything is loaded.
    """
    runs = evaluations(over(request, values, RUN), watch or Silence())
    if len(runs) > 1:
        raise UsageError(
            "evaluate makes one run: call it for each of the seeds, each with an output of its own"
        )
    return runs[0].run()


def score(
    file: str | Path, request: RunRequest | None = None, *, watch: Watch | None = None, **values: Any
) -> Results:
    """Judges the attempts of a file (docs/replay.md) at one task, ``task``; without ``output`` only figures remain.

    ``values`` as for ``evaluate``. Raises ``UsageError``, ``MissingError``.
    """
    return _score(Path(file), over(request, values, SCORE), watch or Silence())


def rescore(
    run: str | Path, request: RunRequest | None = None, *, watch: Watch | None = None, **values: Any
) -> Results:
    """Judges every stored attempt of a run again and rewrites verdicts and results; the attempts themselves stay.

    ``values`` as for ``evaluate``: ``mode``, ``think`` and ``harness`` are the run's where they are not given. Raises
    ``UsageError``, ``MissingError``.
    """
    return _rescore(Path(run), over(request, values, RESCORE), watch or Silence())


def over(request: RunRequest | None, values: Mapping[str, Any], fields: Sequence[str]) -> RunRequest:
    """The request with values by name over it. Raises ``UsageError`` for fields that the call does not take."""
    base = {} if request is None else request.model_dump(exclude_unset=True)
    return validated(merged(sectioned(base, fields), sectioned(values, fields)))


def evaluations(request: RunRequest, watch: Watch) -> list[Evaluation]:
    """The runs of a request, not begun: one for each of its ``seeds``, which read their problems once.

    Several have a folder each, ``RUN.seed-N``. Raises ``UsageError``.
    """
    decoding = request.decoding
    if decoding.seeds is None:
        return [Evaluation(request, watch)]
    if "seed" in decoding.model_fields_set:
        raise UsageError("--seed and --seeds were both given: leave one of them out")
    runs: list[Evaluation] = []
    for seed in decoding.seeds:
        of_seed = request.model_copy(
            update={"decoding": decoding.model_copy(update={"seed": seed, "seeds": None})}
        )
        run = Evaluation(of_seed, watch, like=runs[0] if runs else None)
        if len(decoding.seeds) > 1:
            run.folder = folders.of_seed(run.folder, seed)
        runs.append(run)
    return runs


class Evaluation:
    """A run that is looked at and planned, step by step, and not begun.

    Each property raises ``UsageError`` or ``MissingError`` for what is wrong or missing.
    """

    def __init__(self, request: RunRequest, watch: Watch, *, like: Evaluation | None = None) -> None:
        """``like``: one of the same tasks, whose problems are this one's."""
        if not request.engine.model:
            raise UsageError("--model names no model")
        request = as_trained(request, watch.warn)
        self.request, self._watch, self._like = request, watch, like
        self.folder = request.output.output or _default_folder(request)
        self.modes = request.scoring.mode.modes

    @cached_property
    def engine(self) -> EngineChoice:
        """The engine that is asked for, not yet made."""
        return self.request.engine.choice(self.request.scoring.think)

    @cached_property
    def plans(self) -> list[TaskPlan]:
        """What is done at each task. Everything that can be told before data is read is told before."""
        request = self.request
        tracking.check(request.output.track)
        specs = planning.read_specs(request.task.tasks)
        planning.protocols_of(request.turns, specs)
        for spec in specs:
            planning.fewshot(request.decoding, spec)
        engine = self.engine
        sampled_by = planning.decodings(specs, request.decoding)
        for spec, (samples, _) in zip(specs, sampled_by, strict=True):
            planning.check_k(request.scoring.k, spec.name, samples)
        folders.look(self.folder)
        if not request.output.resume and (self.folder / "run.json").exists():
            raise UsageError(
                f"{self.folder} holds a run already, and --no-resume was given: choose another --output"
            )
        planning.places(specs, request)
        engine.look()
        if request.decoding.preset == FROM_CHECKPOINT:
            sampled_by = planning.decodings(specs, self._recommended())
        plans = planning.plans(request, self._problem_sets, sampled_by)
        folders.check(
            self.folder, plans, seed=request.decoding.seed, modes=self.modes, engine=engine.identity()
        )
        return plans

    @cached_property
    def _problem_sets(self) -> list[ProblemSet]:
        if self._like is not None:
            return self._like._problem_sets
        specs = planning.read_specs(self.request.task.tasks)
        with self._watch.phase("data", ", ".join(planning.places(specs, self.request))):
            return planning.read_problems(specs, self.request)

    def _recommended(self) -> Decoding:
        recommendation = self.engine.recommended()
        penalty = recommendation.get("repetition_penalty", 1.0)
        if penalty != 1.0:
            self._watch.warn(f"--preset checkpoint: its repetition_penalty {penalty} is not applied")
        return self.request.decoding.recommended(recommendation)

    def run(self) -> Results:
        """Generates and judges what is missing."""
        request, watch, plans = self.request, self._watch, self.plans
        confined = confinement(plans)
        for plan in plans:
            watch.say(_extent(plan))
        with RunStore(self.folder) as store:
            begin(self.folder)
            with watch.phase("model", f"{request.engine.model} ({request.engine.engine})"):
                problems = [problem for plan in plans for problem in plan.all_problems]
                source = self.engine.make(problems, clock=folders.frozen_clock(self.folder), say=watch.warn)
            try:
                planning.check_engine(source, [plan.revising for plan in plans])
            except UsageError:
                source.close()
                raise
            run = Run(
                store,
                plans,
                engine=source.describe(),
                seed=request.decoding.seed,
                modes=self.modes,
                command=watch.command,
                bootstrap=request.scoring.bootstrap,
                ks=None if request.task.shard else request.scoring.k,  # a problem may be cut in two
                figures=load(request.scoring.figures),
                cutoff=request.engine.model_cutoff,
            )
            pool = _pool(request, source)
            sandbox = f", programs in a sandbox ({confined['detail']})" if confined else ""
            watch.say(f"verifier: {pool.workers} process(es){sandbox}")
            results = _generated(run, source, pool, watch)
        asked = {"request": request.model_dump(mode="json", by_alias=True), "run": _identity(run.info)}
        results.failures.extend(
            tracking.record(
                request.output.track,
                self.folder.name,
                self.folder,
                asked,
                tracking.numbers_of(results.figures),
                [self.folder / "results.json", self.folder / "run.json"],
            )
        )
        return results


def _score(file: Path, request: RunRequest, watch: Watch) -> Results:
    from cipo_eval.data.tasks import load_problems

    if len(request.task.tasks) != 1:
        raise UsageError("score needs one --task")
    if request.turns.protocol is not None and len(request.turns.protocol) != 1:
        raise UsageError("--protocol: a file holds first attempts (direct) or corrections (given)")
    problems = load_problems(request.task.tasks[0], data_dir=request.task.data_dir)
    (scope,) = planning.scopes(request.task.scope, [problems])
    with _pool(request) as workers:
        return _scored(file, request, watch, problems, scope, workers)


def _scored(
    file: Path,
    request: RunRequest,
    watch: Watch,
    problems: ProblemSet,
    scope: Scope | None,
    workers: VerifierPool,
) -> Results:
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.scoring import Scoring, open_file

    source, revising = open_file(
        file,
        problems,
        protocol=request.turns.protocol[0] if request.turns.protocol else None,
        pool=request.turns.attempts_from,
        id_map=request.task.id_map,
        allow_unmatched=request.task.allow_unmatched,
        workers=workers,
    )
    pool = revising.pool
    most = source.samples if pool is None else pool.samples(problems.spec.name, source.counts)
    samples, sampling = Decoding(samples=request.decoding.samples or most).resolve({})
    plan = TaskPlan(
        problems=problems,
        samples=samples,
        sampling=sampling,
        scope=scope,
        revising=revising,
        available=source.counts if pool else None,
        **planning.asked_of(request, problems, scope),
    )
    planning.check_k(request.scoring.k, plan.name, plan.samples)
    with ExitStack() as stack:
        folder = request.output.output or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="cipo-eval-")), file.name
        )
        run = Scoring(
            stack.enter_context(RunStore(folder)),
            [plan],
            source=source,
            engine=source.describe(),
            seed=request.decoding.seed,
            modes=request.scoring.mode.modes,
            command=watch.command,
            bootstrap=request.scoring.bootstrap,
            ks=request.scoring.k,
            figures=load(request.scoring.figures),
            cutoff=request.engine.model_cutoff,
        )
        run.warnings += source.notes()
        results = _generated(run, source, workers, watch)
        return replace(results, account=run.record(), folder=request.output.output)


def _rescore(folder: Path, request: RunRequest, watch: Watch) -> Results:
    info = read_info(folder)
    scoring = request.scoring
    changed: dict[str, Any] = {"allow_unsafe": scoring.allow_unsafe_code}
    if "think" in scoring.model_fields_set:
        changed["think"] = scoring.think
    if scoring.harness is not None:
        changed["harness"] = scoring.harness.value
    plans = [
        replace(stored_plan(name, task, request.task.data_dir), **changed)
        for name, task in info["tasks"].items()
    ]
    for plan in plans:
        planning.check_k(scoring.k, plan.name, plan.samples)
    run_modes = tuple(Mode(mode) for mode in info["modes"])
    with RunStore(folder) as store:
        run = Run(
            store,
            plans,
            engine=info["engine"],
            seed=info["seed"],
            modes=scoring.mode.modes if "mode" in scoring.model_fields_set else run_modes,
            command=watch.command,
            bootstrap=scoring.bootstrap,
            ks=scoring.k,
            figures=load(scoring.figures),
            regrade=True,
        )
        pool = _pool(request)
        return _carried_out(
            run, pool, watch, lambda progress, interrupts: run.rescore(pool, progress, interrupts)
        )


def _pool(request: RunRequest, engine: Engine | None = None) -> VerifierPool:
    """The pool that was asked for; an engine that works elsewhere may have one there."""
    workers, time_limit = request.scoring.verifier_workers, request.scoring.verifier_timeout
    elsewhere = getattr(engine, "verifier_pool", None)
    pool: VerifierPool | None = elsewhere(workers, time_limit) if elsewhere else None
    return pool or VerifierPool(workers, time_limit=time_limit)


def _generated(run: Run, engine: Engine, pool: VerifierPool, watch: Watch) -> Results:
    """What comes of generating and judging what the engine still has to give; closes the engine."""
    watched = Watched(engine)

    def work(progress: Progress, interrupts: Interrupts) -> None:
        with contextlib.closing(watched):
            run.execute(watched, pool, progress, interrupts)
        if problems := watched.identical:
            run.warnings.append(
                f"all samples of a problem have the same text, at each of {problems} problem(s): more of them tell "
                "nothing more (does the server, or the file, heed seed and temperature?)"
            )

    return _carried_out(run, pool, watch, work, engine=watched)


def _carried_out(
    run: Run,
    pool: VerifierPool,
    watch: Watch,
    work: Callable[[Progress, Interrupts], None],
    *,
    engine: Watched | None = None,
) -> Results:
    """Does ``work`` and stores ``results.json``; closes the pool."""
    with kept_up(run.store.path) as note:
        with Interrupts() as interrupts, watch.attempts(engine) as progress:
            note.progress = progress
            try:
                work(progress, interrupts)
            except KeyboardInterrupt:
                watch.interrupted(run, progress)
                raise
            finally:
                pool.close()
        figures = run.results()
        run.store.write_results(figures)
    failures = run.failures()
    if shard := stored_shard(run.info):
        run.warnings.append(
            f"this is part {shard.index} of {shard.count} of a run, and these are the figures of this part: "
            "`cipo-eval merge` makes one run of all parts"
        )
    return Results(
        folder=run.store.path, figures=figures, failures=failures, warnings=[*run.warnings, *gaps(figures)]
    )


def gaps(figures: dict[str, Any]) -> list[str]:
    """A line for each task that lacks first attempts."""
    return [
        f"{name}: {block['missing_attempts']} of the attempts asked for are not there; the figures leave them out"
        for name, block in figures["tasks"].items()
        if block["missing_attempts"]
    ]


def _identity(info: Mapping[str, Any]) -> dict[str, Any]:
    """What makes a run the run that it is, of ``run.json``: without its calls, and where it ran."""
    return {name: value for name, value in info.items() if name not in ("calls", "environment")}


def _default_folder(request: RunRequest) -> Path:
    folder = folders.default_folder(request.engine.model)
    return Shard.of(request.task.shard).folder(folder) if request.task.shard else folder


def _extent(plan: TaskPlan) -> str:
    """How much of a task is asked for; told where that is less than ``--limit`` says."""
    selected = len(plan.selected)
    less = f" (--limit {plan.limit}: there are no more)" if plan.limit and plan.limit > selected else ""
    whole = f"{plan.name}: {selected} problems{less} x {plan.samples} samples"
    return f"{whole}; of them {plan.first_attempts} in shard {plan.share.shard}" if plan.share else whole
