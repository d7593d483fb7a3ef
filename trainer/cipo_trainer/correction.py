"""What CIPO adds (arXiv:2605.14539): the step's own attempts become correction problems of the same step.

Marked below: *paper* what its abstract and public reviews say, *re-implementation* what a public third-party one does,
*ours* the rest.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cipo_eval.engines.conversation import Chat
from cipo_eval.records import Mode, Problem, Request, State, Turn, Verdict, derive_seed
from cipo_eval.rewards.shaping import risk_penalty
from cipo_eval.turns.protocols import PROTOCOLS, Protocol
from cipo_eval.turns.revising import Prompts, Revising, TurnFormat
from cipo_trainer import advantage
from cipo_trainer.advantage import AdvantageFunction
from cipo_trainer.config import Correction
from cipo_trainer.method_options import SecondTurn
from cipo_trainer.reward import Rewards
from cipo_trainer.rollout import Group, Sample, sampling

# --- anchors -------------------------------------------------------------------------------------------------


def select_anchors(
    groups: Sequence[Group], config: Correction, rho: float, seed: int, remembered: Sequence[Sample] = ()
) -> list[Sample]:
    """Attempts of the base stream to correct: ⌊φ·B⌋ in number, ⌊ρ·n⌋ of them right ones (*re-implementation*).

    Problems whose accuracy lies in the band come first, the others fill up; a shortage on one side is filled from the
    other. A problem gives ``per_problem`` anchors of a side before others get their turn (*ours*: where few problems
    lie in the band, they would give all). ``remembered``: right attempts of earlier steps, in place of this step's.
    Depends on ``seed`` and the order of both only. With ``select: best`` it is
    each problem's best attempt, ties at random (iGRPO, arXiv:2602.09000), whatever else is asked for.
    """
    rng = random.Random(seed)
    if config.select == "best":
        return [_best(group, rng) for group in groups]
    total = int(config.fraction * len(groups))
    sides: dict[bool, list[tuple[tuple[int, bool, float], Sample]]] = {True: [], False: []}
    low, high = config.band
    for group in groups:
        usable = [s for s in group.samples if s.tokens and (config.truncated or not s.truncated)]
        outside = not low <= group.accuracy <= high
        for side, candidates in sides.items():
            attempts = [s for s in usable if s.correct is side]
            rng.shuffle(attempts)
            chance = rng.random()
            candidates += [((i // config.per_problem, outside, chance), s) for i, s in enumerate(attempts)]
    ordered = {
        side: [s for _, s in sorted(candidates, key=lambda e: e[0])] for side, candidates in sides.items()
    }
    right, wrong = ordered[True], ordered[False]
    if remembered:
        right = rng.sample(remembered, len(remembered))
    # another protocol tells the model that the attempt was wrong; what comes of right ones may never be learned
    if config.protocol != "self" or config.keep == "improving":
        right = []
    count = min(int(rho * total), len(right))
    count = min(len(right), max(count, total - len(wrong)))
    return right[:count] + wrong[: total - count]


def remember(
    kept: Sequence[Mapping[str, Any]],
    groups: Sequence[Group],
    positions: Mapping[str, int],
    config: Correction,
) -> list[dict[str, Any]]:
    """``kept`` with a right attempt of each of these groups that has one, the last ``memory`` of different problems.

    ``positions``: where problems, by their ids, are in the data. What is kept can be written as JSON.
    """
    rows = {row["problem"]: dict(row) for row in kept}
    for group in groups:
        usable = (s for s in group.samples if s.correct and (config.truncated or not s.truncated))
        if (attempt := next(usable, None)) is not None:
            name = attempt.problem.id
            rows.pop(name, None)  # the newest stand last
            rows[name] = {
                "problem": name,
                "position": positions[name],
                "text": attempt.text,
                "extracted": attempt.verdict.extracted,
                "canonical": attempt.verdict.canonical,
            }
    return list(rows.values())[-config.memory :]


def recalled(row: Mapping[str, Any], problem: Problem) -> Sample:
    """A remembered attempt, as an anchor: it has a text and no tokens."""
    verdict = Verdict(
        correct=True, state=State.CORRECT, extracted=row["extracted"], canonical=row["canonical"]
    )
    return Sample(
        problem=problem,
        number=0,
        prompt=(),
        tokens=(),
        logprobs=(),
        text=row["text"],
        finish_reason=None,
        verdict=verdict,
    )


def continued(chains: Sequence[tuple[Sequence[Sample], Group]], seed: int) -> list[list[Sample]]:
    """Each chain of attempts with one more: a correction of its last attempt, drawn by ``seed`` from the group. A chain
    whose corrections have no tokens is left out."""
    rng = random.Random(seed)
    longer = []
    for chain, group in chains:
        usable = [sample for sample in group.samples if sample.tokens]
        if usable:
            longer.append([*chain, rng.choice(usable)])
    return longer


def _best(group: Group, rng: random.Random) -> Sample:
    """A right attempt; where there is none, one that came to its end; else any."""
    for wanted in ([s for s in group.samples if s.correct], [s for s in group.samples if not s.truncated]):
        if wanted:
            return rng.choice(wanted)
    return rng.choice(group.samples)


class CorrectionPrompts:
    """Makes prompts that show an attempt and ask for a better one, with the harness's own protocols and templates."""

    def __init__(
        self,
        config: Correction | SecondTurn,
        chat: Chat = Chat(),  # noqa: B008  frozen
        protocol: Protocol | None = None,
    ) -> None:
        """``protocol``: another than the configuration's."""
        self._chat = chat
        self._protocol = protocol or PROTOCOLS[config.protocol if isinstance(config, Correction) else "self"]
        prompts = Prompts(config.prompt_dir) if config.prompt_dir else None
        self._revising = Revising(
            protocols=(self._protocol,), turn_format=TurnFormat(config.turn_format), prompts=prompts
        )

    def request(
        self,
        anchor: Sample,
        number: int,
        samples: int,
        max_tokens: int,
        *place: str | int,
        judgement: str | None = None,
        earlier: Sequence[Sample] = (),
    ) -> Request:
        """The request for ``samples`` corrections of an anchor, of at most ``max_tokens`` tokens each.

        ``number``: the anchor's within the step; ``judgement``: what the model has said of it; ``earlier``: the
        attempts that it is a correction of; ``place`` as in ``rollout.first_requests``. Where the context is too short,
        the attempt loses its middle, never the prompt its end.
        """
        first = self._chat.messages(anchor.problem.prompt)
        history = tuple(Turn(attempt.text, {Mode.FIXED: attempt.verdict}) for attempt in (*earlier, anchor))
        if judgement is not None:
            history = (*history, Turn(judgement, {}))
        messages, carried = self._revising.messages(self._protocol, first, history)
        return Request(
            problem=anchor.problem,
            messages=messages,
            samples=tuple(range(samples)),
            seeds=tuple(
                derive_seed(*place, "correction", number, anchor.problem.id, n) for n in range(samples)
            ),
            sampling=sampling(max_tokens),
            protocol=self._protocol.name,
            turn=len(history) + 1,
            history=history,
            carried=carried,
        )


# --- advantages ----------------------------------------------------------------------------------------------


def correction_advantages(
    groups: Sequence[Group],
    rewards: Rewards,
    config: Correction,
    baseline: str,
    scale: str,
    advantages: AdvantageFunction = advantage.advantages,
) -> Rewards:
    """Advantages of corrections, one array per group: those of the base stream with the risk penalty.

    A right anchor that comes out wrong costs ``risk`` more (*paper*; the formula *re-implementation*). At stage
    ``reward`` it is taken off the reward; with one anchor per group and z-scored advantages that changes nothing
    ({1, 0} and {1, -risk} have the same z-scores, and a group that is all wrong has no variance). At stage
    ``advantage`` it is taken off the advantage (*ours*), where it always acts.
    """
    broken = [
        np.array(
            [risk_penalty(bool(g.anchor and g.anchor.correct), s.correct, config.risk) for s in g.samples]
        )
        for g in groups
    ]
    if config.risk_stage == "reward":
        rewards = [r - b for r, b in zip(rewards, broken, strict=True)]
        return advantages(rewards, baseline, config.scale or scale)
    unshaped = advantages(rewards, baseline, config.scale or scale)
    return [a - b for a, b in zip(unshaped, broken, strict=True)]


def stream_weight(
    config: Correction, base: Sequence[Group], groups: Sequence[Group], norms: Mapping[str, float]
) -> float:
    """λ, the weight of the correction stream in the objective, in which each stream is normalised by itself.

    ``auto`` (*ours*): its share of the step's groups. ``sequences`` (*ours*): corrections by first attempts, so that
    one weighs what the other does. ``balanced`` (*ours*): the ratio of the gradient norms that ``balance`` keeps, at
    most 1; 1 before there are any.
    """
    if config.weight == "auto":
        return len(groups) / max(1, len(base) + len(groups))
    if config.weight == "sequences":
        return sum(len(g.samples) for g in groups) / max(1, sum(len(g.samples) for g in base))
    if config.weight == "balanced":
        return min(1.0, norms["base"] / norms["correction"]) if norms else 1.0
    return float(config.weight)


def balance(norms: Mapping[str, float], measured: Mapping[str, Any], config: Correction) -> dict[str, float]:
    """``norms`` with those of a step: smoothed norms of both streams' gradients, that of corrections at λ = 1. A step
    in which either has none changes nothing."""
    weight = measured.get("lambda") or 0.0
    base, ours = (measured.get(f"grad_norm_{name}") or 0.0 for name in ("base", "correction"))
    if not (base and ours and weight and np.isfinite(base + ours)):
        return dict(norms)
    now = {"base": base, "correction": ours / weight}
    past = config.balance_smoothing if norms else 0.0
    return {name: past * norms.get(name, 0.0) + (1 - past) * value for name, value in now.items()}


# --- ρ -------------------------------------------------------------------------------------------------------


GAIN = 0.8
"""How much ρ moves for a retention below its target, as a share of itself (*re-implementation*, as the next three)."""
FALL_GAIN = 0.3
"""How much ρ moves for a retention that fell since the last step."""
BELOW_GAIN = 0.05
"""How much ρ moves for each step in a row whose retention was below the target."""
BELOW_MOST = 3
"""Steps in a row that count for that, at the most."""
DAMPED_SMOOTHING = 0.8
"""damped (*ours*): least weight of the past in the retention."""
DAMPED_STEP = 0.02
"""damped (*ours*): most that ρ moves in a step, as a share of itself."""


@dataclass(slots=True)
class Controller:
    """Moves ρ, the share of right anchors, from step to step.

    ``adaptive`` (*paper*; the formula *re-implementation*): ρ ← clip(ρ·[1 + 0.8(τ-R) + 0.3·max(0, R_prev-R) +
    0.05·min(c, 3)], range); R: retention, the raw success of corrections of right anchors; c: consecutive steps with
    R < τ, this one included. Without a right anchor nothing changes. ``damped`` (*ours*): the same with R smoothed, and
    at most 2 % per step. ``fixed`` (*ours*): ρ stays.
    """

    rho: float
    previous: float | None = None
    """Retention R of the last step that had a right anchor, smoothed where a configuration says so."""
    below: int = 0
    """Steps in a row whose retention was below the target (c)."""
    first: float | None = None
    """Retention of the first step that had a right anchor."""
    history: list[float] = field(default_factory=list)
    """ρ after each step."""

    def update(self, retention: float | None, config: Correction) -> float:
        """Takes in a step's retention, in [0, 1] (None: there was no right anchor), and returns ρ for the next step."""
        if retention is not None:
            self._move(retention, config)
        self.history.append(self.rho)
        return self.rho

    def target(self, config: Correction) -> float:
        """The retention that ρ is moved towards (τ)."""
        if not config.relative_target or self.first is None:
            return config.retention_target
        return self.first + config.retention_target * (1 - self.first)

    def _move(self, retention: float, config: Correction) -> None:
        damped = config.controller == "damped"
        past = max(config.smoothing, DAMPED_SMOOTHING if damped else 0.0)
        if self.first is None:
            self.first = retention
        if self.previous is not None:
            retention = past * self.previous + (1 - past) * retention
        target = self.target(config)
        self.below = self.below + 1 if retention < target else 0
        fall = 0.0 if self.previous is None else max(0.0, self.previous - retention)
        self.previous = retention
        if config.controller == "fixed":
            return
        change = GAIN * (target - retention) + FALL_GAIN * fall + BELOW_GAIN * min(self.below, BELOW_MOST)
        if damped:
            change = min(DAMPED_STEP, max(-DAMPED_STEP, change))
        low, high = config.rho_range
        self.rho = min(high, max(low, self.rho * (1 + change)))

    def state(self) -> dict[str, Any]:
        """The fields as JSON has them, for a checkpoint; ``Controller(**state)`` goes on from them."""
        return asdict(self)


# --- what is measured ----------------------------------------------------------------------------------------


def diagnostics(base: Sequence[Group], groups: Sequence[Group]) -> dict[str, float | None]:
    """Figures of the correction stream, all from verdicts, in [0, 1] but for the counts; None: there was nothing to
    measure it on.

    ``resample`` is the control: how often the other attempts at the problems of failed anchors are right, i.e. what a
    fresh attempt would have given; ``lift`` is the correction rate above it.
    """
    others = {
        id(s): (g.accuracy * len(g.samples) - s.correct, len(g.samples) - 1) for g in base for s in g.samples
    }
    right = [g for g in groups if g.anchor and g.anchor.correct]
    wrong = [g for g in groups if g.anchor and not g.anchor.correct]
    rate = _mean([g.accuracy for g in wrong])
    controls = [others[id(g.anchor)] for g in wrong if id(g.anchor) in others]
    again = _mean([successes / count for successes, count in controls if count])
    pairs = [(s, g.anchor) for g in groups for s in g.samples if g.anchor]
    return {
        "retention": _mean([g.accuracy for g in right]),
        "correction_rate": rate,
        "resample": again,
        "lift": None if rate is None or again is None else rate - again,
        "copies": _mean([s.text.strip() == a.text.strip() for s, a in pairs]),
        "same_answer": _mean([s.verdict.canonical == a.verdict.canonical is not None for s, a in pairs]),
        "right_anchors": float(len(right)),
        "wrong_anchors": float(len(wrong)),
    }


def _mean(values: Sequence[float | bool]) -> float | None:
    return float(np.mean(values)) if values else None
