"""lm-evaluation-harness's spellings are our options: they are rewritten, and what is not meant here is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, results
from typer.main import get_command

from cipo_eval.cli import aliases, app
from cipo_eval.errors import UsageError


def command(name: str) -> Any:
    return get_command(app).commands[name]  # type: ignore[attr-defined]  # it is a group


def run_of(*words: str) -> list[str]:
    return aliases.rewritten(words, command("run").params, lambda _: None)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("--max_tokens 8 --top_p=0.9 --no_resume", "--max-tokens 8 --top-p=0.9 --no-resume"),
        ("--model m --tasks t --limit 5", "--model m --tasks t --limit 5"),
        ("--model_args pretrained=m", "--model m --engine hf"),
        ("--model vllm --model_args pretrained=m", "--model m --engine vllm"),
        (
            "--model hf -a pretrained=m,dtype=float16,trust_remote_code=True",
            "--model m --engine hf --dtype float16 --trust-remote-code",
        ),
        ("--model hf --model_args pretrained=base,peft=lora", "--model lora --engine hf"),
        (
            "--model vllm --model_args pretrained=m,gpu_memory_utilization=0.8,tensor_parallel_size=2",
            "--model m --engine vllm --tensor-parallel 2 --model-args gpu_memory_utilization=0.8",
        ),
        (
            "--model local-completions --model_args model=m,base_url=http://h/v1/completions,num_concurrent=4",
            "--endpoint completions --model m --engine openai --base-url http://h/v1 --concurrency 4",
        ),
        (
            '--model_args {"pretrained":"m","enable_thinking":false}',
            "--model m --engine hf --no-enable-thinking",
        ),
        (
            "--gen_kwargs temperature=0.7,top_p=0.8,max_gen_toks=9",
            "--temperature 0.7 --top-p 0.8 --max-tokens 9",
        ),
        ("--gen_kwargs do_sample=False,temperature=0.7", "--temperature 0"),
        ('--gen_kwargs {"until":["a","b"]}', "--stop a --stop b"),
        ("--apply_chat_template --batch_size auto --log_samples -b 8", ""),
        ("--num_fewshot 4 --fewshot_as_multiturn", "--num-fewshot 4 --fewshot-as-multiturn"),
        ("-f 2 --fewshot_as_multiturn False", "--num-fewshot 2 --no-fewshot-as-multiturn"),
        ("--system_instruction hi --output_path o", "--system-prompt hi --output o"),
        ("--engine lm-eval:hf --model_args pretrained=m", "--model-args pretrained=m --engine lm-eval:hf"),
        ("--engine lm-eval:hf --model-args pretrained=m", "--engine lm-eval:hf --model-args pretrained=m"),
        ("--system-prompt --max_tokens -- --top_p", "--system-prompt --max_tokens -- --top_p"),
        ("--no_such_thing 3", "--no_such_thing 3"),
    ],
)
def test_words_are_rewritten(theirs: str, ours: str) -> None:
    assert run_of(*theirs.split()) == ours.split()
    assert run_of(*ours.split()) == ours.split()


@pytest.mark.parametrize(
    ("name", "theirs", "ours", "idle"),
    [
        ("score", "f.jsonl --tasks t --output_path o", "f.jsonl --task t --output o", set()),
        (
            "score",
            "f.jsonl --task t --limit=0.1 --id_map m",
            "f.jsonl --task t --limit=0.1 --id-map m",
            set(),
        ),
        (
            "score",
            "f.jsonl --model hf --model_args pretrained=m --tasks t --num_fewshot 4 --log_samples",
            "f.jsonl --task t",
            {"--model", "--engine", "--num-fewshot", "--log_samples"},
        ),
        (
            "score",
            "f.jsonl -t t --gen_kwargs temperature=0,seed=3",
            "f.jsonl -t t --seed 3",
            {"--temperature"},
        ),
        (
            "rescore",
            "runs/a --verifier_workers 2 --mode paper",
            "runs/a --verifier-workers 2 --mode paper",
            set(),
        ),
    ],
)
def test_judging_commands_take_their_words_too(name: str, theirs: str, ours: str, idle: set[str]) -> None:
    """What made a file's answers was decided elsewhere: it is said, and left."""
    said: list[str] = []
    assert aliases.rewritten(theirs.split(), command(name).params, said.append) == ours.split()
    assert {line.split()[0] for line in said} == idle


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--model_args pretrained=m,dtyp=x", "did you mean dtype"),
        ("--gen_kwargs temprature=1", "did you mean temperature"),
        ("--gen_kwargs temperature", "write KEY=VALUE"),
        ("--gen_kwargs {", "no JSON"),
        ("--gen_kwargs", "needs a value"),
        ("--model hff --model_args pretrained=m", "did you mean hf"),
        ("--model other --engine hf --model_args pretrained=m", "both name the model"),
        ("--apply_chat_template False", "chat template is always used"),
    ],
)
def test_what_is_not_meant_here_is_refused(cipo: Commands, words: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run_of(*words.split())
    outcome = cipo("run", *words.split())
    assert outcome.code == 2
    assert message in outcome.err


def test_what_changes_nothing_says_so_unless_quiet(cipo: Commands) -> None:
    line = (
        "plan",
        "--model",
        "hf",
        "--model_args",
        "pretrained=4B",
        "--tasks",
        "arithmetic",
        "--gpu",
        "H100",
    )
    outcome = cipo(*line, "--batch_size", "8", "--json")
    assert outcome.code == 0, outcome.err
    assert "--batch_size changes nothing" in outcome.err
    quiet: list[str] = []
    aliases.rewritten(["--batch_size", "8", "-q"], command("run").params, quiet.append)
    assert quiet == []


@pytest.mark.slow
def test_a_line_of_lm_eval_runs(cipo: Commands, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """The same run as ours in our words."""
    line = f"--model hf --model_args pretrained={tiny_checkpoint},dtype=float32 --tasks arithmetic --limit 3"
    more = "--device cpu --batch_size auto --num_fewshot 0 --apply_chat_template --log_samples --seed 1"
    decoding = "--gen_kwargs temperature=0.7,top_p=0.9,max_gen_toks=8"
    theirs = tmp_path / "theirs"
    outcome = cipo("run", *line.split(), *more.split(), *decoding.split(), "--output_path", theirs)
    assert outcome.code == 0, outcome.err
    line = f"--model {tiny_checkpoint} --dtype float32 --tasks arithmetic --limit 3 --device cpu --seed 1"
    decoding = "--temperature 0.7 --top-p 0.9 --max-tokens 8"
    assert cipo("run", *line.split(), *decoding.split(), "-o", tmp_path / "ours").code == 0
    assert results(theirs) == results(tmp_path / "ours")
    assert len((theirs / "attempts" / "arithmetic.jsonl").read_text().splitlines()) == 3
    assert cipo("run", *line.split(), *decoding.split(), "-o", theirs).code == 0, "it is resumed by either"
    assert json.loads((theirs / "run.json").read_text())["tasks"]["arithmetic"]["limit"] == 3
    jobs = ("--submit", "slurm", "--shards", "2", "--dry-run")
    theirs_again = ("--model", "hf", "--model_args", f"pretrained={tiny_checkpoint}", "--tasks", "arithmetic")
    scripts = cipo("run", *theirs_again, "--output_path", tmp_path / "jobs", *jobs)
    assert scripts.code == 0, scripts.err
    assert f"--model {tiny_checkpoint}" in scripts.out, (
        "jobs are told in our words, and each has its own folder"
    )
    assert "_args" not in scripts.out
    assert "output_path" not in scripts.out
