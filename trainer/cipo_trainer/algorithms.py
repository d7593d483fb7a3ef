"""Named algorithms, each a few options of the one loss: what ``algorithm:`` in a configuration stands for.

Sources: GRPO arXiv:2402.03300, Dr. GRPO arXiv:2503.20783, DAPO arXiv:2503.14476, RLOO arXiv:2402.14740, GSPO
arXiv:2507.18071, CISPO arXiv:2506.13585, CIPO arXiv:2605.14539. Where a paper leaves a number open it is ours.
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
}
