"""What a training run is asked to do: typed, documented, and checked before anything is loaded.

``settings`` reads it from files. The docstring below a field is its documentation, also for ``--print-config``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from cipo_eval.engines.conversation import Chat
from cipo_trainer.method_options import Distill, Method, MultiTurn, Trials
from cipo_trainer.rollout_options import OTHERS, Rollout
from cipo_trainer.run_options import Evaluation, Logging, Saving, Stop
from cipo_trainer.sections import Beside, Section


class Data(Section):
    """Where problems, or rows for sft, come from: exactly one of task, path and generator."""

    task: str | None = None
    """Problems of a task: one of `cipo-eval tasks`, a definition's YAML file, or one of ``trainer/configs/data``."""
    path: Path | None = None
    """Problems, or rows for sft, of a JSON Lines file (``.gz`` too) or Parquet file."""
    generator: Literal["arithmetic", "chains", "countdown", "programs"] | None = None
    """Problems, or rows for sft, that are made as they are needed: a family of synthetic problems."""
    dial: dict[str, int | float | str] = {}
    """generator: how difficult they are, and how its teacher errs (docs/study.md)."""
    question: list[str] = ["question", "problem", "prompt"]
    """path: columns that may hold the problem; the first that a row has counts."""
    answer: list[str] = ["answer", "gold", "boxed:solution"]
    """path: columns that may hold the right answer; ``boxed:NAME``: the last \\boxed in that column."""
    completion: list[str] = ["completion", "response", "solution"]
    """path, sft: columns that may hold what is to be learned."""
    prompt: str = "{{ question }}\n\nPlease reason step by step, and put your final answer within \\boxed{}."
    """path: template of the prompt (Jinja2)."""
    dir: Path | None = None
    """Folder of data for ``task``, as --data-dir of `cipo-eval run`."""
    limit: int | None = Field(default=None, ge=1)
    """Only the first so many problems, or rows, are used."""
    where: dict[str, str | int | list[str | int]] = {}
    """Only problems whose columns have these values (``level: [Level 3, Level 4]``)."""
    corrections: float = Field(default=0.0, ge=0, le=1)
    """generator, sft: share of rows that are corrections of an attempt with a slip, or of a right one."""
    own_attempts: int = Field(default=0, ge=0)
    """generator, sft: corrections are of so many attempts that the model itself makes, with the weights that the
    training begins with; 0: of the teacher's."""


class Shape(Section):
    """The shape of a model with random weights, a Llama with tied embeddings."""

    layers: int = Field(default=2, ge=1)
    hidden: int = Field(default=128, ge=8)
    inner: int = Field(default=256, ge=8)
    """Width of the feed-forward layers."""
    heads: int = Field(default=4, ge=1)

    @model_validator(mode="after")
    def _fits(self) -> Shape:
        if self.hidden % (2 * self.heads):
            raise ValueError("hidden must be a multiple of twice the heads")
        return self


class Overlong(Section):
    """DAPO's soft punishment of long attempts."""

    buffer: float = Field(default=0.0, ge=0)
    """Tokens before the limit within which the penalty grows (DAPO's soft punishment); below 1: that share of
    rollout.max_tokens; 0: off."""
    penalty: float = Field(default=1.0, ge=0)
    """The penalty of an attempt that reaches the limit."""
    filter: bool = False
    """Attempts that the limit ended are not trained on (DAPO's overlong filtering); in their group's baseline they
    count."""


class Reward(Section):
    """What is added to a verdict's 0 or 1, and how verdicts are made."""

    weight: float = Field(default=1.0, ge=0)
    """Of the verdict's 0 or 1, beside what is added to it."""
    format: float = 0.0
    """Added to the reward where a final answer was found, right or wrong."""
    truncated: float = 0.0
    """Added to the reward where the token limit ended the attempt."""
    overlong: Overlong = Overlong()
    """Penalty on attempts close to the limit."""
    workers: int | None = Field(default=None, ge=1)
    """Processes that judge attempts; by default one a core, at most 16."""
    timeout: float = Field(default=10.0, gt=0)
    """Seconds after which a verdict is given up: reward 0."""
    allow_unsafe_code: bool = False
    """Programs may run where they cannot be confined."""


class OwnReward(Section):
    """A reward of your own."""

    import_: str = Field(alias="import")
    """package.module:function; it is given an attempt and what it corrects (docs/add-a-reward.md)."""
    weight: float = 1.0
    """What its value is multiplied with before it is added to the reward."""

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        return {"import": value} if isinstance(value, str) else value


class Advantage(Section):
    """How rewards become advantages."""

    baseline: Literal["mean", "leave_one_out", "none"] = "mean"
    """What is taken off a reward: its group's mean, the mean of the others, or nothing."""
    scale: Literal["group_std", "batch_std", "none"] = "group_std"
    """What it is divided by: the sample standard deviation (n - 1) of its group, of the stream, or nothing."""
    import_: str | None = Field(default=None, alias="import")
    """Advantages of your own, as package.module:function; it is told baseline and scale (docs/add-a-loss.md)."""


class Loss(Section):
    """The policy's loss."""

    kind: Literal["clip", "cispo", "reinforce", "shaped", "linear"] = "clip"
    """Clipped ratio (PPO), clipped importance weight on log-probabilities (CISPO), log-probabilities; for texts that
    another prompt drew f(ratio) (shaped) or f(probability) (linear), with f(x) = x / (x + gamma)."""
    gamma: float = Field(default=0.1, gt=0)
    """shaped, linear: γ."""
    ratio: Literal["token", "sequence"] = "token"
    """Level of the ratio; sequence: GSPO's geometric mean over the tokens."""
    clip_low: float = Field(default=0.2, ge=0)
    """Ratios below 1 - clip_low are clipped; 1 or more: they are not."""
    clip_high: float = Field(default=0.2, ge=0)
    """Ratios above 1 + clip_high are clipped."""
    aggregate: Literal["sequence_mean", "token_mean", "constant"] = "sequence_mean"
    """Mean over sequences of their tokens' mean, mean over tokens, or sum over tokens by constant and sequences."""
    constant: float | None = Field(default=None, gt=0)
    """What ``aggregate: constant`` divides by; by default rollout.max_tokens (Dr. GRPO)."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the KL divergence from the reference, the model at the start."""
    kl: Literal["k1", "k2", "k3", "top"] = "k3"
    """Estimator of that divergence from the sampled token (Schulman 2020); top: it itself over the most likely tokens,
    the others as one."""
    top: int = Field(default=100, ge=1)
    """top: so many tokens, the model's most likely ones; of a smaller vocabulary all."""
    alpha: float = Field(default=1.0, ge=0, le=1)
    """top: 1: KL(model ‖ reference), 0: KL(reference ‖ model); between them (1 - alpha)·KL(model ‖ mix) +
    alpha·KL(reference ‖ mix), mix being (1 - alpha)·model + alpha·reference."""
    importance: Literal["none", "token", "sequence"] = "none"
    """Importance weights of the training over the sampling probability, of each token or of whole sequences (their
    product); by default token where another engine than the trainer's own samples (vllm, vllm_server)."""
    importance_cap: float | None = Field(default=None, gt=0)
    """They are truncated at this; by default 2."""
    importance_range: tuple[float, float] | None = None
    """Instead of that, tokens (or sequences) whose weight lies outside are left out of the loss."""
    import_: str | None = Field(default=None, alias="import")
    """A loss of your own, as package.module:function; it is told this section (docs/add-a-loss.md)."""
    options: dict[str, Any] = {}
    """import: whatever else your loss is to be told."""

    @model_validator(mode="before")
    @classmethod
    def _capped(cls, values: Any) -> Any:
        """A cap or a range alone asks for weights of tokens."""
        if not isinstance(values, Mapping) or "importance" in values:
            return values
        asked = any(values.get(name) is not None for name in ("importance_cap", "importance_range"))
        return {**values, "importance": "token"} if asked else values

    @model_validator(mode="after")
    def _fits(self) -> Loss:
        if self.importance_cap and self.importance_range:
            raise ValueError("importance_cap and importance_range: weights are truncated, or left out")
        if self.options and self.import_ is None:
            raise ValueError("options are for a loss of your own (import)")
        if self.kl == "top" and self.import_:
            raise ValueError("kl: top is not told to a loss of your own (import)")
        return self


class Correction(Section):
    """CIPO's second stream: corrections of the step's own attempts."""

    enabled: bool = True
    """False: no second stream, whatever else stands here."""
    fraction: float = Field(default=1.0, ge=0)
    """φ: anchors per problem of the step."""
    samples: int | None = Field(default=None, ge=1)
    """Corrections of each anchor; by default rollout.samples."""
    weight: float | Literal["auto", "sequences", "balanced"] = 1.0
    """λ, the stream's weight in the objective. auto: its share of the step's groups; sequences: a correction weighs
    what a first attempt does; balanced: the running ratio of both streams' gradient norms."""
    balance_smoothing: float = Field(default=0.9, ge=0, lt=1)
    """balanced: weight of the past in both norms."""
    band: tuple[float, float] = (3 / 8, 6 / 8)
    """Problems whose sampled accuracy lies in it give anchors first."""
    per_problem: int = Field(default=1, ge=1)
    """Right, and wrong, anchors that a problem gives before others get their turn."""
    select: Literal["band", "best"] = "band"
    """Which attempts are anchors: as below, or of each problem its best one, right if there is one (iGRPO)."""
    base_weight: float = Field(default=1.0, ge=0)
    """Weight of the base stream beside this one; 0: first attempts are not trained on."""
    keep: Literal["right", "improving"] = "right"
    """rft: which corrections are learned, all right ones, or those of wrong attempts."""
    truncated: bool = False
    """Attempts that the token limit ended may be anchors."""
    rho: float = Field(default=0.3, ge=0, le=1)
    """ρ at the start: share of right anchors."""
    controller: Literal["adaptive", "fixed", "damped"] = "adaptive"
    """What moves ρ: retention (the paper's idea, a re-implementation's formula), nothing, or that with a smoothed
    retention and small steps."""
    retained: Literal["step", "history"] = "step"
    """Where right anchors, and with them retention, come from: the step's own attempts (the re-implementation), or
    right attempts of earlier steps where there are any (as digests of the paper have it)."""
    memory: int = Field(default=64, ge=1)
    """history: right attempts that are kept, the last of as many problems."""
    turns: int = Field(default=1, ge=1)
    """Corrections in a row: one of each anchor's corrections is corrected again, and so on."""
    retention_target: float = Field(default=0.8, ge=0, le=1)
    """Retention that the controller aims at (τ)."""
    relative_target: bool = False
    """τ is that share of the way from the first step's retention to 1."""
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Weight of the past in the retention that the controller sees; damped: at least 0.8."""
    rho_range: tuple[float, float] = (0.2, 0.8)
    """Least and largest ρ."""
    risk: float = Field(default=1.0, ge=0)
    """λ_risk: what a right anchor that comes out wrong costs beside its reward."""
    risk_stage: Literal["reward", "advantage"] = "advantage"
    """Whether that is taken off the reward or the advantage. Off z-scored rewards it has no effect at all."""
    scale: Literal["group_std", "batch_std", "none"] | None = None
    """Scale of the stream's advantages; by default advantage.scale."""
    protocol: Literal["self", "oracle", "feedback"] = "self"
    """What the model is told: nothing; that it was wrong, or what the verifier may show (no right anchors then)."""
    turn_format: Literal["inline", "chat"] = "inline"
    """How it sees the attempt: between tags in one message, or as its turn of a conversation."""
    prompt_dir: Beside = None
    """Folder of own templates, as --prompt-dir of `cipo-eval run`; also one beside the presets."""

    @model_validator(mode="after")
    def _fits(self) -> Correction:
        if isinstance(self.weight, int | float) and self.weight < 0:
            raise ValueError("weight must not be negative")
        if not 0 <= self.rho_range[0] <= self.rho_range[1] <= 1:
            raise ValueError("rho_range must be two shares in order")
        return self


class Optimizer(Section):
    """Updates, and how much goes through the model at once."""

    lr: float = Field(default=1e-6, gt=0)
    """Peak learning rate of AdamW."""
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    warmup: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises to its peak."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """What the learning rate does after the warm-up; cosine and linear end at 0 at ``decay_steps``."""
    decay_steps: int | None = Field(default=None, ge=1)
    """Steps after which cosine and linear have ended; by default ``steps``. A run does not go on with others."""
    max_grad_norm: float = Field(default=1.0, gt=0)
    minibatches: int = Field(default=1, ge=1)
    """Updates per batch, each on its share of the sequences; 1: on-policy, the ratio is 1."""
    epochs: int = Field(default=1, ge=1)
    """Passes over the batch of a step."""
    batch: int = Field(default=32, ge=1)
    """sft: rows of one update."""
    micro_tokens: int = Field(default=16_384, ge=1)
    """Tokens that go through the model at once; a longer sequence goes alone."""
    chunk: int = Field(default=2048, ge=1)
    """Completion tokens whose logits exist at once."""
    checkpointing: bool | None = None
    """Activations are computed again in the backward pass; by default on GPUs for models from 1B parameters on."""
    compile: bool | None = None
    """Layers are compiled for the training passes (torch.compile); by default on GPUs, without adapters
    and where activations are kept."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in; masters and optimizer state are float32. auto: bfloat16 on GPUs."""
    moments: Literal["float32", "8bit"] = "float32"
    """AdamW's moments. 8bit: in blocks of 256 with a scale each, a quarter of the memory (torchao)."""
    stream_norms: bool = True
    """Gradient norms of both streams apart; takes a copy of the gradients in the host's memory."""


class Lora(Section):
    """Low-rank adapters (peft)."""

    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    targets: str | list[str] = "all-linear"
    """Modules that get adapters, as target_modules of peft."""


Algorithm = Literal[
    "sft",
    "rft",
    "grpo",
    "dr_grpo",
    "dapo",
    "rloo",
    "gspo",
    "cispo",
    "cipo",
    "rft_corrections",
    "igrpo",
    "multi_turn_grpo",
    "score",
    "lte",
    "sdpo",
    "pag",
    "critique_grpo",
    "s2r",
]


class Config(Section):
    """The whole configuration of a training."""

    model: str = "new:arithmetic"
    """Checkpoint to start from, folder or hub id; ``new:FAMILY``: one with random weights for a family's words."""
    shape: Shape | None = None
    """Shape of a new model; by default the family's."""
    revision: str | None = None
    """Revision of a hub model."""
    trust_remote_code: bool = False
    """Run code that the model ships."""
    chat: Chat = Chat()
    """How the model is asked: in rollouts, corrections, rows of sft and evaluations; checkpoints remember it."""
    output: Path = Path("runs/train")
    """Folder of checkpoints, logs and evaluations; a run that is there already goes on."""
    reference: str | None = None
    """Checkpoint that the KL divergence is taken to; by default the model at the start."""
    algorithm: Algorithm = "grpo"
    """Named algorithm, which sets defaults of the sections advantage, loss, rollout, correction and method."""
    steps: int = Field(default=500, ge=0)
    stop: Stop = Stop()
    """Budgets that end it before ``steps``; a run that has ended goes on with a larger one."""
    seed: int = 0
    device: str = "auto"
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """Of several processes (docs/several-processes.md): whole weights in each, or weights, gradients and optimizer in
    parts (FSDP2); auto: in parts on GPUs from 1B parameters on, without adapters."""
    threads: int | None = Field(default=None, ge=1)
    """Threads of the CPU; a fixed number makes runs repeatable."""
    data: Data = Data(generator="arithmetic")
    rollout: Rollout = Rollout()
    reward: Reward = Reward()
    rewards: list[OwnReward] = []
    """Rewards of your own, added to ``reward``: package.module:function, or {import: …, weight: 0.2}."""
    advantage: Advantage = Advantage()
    loss: Loss = Loss()
    correction: Correction | None = None
    """The second stream of CIPO; none by default."""
    method: Method | None = None
    """What another method than CIPO does after the base batch (docs/baselines.md); none by default."""
    optimizer: Optimizer = Optimizer()
    lora: Lora | None = None
    """Low-rank adapters instead of all weights; the base is then the reference."""
    eval: Evaluation = Evaluation()
    checkpoint: Saving = Saving()
    log: Logging = Logging()

    @model_validator(mode="before")
    @classmethod
    def _another_engine(cls, values: Any) -> Any:
        """What samples with weights and arithmetic of its own is corrected for, unless somebody says otherwise."""
        rollout = values.get("rollout") if isinstance(values, Mapping) else None
        loss = values.get("loss", {}) if isinstance(values, Mapping) else None
        engine = rollout.get("engine") if isinstance(rollout, Mapping) else None
        if engine not in OTHERS or not isinstance(loss, Mapping) or {"importance", "import"} & loss.keys():
            return values
        return {**values, "loss": {**loss, "importance": "token"}}

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if [self.data.task, self.data.path, self.data.generator].count(None) != 2:
            raise ValueError("data: exactly one of task, path and generator is needed")
        if self.supervised and (self.correction or self.loss.beta):
            raise ValueError("sft has no rollouts: no correction, no loss.beta")
        if self.supervised and self.data.task:
            raise ValueError("sft needs rows with completions: data.path or data.generator")
        if self.data.own_attempts and not (self.supervised and self.data.generator and self.data.corrections):
            raise ValueError("data.own_attempts: only for sft, with a generator and data.corrections")
        if self.supervised and self.rewards:
            raise ValueError("sft has no rollouts: no rewards")
        if self.method and (self.stream or self.supervised or self.imitates):
            raise ValueError("method: only without a correction stream, and not for sft and rft")
        if self.stream and self.stream.weight == "balanced" and not self.optimizer.stream_norms:
            raise ValueError("correction.weight: balanced needs optimizer.stream_norms")
        if self.reference and (self.lora or not self.referred):
            raise ValueError(
                "reference: needs a KL term (loss.beta), and with lora the base is the reference"
            )
        if self.follows and self.lora:
            raise ValueError("method.follow: with lora the base is the teacher, which stays")
        if self.undivided and self.parallel == "fsdp":
            raise ValueError("parallel: fsdp: not with method.follow, nor with a KL term over top tokens")
        if self.stop.figures and not self.eval.tasks:
            raise ValueError("stop.figures: without eval.tasks nothing is evaluated")
        if self.eval.samples == 1 and (name := self.stop.beside_others):
            raise ValueError(f"stop.figures: {name} is undefined with one attempt each (eval.samples)")
        if (self.supervised or self.imitates) and self.advantage.import_:
            raise ValueError(f"{self.algorithm} has no advantages: no advantage.import")
        return self

    @property
    def stream(self) -> Correction | None:
        """The correction stream, where there is one."""
        return self.correction if self.correction and self.correction.enabled else None

    @property
    def supervised(self) -> bool:
        """Whether it learns from rows, without rollouts."""
        return self.algorithm == "sft"

    @property
    def imitates(self) -> bool:
        """Whether it learns its right attempts, without advantages."""
        return self.algorithm in ("rft", "rft_corrections")

    @property
    def referred(self) -> bool:
        """Whether any stream of it, or a reward, needs the reference's log-probabilities."""
        betas = self.method.betas if isinstance(self.method, MultiTurn) else None
        shaped = isinstance(self.method, Trials) and self.method.kl != 0
        return bool(self.loss.beta or (betas and any(betas)) or shaped or isinstance(self.method, Distill))

    @property
    def follows(self) -> float:
        """How far the reference moves towards the model after each update; 0: it stays."""
        return self.method.follow if isinstance(self.method, Distill) else 0.0

    @property
    def undivided(self) -> bool:
        """Whether it needs whole weights in each process, beside what adapters and 8-bit moments need."""
        top = isinstance(self.method, Distill) and self.method.top
        return bool(self.follows or top or (self.loss.beta and self.loss.kl == "top"))

    def plain(self) -> dict[str, Any]:
        """All values as JSON has them, under the names that files use."""
        return self.model_dump(mode="json", by_alias=True)
