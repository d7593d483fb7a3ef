"""AdamW's moments in 8 bits, by torchao. It has an environment beside the other tests': where it is installed, every
import of transformers loads it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cipo_trainer.packing import TrainSequence
from cipo_trainer.presets import build
from cipo_trainer.step import Learner, LossStream


def tiny() -> Any:
    """A model whose matrices are large enough for 8 bits, with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    shape = {"vocab_size": 1000, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3}
    shape |= {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    return LlamaForCausalLM(LlamaConfig(**shape)).eval()


def test_moments_in_8_bits_learn_as_float32_ones_and_go_on(tmp_path: Path) -> None:
    rows = [
        TrainSequence(prompt=[5, 6], tokens=[7, 8, 9], advantage=gain, sampled=[-1.0] * 3)
        for gain in (1.0, -0.5, 0.7, -1.2)
    ]
    streams = [LossStream(name="base", sequences=rows)]
    moved, learners = {}, {}
    with torch.compiler.set_stance("force_eager"):  # the same arithmetic without a minute of compilation
        for moments in ("float32", "8bit"):
            model = tiny()
            before = torch.cat([p.detach().flatten() for p in model.parameters()])
            learner = Learner(
                model, build({"model": "x", "algorithm": "dr_grpo", "optimizer": {"moments": moments}})
            )
            for step in range(3):
                learner.update(streams, step=step, lr=1e-3)
            moved[moments] = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
            learners[moments] = learner
        similar = torch.nn.functional.cosine_similarity(moved["float32"], moved["8bit"], dim=0)
        assert similar > 0.9
        state = learners["8bit"].masters.optimizer.state
        held = sum(
            part.numel() * part.element_size()
            for values in state.values()
            for moment in (values["exp_avg"], values["exp_avg_sq"])
            for part in ((moment.codes, moment.scale) if hasattr(moment, "codes") else (moment,))
        )
        assert held < 0.35 * 8 * sum(p.numel() for p in model.parameters())  # small tensors stay in float32

        fresh = tiny()
        fresh.load_state_dict(learners["8bit"].model.state_dict())
        other = Learner(fresh, learners["8bit"].config)
        torch.save(learners["8bit"].masters.state(), tmp_path / "optimizer.pt")
        other.masters.load(torch.load(tmp_path / "optimizer.pt", weights_only=True))
        for each in (learners["8bit"], other):
            each.update(streams, step=3, lr=1e-3)
        pairs = zip(learners["8bit"].model.parameters(), fresh.parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
