"""Scoring a file: what it holds, which attempts its corrections belong to, and what became of every row."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cipo_eval.data.attempt_files.account import Account
from cipo_eval.data.attempt_files.id_map import read_id_map
from cipo_eval.engines.replay import ReplayEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import AttemptKey
from cipo_eval.run.chunks import UnderWay, chunks_of_requests
from cipo_eval.run.pools import read_pool
from cipo_eval.run.runner import GRACE_SECONDS, LOOK_SECONDS, NO_SAMPLES, Run, present
from cipo_eval.run.watched import Watched
from cipo_eval.storage.attempts import Attempts, IntArray
from cipo_eval.turns.pools import Pool, own_pool
from cipo_eval.turns.protocols import DIRECT, protocols_named
from cipo_eval.turns.revising import Revising

if TYPE_CHECKING:
    from cipo_eval.data.attempt_files.rows import Place
    from cipo_eval.data.tasks import ProblemSet
    from cipo_eval.engines.engine import Engine
    from cipo_eval.engines.feed import Feed
    from cipo_eval.interrupts import Interrupts
    from cipo_eval.records import Completion, Request
    from cipo_eval.run.judging import Generated, Judging
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.progress import Progress
    from cipo_eval.verifiers.pool import VerifierPool

GIVEN = "given"


class Scoring(Run):
    """A run whose attempts come from a file: it knows what became of every one of them."""

    def __init__(self, *arguments: Any, source: ReplayEngine, **options: Any) -> None:
        self._source = source
        super().__init__(*arguments, **options)

    def _generate(
        self,
        engine: Engine,
        feed: Feed,
        pooled: Sequence[Generated],
        judging: Judging,
        progress: Progress,
        interrupts: Interrupts,
    ) -> None:
        """First attempts are all there: many are judged at a time, and nothing follows from them."""
        (plan,) = self.plans
        verifier = plan.problems.spec.verifier
        if feed.follow or pooled or not judging.pool.is_quick(verifier):
            return super()._generate(engine, feed, pooled, judging, progress, interrupts)
        under_way = UnderWay(judging.pool, feed.open)

        def settle(seconds: float) -> None:
            with interrupts.allowed():
                under_way.wait(seconds)
            with interrupts.held():
                for block in under_way.ready():
                    self._keep_block(block, progress)
                progress.judging = under_way.open
                progress.changed(progress)

        def finish(seconds: float = float("inf")) -> None:
            end = time.monotonic() + seconds
            while under_way.open and time.monotonic() < end:
                settle(LOOK_SECONDS)

        try:
            asked = self._asked(feed, engine)
            for chunk in interrupts.during(chunks_of_requests(asked, verifier, self.modes)):
                under_way.submit(chunk)
                settle(0)
                while under_way.full:
                    settle(LOOK_SECONDS)
            finish()
        except KeyboardInterrupt:
            progress.stopping(under_way.open)
            finish(GRACE_SECONDS)
            raise
        except Exception:  # a file that was changed must not take finished samples with it
            finish()
            raise
        return None

    def _asked(
        self, feed: Feed, engine: Engine
    ) -> Iterator[tuple[Request, Sequence[tuple[int, Place | Completion]]]]:
        """The requests, each with the samples that the file has."""
        feed.settle = lambda _: None
        while taken := feed.take(wait=True):
            for request in taken:
                held, marks = self._source.places(request)
                if isinstance(engine, Watched):
                    engine.note(request, marks)
                yield request, held
                feed.done(len(request.samples))

    def account(self, plan: TaskPlan) -> Account:
        """What became of the file's attempts so far."""
        return account(self._source, plan, self.store.load(plan.name))

    def record(self) -> list[str]:
        """Keeps the account in ``run.json``, with the call that it is of, and returns it for people."""
        accounts = [self.account(plan) for plan in self.plans]
        self.info["calls"][-1]["file"] = [account.to_json() for account in accounts]
        self.store.write_info(self.info)
        return [line for account in accounts for line in account.lines()]


def account(source: ReplayEngine, plan: TaskPlan, stored: Attempts) -> Account:
    """What became of the attempts of a file; ``stored``: those of the run."""
    rows = source.rows
    left_out = Counter(rows.left_out)
    selected, selection = {p.id for p in plan.selected}, plan.selection
    admitted = {p.id for p in plan.all_problems if plan.scope is None or plan.scope.admits(p)}
    counted = 0
    judged: dict[tuple[str, int], dict[str, IntArray]] = {}
    for place, of_turn, numbers in source.numbered():
        if not of_turn:
            left_out[f"of another turn ({place.protocol} turn {place.turn})"] += len(numbers)
        elif place.problem not in admitted:
            left_out["outside the window"] += len(numbers)
        elif place.problem not in selected:
            left_out[f"beyond --limit {plan.limit}"] += len(numbers)
        else:
            turn = place.protocol, place.turn
            if turn not in judged:
                judged[turn] = present(stored.only(stored.judged), *turn)
            there = set(judged[turn].get(place.problem, NO_SAMPLES).tolist())
            for number in numbers:
                key = AttemptKey(place.task, place.problem, place.protocol, number, place.turn)
                if not selection.wants(key):
                    left_out[f"above --samples {plan.samples}"] += 1
                elif number in there:
                    counted += 1
                else:
                    left_out["without a verdict"] += 1
    return Account(
        rows=rows.rows,
        empty=rows.empty,
        attempts=rows.attempts,
        judged=counted,
        left_out=+left_out,
        matched=rows.matched,
    )


def open_file(
    path: Path,
    problems: ProblemSet,
    *,
    protocol: str | None,
    pool: Path | None,
    id_map: Path | None,
    allow_unmatched: bool,
    workers: VerifierPool | None = None,
) -> tuple[ReplayEngine, Revising]:
    """The attempts of a file, and what they are: first ones, or corrections (``protocol`` given, or a ``pool``).

    Each correction is paired with the attempt that it corrects. Rows that carry it are compared with the pool's
    attempts; without a pool, with those that come with the task's data, and where they are others, the carried ones
    take their place. ``workers``: who reads a large file together with this process. Raises ``UsageError``.
    """
    if protocol not in (None, DIRECT, GIVEN):
        raise UsageError(
            f"--protocol {protocol}: a file holds first attempts (direct) or corrections (given)"
        )
    if protocol == DIRECT and pool is not None:
        raise UsageError("--attempts-from belongs together with --protocol given")
    correcting = protocol == GIVEN or pool is not None
    names = read_id_map(id_map, problems.problems) if id_map else {}
    source = ReplayEngine(
        path,
        problems.problems,
        allow_unmatched=allow_unmatched,
        turn=(GIVEN, 2) if correcting else (DIRECT, 1),
        id_map=names,
        pool=workers,
    )
    if not correcting:
        return source, Revising()
    corrected = _corrected(source, problems, pool, names)
    source.pair(corrected)
    return source, Revising(protocols=protocols_named([GIVEN]), direct=False, pool=corrected)


def _corrected(source: ReplayEngine, problems: ProblemSet, pool: Path | None, names: dict[str, str]) -> Pool:
    """The attempts that the file corrects."""
    carrying, every = source.carrying
    if pool is not None:
        itself = pool.exists() and pool.samefile(source.path)
        return source.carried() if itself and carrying else read_pool(pool, problems.problems, names)
    own = own_pool(problems.problems)
    differing = source.differing(own) if own else carrying
    if carrying == every and differing:
        source.warnings.append(
            f"{differing} of {every} attempts of {source.path} correct another attempt than the one that comes with "
            f"the data of {problems.spec.name}: the attempts that its rows carry are taken instead"
        )
        return source.carried(own)
    if own is None:
        raise UsageError(
            f"the data of {problems.spec.name} comes with no attempts that could have been corrected: name some "
            "with --attempts-from (docs/pools.md)"
        )
    if carrying < every:
        source.warnings.append(
            f"{every - carrying} of {every} attempts of {source.path} do not say what they correct: they are taken "
            f"to correct those that come with the data of {problems.spec.name}, in their order"
        )
    return own
