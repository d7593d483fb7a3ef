"""Tokens per second of the generation core beside its peers: 64 prompts of mixed length, 16 samples of each.

A random Llama of about 16 million parameters; prompts of 16 to 256 tokens; a sample ends by itself, after 64 tokens on
average, at most 256. Peers: ``model.generate(num_return_sequences=16)`` (one prompt at a time, and batches of eight),
transformers' continuous batching (``generate_batch``), lm-eval's ``hf`` model with repeated requests, and vLLM's CPU
build where it is installed. Each counts the tokens up to the end of each sample, that one included. Parts take turns,
``--rounds`` times; ratios are medians over rounds.

``--overhead``: what the harness adds (tokenise, verify, store) at 10,000 attempts: a whole run beside the core alone on
the same prompts and seeds.

    python benchmarks/generation.py [--rounds 3] [--only ours,generate] [--overhead]

The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from cipo_eval.engines.core.loop import Core
from cipo_eval.engines.core.request import GenRequest
from cipo_eval.records import Sampling

PROMPTS, SAMPLES, MOST, MEAN, VOCAB = 64, 16, 256, 64, 8192
ENDS = list(range(2, 2 + VOCAB // MEAN))
"""Tokens that end a sample: so many that a random model meets one after ``MEAN`` tokens on average."""
SAMPLING = Sampling(temperature=1.0, top_p=1.0, top_k=0, min_p=0.0, max_tokens=MOST)


def make_checkpoint(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<end>": 1, **{f"w{i}": i for i in range(2, VOCAB)}}
    backend = Tokenizer(models.WordLevel(vocab=words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", eos_token="<end>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=384,
        intermediate_size=1024,
        num_hidden_layers=8,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ENDS,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.generation_config.eos_token_id = ENDS
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def prompts(count: int = PROMPTS) -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    lengths = (16 * 2 ** (4 * torch.rand(count, generator=generator))).int().tolist()
    return [torch.randint(2 + len(ENDS), VOCAB, (n,), generator=generator).tolist() for n in lengths]


def counted(rows: list[list[int]]) -> int:
    """Tokens up to the first end token of each row."""
    ends = set(ENDS)
    return sum(next((i + 1 for i, token in enumerate(row) if token in ends), len(row)) for row in rows)


# --- the peers ---------------------------------------------------------------------------------------------------


def ours(folder: Path, asked: list[list[int]], round_: int) -> tuple[int, dict[str, Any]]:
    core = Core(load(folder), ends=ENDS, tokens=1 << 17)
    asks = [
        GenRequest(
            prompt=p,
            seeds=[10**6 * round_ + 1000 * i + s for s in range(SAMPLES)],
            sampling=SAMPLING,
            max_new=MOST,
        )
        for i, p in enumerate(asked)
    ]
    feed = [asks]
    rows = [list(sample.tokens) for sample in core.run(lambda _wait: feed.pop() if feed else [])]
    assert len(rows) == len(asked) * SAMPLES
    return counted(rows), {"slots": core.width, "prompt_tokens": core.prefilled}


def generate(folder: Path, asked: list[list[int]], round_: int, batch: int = 1) -> tuple[int, dict[str, Any]]:
    model = load(folder)
    torch.manual_seed(round_)
    ordered, total = sorted(asked, key=len), 0
    for at in range(0, len(ordered), batch):
        part = ordered[at : at + batch]
        width = max(map(len, part))
        ids = torch.tensor([[0] * (width - len(p)) + p for p in part])
        output = model.generate(
            ids,
            attention_mask=(ids != 0).long(),
            do_sample=True,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            max_new_tokens=MOST,
            num_return_sequences=SAMPLES,
        )
        total += counted(output[:, width:].tolist())
    return total, {}


def continuous(folder: Path, asked: list[list[int]], round_: int) -> tuple[int, dict[str, Any]]:
    from transformers import GenerationConfig

    model = load(folder)
    torch.manual_seed(round_)
    config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=MOST,
        num_return_sequences=SAMPLES,
        eos_token_id=ENDS[0],
        pad_token_id=0,
    )
    # its end token is one: give the others its place, so that samples are as long as elsewhere
    with torch.no_grad():
        model.config.eos_token_id = ENDS[0]
    found = model.generate_batch(asked, generation_config=config, progress_bar=False)
    return sum(len(output.generated_tokens) for output in found.values()), {}


def lm_eval_hf(folder: Path, asked: list[list[int]], round_: int) -> tuple[int, dict[str, Any]]:
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(round_)
    model = HFLM(pretrained=load(folder), tokenizer=tokenizer, batch_size=64, max_length=1024)
    settings = {
        "until": [],
        "do_sample": True,
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "max_gen_toks": MOST,
    }
    requests = [
        Instance(
            request_type="generate_until",
            doc={},
            arguments=(" ".join(f"w{token}" for token in prompt), dict(settings)),
            idx=i,
            repeats=SAMPLES,
            metadata=("t", i, SAMPLES),
        )
        for i, prompt in enumerate(asked)
    ]
    repeated = [request for request in requests for _ in range(SAMPLES)]  # as its evaluator clones them
    texts = model.generate_until(repeated, disable_tqdm=True)
    return counted([tokenizer(text)["input_ids"] for text in texts]), {}


def start_vllm(folder: Path) -> None:
    """Before the clock runs: it takes a while to start."""
    global _vllm
    from vllm import LLM

    if _vllm is None:
        _vllm = LLM(
            model=str(folder),
            dtype="float32",
            max_model_len=512,
            enforce_eager=True,
            enable_prefix_caching=True,
            max_num_seqs=256,
        )


def vllm_cpu(_folder: Path, asked: list[list[int]], _round: int) -> tuple[int, dict[str, Any]]:
    from vllm import SamplingParams

    # no seed: its CPU build fails with one where a prompt is read in parts ("CPU Generator does not use offset")
    params = SamplingParams(
        n=SAMPLES, temperature=1.0, top_p=1.0, top_k=-1, max_tokens=MOST, stop_token_ids=ENDS
    )
    found = _vllm.generate([{"prompt_token_ids": p} for p in asked], params, use_tqdm=False)
    return counted([list(o.token_ids) for request in found for o in request.outputs]), {}


_vllm: Any = None
PEERS: dict[str, Callable[..., tuple[int, dict[str, Any]]]] = {
    "ours": ours,
    "generate": generate,
    "generate_8": lambda *a: generate(*a, batch=8),
    "generate_batch": continuous,
    "lm_eval_hf": lm_eval_hf,
    "vllm": vllm_cpu,
}
GOALS = {"generate": 3.0, "generate_8": 3.0, "lm_eval_hf": 4.0, "vllm": 0.8}


def peak() -> float:
    """Floating-point operations a second of a matrix product of the shape of a decoding step."""
    a, b = torch.randn(256, 384), torch.randn(384, 1024)
    for _ in range(20):
        a @ b
    started = time.perf_counter()
    for _ in range(300):
        a @ b
    return 300 * 2 * a.shape[0] * a.shape[1] * b.shape[1] / (time.perf_counter() - started)


def side_by_side(folder: Path, rounds: int, only: list[str]) -> dict[str, Any]:
    asked = prompts()
    speeds: dict[str, list[float]] = {}
    facts: dict[str, Any] = {}
    failed: dict[str, str] = {}
    for round_ in range(rounds):
        for name in only:
            if name in failed:
                continue
            try:
                if name == "vllm":
                    start_vllm(folder)
                started = time.perf_counter()
                with contextlib.redirect_stdout(io.StringIO()):
                    tokens, more = PEERS[name](folder, asked, round_)
            except Exception as error:  # a peer that is not installed, or does not run here: said, not hidden
                failed[name] = f"{type(error).__name__}: {error}"[:200]
                print(f"{name}: {failed[name]}")
                continue
            seconds = time.perf_counter() - started
            speeds.setdefault(name, []).append(tokens / seconds)
            facts.setdefault(name, {"tokens": tokens, "seconds": round(seconds, 1), **more})
            print(
                f"round {round_ + 1} {name}: {tokens} tokens in {seconds:.1f} s, {tokens / seconds:.0f}/s",
                flush=True,
            )
    ratios = {
        name: statistics.median(a / b for a, b in zip(speeds["ours"], of, strict=False))
        for name, of in speeds.items()
        if name != "ours"
    }
    parameters = sum(p.numel() for p in load(folder).parameters())
    speed = statistics.median(speeds["ours"])
    done = speed * 2 * parameters * (1 + facts["ours"]["prompt_tokens"] / facts["ours"]["tokens"])
    best = peak()
    for name, ratio in ratios.items():
        print(f"{ratio:.2f} x {name}" + (f" (goal {GOALS[name]})" if name in GOALS else ""))
    print(f"{done / 1e9:.1f} of {best / 1e9:.1f} GFLOP/s that a matrix product reaches: {done / best:.0%}")
    return {
        "parameters": parameters,
        "tokens_per_second": {name: round(statistics.median(of), 1) for name, of in speeds.items()},
        "ratios": {name: round(ratio, 2) for name, ratio in ratios.items()},
        "goals": GOALS,
        "share_of_peak_flops": round(done / best, 3),
        "facts": facts,
        "failed": failed,
        "threads": torch.get_num_threads(),
    }


def overhead(folder: Path, rounds: int, attempts: int = 10_000) -> dict[str, Any]:
    """A run of the arithmetic task beside the core on the same prompts and seeds."""
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.engines.hf import HFEngine
    from cipo_eval.records import Mode
    from cipo_eval.run.plan import TaskPlan
    from cipo_eval.run.progress import Progress
    from cipo_eval.run.runner import Run
    from cipo_eval.storage.store import RunStore
    from cipo_eval.verifiers.pool import VerifierPool

    problems = load_problems("arithmetic")
    plan = TaskPlan(problems=problems, samples=attempts // len(problems.problems), sampling=SAMPLING)
    engine = HFEngine(str(folder), device="cpu")
    asks = [engine._ask(plan.first(p, range(plan.samples), 0)) for p in plan.selected]

    def alone() -> float:
        feed, started = [asks], time.perf_counter()
        count = sum(1 for _ in engine.core.run(lambda _wait: feed.pop() if feed else []))
        assert count == attempts
        return time.perf_counter() - started

    def whole() -> float:
        with (
            tempfile.TemporaryDirectory() as scratch,
            RunStore(Path(scratch) / "run") as store,
            VerifierPool() as pool,
        ):
            job = Run(store, [plan], engine=engine.describe(), seed=0, modes=(Mode.FIXED,), command=[])
            started = time.perf_counter()
            job.execute(engine, pool, Progress())
            return time.perf_counter() - started

    times: dict[str, list[float]] = {"core": [], "run": []}
    for _ in range(rounds):
        times["core"].append(alone())
        times["run"].append(whole())
        print(f"core {times['core'][-1]:.1f} s, run {times['run'][-1]:.1f} s", flush=True)
    share = statistics.median(b / a - 1 for a, b in zip(times["core"], times["run"], strict=True))
    print(f"the harness adds {share:.1%} at {attempts} attempts (goal 3 %)")
    return {"attempts": attempts, "overhead": round(share, 4), "seconds": times, "goal": 0.03}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default=",".join(PEERS))
    parser.add_argument("--overhead", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_checkpoint(Path(scratch) / "model")
        if arguments.overhead:
            print(json.dumps({"benchmark": "generation overhead", **overhead(folder, arguments.rounds)}))
            return
        found = side_by_side(folder, arguments.rounds, arguments.only.split(","))
        print(json.dumps({"benchmark": "generation", "prompts": PROMPTS, "samples": SAMPLES, **found}))


if __name__ == "__main__":
    main()
