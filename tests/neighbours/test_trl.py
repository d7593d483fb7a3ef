"""Our rewards in the trainer and the environments of others: TRL's GRPOTrainer takes a step with each, `verifiers`
scores a made-up reply."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tiny import make_checkpoint

from cipo_eval.rewards import code_reward, correction_reward, math_reward

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))

CHAT = [[{"role": "user", "content": f"What is {n} + 1?"}] for n in range(4)]
ROWS: dict[str, list[dict[str, Any]]] = {
    "math": [{"prompt": chat, "solution": "1"} for chat in CHAT],
    "code": [{"prompt": f"Add {n}.", "tests": ["assert f(1) == 2"], "entry_point": "f"} for n in range(4)],
    "correction": [{"prompt": chat, "solution": "1", "attempt": r"\boxed{1}"} for chat in CHAT],
}
REWARDS = {"math": math_reward, "code": code_reward, "correction": correction_reward}
ANSWERS = {
    "math": r"It is \boxed{1}.",
    "code": "```python\ndef f(x): return x + 1\n```",
    "correction": r"\boxed{1}",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model") / "tiny", chat=True)


@pytest.mark.parametrize("name", REWARDS)
def test_one_step(name: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of the docs. A tiny random model answers nothing right, so what is decoded becomes an answer now and
    then: what the trainer logs must be the rewards that are computed for what it shows."""
    import trl_grpo
    from transformers import PreTrainedTokenizerBase

    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS[name]))
    monkeypatch.setattr(
        sys,
        "argv",
        f"trl_grpo --model {model} --data {data} --reward {name} --output {tmp_path / 'out'} "
        "--steps 1 --generations 4 --length 12".split(),
    )
    decode = PreTrainedTokenizerBase.batch_decode

    def answer(self: Any, *values: Any, **options: Any) -> list[str]:
        texts = decode(self, *values, **options)
        return (
            [ANSWERS[name] if at % 2 else text for at, text in enumerate(texts)] if len(texts) == 4 else texts
        )

    monkeypatch.setattr(PreTrainedTokenizerBase, "batch_decode", answer)
    monkeypatch.setattr(trl_grpo, "REWARDS", {name: kept(REWARDS[name])})
    trainer = trl_grpo.main()
    logged = next(entry for entry in trainer.state.log_history if "reward" in entry)
    calls = trl_grpo.REWARDS[name].calls
    assert len(calls) == 1
    given, told = calls[0]
    assert told == REWARDS[name](**given)
    key = next(key for key in logged if key.startswith("rewards/") and key.endswith("/mean"))
    assert logged[key] == pytest.approx(sum(told) / len(told))
    assert logged["reward"] == pytest.approx(sum(told) / len(told))
    assert logged["cipo_eval/verifier_failed"] == 0.0
    assert len(set(told)) > 1


class kept:  # noqa: N801  a reward that remembers its calls
    def __init__(self, reward: Any) -> None:
        self.reward, self.calls, self.__name__ = reward, [], reward.__name__

    def __call__(self, **given: Any) -> list[float | None]:
        told = self.reward(**given)
        plain = {k: v for k, v in given.items() if k not in ("log_metric", "log_extra")}
        self.calls.append((plain, told))
        return told


TASKSET = r"""
import asyncio, sys
import verifiers.v1 as vf

config = vf.taskset_config_type("verifiers_correction")(id="verifiers_correction", data=sys.argv[1])
(task,) = vf.load_taskset(config)
assert [message.role for message in task.data.prompt] == ["user", "assistant", "user"]
assert "boxed{2}" in task.data.prompt_text
for reply, reward in ((r"\boxed{2}", 1.0), (r"\boxed{3}", -1.0)):
    trace = vf.Trace(
        task=vf.TraceTask(type=type(task).__name__, data=task.data),
        agent=vf.AgentInfo(config=vf.AgentConfig()),
        nodes=[vf.MessageNode(message=vf.AssistantMessage(content=reply), sampled=True)],
    )
    asyncio.run(task.score(trace))
    assert trace.rewards["correction"].score == reward, trace.rewards
"""


def test_a_taskset_of_verifiers(tmp_path: Path) -> None:
    """Loaded by its name, as its command line does, and scored on made-up replies. In a process of its own: a folder
    of these tests has the package's name."""
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": "What is 1 + 1?", "solution": "2", "attempt": r"It is \boxed{2}."}
    rows.write_text(json.dumps(row) + "\n")
    path = [folder for folder in sys.path if folder and Path(folder).resolve() != EXAMPLES.parent / "tests"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(EXAMPLES), *path])}
    subprocess.run([sys.executable, "-c", TASKSET, str(rows)], check=True, env=environment)
