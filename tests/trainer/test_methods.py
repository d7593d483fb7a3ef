"""The methods that CIPO is compared with: identities that each must fulfil, on a bandit of two questions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import bandit, group, sample
from safetensors.torch import load_file

from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Verdict
from cipo_trainer import advantage, loss
from cipo_trainer.batch import Batch, together
from cipo_trainer.config import Config, Correction, Loss
from cipo_trainer.correction import remember
from cipo_trainer.logs import read
from cipo_trainer.loop import Trainer
from cipo_trainer.method_options import Hints, Trials, Verify
from cipo_trainer.methods.hints import Hinted
from cipo_trainer.methods.step import Step
from cipo_trainer.methods.trials import Segmented, process_advantages
from cipo_trainer.methods.verify import Judged
from cipo_trainer.presets import build
from cipo_trainer.rollout import Group, Sample
from cipo_trainer.step import _cosine
from cipo_trainer.teacher import Teacher

WORDS = {"prompt_dir": "prompts"}
PAG = {**WORDS, "ask": "Right?", "right": "1", "wrong": "0", "retry": "Again."}


def short(folder: Path, algorithm: str, **more: Any) -> Config:
    """Two steps."""
    values: dict[str, Any] = {"steps": 2, "rollout": {"problems": 2, "samples": 8}, "log": {"samples": 99}}
    return bandit(folder, algorithm, **{**values, **more})


def train(config: Config) -> list[dict[str, Any]]:
    with Trainer(config) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    return [row for row in read(config.output / "log.jsonl") if row["kind"] == "train"]


def weights(config: Config) -> dict[str, torch.Tensor]:
    return load_file(config.output / f"checkpoints/step-{config.steps:06d}/model.safetensors")


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


class Told:
    """A step whose generations are made up: each request is answered by the next pattern (``group``)."""

    def __init__(self, *answers: str) -> None:
        self.answers = list(answers)
        self.asked: list[Any] = []

    def step(self, **values: Any) -> Step:
        config = build({"algorithm": "grpo", **values})
        return Step(
            number=0,
            config=config,
            roll_out=self.rolled,
            advantages=advantage.advantages,
            encode=lambda _: (),
            spoken=lambda tokens: "".join(chr(token) for token in tokens),
            judge=lambda samples: ([verdict("8" in s.text) for s in samples], 0.0),
            referred=lambda sequences: [-0.25 * len(s.tokens) for s in sequences],
        )

    def rolled(
        self, requests: list[Any], anchors: Sequence[Sample] | None = None, judge: Any = None
    ) -> tuple[list[Group], float]:
        self.asked += requests
        made = []
        for at, request in enumerate(requests):
            answer = group(self.answers.pop(0), request.problem.id, anchors[at] if anchors else None)
            other = [replace(s, prompt=(9, 9)) for s in answer.samples]  # not the problem's own
            answer = replace(answer, samples=tuple(other))
            if judge:
                said = [replace(s, verdict=judge(request, s.text)) for s in answer.samples]
                answer = replace(answer, samples=tuple(said))
            made.append(answer)
        return made, 0.0


def verdict(right: bool) -> Verdict:
    return replace(sample(right).verdict, canonical=None)


def written(text: str, *, right: bool = False, cut: bool = False) -> Sample:
    """A completion whose tokens are its characters."""
    tokens = tuple(map(ord, text))
    return replace(
        sample(right, cut=cut, text=text), prompt=(1,), tokens=tokens, logprobs=(-0.5,) * len(tokens)
    )


def base_of(*groups: Group) -> Batch:
    given = [np.array([float(s.correct) for s in g.samples]) for g in groups]
    return Batch(
        name="base", groups=list(groups), advantages=advantage.advantages(given, "mean", "group_std")
    )


# --- normalisers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("aggregate", ["sequence_mean", "token_mean", "constant"])
def test_batches_that_are_normalised_together_count_as_one(aggregate: str) -> None:
    options = Loss(aggregate=aggregate)  # type: ignore[arg-type]
    lengths = [3, 1, 7, 2, 2]
    whole = loss.weights(lengths, options, 10)
    for cut in range(1, 5):
        parts = [lengths[:cut], lengths[cut:]]
        apart = [
            w for part in parts for w in loss.weights(part, options, 10, loss.share(part, lengths, options))
        ]
        assert apart == pytest.approx(whole, rel=1e-12)


def test_a_batch_that_is_alone_keeps_its_weight() -> None:
    base = base_of(group("+-+"))
    nothing = Batch(name="hinted", groups=[], advantages=[])
    first, second = together([replace(base, weight=0.3), nothing], Loss())
    assert first.weight == 0.3
    assert second.stream(Loss()).sequences == []


# --- the loss of texts that another prompt drew --------------------------------------------------------------


@pytest.mark.parametrize("kind", ["shaped", "linear"])
def test_what_another_prompt_drew_by_hand(kind: str) -> None:
    """f(x) = x / (x + γ), of the ratio or the probability, and its gradient γ·x / (x + γ)²·A."""
    logp = torch.tensor([-1.0, -2.0], dtype=torch.float64, requires_grad=True)
    sampled = torch.tensor([-0.5, -3.0], dtype=torch.float64)
    options = Loss(kind=kind, gamma=0.2)  # type: ignore[arg-type]
    gains = torch.tensor([1.0, -2.0], dtype=torch.float64)
    losses, _ = loss.policy_loss(logp, gains, torch.tensor([0, 1]), options, sampled=sampled)
    losses.sum().backward()  # type: ignore[no-untyped-call]
    for i, (now, then, gain) in enumerate([(-1.0, -0.5, 1.0), (-2.0, -3.0, -2.0)]):
        x = math.exp(now - then) if kind == "shaped" else math.exp(now)
        assert losses[i].item() == pytest.approx(-x / (x + 0.2) * gain)
        assert logp.grad is not None
        assert logp.grad[i].item() == pytest.approx(-0.2 * x / (x + 0.2) ** 2 * gain)


# --- identities ----------------------------------------------------------------------------------------------


def test_multi_turn_without_weight_is_grpo(tmp_path: Path) -> None:
    """Bit for bit; and ``both`` is SCoRe's second stage without its bonus and KL terms."""
    plain = short(tmp_path, "grpo")
    train(plain)
    idle = short(tmp_path, "multi_turn_grpo", method={**WORDS, "weight": 0.0}, output=str(tmp_path / "idle"))
    logged = train(idle)
    assert same(weights(plain), weights(idle))
    assert logged[0]["correction_attempts"] == 16
    assert logged[0]["generated_tokens"] == logged[0]["base_tokens"] + logged[0]["correction_tokens"]
    one = short(tmp_path, "multi_turn_grpo", method=WORDS, output=str(tmp_path / "one"))
    stage = {**WORDS, "credit": "both", "progress": 0.0, "betas": [1e-4, 1e-4]}
    two = short(tmp_path, "multi_turn_grpo", method=stage, output=str(tmp_path / "two"))
    train(one), train(two)
    assert same(weights(one), weights(two))
    assert not same(weights(one), weights(plain))


def test_the_cosine_of_two_streams(tmp_path: Path) -> None:
    """1 where both are the same gradient; from the three norms otherwise."""
    logged = train(
        short(
            tmp_path,
            "cipo",
            correction={**WORDS, "truncated": True},
            rollout={"problems": 4, "samples": 32},
            steps=1,
        )
    )[0]
    names = [name for name in logged if name.startswith("grad_norm_")]
    assert sorted(names) == ["grad_norm_base", "grad_norm_correction"]
    one, other = (logged[name] for name in names)
    total = math.sqrt(one**2 + other**2 + 2 * one * other * logged["stream_cosine"])
    assert logged["grad_norm"] == pytest.approx(total, rel=1e-5)
    assert _cosine([torch.tensor(3.0), torch.tensor(4.0)], 7.0) == {"stream_cosine": pytest.approx(1)}
    assert _cosine([torch.tensor(3.0), torch.tensor(4.0)], 5.0) == {"stream_cosine": pytest.approx(0)}
    assert _cosine([torch.tensor(3.0), torch.tensor(0.0)], 3.0) == {}


def test_credit_of_first_attempts() -> None:
    """Of two problems with two attempts each: what their revisions are worth."""
    from cipo_trainer.method_options import MultiTurn
    from cipo_trainer.methods.multi_turn import Revisions

    base = base_of(group("+-", "p"), group("--", "q"))
    expected = {
        "both": [[1, -1], [0, 0]],  # what they are themselves
        "last": [[-1, 1], [1, -1]],  # what became of them
        "return": [[0, 0], [1, -1]],
        "second": [[0, 0], [0, 0]],
    }
    for credit, signs in expected.items():
        made = Told("-", "+", "+", "-")
        options = MultiTurn(credit=credit)  # type: ignore[arg-type]
        first, second = Revisions(options).batches(base, made.step())[0]
        assert [np.sign(np.round(a, 6)).tolist() for a in first.advantages] == signs, credit
        assert np.sign(np.concatenate(second.advantages)).tolist() == [-1, 1, 1, -1]
        assert [g.anchor for g in second.groups] == [s for g in base.groups for s in g.samples]


def test_hints_are_for_problems_without_a_right_attempt() -> None:
    """Where there are none, nothing is asked and the batch is GRPO's; what a hint brings is learned as an answer to the
    problem, and the group is compared anew."""
    solved = base_of(group("+-", "p"), group("++", "q"))
    made = Told()
    batches, _ = Hinted(Hints()).batches(solved, made.step())
    assert batches == [solved]
    assert made.asked == []
    base = base_of(group("----", "p"), group("+---", "q"))
    made = Told("-++-")
    batches, measured = Hinted(Hints(template="{{ problem }} not {{ answers }}{{ concise }}")).batches(
        base, made.step()
    )
    (request,) = made.asked
    assert request.messages[-1]["content"] == "question p not no 0, no 1, no 2, no 3False"
    own, hinted = batches
    assert [len(g.samples) for g in own.groups] == [2, 4]
    assert [s.correct for s in own.samples] == [False, False, True, False, False, False]
    assert [s.correct for s in hinted.samples] == [True, True]
    assert {s.prompt for s in hinted.samples} == {base.groups[0].samples[0].prompt}
    assert hinted.stream(Loss()).loss == Loss(kind="shaped")
    gains = np.concatenate([*own.advantages[:1], *hinted.advantages])
    assert gains == pytest.approx(np.array([-1, -1, 1, 1]) * np.sqrt(3) / 2, abs=1e-4)
    assert own.weight + hinted.weight == pytest.approx(1)
    assert (measured["hinted_kept"], measured["hinted_tokens"]) == (2, 12)
    (control,), _ = Hinted(Hints(hint=False)).batches(base, Told("-++-").step())
    assert [len(g.samples) for g in control.groups] == [4, 4]
    assert control.loss == {}


def test_a_hint_is_no_template_for_what_a_model_wrote() -> None:
    bad = replace(sample(False), verdict=replace(sample(False).verdict, canonical="{{ problem }}" * 30))
    made = Told("--")
    Hinted(Hints()).batches(base_of(Group(samples=(bad, bad))), made.step())
    asked = made.asked[0].messages[-1]["content"]
    assert "{{ problem }}" in asked
    assert asked.count("{{ problem") < 10
    with pytest.raises(UsageError, match=r"method\.template"):
        Hinted(Hints(template="{{ nonsense }}"))


def test_a_teacher_that_sees_no_more_teaches_nothing(tmp_path: Path) -> None:
    """With the model itself as the reference, and the problem alone shown: no gradient at all."""
    alone = {"template": "{{ problem }}{% if 0 %}{{ demonstration }}{% endif %}"}
    logged = train(short(tmp_path, "sdpo", method=alone, steps=1, rollout={"problems": 4, "samples": 32}))
    assert logged[0]["taught"] > 0
    assert logged[0]["trained_tokens"] > 0
    assert logged[0]["grad_norm"] == pytest.approx(0, abs=1e-7)
    more = {"template": "{{ problem }} {{ demonstration }} {{ problem }}"}
    config = short(
        tmp_path,
        "sdpo",
        method=more,
        steps=1,
        rollout={"problems": 4, "samples": 32},
        output=str(tmp_path / "m"),
    )
    assert train(config)[0]["grad_norm"] > 1e-6


TAUGHT: dict[str, Any] = {"rollout": {"problems": 4, "samples": 32}}
SHOWN = {"template": "{{ problem }} {{ demonstration }} {{ problem }}"}


def teacher_of(config: Config) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
    """Weights of model and teacher after all steps of a training, and of both before."""
    with Trainer(config) as trainer, Interrupts() as interrupts:
        before = [p.detach().clone() for p in trainer.policy.model.parameters()]
        trainer.run(interrupts)
        models = (trainer.policy.model, trainer.policy.reference)
        after = [[p.detach() for p in model.parameters()] for model in models]
    return after[0], after[1], before


@pytest.mark.parametrize("rate", [0.0, 0.5, 1.0])
def test_a_teacher_follows(tmp_path: Path, rate: float) -> None:
    """After one update it is that share of the way from where both began to the model: at 0 it stays, at 1 it is it."""
    method = {**SHOWN, "follow": rate}
    model, teacher, before = teacher_of(short(tmp_path, "sdpo", method=method, steps=1, **TAUGHT))
    assert any(not torch.equal(m, b) for m, b in zip(model, before, strict=True))
    for m, t, b in zip(model, teacher, before, strict=True):
        torch.testing.assert_close(t, b + rate * (m - b))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_divergence_over_top_tokens_by_hand(alpha: float) -> None:
    """Over the whole vocabulary it is the divergence as it is written; over fewer tokens that of distributions with the
    others as one token, which is never more; 0 between equals."""
    torch.manual_seed(0)
    ours, theirs = (torch.randn(5, 7, dtype=torch.float64).log_softmax(-1) for _ in range(2))
    p, q = ours.exp(), theirs.exp()
    m = (1 - alpha) * p + alpha * q
    written = {0.0: (q * (q / p).log()).sum(-1), 1.0: (p * (p / q).log()).sum(-1)}.get(
        alpha, (1 - alpha) * (p * (p / m).log()).sum(-1) + alpha * (q * (q / m).log()).sum(-1)
    )
    full = loss.divergence(ours, theirs, alpha, whole=True)
    torch.testing.assert_close(full, written)
    last = full
    for count in (6, 3, 1):
        ids = ours.topk(count).indices
        some = loss.divergence(ours.gather(1, ids), theirs.gather(1, ids), alpha, whole=False)
        if count == 6:  # the seventh is alone in what is left
            torch.testing.assert_close(some, full)
        assert bool((some <= last + 1e-9).all())
        last = some
        assert loss.divergence(ours, ours, alpha, whole=True).abs().max() < 1e-12


def test_the_sampled_token_estimates_the_whole_distribution() -> None:
    """Over what the model would say, the gradient of k2 is that of KL(model ‖ teacher) over the vocabulary."""
    torch.manual_seed(0)
    logits = torch.randn(7, dtype=torch.float64, requires_grad=True)
    theirs = torch.randn(7, dtype=torch.float64).log_softmax(-1)
    ours = logits.log_softmax(-1)
    (whole,) = torch.autograd.grad(
        loss.divergence(ours[None], theirs[None], 1.0, whole=True).sum(), logits, retain_graph=True
    )
    (expected,) = torch.autograd.grad((ours.detach().exp() * loss.kl(ours, theirs, "k2")).sum(), logits)
    torch.testing.assert_close(whole, expected)


def test_a_teacher_speaks_of_more_than_the_sampled_token(tmp_path: Path) -> None:
    """As many tokens as the vocabulary has, or more, are the same; one that sees no more than the model teaches
    nothing; prompts of the teacher in several micro-batches give what one gives."""

    def logged_of(name: str, **values: Any) -> list[float]:
        method = {**SHOWN, "top": 14, **values.pop("method", {})}
        config = short(
            tmp_path, "sdpo", method=method, output=str(tmp_path / name), steps=1, **{**TAUGHT, **values}
        )
        (row,) = train(config)
        return [row[name] for name in ("grad_norm", "loss", "kl")]

    whole = logged_of("whole")
    assert whole[0] > 1e-5
    assert logged_of("more", method={"top": 1000}) == whole
    assert logged_of("almost", method={"top": 13}) == pytest.approx(whole, rel=1e-3)  # one is left, alone
    small = logged_of("small", optimizer={"micro_tokens": 40, "chunk": 5})
    assert small == pytest.approx(whole, rel=1e-3)
    assert logged_of("few", method={"top": 2}) != pytest.approx(whole, rel=1e-3)
    alone = {"template": "{{ problem }}{% if 0 %}{{ demonstration }}{% endif %}", "top": 3}
    nothing = short(tmp_path, "sdpo", method=alone, steps=1, output=str(tmp_path / "alone"), **TAUGHT)
    logged = train(nothing)[0]
    assert logged["trained_tokens"] > 0
    assert logged["grad_norm"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(UsageError, match="fsdp"):
        build({"algorithm": "sdpo", "method": {"top": 3}, "parallel": "fsdp"})


@pytest.mark.slow
def test_a_teacher_that_follows_is_kept_with_the_checkpoint(tmp_path: Path) -> None:
    method = {**SHOWN, "follow": 0.3}
    whole = short(tmp_path, "sdpo", method=method, steps=4, **TAUGHT)
    train(whole)
    broken = short(tmp_path, "sdpo", method=method, output=str(tmp_path / "broken"), **TAUGHT)
    train(broken)
    train(broken.model_copy(update={"steps": 4}))
    assert same(weights(whole), weights(broken.model_copy(update={"steps": 4})))
    frozen = short(tmp_path, "sdpo", method=SHOWN, steps=4, output=str(tmp_path / "frozen"), **TAUGHT)
    train(frozen)
    assert not same(weights(whole), weights(frozen))
    with pytest.raises(UsageError, match=r"method\.follow"):
        short(tmp_path, "sdpo", method=method, lora={"rank": 2})


def test_a_teacher_computes_in_a_shorter_type_and_follows_exactly() -> None:
    """A share of an update that bfloat16 cannot show adds up."""
    shown = torch.nn.Linear(4, 4, bias=False, dtype=torch.bfloat16)
    torch.nn.init.constant_(shown.weight, 1.0)
    teacher = Teacher(shown, 0.05)
    for _ in range(200):
        teacher.follow([torch.full((4, 4), 1.03)])
    assert shown.weight.float().mean().item() == pytest.approx(1.03, abs=2e-3)
    assert teacher.state()[0].dtype == torch.float32


def test_only_what_is_called_wrong_is_tried_again() -> None:
    """A judgement is paid for being true; what is not called wrong has no second attempt."""
    options = Verify(ask="?", right="true", wrong="false", retry="again")
    judged = Judged(options)
    assert [judged.said(text) for text in ("TRUE", "false … true", "true, no: False", "hm", "")] == [
        True,
        True,
        False,
        None,
        None,
    ]
    base = base_of(group("+-", "p"), group("--", "q"))
    never = Told("+", "+", "+", "+")
    batches, measured = Judged(replace_phrases(options, wrong="never said")).batches(base, never.step())
    assert len(never.asked) == 4
    assert [b.name for b in batches] == ["base", "correction", "judgement"]
    assert batches[1].groups == []
    assert measured["correction_attempts"] == 0
    # the made-up texts end with "True" or "False": said to be wrong are the second, third and fourth
    said = Told("+", "-", "-", "-", "+", "+", "-")
    batches, measured = judged.batches(base, said.step())
    assert len(said.asked) == 7
    assert [s.correct for s in batches[2].samples] == [True, True, True, True]
    assert measured["recall_right"] == measured["recall_wrong"] == 1.0
    assert [g.anchor for g in batches[1].groups] == [base.groups[0].samples[1], *base.groups[1].samples]
    assert said.asked[4].turn == 3
    # progress pays: right after wrong 2, wrong after wrong 0; q's two are compared with each other, p's one with all
    gains = np.concatenate(batches[1].advantages)
    assert np.sign(gains).tolist() == [1, 1, -1]


def replace_phrases(options: Verify, **values: str) -> Verify:
    return options.model_copy(update=values)


def test_a_refinement_takes_one_slot(tmp_path: Path) -> None:
    from cipo_trainer.method_options import Refine
    from cipo_trainer.methods.refine import Refined

    base = base_of(group("+---", "p"))
    made = Told("-", "-", "+", "+")
    (own, refined), _ = Refined(Refine(right="fine", wrong="bad")).batches(base, made.step())
    assert [("fine" in r.messages[-1]["content"]) for r in made.asked] == [True, False, False, False]
    assert len(own.samples) == 3
    assert [s.correct for s in refined.samples] == [True]
    assert refined.samples[0].prompt == base.groups[0].samples[0].prompt
    assert refined.loss == {"kind": "linear"}
    nothing = Told("-", "-", "-", "-")
    assert len(Refined(Refine(slots=2)).batches(base, nothing.step())[0][1].samples) == 2
    logged = train(short(tmp_path, "critique_grpo", method={**WORDS, "right": "R", "wrong": "W"}))
    assert logged[0]["mismatch_max"] < 1e-4  # refinements are no mismatch


def test_only_corrections_of_wrong_attempts_are_learned(tmp_path: Path) -> None:
    """Without a right one nothing changes; drafts of iGRPO are not trained on, and every prompt has one."""
    words = {**WORDS, "samples": 4, "truncated": True}
    shown = short(tmp_path, "rft_corrections", correction=words, steps=1)
    logged = train(shown)
    attempts = logged[0]["correction_attempts"] * logged[0]["correction_accuracy"]
    assert logged[0]["trained_tokens"] == attempts
    assert bool(logged[0]["updates"]) is bool(attempts)
    assert logged[0]["right_anchors"] == 0
    drafts = short(tmp_path, "igrpo", correction=words, output=str(tmp_path / "drafts"))
    logged = train(drafts)
    assert [row["right_anchors"] + row["wrong_anchors"] for row in logged] == [2, 2]
    assert all(row["trained_tokens"] <= row["correction_tokens"] for row in logged)
    samples = [row for row in read(drafts.output / "samples.jsonl") if row["stream"] == "correction"]
    assert len(samples) == 4
    assert all("anchor" in row for row in samples)


TRIALS = Trials(check="?", retry="again", right="true", wrong="false", kl=0.0)


def test_a_completion_is_cut_where_it_says_so() -> None:
    """Every token is in one segment, whose prompt has everything before it; phrases begin what follows."""
    whole = written("7 ? false Again 8 ? true", right=True)
    base = base_of(Group(samples=(whole, written("7 7"))))
    (batch,), measured = Segmented(TRIALS).batches(base, Told().step())
    first, second = batch.groups
    assert [s.text for s in first.samples] == ["7 ", "? false ", "Again 8 ", "? true"]
    assert [s.correct for s in first.samples if "?" not in s.text] == [False, True]
    assert [t for s in first.samples for t in s.tokens] == list(whole.tokens)
    for s in first.samples:
        assert (*s.prompt, *s.tokens) == (*whole.prompt, *whole.tokens)[: len(s.prompt) + len(s.tokens)]
        assert len(s.logprobs) == len(s.tokens)
    assert second.samples == (replace(base.samples[1], verdict=verdict(False)),)
    # a wrong solution, a true check, a flip to a right one (twice), its true check (twice)
    assert [a.tolist() for a in batch.advantages] == [[-1, 1, 2, 2], [-1]]
    assert measured["trials"] == 1.5
    assert measured["recall_right"] == measured["recall_wrong"] == 1.0
    assert measured["first_accuracy"] == 0.0
    # a completion that begins with a check, and one that says nothing of a solution
    odd = base_of(Group(samples=(written("? false"), written("8 ? hm"))))
    (batch,), _ = Segmented(TRIALS).batches(odd, Told().step())
    assert [a.tolist() for a in batch.advantages] == [[1], [1, 0]]
    with pytest.raises(UsageError, match="retry"):
        Segmented(TRIALS.model_copy(update={"retry": ""}))


def test_process_credit_by_hand() -> None:
    """The baseline is of what came after the same outcomes, from ten on; an end that is not one costs 1."""
    right, wrong = (False, 1.0, False), (False, -1.0, False)
    true_check, flip = (True, 1.0, False), (False, 1.0, True)
    few = process_advantages([[right], [wrong], [wrong, true_check, flip]], [False, False, False])
    assert [a.tolist() for a in few] == [[1], [-1], [-1, 1, 2]]
    assert process_advantages([[wrong, true_check, flip]], [True])[0].tolist() == [-1, 1, -2]
    many = process_advantages([*[[right]] * 6, *[[wrong]] * 3, [wrong, true_check]], [False] * 10)
    assert np.concatenate(many) == pytest.approx([*[0.8] * 6, *[-1.2] * 3, -1.2, 1])


def test_trials_that_nobody_names_are_whole_completions(tmp_path: Path) -> None:
    """Process credit then has a sequence for each attempt; outcome credit without KL is the same loss on the
    completions with rewards of 1 and -1, bit for bit; the KL term costs what a sequence is away from the reference."""
    base = base_of(group("+-+", "p"), group("--", "q"))
    (batch,), _ = Segmented(TRIALS).batches(base, Told().step())
    assert [g.samples[0].tokens for g in batch.groups] == [s.tokens for s in base.samples]
    assert [g.samples[0].prompt for g in batch.groups] == [s.prompt for s in base.samples]
    (plain,), _ = Segmented(TRIALS.model_copy(update={"credit": "outcome"})).batches(base, Told().step())
    dear = Segmented(TRIALS.model_copy(update={"credit": "outcome", "kl": 0.1}))
    (far,), _ = dear.batches(base, Told().step())
    lost = np.concatenate(plain.advantages) - np.concatenate(far.advantages)
    assert lost == pytest.approx(0.1 * (-1.5 + 0.75))  # three tokens each
    own = {"credit": "outcome", "kl": 0.0}
    outcome = short(tmp_path, "s2r", method=own)
    train(outcome)
    same_loss = {"advantage": outcome.advantage.model_dump(), "loss": outcome.loss.model_dump()}
    values = {**same_loss, "reward": {"weight": 2.0}, "output": str(tmp_path / "plain")}
    for section in ("advantage", "loss"):
        same_loss[section].pop("import_")
    plainly = short(tmp_path, "dr_grpo", **values)
    train(plainly)
    assert same(weights(outcome), weights(plainly))


def test_the_reference_of_a_reward_is_the_model_at_the_start(tmp_path: Path) -> None:
    """In the first step the reward loses nothing, and nothing has a gradient of its own where all are as right."""
    own = {"credit": "outcome", "kl": 1.0}
    config = short(tmp_path, "s2r", method=own, steps=1, rollout={"problems": 4, "samples": 16})
    free = short(
        tmp_path,
        "s2r",
        method={**own, "kl": 0.0},
        steps=1,
        rollout={"problems": 4, "samples": 16},
        output=str(tmp_path / "free"),
    )
    (with_kl,), (without,) = train(config), train(free)
    assert with_kl["grad_norm"] == pytest.approx(without["grad_norm"], rel=1e-4)
    assert with_kl["trained_tokens"] >= without["trained_tokens"]


# --- more of CIPO's own stream -------------------------------------------------------------------------------


def test_right_anchors_of_earlier_steps(tmp_path: Path) -> None:
    """Kept with the checkpoint, so that going on is never having stopped; the last of as many problems, once each."""
    two = Correction(memory=2)
    kept = remember([], [group("+-", "p"), group("--", "q")], {"p": 3, "q": 4}, two)
    assert [row["position"] for row in kept] == [3]
    kept = remember(kept, [group("++", "r"), group("-+", "p")], {"r": 7, "p": 8}, two)
    assert [(row["position"], row["text"]) for row in kept] == [(7, "r 0 True"), (8, "p 1 True")]
    assert [row["position"] for row in remember(kept, [group("+", "s")], {"s": 9}, two)] == [8, 9]
    words = {**WORDS, "truncated": True, "retained": "history", "samples": 4, "rho": 0.5}
    more: dict[str, Any] = {"correction": words, "rollout": {"problems": 4, "samples": 32}, "steps": 4}
    whole = short(tmp_path, "cipo", **more)
    logged = train(whole)
    assert all(row["right_anchors"] > 0 for row in logged[1:])
    broken = short(tmp_path, "cipo", **{**more, "steps": 2, "output": str(tmp_path / "broken")})
    train(broken)
    train(broken.model_copy(update={"steps": 4}))
    assert same(weights(whole), weights(broken.model_copy(update={"steps": 4})))


def test_corrections_of_corrections(tmp_path: Path) -> None:
    """Each further turn has a group for each chain, and a chat shows the whole chain."""
    words = {**WORDS, "truncated": True, "samples": 2, "turns": 3, "turn_format": "chat"}
    config = short(tmp_path, "cipo", correction=words, steps=1, log={"samples": 99})
    logged = train(config)[0]
    assert logged["correction_attempts"] == 2 * 2 * 3
    rows = [row for row in read(config.output / "samples.jsonl") if row["stream"] == "correction"]
    assert len(rows) == 6
    texts = {row["text"] for row in rows}
    assert all(isinstance(row["anchor"], str) for row in rows)
    assert len(texts) > 1
    one = short(tmp_path, "cipo", correction={**words, "turns": 1}, steps=1, output=str(tmp_path / "one"))
    assert "later_accuracy" in logged
    assert "later_accuracy" not in train(one)[0]


def test_what_does_not_go_together_is_refused() -> None:
    for values, words in (
        ({"algorithm": "cipo", "method": {"kind": "hints"}}, "correction stream"),
        ({"algorithm": "dr_grpo", "reference": "x"}, "reference"),
        ({"algorithm": "rft", "method": {"kind": "hints"}}, "rft"),
        ({"method": {"kind": "nonsense"}}, "nonsense"),
    ):
        with pytest.raises(UsageError, match=words):
            build(values)
