"""What is tried on the cluster of ``test_on_ray.py``: a head without cores, and workers with one each.

One cluster for all tests, which come in an order: each leaves two workers behind.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from asking import SAMPLED, request
from commands import results, turns
from made import bandit

from cipo_eval.cluster.connection import Connection
from cipo_eval.engines import registry
from cipo_eval.engines.ray import RayEngine
from cipo_eval.interrupts import Interrupts
from cipo_eval.records import Completion, Mode, Problem, State
from cipo_eval.run.api import evaluate
from cipo_eval.verifiers.pool import VerifierPool
from cipo_eval.verifiers.ray_pool import RayVerifierPool
from cipo_trainer.evaluation import Evaluator
from cipo_trainer.loop import Trainer
from cipo_trainer.study.grid import Job
from cipo_trainer.study.jobs import Ledger
from cipo_trainer.study.on_ray import Place, RayRunner

ROOT = Path(__file__).resolve().parents[2]
NODE = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_log_monitor": False}
QUICK = {  # a node that is gone is known to be after two seconds
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 3,
}
MATH = Problem(task="t", id="p", index=0, question="", prompt="", gold="7")


class Nodes:
    """The cluster's workers."""

    def __init__(self) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        head = {
            **NODE,
            "num_cpus": 0,
            "include_dashboard": False,
            "no_monitor": True,
            "_system_config": QUICK,
        }
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address: str = self.cluster.address
        self.workers: list[Any] = []
        self.restore()

    def restore(self) -> None:
        """Two workers."""
        while len(self.workers) < 2:
            self.workers.append(self.cluster.add_node(wait=False, **NODE))
        self.cluster.wait_for_nodes()

    def lose(self, count: int = 1) -> None:
        """Workers go without a word."""
        for _ in range(count):
            self.cluster.remove_node(self.workers.pop(), allow_graceful=False)


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    found = Nodes()
    with Connection(found.address):
        yield found
    found.cluster.shutdown()


def engine(nodes: Nodes, model: str | Path, say: Callable[[str], None] = print, **options: Any) -> RayEngine:
    values = {"replicas": 2, "address": nodes.address, **options}
    choice = registry.EngineChoice(engine="ray", model=str(model), options=registry.options("ray", values))
    made = choice.make((), say=say)
    assert isinstance(made, RayEngine)
    return made


STEADY = {"inner": "steady:Steady", "seconds": 0.02}
REQUESTS = [request(f"question {i}", tuple(range(100 * i, 100 * i + 5)), SAMPLED) for i in range(24)]


def expected() -> dict[tuple[str, int], str]:
    single = registry.engine_class("steady:Steady").make("x", registry.options("steady:Steady", {}), Any)
    return {(r.problem.id, s): c.text for r, s, c in single.generate(REQUESTS) if isinstance(c, Completion)}


def test_results_are_those_of_one_process(nodes: Nodes, tiny_checkpoint: Path, tmp_path: Path) -> None:
    """Two turns, judged on the nodes: each attempt, verdict and figure; and either goes on with the other's run."""
    values: dict[str, Any] = {
        "model": tiny_checkpoint,
        "tasks": "arithmetic",
        "limit": 6,
        "samples": 3,
        "max_tokens": 16,
        "temperature": 1,
        "protocol": "direct,self",
    }
    inner = {"dtype": "float32", "batch_tokens": 5000}
    one = evaluate(**values, output=tmp_path / "one", engine="hf", options=inner)
    ray = {"address": nodes.address, "replicas": 2, "verify_on_workers": True, **inner}
    two = evaluate(**values, output=tmp_path / "two", engine="ray", options=ray)
    assert turns(tmp_path / "one", "arithmetic") == turns(tmp_path / "two", "arithmetic")
    assert results(tmp_path / "one") == results(tmp_path / "two")
    assert len(turns(tmp_path / "two", "arithmetic")) == 36
    assert (one.failures, two.failures, two.warnings) == ([], [], one.warnings)
    evaluate(**{**values, "limit": 7}, output=tmp_path / "two", engine="hf", options=inner)
    assert len(turns(tmp_path / "two", "arithmetic")) == 42


@pytest.mark.exhaustive
def test_a_training_evaluates_on_the_cluster(nodes: Nodes, tmp_path: Path) -> None:
    """The weights after a step, on a replica that gets a checkpoint of them: the figures of the training's own engine,
    and of its attempts each."""
    asked = {"tasks": ["arithmetic"], "limit": 3, "samples": 2, "max_tokens": 3, "protocol": ["self"]}
    config = bandit(tmp_path, "sft", steps=1, eval=asked)
    trainer = Trainer(config)
    with Interrupts() as interrupts:
        trainer.run(interrupts)
    ray = {
        "engine": "ray",
        "inner": "hf",
        "address": nodes.address,
        "dtype": "float32",
        "verify_on_workers": True,
    }
    evaluation = config.eval.model_copy(update={"engine": ray})
    elsewhere = Evaluator(config.model_copy(update={"eval": evaluation}))
    with VerifierPool(1) as pool, Interrupts() as interrupts:
        figures = elsewhere.run(trainer.policy, pool, tmp_path / "there", 1, interrupts)
    here = config.output / "eval/step-000001"
    assert turns(tmp_path / "there", "arithmetic") == turns(here, "arithmetic")
    assert results(tmp_path / "there") == results(here)
    logged = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    (last,) = [row for row in logged if row["kind"] == "eval" and row["step"] == 1]
    assert figures
    assert {name: last[name] for name in figures} == figures


def test_a_node_is_lost_and_another_comes(nodes: Nodes) -> None:
    said: list[str] = []
    made = engine(nodes, "x", said.append, **STEADY)
    got: dict[tuple[str, int], str] = {}
    for asked, sample, completion in made.generate(REQUESTS):
        key = (asked.problem.id, sample)
        assert key not in got  # nothing twice
        assert isinstance(completion, Completion)
        got[key] = completion.text
        if len(got) == 20:
            nodes.lose()
        if len(got) == 60:
            nodes.restore()
    assert got == expected()
    assert any("replica(s) lost" in note for note in made.notes())
    assert any("is lost" in line for line in said)
    made.close()


@pytest.mark.exhaustive
def test_a_replica_that_hangs_is_given_up(nodes: Nodes) -> None:
    said: list[str] = []
    made = engine(nodes, "x", said.append, replica_silence=3, **STEADY)
    got: dict[tuple[str, int], str] = {}
    for asked, sample, completion in made.generate(REQUESTS):
        assert isinstance(completion, Completion)
        got[asked.problem.id, sample] = completion.text
        if len(got) == 20:
            os.kill(made.processes()[0], signal.SIGSTOP)
    assert got == expected()
    assert any("it said nothing for 3 s" in line for line in said)
    made.close()


@pytest.mark.exhaustive
def test_an_engine_that_comes_to_no_end_is_given_up(nodes: Nodes, tmp_path: Path) -> None:
    """Its replica answers all the while."""
    made = engine(nodes, "x", replica_stall=3, hang=str(tmp_path / "hangs"), **STEADY)
    assert {(r.problem.id, s): c.text for r, s, c in made.generate(REQUESTS)} == expected()
    assert any("it got no further for 3 s" in note for note in made.notes())
    made.close()


def test_verifiers_that_die_and_hang(nodes: Nodes) -> None:
    """A grading that ends its process, one that hangs, and an actor that dies with all it had."""
    say: list[str] = []
    with RayVerifierPool(nodes.address, 1, time_limit=1.0, wall_limit=2.0, say=say.append) as pool:
        faulty = "verifiers.faulty:FaultyVerifier"
        words = {
            "die": State.VERIFIER_ERROR,
            "hang": State.VERIFIER_TIMEOUT,
            "hang in C": State.VERIFIER_TIMEOUT,
        }
        bad = {word: pool.submit(faulty, MATH, word, "stop", (Mode.FIXED,)) for word in words}
        good = [pool.submit("math", MATH, f"\\boxed{{{n}}}", "stop", (Mode.FIXED,)) for n in range(40)]
        assert {word: future.result(60)[Mode.FIXED].state for word, future in bad.items()} == words
        assert [future.result(60)[Mode.FIXED].correct for future in good] == [n == 7 for n in range(40)]
        slow = [pool.submit(faulty, MATH, f"spin0.{n:02}", "stop", (Mode.FIXED,)) for n in range(10, 30)]
        os.kill(pool.processes()[0], signal.SIGKILL)
        assert all(future.result(60)[Mode.FIXED].state is not State.VERIFIER_ERROR for future in slow)
        assert any("verifier(s) lost" in note for note in pool.notes)


def test_a_killed_driver_and_no_node_at_all(nodes: Nodes, tmp_path: Path) -> None:
    """One run in three starts: the first is killed, the second loses all nodes, waits and fails; the third ends it."""
    arguments = ["run", "--model", "x", "--tasks", "arithmetic", "--limit", "60", "--samples", "4", "--quiet"]
    ray = ["--engine", "ray", "--inner", "steady:Steady", "--replicas", "2", "--address", nodes.address]
    ray += ["--wait-for-nodes", "3"]

    def start(seconds: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "cipo_eval", *arguments, *ray, "-o", str(tmp_path / "run")]
        command += ["--engine-option", f"seconds={seconds}"]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def written(least: int) -> None:
        path, end = tmp_path / "run/attempts/arithmetic.jsonl", time.monotonic() + 60
        while not path.is_file() or path.read_text().count("\n") < least:
            assert time.monotonic() < end
            time.sleep(0.05)

    first = start(0.2)
    written(8)
    first.kill()
    first.communicate()
    kept = len(turns(tmp_path / "run", "arithmetic"))
    second = start(0.2)
    written(kept + 8)
    nodes.lose(2)
    _, said = second.communicate(timeout=60)
    assert second.returncode == 3, said
    assert "no node has room for a replica (1 CPU)" in said
    assert "what is judged is kept" in said
    kept = len(turns(tmp_path / "run", "arithmetic"))
    assert 16 <= kept < 240
    nodes.restore()
    third = start(0)
    _, said = third.communicate(timeout=60)
    assert third.returncode == 0, said
    asked: dict[str, Any] = {"model": "x", "tasks": "arithmetic", "limit": 60, "samples": 4}
    evaluate(**asked, engine="steady:Steady", output=tmp_path / "one")
    assert turns(tmp_path / "run", "arithmetic") == turns(tmp_path / "one", "arithmetic")
    assert any("lost" in line for line in json.loads((tmp_path / "run/run.json").read_text())["adaptations"])


def host_of(argument: str) -> int:
    """The process whose child was called with this argument."""
    for place in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if argument.encode() in (place / "cmdline").read_bytes().split(b"\0"):
                return int((place / "stat").read_text().rpartition(")")[2].split()[1])
    raise AssertionError(f"nobody works at {argument}")


@pytest.mark.exhaustive
def test_jobs_of_a_study(nodes: Nodes, tmp_path: Path) -> None:
    """In the order of their needs; one whose node is lost goes on elsewhere, and one that fails stops no others."""
    run = ("run", "--model", "x", "--tasks", "arithmetic", "--engine", "steady:Steady", "--quiet")
    run += ("--engine-option", "seconds=0.1", "--limit", "15", "--samples", "4")
    asked = [
        Job(name=name, kind="evaluate", arguments=arguments, needs=needs, units=60)
        for name, arguments, needs in (
            ("a", (*run, "-o", "{study}/a"), ()),
            ("b", (*run, "-o", "{study}/b", "--limit", "2"), ("a",)),
            ("bad", ("run", "--nonsense"), ()),
            ("after", ("tasks",), ("bad",)),
        )
    ]
    lost = False

    def watch(under_way: Sequence[str], share: float, left: float) -> None:
        del under_way, share, left
        nonlocal lost
        if not lost and runner.share(asked[0]) > 0.1:
            lost = True
            os.kill(host_of(f"{tmp_path}/a"), signal.SIGKILL)

    runner = RayRunner(tmp_path, asked, None, Place(address=nodes.address), say=print)
    assert runner.workers == 2
    with Interrupts() as interrupts:
        runner.run(interrupts, watch)
    assert (runner.done, runner.failed) == ({"a": 0, "b": 0}, {"bad": 2})
    assert len(turns(tmp_path / "a", "arithmetic")) == 60
    calls = json.loads((tmp_path / "a/run.json").read_text())["calls"]
    assert lost
    assert len(calls) == 2
    assert "nonsense" in runner.log("bad").read_text()
    assert Ledger(tmp_path).done(asked) == {"a": 0, "b": 0}


STUDY = """
families: {chains: {dial: {modulus: 5, steps: 2}, items: 6}}
shape: {layers: 1, hidden: 16, inner: 16, heads: 1}
warm: {steps: 2, optimizer: {batch: 4}, reward: {workers: 1}}
arms: {warm start: }
evaluate: {samples: 1, max_tokens: 4, protocols: [direct]}
"""


@pytest.mark.exhaustive
def test_a_study_from_the_command_line(nodes: Nodes, tmp_path: Path) -> None:
    """One of its jobs, on a node."""
    (tmp_path / "small.yaml").write_text(STUDY)
    command = [sys.executable, "-m", "cipo_eval", "study", str(tmp_path / "small.yaml")]
    command += ["-o", str(tmp_path / "out"), "--submit", "ray", "--address", nodes.address]
    first = "chains/seed-0/warm/train"
    ended = subprocess.run([*command, "--job", first], stderr=subprocess.PIPE, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    assert "1 jobs, 0 of them done" in ended.stderr
    assert [(row["job"], row["code"]) for row in Ledger(tmp_path / "out").rows()] == [(first, 0)]
    assert (tmp_path / "out" / first / "checkpoints/step-000002/model.safetensors").is_file()


# --- the recipe that begins a cluster ------------------------------------------------------------------------


@pytest.mark.exhaustive
def test_the_recipe_for_skypilot(nodes: Nodes, tmp_path: Path) -> None:
    """Its command line, with the variables of a cluster's nodes: the first one has a run, the others none."""
    recipe = yaml.safe_load((ROOT / "examples/skypilot/ray.yaml").read_text())
    for name in ("venv/bin/activate", "sky_templates/ray/start_cluster"):  # what a node has
        (path := tmp_path / name).parent.mkdir(parents=True)
        path.write_text("#!/bin/sh\n")
        path.chmod(0o755)
    asked = yaml.safe_load((ROOT / "examples/skypilot/run.yaml").read_text())
    tiny: dict[str, Any] = {
        "model": "x",
        "tasks": ["arithmetic"],
        "limit": 3,
        "samples": 2,
        "protocol": ["direct"],
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({**asked, **tiny}))
    platform = {"SKYPILOT_NUM_NODES": "2", "SKYPILOT_NUM_GPUS_PER_NODE": "1", "HOME": str(tmp_path)}
    given = {"CONFIG": str(tmp_path / "run.yaml"), "RUNS": str(tmp_path / "runs"), "INNER": "steady:Steady"}
    given["RAY_HEAD_PORT"] = nodes.address.rpartition(":")[2]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for rank in ("1", "0"):
        assert not (tmp_path / "runs").exists()
        environment = {
            **os.environ,
            **recipe["envs"],
            **platform,
            **given,
            "SKYPILOT_NODE_RANK": rank,
            "PATH": path,
        }
        subprocess.run(["bash", "-c", recipe["run"]], env=environment, cwd=tmp_path, check=True, timeout=120)
    evaluate(**tiny, engine="steady:Steady", output=tmp_path / "one")
    assert turns(tmp_path / "runs/math-on-ray", "arithmetic") == turns(tmp_path / "one", "arithmetic")
