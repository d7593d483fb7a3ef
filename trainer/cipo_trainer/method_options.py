"""Options of the methods that CIPO is compared with: the section ``method`` of a configuration, one kind each.

The docstring below a field is its documentation, also for ``--print-config``.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from cipo_trainer.sections import Beside, Section


class SecondTurn(Section):
    """What is said between the turns of the methods below; templates are Jinja2."""

    turn_format: Literal["inline", "chat"] = "inline"
    """How the model sees the attempt, as in ``correction``."""
    prompt_dir: Beside = None
    """Folder of own templates, as in ``correction``."""


class MultiTurn(SecondTurn):
    """Every attempt is revised once, right or wrong (multi-turn GRPO; SCoRe, arXiv:2409.12917)."""

    kind: Literal["multi_turn"] = "multi_turn"
    credit: Literal["both", "last", "return", "second"] = "both"
    """What an attempt's advantage is made of: its own reward; that of its revision; the sum of both; nothing, it is not
    trained on but for its KL term. A revision's is always made of its own."""
    gamma: float = Field(default=1.0, ge=0)
    """return: weight of the revision's reward in the sum."""
    progress: float = Field(default=0.0, ge=0)
    """α: a revision's reward has α times its progress over the attempt's added."""
    betas: tuple[float, float] | None = None
    """loss.beta of attempts, and of revisions; by default the same."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of the revisions in the objective."""
    protocol: Literal["self"] = "self"


class Hints(Section):
    """Problems without a right attempt are tried again with a hint; right ones are learned as answers to the problem
    alone (LTE, arXiv:2510.26109)."""

    kind: Literal["hints"] = "hints"
    hint: bool = True
    """False: they are tried again as often, without a hint (the control)."""
    answers: int = Field(default=8, ge=0)
    """Most wrong answers that a hint names."""
    characters: int = Field(default=100, ge=1)
    """Most characters of each."""
    template: str = """{{ problem }}

{% if concise %}Earlier attempts were too long: be concise. {% endif %}{% if answers %}These answers are known to be \
wrong: {{ answers }}. {% endif %}Do not mention this note."""
    """What is asked instead of the problem."""


class Distill(SecondTurn):
    """The reference, shown a right attempt of the group, tells each token of the others how likely it should have been
    (SDPO, arXiv:2601.20802; a frozen teacher, unless it follows)."""

    kind: Literal["distill"] = "distill"
    weight: float = Field(default=1.0, ge=0, le=1)
    """w: weight of the distillation in the objective; the attempts' own advantages weigh 1 - w."""
    top: int = Field(default=0, ge=0)
    """0: the teacher speaks of the sampled token alone; else of so many, the model's most likely ones, and of all
    others as one (SDPO's own code: 100, or 20 with feedback)."""
    alpha: float = Field(default=0.5, ge=0, le=1)
    """top: the divergence, as ``loss.alpha``."""
    follow: float = Field(default=0.0, ge=0, le=1)
    """What the teacher's weights move towards the model's after each update, as a share of the way (SDPO's own code:
    0.05): an exponential moving average. 0: it stays the reference; 1: it is the model."""
    feedback: bool = False
    """Where no other attempt is right, the teacher sees what the verifier says of the attempt itself."""
    template: str = """{{ problem }}

Here is a solution that was found to be right:

{{ demonstration }}

Solve the problem yourself."""
    """What the teacher is shown."""
    feedback_template: str = """{{ problem }}

An earlier attempt was wrong. {{ feedback }}

Solve the problem."""


class Verify(SecondTurn):
    """The model judges its attempt, and tries again only where it calls it wrong (PAG, arXiv:2506.10406)."""

    kind: Literal["verify"] = "verify"
    ask: str = (
        """Check this solution step by step. End with "The solution is right." or "The solution is wrong.\""""
    )
    """What is asked of an attempt."""
    right: str = "the solution is right"
    """Says that it is right; in upper or lower case, what is said last counts."""
    wrong: str = "the solution is wrong"
    retry: str = "Solve the problem again, and give the final answer in the form that was asked for."
    """What is asked after it was called wrong."""
    revise: Literal["wrong", "all"] = "wrong"
    """Which attempts are made again: those called wrong, or all of them."""
    progress: float = Field(default=1.0, ge=0)
    """α, as in multi_turn."""
    weight: float = Field(default=1.0, ge=0)
    """Weight of the judgements in the objective."""


class Refine(SecondTurn):
    """One refinement of each attempt after a critique; one of them takes a slot of the group, learned as an answer to
    the problem alone (Critique-GRPO, arXiv:2506.03106)."""

    kind: Literal["refine"] = "refine"
    right: str = "This solution is right. Write it again, as well as you can."
    """The critique of a right attempt; of none the right answer is told."""
    wrong: str = "This solution is wrong. Find the mistake, and solve the problem again."
    slots: int = Field(default=1, ge=1)
    """Attempts of a group that make room for refinements, right ones first."""


class Trials(Section):
    """A completion holds solutions and checks of them, and is cut where it says so (S2R, arXiv:2502.12853)."""

    kind: Literal["trials"] = "trials"
    credit: Literal["process", "outcome"] = "process"
    """What is paid for: each segment for itself, or the completion as a whole for its last answer."""
    kl: float | None = Field(default=None, ge=0)
    """β: what the reward loses for the distance from the reference, log π - log π_ref of a segment's (outcome: the
    completion's) tokens; by default 0.05, with outcome 0.01."""
    check: str = "Wait, let me recheck my solution."
    """Begins a check; in upper or lower case, as the next three."""
    retry: str = "Let me try again."
    """Begins another solution."""
    right: str = "the answer is correct"
    """Says in a check that the solution is right; what is said last counts."""
    wrong: str = "the answer is incorrect"


Method = Annotated[MultiTurn | Hints | Distill | Verify | Refine | Trials, Field(discriminator="kind")]
