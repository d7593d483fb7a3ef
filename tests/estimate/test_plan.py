"""``cipo-eval plan``: its attempts are the run's, its intervals hold what a run then takes, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from commands import Commands
from hypothesis import given, settings
from hypothesis import strategies as st
from made_runs import make_run

from cipo_eval.errors import MissingError, UsageError
from cipo_eval.estimate.calibration import _length
from cipo_eval.estimate.constants import LEVELS, Length, constants
from cipo_eval.estimate.estimate import FIGURES, SOURCES, estimate
from cipo_eval.estimate.lengths import expected, scale
from cipo_eval.estimate.machines import Machines
from cipo_eval.estimate.roofline import Replica, Sequences
from cipo_eval.estimate.shapes import shape_of
from cipo_eval.estimate.workload import Workload, workload
from cipo_eval.run.request import RunRequest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
import plan_speed

KNOWN = constants()
H100 = Machines(
    name="H100", gpu=KNOWN.gpus["H100"], speed=KNOWN.engines["vllm"], shape=KNOWN.sizes["8B"], gpus=1
)


@pytest.fixture(autouse=True)
def _no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CIPO_EVAL_DATA", raising=False)
    monkeypatch.setenv("CIPO_EVAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def asked(**values: Any) -> Workload:
    return workload(RunRequest.of(**values), KNOWN)


def most(work: Workload) -> dict[tuple[str, str], int]:
    return {(task.task, load.name): load.most for task in work.tasks for load in task.loads}


# --- attempts ---------------------------------------------------------------------------------------------------


def test_attempts_are_those_of_the_run() -> None:
    work = asked(tasks="arithmetic,chains", samples=3, limit=7, protocol="self,oracle", turns=3)
    assert most(work) == {
        (task, name): 21
        for task in ("arithmetic", "chains")
        for name in ("direct 1", "self 2", "self 3", "oracle 2", "oracle 3")
    }
    found = estimate(work, KNOWN, H100)
    counts = found.tasks["chains"]["attempts"]
    assert 21 * 3 < counts.low < counts.value < counts.high < 21 * 5  # how many are wrong is not known before
    sure = estimate(asked(tasks="chains", samples=3, limit=7, protocol="self"), KNOWN, H100).total["attempts"]
    assert (sure.low, sure.value, sure.high) == (42, 42, 42)


def test_shards_add_up_to_the_run() -> None:
    call = {"tasks": "realcritic_math", "samples": 2, "limit": 5, "protocol": "given,critique"}
    whole = asked(**call)
    parts = [most(asked(**call, shard=f"{i}/3")) for i in (1, 2, 3)]
    assert {key: sum(part[key] for part in parts) for key in most(whole)} == most(whole)
    assert most(whole) == {("realcritic_math", name): 10 for name in ("given 2", "critique 2", "critique 3")}


def test_all_eleven_tasks_without_their_data() -> None:
    names = "aime24,aime25,amc23,math500,minerva,olympiadbench,humaneval,mbpp,livecodebench,debugbench,criticbench"
    work = asked(tasks=names, samples=32, protocol="self")
    problems = {task.task: task.problems for task in work.tasks}
    assert problems["aime24"] == 30
    assert problems["livecodebench"] == 454  # those of its window
    assert most(work) == {(t, n): 32 * p for t, p in problems.items() for n in ("direct 1", "self 2")}
    assert sum("its data is not here" in note for note in work.notes) == 10  # HumanEval comes with a package


SLOW_TO_READ = ("humaneval", "mbpp", "mbpp_classic", "livecodebench", "debugbench")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.exhaustive if name in SLOW_TO_READ else ())
        for name in KNOWN.tasks
        if name != "criticbench"
    ],
)
def test_stated_counts_are_those_of_the_data(real_data: Path, name: str) -> None:
    figures = KNOWN.tasks[name]
    (task,) = asked(tasks=name, data_dir=real_data).tasks
    assert task.here
    assert task.problems == figures.problems
    stated = KNOWN.of(name, task.kind)
    assert stated.prompt_tokens is not None
    assert stated.characters_per_token is not None
    assert stated.prompt_tokens * stated.characters_per_token.value == pytest.approx(task.characters, rel=0.2)


def test_pools_that_come_with_the_data_are_asked_about() -> None:
    (task,) = asked(tasks="criticbench", samples=2, temperature=1.0).tasks
    assert {load.name: load.most for load in task.loads} == {"critique 2": 3536, "critique 3": 3536}
    assert task.pool_attempts == 3536
    assert [load.judges for load in task.loads] == [True, False]


def test_counts_that_nothing_states() -> None:
    with pytest.raises(MissingError, match="data pull livecodebench"):
        asked(tasks="livecodebench", scope="start=2025-01-01,end=2025-03-01")
    with pytest.raises(UsageError, match="no attempts to correct"):
        asked(tasks="math500", protocol="given")


def test_later_prompts_have_what_comes_before_them() -> None:
    found = estimate(asked(tasks="math500", protocol="self", turns=4, samples=4), KNOWN, H100)
    alone = estimate(asked(tasks="math500", samples=4), KNOWN, H100)
    more = found.total["tokens_in"].value / alone.total["tokens_in"].value
    assert more > 4 * (1 + alone.total["tokens_out"].value / alone.total["tokens_in"].value)
    inline = estimate(
        asked(tasks="math500", protocol="self", turns=4, samples=4, turn_format="inline"), KNOWN, H100
    )
    assert inline.total["tokens_in"].value < found.total["tokens_in"].value  # the last attempt only
    assert inline.total["tokens_reusable"].value < found.total["tokens_reusable"].value


# --- intervals --------------------------------------------------------------------------------------------------


def test_every_figure_lies_in_its_interval_and_wider_constants_widen_it() -> None:
    work = asked(tasks="math500,aime24,humaneval", protocol="self,oracle", samples=8, max_tokens=4096)
    found = estimate(work, KNOWN, H100)
    for row in (found.total, *found.tasks.values()):
        assert row.keys() == set(FIGURES)
        for quantity in row.values():
            assert quantity.low <= quantity.value <= quantity.high
            assert quantity.low > 0
    total = found.total
    assert total["tokens_computed"].value < total["tokens_in"].value
    assert total["tokens_reusable"].value < total["tokens_in"].value
    assert found.causes.keys() == set(FIGURES)
    assert all(row.keys() == set(SOURCES) for row in found.causes.values())
    time = KNOWN.gpus["H100"].time.model_copy(update={"low": 0.5, "high": 3.0})
    wider = Machines(
        name="H100",
        gpu=H100.gpu.model_copy(update={"time": time}),
        speed=H100.speed,
        shape=H100.shape,
        gpus=1,
    )
    wide = estimate(work, KNOWN, wider).total["gpu_seconds"]
    assert wide.low < total["gpu_seconds"].low < total["gpu_seconds"].high < wide.high
    assert wide.value == total["gpu_seconds"].value


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(10, 1e5), min_size=len(LEVELS), max_size=len(LEVELS)),
    st.integers(2, 200_000),
    st.floats(0.2, 4),
)
def test_a_limit_cuts_off_what_lies_above_it(points: list[float], limit: int, factor: float) -> None:
    quantiles = tuple(sorted(points))
    drawn = np.interp((np.arange(40_000) + 0.5) / 40_000, LEVELS, quantiles)
    mean = float(drawn.mean())
    length = Length(mean=mean, low=mean, high=mean, quantiles=quantiles)
    cut = np.minimum(drawn * factor, limit)
    found = expected(length, limit, factor)
    assert found.mean == pytest.approx(cut.mean(), rel=0.01)
    assert found.held == pytest.approx((cut**2).mean() / cut.mean() / 2, rel=0.02)
    assert found.mean <= found.long <= limit


def test_intervals_of_calibrated_lengths_hold_nineteen_times_of_twenty() -> None:
    """Runs on problems and samples that the calibrating run has not seen, their means drawn apart from one another."""
    random, held, trials = np.random.default_rng(5), 0, 100

    def drawn(problems: int, samples: int) -> np.ndarray:
        means = 300 * np.exp(0.5 * random.standard_normal((problems, 1)))
        return means * random.gamma(4, 1 / 4, (problems, samples))

    for _ in range(trials):
        seen, unseen = drawn(25, 3), drawn(40, 8)
        names = np.repeat([f"p{i:02}" for i in range(25)], 3)
        length = Length.model_validate(_length(names, seen.ravel(), 0.0, 100_000))
        ends = [expected(length, 100_000, scale(length, level, 40, 320)).mean for level in (-1, 1)]
        held += ends[0] <= unseen.mean() <= ends[1]
    assert held / trials >= 0.9


# --- time -------------------------------------------------------------------------------------------------------


def test_published_throughput_is_met() -> None:
    off = plan_speed.errors(KNOWN, plan_speed.VLLM)
    assert len(off) == 30
    assert math.sqrt(sum(x * x for x in off) / len(off)) < 0.07
    time = KNOWN.gpus["H100"].time
    assert sum(math.log(time.low) <= -x <= math.log(time.high) for x in off) == 30
    other = plan_speed.errors(KNOWN, plan_speed.TENSORRT, eight_bit=True)
    assert max(abs(x) for x in other) < 0.45  # another engine, 8-bit weights: as a bound


def test_more_gpus_are_faster_and_large_models_are_spread() -> None:
    work = asked(tasks="math500", samples=64)
    one = estimate(work, KNOWN, H100)
    eight = estimate(work, KNOWN, Machines(**{**fields(H100), "gpus": 8}))
    assert eight.wall_seconds.value < one.wall_seconds.value / 3
    assert eight.total["gpu_seconds"].value > one.total["gpu_seconds"].value  # each of them loads and ends
    large = Machines(**{**fields(H100), "shape": KNOWN.sizes["70B"], "gpus": 4})
    assert (large.replica.gpus, large.replicas) == (4, 1)
    with pytest.raises(UsageError, match="need 4 of H100"):
        _ = Machines(**{**fields(large), "gpus": 3}).replicas


def fields(machines: Machines) -> dict[str, Any]:
    return {name: getattr(machines, name) for name in ("name", "gpu", "speed", "shape", "gpus")}


def test_a_full_cache_bounds_the_batch() -> None:
    small = Replica(gpu=KNOWN.gpus["L4"], speed=H100.speed, shape=KNOWN.sizes["8B"])
    short, long = (Sequences(prompt=100, computed=1, new=n, held=n / 2) for n in (100, 20_000))
    assert small.batch(long, 1000) < small.batch(short, 1000) <= 256
    assert small.batch(short, 3) == 3
    assert small.seconds(long, 1000, 0) > 200 * small.seconds(short, 1000, 0)


# --- models -----------------------------------------------------------------------------------------------------


QWEN3_8B = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}
"""What its config.json says."""


def test_a_checkpoint_says_what_a_size_says(tmp_path: Path) -> None:
    config = QWEN3_8B
    (tmp_path / "config.json").write_text(json.dumps(config))
    shape, named = shape_of(str(tmp_path), KNOWN), KNOWN.sizes["8B"]
    assert shape.parameters == pytest.approx(named.parameters, rel=0.001)
    assert shape.multiplied == pytest.approx(named.multiplied, rel=0.001)
    assert (shape.cache_bytes, shape.heads, shape.weight_bytes) == (named.cache_bytes, 32, 2.0)
    header = json.dumps(
        {"w": {"dtype": "BF16", "shape": [8, 1000, 1000, 1000], "data_offsets": [0, 30]}}
    ).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(30)
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert shape_of(str(tmp_path), KNOWN).parameters == 8e9
    (tmp_path / "model.safetensors").write_bytes(weights[:-1])  # a download under way
    assert shape_of(str(tmp_path), KNOWN).parameters == shape.parameters
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_experts": 8}))
    with pytest.raises(UsageError, match="mixture of experts"):
        shape_of(str(tmp_path), KNOWN)
    (tmp_path / "config.json").write_text(json.dumps({**config, "num_attention_heads": 0, "head_dim": None}))
    with pytest.raises(UsageError, match="does not say how the model is made"):
        shape_of(str(tmp_path), KNOWN)


def test_sizes_between_known_ones() -> None:
    assert shape_of("8b", KNOWN) is KNOWN.sizes["8B"]
    assert (
        KNOWN.sizes["8B"].cache_bytes == 147_456
    )  # Qwen3-8B: 36 layers, 8 heads of 128, keys and values, 2 bytes
    odd = shape_of("12.5B", KNOWN)
    assert odd.parameters == 12.5e9
    assert odd.source == "scaled from Qwen3-14B"
    for wrong in ("", "8X", "0.0B", "5000B", "nowhere/at-all"):
        with pytest.raises(UsageError, match="--model"):
            shape_of(wrong, KNOWN)


# --- the command ------------------------------------------------------------------------------------------------

CALL = ("plan", "--tasks", "chains", "--samples", "4", "--model", "8B", "--gpu", "h100")


def test_the_command_says_the_same_twice_over(cipo: Commands) -> None:
    shown = cipo(*CALL, "--price", "2.5", "--protocol", "self")
    assert shown.code == 0, shown.err
    table = cipo(*CALL, "--price", "2.5", "--protocol", "self", "--json").json
    assert table["total"]["attempts"] == {"value": 8000.0, "low": 8000.0, "high": 8000.0}
    assert "attempts        8,000\n" in shown.out
    for word in ("tokens in", "prefix reuse", "tokens out", "GPU hours", "disk", "cost", "lengths"):
        assert word in shown.out
    dollars = table["total"]["gpu_seconds"]["high"] / 3600 * 2.5
    assert table["cost"]["high"] == pytest.approx(dollars)
    assert any("no lengths of this task are known" in note for note in table["notes"])
    told = cipo(*CALL, "--mean-tokens", "chains=1500", "--json").json  # under the limit, which is 2048
    assert told["total"]["tokens_out"]["value"] == pytest.approx(4000 * 1500)
    assert not told["notes"]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        (["--gpu", "H1000"], "unknown --gpu H1000: did you mean H100"),
        (["--model", "big"], "--model big: a size such as 4B"),
        (["--tasks", "chians"], "did you mean chains"),
        (["--gpus", "1", "--model", "70B"], "need 4 of H100"),
        (["--model", "900B", "--gpu", "L4"], "more than 64 of these GPUs"),
        (["--mean-tokens", "many"], "--mean-tokens many: 3000, or"),
        (["--mean-tokens", "nan"], "--mean-tokens nan: from 1"),
        (["--mean-tokens", "math500=9"], "--mean-tokens math500"),
        (["--preset", "checkpoint"], "--preset checkpoint: name"),
        (["--write", "x.yaml"], "belongs together with --calibrate"),
        (["--constants", "absent.yaml"], "absent.yaml cannot be read"),
        (["--constants", "torn.yaml"], "torn.yaml cannot be read: line"),
        (["--constants", "keys.yaml"], "tasks.chains.lengts: there is no such key; did you mean lengths"),
        (["--constants", "order.yaml"], "gpus.H100.time: 1 is not from 2 to 3"),
        (["--constants", "old.yaml"], "version: "),
        (["--constants", "endless.yaml"], "gpus.H100.memory: "),
        (["--calibrate", "absent"], "absent is not a run directory"),
        (["--calibrate", "empty"], "empty has no judged completions"),
        (["--calibrate", "uncounted"], "does not say how many tokens"),
    ],
)
def test_what_is_refused(cipo: Commands, tmp_path: Path, more: list[str], why: str) -> None:
    files = {
        "torn.yaml": "gpus: {H100: [",
        "keys.yaml": "tasks: {chains: {lengts: {}}}",
        "order.yaml": "gpus: {H100: {time: {value: 1, low: 2, high: 3}}}",
        "old.yaml": "version: 0",
        "endless.yaml": "gpus: {H100: {memory: .inf}}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    make_run(tmp_path / "empty", {})
    run = make_run(tmp_path / "uncounted", {"p": ["w"]})
    lines = run / "attempts" / "arithmetic.jsonl"
    lines.write_text(lines.read_text().replace('"completion_tokens": 1', '"completion_tokens": null'))
    refused = cipo(*CALL, *more)
    assert refused.code == 2
    assert why in refused.err
    assert "Traceback" not in refused.err


def test_the_pages_example_of_a_gpu_is_one(cipo: Commands, tmp_path: Path) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "plan.md").read_text()
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "own.yaml").write_text(block)
    shown = cipo(*CALL, "--gpu", "MI300X", "--constants", "own.yaml")
    assert shown.code == 0, shown.err
    assert "1 x MI300X" in shown.out
    assert all(f"`{name}`" in page for name in [*KNOWN.gpus, *SOURCES])


def test_no_gpu_no_task_no_price(cipo: Commands) -> None:
    assert "--gpu is missing: H100" in cipo("plan", "--tasks", "chains", "--model", "8B").err
    assert "--tasks names no task" in cipo("plan", "--model", "8B", "--gpu", "H100").err
    assert "cost" not in cipo(*CALL).out


# --- calibration ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_run_predicts_one_that_it_has_not_seen(cipo: Commands, tmp_path: Path) -> None:
    """Other samples, and other problems besides, of a real model: attempts exactly, tokens and disk as stated."""
    from tiny import make_checkpoint

    make_checkpoint(tmp_path / "ck", chat=True, context=4096)
    call = [
        "--model",
        "ck",
        "--tasks",
        "arithmetic",
        "--protocol",
        "self",
        "--max-tokens",
        "40",
        "--top-p",
        "1.0",
    ]
    assert cipo("run", *call, "--samples", "2", "--limit", "20", "-o", "seen", "--quiet").code == 0
    wanted = ["--samples", "3", "--limit", "32", "--seed", "9"]
    assert cipo("run", *call, *wanted, "-o", "unseen", "--quiet").code == 0
    done = cipo(
        "plan",
        "--calibrate",
        "seen",
        "--write",
        "fitted.yaml",
        "--gpu",
        "H100",
        "--model",
        "ck",
        "--engine",
        "hf",
    )
    assert done.code == 0
    assert "its speed is not fitted (a run of at least 2,048 attempts" in done.err
    fitted = yaml.safe_load((tmp_path / "fitted.yaml").read_text())
    assert fitted["tasks"]["arithmetic"]["characters_per_token"]["value"] == pytest.approx(
        1.0
    )  # its tokens are bytes
    machine = ["--gpu", "H100", "--engine", "hf", "--constants", "fitted.yaml", "--json"]
    total = cipo("plan", *call, *wanted, *machine).json["total"]
    rows = [json.loads(line) for line in (tmp_path / "unseen" / "attempts" / "arithmetic.jsonl").open()]
    real = {
        "attempts": len(rows),
        "tokens_in": sum(row["prompt_tokens"] for row in rows),
        "tokens_out": sum(row["completion_tokens"] for row in rows),
        "bytes": sum(path.stat().st_size for path in (tmp_path / "unseen").rglob("*") if path.is_file()),
    }
    assert total["attempts"] == {"value": real["attempts"], "low": real["attempts"], "high": real["attempts"]}
    for figure, value in real.items():
        assert total[figure]["low"] <= value <= total[figure]["high"], figure
        assert total[figure]["high"] < 1.7 * total[figure]["low"], figure  # and it says something
    shutil.rmtree(tmp_path / "seen" / "problems")
    assert cipo("plan", "--calibrate", "seen", "--calibrate", "unseen").code == 0


def test_a_measured_speed_is_used(cipo: Commands, tmp_path: Path) -> None:
    """A made run whose attempts took 1.5 times as long as the model of time says."""
    call = [
        "--tasks",
        "arithmetic",
        "--samples",
        "20",
        "--model",
        "8B",
        "--gpu",
        "H100",
        "--engine",
        "hf",
        "--json",
    ]
    run = _made(tmp_path, seconds=1.0)
    fit = [
        "plan",
        "--calibrate",
        "made",
        "--write",
        "fitted.yaml",
        "--gpu",
        "H100",
        "--engine",
        "hf",
        "--model",
        "8B",
    ]
    assert cipo(*fit).code == 0
    first = yaml.safe_load((tmp_path / "fitted.yaml").read_text())["gpus"]["H100"]["time"]
    assert first["low"] < first["value"] < first["high"]
    shutil.rmtree(run)
    _made(tmp_path, seconds=1.5)
    assert cipo(*fit).code == 0
    second = yaml.safe_load((tmp_path / "fitted.yaml").read_text())["gpus"]["H100"]["time"]
    assert second["value"] == pytest.approx(1.5 * first["value"])
    row = cipo("plan", *call[:-1], "--max-tokens", "64", "--constants", "fitted.yaml", "--json").json
    made = 200 * 20 * 1.5
    assert row["tasks"]["arithmetic"]["gpu_seconds"]["value"] == pytest.approx(made, rel=0.02)
    assert (
        row["tasks"]["arithmetic"]["gpu_seconds"]["low"]
        < made
        < row["tasks"]["arithmetic"]["gpu_seconds"]["high"]
    )


def _made(folder: Path, *, seconds: float) -> Path:
    """A run of the 200 sums, 20 samples each, that says it took so many seconds for each."""
    from cipo_eval.data.tasks import load_problems
    from cipo_eval.estimate.calibration import line_of
    from cipo_eval.records import Attempt, FinishReason, State, Verdict

    problems = load_problems("arithmetic")
    sampling = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_tokens": 64, "stop": []}
    extent = {"samples": 20, "limit": None, "scope": None}
    task = {
        **extent,
        "data": problems.fingerprint,
        "prompts": "p",
        "verifier": "math",
        "think": "strip",
        "harness": None,
        "sampling": sampling,
        "protocols": {},
        "direct": True,
        "system_prompt": None,
        "source": {},
        "definition": "arithmetic",
    }
    run = folder / "made"
    (run / "attempts").mkdir(parents=True)
    info = {
        "schema": 1,
        "modes": ["fixed"],
        "engine": {"engine": "hf"},
        "seed": 0,
        "tasks": {"arithmetic": task},
    }
    (run / "run.json").write_text(json.dumps(info))
    verdict = Verdict(correct=False, state=State.INCORRECT, seconds=0.001)
    with (run / "attempts" / "arithmetic.jsonl").open("wb") as file:
        for problem in problems.problems:
            for sample in range(20):
                attempt = Attempt(
                    task="arithmetic",
                    problem=problem.id,
                    sample=sample,
                    prompt_hash="x",
                    seed=1,
                    text="12",
                    finish_reason=FinishReason.STOP,
                    prompt_tokens=6 + len(problem.prompt),
                    completion_tokens=20 + sample % 3,
                    seconds=seconds,
                    verdicts={"fixed": verdict},
                )
                file.write(line_of(attempt))
    return run
