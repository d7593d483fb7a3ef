"""Named algorithms, each a few options of the one loss: what ``algorithm:`` in a configuration stands for.

Sources: GRPO arXiv:2402.03300, Dr. GRPO arXiv:2503.20783, DAPO arXiv:2503.14476, RLOO arXiv:2402.14740, GSPO
arXiv:2507.18071, CISPO arXiv:2506.13585, CIPO arXiv:2605.14539; iGRPO arXiv:2602.09000, SCoRe arXiv:2409.12917, LTE
arXiv:2510.26109, SDPO arXiv:2601.20802, PAG arXiv:2506.10406, Critique-GRPO arXiv:2506.03106, S2R
arXiv:2502.12853. Where a paper leaves a
number open it is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SUPERVISED: dict[str, Any] = {
    "advantage": {"baseline": "none", "scale": "none"},
    "loss": {"kind": "reinforce", "aggregate": "token_mean"},
}
"""With an advantage of 1 where a completion is to be learned, and 0 elsewhere, this is cross-entropy."""

_GRPO: dict[str, Any] = {
    "advantage": {"baseline": "mean", "scale": "group_std"},
    "loss": {
        "kind": "clip",
        "clip_low": 0.2,
        "clip_high": 0.2,
        "aggregate": "sequence_mean",
        "beta": 1e-4,
        "kl": "k3",
    },
}

ALGORITHMS: Mapping[str, Mapping[str, Any]] = {
    "sft": _SUPERVISED,
    "rft": _SUPERVISED,
    "grpo": _GRPO,
    "dr_grpo": {
        "advantage": {"baseline": "mean", "scale": "none"},
        "loss": {"kind": "clip", "clip_low": 0.2, "clip_high": 0.2, "aggregate": "constant"},
    },
    "dapo": {
        "advantage": {"baseline": "mean", "scale": "group_std"},
        "loss": {"kind": "clip", "clip_low": 0.2, "clip_high": 0.28, "aggregate": "token_mean"},
        "rollout": {"dynamic": 2},
        # the paper's 4096 of 20480 tokens
        "reward": {"overlong": {"buffer": 0.2}},
    },
    # a completion is one action: its log-probability is the sum over its tokens
    "rloo": {
        "advantage": {"baseline": "leave_one_out", "scale": "none"},
        "loss": {"kind": "reinforce", "aggregate": "constant", "constant": 1.0},
    },
    "gspo": {
        "advantage": {"baseline": "mean", "scale": "group_std"},
        "loss": {
            "kind": "clip",
            "ratio": "sequence",
            "clip_low": 3e-4,
            "clip_high": 4e-4,
            "aggregate": "sequence_mean",
        },
    },
    # the lower bound is off in the paper
    "cispo": {
        "advantage": {"baseline": "mean", "scale": "group_std"},
        "loss": {"kind": "cispo", "clip_low": 1.0, "clip_high": 0.28, "aggregate": "token_mean"},
    },
    "cipo": {**_GRPO, "correction": {}},
    # --- what CIPO is compared with (docs/baselines.md says what each leaves out of its paper) ---
    # own right corrections are learned, nothing else (STaR-like)
    "rft_corrections": {
        **_SUPERVISED,
        "correction": {
            "rho": 0.0,
            "controller": "fixed",
            "base_weight": 0.0,
            "keep": "improving",
            "risk": 0.0,
        },
    },
    # drafts are not trained on; the best of each problem's is shown to the attempts that are
    "igrpo": {
        **_GRPO,
        "correction": {"select": "best", "base_weight": 0.0, "controller": "fixed", "risk": 0.0},
    },
    "multi_turn_grpo": {**_GRPO, "method": {"kind": "multi_turn"}},
    # stage I; its second stage is credit: both, progress: 10, betas: [0.01, 0.01] (preset score_stage2).
    # beta is per sequence, k2 because k1 has no gradient in the mean and k3 that of the other direction
    "score": {
        "advantage": {"baseline": "mean", "scale": "none"},
        "loss": {"kind": "reinforce", "aggregate": "constant", "constant": 1.0, "kl": "k2"},
        "method": {"kind": "multi_turn", "credit": "second", "betas": [0.1, 0.0]},
    },
    "lte": {**_GRPO, "method": {"kind": "hints"}},
    # attempts have no advantage, their KL term to a teacher that sees more has all the gradient
    "sdpo": {
        "advantage": {"baseline": "mean", "scale": "none"},
        "loss": {"kind": "clip", "aggregate": "sequence_mean", "kl": "k2"},
        "method": {"kind": "distill"},
    },
    "pag": {
        "advantage": {"baseline": "mean", "scale": "batch_std"},
        "loss": {"kind": "clip", "clip_low": 0.2, "clip_high": 0.28, "aggregate": "token_mean"},
        "method": {"kind": "verify"},
    },
    "critique_grpo": {
        "advantage": {"baseline": "mean", "scale": "none"},
        "loss": {"kind": "clip", "clip_low": 1e6, "clip_high": 1e6, "aggregate": "sequence_mean"},
        "method": {"kind": "refine"},
    },
    # a segment, or a completion, is one action: the ratio is its geometric mean
    "s2r": {
        "advantage": {"baseline": "leave_one_out", "scale": "none"},
        "loss": {"kind": "clip", "ratio": "sequence", "aggregate": "sequence_mean"},
        "method": {"kind": "trials"},
    },
}
