"""Weights are loaded whole or not at all, adapters too; and the tokenizer is the model's."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from asking import outputs, request
from safetensors.torch import load_file, save_file
from tiny import make_adapter, make_checkpoint

from cipo_eval.engines.checkpoint import Checkpoint
from cipo_eval.engines.hf import HFEngine, torch_device, torch_dtype
from cipo_eval.errors import MissingError, UsageError

State = dict[str, torch.Tensor]
WEIGHTS, ADAPTER = "model.safetensors", "adapter_model.safetensors"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("base") / "base", context=512)


@pytest.fixture(scope="module")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapter") / "adapter")


def changed(source: Path, folder: Path, change: Callable[[State], State]) -> Path:
    copy = Path(shutil.copytree(source, folder))
    [file] = copy.glob("*.safetensors")
    save_file({k: v.contiguous() for k, v in change(load_file(file)).items()}, file, {"format": "pt"})
    return copy


def refused(folder: Path) -> str:
    """What loading says, which checking without loading says too."""
    with pytest.raises(UsageError) as loading:
        Checkpoint(str(folder)).load(torch.float32)
    with pytest.raises(UsageError) as checking:
        Checkpoint(str(folder)).check_weights()
    assert str(checking.value) == str(loading.value)
    assert "\n" not in str(loading.value)
    return str(loading.value)


def renamed(message: str) -> None:
    """Follows the command of a message."""
    found = re.search(r'or rename: python (-c ".*")$', message)
    assert found
    subprocess.run([sys.executable, *shlex.split(found[1])], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrapped", "count"),
    [
        (lambda name: f"_orig_mod.{name}", 21),
        (lambda name: f"module._orig_mod.{name}", 21),
        (lambda name: re.sub(r"(layers\.1)\.", r"\1._fsdp_wrapped_module.", name), 9),
        (lambda name: f"policy.net.{name}", 21),
    ],
)
def test_names_that_a_wrapper_changed(
    base: Path, tmp_path: Path, wrapped: Callable[[str], str], count: int
) -> None:
    copy = changed(base, tmp_path / "copy", lambda state: {wrapped(k): v for k, v in state.items()})
    said = refused(copy)
    assert f"{count} missing" in said
    assert f"{count} unexpected" in said
    if count == 9:  # following the command costs a process: once is enough
        renamed(said)
        state, own = load_file(copy / WEIGHTS), load_file(base / WEIGHTS)
        assert state.keys() == own.keys()
        Checkpoint(str(copy)).load(torch.float32)


def test_missing_misshapen_and_foreign_tensors(base: Path, tmp_path: Path) -> None:
    gone = "model.layers.1.mlp.up_proj.weight"
    lacking = changed(base, tmp_path / "lacking", lambda s: {k: v for k, v in s.items() if k != gone})
    assert f"1 missing ({gone})" in refused(lacking)
    short = changed(base, tmp_path / "short", lambda s: {k: v[:-1] if k == gone else v for k, v in s.items()})
    assert f"1 mismatched ({gone} (63, 32) for (64, 32))" in refused(short)
    scored = changed(base, tmp_path / "scored", lambda s: {**s, "score.weight": torch.zeros(1, 32)})
    assert "1 unexpected (score.weight)" in refused(scored)
    config = json.loads((base / "config.json").read_text())
    fewer = Path(shutil.copytree(base, tmp_path / "fewer"))  # a model of one layer is another model
    (fewer / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    assert "9 unexpected (model.layers.1" in refused(fewer)


def test_what_is_tied_or_does_not_matter_may_differ(base: Path, tmp_path: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    tied = changed(base, tmp_path / "tied", lambda s: {k: v for k, v in s.items() if k != "lm_head.weight"})
    assert "1 missing (lm_head.weight)" in refused(tied)
    (tied / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        Checkpoint(str(tied)).load(torch.float32)
        Checkpoint(str(tied)).check_weights()
    more = {"v_head.summary.weight", "model.layers.0.self_attn.rotary_emb.inv_freq", "mtp.layers.0.weight"}
    rich = changed(base, tmp_path / "rich", lambda s: {**s, **{name: torch.zeros(4) for name in more}})
    with pytest.warns(UserWarning, match=r"not used: mtp\.layers\.0\.weight, v_head\.summary\.weight"):
        Checkpoint(str(rich)).load(torch.float32)
    draft = changed(base, tmp_path / "draft", lambda s: {**s, "model.layers.2.a.weight": torch.zeros(4)})
    assert "1 unexpected" in refused(draft)
    (draft / "config.json").write_text(json.dumps({**config, "num_nextn_predict_layers": 1}))
    with pytest.warns(UserWarning, match=r"not used: model\.layers\.2"):
        Checkpoint(str(draft)).load(torch.float32)


@pytest.mark.parametrize(
    ("change", "missing", "unexpected"),
    [
        (lambda s: {f"_orig_mod.{k}": v for k, v in s.items()}, 12, 12),
        (lambda s: {k.replace("base_model.model.", ""): v for k, v in s.items()}, 12, 12),
        (lambda s: {k.replace("self_attn", "attention"): v for k, v in s.items()}, 8, 8),
        (lambda s: {k: v for k, v in s.items() if "layers.1.mlp" not in k}, 2, 0),
        (lambda s: {}, 12, 0),
    ],
)
def test_adapters_whose_weights_belong_elsewhere(
    adapter: Path, tmp_path: Path, change: Callable[[State], State], missing: int, unexpected: int
) -> None:
    said = refused(changed(adapter, tmp_path / "copy", change))
    assert f"those of its base: {missing} missing" in said
    assert (f"{unexpected} unexpected" in said) == bool(unexpected)
    assert "default" not in said  # names are those of the file
    assert ("or rename: python" in said) == (unexpected == 12)


def test_an_adapter_of_another_base(adapter: Path, tmp_path: Path) -> None:
    narrow = changed(adapter, tmp_path / "narrow", lambda s: {k: v[..., :-1] for k, v in s.items()})
    assert "size mismatch" in refused(narrow)
    facts = json.loads((adapter / "adapter_config.json").read_text())
    foreign = Path(shutil.copytree(adapter, tmp_path / "foreign"))
    (foreign / "adapter_config.json").write_text(json.dumps({**facts, "target_modules": ["query_key_value"]}))
    assert "query_key_value" in refused(foreign)
    saving = Path(shutil.copytree(adapter, tmp_path / "saving"))
    (saving / "adapter_config.json").write_text(json.dumps({**facts, "modules_to_save": ["lm_head"]}))
    assert "lm_head.weight' is missing" in refused(saving)


def test_adapters_of_other_kinds_load(base: Path, tmp_path: Path) -> None:
    """DoRA, modules that are saved whole, an embedding with rows for tokens that were added."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(["<|new|>"])
    model = AutoModelForCausalLM.from_pretrained(base)
    model.resize_token_embeddings(len(tokenizer))
    config = LoraConfig(
        r=4, target_modules=["q_proj"], use_dora=True, modules_to_save=["lm_head", "embed_tokens"]
    )
    made = get_peft_model(model, config)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.3)
    made.save_pretrained(str(tmp_path / "adapter"))
    tokenizer.save_pretrained(tmp_path / "adapter")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": str(base)}))
    ids = torch.tensor([tokenizer("ab<|new|>")["input_ids"]])
    checkpoint = Checkpoint(str(tmp_path / "adapter"))
    checkpoint.check_weights()
    with torch.no_grad():
        expected = made.eval()(ids).logits
        torch.testing.assert_close(checkpoint.load(torch.float32)(ids).logits, expected, atol=1e-4, rtol=1e-4)


# --- the tokenizer ------------------------------------------------------------------------


def with_tokens(base: Path, folder: Path, *tokens: str, template: str | None = None) -> str:
    from transformers import AutoTokenizer

    copy = shutil.copytree(base, folder)
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.add_tokens(list(tokens))
    tokenizer.chat_template = template
    tokenizer.save_pretrained(copy)
    return str(copy)


def test_tokens_without_an_embedding(base: Path, tmp_path: Path) -> None:
    """One that the template writes is refused; one that only fills batches is not, unless a prompt has it."""
    spare = HFEngine(with_tokens(base, tmp_path / "spare", "[PAD]"), device="cpu")
    assert (
        outputs(spare, request("abc"))["abc", 0].token_ids
        == outputs(HFEngine(str(base), device="cpu"), request("abc"))["abc", 0].token_ids
    )
    with pytest.raises(UsageError, match=r"no embedding for the token '\[PAD\]' \(261 of 261\)"):
        outputs(spare, request("a [PAD] b"))
    used = with_tokens(
        base, tmp_path / "used", "<|im_start|>", template="<|im_start|>{{ messages[0].content }}"
    )
    with pytest.raises(UsageError, match=r"1 tokens are beyond the embedding.*261 rows \(<\|im_start\|>\)"):
        HFEngine(used, device="cpu")


def test_named_templates(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    path = copy / "tokenizer_config.json"
    named = [{"name": "tool_use", "template": "T"}, {"name": "rag", "template": "R"}]
    said = json.loads(path.read_text())
    path.write_text(json.dumps({**said, "chat_template": named}))
    with pytest.raises(UsageError, match="templates called rag, tool_use and none called default"):
        HFEngine(str(copy), device="cpu")
    path.write_text(
        json.dumps(
            {
                **said,
                "chat_template": [*named, {"name": "default", "template": "{{ 'D' + messages[0].content }}"}],
            }
        )
    )
    assert HFEngine(str(copy), device="cpu").texts.prompt(request("U")).text == "DU"


# --- flags --------------------------------------------------------------------------------


def test_devices_and_types() -> None:
    assert torch_device("auto").type in ("cpu", "cuda")
    assert torch_device("cpu") == torch.device("cpu")
    for name in ("gpu", "", "cpu:x", "meta"):
        with pytest.raises(UsageError, match=f"--device {name}.*use auto, cpu, cuda"):
            torch_device(name)
    with pytest.raises(MissingError, match="--device cuda:9 is not here") as caught:
        torch_device("cuda:9")
    assert caught.value.exit_code == 3
    assert (torch_dtype("auto"), torch_dtype("bfloat16")) == ("auto", torch.bfloat16)
    for name in ("int8", "fp16", "nn", "", "float8_e4m3fn"):
        with pytest.raises(UsageError, match=f"--dtype {name}: use auto, float32"):
            torch_dtype(name)


def test_a_package_that_is_missing(base: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(base, tmp_path / "copy")
    path = copy / "config.json"
    quantized = {"quantization_config": {"quant_method": "gptq", "bits": 4}}
    path.write_text(json.dumps({**json.loads(path.read_text()), **quantized}))
    with pytest.raises(MissingError, match=r"needs a package that is not here .*GPTQ") as caught:
        HFEngine(str(copy), device="cpu")
    assert "\n" not in str(caught.value)


def test_spaces_before_punctuation_stay(base: Path, tmp_path: Path) -> None:
    """Llama 3's tokenizer_config.json asks for what would take them away, and so does any tokenizer not of pairs."""
    from tokenizers import Tokenizer
    from tokenizers import models as kinds
    from tokenizers import pre_tokenizers as before

    copy = Path(shutil.copytree(base, tmp_path / "copy"))
    own = Tokenizer.from_file(str(copy / "tokenizer.json"))
    letters = [(token, -1.0) for token, _ in sorted(own.get_vocab().items(), key=lambda item: item[1])]
    unigram = Tokenizer(kinds.Unigram(letters, unk_id=0))
    unigram.pre_tokenizer, unigram.decoder = before.ByteLevel(add_prefix_space=False), own.decoder
    unigram.save(str(copy / "tokenizer.json"))
    path = copy / "tokenizer_config.json"
    said = {**json.loads(path.read_text()), "clean_up_tokenization_spaces": True, "extra_special_tokens": []}
    path.write_text(json.dumps(said))
    tokenizer = Checkpoint(str(copy)).tokenizer
    text = "x != y , the 'word' ."
    assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
