"""The trainer beside TRL's GRPOTrainer: the same model, prompts, groups, lengths, one update per batch, in one run.

A random Llama of 16M parameters (CPU), or of Qwen2.5-0.5B's shape with its 152k vocabulary (GPU, bfloat16); a reward
that takes no time, so that verifiers are not what is measured; samples end by themselves, at lengths that are
exponential with a mean of ``--mean`` and a limit of ``--most``. TRL rolls out with its own ``generate``; it gets as
many sequences at once as fit. Both take a warm-up step, which is not counted, then ``--steps``.

    python benchmarks/training.py [--steps 3] [--only ours,trl] [--longest] [--large]

``--longest``: the longest completions that fit, for both. ``--large``: steps of a model of 4B's shape, ours alone. The
last line is one JSON object.
"""

from __future__ import annotations

if __name__ == "__main__":  # verifier processes import this file again: torch would fill their address space
    from beside_trl import main

    main()
