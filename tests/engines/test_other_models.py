"""Models that the core does not know, and models whose scores are no numbers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from asking import GREEDY, SAMPLED, outputs, request
from tiny import make_checkpoint

from cipo_eval.engines.core import models
from cipo_eval.engines.hf import HFEngine
from cipo_eval.errors import UsageError
from cipo_eval.records import Sampling


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", context=512)


SHAPES: dict[str, dict[str, Any]] = {
    "recurrent_gemma": {
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "lru_width": 32,
        "attention_window_size": 16,
    },
    "mamba": {"num_hidden_layers": 2, "state_size": 8, "time_step_rank": 4},
    "rwkv": {"num_hidden_layers": 2, "attention_hidden_size": 32, "context_length": 512},
    "lfm2": {
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "layer_types": ["conv", "full_attention"],
    },
}


@pytest.mark.parametrize("family", SHAPES)
def test_recurrent_models_do_not_depend_on_their_batch(base: Path, tmp_path: Path, family: str) -> None:
    """Prompts of other lengths and samples of other prompts beside it change nothing."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    ids = {"vocab_size": len(tokenizer), "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}
    config = AutoConfig.for_model(family, hidden_size=32, intermediate_size=64, **ids, **SHAPES[family])
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for (
            parameter
        ) in model.parameters():  # biases and states too, so that what fills up a prompt would matter
            parameter.normal_(std=0.3)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    engine = HFEngine(str(tmp_path), device="cpu")
    assert models.recurrent(engine.model)
    asked = [
        request("abc", (1, 2), SAMPLED),
        request("longer " * 9, (3,), SAMPLED),
        request("xyz", (4,), SAMPLED),
    ]
    together = outputs(engine, *asked)
    for one in asked:
        for key, alone in outputs(engine, one).items():
            assert alone.token_ids == together[key].token_ids
            assert alone.logprobs == pytest.approx(together[key].logprobs, abs=1e-4)


def test_models_with_attention_only_share_batches(base: Path) -> None:
    assert not models.recurrent(HFEngine(str(base), device="cpu").model)


def test_a_model_that_transformers_cannot_generate_with(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models, "supported", lambda _: False)
    engine = HFEngine(str(base), device="cpu")

    def broken(*_: object, **__: object) -> None:
        raise ValueError("two\nlines")

    monkeypatch.setattr(engine.model, "forward", broken)
    with pytest.raises(UsageError, match=r"cannot generate with this llama model \(ValueError: two lines\)"):
        outputs(engine, request("abc"))


# --- scores that are no numbers -----------------------------------------------------------

PLAIN_SAMPLED = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=24)


@pytest.mark.parametrize("family", ["core", "plain"])
@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED, PLAIN_SAMPLED], ids=["greedy", "filtered", "sampled"])
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (
            "model.layers.1.mlp.up_proj",
            float("nan"),
            "weights hold NaN, first in model.layers.1.mlp.up_proj.weight",
        ),
        ("lm_head", float("inf"), "weights hold infinite values, first in lm_head.weight"),
        (
            "model.layers.1.mlp.down_proj",
            1e38,
            "output of model.layers.1.mlp.down_proj is the first that holds",
        ),
    ],
)
def test_scores_that_are_no_numbers(
    base: Path,
    family: str,
    sampling: Sampling,
    name: str,
    value: float,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if family == "plain":
        monkeypatch.setattr(models, "supported", lambda _: False)
    engine = HFEngine(str(base), device="cpu")
    with torch.no_grad():
        engine.model.get_submodule(name).weight[3] = value
    with pytest.raises(UsageError, match=f"NaN or infinite for t abc: .*{message}.*; what is judged is kept"):
        outputs(engine, request("abc", (1, 2), sampling))


@pytest.mark.parametrize("family", ["core", "plain"])
def test_they_may_begin_in_the_middle(base: Path, family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one row, with others that are well; what ended before is given, and what comes after an end is nobody's."""
    if family == "plain":
        monkeypatch.setattr(models, "supported", lambda _: False)
    engine = HFEngine(str(base), device="cpu")
    good = outputs(engine, request("abc"))["abc", 0].token_ids
    assert good is not None
    bad = next(token for token in good if token not in engine.tokenizer("zabc")["input_ids"])
    with torch.no_grad():
        engine.model.get_input_embeddings().weight[bad] = float("nan")
    short = Sampling(temperature=0.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=1)
    given = engine.generate([request("z", (1,), short), request("abc")])
    asked, _, completion = next(given)
    assert (asked.problem.id, completion.completion_tokens) == ("z", 1)
    with pytest.raises(
        UsageError, match=r"infinite for t abc: its weights hold NaN, first in model\.embed_tokens"
    ):
        next(given)


def test_a_type_that_is_too_narrow_names_a_wider_one(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    engine = HFEngine(str(copy), device="cpu", dtype="float16")
    with torch.no_grad():
        engine.model.model.layers[0].mlp.down_proj.weight.fill_(6e4)
    with pytest.raises(UsageError, match="in float16: try --dtype bfloat16"):
        outputs(engine, request("abc"))
