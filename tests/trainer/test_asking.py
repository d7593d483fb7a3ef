"""How the model is asked is one object: the same in rollouts, corrections, rows of sft, evaluations and later runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Commands
from made import bandit
from tiny import make_checkpoint

from cipo_eval.engines import conversation
from cipo_eval.engines.conversation import Chat
from cipo_eval.errors import UsageError
from cipo_eval.interrupts import Interrupts
from cipo_eval.run.api import Evaluation, Silence
from cipo_eval.run.request import RunRequest
from cipo_trainer.config import Config
from cipo_trainer.loop import Trainer
from cipo_trainer.problems import encoded
from cipo_trainer.rollout import Group

THINKER = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% if effort is defined %}({{ effort }}){% endif %}"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% else %}<think>{% endif %}{% endif %}"
)
CHAT = {"enable_thinking": False, "kwargs": {"effort": "low"}, "system": "Be brief."}
HEAD = "(low)<think></think>"


def thinker(folder: Path) -> Path:
    model = make_checkpoint(folder / "thinker", chat=True)
    (model / "chat_template.jinja").write_text(THINKER)
    return model


def config(folder: Path, algorithm: str = "cipo", **more: Any) -> Config:
    values: dict[str, Any] = {
        "model": str(thinker(folder)),
        "chat": CHAT,
        "steps": 1,
        "rollout": {"problems": 2, "samples": 2, "max_tokens": 3},
        "optimizer": {"lr": 1e-3, "batch": 2},
        "eval": {"tasks": ["arithmetic"], "limit": 1, "max_tokens": 2},
        **({} if algorithm == "sft" else {"correction": {"truncated": True, "samples": 2}}),
    }
    return bandit(folder, algorithm, **values | more)


def trained(asked: Config, said: list[str], monkeypatch: pytest.MonkeyPatch) -> tuple[Trainer, list[Group]]:
    groups: list[Group] = []
    roll_out = Trainer._roll_out

    def keep(self: Trainer, *arguments: Any) -> Any:
        rolled = roll_out(self, *arguments)
        groups.extend(rolled[0])
        return rolled

    monkeypatch.setattr(Trainer, "_roll_out", keep)
    with Trainer(asked, say=said.append) as trainer, Interrupts() as interrupts:
        trainer.run(interrupts)
    return trainer, groups


def test_one_chat_asks_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    asked = config(tmp_path)
    trainer, groups = trained(asked, said, monkeypatch)
    tokenizer = trainer.policy.tokenizer
    prompts = {bool(g.anchor): tokenizer.decode(g.samples[0].prompt) for g in groups}
    assert prompts.keys() == {False, True}
    for text in prompts.values():
        assert text.startswith("<|system|>Be brief.<|end|>")
        assert text.endswith(f"<|assistant|>{HEAD}")
    problem = groups[0].samples[0].problem
    (row,) = encoded(tokenizer, [(problem.prompt, "3")], asked.chat)
    assert tuple(row.prompt) == groups[0].samples[0].prompt
    info = json.loads((asked.output / "eval" / "step-000001" / "run.json").read_text())
    assert info["engine"]["enable_thinking"] is False
    assert info["engine"]["chat_template_kwargs"] == {"effort": "low"}
    assert info["tasks"]["arithmetic"]["system_prompt"] == "Be brief."
    assert not said


def test_a_checkpoint_is_asked_as_it_was_trained_and_a_difference_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer, _ = trained(config(tmp_path, "sft", eval={"tasks": []}), [], monkeypatch)
    place = str(trainer.checkpoints.path(1))
    assert conversation.trained(place) == Chat.model_validate(CHAT)

    class Watch(Silence):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def warn(self, text: str) -> None:
            self.lines.append(text)

    def run(**values: Any) -> tuple[RunRequest, list[str]]:
        watch = Watch()
        request = RunRequest.of(model=place, tasks="arithmetic", output=tmp_path / "run", **values)
        return Evaluation(request, watch).request, watch.lines

    request, lines = run()
    assert request.engine.options == {"enable_thinking": False, "chat_template_kwargs": {"effort": "low"}}
    assert request.decoding.system_prompt == "Be brief."
    assert lines == []
    request, lines = run(enable_thinking=True, system_prompt="")
    assert request.engine.options["enable_thinking"] is True
    assert request.decoding.system_prompt == ""
    assert len(lines) == 1
    assert "enable_thinking False and another system prompt" in lines[0]
    same, lines = run(enable_thinking=False)
    assert same.engine.options["enable_thinking"] is False
    assert lines == []


def test_evaluations_may_ask_otherwise_which_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    evaluation = {
        "tasks": ["arithmetic"],
        "limit": 1,
        "max_tokens": 2,
        "chat": {"enable_thinking": True, "kwargs": {"effort": "low"}},
    }
    asked = config(tmp_path, eval=evaluation)
    _, groups = trained(asked, said, monkeypatch)
    assert said == [
        "evaluations ask otherwise than the training: enable_thinking: True here, False there; "
        "system: nothing here, Be brief. there"
    ]
    info = json.loads((asked.output / "eval" / "step-000000" / "run.json").read_text())
    assert info["engine"]["enable_thinking"] is True
    assert info["tasks"]["arithmetic"]["system_prompt"] is None
    (number,) = {
        len(g.samples[0].prompt) for g in groups if not g.anchor
    }  # back to the training's afterwards
    assert number > 0


def test_a_template_of_ones_own_goes_with_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.jinja").write_text(THINKER.replace("<|assistant|>", "<|assistant|>Mine: "))
    chat = {"template": str(tmp_path / "mine.jinja")}
    trainer, _ = trained(config(tmp_path, "sft", chat=chat, eval={"tasks": []}), [], monkeypatch)
    assert "Mine: " in (trainer.checkpoints.path(1) / "chat_template.jinja").read_text()


def test_a_run_tells_the_template_more(cipo: Commands, tmp_path: Path) -> None:
    model = thinker(tmp_path)
    flags = ("--tasks", "arithmetic", "--limit", "1", "--max-tokens", "2", "--quiet", "-o", tmp_path / "run")
    told = ("--chat-template-kwargs", '{"effort": "high"}')
    outcome = cipo("run", "--model", model, *flags, *told)
    assert outcome.code == 0, outcome.err
    info = json.loads((tmp_path / "run" / "run.json").read_text())
    assert info["engine"]["chat_template_kwargs"] == {"effort": "high"}
    other = cipo("run", "--model", model, *flags, "--chat-template-kwargs", '{"effort": "low"}')
    assert other.code == 2  # another way of asking does not go on
    assert "chat_template_kwargs" in other.err
    for wrong, message in (('{"effrt": 1}', "has no effrt"), ("low", "a mapping, such as")):
        refused = cipo("run", "--model", model, *flags, "--chat-template-kwargs", wrong)
        assert refused.code == 2
        assert message in refused.err


@pytest.mark.parametrize(
    ("chat", "message"),
    [
        ({"enable_thinking": True, "template": "{{ messages[0]['content'] }}"}, "no enable_thinking"),
        ({"kwargs": {"effrt": "low"}}, "has no effrt"),
        ({"template": "no/such.jinja"}, "cannot be read"),
        ({"thinking": True}, "chat.thinking: there is no such key; did you mean enable_thinking"),
    ],
)
def test_what_the_template_does_not_know_is_refused(
    tmp_path: Path, chat: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        Trainer(config(tmp_path, "sft", chat=chat)).close()


def test_lora_weights_reach_an_engine_that_has_a_copy(tmp_path: Path) -> None:
    """Merged, under the names of the checkpoint: what the adapted model says, a plain one with them says."""
    import torch
    from transformers import AutoModelForCausalLM

    from cipo_trainer.policy import Policy

    asked = config(tmp_path, "grpo", lora={"rank": 2}, correction=None)
    policy = Policy(asked)
    for name, parameter in policy.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    plain = AutoModelForCausalLM.from_pretrained(asked.model, dtype=torch.float32).eval()
    ids = torch.arange(5, 15)[None]
    before = plain(ids).logits
    missing, unexpected = plain.load_state_dict(policy.weights(), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    with torch.no_grad():
        assert torch.allclose(plain(ids).logits, policy.model(ids).logits, atol=1e-5)
        assert not torch.allclose(plain(ids).logits, before, atol=1e-3)
